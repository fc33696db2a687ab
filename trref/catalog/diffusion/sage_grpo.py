"""What is known of `trref.diffusion.sage_grpo`."""

import dataclasses
import math
import statistics

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective, Transform
from trref.catalog.diffusion.interfaces import FLOW_POLICY, no_advantage, no_noise
from trref.diffusion.sage_grpo import (
    cps_step,
    dual_kl,
    equalizer,
    gradient_size,
    kl_weights,
    sage_grpo,
    sage_log_prob,
    sage_mean,
    sage_step,
    score_from_velocity,
    step_variance,
)

NOISE = {
    "default": {},
    "at the beginning of the step": {"variance": "left_end"},
    "the same at all times": {"variance": "constant"},
    "another cap": {"eta": 0.3, "cap": 0.98},
    "probe": {"eta": 0.3, "variance": "left_end", "cap": 0.97},
}

# ---- examples: FLOW_POLICY's, but that SAGE's steps were taken


def _taken(steps):
    names = ("x", "u", "next_u")
    seen = {n: steps[n] for n in names}
    old = {"velocity": steps["old_velocity"], **seen}
    next_x = sage_step(z=steps["z"], **old)
    return {
        **steps,
        "next_x": next_x,
        "old_log_prob": sage_log_prob(next_x=next_x, **old),
        "weight": gradient_size(seen["u"], seen["next_u"]) ** -1,
    }


def _on_the_bounds():
    steps = _taken(FLOW_POLICY.edges["far apart"]())
    steps = {**steps, "advantage": xp.array([1.0, 1.0, -1.0, -1.0])}
    seen = {n: steps[n] for n in ("x", "next_x", "velocity", "u", "next_u")}
    ratio = xp.log(xp.array([1.2, 0.8, 1.2, 0.8]))
    return {**steps, "old_log_prob": sage_log_prob(**seen) - ratio}


SAGE_POLICY = dataclasses.replace(
    FLOW_POLICY,
    example=lambda rng, size: _taken(FLOW_POLICY.example(rng, size)),
    edges={
        **{
            name: lambda make=make: _taken(make())
            for name, make in FLOW_POLICY.edges.items()
        },
        "on the clip bounds": _on_the_bounds,
    },
)

# ---- derivatives and brute force


def _slope(u, next_u, eta, variance, cap):
    S = step_variance(u, next_u, eta=eta, variance=variance, cap=cap)
    return -(u - next_u + S * (1 - u) / (2 * u))[:, None]


def _mean_jvp(
    x, velocity, u, next_u, tangent, *, eta=0.5, variance="integral", cap=0.997
):
    """A number for each row, so that the vjp is the same."""
    return _slope(u, next_u, eta, variance, cap) * tangent


def _mean_vjp(
    x, velocity, u, next_u, cotangent, *, eta=0.5, variance="integral", cap=0.997
):
    return _slope(u, next_u, eta, variance, cap) * cotangent


def _step_jvp(
    x, velocity, z, u, next_u, tangent, *, eta=0.5, variance="integral", cap=0.997
):
    return _slope(u, next_u, eta, variance, cap) * tangent


def _step_vjp(
    x, velocity, z, u, next_u, cotangent, *, eta=0.5, variance="integral", cap=0.997
):
    return _slope(u, next_u, eta, variance, cap) * cotangent


def _cps_jvp(x, velocity, z, u, next_u, tangent, *, eta=0.5):
    kept = next_u * math.cos(eta * math.pi / 2)
    return (kept * (1 - u) - (1 - next_u) * u)[:, None] * tangent


def _cps_vjp(x, velocity, z, u, next_u, cotangent, *, eta=0.5):
    return _cps_jvp(x, velocity, z, u, next_u, cotangent, eta=eta)


def _score_jvp(x, velocity, u, tangent):
    return -((1 - u) / u)[:, None] * tangent


def _score_vjp(x, velocity, u, cotangent):
    return _score_jvp(x, velocity, u, cotangent)


NODES, WEIGHTS = xp.polynomial.legendre.leggauss(12)


def _rate_integral(low, high, panels=6):
    """Of ζ/(1-ζ), by Gauss's rule on panels that shrink geometrically towards 1."""
    edges = 1 - (1 - low) * ((1 - high) / (1 - low)) ** (xp.arange(panels + 1) / panels)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    zeta = middle[:, None] + half[:, None] * NODES
    return float(half @ (zeta / (1 - zeta)) @ WEIGHTS)


def _each_variance(u, next_u, *, eta=0.5, variance="integral", cap=0.997):
    """The capped end replaces the beginning in the logarithm alone, so that a piece of length u - cap is taken off."""
    result = []
    for a, b in zip(u.tolist(), next_u.tolist(), strict=True):
        if variance == "integral":
            end = min(a, cap)
            result.append(eta**2 * (_rate_integral(b, end) - (a - end)))
        elif variance == "left_end":
            result.append(eta**2 * a / (1 - (b if a == 1 else a)) * (a - b))
        else:
            result.append(eta**2 * (a - b))
    return result


def _rows(*arrays):
    return zip(*(a.tolist() for a in arrays), strict=True)


def _each_log_prob(
    x, next_x, velocity, u, next_u, *, eta=0.5, variance="integral", cap=0.997
):
    variances = _each_variance(u, next_u, eta=eta, variance=variance, cap=cap)
    values = []
    for (start, end, v, a, b), S in zip(
        _rows(x, next_x, velocity, u, next_u), variances, strict=True
    ):
        each = []
        for x_d, y_d, v_d in zip(start, end, v, strict=True):
            data, noise = x_d - a * v_d, x_d + (1 - a) * v_d
            flowed = (1 - b) * data + b * noise
            mean = flowed + S / 2 * ((1 - a) * data - x_d) / a**2
            each.append(statistics.NormalDist(mean, math.sqrt(S)).pdf(y_d))
        values.append(statistics.fmean(map(math.log, each)))
    return values


def _each_size(u, next_u, *, eta=0.5, variance="integral", cap=0.997):
    """How far the mean of a step from 0 moves for a velocity of 1."""
    variances = _each_variance(u, next_u, eta=eta, variance=variance, cap=cap)
    return [
        abs((b - a) - S / 2 * (1 - a) / a) / math.sqrt(S)
        for (a, b), S in zip(_rows(u, next_u), variances, strict=True)
    ]


def _over_the_median(u, next_u, *, eta=0.5, variance="integral", cap=0.997):
    sizes = _each_size(u, next_u, eta=eta, variance=variance, cap=cap)
    return [statistics.median(sizes) / size for size in sizes]


def _one_by_one(divergence, *, target=1e-3, factor=1.5, smallest=1e-7, largest=1e-5):
    weight, weights = smallest, []
    for K in divergence.tolist():
        weight = weight * factor if K > target else weight / factor
        weight = min(max(weight, smallest), largest)
        weights.append(weight)
    return weights


# ---- limits


def _of_equal_weight(inputs):
    """all steps have the weight 1"""
    return inputs | {"weight": xp.ones_like(inputs["weight"])}


LEFT = {"variance": "left_end", "eta": 0.7}

REFUSED = {
    "a step that is too short": {"u": 0.5, "next_u": 0.5},
    "an end that the cap leaves no variance": {
        "u": 0.9995,
        "next_u": 0.999,
    },
}


METHOD = Method(
    key="zheng2026manifold",
    provenance={
        "confirmed": (
            "variance",
            "score",
            "step",
            "cps",
            "log-prob",
            "size",
            "equalizer",
            "dual-kl",
            "objective",
        ),
        "reconstructed": ("dual-kl-gradient", "controller"),
    },
    functions=(
        Objective(
            f=sage_grpo,
            interface=SAGE_POLICY,
            wrt="velocity",
            settings={
                "default": {},
                "a wide interval": {"clip": 0.2, "kl_weight": 0.3},
                "at the beginning of the step": {"variance": "left_end", "clip": 0.2},
                "the same at all times": {
                    "variance": "constant",
                    "eta": 1.5,
                    "clip": 0.2,
                },
                "probe": {
                    "eta": 0.6,
                    "variance": "left_end",
                    "cap": 0.98,
                    "clip": 0.35,
                    "kl_weight": 0.6,
                    "moving_weight": 0.7,
                    "step_weight": 0.4,
                },
            },
            limits=(
                Limit(
                    "flow_grpo.flow_grpo",
                    {**LEFT, "kl_weight": 0.0},
                    {"kl_weight": 0.0},
                    where=_of_equal_weight,
                ),
                Limit("sage_grpo.dual_kl", {"kl_weight": 1.0}, where=no_advantage),
            ),
            refused={
                "a step that is too short": {"u": 0.5, "next_u": 0.5},
                "an end that the cap leaves no variance": {
                    "u": 0.9995,
                    "next_u": 0.999,
                },
                "log-probabilities far apart": {
                    "old_log_prob": lambda old_log_prob: old_log_prob - 40
                },
            },
        ),
        Objective(
            f=dual_kl,
            interface=SAGE_POLICY,
            wrt="velocity",
            settings={
                **{n: s for n, s in NOISE.items() if n != "probe"},
                "probe": {
                    **NOISE["probe"],
                    "moving_weight": 0.7,
                    "step_weight": 0.4,
                },
            },
            refused=REFUSED,
        ),
        Estimator(
            f=step_variance,
            interface=SAGE_POLICY,
            settings=NOISE,
            brute_force=_each_variance,
            refused=REFUSED,
        ),
        Transform(
            f=score_from_velocity,
            interface=SAGE_POLICY,
            wrt="velocity",
            jvp=_score_jvp,
            vjp=_score_vjp,
            refused={
                "no noise": {"u": 0.0},
            },
        ),
        Transform(
            f=sage_mean,
            interface=SAGE_POLICY,
            wrt="velocity",
            jvp=_mean_jvp,
            vjp=_mean_vjp,
            settings=NOISE,
            limits=(
                Limit("flow_grpo.flow_sde_mean", LEFT),
                Limit(
                    "flow_grpo.flow_sde_mean", {"eta": 1e-14}, {"noise_level": 1e-14}
                ),
            ),
            refused=REFUSED,
        ),
        Transform(
            f=sage_step,
            interface=SAGE_POLICY,
            wrt="velocity",
            jvp=_step_jvp,
            vjp=_step_vjp,
            settings=NOISE,
            limits=(
                Limit("flow_grpo.flow_sde_step", LEFT),
                Limit("sage_grpo.sage_mean", {}, where=no_noise),
            ),
            refused=REFUSED,
        ),
        Transform(
            f=cps_step,
            interface=SAGE_POLICY,
            wrt="velocity",
            jvp=_cps_jvp,
            vjp=_cps_vjp,
            settings={
                "default": {},
                "all noise is fresh": {"eta": 1.0},
                "probe": {"eta": 0.3},
            },
            limits=(
                Limit("flow_grpo.flow_sde_mean", {"eta": 0.0}, {"noise_level": 1e-14}),
            ),
            refused={
                "a step that is too short": {"u": 0.5, "next_u": 0.5},
            },
        ),
        Estimator(
            f=sage_log_prob,
            interface=SAGE_POLICY,
            settings=NOISE,
            brute_force=_each_log_prob,
            limits=(Limit("flow_grpo.step_log_prob", LEFT),),
            refused=REFUSED,
        ),
        Estimator(
            f=gradient_size,
            interface=SAGE_POLICY,
            settings=NOISE,
            brute_force=_each_size,
            refused=REFUSED,
        ),
        Estimator(
            f=equalizer,
            interface=SAGE_POLICY,
            settings=NOISE,
            brute_force=_over_the_median,
            refused=REFUSED,
        ),
        Estimator(
            f=kl_weights,
            example=lambda rng, size: {
                "divergence": 1e-3 * rng.exponential(float(rng.choice((0.5, 2))), size)
            },
            edges={
                "one below the target": lambda: {"divergence": xp.array([5e-4])},
                "always above": lambda: {"divergence": xp.full(20, 0.5)},
                "nothing": lambda: {"divergence": xp.zeros(3)},
            },
            settings={
                "default": {},
                "probe": {
                    "target": 6e-4,
                    "factor": 1.2,
                    "smallest": 2e-4,
                    "largest": 3e-4,
                },
            },
            brute_force=_one_by_one,
            refused={
                "bounds in the wrong order": {"smallest": 0.2, "largest": 0.1},
            },
        ),
    ),
)
