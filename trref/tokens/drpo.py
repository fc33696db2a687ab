r"""DRPO, with its parents DPPO and SPO: trust regions in probabilities, not in ratios.

What differs from GRPO: the distance of a token from its old probability is :math:`|\pi - \mu|`, not the ratio
:math:`\rho = \pi/\mu`, because a rare token has a huge ratio after a tiny change. :math:`\mu` is the probability under
the policy that sampled, at the temperature at which it sampled. DPPO drops a token when a divergence D with two cells,
this token and any other, has passed a radius in the harmful direction,

.. math::
    :label: drpo-mask

    M = 0 \;\text{ where }\; (\hat A > 0,\, \rho > 1,\, D > d_h) \;\text{ or }\; (\hat A < 0,\, \rho < 1,\, D > d_l),
    \qquad M = 1 \;\text{ elsewhere}

with D the total variation :math:`|\pi - \mu|` or :math:`KL(\mu\|\pi)` (:mod:`trref.tokens.reduced_divergences`). The
mask is a constant, and the gradient's ratio is truncated at C:

.. math::
    :label: drpo-dppo

    J_{DPPO} = \frac1{BL} \sum_{i,t} m\, M \hat A\, \tau(\rho), \qquad
    \tau(\rho) = \begin{cases} \rho & \rho \le C \\ C\,(1 + \log(\rho / C)) & \text{else} \end{cases}, \qquad
    \frac{\partial \tau}{\partial \log\pi} = \min\{\rho, C\}

SPO replaces PPO's clip by a quadratic penalty on the ratio,

.. math::
    :label: drpo-spo

    J_{SPO} = \frac1{BL} \sum_{i,t} m \Big[ \rho \hat A - \frac{|\hat A|}{2\epsilon}\, (\rho - 1)^2 \Big], \qquad
    \frac{\partial}{\partial \log\pi} = \rho \hat A \Big[ 1 - \mathrm{sign}(\hat A)\, \frac{\rho - 1}\epsilon \Big]

and DRPO weighs it with the old probability, so that DPPO's 0/1 mask becomes a slope:

.. math::
    :label: drpo-objective

    J_{DRPO} = \frac1{BL} \sum_{i,t} m \Big[ \rho \hat A - \frac{|\hat A|}{2\delta}\, \mu\, (\rho - 1)^2 \Big]

.. math::
    :label: drpo-gradient

    \frac{\partial}{\partial \log\pi} = \rho \hat A\, w, \qquad
    w = 1 - \mathrm{sign}(\hat A)\, \frac{\pi - \mu}\delta \;\in\; \Big[1 - \frac1\delta,\, 1 + \frac1\delta\Big]

In one probability alone it is highest at :math:`\mathrm{clip}(\mu + \mathrm{sign}(\hat A)\,\delta, 0, 1)`. In the
mean over :math:`\mu` DRPO's penalty is :math:`\sum_a (\pi_a - \mu_a)^2` and SPO's is chi-square. The released radius is
12.5, where :math:`w` stays within 0.92 and 1.08 and the radius can't be reached: next to no regulariser.
For :math:`\delta \to \infty` all three are the importance-weighted policy gradient.

=========================  ===========================
:math:`\mu`                `old_log_prob`
:math:`d_l,\ d_h`          `radius_low`, `radius_high`
:math:`\epsilon,\ \delta`  `radius` of SPO, of DRPO
C, L                       `bound`, `max_length`
=========================  ===========================

A divergence of exactly the radius is within it.

**Where implementations differ.** TRL's former trainer takes DPPO's coefficient as a constant times the log-probability
(same gradient, other value) and truncates at 10. UniRL clamps log-ratios to ±20, and averages over all tokens
unless told to divide by a horizon. verl's ``dppo_tv`` and ``dppo_kl`` measure from whatever the old log-probabilities
hold; Stable-RL offers both the sampler's and recomputed ones. Where the advantage is 0 these codes test the direction
as if it were negative: the loss is 0 there.

**Provenance.** Confirmed: by Stable-RL, verl and TRL (DPPO) and the authors' UniRL (SPO, DRPO); the truncated value
:math:`\tau` is ours, its derivative theirs; the optimum for one token is derived here.

Yao et al., *Rethinking the Divergence Regularization in LLM RL*, 2026, arXiv:2606.09821. DPPO: Qi et al., 2026,
arXiv:2602.04879. SPO: Xie et al., 2024, arXiv:2401.16025.
"""

import math
from typing import Annotated, Literal

from trref.backend import xp
from trref.signature import (
    B,
    LogProb,
    Mask,
    NonNegative,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.reduced_divergences import binary_rows
from trref.tokens.terms import per_token, token_weights


@checked
def keep_mask(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    divergence: NonNegative[B, T],
    *,
    radius_low: PositiveFloat = 0.15,
    radius_high: PositiveFloat = 0.15,
) -> Mask[B, T]:
    """Which tokens have not passed the radius in the harmful direction.

    Parameters
    ----------
    radius_low, radius_high
        For negative and positive advantages; in the paper 0.15 for total variation, 0.05 for KL.
    """
    # eq. drpo-mask
    A, d = per_token(advantage), log_prob - old_log_prob
    up = (A > 0) & (d > 0) & (divergence > radius_high)
    down = (A < 0) & (d < 0) & (divergence > radius_low)
    return (~(up | down)).astype(d.dtype)


@checked
def dppo_measured(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    divergence: NonNegative[B, T],
    *,
    max_length: PositiveFloat,
    radius_low: PositiveFloat = 0.15,
    radius_high: PositiveFloat = 0.15,
    bound: Annotated[float, "(1, inf)"] = 20.0,
) -> tuple[Scalar, Real[B, T]]:
    """DPPO loss with a divergence that was measured before, such as that of the top-K tokens.

    Parameters
    ----------
    advantage
        As of `trref.tokens.dr_grpo.centred_advantage`.
    bound
        Largest ratio in the gradient.
    """
    keep = keep_mask.unchecked(
        log_prob,
        old_log_prob,
        advantage,
        divergence,
        radius_low=radius_low,
        radius_high=radius_high,
    )
    # eq. drpo-dppo
    d, A = log_prob - old_log_prob, keep * per_token(advantage)
    ratio = xp.minimum(xp.exp(d), bound)
    value = ratio + bound * xp.maximum(d - math.log(bound), 0)
    w = token_weights(mask, "constant", max_length=max_length)
    return -(w * (value * A)).sum(), -w * (ratio * A)


@checked
def dppo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    max_length: PositiveFloat,
    radius_low: PositiveFloat = 0.15,
    radius_high: PositiveFloat = 0.15,
    kind: Literal["total_variation", "forward_kl"] = "total_variation",
    bound: Annotated[float, "(1, inf)"] = 20.0,
) -> tuple[Scalar, Real[B, T]]:
    """DPPO loss with the divergence of the sampled token from any other.

    Parameters
    ----------
    kind
        The divergence; KL is that of the old policy from the new one.
    """
    return dppo_measured.unchecked(
        log_prob,
        old_log_prob,
        advantage,
        mask,
        binary_rows.unchecked(log_prob, old_log_prob, kind)[0],
        max_length=max_length,
        radius_low=radius_low,
        radius_high=radius_high,
        bound=bound,
    )


@checked
def spo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    max_length: PositiveFloat,
    radius: PositiveFloat = 0.2,
) -> tuple[Scalar, Real[B, T]]:
    """SPO loss: the quadratic penalty in ratios, smooth everywhere, and without bound for rare tokens.

    Parameters
    ----------
    radius
        Counted in ratios: the gradient ends at 1 ± radius.
    """
    d, A = log_prob - old_log_prob, per_token(advantage)
    ratio, moved = xp.exp(d), xp.expm1(d)
    w = token_weights(mask, "constant", max_length=max_length)
    # eq. drpo-spo
    J = (w * (ratio * A - abs(A) / (2 * radius) * moved**2)).sum()
    return -J, -w * ratio * (A - abs(A) * moved / radius)


@checked
def drpo_weight(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    *,
    radius: PositiveFloat = 12.5,
) -> Real[B, T]:
    """What DRPO leaves of each token's gradient; negative beyond the radius.

    Parameters
    ----------
    radius
        In probabilities.
    """
    change = xp.exp(old_log_prob) * xp.expm1(log_prob - old_log_prob)
    return 1 - xp.sign(per_token(advantage)) * change / radius  # eq. drpo-gradient


@checked
def drpo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    max_length: PositiveFloat,
    radius: PositiveFloat = 12.5,
) -> tuple[Scalar, Real[B, T]]:
    """DRPO loss: the quadratic penalty in probabilities, smooth everywhere."""
    d, A = log_prob - old_log_prob, per_token(advantage)
    ratio, mu = xp.exp(d), xp.exp(old_log_prob)
    w = token_weights(mask, "constant", max_length=max_length)
    # eq. drpo-objective
    J = (w * (ratio * A - abs(A) / (2 * radius) * mu * xp.expm1(d) ** 2)).sum()
    left = drpo_weight.unchecked(log_prob, old_log_prob, advantage, radius=radius)
    return -J, -w * ratio * A * left
