"""What is known of `trref.krylov.minres`."""

from trref.catalog import Method, Solver
from trref.catalog.krylov.interfaces import (
    FAILURES,
    NO_SOLUTION,
    NOT_SYMMETRIC,
    SYMMETRIC_SOLVER,
    TOLERANCES,
    best_so_far,
    relative_residual,
)
from trref.krylov.minres import minres

METHOD = Method(
    key="paige1975solution",
    provenance="confirmed",
    functions=(
        Solver(
            f=minres,
            interface=SYMMETRIC_SOLVER,
            settings={"default": {}, "probe": {"rtol": 1e-5, "max_iter": 700}},
            certificate=relative_residual,
            tolerances=TOLERANCES,
            failures=FAILURES | NO_SOLUTION,
            refused=NOT_SYMMETRIC,
            remains=best_so_far,
            agreement=1e-2,
        ),
    ),
)
