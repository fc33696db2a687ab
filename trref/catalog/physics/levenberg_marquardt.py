"""What is known of `trref.physics.levenberg_marquardt`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Method, Solver
from trref.catalog.physics.equations import EQUATION, stationarity
from trref.physics.levenberg_marquardt import Weights, levenberg_marquardt


def _sizes(equation, basis, w, ridge):
    rows = xp.ones(len(equation.source))
    r, J, g = stationarity(equation, basis, w, rows, ridge)
    norm = math.sqrt(float((r * r).sum() + ridge**2 * (w * w).sum()))
    size = math.sqrt(float((J * J).sum() + ridge**2 * len(w)))
    return norm, size, math.sqrt(float((g * g).sum()))


def _certificate(result, equation, basis, w0, *, ridge=1e-4, rtol=1e-7, max_iter=100):
    """The gradient beside the start's norms, over what is allowed; the last norm."""
    norm, size, _ = _sizes(equation, basis, w0, ridge)
    end, _, gradient = _sizes(equation, basis, result.weights, ridge)
    last = result.norms[-1] if result.norms else end
    return {
        "gradient over rtol": gradient / max(rtol * norm * size, 1e-300),
        "norm": abs(last - end) / max(end, 1e-300),
        "rise": max(end / max(norm, 1e-300) - 1, 0.0),
        "count": abs(result.iterations - len(result.norms)),
    }


TOLERANCES = {"gradient over rtol": 1 + 1e-6, "norm": 1e-7, "rise": 1e-9, "count": 0}


def _remains(result, **inputs):
    """All but the size of the gradient."""
    figures = _certificate(result, **inputs)
    return {n: (v, TOLERANCES[n]) for n, v in figures.items() if "gradient" not in n}


def _identity(equation, basis, w0, *, ridge=1e-4, rtol=1e-7, max_iter=100):
    """A step less near the end, which takes off from there by the identity's damping."""
    w, mu, norms = w0, 1e-3, []
    norm, size, gradient = _sizes(equation, basis, w, ridge)
    small = 1e-4 * norm * size
    rows = xp.ones(len(equation.source))
    while gradient > small and len(norms) < max_iter:
        _, J, g = stationarity(equation, basis, w, rows, ridge)
        A = J.T @ J + (ridge**2 + mu) * xp.eye(len(w))
        moved = w - xp.linalg.solve(A, g)
        found, _, slope = _sizes(equation, basis, moved, ridge)
        if found < norm:
            w, norm, gradient, mu = moved, found, slope, mu / 5
        else:
            mu = mu * 4
        norms.append(norm)
    return Weights(w, norms, len(norms), gradient <= small)


METHOD = Method(
    key="chalapathi2024scaling",
    provenance={"confirmed": ("residual", "step"), "reconstructed": ("stop",)},
    functions=(
        Solver(
            f=levenberg_marquardt,
            interface=EQUATION,
            settings={
                "default": {},
                "probe": {"ridge": 0.3, "rtol": 1e-5, "max_iter": 60},
            },
            certificate=_certificate,
            tolerances=TOLERANCES,
            prescribed=False,
            failures={
                "one step": lambda: (
                    {
                        n: v
                        for n, v in EQUATION.edges["two experts"]().items()
                        if n in ("equation", "basis", "w0")
                    },
                    {"max_iter": 1, "rtol": 1e-12},
                )
            },
            remains=_remains,
            deviations=(
                Deviation(
                    "damping by the identity, ended at 1e-4",
                    _identity,
                    seen_in="ASK-Berkeley/physics-NNs-hard-constraints, models/constraints/hard_constraint.py",
                    computes="steps damped by a multiple of the identity, until the gradient is 1e-4",
                ),
            ),
            refused={
                "a large basis": {"basis": 1e5},
                "large weights": {"w0": 1e5},
            },
        ),
    ),
)
