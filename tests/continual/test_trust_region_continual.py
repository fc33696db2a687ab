"""Penalties by hand, Fisher matrices, consolidation of two quadratics, and the agreement with meta-learning."""

import numpy as np
import pytest

from trref.continual.trust_region_continual import (
    fisher_diagonal,
    fisher_rank_one,
    meta_objective,
    objective,
    old_task_gradient,
    penalty,
    rank_one_penalty,
)
from trref.problems.convex import Quadratic
from trref.problems.samples import SoftmaxSamples


def _cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_penalties_by_hand():
    theta, anchors = np.array([1.0, 2.0]), np.array([[0.0, 0.0], [1.0, 1.0]])
    value, gradient = penalty(theta, anchors, np.array([[1.0, 2.0], [5.0, 3.0]]), weight=2.0)
    assert value == pytest.approx(1 + 8 + 3) and np.allclose(gradient, 2 * np.array([1.0, 4.0 + 3.0]), rtol=1e-9)
    u = np.array([[0.6, 0.8], [0.0, 1.0]])
    value, gradient = rank_one_penalty(theta, anchors, u, np.array([2.0, 1.0]), weight=2.0)
    assert value == pytest.approx(2 * 2.2**2 + 1) and np.allclose(gradient, 2 * (2 * 2.2 * u[0] + u[1]), rtol=1e-9)


def test_rank_one_is_the_nearest_for_its_direction():
    g = np.random.default_rng(0).standard_normal((30, 4)) + np.array([1.0, 0.5, 0.0, -2.0])
    F = g.T @ g / 30
    u, scale = fisher_rank_one(g)
    off = [np.linalg.norm(F - s * np.outer(u, u)) for s in (scale, 1.01 * scale, 0.99 * scale)]
    assert off[0] < min(off[1:]) and np.linalg.norm(u) == pytest.approx(1)
    assert fisher_rank_one(g, scale="trace").scale == pytest.approx(np.trace(F))
    assert np.allclose(fisher_diagonal(g), np.diag(F), rtol=1e-9)


def test_the_fisher_matrix_is_the_hessian_under_the_models_own_labels():
    """Every label of every row, weighed by the model's probability; with the data's labels it is not."""
    rng = np.random.default_rng(1)
    X, theta = rng.standard_normal((6, 2)), rng.standard_normal(6)
    p = np.exp(X @ theta.reshape(2, 3))
    p /= p.sum(1, keepdims=True)
    samples = SoftmaxSamples(np.repeat(X, 3, 0), np.tile(np.arange(3), 6), 3)
    weight = p.ravel()[:, None]
    g = samples.each(theta)[1]
    F = (weight * g).T @ g / 6
    H = np.stack([SoftmaxSamples(X, np.zeros(6, int), 3).hessian_product(theta, e) for e in np.eye(6)])
    assert np.allclose(F, H, atol=1e-14, rtol=1e-9)
    assert np.allclose(fisher_diagonal(np.sqrt(3 * weight) * g), np.diag(H), atol=1e-14, rtol=1e-9)
    data = SoftmaxSamples(X, np.zeros(6, int), 3).each(theta)[1]
    assert np.linalg.norm(data.T @ data / 6 - H) > 0.1


def test_consolidation_of_two_quadratics():
    """Minimiser (A + weight F)⁻¹ (A c + weight F anchor)."""
    A, c, F, anchor = np.diag([2.0, 1.0]), np.array([1.0, -1.0]), np.array([0.5, 4.0]), np.array([3.0, 2.0])
    new = Quadratic(A, A @ c)
    best = np.linalg.solve(A + 0.7 * np.diag(F), A @ c + 0.7 * F * anchor)
    _, gradient = objective(new, new, best, anchor[None], F[None], beta=0.0, weight=0.7)
    assert np.allclose(gradient, 0, atol=1e-14, rtol=1e-9)
    held = np.linalg.solve(A + 1e9 * np.diag(F), A @ c + 1e9 * F * anchor)
    assert np.allclose(held, anchor, atol=1e-7, rtol=1e-9)


def test_on_one_curved_direction_the_gradients_agree():
    rng = np.random.default_rng(2)
    u, star, theta = (rng.standard_normal(4) for _ in range(3))
    u /= np.linalg.norm(u)
    for rho, alpha in ((0.5, 0.3), (3.0, 0.9)):
        F = rho * np.outer(u, u)
        task = Quadratic(F, F @ star)
        meta = meta_objective(task, task, theta, inner_lr=alpha)[1]
        assert np.allclose(meta, (1 - alpha * rho) ** 2 * F @ (theta - star), atol=1e-12, rtol=1e-9)
        held = rank_one_penalty(theta, star[None], u[None], np.array([rho]), weight=1.5)[1]
        old = 0.8 * task(theta)[1] + held
        assert np.allclose(old, 2.3 * F @ (theta - star), atol=1e-12, rtol=1e-9) and _cosine(
            old, meta
        ) == pytest.approx(1)
        before = (np.eye(4) - alpha * F) @ task(theta)[1]
        assert _cosine(before, meta) == pytest.approx(np.sign(1 - alpha * rho)), "the cruder step may point back"


def test_with_another_hessian_they_differ():
    H = np.diag([1.0, 0.2, 3.0])
    task, theta = Quadratic(H, np.zeros(3)), np.array([1.0, 2.0, -1.0])
    meta = meta_objective(task, task, theta, inner_lr=0.2)[1]
    step = np.eye(3) - 0.2 * H
    assert np.allclose(meta, step @ H @ step @ theta, rtol=1e-9)
    old = old_task_gradient(task, theta, np.zeros(3), np.diag(H).copy(), weight=2.0)
    assert np.allclose(old, 3 * H @ theta, rtol=1e-9) and 0.5 < _cosine(old, meta) < 0.98


def test_parts_alone():
    task, theta = Quadratic(np.eye(2), np.ones(2)), np.array([2.0, 0.0])
    anchors, fishers = np.zeros((1, 2)), np.ones((1, 2))
    assert np.allclose(
        objective(task, task, theta, anchors, fishers, beta=0.0, weight=0.0)[1], task(theta)[1], rtol=1e-9
    )
    assert np.allclose(objective(task, task, theta, anchors, fishers, weight=0.0)[1], 2 * task(theta)[1], rtol=1e-9)


def test_bad_input():
    task = Quadratic(np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match="fishers must be non-negative"):
        penalty(np.ones(2), np.ones((1, 2)), -np.ones((1, 2)), weight=1.0)
    with pytest.raises(TypeError, match="train"):
        meta_objective(lambda t: task(t), task, np.ones(2), inner_lr=0.1)
