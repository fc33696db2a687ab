"""What is known of `trref.optimization.steihaug`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Interface, Limit, Method, Solver
from trref.catalog.optimization.interfaces import (
    DECREASE,
    STEP_SETTINGS,
    SUBPROBLEM,
    convex,
    diagonal,
    sufficient_decrease,
)
from trref.krylov.terms import floats
from trref.optimization.steihaug import steihaug_toint
from trref.optimization.terms import Step, boundary_steps
from trref.problems.convex import DenseOperator, spd_matrix, spectrum


def _as_operator(subproblem):
    return {"g": subproblem["g"], "matvec": DenseOperator(subproblem["B"])}


EDGES = SUBPROBLEM.edges | {
    "back along negative curvature": lambda: {
        "g": xp.array([1.0, 1.0]),
        "B": xp.array([[1.0, 2.0], [2.0, -2.0]]),
    },
    "the better of both ends": lambda: {
        "g": xp.array([-0.25, -0.75]),
        "B": xp.array([[1.0, -3.0], [-3.0, 3.0]]),
    },
    "0.6 of the residual after one step": lambda: diagonal([1, 1], [10, 40]),
    "a dozen eigenvalues": lambda: diagonal([1] * 12, range(1, 13)),
}
OPERATOR = Interface(
    "operator_subproblem",
    example=lambda rng, size: _as_operator(SUBPROBLEM.example(rng, size)),
    edges={
        name: lambda make=make: _as_operator(make()) for name, make in EDGES.items()
    },
)
"""``f(g (N), matvec, *, radius, …)``: a symmetric model."""


def _matrix(inputs):
    return xp.stack([inputs["matvec"](e) for e in xp.eye(len(inputs["g"]))], 1)


def _sufficient_decrease(result, g, matvec, *, radius, rtol=None):
    return sufficient_decrease(
        result, g, _matrix({"g": g, "matvec": matvec}), radius=radius
    )


def _ill_conditioned():
    """Eigenvalues from 1 to 1e10: rounding keeps the residual above eps."""
    rng = np.random.default_rng(9)
    return _as_operator(
        {"g": rng.standard_normal(12), "B": spd_matrix(rng, spectrum(12, 1e10))}
    )


def _convex(inputs):
    """a convex model and a large radius"""
    g = inputs["g"]
    return {
        "g": g,
        "matvec": DenseOperator(convex({"g": g, "B": _matrix(inputs)})["B"]),
        "b": -g,
    }


def _positive_root(g, matvec, *, radius, rtol=None):
    z, r, d = xp.zeros_like(g), g, -g
    rr, rz, zz, zd, dd = float(g @ g), 0.0, 0.0, 0.0, float(g @ g)
    rtol = min(0.5, rr**0.25) if rtol is None else rtol
    start, values, status = math.sqrt(rr), [0.0], "interior"
    while math.sqrt(rr) > rtol * start and len(values) <= len(g):
        Bd = matvec(d)
        curvature, zz, zd, dd = floats(d @ Bd, z @ z, z @ d, d @ d)
        far = boundary_steps(zz, zd, dd, radius)[1]
        t = rr / curvature if curvature > 0 else far
        status = (
            "interior"
            if t < far
            else "boundary"
            if curvature > 0
            else "negative curvature"
        )
        t = min(t, far)
        values.append(values[-1] - t * rr + t * t * curvature / 2)
        z = z + t * d
        if status != "interior":
            break
        r = r + t * Bd
        rr, rz = float(r @ r), rr
        d = -r + rr / rz * d
    return Step(z, status, values, len(values) - 1, True)


POSITIVE_ROOT = Deviation(
    "forward to the boundary along negative curvature",
    _positive_root,
    seen_in="Steihaug's paper of 1983, and implementations that follow it",
    computes="the positive root alone where d·B d <= 0: the worse of the two ends in some 5 % of random problems",
    documented=True,
)


METHOD = Method(
    key="steihaug1983conjugate",
    provenance="confirmed",
    functions=(
        Solver(
            f=steihaug_toint,
            interface=OPERATOR,
            settings={
                **STEP_SETTINGS,
                "to the end": {"radius": 1e4, "rtol": 1e-8},
                "probe": {"radius": 3.7, "rtol": 1e-3},
            },
            certificate=_sufficient_decrease,
            tolerances=DECREASE,
            failures={
                "eigenvalues from 1 to 1e10": lambda: (
                    _ill_conditioned(),
                    {"radius": 1e14, "rtol": 0.0},
                )
            },
            agreement=1e-6,
            limits=(
                Limit(
                    to="cg.cg",
                    hyper={"radius": 1e6, "rtol": 1e-6},
                    to_hyper={"rtol": 1e-6},
                    where=_convex,
                ),
            ),
            deviations=(POSITIVE_ROOT,),
            refused={
                "a radius that is too short": {"radius": 1e-310},
            },
        ),
    ),
)
