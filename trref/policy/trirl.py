r"""TRIRL: rewards learnt by dual ascent, corrected to the step that the policy's trust region allows.

Maximum-entropy inverse reinforcement learning finds a policy whose *occupancy* (discounted, with sum 1) is near an
expert's,

.. math::
    :label: trirl-dual

    \max_\pi\; E_{\rho_\pi}[H(\pi)] - \beta\, D_{KL}(\rho_\pi \| \rho_E) = \min_r \mathcal G(r), \qquad
    \mathcal G(r) = (1-\gamma)\, \mu^\top V_r + \beta \log \sum_{s,a} \rho_E\, e^{-r/\beta}

with the soft values :math:`V_r` of the reward and the start :math:`\mu`. On the left, what a visit adds depends on the
policy itself, and yet its derivative by the logits is an ordinary policy gradient, for the frozen reward
:math:`c = \beta \log(\rho_E/\rho_\pi) - \log\pi`,

.. math::
    :label: trirl-primal

    \frac{\partial}{\partial \log\pi(a|s)} = \rho_\pi(s, a)\, \big( Q_c(s, a) - V_c(s) \big) .

The dual is convex, its gradient

.. math::
    :label: trirl-gradient

    \nabla \mathcal G = \rho_{\pi_r} - q_r, \qquad q_r \propto \rho_E\, e^{-r/\beta}

needs the optimal policy :math:`\pi_r`. With the log-ratio :math:`D = \log(\rho_E / \rho_\pi)`, which tabularly is exact
and else the logit of a discriminator with the loss

.. math::
    :label: trirl-discriminator

    \frac1N \sum_n \big[ \log(1 + e^{D_n}) - y_n D_n \big], \qquad
    \frac{\partial}{\partial D_n} = \frac1N \big( \sigma(D_n) - y_n \big), \qquad y_n = 1 \text{ for the expert},

the reward takes a step in function space, which descends the dual,

.. math::
    :label: trirl-update

    \mathcal U_\epsilon r = (1-\epsilon)\, r + \epsilon \beta D, \qquad
    \langle \nabla \mathcal G, \mathcal U_\epsilon r - r \rangle = -\epsilon\beta \big[ D_{KL}(\rho_\pi \| q_r)
    + D_{KL}(q_r \| \rho_\pi) \big].

The policy only takes a step inside a trust region for the proposed reward :math:`\tilde r = \mathcal U_\epsilon r`,

.. math::
    :label: trirl-region

    \max_\pi E_{\rho_\pi}[\tilde r + H(\pi)] \ \text{ s.t. } \ E_{\rho_\pi} D_{KL}(\pi \| \pi_i) \le \delta,

which is the soft optimum of the reward :math:`(\tilde r + \eta \log \pi_i)/(1 + \eta)` for the multiplier
:math:`\eta \ge 0` of the constraint. If :math:`\pi_i` is optimal for :math:`r_i`, that policy is optimal for a
*smaller* step of the reward:

.. math::
    :label: trirl-correction

    r_{i+1} = \mathcal U_{\epsilon'} r_i, \qquad \epsilon' = \frac{\epsilon}{1 + \eta},

because :math:`\log \pi_i` is :math:`r_i` up to a potential. So reward and policy always fit, and the dual falls, step
by step, from r = 0 and the uniform policy. The same multiplier in every state is needed for this. Gaussian policies are
projected state by state, mean and deviation apart,

.. math::
    :label: trirl-gaussian

    \bar\mu = \frac{\mu + \eta_\mu \mu_{old}}{1 + \eta_\mu}, \quad
    \eta_\mu = \max\Big( \sqrt{m / \varepsilon_\mu} - 1,\, 0 \Big), \quad
    m = \tfrac12 \Big\| \frac{\mu - \mu_{old}}{\sigma_{old}} \Big\|^2, \qquad
    \frac{1 + \eta_\Sigma}{\bar\sigma^2} = \frac1{\sigma^2} + \frac{\eta_\Sigma}{\sigma_{old}^2}

where :math:`\eta_\Sigma` is 0, or else makes
:math:`D_{KL}\big( N(\bar\sigma) \| N(\sigma_{old}) \big) = \varepsilon_\Sigma`.

==================================================  ==============================
:math:`\rho_E`                                      `expert`
:math:`D`                                           `log_ratio`
:math:`\epsilon`                                    `share`
:math:`\eta`                                        `multiplier`
:math:`\varepsilon_\mu,\ \varepsilon_\Sigma`        `mean_radius`, `std_radius`
==================================================  ==============================

The expert must visit every pair. The entropy's coefficient is 1.

**Where implementations differ.** The authors' code projects Gaussian policies state by state, and corrects each state's
reward by its own multiplier, the larger one of its two balls, or, as an option, all of them by the largest of the
batch. The theorem covers one multiplier for all states, and with one for each the policy is not the reward's. The code
stores rewards over the entropy's coefficient, adds a penalty on the discriminator's gradient, and runs through a buffer
of old discriminators anew for each batch.

**Provenance.** Objective, update, correction and the Gaussian projection were confirmed in the authors' project page
and code. The dual, both gradients, and that the step descends the dual, were derived here and checked; the text of the
paper was not seen.

Diwan et al., *Trust Region Inverse Reinforcement Learning: Explicit Dual Ascent using Local Policy Updates*, 2026,
arXiv:2605.11020.
"""

import itertools
from typing import NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.nn.heads import log_softmax
from trref.policy.terms import bisected
from trref.problems.mdp import occupancy, soft_values
from trref.problems.protocols import DecisionProcess
from trref.signature import (
    A,
    D,
    Fraction,
    LogProb,
    Mask,
    N,
    NonNegative,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    S,
    Scalar,
    checked,
)

HALVINGS = 50  # of the interval of 1 / (1 + multiplier), for Gaussians
SECANTS = 14  # on the same interval, for a table


class SoftStep(NamedTuple):
    """Log-probabilities of the policy, the multiplier of its trust region, and its mean divergence."""

    log_prob: LogProb[S, A]
    multiplier: Scalar
    divergence: Scalar


class Trirl(NamedTuple):
    """The reward and its policy; the dual of all rewards, and the multipliers of the steps between them."""

    reward: Real[S, A]
    log_prob: LogProb[S, A]
    duals: list[float]
    multipliers: list[float]
    iterations: int
    converged: bool


class Projected(NamedTuple):
    """Mean and log standard deviation inside their balls, and the multipliers of both."""

    mean: Real[N, D]
    log_std: Real[N, D]
    mean_multiplier: NonNegative[N]
    std_multiplier: NonNegative[N]


def _tilted(reward, expert, beta):
    """Logarithms of q, and of its total."""
    log_q = xp.log(expert) - reward / beta
    top = log_q.max()
    total = top + xp.log(xp.exp(log_q - top).sum())
    return log_q - total, total


@checked
def dual(
    reward: Real[S, A],
    expert: Positive[S, A],
    mdp: DecisionProcess,
    *,
    beta: PositiveFloat = 2.0,
) -> tuple[Scalar, Real[S, A]]:
    """Dual of maximum-entropy inverse reinforcement learning, to be minimised.

    Parameters
    ----------
    reward
        Of each state and action.
    expert
        The expert's occupancy: its sum is 1.
    mdp
        Its own reward is not used.
    beta
        Weight of the divergence from the expert.
    """
    soft = soft_values(mdp, reward)
    log_q, total = _tilted(reward, expert, beta)
    # eq. trirl-dual
    G = (1 - mdp.gamma) * (mdp.start * soft.value).sum() + beta * total
    # eq. trirl-gradient
    return G, occupancy(mdp, xp.exp(soft.log_action_prob)) - xp.exp(log_q)


@checked
def irl_objective(
    log_prob: LogProb[S, A],
    expert: Positive[S, A],
    mdp: DecisionProcess,
    *,
    beta: PositiveFloat = 2.0,
) -> tuple[Scalar, Real[S, A]]:
    """Minus the entropy of a policy, plus its divergence from the expert.

    Parameters
    ----------
    log_prob
        Of each action in each state; normalised here.
    expert
        The expert's occupancy: its sum is 1.
    mdp
        Its own reward is not used.
    beta
        Weight of the divergence from the expert.
    """
    log_p = log_softmax(log_prob)
    p = xp.exp(log_p)
    rho = occupancy(mdp, p)
    ratio = xp.where(rho > 0, expert, 1) / xp.where(rho > 0, rho, 1)
    c = beta * xp.log(ratio) - log_p
    # eq. trirl-primal
    P = (p[:, :, None] * mdp.transition).sum(1)
    eye = xp.eye(len(P), dtype=P.dtype)
    V = linalg.solve(eye - mdp.gamma * P, (p * c).sum(1))
    Q = c + mdp.gamma * (mdp.transition * V).sum(2)
    J, dJ = (rho * c).sum(), rho * (Q - V[:, None])  # eq. trirl-dual
    return -J, -dJ


@checked
def discriminator_loss(log_ratio: Real[N], expert: Mask[N]) -> tuple[Scalar, Real[N]]:
    """Loss of the log-ratio of expert to policy, from samples of both.

    Parameters
    ----------
    log_ratio
        Logits.
    expert
        1 on samples of the expert.
    """
    N, size = len(log_ratio), abs(log_ratio)
    # eq. trirl-discriminator
    L = xp.maximum(log_ratio, 0) + xp.log1p(xp.exp(-size)) - expert * log_ratio
    return L.sum() / N, ((1 + xp.tanh(log_ratio / 2)) / 2 - expert) / N


@checked
def function_space_update(
    reward: Real[S, A],
    log_ratio: Real[S, A],
    *,
    share: Fraction = 0.5,
    beta: PositiveFloat = 2.0,
) -> Real[S, A]:
    """The reward after a step in function space.

    Parameters
    ----------
    log_ratio
        Of the expert's occupancy to the policy's.
    share
        How far the step goes.
    """
    return (1 - share) * reward + share * beta * log_ratio  # eq. trirl-update


@checked
def reward_correction(
    reward: Real[S, A],
    log_ratio: Real[S, A],
    multiplier: NonNegative[()],
    *,
    share: Fraction = 0.5,
    beta: PositiveFloat = 2.0,
) -> Real[S, A]:
    """The reward for which the trust region's policy is optimal.

    Parameters
    ----------
    multiplier
        Of the trust region.
    """
    smaller = share / (1 + multiplier)  # eq. trirl-correction
    return (1 - smaller) * reward + smaller * beta * log_ratio


@checked
def trust_region_soft_update(
    reward: Real[S, A],
    old_log_prob: LogProb[S, A],
    mdp: DecisionProcess,
    *,
    delta: PositiveFloat = 0.01,
) -> SoftStep:
    """Soft policy improvement within a mean divergence from the old policy.

    Parameters
    ----------
    old_log_prob
        Of each action in each state; normalised here.
    delta
        Bound of the mean KL(new‖old) over the new policy's occupancy.
    """
    old = log_softmax(old_log_prob)

    def improved(t):
        """The soft optimum with 1 / (1 + multiplier) = t, and its divergence."""
        log_p = soft_values(mdp, t * reward + (1 - t) * old).log_action_prob
        kl = (occupancy(mdp, xp.exp(log_p)) * (log_p - old)).sum()
        return log_p, kl

    # eq. trirl-region
    # the root of the divergence is nearly linear: secants between both ends of the bracket, an end that stays put twice
    # at half of its height, so that both ends move
    low, high = xp.zeros_like(reward[0, 0]), xp.ones_like(reward[0, 0])
    below, above = -xp.ones_like(low), _excess(improved(high)[1], delta)
    free, was_inside, first = above <= 0, low > 0, True
    for _ in range(SECANTS):
        t = low - below * (high - low) / xp.where(above > below, above - below, 1)
        excess = _excess(improved(t)[1], delta)
        inside = excess <= 0
        low, high = xp.where(inside, t, low), xp.where(inside, high, t)
        again = (inside == was_inside) & (not first)
        above = xp.where(inside, xp.where(again, above / 2, above), excess)
        below = xp.where(inside, excess, xp.where(again, below / 2, below))
        was_inside, first = inside, False
    t = xp.where(free, 1.0, low).astype(reward.dtype)
    log_p, kl = improved(t)
    return SoftStep(log_p, 1 / t - 1, kl)


def _excess(kl, delta):
    """Root of the divergence over its bound, less 1."""
    return xp.sqrt(xp.maximum(kl, 0) / delta) - 1


@checked
def trirl(
    expert: Positive[S, A],
    mdp: DecisionProcess,
    *,
    beta: PositiveFloat = 2.0,
    share: Fraction = 0.5,
    delta: PositiveFloat = 0.01,
    steps: PositiveInt = 20,
) -> Trirl:
    """Learn a reward and its policy from the expert's occupancy, with everything exact.

    Returns
    -------
    Trirl
        `converged` says that the dual never rose.
    """
    reward = xp.zeros_like(expert)
    log_p = log_softmax(reward)
    duals, multipliers = [float(dual.unchecked(reward, expert, mdp, beta=beta)[0])], []
    for _ in range(steps):
        log_ratio = xp.log(expert) - xp.log(occupancy(mdp, xp.exp(log_p)))
        proposed = function_space_update.unchecked(
            reward, log_ratio, share=share, beta=beta
        )
        log_p, multiplier, _ = trust_region_soft_update.unchecked(
            proposed, log_p, mdp, delta=delta
        )
        reward = reward_correction.unchecked(
            reward, log_ratio, multiplier, share=share, beta=beta
        )
        duals.append(float(dual.unchecked(reward, expert, mdp, beta=beta)[0]))
        multipliers.append(float(multiplier))
    slack = 1e3 * float(xp.finfo(expert.dtype).eps) * max(1.0, abs(duals[0]))
    falls = all(b <= a + slack for a, b in itertools.pairwise(duals))
    return Trirl(reward, log_p, duals, multipliers, steps, falls)


@checked(also=validate.moderate_spread)
def gaussian_projection(
    mean: Real[N, D],
    log_std: Real[N, D],
    old_mean: Real[N, D],
    old_log_std: Real[N, D],
    *,
    mean_radius: PositiveFloat = 0.05,
    std_radius: PositiveFloat = 0.005,
) -> Projected:
    """Bring diagonal Gaussians into balls around the old ones, state by state.

    Parameters
    ----------
    mean, log_std
        Of the current policy.
    old_mean, old_log_std
        Of the policy that sampled.
    mean_radius, std_radius
        Of the divergences of mean and of standard deviation.
    """
    m = (((mean - old_mean) * xp.exp(-old_log_std)) ** 2).sum(1) / 2
    # eq. trirl-gaussian
    eta = xp.maximum(xp.sqrt(m / mean_radius) - 1, 0)
    near = (mean + eta[:, None] * old_mean) / (1 + eta[:, None])
    precision = xp.exp(2 * (old_log_std - log_std))  # relative to the old one

    def log_variance(t):
        return -xp.log(t[:, None] * precision + (1 - t[:, None]))

    def divergence(t):
        x = log_variance(t)
        return (xp.expm1(x) - x).sum(1) / 2

    low, high = xp.zeros_like(m), xp.ones_like(m)
    free = divergence(high) <= std_radius
    low, _ = bisected(lambda t: divergence(t) <= std_radius, low, high, HALVINGS)
    t = xp.where(free, 1.0, low).astype(m.dtype)
    return Projected(near, old_log_std + log_variance(t) / 2, eta, 1 / t - 1)
