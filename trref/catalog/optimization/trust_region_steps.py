"""What is known of `trref.optimization.trust_region_steps`."""

from trref.backend import xp
from trref.catalog import Interface, Limit, Method, Objective, Solver
from trref.catalog.optimization.interfaces import (
    DECREASE,
    STEP_SETTINGS,
    SUBPROBLEM,
    diagonal,
    sufficient_decrease,
)
from trref.optimization.trust_region_steps import (
    cauchy_point,
    dogleg,
    model_value,
    subspace_step,
)
from trref.problems.convex import spd_matrix, spectrum


def _convex_example(rng, size):
    B = spd_matrix(
        rng, rng.choice((0.05, 1.0, 30.0)) * spectrum(size, rng.choice((2.0, 30.0)))
    )
    return {"g": rng.choice((0.1, 1.0, 10.0)) * rng.standard_normal(size), "B": B}


CONVEX = Interface(
    "convex_subproblem",
    example=_convex_example,
    edges={
        "zero gradient": lambda: diagonal([0, 0], [1, 2]),
        "repeated eigenvalues": lambda: diagonal([1, 2, 3], [2, 2, 2]),
        "an eigenvector": lambda: diagonal([0, 3, 0], [1, 2, 3]),
        "full step ends exactly at the radius": lambda: diagonal([1.2, 1.6], [2, 2]),
        "one unknown": lambda: diagonal([0.5], [1.5]),
    },
)
"""``f(g (N), B (N N), *, radius, …)``: a positive definite model."""


def _model_example(rng, size):
    """With a matrix that is not symmetric."""
    example, skew = SUBPROBLEM.example(rng, size), rng.standard_normal((size, size))
    return {
        "g": example["g"],
        "B": example["B"] + skew - skew.T,
        "p": rng.standard_normal(size),
    }


def _with_step(make):
    return lambda: {**make(), "p": xp.ones(len(make()["g"]))}


def _in_the_plane(inputs):
    """two unknowns"""
    return {"g": inputs["g"][:2], "B": inputs["B"][:2, :2]}


NEWTON = Limit(
    to="trust_region_subproblem.eigen_step",
    hyper={"radius": 1e6},
    to_hyper={"radius": 1e6},
)
NOT_DEFINITE = {
    "an indefinite matrix": lambda: (diagonal([1, 2], [1, -2]), {"radius": 1.0}),
    "a direction of no curvature": lambda: (diagonal([1, 2], [1, 0]), {"radius": 1.0}),
    "a negative definite matrix": lambda: (diagonal([3, 1], [-1, -2]), {"radius": 0.1}),
}
STEP = dict(
    settings=STEP_SETTINGS,
    certificate=sufficient_decrease,
    tolerances=DECREASE,
    agreement=1e-6,
    direct=True,
)

METHOD = Method(
    key="conn2000trust",
    provenance={"confirmed": ("dogleg",), "partly": ("model", "cauchy", "subspace")},
    functions=(
        Objective(
            f=model_value,
            example=_model_example,
            edges={name: _with_step(make) for name, make in SUBPROBLEM.edges.items()},
            wrt="p",
        ),
        Solver(
            f=cauchy_point,
            interface=SUBPROBLEM,
            **STEP,
            refused={
                "a matrix that is not symmetric": {"B": lambda B: B + B[:1]},
                "a radius that is too short": {"radius": 1e-310},
            },
        ),
        Solver(
            f=dogleg,
            interface=CONVEX,
            refused=NOT_DEFINITE,
            **STEP,
            limits=(
                NEWTON,
                Limit(
                    to="trust_region_steps.cauchy_point",
                    hyper={"radius": 1e-4},
                    to_hyper={"radius": 1e-4},
                ),
            ),
        ),
        Solver(
            f=subspace_step,
            interface=CONVEX,
            refused=NOT_DEFINITE,
            **STEP,
            limits=(
                NEWTON,
                Limit(
                    to="trust_region_subproblem.eigen_step",
                    hyper={},
                    to_hyper={"radius": 1.0},
                    where=_in_the_plane,
                ),
            ),
        ),
    ),
)
