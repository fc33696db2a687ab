import numpy as np


def tridiagonal_from_cg(alpha, beta):
    """The tridiagonal matrix of the Lanczos recurrence, from the coefficients of conjugate gradients."""
    T = np.zeros((len(alpha), len(alpha)), alpha.dtype)
    for j in range(len(alpha)):
        T[j, j] = 1 / alpha[j] + (beta[j] / alpha[j] if j else 0)
        if j:
            T[j, j - 1] = T[j - 1, j] = np.sqrt(beta[j - 1]) / alpha[j - 1]
    return T
