"""What is known of `trref.tokens.bandpo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE, with_edges
from trref.catalog.tokens.pieces import clipped_terms, weighted
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS, equal_lengths, on_policy
from trref.tokens.bandpo import band, bandpo
from trref.tokens.terms import per_token, seq_mean


def _operator_band(old_log_prob, radius, ball, cap):
    """The authors' operator, without its relaxation: bisection where they bisect, limits where they override."""
    p = xp.exp(
        xp.clip(
            old_log_prob, -700.0 if old_log_prob.dtype.itemsize == 8 else -85.0, 0.0
        )
    )
    inner = xp.clip(p, 1e-12, 1 - 1e-7)
    if ball == "forward_kl":

        def inside(r):
            terms = [xp.maximum(u, 1e-12) for u in (r, (1 - r * inner) / (1 - inner))]
            value = [-xp.log(u) + u - 1 for u in terms]
            return inner * value[0] + (1 - inner) * value[1] <= radius

        lower, upper = (
            _bisect(inside, xp.ones_like(p), end)
            for end in (xp.zeros_like(p), 1 / inner)
        )
        at_one = math.exp(-min(radius, 80.0))
    else:
        step = (
            radius / inner
            if ball == "total_variation"
            else xp.sqrt(radius * (1 - inner) / inner)
        )
        lower, upper = xp.maximum(1 - step, 0), xp.minimum(1 + step, 1 / inner)
        at_one = max(1 - radius, 0.0) if ball == "total_variation" else 1.0
    near_one, near_zero = p > 1 - 1e-6, p < 1e-6
    upper = xp.where(near_zero, 1 / xp.maximum(p, 1e-12), xp.where(near_one, 1, upper))
    lower = xp.where(near_zero, 0, xp.where(near_one, at_one, lower))
    return lower.astype(p.dtype), xp.clip(upper, 1, cap).astype(p.dtype)


def _bisect(inside, start, end):
    """From `start`, which is inside, towards `end`: the end itself if that is inside, too."""
    saturated, low, high = inside(end), start, end
    for _ in range(60):
        middle = (low + high) / 2
        within = inside(middle)
        low, high = xp.where(within, middle, low), xp.where(within, high, middle)
    return xp.where(saturated, end, low)


def _band_at_the_ends(old_log_prob, *, radius=0.05, ball="forward_kl", cap=100.0):
    return _operator_band(old_log_prob, radius, ball, cap)


def _band_relaxed(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    radius=0.05,
    ball="forward_kl",
    cap=100.0,
    relax=(0.2, 0.28),
):
    lower, upper = _operator_band(old_log_prob, radius, ball, cap)
    lower, upper = xp.minimum(lower, 1 - relax[0]), xp.maximum(upper, 1 + relax[1])
    return weighted(
        seq_mean(mask),
        *clipped_terms(log_prob - old_log_prob, advantage, 1 - lower, upper - 1),
    )


def _band_with_dual_clip(
    log_prob, old_log_prob, advantage, mask, *, radius=0.05, ball="forward_kl"
):
    lower, upper = _operator_band(old_log_prob, radius, ball, 10.0)
    term, derivative = clipped_terms(
        log_prob - old_log_prob, advantage, 1 - lower, upper - 1
    )
    A = per_token(advantage)
    bounded = (A < 0) & (term < 10 * A)
    return weighted(
        seq_mean(mask),
        xp.where(bounded, 10 * A, term),
        xp.where(bounded, 0, derivative),
    )


BAND_AT_THE_ENDS = Deviation(
    "limits in the place of the roots for p below 1e-6 and above 1 - 1e-6",
    _band_at_the_ends,
    seen_in="OpenMOSS/BandPO RLtraining/verl/verl/bandpo/band/band.py and solver.py",
    computes="the bounds' limits near p = 0 and 1, and 1/p for the KL bound where 1 - p is below radius/27",
)
BAND_RELAXED = Deviation(
    "the band joined with [0.8, 1.28]",
    _band_relaxed,
    seen_in="OpenMOSS/BandPO RLtraining/verl/verl/bandpo/band/band.py, does_relax_high_p_bound=True by default",
    computes="bounds that are nowhere tighter than clip-higher's",
    documented=True,
)
BAND_WITH_DUAL_CLIP = Deviation(
    "capped at 10, with a dual clip at 10",
    _band_with_dual_clip,
    seen_in="OpenMOSS/BandPO, the run scripts of the main experiments",
    computes="for negative advantages no less than 10 times the advantage, and no upper bound above 10",
    documented=True,
)


def band_by_bisection(old_log_prob, *, radius=0.05, ball="forward_kl", cap=100.0):
    f = {
        "forward_kl": lambda u: u - 1 - math.log(u) if u else math.inf,
        "total_variation": lambda u: abs(u - 1) / 2,
        "pearson": lambda u: (u - 1) ** 2,
    }[ball]

    def bound(p, rest, start, end):
        """The last ratio between 1 and an end whose smallest divergence is at most radius."""
        for _ in range(200):
            r = (start + end) / 2
            inside = p * f(r) + rest * f(max(rest + p * (1 - r), 0) / rest) <= radius
            start, end = (r, end) if inside else (start, r)
        return start

    p = [max(math.exp(min(x, 0)), 1e-20) for x in old_log_prob.ravel().tolist()]
    rest = [max(-math.expm1(min(x, 0)), 1e-20) for x in old_log_prob.ravel().tolist()]
    bounds = [
        [bound(*both, 1.0, 0.0) for both in zip(p, rest, strict=True)],
        [
            min(bound(*both, 1.0, 1 + both[1] / both[0]), cap)
            for both in zip(p, rest, strict=True)
        ],
    ]
    return xp.array(bounds).reshape(2, *old_log_prob.shape)


def _above_0():
    """Log-probabilities that rounding has made positive."""
    both = {"log_prob": [[0.0, -0.0625]], "old_log_prob": [[0.125, 0.0625]]}
    rest = {"advantage": [-1.0], "mask": [[1.0, 1.0]]}
    return {name: xp.array(value) for name, value in (both | rest).items()}


def of_one_probability(inputs):
    """all tokens had the probability 1/4"""
    d = inputs["log_prob"] - inputs["old_log_prob"]
    old = xp.full_like(d, math.log(0.25))
    return {**inputs, "log_prob": old + d, "old_log_prob": old}


# nothing differs between these but what the band does not see
ALIKE = (
    "equal rewards",
    "gaps in the mask",
    "lengths 1 and T",
    "one response",
    "groups of one",
)
TOKENS = with_edges(
    TOKEN_OBJECTIVE,
    *(name for name in TOKEN_OBJECTIVE.edges if name not in ALIKE),
    **{"above 0": _above_0},
)
SMALL = {"radius": 1e-10}  # the band is 1 ± 1e-5: Newton's method needs its start
POINT = {"radius": 1e-12, "ball": "total_variation"}
EACH = {
    "default": {},
    "total variation": {"ball": "total_variation"},
    "pearson": {"ball": "pearson"},
}
METHOD = Method(
    key="li2026bandpo",
    provenance={
        "confirmed": ("constraint", "band", "closed", "relaxed", "objective"),
        "reconstructed": ("upper", "newton", "start"),
    },
    functions=(
        Estimator(
            f=band,
            interface=with_edges(
                TOKEN_OBJECTIVE,
                *TOKEN_OBJECTIVE.edges,
                **{
                    "close to 1": lambda: {
                        "old_log_prob": xp.array([[-1e-7, -3e-6, -1e-3, -0.02, -1e-12]])
                    },
                    "above 0": lambda: {"old_log_prob": xp.array([[1e-9, 0.125]])},
                },
            ),
            settings={
                **EACH,
                "run script": {"cap": 10.0},
                "small": SMALL,
                "probe": {"radius": 0.3, "ball": "pearson", "cap": 7.0},
            },
            deviations=(BAND_AT_THE_ENDS,),
            brute_force=band_by_bisection,
        ),
        Objective(
            f=bandpo,
            interface=TOKENS,
            wrt="log_prob",
            settings={
                "default": {},
                "small": SMALL,
                "total variation": {"ball": "total_variation"},
                "relaxed": {"relax_low": 0.2, "relax_high": 0.28},
                "probe": {
                    "radius": 0.3,
                    "ball": "pearson",
                    "cap": 3.5,
                    "relax_low": 0.35,
                    "relax_high": 0.4,
                },
            },
            limits=(
                Limit("grpo.grpo", {**POINT, "relax_low": 0.2, "relax_high": 0.2}),
                Limit(
                    "dapo.dapo_over_batch",
                    {**POINT, "relax_low": 0.2, "relax_high": 0.28},
                    where=equal_lengths,
                ),
                Limit(
                    "grpo.grpo",
                    {"ball": "total_variation", "radius": 0.06},
                    {"clip": 0.24},
                    where=of_one_probability,
                ),
                Limit("grpo.grpo", {}, where=on_policy),
                REINFORCE_OVER_ANSWERS,
            ),
            deviations=(BAND_RELAXED, BAND_WITH_DUAL_CLIP),
        ),
    ),
)
