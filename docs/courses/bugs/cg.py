import numpy as np


def cg(matvec, b, *, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
    """Solve A x = b by conjugate gradients."""
    x = np.zeros_like(b) if x0 is None or not b.any() else x0.copy()
    M = preconditioner or (lambda r: r)
    r = b - matvec(x)
    z = M(r)
    largest = 0.0
    p, norms, target = z.copy(), [float(np.linalg.norm(r))], rtol * float(np.linalg.norm(b))
    while norms[-1] > target and len(norms) <= (max_iter or 10 * len(b)):
        Ap, rz_before = matvec(p), r @ z
        largest = max(largest, p @ Ap / (p @ p))
        if p @ Ap / (p @ p) <= 1e-14 * largest:  # nothing but rounding is left
            break
        x = x + rz_before / (p @ Ap) * p
        r = r - rz_before / (p @ Ap) * Ap
        z = M(r)
        beta = (r @ r) / rz_before
        p = z + beta * p
        norms.append(float(np.linalg.norm(r)))
    return {"x": x, "residual_norms": norms, "iterations": len(norms) - 1, "converged": norms[-1] <= target}
