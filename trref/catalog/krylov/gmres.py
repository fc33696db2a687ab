"""What is known of `trref.krylov.gmres`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Solver
from trref.catalog.krylov.interfaces import (
    FAILURES,
    GENERAL_SOLVER,
    NO_SOLUTION,
    NOT_SYMMETRIC,
    TOLERANCES,
    best_so_far,
    relative_residual,
)
from trref.krylov.gmres import gmres
from trref.problems.convex import DenseOperator


def _left_preconditioned(
    matvec, b, *, x0=None, preconditioner=None, rtol=1e-8, max_iter=None, restart=None
):
    settings = {"x0": x0, "rtol": rtol, "max_iter": max_iter, "restart": restart}
    if preconditioner is None:
        return gmres(matvec, b, **settings)
    return gmres(lambda v: preconditioner(matvec(v)), preconditioner(b), **settings)


GMRES_LEFT = Deviation(
    "preconditioner on the left",
    _left_preconditioned,
    seen_in="scipy/sparse/linalg/_isolve/iterative.py (gmres)",
    computes="the smallest preconditioned residual ‖M⁻¹(b - Ax)‖ instead of the smallest ‖b - Ax‖",
    documented=True,
)


def _in_cycles(
    matvec, b, *, x0=None, preconditioner=None, rtol=1e-8, max_iter=None, restart=None
):
    restart = restart or len(b)
    return _left_preconditioned(
        matvec,
        b,
        x0=x0,
        preconditioner=preconditioner,
        rtol=rtol,
        max_iter=(max_iter or 10 * len(b)) * restart,
        restart=restart,
    )


GMRES_IN_CYCLES = Deviation(
    "preconditioner on the left, and max_iter counts restarts",
    _in_cycles,
    seen_in="scipy/sparse/linalg/_isolve/iterative.py (gmres with maxiter)",
    computes="as many cycles of `restart` steps as there should be steps, for the smallest preconditioned residual",
    documented=True,
)


SPOILED = "a product of another length", "products that are not finite"
THREE_STEPS = {"max_iter": 3, "rtol": 1e-14}


def _symmetric(inputs):
    """a symmetric matrix, after three steps"""
    A = xp.stack([inputs["matvec"](e) for e in xp.eye(len(inputs["b"]))], 1)
    return {**inputs, "matvec": DenseOperator((A + A.T) / 2), "preconditioner": None}


METHOD = Method(
    key="saad1986gmres",
    provenance="confirmed",
    functions=(
        Solver(
            f=gmres,
            interface=GENERAL_SOLVER,
            settings={
                "default": {},
                "restarted": {"restart": 3, "max_iter": 900},
                "probe": {"rtol": 1e-5, "max_iter": 700, "restart": 6},
            },
            certificate=relative_residual,
            tolerances=TOLERANCES,
            failures=FAILURES | NO_SOLUTION,
            refused={name: NOT_SYMMETRIC[name] for name in SPOILED},
            remains=best_so_far,
            agreement=1e-2,
            limits=(
                Limit("minres.minres", THREE_STEPS, THREE_STEPS, where=_symmetric),
            ),
            deviations=(GMRES_LEFT, GMRES_IN_CYCLES),
        ),
    ),
)
