"""The tangent kernel: its limit, descent as iteration and as ridge regression's neighbour, the rule for stopping."""

import numpy as np
import pytest

from trref.diffusion.tangent_kernel import early_stop, empirical_kernel, kernel_descent, limit_kernel
from trref.diffusion.two_layer import network, squared_loss, zero_start


def _draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def _units(seed, M, P, D):
    return _draws(seed, M, P), np.random.default_rng(seed + 1).choice((-1.0, 1.0), (M, D))


def test_by_hand():
    """Inputs at right angles share a quarter of the half-planes, but their product is 0; at 60°, 1/2 · 1/3."""
    Z = np.array([[1.0, 0.0]])
    queries = np.array([[0.0, 3.0], [0.5, np.sqrt(3) / 2], [2.0, 0.0], [-1.0, 0.0]])
    assert limit_kernel(Z, queries).ravel() == pytest.approx([0, 0.5 / 3, 1.0, 0.0], abs=1e-15)


def test_the_diagonal_and_the_sign_of_the_spectrum():
    Z = _draws(0, 30, 4)
    kernel = limit_kernel(Z, Z)
    assert np.allclose(np.diag(kernel), (Z**2).sum(1) / 2, rtol=1e-14)
    assert np.allclose(kernel, kernel.T, rtol=0, atol=1e-14)
    assert np.linalg.eigvalsh(kernel).min() > -1e-12
    # distinct directions: definite, however near
    assert np.linalg.eigvalsh(limit_kernel(Z[:3], Z[:3])).min() > 1e-3


def test_the_limit_is_the_mean_over_units():
    """A quadrature over the angle of a Gaussian weight in the plane of two inputs."""
    Z, queries = _draws(1, 1, 2), _draws(2, 1, 2)
    angles = (np.arange(200_000) + 0.5) / 200_000 * 2 * np.pi
    W = np.stack([np.cos(angles), np.sin(angles)], 1)
    shared = ((W @ Z[0] > 0) & (W @ queries[0] > 0)).mean()
    assert limit_kernel(Z, queries)[0, 0] == pytest.approx(shared * float(Z[0] @ queries[0]), rel=1e-4)


def test_wide_networks_tend_to_it():
    """The deviation falls like the root of the width; other outputs decouple."""
    Z, queries = _draws(3, 5, 3), _draws(4, 4, 3)
    limit, off = limit_kernel(Z, queries), []
    for M in (100, 10_000):
        H = empirical_kernel(*_units(5, M, 3, 2), Z, queries)
        off.append(np.sqrt(((H - limit[:, :, None, None] * np.eye(2)) ** 2).mean()))
    assert off[1] < off[0] / 4 and off[1] < 0.05


def test_it_moves_the_outputs_of_a_network():
    """One small step: the change of the outputs at queries is -lr H R, to first order."""
    W, a = zero_start(*_units(6, 40, 3, 2))
    Z, queries, Y = _draws(8, 6, 3), _draws(9, 4, 3), _draws(10, 6, 2)
    H, rest = empirical_kernel(W, a, Z, queries), []
    for lr in (1e-4, 1e-5):
        _, gradient = squared_loss(W, a, Z, Y)
        moved = network(W - lr * gradient, a, queries) - network(W, a, queries)
        rest.append(abs(moved / lr - np.einsum("qnik,nk->qi", H, Y)).max())
    assert rest[1] < 1e-6, "no kink is crossed by so short a step"


def _problem(seed=0, N=12, Q=5):
    Z, queries = _draws(seed, N, 3), _draws(seed + 1, Q, 3)
    kernel = limit_kernel(Z, Z)
    return kernel, limit_kernel(Z, queries), _draws(seed + 2, N, 2), 1 / np.linalg.eigvalsh(kernel)[-1]


@pytest.mark.parametrize("steps", [0, 1, 2, 17, 400])
def test_descent_is_the_iteration(steps):
    kernel, query_kernel, Y, lr = _problem()
    c = np.zeros_like(Y)
    for _ in range(steps):
        c += lr * (Y - kernel @ c)
    ours = kernel_descent(kernel, query_kernel, Y, lr=lr, steps=steps)
    assert np.allclose(ours, query_kernel @ c, rtol=0, atol=1e-12)


def test_it_ends_at_interpolation():
    kernel, query_kernel, Y, lr = _problem(3)
    assert np.allclose(kernel_descent(kernel, kernel, Y, lr=lr, steps=10**9), Y, rtol=0, atol=1e-8)
    exact = query_kernel @ np.linalg.solve(kernel, Y)
    assert np.allclose(kernel_descent(kernel, query_kernel, Y, lr=lr, steps=10**9), exact, rtol=1e-6, atol=1e-6)


def test_it_is_linear_in_the_labels_and_monotone_on_the_data():
    kernel, query_kernel, Y, lr = _problem(6)
    one, two = (kernel_descent(kernel, query_kernel, y, lr=lr, steps=9) for y in (Y, 2 * Y + 1))
    three = kernel_descent(kernel, query_kernel, np.ones_like(Y), lr=lr, steps=9)
    assert np.allclose(two, 2 * one + three, rtol=0, atol=1e-13)
    left = [((kernel_descent(kernel, kernel, Y, lr=lr, steps=k) - Y) ** 2).sum() for k in (0, 1, 5, 30, 200)]
    assert (np.diff(left) < 0).all()


def test_ridge_regression_is_near_but_another():
    """A ridge of 1/(lr steps), by scikit-learn: similar shrinkage of each eigenvalue, between half and 1.3 times."""
    ridge = pytest.importorskip("sklearn.kernel_ridge")
    kernel, query_kernel, Y, lr = _problem(9, N=30)
    steps = 50
    fit = ridge.KernelRidge(kernel="precomputed", alpha=1 / (lr * steps)).fit(kernel, Y)
    ours = kernel_descent(kernel, query_kernel, Y, lr=lr, steps=steps)
    theirs = fit.predict(query_kernel)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95
    assert abs(ours - theirs).max() > 1e-3


@pytest.mark.parametrize("noise", [3.0, 0.3, 0.05])
def test_the_rule_by_its_definition(noise):
    values, lr = np.random.default_rng(1).exponential(0.3, 20), 0.2
    stop = float(early_stop(values, noise=noise, lr=lr))

    def holds(t):
        eta = lr * t
        return np.sqrt(np.minimum(values, 1 / eta).mean()) > 1 / (2 * np.e * noise * eta)

    assert holds(stop + 1) and (stop == 0 or not holds(stop))


def test_less_noise_stops_later():
    values = np.random.default_rng(2).exponential(0.3, 20)
    stops = [float(early_stop(values, noise=noise)) for noise in (1.0, 0.1, 0.01, 1e-6)]
    assert (np.diff(stops) > 0).all() and stops[-1] > 1e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernel_descent(2 * np.eye(2), np.eye(2), np.ones((2, 1)), lr=0.7), "lr must be at most one over"),
        (lambda: kernel_descent(-np.eye(2), np.eye(2), np.ones((2, 1)), lr=0.7), "kernel must be positive"),
        (lambda: kernel_descent(np.array([[1.0, 1.0], [0.0, 1.0]]), np.eye(2), np.ones((2, 1))), "be symmetric"),
        (lambda: early_stop(np.zeros(3)), "eigenvalues must not all be 0"),
        (lambda: early_stop(np.array([-1.0])), "eigenvalues must be non-negative"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
