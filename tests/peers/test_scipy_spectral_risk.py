"""The worst weights against SciPy's isotonic regression, and as the projection that they are."""

import itertools

import numpy as np
import pytest
from scipy.optimize import isotonic_regression, linprog

from trref.optimization.spectral_risk import max_oracle, smooth_risk, spectral_risk

pytestmark = pytest.mark.peer


def _task(seed, n=25):
    rng = np.random.default_rng(seed)
    return rng.choice([0.1, 1.0, 10.0]) * rng.standard_normal(n), np.sort(rng.dirichlet(np.ones(n)))


@pytest.mark.parametrize("cost", [0.01, 0.2, 3.0])
def test_isotonic_regression(cost):
    for seed in range(20):
        losses, spectrum = _task(seed)
        order = np.argsort(losses)
        v = losses[order] / (25 * cost) + 1 / 25
        expected = np.empty(25)
        expected[order] = v - isotonic_regression(v - spectrum).x
        assert np.allclose(max_oracle(losses, spectrum, shift_cost=cost), expected, rtol=0, atol=1e-11)


def test_the_worst_order_by_a_linear_program():
    """Doubly stochastic matrices times the spectrum are the hull of its orders."""
    losses, spectrum = _task(3, n=7)
    rows, columns = np.kron(np.eye(7), np.ones(7)), np.kron(np.ones(7), np.eye(7))
    found = linprog(-np.outer(losses, spectrum).ravel(), A_eq=np.r_[rows, columns], b_eq=np.ones(14))
    assert spectral_risk(losses, spectrum)[0] == pytest.approx(-found.fun)


def test_gradient_by_torch():
    """Autograd through isotonic regression: on each block the mean, so the weights are linear in the losses."""
    torch = pytest.importorskip("torch")
    losses, spectrum = _task(5)
    order = np.argsort(losses)
    v = losses[order] / (25 * 0.3) + 1 / 25
    blocks = isotonic_regression(v - spectrum).blocks
    x = torch.tensor(losses, requires_grad=True)
    scaled, weights = x[order] / (25 * 0.3) + 1 / 25, torch.tensor(spectrum)
    parts = []
    for start, end in itertools.pairwise(blocks):
        block = scaled[start:end]
        parts.append(block - (block - weights[start:end]).mean())
    q = torch.cat(parts)
    value = q @ x[order] - 0.3 * 25 / 2 * ((q - 1 / 25) ** 2).sum()
    value.backward()
    ours, gradient = smooth_risk(losses, spectrum, shift_cost=0.3)
    assert ours == pytest.approx(float(value.detach()), rel=1e-12)
    assert np.allclose(gradient, x.grad.numpy(), rtol=0, atol=1e-12)
