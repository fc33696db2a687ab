"""What is known of `trref.diffusion.adaptive_projected_guidance`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Transform
from trref.catalog.diffusion.interfaces import GUIDED
from trref.diffusion.adaptive_projected_guidance import (
    apg,
    apg_jvp,
    apg_prediction,
    apg_vjp,
    cfg,
    next_buffer,
    project,
)
from trref.diffusion.score_matching import convert_prediction

PROBE = {"scale": 4.0, "radius": 2.5, "momentum": -0.75, "parallel": 0.3}
NAMED = {
    "plain guidance": {"parallel": 1.0, "momentum": 0.0, "radius": 1e14},
    "the projection alone": {"momentum": 0.0, "radius": 1e14},
    "a small radius": {"radius": 0.5},
}


def _cfg_pushed(conditional, unconditional, tangent=None, cotangent=None, *, scale=7.5):
    """Linear, and the same for jvp and vjp."""
    return scale * (tangent if cotangent is None else cotangent)


# ---- the projection


def _update_example(rng, size):
    guided = GUIDED.example(rng, size)
    return {
        "update": guided["conditional"] - guided["unconditional"],
        "conditional": guided["conditional"],
    }


PROJECT_EDGES = {
    "along and across": lambda: {
        "update": xp.array([[3.0, 0.0], [0.0, -2.0], [1.0, 0.5]]),
        "conditional": xp.array([[-0.5, 0.0], [4.0, 0.0], [0.0, 7.0]]),
    },
    "a prediction of 0": lambda: {
        "update": xp.array([[1.0, 2.0, -1.0]]),
        "conditional": xp.zeros((1, 3)),
    },
    "a tiny prediction": lambda: {
        "update": xp.array([[1.0, 2.0], [3.0, -1.0]]),
        "conditional": 1e-30 * xp.array([[3.0, -4.0], [1.0, 1.0]]),
    },
    "one entry": lambda: {
        "update": xp.array([[2.0], [-3.0]]),
        "conditional": xp.array([[1.0], [0.25]]),
    },
}


def _not_orthogonal(result, update, conditional):
    sizes = xp.sqrt((update**2).sum(1)) * xp.sqrt((conditional**2).sum(1))
    return float(
        abs((result * conditional).sum(1) / xp.where(sizes > 0, sizes, 1)).max()
    )


# ---- other kinds of prediction


def by_rows(
    conditional,
    unconditional,
    x,
    buffer,
    *,
    given="noise",
    alpha=0.8,
    sigma=0.6,
    scale=7.5,
    radius=15.0,
    momentum=-0.5,
    parallel=0.0,
):
    """Brute force: entry by entry, with the data of each kind of prediction by its own formula."""
    to_data = {
        "data": lambda p, y: p,
        "noise": lambda p, y: (y - sigma * p) / alpha,
        "score": lambda p, y: (y + sigma * sigma * p) / alpha,
        "velocity": lambda p, y: (y - sigma * p) / (alpha + sigma),
    }[given]
    of_data = {
        "data": lambda d, y: d,
        "noise": lambda d, y: (y - alpha * d) / sigma,
        "score": lambda d, y: (alpha * d - y) / sigma**2,
        "velocity": lambda d, y: (y - (alpha + sigma) * d) / sigma,
    }[given]
    result = xp.zeros_like(x)
    for n, rows in enumerate(
        zip(
            conditional.tolist(),
            unconditional.tolist(),
            x.tolist(),
            buffer.tolist(),
            strict=True,
        )
    ):
        c, u, y, b = rows
        c, u = ([to_data(p, q) for p, q in zip(v, y, strict=True)] for v in (c, u))
        m = [p - q + momentum * r for p, q, r in zip(c, u, b, strict=True)]
        length = math.sqrt(sum(v * v for v in m))
        m = [v * radius / length if length > radius else v for v in m]
        cc = sum(p * p for p in c)
        share = sum(p * v for p, v in zip(c, m, strict=True)) / cc if cc else 0.0
        guided = [
            p + (scale - 1) * (v - (1 - parallel) * share * p)
            for p, v in zip(c, m, strict=True)
        ]
        result[n] = xp.array([of_data(d, q) for d, q in zip(guided, y, strict=True)])
    return result


def buffer_by_rows(conditional, unconditional, buffer, *, momentum=-0.5):
    """Brute force: entry by entry."""
    return xp.array(
        [
            [c - u + momentum * b for c, u, b in zip(*rows, strict=True)]
            for rows in zip(
                conditional.tolist(),
                unconditional.tolist(),
                buffer.tolist(),
                strict=True,
            )
        ]
    )


# ---- what public code computes instead


def _added_to_unconditional(
    conditional,
    unconditional,
    buffer,
    *,
    scale=7.5,
    radius=15.0,
    momentum=-0.5,
    parallel=0.0,
):
    how = {"radius": radius, "momentum": momentum, "parallel": parallel}
    update = apg(conditional, unconditional, buffer, scale=2.0, **how) - conditional
    return unconditional + scale * update


def _one_unit_too_strong(
    conditional,
    unconditional,
    buffer,
    *,
    scale=7.5,
    radius=15.0,
    momentum=-0.5,
    parallel=0.0,
):
    how = {"radius": radius, "momentum": momentum, "parallel": parallel}
    return apg(conditional, unconditional, buffer, scale=scale + 1, **how)


def _comfy(
    conditional,
    unconditional,
    buffer,
    *,
    scale=7.5,
    radius=15.0,
    momentum=-0.5,
    parallel=0.0,
):
    how = {"radius": radius, "momentum": max(momentum, 0.0), "parallel": parallel}
    return _one_unit_too_strong(conditional, unconditional, buffer, scale=scale, **how)


def _without_momentum(conditional, unconditional, buffer, *, momentum=-0.5):
    return next_buffer(conditional, unconditional, buffer, momentum=max(momentum, 0.0))


def _in_the_space_of_the_prediction(
    conditional,
    unconditional,
    x,
    buffer,
    *,
    given="noise",
    alpha=0.8,
    sigma=0.6,
    scale=7.5,
    radius=15.0,
    momentum=-0.5,
    parallel=0.0,
):
    there = {"given": "data", "wanted": given, "alpha": alpha, "sigma": sigma}
    # the momentum of the other space: the conversion is affine
    buffer = convert_prediction(buffer, 0 * x, **there)
    how = {"scale": scale, "radius": radius, "momentum": momentum, "parallel": parallel}
    return apg(conditional, unconditional, buffer, **how)


def _unconditional_plus(conditional, unconditional, *, scale=7.5):
    return conditional + scale * (conditional - unconditional)


METHOD = Method(
    key="sadat2024eliminating",
    provenance={
        "confirmed": ("cfg", "project", "momentum", "rescale", "guided"),
        "reconstructed": ("vjp",),
    },
    functions=(
        Transform(
            f=cfg,
            interface=GUIDED,
            wrt="conditional",
            jvp=_cfg_pushed,
            vjp=_cfg_pushed,
            settings={
                "default": {},
                "conditional": {"scale": 1.0},
                "unconditional": {"scale": 0.0},
                "probe": {"scale": 3.5},
            },
            deviations=(
                Deviation(
                    "the scale counted from the conditional model",
                    _unconditional_plus,
                    seen_in="Ho and Salimans 2022, and diffusers with use_original_formulation=True",
                    computes="the conditional prediction plus the scale times the gap: one unit of guidance more",
                    documented=True,
                ),
            ),
        ),
        Transform(
            f=project,
            example=_update_example,
            edges=PROJECT_EDGES,
            wrt="update",
            jvp=lambda update, conditional, *, tangent: project(tangent, conditional),
            vjp=lambda update, conditional, *, cotangent: project(
                cotangent, conditional
            ),
            idempotent=True,
            feasible=_not_orthogonal,
        ),
        Estimator(
            f=next_buffer,
            interface=GUIDED,
            settings={
                "default": {},
                "no momentum": {"momentum": 0.0},
                "probe": {"momentum": 0.4},
            },
            brute_force=buffer_by_rows,
            deviations=(
                Deviation(
                    "a negative momentum ignored",
                    _without_momentum,
                    seen_in="ComfyUI, comfy_extras/nodes_apg.py, in the version that tests for momentum > 0",
                    computes="the gap alone wherever the momentum is not positive",
                ),
            ),
        ),
        Transform(
            f=apg,
            interface=GUIDED,
            wrt="conditional",
            jvp=apg_jvp,
            vjp=apg_vjp,
            settings={
                "default": {},
                **NAMED,
                "no guidance": {"scale": 1.0},
                "probe": PROBE,
            },
            limits=(
                Limit("adaptive_projected_guidance.cfg", NAMED["plain guidance"]),
                Limit(
                    "adaptive_projected_guidance.cfg", {"scale": 1.0}, {"scale": 1.0}
                ),
            ),
            deviations=(
                Deviation(
                    "added to the unconditional prediction",
                    _added_to_unconditional,
                    seen_in="diffusers, guiders/adaptive_projected_guidance.py with its defaults",
                    computes="the unconditional prediction plus scale times the update",
                    documented=True,
                ),
                Deviation(
                    "one unit of guidance too strong",
                    _one_unit_too_strong,
                    seen_in="ComfyUI, comfy_extras/nodes_apg.py",
                    computes="the conditional prediction plus scale, not scale - 1, times the update",
                ),
                Deviation(
                    "one unit too strong, and a negative momentum ignored",
                    _comfy,
                    seen_in="ComfyUI, comfy_extras/nodes_apg.py, in the version that tests for momentum > 0",
                    computes="scale times the update, without momentum wherever that is not positive",
                ),
            ),
        ),
        Estimator(
            f=apg_prediction,
            interface=dataclasses.replace(GUIDED, name="guided predictions"),
            settings={
                "default": {},
                "velocity": {"given": "velocity", "alpha": 0.7, "sigma": 0.3},
                "score": {"given": "score"},
                "data": {"given": "data"},
                "probe": {"given": "velocity", "alpha": 0.35, "sigma": 0.9, **PROBE},
            },
            brute_force=by_rows,
            limits=(Limit("adaptive_projected_guidance.apg", {"given": "data"}),),
            deviations=(
                Deviation(
                    "projected in the space of the prediction",
                    _in_the_space_of_the_prediction,
                    seen_in="diffusers, guiders/adaptive_projected_guidance.py on models of noise",
                    computes="the same, with noise or velocity in the place of the data",
                ),
            ),
        ),
    ),
)
