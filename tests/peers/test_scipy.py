"""Conjugate gradients against SciPy, iterate by iterate."""

import warnings

import numpy as np
import pytest
from scipy.sparse.linalg import cg as scipy_cg

from trref.krylov.cg import cg
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.validate import ConvergenceWarning

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("preconditioned", [False, True])
def test_same_iterates(preconditioned):
    rng = np.random.default_rng(0)
    A, b, x0 = spd_matrix(rng, spectrum(30, 100.0)), rng.standard_normal(30), rng.standard_normal(30)
    M = np.diag(1 / np.diag(A)) if preconditioned else None
    for k in (1, 2, 5, 12):
        theirs, _ = scipy_cg(A, b, x0=x0, rtol=1e-15, atol=0, maxiter=k, M=M)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            preconditioner = DenseOperator(M) if preconditioned else None
            ours = cg(DenseOperator(A), b, x0=x0, rtol=1e-15, max_iter=k, preconditioner=preconditioner)
        assert np.allclose(ours.x, theirs, rtol=1e-10)
