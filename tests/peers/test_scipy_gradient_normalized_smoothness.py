"""Regularised steps and minima against SciPy: the trust-region step of the same length, and its minimisers."""

import numpy as np
import pytest
import scipy.linalg
from scipy.optimize import minimize

from trref.optimization.gradient_normalized_smoothness import gns_minimize, regularized_step
from trref.problems.residuals import Curvature, PowerResiduals, SampleMean
from trref.problems.samples import LogisticSamples

pytestmark = pytest.mark.peer


def test_steps():
    """By a Cholesky factorisation in the generalised norm, and as the best step of its own length."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        half, root = rng.standard_normal((2, 5, 5))
        g, H, B = rng.standard_normal(5), half @ half.T, root @ root.T + np.eye(5)
        gamma = 10 ** rng.uniform(-2, 2)
        damping = np.sqrt(g @ scipy.linalg.solve(B, g, assume_a="pos")) / gamma
        factor = scipy.linalg.cho_factor(H + damping * B)
        h = regularized_step(g, H, B, gamma=gamma)
        assert np.allclose(h, -scipy.linalg.cho_solve(factor, g), rtol=1e-8, atol=1e-12)
        model = lambda s, g=g, H=H: g @ s + s @ H @ s / 2  # noqa: E731
        length = h @ B @ h
        ball = {"type": "ineq", "fun": lambda s, B=B, length=length: length - s @ B @ s}
        best = minimize(model, 0.9 * h, constraints=[ball], method="SLSQP", options={"ftol": 1e-14, "maxiter": 500})
        assert model(h) <= best.fun + 1e-6 * abs(best.fun)


@pytest.mark.parametrize("kind", ["hessian", "fisher"])
def test_logistic_regression(kind):
    rng = np.random.default_rng(1)
    samples = LogisticSamples(rng.standard_normal((40, 4)), rng.choice([-1.0, 1.0], 40), 0.1)
    problem = SampleMean(samples)
    found = gns_minimize(problem, Curvature(problem, kind), 3 * rng.standard_normal(4), gtol=1e-9)
    best = minimize(problem, np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-10})
    # the Hessian is at least 0.1
    assert found.converged and np.linalg.norm(found.x - best.x) < 1e-7


def test_rosenbrock():
    problem = PowerResiduals()
    found = gns_minimize(problem, Curvature(problem), np.array([-1.2, 1.0, 0.3]), gtol=1e-9)
    best = minimize(problem, np.array([-1.2, 1.0, 0.3]), jac=True, hess=problem.hessian, method="trust-exact")
    assert found.converged and np.allclose(found.x, best.x, atol=1e-4)
