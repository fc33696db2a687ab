"""What is known of `trref.physics.hard_constraint_moe`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective, Solver
from trref.catalog.physics.equations import EQUATION, stationarity
from trref.physics.hard_constraint_moe import mixture, mixture_loss, partition


def _partition(coordinate, *, experts=4):
    low, high = min(coordinate.tolist()), max(coordinate.tolist())
    width = (high - low) or 1.0
    return xp.array(
        [
            min(math.floor(experts * ((x - low) / width)), experts - 1)
            for x in coordinate.tolist()
        ]
    )


def _certificate(
    result, equation, basis, w0, owner, rows, *, ridge=1e-4, rtol=1e-7, **_
):
    """Each expert's gradient beside the start's norms, over what is allowed; values and norms again."""
    worst, norm_off, u = 0.0, 0.0, xp.zeros(len(owner))
    length = lambda a: math.sqrt(float((a * a).sum()))  # noqa: E731
    for k, (w, own) in enumerate(zip(result.weights, rows, strict=True)):
        r, J, _ = stationarity(equation, basis, w0, own, ridge)
        norm = math.hypot(length(r), ridge * length(w0))
        size = math.hypot(length(J), ridge * math.sqrt(len(w0)))
        r, _, g = stationarity(equation, basis, w, own, ridge)
        worst = max(worst, length(g) / max(rtol * norm * size, 1e-300))
        end = math.hypot(length(r), ridge * length(w))
        last = result.norms[k] if k < len(result.norms) else math.inf
        norm_off = max(norm_off, abs(last - end) / max(end, 1e-300))
        u = xp.where(owner == k, basis @ w, u)
    return {
        "gradient over rtol": worst,
        "norms": norm_off,
        "values": float(abs(result.u - u).max()) / max(float(abs(u).max()), 1e-300),
    }


TOLERANCES = {"gradient over rtol": 1 + 1e-6, "norms": 1e-7, "values": 1e-9}


def _remains(result, **inputs):
    """All but the size of the gradients."""
    figures = _certificate(result, **inputs)
    return {n: (v, TOLERANCES[n]) for n, v in figures.items() if "gradient" not in n}


def _one_expert(inputs):
    """one expert sees all that the single solve sees"""
    one = {n: inputs[n] for n in ("equation", "basis", "w0")}
    rows = inputs["rows"][:1]
    owner = 0 * inputs["owner"]
    return {**one, "owner": owner, "rows": rows}, {**one, "rows": rows[0]}


REFUSED = {
    "a large basis": {"basis": 1e5},
    "large weights": {"w0": 1e5},
    "an expert that there is not": {"owner": 99},
}


METHOD = Method(
    key="chalapathi2024scaling",
    provenance={
        "confirmed": ("partition", "solution"),
        "reconstructed": ("gradient",),
    },
    functions=(
        Estimator(
            f=partition,
            brute_force=_partition,
            example=lambda rng, size: {"coordinate": rng.uniform(-1, 2, size)},
            edges={
                "equal coordinates": lambda: {"coordinate": xp.ones(3)},
                "a grid": lambda: {"coordinate": xp.array([0.0, 0.3, 0.6, 0.9, 1.0])},
            },
            settings={"default": {}, "probe": {"experts": 3}},
        ),
        Solver(
            f=mixture,
            interface=EQUATION,
            settings={
                "default": {},
                "probe": {"ridge": 0.3, "rtol": 1e-5, "max_iter": 60},
            },
            sizes=(4, 8, 32),
            certificate=_certificate,
            tolerances=TOLERANCES,
            prescribed=False,
            failures={
                "one step": lambda: (
                    {
                        n: v
                        for n, v in EQUATION.edges["two experts"]().items()
                        if n in ("equation", "basis", "w0", "owner", "rows")
                    },
                    {"max_iter": 1, "rtol": 1e-12},
                )
            },
            remains=_remains,
            refused=REFUSED,
        ),
        Objective(
            f=mixture_loss,
            interface=EQUATION,
            wrt="basis",
            settings={
                "default": {"ridge": 0.01},
                "probe": {"ridge": 0.3, "steps": 12, "polish": 5},
            },
            tolerance=1e-12,
            sizes=(4, 7),
            seeds=(0,),
            limits=(
                Limit(
                    "implicit_layer.constrained_loss",
                    {"ridge": 0.01},
                    {"ridge": 0.01},
                    where=_one_expert,
                ),
            ),
            refused=REFUSED,
        ),
    ),
)
