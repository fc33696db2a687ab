"""Head Hessians against whole matrices, Hutchinson's moments, identical domains, and the bound on the transfer."""

import itertools

import numpy as np
import pytest

from trref.domains.hessian_alignment import (
    alignment_objective,
    gradient_product,
    head_gradient,
    hessian_diagonal,
    hessian_product,
    hutchinson_diagonal,
    transfer_bound,
)
from trref.nn.losses import softmax_cross_entropy


def _head(seed=0, E=3, N=12, D=3, K=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((D, K)), rng.standard_normal((E, N, D)), rng.integers(0, K, (E, N))


def _matrix(theta, features, e=0):
    """A domain's Hessian, column by column."""
    columns = []
    for unit in np.eye(theta.size):
        V = np.zeros((len(features), *theta.shape)) + unit.reshape(theta.shape)
        columns.append(hessian_product(theta, features, V)[e].ravel())
    return np.stack(columns, 1)


def test_a_bias_alone_by_hand():
    """Two classes, z = 1, logits log 3 and 0: p = 3/4 and 1/4; p (1 - p) = 3/16."""
    theta, features = np.array([[np.log(3), 0.0]]), np.ones((1, 4, 1))
    labels = np.array([[0, 0, 1, 1]])
    assert np.allclose(head_gradient(theta, features, labels), [[[0.25, -0.25]]], rtol=1e-9)
    assert np.allclose(_matrix(theta, features), 3 / 16 * np.array([[1, -1], [-1, 1]]), rtol=1e-9)
    assert np.allclose(hessian_diagonal(theta, features), 3 / 16, rtol=1e-9)
    assert np.allclose(gradient_product(theta, features, labels), [[[3 / 32, -3 / 32]]], rtol=1e-9)


def test_derivatives_of_the_loss():
    theta, features, labels = _head()
    g = head_gradient(theta, features, labels)
    step, V = 1e-6, np.random.default_rng(1).standard_normal((3, 3))
    for e in range(3):
        loss = lambda W, e=e: softmax_cross_entropy(features[e] @ W, labels[e])[0]  # noqa: E731
        slope = (loss(theta + step * V) - loss(theta - step * V)) / (2 * step)
        assert slope == pytest.approx((g[e] * V).sum(), rel=1e-7)
    ends = [head_gradient(theta + s * V, features, labels) for s in (step, -step)]
    assert np.allclose(
        (ends[0] - ends[1]) / (2 * step), hessian_product(theta, features, np.stack([V] * 3)), atol=1e-8, rtol=1e-9
    )


def test_product_with_the_gradient_is_half_the_slope_of_its_square():
    theta, features, labels = _head(1)
    step, V = 1e-6, np.random.default_rng(2).standard_normal((3, 3))
    squares = [(head_gradient(theta + s * V, features, labels) ** 2).sum((1, 2)) for s in (step, -step)]
    slope = (squares[0] - squares[1]) / (2 * step)
    assert np.allclose((gradient_product(theta, features, labels) * V).sum((1, 2)), slope / 2, atol=1e-8, rtol=1e-9)


def test_over_all_signs_hutchinson_is_exact_and_has_that_variance():
    theta, features, _ = _head(2, D=2, K=2)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=4))).reshape(-1, 2, 2)
    each = np.stack([hutchinson_diagonal(theta, features, z[None]) for z in signs])
    assert np.allclose(each.mean(0), hessian_diagonal(theta, features), atol=1e-14, rtol=1e-9)
    H = _matrix(theta, features)
    expected = (H**2).sum(1) - np.diag(H) ** 2
    assert np.allclose(each[:, 0].var(0).ravel(), expected, atol=1e-14, rtol=1e-9)
    assert np.allclose(hutchinson_diagonal(theta, features, signs), each.mean(0), atol=1e-14, rtol=1e-9)


def test_without_weights_it_is_the_mean_loss():
    theta, features, labels = _head(3)
    value, gradient = alignment_objective(theta, features, labels, alpha=0.0, beta=0.0)
    rows, classes = features.reshape(-1, 3), labels.ravel()
    expected, slopes = softmax_cross_entropy(rows @ theta, classes)
    assert value == pytest.approx(float(expected), rel=1e-13)
    assert np.allclose(gradient.theta, rows.T @ slopes, atol=1e-14, rtol=1e-9)
    assert np.allclose(gradient.features, (slopes @ theta.T).reshape(features.shape), atol=1e-14, rtol=1e-9)


@pytest.mark.parametrize("kind", ["product", "diagonal"])
def test_identical_domains_are_aligned(kind):
    theta, features, labels = _head(4)
    same, alike = np.stack([features[0]] * 2), np.stack([labels[0]] * 2)
    plain = alignment_objective(theta, same, alike, alpha=0.0, beta=0.0)
    aligned = alignment_objective(theta, same, alike, alpha=3.0, beta=2.0, kind=kind)
    assert aligned[0] == plain[0]
    assert all(np.allclose(a, b, rtol=1e-13, atol=1e-15) for a, b in zip(aligned[1], plain[1], strict=True))


def test_penalties_are_variances():
    theta, features, labels = _head(5)
    base = alignment_objective(theta, features, labels, alpha=0.0, beta=0.0)[0]
    for kind, what in (
        ("product", gradient_product(theta, features, labels)),
        ("diagonal", hessian_diagonal(theta, features)),
    ):
        value = alignment_objective(theta, features, labels, alpha=2.0, beta=0.0, kind=kind)[0]
        assert value - base == pytest.approx(2 * what.var(0).sum(), rel=1e-10)
    value = alignment_objective(theta, features, labels, alpha=0.0, beta=3.0)[0]
    assert value - base == pytest.approx(3 * head_gradient(theta, features, labels).var(0).sum(), rel=1e-10)


def test_at_0_the_hessian_knows_second_moments_alone():
    _, features, _ = _head(6)
    J = np.eye(3) / 3 - np.ones((3, 3)) / 9
    second = features[1].T @ features[1] / len(features[1])
    assert np.allclose(_matrix(np.zeros((3, 3)), features, 1), np.kron(second, J), atol=1e-14, rtol=1e-9)


def test_a_constant_for_all_classes_changes_nothing():
    theta, features, labels = _head(7)
    shifted = theta + np.array([[0.3], [-2.0], [1.0]])
    for f in (head_gradient, gradient_product):
        assert np.allclose(f(shifted, features, labels), f(theta, features, labels), atol=1e-13, rtol=1e-9)
    assert np.allclose(hessian_diagonal(shifted, features), hessian_diagonal(theta, features), atol=1e-13, rtol=1e-9)


def _definite(rng, P):
    A = rng.standard_normal((P, P + 2))
    return A @ A.T / P


def test_the_bound_holds_and_is_met_in_one_dimension():
    rng = np.random.default_rng(8)
    for _ in range(100):
        told = transfer_bound(_definite(rng, 4), _definite(rng, 4), delta=0.3)
        assert told.quadratic <= told.bound * (1 + 1e-12)
    told = transfer_bound(np.array([[2.0]]), np.array([[5.0]]), delta=0.3)
    assert told.quadratic == pytest.approx(0.45) and told.bound == pytest.approx(0.45)


def test_what_quadratics_lose_more():
    """The largest of many points on the source's level set, from below."""
    rng = np.random.default_rng(9)
    S, target = _definite(rng, 2), _definite(rng, 2)
    angles = np.linspace(0, np.pi, 4001)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    points = np.sqrt(2 * 0.3) * np.linalg.inv(np.linalg.cholesky(S)).T @ circle
    more = 0.5 * np.einsum("in,ij,jn->n", points, target - S, points)
    assert max(more.max(), 0) == pytest.approx(float(transfer_bound(S, target, delta=0.3).quadratic), rel=1e-5)


def test_logistic_heads_near_their_minimiser():
    """The measure over delta nears the quadratic's as delta falls, and is not below it by more than that."""
    x = np.array([1.0, -0.5, 2.0, 0.3])
    y = 1 / (1 + np.exp(-x))  # soft labels: 1 is the minimiser in both domains
    shares = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1]])
    loss = lambda w, e: shares[e] @ (np.logaddexp(0, np.outer(x, w)) - y[:, None] * np.outer(x, w))  # noqa: E731
    H = [shares[e] @ (x**2 * y * (1 - y)) for e in (0, 1)]
    quadratic = float(transfer_bound(np.array([[H[0]]]), np.array([[H[1]]]), delta=1.0).quadratic)
    errors, w = [], np.linspace(-1.0, 4.0, 400001)
    rise = [loss(w, e) - loss(np.ones(1), e) for e in (0, 1)]
    for delta in (1e-2, 1e-4):
        inside = rise[0] <= delta
        errors.append(abs((rise[1] - rise[0])[inside].max() / delta - quadratic))
    assert errors[1] < 0.03 * quadratic and errors[1] < errors[0]


def test_bad_input():
    theta, features, labels = _head()
    with pytest.raises(ValueError, match="labels must be less than 3"):
        head_gradient(theta, features, labels + 1)
    with pytest.raises(ValueError, match="source must be positive definite"):
        transfer_bound(np.diag([1.0, -1.0]), np.eye(2), delta=0.1)
