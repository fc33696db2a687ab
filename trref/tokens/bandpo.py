r"""BandPO: clip bounds that follow from one divergence ball and the token's own probability.

What differs from GRPO: the clip range of a token is not :math:`1 \pm \epsilon` but the whole interval of ratios that a
distribution within a ball around the old one can give it. A rare token may grow many times over, a frequent one a few
per cent. For a token of old probability :math:`p` and a convex :math:`f` with :math:`f(1) = 0`, the smallest divergence
:math:`\sum_k q_k f(\pi_k / q_k)` at ratio :math:`r` is reached by scaling all other tokens alike:

.. math::
    :label: bandpo-constraint

    g_f(p, r) = p\, f(r) + (1 - p)\, f\Big(\frac{1 - r p}{1 - p}\Big)

It falls on [0, 1] and rises on [1, 1/p], and the band is what it leaves within the radius :math:`\delta`:

.. math::
    :label: bandpo-band

    \underline r \le 1 \le \overline r, \qquad g_f(p, \underline r) = g_f(p, \overline r) = \delta

or the end, 0 or 1/p, where even that stays below :math:`\delta`. Exchanging a token with the rest of the vocabulary
exchanges the bounds, so one function gives both:

.. math::
    :label: bandpo-upper

    \overline r(p) = 1 + \frac{1 - p}{p}\, \big(1 - \underline r(1 - p)\big)

The default divergence is :math:`KL(\pi_{old}\|\pi)`, :math:`f(u) = u - 1 - \log u`. In :math:`x = \log r \le 0` its
constraint is convex, and Newton's method from the left of the root approaches it from one side:

.. math::
    :label: bandpo-newton

    h(x) = -p\,x - (1 - p) \log\frac{1 - p e^x}{1 - p}, \qquad h'(x) = \frac{p\,(e^x - 1)}{1 - p e^x}, \qquad
    x \leftarrow x - \frac{h(x) - \delta}{h'(x)}

.. math::
    :label: bandpo-start

    x_0 = -\frac\delta p - \sqrt{\frac{2\delta}p}, \qquad h(x_0) \ge p\,(e^{x_0} - 1 - x_0) \ge \delta

It never saturates. Total variation (:math:`f = \frac12|u - 1|`) and Pearson (:math:`f = (u - 1)^2`) do:

.. math::
    :label: bandpo-closed

    \underline r = \max\Big\{1 - \frac{\delta}{p},\, 0\Big\}, \qquad
    \underline r = \max\Big\{1 - \sqrt{\delta\, \frac{1-p}{p}},\, 0\Big\}

With the total variation the band is :math:`|\pi - p| \le \delta`, the radius of DPPO. The band may be joined with a
customary interval, and is capped:

.. math::
    :label: bandpo-relaxed

    \underline r \leftarrow \min\{\underline r,\, 1 - \epsilon_l\}, \qquad
    \overline r \leftarrow \min\{\max\{\overline r,\, 1 + \epsilon_h\},\, c\}

.. math::
    :label: bandpo-objective

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|}\, \min\big\{ \rho \hat A,\;
    \mathrm{clip}(\rho, \underline r(p), \overline r(p))\, \hat A \big\}

A token within its band does not put the distribution within the ball: the band is necessary, not sufficient.

===============================  =========================
:math:`\delta`                   `radius`
:math:`\epsilon_l,\ \epsilon_h`  `relax_low`, `relax_high`
c                                `cap`
===============================  =========================

**Where implementations differ.** The authors' operator overrides p below 1e-6 and above 1 - 1e-6 by the limits, and
takes :math:`f` of 1e-12 for :math:`f(0)`, so that it finds the KL bound saturated for :math:`1 - p` below
:math:`\delta/27`. It joins the band with [0.8, 1.28] unless told not to, as the run scripts of the main experiments do;
those also cap at 10 in the place of 100 and add a dual clip at 10. Here p and 1 - p below 1e-20 count as 1e-20.

**Provenance.** Confirmed: by the authors' operator and README; Newton's method and its start are ours, the band is
checked against constrained optimisers.

Li et al., *BandPO: Bridging Trust Regions and Ratio Clipping via Probability-Aware Bounds for LLM Reinforcement
Learning*, 2026, arXiv:2603.04918.
"""

from typing import Annotated, Literal, NamedTuple

from trref.backend import xp
from trref.signature import (
    B,
    LogProb,
    Mask,
    NonNegative,
    NonNegativeFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, seq_mean

SMALLEST = 1e-20  # probability of a token, or of all others
NEWTON_STEPS = 16  # the smallest radius, 1e-12, takes 12


class Band(NamedTuple):
    """Bounds of the ratio: lower in [0, 1], upper in [1, 1/p]."""

    lower: NonNegative[B, T]
    upper: NonNegative[B, T]


@checked
def band(
    old_log_prob: LogProb[B, T],
    *,
    radius: Annotated[float, "[1e-12, inf)"] = 0.05,
    ball: Literal["forward_kl", "total_variation", "pearson"] = "forward_kl",
    cap: Annotated[float, "(1, inf)"] = 100.0,
) -> Band:
    """Smallest and largest ratio of each token over all distributions within a ball around the old one.

    Parameters
    ----------
    old_log_prob
        A number above 0 counts as 0.
    ball
        Its divergence, named as in `trref.tokens.f_divergences`.
    cap
        Largest upper bound.
    """
    lower, upper = _ratio_bounds(old_log_prob, radius, ball)
    return Band(lower, xp.minimum(upper, cap))


def _ratio_bounds(old_log_prob, radius, ball):
    old_log_prob = xp.minimum(old_log_prob, 0)
    p = xp.maximum(xp.exp(old_log_prob), SMALLEST)
    rest = xp.maximum(-xp.expm1(old_log_prob), SMALLEST)
    down, up = _fall(xp.stack([p, rest]), xp.stack([rest, p]), radius, ball)
    return 1 - down, 1 + rest / p * up  # eq. bandpo-upper


def _fall(p, rest, radius, ball):
    """1 minus the smallest ratio of a token; `rest` is 1 - p, both positive."""
    if ball == "forward_kl":
        return -xp.expm1(_least_log_ratio(p, rest, radius))  # eq. bandpo-band
    # eq. bandpo-closed
    step = radius / p if ball == "total_variation" else xp.sqrt(radius * rest / p)
    return xp.minimum(step, 1)


def _least_log_ratio(p, rest, radius):
    """Logarithm of the smallest ratio within KL(old‖new) <= radius, to rounding."""
    x = -radius / p - xp.sqrt(2 * radius / p)  # eq. bandpo-start
    for _ in range(NEWTON_STEPS):
        growth = xp.expm1(x)
        h = -p * x - rest * xp.log1p(-p / rest * growth)  # eq. bandpo-constraint
        x = x - (h - radius) * (rest - p * growth) / (p * growth)  # eq. bandpo-newton
    return x


@checked
def bandpo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    radius: Annotated[float, "[1e-12, inf)"] = 0.05,
    ball: Literal["forward_kl", "total_variation", "pearson"] = "forward_kl",
    cap: Annotated[float, "(1, inf)"] = 100.0,
    relax_low: NonNegativeFloat = 0.0,
    relax_high: NonNegativeFloat = 0.0,
) -> tuple[Scalar, Real[B, T]]:
    """BandPO loss: GRPO's with the band, which is held constant, as clip range.

    Parameters
    ----------
    advantage
        As of `trref.tokens.grpo.group_advantage`.
    relax_low, relax_high
        The band is joined with [1 - relax_low, 1 + relax_high]: nothing by default.
    """
    lower, upper = _ratio_bounds(old_log_prob, radius, ball)
    # eq. bandpo-relaxed
    lower = xp.minimum(lower, 1 - relax_low)
    upper = xp.minimum(xp.maximum(upper, 1 + relax_high), cap)

    term, derivative = clip_surrogate(
        log_prob, old_log_prob, advantage, 1 - lower, upper - 1
    )
    w = seq_mean(mask)
    J = (w * term).sum()  # eq. bandpo-objective
    return -J, -w * derivative
