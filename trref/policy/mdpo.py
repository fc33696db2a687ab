r"""MDPO: policy optimisation as mirror descent, with several steps on each subproblem.

Each iteration maximises the linearised return less the divergence of the new policy from the old one. In a table the
solution is exact, multiplicative weights,

.. math::
    :label: mdpo-exact

    \pi_{k+1}(\cdot|s) = \arg\max_\pi\, \langle \pi, A_k(s, \cdot) \rangle - \frac1{t_k} D_{KL}(\pi \| \pi_k)
    \;\propto\; \pi_k(\cdot|s)\, e^{t_k A_k(s, \cdot)},

a step :math:`t_k A_k` in the logits: the natural gradient's. No return falls, whatever :math:`t_k`, and with a constant
step the distance from the best return falls at least as 1/k. With a network, a few steps of gradient ascent go up

.. math::
    :label: mdpo-objective

    \Psi = \frac1N \sum_n \Big[ r_n \hat A_n - \frac1{t_k} D_{KL}\big( \pi_\theta(\cdot|s_n) \,\|\, \pi_k(\cdot|s_n)
    \big) \Big],

the *new* policy first, with the derivative in softmax logits

.. math::
    :label: mdpo-gradient

    \frac1N \Big[ r_n \hat A_n\, (e_{a_n} - \pi) - \frac1{t_k}\, \pi \odot \Big( \log\frac{\pi}{\pi_k} - D_{KL} \Big)
    \Big]

and in the mean and log standard deviation of a Gaussian

.. math::
    :label: mdpo-gaussian

    \frac1N \Big[ r_n \hat A_n \frac{a_n - \mu}{\sigma^2} - \frac1{t_k} \frac{\mu - \mu_k}{\sigma_k^2} \Big], \qquad
    \frac1N \Big[ r_n \hat A_n \Big( \frac{(a_n - \mu)^2}{\sigma^2} - 1 \Big) - \frac1{t_k} \Big(
    \frac{\sigma^2}{\sigma_k^2} - 1 \Big) \Big] .

The first step from :math:`\pi_k` does not feel the divergence: one step an iteration is the policy gradient. The step
length falls along a line,

.. math::
    :label: mdpo-schedule

    t_k = 1 - k / K .

Off policy, with a critic Q, actions :math:`a = \mu + \sigma \odot z` of the states in a memory, the weight :math:`c`
of the divergence and :math:`\lambda` of the entropy, the loss is

.. math::
    :label: mdpo-off-policy

    L = \frac1N \sum_n \big[ c \log\pi_\theta(a_n|s_n) + (\lambda - c) \log\pi_k(a_n|s_n) - Q(s_n, a_n) \big]

with the derivatives, :math:`g = (\lambda - c)\, \nabla_a \log\pi_k(a) - \nabla_a Q(a)`,

.. math::
    :label: mdpo-off-policy-gradient

    \frac{\partial L}{\partial \mu} = \frac1N\, g, \qquad
    \frac{\partial L}{\partial \log\sigma} = \frac1N\, (g \odot \sigma \odot z - c) .

The critics are trained as SAC's: a network for the states' values on the smaller of two critics less the entropy's
share,

.. math::
    :label: mdpo-value-target

    \min_i Q_i(s, a) - \lambda \log\pi_\theta(a|s), \qquad a \sim \pi_\theta(\cdot|s),

and both critics on :math:`r + \gamma (1 - d)\, V(s')` with that network's slow copy, d = 1 where the episode has ended.
In a table the minimum of the actor's loss is

.. math::
    :label: mdpo-off-policy-exact

    \pi \propto \pi_k^{(c - \lambda)/c}\, e^{Q/c}:

SAC's policy if :math:`c = \lambda`, where :math:`\pi_k` drops out, and the mirror step of length :math:`1/c` if
:math:`\lambda = 0`.

==================  =============
:math:`t_k`         `lr`
:math:`c`           `kl_weight`
:math:`\lambda`     `temperature`
:math:`k, K`        `step`, `steps`
==================  =============

The schedule ends at 0, where the objective is not defined: its last step is the one before.

**Where implementations differ.** The authors' schedule is 1 - (k - 1)/K, a little above 1 at first. Their off-policy
actor adds 10⁻³ times the mean squares of mean and log standard deviation, and takes the first of its two critics. PPO's
penalty has the old policy first.

**Provenance.** Confirmed by the authors' code: the objective, its direction, the off-policy loss and the critics'
targets; the schedule from
memory of the paper. The exact steps are standard, and with the gradients were derived and checked here.

Tomar, Shani, Efroni and Ghavamzadeh, *Mirror Descent Policy Optimization*, 2020, arXiv:2005.09814.
"""

from collections.abc import Callable

from trref import validate
from trref.backend import xp
from trref.nn import heads
from trref.signature import (
    A,
    D,
    Index,
    K,
    LogProb,
    M,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Real,
    S,
    Scalar,
    checked,
)


def _possible(logits, old_logits, actions, **_):
    """Unknown actions, and log-probabilities of any action more than 30 apart."""
    bound = validate.LOG_RATIO_BOUND
    near = f"logits and old_logits must give actions log-probabilities within {bound:g} of each other"

    def apart():
        return heads.log_softmax(logits) - heads.log_softmax(old_logits)

    return [
        validate.labels(actions, logits.shape[1], "actions"),
        (lambda: (abs(apart()) <= bound).all(), near),
    ]


def _gaussian_log_ratio(mean, log_std, old_mean, old_log_std, actions):
    log_prob, slope = heads.gaussian_log_prob(mean, log_std, actions)
    return log_prob - heads.gaussian_log_prob(old_mean, old_log_std, actions)[0], slope


def _gaussians_near(mean, log_std, old_mean, old_log_std, actions, **_):
    """Log-probabilities of the actions more than 30 apart."""
    bound = validate.LOG_RATIO_BOUND
    return [
        (
            lambda: (
                abs(
                    _gaussian_log_ratio(mean, log_std, old_mean, old_log_std, actions)[
                        0
                    ]
                )
                <= bound
            ).all(),
            f"mean and log_std must give the actions log-probabilities within {bound:g} of the old ones",
        )
    ]


@checked
def mirror_step(
    old_logits: Real[S, A], advantage: Real[S, A], *, lr: PositiveFloat = 1.0
) -> LogProb[S, A]:
    """Log-probabilities after the exact step.

    Parameters
    ----------
    advantage
        Of every action; a constant of the state changes nothing.
    """
    return heads.log_softmax(old_logits + lr * advantage)  # eq. mdpo-exact


@checked(also=_possible)
def mdpo_objective(
    logits: Real[N, K],
    old_logits: Real[N, K],
    actions: Index[N],
    advantage: Real[N],
    *,
    lr: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[N, K]]:
    """Surrogate loss with the exact divergence of categorical policies, the new one first."""
    N = len(logits)
    log_prob, d_log_prob = heads.categorical_log_prob(logits, actions)
    ratio = xp.exp(log_prob - heads.categorical_log_prob(old_logits, actions)[0])
    kl, d_kl, _ = heads.categorical_kl(logits, old_logits)
    J = (ratio * advantage - kl / lr).sum() / N  # eq. mdpo-objective
    # eq. mdpo-gradient
    dJ = ((ratio * advantage)[:, None] * d_log_prob - d_kl / lr) / N
    return -J, -dJ


@checked(also=_gaussians_near)
def gaussian_objective(
    mean: Real[N, D],
    log_std: Real[N, D],
    old_mean: Real[N, D],
    old_log_std: Real[N, D],
    actions: Real[N, D],
    advantage: Real[N],
    *,
    lr: PositiveFloat = 1.0,
) -> tuple[Scalar, heads.GaussianGradient]:
    """Surrogate loss with the exact divergence of diagonal Gaussians, the new one first.

    Parameters
    ----------
    mean, log_std
        Of the current policy.
    old_mean, old_log_std
        Of the policy that sampled.
    """
    N = len(mean)
    log_ratio, slope = _gaussian_log_ratio(
        mean, log_std, old_mean, old_log_std, actions
    )
    ratio = xp.exp(log_ratio)
    kl, d_kl, _ = heads.gaussian_kl(mean, log_std, old_mean, old_log_std)
    J = (ratio * advantage - kl / lr).sum() / N
    # eq. mdpo-gaussian
    weight = (ratio * advantage)[:, None]
    d_mean = (weight * slope.mean - d_kl.mean / lr) / N
    d_log_std = (weight * slope.log_std - d_kl.log_std / lr) / N
    return -J, heads.GaussianGradient(-d_mean, -d_log_std)


@checked
def schedule(step: NonNegative[N], *, steps: PositiveInt = 1000) -> Real[N]:
    """Step length of each iteration.

    Parameters
    ----------
    step
        Iterations so far, at most `steps`.
    """
    return 1 - step / steps  # eq. mdpo-schedule


@checked(also=validate.moderate_spread)
def off_policy_loss(
    mean: Real[N, D],
    log_std: Real[N, D],
    old_mean: Real[N, D],
    old_log_std: Real[N, D],
    noise: Real[N, D],
    critic: Callable,
    *,
    kl_weight: PositiveFloat = 1.0,
    temperature: NonNegativeFloat = 0.2,
) -> tuple[Scalar, heads.GaussianGradient]:
    """Loss of a Gaussian actor whose actions are differentiated through.

    Parameters
    ----------
    noise
        Standard normal: what makes the actions.
    critic
        ``critic(actions (N, D)) -> (values (N), gradients (N, D))``, as those of `trref.problems.rewards`.
    temperature
        Weight of the entropy.
    """
    N, std = len(mean), xp.exp(log_std)
    actions = mean + std * noise
    value, d_value = validate.rows(critic, actions, "critic")
    log_prob, _ = heads.gaussian_log_prob(mean, log_std, actions)
    old_log_prob, slope = heads.gaussian_log_prob(old_mean, old_log_std, actions)
    rest = temperature - kl_weight
    # eq. mdpo-off-policy
    L = (kl_weight * log_prob + rest * old_log_prob - value).sum() / N
    # eq. mdpo-off-policy-gradient
    g = (
        -rest * slope.mean - d_value
    )  # in the action the slope is that in the mean, reversed
    return L, heads.GaussianGradient(g / N, (g * std * noise - kl_weight) / N)


@checked
def value_target(
    q_value: Real[M, N], log_prob: LogProb[N], *, temperature: NonNegativeFloat = 0.2
) -> Real[N]:
    """Target of the states' values.

    Parameters
    ----------
    q_value
        Of each critic (row) at an action of the current policy.
    log_prob
        Of these actions.
    """
    return q_value.min(0) - temperature * log_prob  # eq. mdpo-value-target


@checked
def off_policy_solution(
    old_logits: Real[S, A],
    q_value: Real[S, A],
    *,
    kl_weight: PositiveFloat = 1.0,
    temperature: NonNegativeFloat = 0.2,
) -> LogProb[S, A]:
    """Log-probabilities of the policy that minimises the off-policy loss in each state."""
    # eq. mdpo-off-policy-exact
    held = 1 - temperature / kl_weight
    return heads.log_softmax(held * old_logits + q_value / kl_weight)
