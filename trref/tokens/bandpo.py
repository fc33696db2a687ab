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

**Where implementations differ.** The authors' operator overrides p below 1e-6 and above 1 - 1e-6 by the limits, and
takes :math:`f` of 1e-12 for :math:`f(0)`, so that it finds the KL bound saturated for :math:`1 - p` below
:math:`\delta/27`. It joins the band with [0.8, 1.28] unless told not to, as the run scripts of the main experiments do;
those also cap at 10 in the place of 100 and add a dual clip at 10. Here p and 1 - p below 1e-20 count as 1e-20.

**Provenance.** Confirmed: by the authors' operator and README; Newton's method and its start are ours, the band is
checked against constrained optimisers.

Li et al., *BandPO: Bridging Trust Regions and Ratio Clipping via Probability-Aware Bounds for LLM Reinforcement
Learning*, 2026, arXiv:2603.04918.
"""

from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS, equal_lengths, on_policy
from trref.tokens._bandpo_cases import ROUNDED, band_by_bisection, of_one_probability
from trref.tokens.deviations import bandpo as deviations
from trref.tokens.interfaces import TOKEN_OBJECTIVE, token_objective
from trref.tokens.terms import clip_surrogate, token_weights

__all__ = ["BALLS", "Band", "band", "bandpo"]

BALLS = ("forward_kl", "total_variation", "pearson")
OLD = token_objective(without=("log_prob", "advantage", "mask"))
SMALLEST = 1e-20  # probability of a token, or of all others
NEWTON_STEPS = 16  # the smallest radius, 1e-12, takes 12


class Band(NamedTuple):
    """Bounds of the ratio, each (B, T): lower in [0, 1], upper in [1, 1/p]."""

    lower: Any
    upper: Any


def band(old_log_prob, *, delta=0.05, ball="forward_kl", cap=100.0):
    """Smallest and largest ratio of each token over all distributions within a ball around the old one.

    Parameters
    ----------
    old_log_prob : array (B, T)
        Log-probabilities of the tokens under the old policy; a number above 0 counts as 0.
    delta : float
        Radius, in [1e-12, inf).
    ball : {"forward_kl", "total_variation", "pearson"}
        Its divergence, named as in `trref.tokens.f_divergences`.
    cap : float
        Largest upper bound, in (1, inf).

    Returns
    -------
    Band
        Fields lower, upper.

    Raises
    ------
    ValueError
        A wrong shape, values that are not finite, `delta` or `cap` out of range, an unknown ball.
    """
    validate.inputs(OLD.inputs, old_log_prob)
    validate.interval("[1e-12, inf)", delta=delta)
    validate.interval("(1, inf)", cap=cap)
    validate.choice(BALLS, ball=ball)
    lower, upper = ratio_bounds(old_log_prob, delta, ball)
    return Band(lower, xp.minimum(upper, cap))


def ratio_bounds(old_log_prob, delta, ball):
    """Building block, unchecked: the bounds of `band` without its cap."""
    old_log_prob = xp.minimum(old_log_prob, 0)
    p, rest = xp.maximum(xp.exp(old_log_prob), SMALLEST), xp.maximum(-xp.expm1(old_log_prob), SMALLEST)
    down, up = fall(xp.stack([p, rest]), xp.stack([rest, p]), delta, ball)
    return 1 - down, 1 + rest / p * up  # eq. bandpo-upper


def fall(p, rest, delta, ball):
    """Building block, unchecked: 1 minus the smallest ratio of a token; `rest` is 1 - p, both positive."""
    if ball == "forward_kl":
        return -xp.expm1(least_log_ratio(p, rest, delta))  # eq. bandpo-band
    # eq. bandpo-closed
    step = delta / p if ball == "total_variation" else xp.sqrt(delta * rest / p)
    return xp.minimum(step, 1)


def least_log_ratio(p, rest, delta):
    """Building block, unchecked: log of the smallest ratio within KL(old ‖ new) <= delta, to rounding."""
    x = -delta / p - xp.sqrt(2 * delta / p)  # eq. bandpo-start
    for _ in range(NEWTON_STEPS):
        growth = xp.expm1(x)
        h = -p * x - rest * xp.log1p(-p / rest * growth)  # eq. bandpo-constraint
        x = x - (h - delta) * (rest - p * growth) / (p * growth)  # eq. bandpo-newton
    return x


def bandpo(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    delta=0.05,
    ball="forward_kl",
    cap=100.0,
    relax_low=0.0,
    relax_high=0.0,
):
    """BandPO loss: GRPO's with the band as clip range.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    delta, ball, cap
        As in `band`.
    relax_low, relax_high : float
        The band is joined with [1 - relax_low, 1 + relax_high], in [0, inf): nothing by default.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`, the band held constant; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, numbers out of range, an
        unknown ball.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("[1e-12, inf)", delta=delta)
    validate.interval("(1, inf)", cap=cap)
    validate.interval("[0, inf)", relax_low=relax_low, relax_high=relax_high)
    validate.choice(BALLS, ball=ball)
    lower, upper = ratio_bounds(old_log_prob, delta, ball)
    # eq. bandpo-relaxed
    lower = xp.minimum(lower, 1 - relax_low)
    upper = xp.minimum(xp.maximum(upper, 1 + relax_high), cap)

    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, 1 - lower, upper - 1)
    w = token_weights(mask, "seq_mean")
    J = (w * term).sum()  # eq. bandpo-objective
    return -J, -w * derivative


ALIKE = ("equal rewards", "gaps in the mask", "lengths 1 and T", "one response", "groups of one")  # to the band
SMALL = {"delta": 1e-10}  # the band is 1 ± 1e-5: Newton's method needs its start
POINT = {"delta": 1e-12, "ball": "total_variation"}
EACH = {"default": {}, "total variation": {"ball": "total_variation"}, "pearson": {"ball": "pearson"}}
METHOD = Method(
    key="li2026bandpo",
    provenance={
        "confirmed": ("constraint", "band", "closed", "relaxed", "objective"),
        "reconstructed": ("upper", "newton", "start"),
    },
    functions=(
        Estimator(
            f=band,
            interface=OLD,
            edges={
                **OLD.edges,
                "close to 1": lambda: {"old_log_prob": xp.array([[-1e-7, -3e-6, -1e-3, -0.02, -1e-12]])},
                "above 0": lambda: {"old_log_prob": xp.array([[1e-9, 0.125]])},
            },
            settings={
                **EACH,
                "run script": {"cap": 10.0},
                "small": SMALL,
                "probe": {"delta": 0.3, "ball": "pearson", "cap": 7.0},
            },
            deviations=(deviations.BAND_AT_THE_ENDS,),
            brute_force=band_by_bisection,
        ),
        Objective(
            f=bandpo,
            interface=TOKEN_OBJECTIVE,
            edges={
                **{name: edge for name, edge in TOKEN_OBJECTIVE.edges.items() if name not in ALIKE},
                "above 0": lambda: {name: xp.array(value) for name, value in ROUNDED.items()},
            },
            wrt="log_prob",
            settings={
                "default": {},
                "small": SMALL,
                "total variation": {"ball": "total_variation"},
                "relaxed": {"relax_low": 0.2, "relax_high": 0.28},
                "probe": {"delta": 0.3, "ball": "pearson", "cap": 3.5, "relax_low": 0.35, "relax_high": 0.4},
            },
            limits=(
                Limit("grpo.grpo", {**POINT, "relax_low": 0.2, "relax_high": 0.2}),
                Limit("dapo.dapo_over_batch", {**POINT, "relax_low": 0.2, "relax_high": 0.28}, where=equal_lengths),
                Limit(
                    "grpo.grpo", {"ball": "total_variation", "delta": 0.06}, {"clip": 0.24}, where=of_one_probability
                ),
                Limit("grpo.grpo", {}, where=on_policy),
                REINFORCE_OVER_ANSWERS,
            ),
            deviations=(deviations.BAND_RELAXED, deviations.BAND_WITH_DUAL_CLIP),
        ),
    ),
)
