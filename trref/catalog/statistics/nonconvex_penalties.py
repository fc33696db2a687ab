"""What is known of `trref.statistics.nonconvex_penalties`."""

import itertools
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.statistics.nonconvex_penalties import (
    mcp,
    mcp_concave,
    prox_mcp,
    prox_scad,
    scad,
    scad_concave,
    soft,
)


def _coefficients(rng, size):
    b = rng.choice((0.3, 3.0), size) * rng.standard_normal(size)
    return {"b": b, "z": b}


def _edge(*entries):
    return lambda: {"b": xp.array(entries), "z": xp.array(entries)}


COEFFICIENTS = Interface(
    "coefficients",
    example=_coefficients,
    edges={
        "zeros": _edge(0.0, 0.0),
        "on the bounds": _edge(-1.0, 2.0, -3.7, 1.5, 0.5),
        "far out": _edge(50.0, -7.5, 4.1),
        "one": _edge(2.25),
    },
)


def _area(slope, kinks, size):
    """The integral of a slope that is linear between its kinks, by trapezoids."""
    points = sorted({0.0, size, *(k for k in kinks if k < size)})
    return math.fsum(
        (v - u) * (slope(u) + slope(v)) / 2 for u, v in itertools.pairwise(points)
    )


def _scad_area(b, *, penalty_weight=1.0, a=3.7):
    w = penalty_weight
    slope = lambda u: w * min(1.0, max(0.0, a * w - u) / ((a - 1) * w))  # noqa: E731
    return xp.array([_area(slope, (w, a * w), abs(x)) for x in b.tolist()])


def _mcp_area(b, *, penalty_weight=1.0, gamma=2.0):
    w = penalty_weight
    slope = lambda u: max(0.0, w - u / gamma)  # noqa: E731
    return xp.array([_area(slope, (gamma * w,), abs(x)) for x in b.tolist()])


def _into(low, u, high):
    return min(max(u, low), high)


def _prox(z, t, pieces):
    """The least value over each piece c + s u + k u²/2 of the penalty on [low, high], for sizes of z."""
    result = []
    for x in z.tolist():
        size, found = abs(x), []
        for low, high, constant, slope, bend in pieces:
            u = _into(low, (size - t * slope) / (1 + t * bend), high)
            p = constant + slope * u + bend * u * u / 2
            found.append(((u - size) ** 2 / 2 + t * p, u))
        result.append(math.copysign(min(found)[1], x))
    return xp.array(result)


def _scad_pieces(w, a):
    level = w * w * (a + 1) / 2
    middle = (-w * w / (2 * (a - 1)), a * w / (a - 1), -1 / (a - 1))
    return [
        (0, w, 0, w, 0),
        (w, a * w, *middle),
        (a * w, math.inf, level, 0, 0),
    ]


def _least_scad(z, *, lr=1.0, penalty_weight=1.0, a=3.7):
    return _prox(z, lr, _scad_pieces(penalty_weight, a))


def _least_mcp(z, *, lr=1.0, penalty_weight=1.0, gamma=2.0):
    w, end = penalty_weight, gamma * penalty_weight
    level = gamma * w * w / 2
    pieces = [(0, end, 0, w, -1 / gamma), (end, math.inf, level, 0, 0)]
    return _prox(z, lr, pieces)


def _least_l1(z, *, threshold=1.0):
    return _prox(z, threshold, [(0, math.inf, 0, 1, 0)])


def _ramp_up(b, *, penalty_weight=1.0, a=3.7):
    value, slope = scad_concave(b, penalty_weight=penalty_weight, a=a)
    return value, xp.where(abs(b) <= a * penalty_weight, -slope, slope)


def _upside_down(b, *, penalty_weight=1.0, gamma=2.0):
    value, slope = mcp_concave(b, penalty_weight=penalty_weight, gamma=gamma)
    return value, -slope


TREE = "Kaiyangshi-Ito/nonconvexAG nonconvexAG/src/nonconvexAG/penalties"
SCAD = {"default": {}, "probe": {"penalty_weight": 0.8, "a": 3.1}}
MCP = {"default": {}, "probe": {"penalty_weight": 0.8, "gamma": 1.7}}

METHOD = Method(
    key="yang2025contributions",
    provenance={
        "confirmed": (
            "scad",
            "mcp",
            "scad-slope",
            "mcp-slope",
            "concave",
            "soft",
        ),
        "reconstructed": ("prox-scad", "prox-mcp"),
    },
    functions=(
        Estimator(
            f=scad, interface=COEFFICIENTS, settings=SCAD, brute_force=_scad_area
        ),
        Estimator(f=mcp, interface=COEFFICIENTS, settings=MCP, brute_force=_mcp_area),
        Objective(
            f=scad_concave,
            interface=COEFFICIENTS,
            wrt="b",
            settings=SCAD,
            deviations=(
                Deviation(
                    "the ramp with the other sign",
                    _ramp_up,
                    seen_in=f"{TREE}/scad.py, SCAD_concave_grad",
                    computes="+(|b| - λ)/(a - 1) sgn b in the middle, -λ sgn b beyond: a derivative with a jump",
                ),
            ),
        ),
        Objective(
            f=mcp_concave,
            interface=COEFFICIENTS,
            wrt="b",
            settings=MCP,
            deviations=(
                Deviation(
                    "the derivative with the other sign",
                    _upside_down,
                    seen_in=f"{TREE}/mcp.py, MCP_concave_grad",
                    computes="the derivative of -q: the penalty's slope grows where it should fall",
                ),
            ),
        ),
        Estimator(
            f=soft,
            interface=COEFFICIENTS,
            settings={
                "default": {},
                "none": {"threshold": 0.0},
                "probe": {"threshold": 0.7},
            },
            brute_force=_least_l1,
        ),
        Estimator(
            f=prox_scad,
            interface=COEFFICIENTS,
            settings={
                "default": {},
                "probe": {"lr": 0.6, "penalty_weight": 0.8, "a": 3.1},
            },
            limits=(
                Limit(
                    "nonconvex_penalties.soft",
                    {"lr": 0.5, "penalty_weight": 0.8, "a": 1e14},
                    {"threshold": 0.4},
                ),
            ),
            refused={
                "a long step": lambda: (
                    {"z": xp.array([1.0])},
                    {"lr": 2.7, "a": 3.7},
                )
            },
            brute_force=_least_scad,
        ),
        Estimator(
            f=prox_mcp,
            interface=COEFFICIENTS,
            settings={
                "default": {},
                "probe": {"lr": 0.6, "penalty_weight": 0.8, "gamma": 1.7},
            },
            limits=(
                Limit(
                    "nonconvex_penalties.soft",
                    {"lr": 0.5, "penalty_weight": 0.8, "gamma": 1e14},
                    {"threshold": 0.4},
                ),
            ),
            refused={"a long step": lambda: ({"z": xp.array([1.0])}, {"lr": 2.0})},
            brute_force=_least_mcp,
        ),
    ),
)
