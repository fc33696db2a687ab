r"""SAGE-GRPO: noise whose variance is integrated over the step, steps of equal weight, and two trust regions.

Flow-GRPO (:mod:`trref.diffusion.flow_grpo`) takes the noise of a step from :math:`u` to :math:`u' = u - \Delta` at the
step's beginning, where there is most of it. SAGE integrates, up to a cap :math:`c` that keeps the first step finite:

.. math::
    :label: sage-grpo-variance

    \Sigma = \eta^2 \int_{u'}^{u} \frac{\zeta}{1-\zeta}\, \mathrm d\zeta
    = \eta^2 \Big[ -\Delta + \log \frac{1-u'}{1-\min(u, c)} \Big], \qquad
    \Sigma^{left} = \eta^2 \frac{u}{1-\tilde u}\, \Delta, \qquad \Sigma^{const} = \eta^2 \Delta .

The other two are those of Flow-GRPO, with :math:`\tilde u` as there, and of DanceGRPO. Since :math:`\zeta/(1-\zeta)`
rises, :math:`\Sigma^{left}/\Sigma \ge 1` after the first step: 1.48 from 0.95 to 0.9. With the score that a velocity
stands for,

.. math::
    :label: sage-grpo-score

    s = -\frac{x - (1-u)\, \hat x_0}{u^2} = -\frac{x + (1-u)\, v}{u}, \qquad \hat x_0 = x - u v,

a step is

.. math::
    :label: sage-grpo-step

    x' = \mu + \sqrt\Sigma\, z, \qquad \mu = x - \Delta v + \frac\Sigma2\, s .

A step that keeps the noise level by its coefficients (CPS) is there for comparison, :math:`\hat\varepsilon = x +
(1-u)v`:

.. math::
    :label: sage-grpo-cps

    x' = (1-u')\, \hat x_0 + \sqrt{u'^2 - \varsigma^2}\; \hat\varepsilon + \varsigma z, \qquad
    \varsigma = u' \sin(\eta\pi/2) .

The log-probability is a mean over dimensions,

.. math::
    :label: sage-grpo-log-prob

    \ell = \frac1D \sum_d \Big[ -\frac{(x'_d - \mu_d)^2}{2\Sigma} - \frac12 \log 2\pi\Sigma \Big],

and its derivative by the velocity has the size of the noise times

.. math::
    :label: sage-grpo-size

    N_k = \frac{1}{\sqrt{\Sigma_k}} \Big| \frac{\partial\mu}{\partial v} \Big|, \qquad
    \frac{\partial\mu}{\partial v} = -\gamma = -\Delta - \frac\Sigma2\, \frac{1-u}{u},

which grows towards the data. A weight for each step of the schedule evens that out:

.. math::
    :label: sage-grpo-equalizer

    w_k = \frac{\mathrm{median}_j N_j}{N_k} .

Two divergences hold the policy, one to a reference that is refreshed every few updates, one to the policy that sampled:

.. math::
    :label: sage-grpo-dual-kl

    K = a_m K_m + a_s K_s, \qquad K_m = \frac1N \sum_n \frac{\|\mu_n - \mu_{ref,n}\|^2}{2D\,(\Sigma_n + 10^{-6})},
    \qquad K_s = \frac1N \sum_n \big( \ell^{old}_n - \ell_n \big)

.. math::
    :label: sage-grpo-dual-kl-gradient

    \frac{\partial K}{\partial v_n} = \frac{\gamma_n}{N D} \Big[ a_m \frac{\gamma_n (v_n - v_{ref,n})}{\Sigma_n
    + 10^{-6}} + a_s \frac{x'_n - \mu_n}{\Sigma_n} \Big] .

:math:`K_s` estimates KL(old‖new) from one sample a step, and may be negative. The whole loss is

.. math::
    :label: sage-grpo-objective

    L = \frac1N \sum_n w_n \max\big\{ -A_n r_n,\; -A_n\, \mathrm{clip}(r_n, 1-\epsilon, 1+\epsilon) \big\} + \beta K,
    \qquad r_n = e^{\ell_n - \ell^{old}_n} .

:math:`\beta` is small and moves between two bounds: up where the divergence is above a target, down elsewhere,

.. math::
    :label: sage-grpo-controller

    \beta_{k+1} = \mathrm{clip}\big( \beta_k f^{\pm 1},\; \beta_{min},\; \beta_{max} \big) .

=========================================  ==============================
:math:`c`                                  `cap`
:math:`a_m, a_s`                           `moving_weight, step_weight`
:math:`\epsilon`                           `clip`
:math:`\beta, \beta_{min}, \beta_{max}`    `kl_weight, smallest, largest`
:math:`f`                                  `factor`
=========================================  ==============================

The first step is an exception to "less noise": with the cap at 0.997 a step from 1 to 0.875 has :math:`\Sigma = 3.6\,
\eta^2`, and Flow-GRPO's substitute :math:`1.0\, \eta^2`. The variance is exact, the drift still of first order: from
:math:`N(0, 1)` the first step leads to a variance of about :math:`1 + \Sigma^2/4`. The last step, to :math:`u' = 0`,
leaves its noise in the sample, so samples are judged by the flow without noise.

**Where implementations differ.** The rule of the variance is what differs between trainers: ``variance="left_end"`` is
Flow-GRPO's, ``"constant"`` DanceGRPO's. The authors' code sets :math:`N_k = 1` where it is not a positive number; here
such steps are refused.

**Provenance.** Variance, steps, log-probability, weights, divergences and their constants were confirmed in the
authors' scheduler and training utilities. How :math:`\beta` moves was not read: the rule above, its factor and its
target are reconstructed from its bounds.

Zheng et al., *Manifold-Aware Exploration for Reinforcement Learning in Video Generation*, 2026, arXiv:2603.21872.
"""

import math
from typing import Annotated, Literal

from trref.backend import xp
from trref.diffusion.flow_grpo import flow_sde_std
from trref.diffusion.terms import bounds_in_order, near_policies, towards_the_data
from trref.policy.ppo import clipped_surrogate
from trref.signature import (
    D,
    Fraction,
    K,
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

Variance = Literal["integral", "left_end", "constant"]
Cap = Annotated[float, "[0.9, 1)"]
FLOOR = 1e-6  # what is added to the variance in the divergence from the reference


def _steps(u, next_u, variance="integral", cap=0.997, **_):
    """A step that is too short, or that ends so near to noise that the cap leaves it no variance."""
    highest = 2 * cap - 1
    message = f"next_u must be at most {highest:g} with this cap"
    capped = (lambda: (next_u <= highest).all(), message)
    return [*towards_the_data(u, next_u), *[capped] * (variance == "integral")]


@checked(also=_steps)
def step_variance(
    u: Prob[N],
    next_u: Prob[N],
    *,
    eta: PositiveFloat = 0.5,
    variance: Variance = "integral",
    cap: Cap = 0.997,
) -> Positive[N]:
    """Variance of each step's noise.

    Parameters
    ----------
    u, next_u
        Noise time before and after each step: 0 data, 1 noise.
    eta
        How much noise the path has.
    variance
        Integrated over the step; of its beginning times its length; or the same at all times.
    cap
        Where the integral ends at the latest.
    """
    delta = u - next_u
    # eq. sage-grpo-variance
    if variance == "left_end":
        return flow_sde_std.unchecked(u, next_u, noise_level=eta) ** 2
    if variance == "constant":
        return eta**2 * delta
    end = xp.minimum(u, cap)
    return eta**2 * (xp.log1p((end - next_u) / (1 - end)) - delta)


def _begun(u, **_):
    """A time at which there is no noise."""
    return [(lambda: u.min() >= 1e-4, "u must be at least 0.0001")]


@checked(also=_begun)
def score_from_velocity(x: Real[N, D], velocity: Real[N, D], u: Prob[N]) -> Real[N, D]:
    """Turn the velocity at noise times u into the score.

    Parameters
    ----------
    x
        Noisy data.
    velocity
        Of noise time, noise - data: what the model says at `x` and `u`.
    """
    return -(x + (1 - u)[:, None] * velocity) / u[:, None]  # eq. sage-grpo-score


@checked(also=_steps)
def sage_mean(
    x: Real[N, D],
    velocity: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    eta: PositiveFloat = 0.5,
    variance: Variance = "integral",
    cap: Cap = 0.997,
) -> Real[N, D]:
    """Mean of each step."""
    S = step_variance.unchecked(u, next_u, eta=eta, variance=variance, cap=cap)
    score = score_from_velocity.unchecked(x, velocity, u)
    return x - (u - next_u)[:, None] * velocity + S[:, None] / 2 * score


@checked(also=_steps)
def sage_step(
    x: Real[N, D],
    velocity: Real[N, D],
    z: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    eta: PositiveFloat = 0.5,
    variance: Variance = "integral",
    cap: Cap = 0.997,
) -> Real[N, D]:
    """Take one step each, with given noise.

    Parameters
    ----------
    z
        Fresh standard normal noise.
    """
    noise = {"eta": eta, "variance": variance, "cap": cap}
    S = step_variance.unchecked(u, next_u, **noise)
    mean = sage_mean.unchecked(x, velocity, u, next_u, **noise)
    return mean + xp.sqrt(S)[:, None] * z  # eq. sage-grpo-step


@checked(also=towards_the_data)
def cps_step(
    x: Real[N, D],
    velocity: Real[N, D],
    z: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    eta: Fraction = 0.5,
) -> Real[N, D]:
    """Take one step each whose coefficients keep the noise level.

    Parameters
    ----------
    eta
        Which part of the noise is fresh: 0 is the flow itself.
    """
    # eq. sage-grpo-cps
    u, next_u = u[:, None], next_u[:, None]
    data, noise = x - u * velocity, x + (1 - u) * velocity
    angle = eta * math.pi / 2
    kept, fresh = next_u * math.cos(angle), next_u * math.sin(angle)
    return (1 - next_u) * data + kept * noise + fresh * z


@checked(also=_steps)
def sage_log_prob(
    x: Real[N, D],
    next_x: Real[N, D],
    velocity: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    eta: PositiveFloat = 0.5,
    variance: Variance = "integral",
    cap: Cap = 0.997,
) -> Real[N]:
    """Log-probability of each step, a mean over dimensions.

    Parameters
    ----------
    next_x
        Where each step ended.
    """
    noise = {"eta": eta, "variance": variance, "cap": cap}
    S = step_variance.unchecked(u, next_u, **noise)
    away = next_x - sage_mean.unchecked(x, velocity, u, next_u, **noise)
    # eq. sage-grpo-log-prob
    return -(away * away).mean(1) / (2 * S) - xp.log(2 * math.pi * S) / 2


def _gain(u, next_u, S):
    """How far the mean of each step moves against a change of the velocity."""
    return u - next_u + S / 2 * (1 - u) / u


@checked(also=_steps)
def gradient_size(
    u: Prob[N],
    next_u: Prob[N],
    *,
    eta: PositiveFloat = 0.5,
    variance: Variance = "integral",
    cap: Cap = 0.997,
) -> Positive[N]:
    """How loud each step is: the derivative of its mean by the velocity over its deviation."""
    S = step_variance.unchecked(u, next_u, eta=eta, variance=variance, cap=cap)
    return _gain(u, next_u, S) / xp.sqrt(S)  # eq. sage-grpo-size


@checked(also=_steps)
def equalizer(
    u: Prob[K],
    next_u: Prob[K],
    *,
    eta: PositiveFloat = 0.5,
    variance: Variance = "integral",
    cap: Cap = 0.997,
) -> Positive[K]:
    """Weights that make all steps of a schedule equally loud.

    Parameters
    ----------
    u, next_u
        All steps of the schedule, each once.
    """
    size = gradient_size.unchecked(u, next_u, eta=eta, variance=variance, cap=cap)
    return xp.median(size) / size  # eq. sage-grpo-equalizer


def _near(
    x,
    next_x,
    velocity,
    old_log_prob,
    u,
    next_u,
    eta=0.5,
    variance="integral",
    cap=0.997,
    **_,
):
    """A step that does not go towards the data; log-probabilities of a step more than 30 apart."""
    noise = {"eta": eta, "variance": variance, "cap": cap}

    def log_prob():
        return sage_log_prob.unchecked(x, next_x, velocity, u, next_u, **noise)

    return [*_steps(u, next_u, variance, cap), near_policies(log_prob, old_log_prob)]


@checked(also=_steps)
def dual_kl(
    x: Real[N, D],
    next_x: Real[N, D],
    velocity: Real[N, D],
    ref_velocity: Real[N, D],
    old_log_prob: Real[N],
    u: Prob[N],
    next_u: Prob[N],
    *,
    eta: PositiveFloat = 0.5,
    variance: Variance = "integral",
    cap: Cap = 0.997,
    moving_weight: NonNegativeFloat = 1.0,
    step_weight: NonNegativeFloat = 0.1,
) -> tuple[Scalar, Real[N, D]]:
    """Divergence from a reference and from the policy that sampled.

    Parameters
    ----------
    ref_velocity
        What the reference model says at the same points.
    old_log_prob
        `sage_log_prob` under the velocity that sampled.
    moving_weight, step_weight
        Of the two divergences.

    Returns
    -------
    divergence
    gradient
        With respect to `velocity`.
    """
    N, D = x.shape
    noise = {"eta": eta, "variance": variance, "cap": cap}
    S = step_variance.unchecked(u, next_u, **noise)
    gain, apart = _gain(u, next_u, S), velocity - ref_velocity
    away = next_x - sage_mean.unchecked(x, velocity, u, next_u, **noise)
    log_prob = sage_log_prob.unchecked(x, next_x, velocity, u, next_u, **noise)
    # eq. sage-grpo-dual-kl
    moving = (gain**2 * (apart * apart).mean(1) / (2 * (S + FLOOR))).sum() / N
    one_sample = (old_log_prob - log_prob).sum() / N
    # eq. sage-grpo-dual-kl-gradient
    pull = moving_weight * (gain / (S + FLOOR))[:, None] * apart
    pull = pull + step_weight / S[:, None] * away
    value = moving_weight * moving + step_weight * one_sample
    return value, (gain / (N * D))[:, None] * pull


@checked(also=_near)
def sage_grpo(
    x: Real[N, D],
    next_x: Real[N, D],
    velocity: Real[N, D],
    ref_velocity: Real[N, D],
    old_log_prob: Real[N],
    advantage: Real[N],
    weight: NonNegative[N],
    u: Prob[N],
    next_u: Prob[N],
    *,
    eta: PositiveFloat = 0.5,
    variance: Variance = "integral",
    cap: Cap = 0.997,
    clip: PositiveFloat = 1e-4,
    kl_weight: NonNegativeFloat = 1e-7,
    moving_weight: NonNegativeFloat = 1.0,
    step_weight: NonNegativeFloat = 0.1,
) -> tuple[Scalar, Real[N, D]]:
    """SAGE-GRPO loss of N steps.

    Parameters
    ----------
    advantage
        Of the sample that each step belongs to, as `trref.diffusion.flow_grpo.flow_advantage`.
    weight
        Of each step, as `equalizer` gives it.

    Returns
    -------
    loss
    gradient
        With respect to `velocity`. At a kink, the derivative of the unclipped term.
    """
    D, noise = x.shape[1], {"eta": eta, "variance": variance, "cap": cap}
    S = step_variance.unchecked(u, next_u, **noise)
    log_prob = sage_log_prob.unchecked(x, next_x, velocity, u, next_u, **noise)
    away = next_x - sage_mean.unchecked(x, velocity, u, next_u, **noise)
    K, dK = dual_kl.unchecked(
        x,
        next_x,
        velocity,
        ref_velocity,
        old_log_prob,
        u,
        next_u,
        **noise,
        moving_weight=moving_weight,
        step_weight=step_weight,
    )
    # eq. sage-grpo-objective
    L, d_log_prob = clipped_surrogate.unchecked(
        log_prob, old_log_prob, weight * advantage, clip=clip
    )
    dL = -(d_log_prob * _gain(u, next_u, S) / (D * S))[:, None] * away
    return L + kl_weight * K, dL + kl_weight * dK


@checked(also=bounds_in_order)
def kl_weights(
    divergence: NonNegative[K],
    *,
    target: PositiveFloat = 1e-3,
    factor: Annotated[float, "(1, inf)"] = 1.5,
    smallest: PositiveFloat = 1e-7,
    largest: PositiveFloat = 1e-5,
) -> Positive[K]:
    """Weights of the penalty after each measured divergence, beginning at the smallest; reconstructed.

    Parameters
    ----------
    divergence
        What was measured, in order.
    target
        Above it the weight grows.
    factor
        By which the weight grows or shrinks.
    smallest, largest
        Bounds of the weight.
    """
    # eq. sage-grpo-controller
    weights = []
    weight = xp.full_like(divergence[0], smallest)
    for measured in divergence:
        moved = xp.where(measured > target, weight * factor, weight / factor)
        weight = xp.clip(moved, smallest, largest)
        weights.append(weight)
    return xp.stack(weights)
