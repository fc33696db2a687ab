r"""GRPO-Guard: ratios of flow steps that are centred at 1 and equally spread, so that a clip can hold them.

Flow-GRPO (:mod:`trref.diffusion.flow_grpo`) clips the ratio of averaged log-probabilities of a step
:math:`x' = \mu_{old} + s z`. With :math:`g = \mu - \mu_{old}`, the move of the step's mean,

.. math::

    \log r = \ell - \ell^{old} = \frac1D \Big( \frac{g^\top z}{s} - \frac{\|g\|^2}{2 s^2} \Big),

so over the noise that sampled it,

.. math::
    :label: grpo-guard-moments

    E[\log r] = -\frac{\|g\|^2}{2 D s^2}, \qquad \mathrm{std}[\log r] = \frac{\|g\|}{D s}, \qquad
    E[r] = \exp\Big( -\frac{\|g\|^2}{2 D s^2} \Big( 1 - \frac1D \Big) \Big).

As soon as the policy has moved, ratios lie below 1, by an amount and with a spread that depend on the step's noise: the
upper clip, which is to stop samples with a positive advantage, is hardly ever reached. GRPO-Guard adds the quadratic
term back and multiplies by :math:`s`,

.. math::
    :label: grpo-guard-ratio-norm

    \log \hat r = s\, \Big[ \ell - \ell^{old} + \frac{\|g\|^2}{2 D s^2} \Big] = \frac1D\, g^\top z
    \;\sim\; N\Big( 0, \frac{\|g\|^2}{D^2} \Big),

and divides the loss of each step by its length,

.. math::
    :label: grpo-guard-objective

    L = \frac1N \sum_n \frac{1}{\delta_n} \max\big\{ -A_n \hat r_n,\;
    -A_n\, \mathrm{clip}(\hat r_n, 1-\epsilon, 1+\epsilon) \big\} + \frac\beta N \sum_n K_n .

Since :math:`\partial g/\partial v = -\gamma I`, with :math:`\gamma/\delta = 1 + a^2/2` at all times but the first, no
step is louder than another:

.. math::
    :label: grpo-guard-gradient

    \frac{\partial L}{\partial v_n} = \frac1N \Big[ \mathbb 1_n A_n \hat r_n\, \frac{\gamma_n}{\delta_n D}\, z_n
    + \beta\, \frac{\gamma_n^2}{s_n^2}\, (v_n - v_{ref,n}) \Big]

where :math:`\mathbb 1_n` is 0 where the clipped term is the larger one. The quadratic term is differentiated, too; at
the old policy its derivative is 0, and both ratios are 1.

=====================  ==============================================================
:math:`a`              `noise_level`
:math:`\epsilon`       `clip`, to be chosen like a quantile of :math:`|\log\hat r|`
:math:`\beta`          `kl_weight`
=====================  ==============================================================

That :math:`E[r] < 1` is no property of likelihood ratios, whose mean is 1: it comes from averaging log-probabilities
over dimensions, and for :math:`D = 1` it vanishes.

**Where implementations differ.** Public trainers take the mean over the minibatch of :math:`\varsigma` and of
:math:`\sqrt\delta`, each, which is the same where all its steps are at one time. The loss weight of the paper belongs
to a family of schedules; for a constant :math:`\varsigma` (DanceGRPO) it is multiplied by
:math:`1 + \varsigma^2 (1-u)/(2u)`, and TeleBoost offers both. Most keep the penalty of Flow-GRPO's code, the divergence
times :math:`\delta/D`. The recommended :math:`\epsilon = 2 \cdot 10^{-6}` belongs to images of tens of thousands of
dimensions: with few dimensions it clips everything.

**Provenance.** The normalised ratio (the paper's equation 8) and the weight (its equation 12) were confirmed in three
re-implementations that cite them; the moments, the closed form and the gradient are derived and checked.

Wang et al., *GRPO-Guard: Mitigating Implicit Over-Optimization in Flow Matching via Regulated Clipping*, 2025,
arXiv:2510.22319.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.diffusion.flow_grpo import (
    flow_sde_gain,
    flow_sde_mean,
    flow_sde_std,
    step_kl,
)
from trref.diffusion.terms import towards_the_data
from trref.policy.ppo import clipped_surrogate
from trref.signature import (
    D,
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


class RatioMoments(NamedTuple):
    """Of each step's ratio over the noise: mean and deviation of its logarithm, and its own mean."""

    log_mean: Real[N]
    log_std: NonNegative[N]
    mean: Positive[N]


def _move(velocity, old_velocity, u, next_u, noise_level):
    """How far the mean of each step has moved."""
    gain = flow_sde_gain.unchecked(u, next_u, noise_level=noise_level)
    return -gain[:, None] * (velocity - old_velocity)


def _noise(x, next_x, old_velocity, u, next_u, noise_level):
    """The noise with which each step was sampled."""
    s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
    mean = flow_sde_mean.unchecked(x, old_velocity, u, next_u, noise_level=noise_level)
    return (next_x - mean) / s[:, None]


@checked(also=towards_the_data)
def ratio_moments(
    velocity: Real[N, D],
    old_velocity: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    noise_level: PositiveFloat = 0.7,
) -> RatioMoments:
    """Return what Flow-GRPO's ratio does on average, where the policy has moved.

    Parameters
    ----------
    velocity
        Of noise time, noise - data: what the model says at each step's start.
    old_velocity
        What the model said that sampled.
    u, next_u
        Noise time before and after each step: 0 data, 1 noise.
    noise_level
        How much noise the path has.
    """
    D = velocity.shape[1]
    s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
    g = _move(velocity, old_velocity, u, next_u, noise_level)
    far = xp.sqrt((g * g).sum(1)) / s
    # eq. grpo-guard-moments
    low = -far * far / (2 * D)
    return RatioMoments(low, far / D, xp.exp(low * (1 - 1 / D)))


@checked(also=towards_the_data)
def log_ratio_norm(
    x: Real[N, D],
    next_x: Real[N, D],
    velocity: Real[N, D],
    old_velocity: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    noise_level: PositiveFloat = 0.7,
) -> Real[N]:
    """Return the logarithm of each step's normalised ratio.

    Parameters
    ----------
    x, next_x
        Where each step began and ended.
    """
    z = _noise(x, next_x, old_velocity, u, next_u, noise_level)
    g = _move(velocity, old_velocity, u, next_u, noise_level)
    return (g * z).mean(1)  # eq. grpo-guard-ratio-norm


def _near(x, next_x, velocity, old_velocity, u, next_u, noise_level=0.7, **_):
    """A step that is too short; a normalised ratio whose logarithm is beyond ±30."""
    bound = validate.LOG_RATIO_BOUND

    def near():
        ratio = log_ratio_norm.unchecked(
            x, next_x, velocity, old_velocity, u, next_u, noise_level=noise_level
        )
        return (abs(ratio) <= bound).all()

    message = f"velocity and old_velocity must give log-ratios within {bound:g}"
    return [*towards_the_data(u, next_u), (near, message)]


@checked(also=_near)
def grpo_guard(
    x: Real[N, D],
    next_x: Real[N, D],
    velocity: Real[N, D],
    old_velocity: Real[N, D],
    advantage: Real[N],
    u: Prob[N],
    next_u: Prob[N],
    ref_velocity: Real[N, D] | None = None,
    *,
    noise_level: PositiveFloat = 0.7,
    clip: PositiveFloat = 2e-6,
    kl_weight: NonNegativeFloat = 0.0,
) -> tuple[Scalar, Real[N, D]]:
    """GRPO-Guard loss of N steps.

    Parameters
    ----------
    advantage
        Of the sample that each step belongs to.
    ref_velocity
        What a reference model says; without it there is no penalty.

    Returns
    -------
    loss
    gradient
        With respect to `velocity`. At a kink, the derivative of the unclipped term.
    """
    N, D = x.shape
    delta = u - next_u
    gain = flow_sde_gain.unchecked(u, next_u, noise_level=noise_level)
    z = _noise(x, next_x, old_velocity, u, next_u, noise_level)
    log_ratio = (_move(velocity, old_velocity, u, next_u, noise_level) * z).mean(1)
    # eq. grpo-guard-objective
    L, d_log_ratio = clipped_surrogate.unchecked(
        log_ratio, xp.zeros_like(log_ratio), advantage / delta, clip=clip
    )
    # eq. grpo-guard-gradient
    dL = -(d_log_ratio * gain / D)[:, None] * z
    if ref_velocity is not None:
        s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
        K = step_kl.unchecked(
            velocity, ref_velocity, u, next_u, noise_level=noise_level
        )
        L = L + kl_weight * K.sum() / N
        pull = (gain / s)[:, None] ** 2 * (velocity - ref_velocity)
        dL = dL + kl_weight / N * pull
    return L, dL
