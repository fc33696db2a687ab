"""What public code computes in the place of the papers' equations: small runnable variants."""

from trref.catalog import Deviation

__all__ = ["GMRES_LEFT"]


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
