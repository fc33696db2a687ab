"""What public code computes in the place of the papers' equations: small runnable variants."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.krylov.interfaces import KrylovResult

__all__ = ["CG_TEN_STEPS", "GMRES_LEFT"]


def _ten_steps(matvec, b, *, x0=None, preconditioner=None):
    x, r = xp.zeros_like(b), b.copy()
    p, rr = r.copy(), float(b @ b)
    for _ in range(10):
        Ap = matvec(p)
        alpha = rr / (float(p @ Ap) + 1e-8)
        x, r = x + alpha * p, r - alpha * Ap
        rr, previous = float(r @ r), rr
        if rr == 0 or previous == 0:
            break
        p = r + rr / previous * p
    return KrylovResult(x, [rr**0.5], 10, True)


CG_TEN_STEPS = Deviation(
    "ten steps, and 1e-8 in the denominator",
    _ten_steps,
    seen_in="OpenAI Spinning Up, algos/tf1/trpo/trpo.py (cg_iters = 10, EPS = 1e-8)",
    computes="a fixed number of steps from 0 without a test of the residual, each a little too short",
    documented=True,
)


def _left_preconditioned(matvec, b, *, x0=None, preconditioner=None, rtol=1e-8, max_iter=None, restart=None):
    from trref.krylov.gmres import gmres

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
