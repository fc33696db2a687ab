import numpy as np


def lanczos_quadrature(matvec, v, f, *, steps=20):
    """Estimate v.f(A) v by the Gauss rule of the Lanczos recurrence."""
    Q, alpha, beta = [v / np.linalg.norm(v)], [], []
    for k in range(min(steps, len(v))):
        w = matvec(Q[-1])
        alpha.append(Q[-1] @ w)
        for _ in range(2):  # twice is enough
            for q in Q:
                w = w - (q @ w) * q
        size = np.linalg.norm(w)
        if k + 1 == min(steps, len(v)) or size <= 1e-10 * max(map(abs, alpha + beta), default=1):
            break
        beta.append(size)
        Q.append(w / size)
    T = np.diag(alpha) + np.diag(beta[: len(alpha) - 1], 1) + np.diag(beta[: len(alpha) - 1], -1)
    theta, S = np.linalg.eigh(T)
    return S[0] ** 2 @ f(theta)
