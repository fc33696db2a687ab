"""What is known of `trref.optimization.trust_region_subproblem`."""

from trref.catalog import Limit, Method, Solver
from trref.catalog.optimization.interfaces import (
    EXACT_SETTINGS,
    SUBPROBLEM,
    TIGHT,
    convex,
    optimality,
)
from trref.optimization.trust_region_subproblem import eigen_step, pencil_step

REFUSED = {
    "a matrix that is not symmetric": {"B": lambda B: B + B[:1]},
    "a radius that is too short": {"radius": 1e-310},
}

METHOD = Method(
    key="adachi2017solving",
    provenance={
        "confirmed": ("newton", "secular", "hard", "pencil"),
        "partly": ("optimality",),
    },
    functions=(
        Solver(
            f=eigen_step,
            interface=SUBPROBLEM,
            settings=EXACT_SETTINGS,
            certificate=optimality,
            tolerances=TIGHT,
            direct=True,  # Newton's iteration rises until it rests at the root
            refused=REFUSED,
        ),
        Solver(
            f=pencil_step,
            interface=SUBPROBLEM,
            settings={"default": {"radius": 1.0}, "probe": {"radius": 0.7}},
            certificate=optimality,
            tolerances=dict.fromkeys(TIGHT, 1e-5),
            limits=(
                Limit(
                    to="trust_region_subproblem.eigen_step",
                    hyper={},
                    to_hyper={"radius": 1.0},
                    where=convex,
                ),
            ),
            direct=True,
            refused=REFUSED,
        ),
    ),
)
