r"""Flow-GRPO: steps of a flow with noise in them are Gaussian policies, and PPO's surrogate trains them.

A flow's velocity :math:`v`, trained on :math:`x_u = (1-u)\,x_0 + u\,\varepsilon` to be :math:`\varepsilon - x_0`, leads
from noise (:math:`u = 1`) to data (:math:`u = 0`) without chance, so there is nothing to explore and no probability of
what was done. A stochastic equation with the same marginals has both. Its Euler step from :math:`u` to
:math:`u' = u - \delta` draws :math:`x' \sim N(\mu, s^2 I)` with

.. math::
    :label: flow-grpo-std

    s = \varsigma \sqrt\delta, \qquad \varsigma = a \sqrt{\frac{u}{1-\tilde u}}, \qquad
    \tilde u = \begin{cases} u' & u = 1 \\ u & u < 1, \end{cases}

.. math::
    :label: flow-grpo-mean

    \mu = x - \delta \Big[ v + \frac{\varsigma^2}{2u} \big( x + (1-u)\, v \big) \Big],

because :math:`-(x + (1-u)v)/u` is the score. The mean answers the velocity by a number,
:math:`\partial\mu/\partial v = -\gamma I`,

.. math::
    :label: flow-grpo-gain

    \gamma = \delta\, \Big( 1 + \frac{\varsigma^2 (1-u)}{2u} \Big) = \delta\, \Big( 1 + \frac{a^2}{2} \Big)
    \quad (u < 1).

A step is

.. math::
    :label: flow-grpo-step

    x' = \mu + s\,z, \qquad z \sim N(0, I),

and what stands for its log-probability is the mean over the D dimensions,

.. math::
    :label: flow-grpo-log-prob

    \ell = \frac1D \sum_d \Big[ -\frac{(x'_d - \mu_d)^2}{2 s^2} - \log s - \frac12 \log 2\pi \Big].

With the rewards of the finished samples, compared within the samples of one prompt,

.. math::
    :label: flow-grpo-advantage

    A_i = \mathrm{clip}\Big( \frac{R_i - \bar R}{\mathrm{std}(R) + 10^{-4}},\; -c,\; c \Big),

and with N steps of any samples at any times, the loss is PPO's and a divergence from a reference,

.. math::
    :label: flow-grpo-objective

    L = \frac1N \sum_n \max\big\{ -A_n r_n,\; -A_n\, \mathrm{clip}(r_n, 1-\epsilon, 1+\epsilon) \big\}
    + \frac\beta N \sum_n K_n, \qquad r_n = e^{\ell_n - \ell^{old}_n}

.. math::
    :label: flow-grpo-kl

    K = \frac{\|\mu - \mu_{ref}\|^2}{2 s^2} = \frac{\gamma^2}{2 s^2}\, \|v - v_{ref}\|^2

that of one step's two Gaussians. The gradient is

.. math::
    :label: flow-grpo-gradient

    \frac{\partial L}{\partial v_n} = \frac1N \Big[ \mathbb 1_n A_n r_n\, \frac{\gamma_n}{D}\,
    \frac{x'_n - \mu_n}{s_n^2} + \beta\, \frac{\gamma_n^2}{s_n^2}\, (v_n - v_{ref,n}) \Big]

with :math:`\mathbb 1_n = 0` where the clipped term is the larger one and 1 elsewhere. On-policy the first part has the
size :math:`\gamma/(D s)`, proportional to :math:`\sqrt\delta/\varsigma`: late steps are loudest.

=================================  =============
:math:`a`                          `noise_level`
:math:`c`                          `largest`
:math:`\epsilon`                   `clip`
:math:`\beta`                      `kl_weight`
:math:`u, u'`                      `u, next_u`
=================================  =============

Where all rewards of a prompt are equal the advantages are 0. The first step's noise does not shrink with the step:
:math:`s = a`, and a short one leaves noise with the variance :math:`1 + a^4/4`, which later steps mend.

**Where implementations differ.** The paper's log-probability is that of a density, a sum over dimensions; the authors'
code takes the mean, and everything here follows the code: with tens of thousands of dimensions the sum would leave any
interval at once, and :math:`\epsilon = 10^{-4}` belongs to the mean. (So :math:`r` is the D-th root of the ratio of
densities, and its mean is below 1: :mod:`trref.diffusion.grpo_guard`.) The released divergence is a mean over
dimensions, too, and divided by :math:`2\varsigma^2` in the place of :math:`2s^2`: the step's times
:math:`\delta/D`. Most released configurations divide by the deviation of all rewards of the batch.

**Provenance.** The step, the log-probability, the advantage and the clip were confirmed in the authors' code, the
divergence from memory of the paper; the gradient is derived and checked.

Liu et al., *Flow-GRPO: Training Flow Matching Models via Online RL*, 2025, arXiv:2505.05470.
"""

import math

from trref.backend import xp
from trref.diffusion.terms import near_policies, towards_the_data
from trref.policy.ppo import clipped_surrogate
from trref.signature import (
    B,
    D,
    Index,
    N,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    checked,
)
from trref.tokens.grpo import group_advantage

GUARD = 1e-4  # what is added to the deviation of rewards


@checked(also=towards_the_data)
def flow_sde_std(
    u: Prob[N], next_u: Prob[N], *, noise_level: PositiveFloat = 0.7
) -> Positive[N]:
    """Standard deviation of each step's noise.

    Parameters
    ----------
    u, next_u
        Noise time before and after each step: 0 data, 1 noise. At u = 1 the time after it stands in the denominator.
    noise_level
        How much noise the path has; 0 would be the flow itself.
    """
    # eq. flow-grpo-std
    clean = 1 - xp.where(u == 1, next_u, u)
    return noise_level * xp.sqrt(u / clean * (u - next_u))


@checked(also=towards_the_data)
def flow_sde_gain(
    u: Prob[N], next_u: Prob[N], *, noise_level: PositiveFloat = 0.7
) -> Positive[N]:
    """How far the mean of each step moves against a change of the velocity."""
    s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
    return u - next_u + s * s * (1 - u) / (2 * u)  # eq. flow-grpo-gain


@checked(also=towards_the_data)
def flow_sde_mean(
    x: Real[N, D],
    velocity: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    noise_level: PositiveFloat = 0.7,
) -> Real[N, D]:
    """Mean of each step.

    Parameters
    ----------
    x
        Where each step begins.
    velocity
        Of noise time, noise - data: what the model says at `x` and `u`.
    """
    s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
    gain = flow_sde_gain.unchecked(u, next_u, noise_level=noise_level)
    # eq. flow-grpo-mean
    return (1 - s * s / (2 * u))[:, None] * x - gain[:, None] * velocity


@checked(also=towards_the_data)
def flow_sde_step(
    x: Real[N, D],
    velocity: Real[N, D],
    z: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    noise_level: PositiveFloat = 0.7,
) -> Real[N, D]:
    """Take one step each, with given noise.

    Parameters
    ----------
    z
        Fresh standard normal noise.
    """
    s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
    mean = flow_sde_mean.unchecked(x, velocity, u, next_u, noise_level=noise_level)
    return mean + s[:, None] * z  # eq. flow-grpo-step


@checked(also=towards_the_data)
def step_log_prob(
    x: Real[N, D],
    next_x: Real[N, D],
    velocity: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    noise_level: PositiveFloat = 0.7,
) -> Real[N]:
    """Log-probability of each step, a mean over dimensions.

    Parameters
    ----------
    next_x
        Where each step ended.
    """
    s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
    mean = flow_sde_mean.unchecked(x, velocity, u, next_u, noise_level=noise_level)
    z = (next_x - mean) / s[:, None]
    # eq. flow-grpo-log-prob
    return -(z * z).mean(1) / 2 - xp.log(s) - math.log(2 * math.pi) / 2


@checked
def flow_advantage(
    reward: Real[B], group: Index[B], *, largest: PositiveFloat = 5.0
) -> Real[B]:
    """Advantage of each sample among those of its prompt.

    Parameters
    ----------
    group
        The prompt of each sample: any numbers.
    largest
        Advantages are cut off at plus and minus this.
    """
    # eq. flow-grpo-advantage
    A = group_advantage.unchecked(reward, group, std="population", eps=GUARD)
    return xp.clip(A, -largest, largest)


@checked(also=towards_the_data)
def step_kl(
    velocity: Real[N, D],
    ref_velocity: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    noise_level: PositiveFloat = 0.7,
) -> NonNegative[N]:
    """Divergence of each step from that of a reference, the same in both directions.

    Parameters
    ----------
    ref_velocity
        What the reference model says at the same points.
    """
    s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
    gain = flow_sde_gain.unchecked(u, next_u, noise_level=noise_level)
    # eq. flow-grpo-kl
    return ((gain / s)[:, None] ** 2 * (velocity - ref_velocity) ** 2).sum(1) / 2


def near_the_old_policy(
    x, next_x, velocity, old_log_prob, u, next_u, noise_level=0.7, **_
):
    """A step that is too short; log-probabilities of a step more than 30 apart."""

    def log_prob():
        return step_log_prob.unchecked(
            x, next_x, velocity, u, next_u, noise_level=noise_level
        )

    return [*towards_the_data(u, next_u), near_policies(log_prob, old_log_prob)]


@checked(also=near_the_old_policy)
def flow_grpo(
    x: Real[N, D],
    next_x: Real[N, D],
    velocity: Real[N, D],
    old_log_prob: Real[N],
    advantage: Real[N],
    u: Prob[N],
    next_u: Prob[N],
    ref_velocity: Real[N, D] | None = None,
    *,
    noise_level: PositiveFloat = 0.7,
    clip: PositiveFloat = 1e-4,
    kl_weight: NonNegativeFloat = 0.04,
) -> tuple[Scalar, Real[N, D]]:
    """Flow-GRPO loss of N steps; without a reference there is no penalty.

    Parameters
    ----------
    old_log_prob
        `step_log_prob` under the velocity that sampled.
    advantage
        Of the sample that each step belongs to.

    Returns
    -------
    loss
    gradient
        With respect to `velocity`. At a kink, the derivative of the unclipped term.
    """
    N, D = x.shape
    s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
    gain = flow_sde_gain.unchecked(u, next_u, noise_level=noise_level)
    mean = flow_sde_mean.unchecked(x, velocity, u, next_u, noise_level=noise_level)
    log_prob = step_log_prob.unchecked(
        x, next_x, velocity, u, next_u, noise_level=noise_level
    )
    # eq. flow-grpo-objective
    L, d_log_prob = clipped_surrogate.unchecked(
        log_prob, old_log_prob, advantage, clip=clip
    )
    # eq. flow-grpo-gradient
    dL = -(d_log_prob * gain / (D * s * s))[:, None] * (next_x - mean)
    if ref_velocity is not None:
        K = step_kl.unchecked(
            velocity, ref_velocity, u, next_u, noise_level=noise_level
        )
        L = L + kl_weight * K.sum() / N
        pull = (gain / s)[:, None] ** 2 * (velocity - ref_velocity)
        dL = dL + kl_weight / N * pull
    return L, dL
