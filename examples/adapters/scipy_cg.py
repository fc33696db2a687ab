"""SciPy's conjugate gradients.

trref verify cg.cg examples/adapters/scipy_cg.py:solve

SciPy stops on a residual that it carries along; half the target leaves room for its drift.
"""

from scipy.sparse.linalg import LinearOperator, cg


def solve(matvec, b, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
    def operator(f):
        return LinearOperator((len(b), len(b)), matvec=f, dtype=b.dtype)

    M = None if preconditioner is None else operator(preconditioner)
    return cg(operator(matvec), b, x0=x0, M=M, rtol=rtol / 2, atol=0.0, maxiter=max_iter)[0]
