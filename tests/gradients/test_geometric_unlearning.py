"""Splits against null spaces, the best feasible step, the metric, the corrected effect, and the cone against SciPy."""

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.optimize import minimize, nnls

from trref.gradients.geometric_unlearning import (
    candidate,
    first_order_change,
    joint_step,
    metric_direction,
    normal_direction,
    safe_cone,
    split,
    whiten,
)
from trref.nn import mlp
from trref.problems.networks import random_classifier


def _case(seed=0, M=3, P=7):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(P), rng.standard_normal((M, P)), rng


def test_by_hand():
    parts = split(np.array([3.0, 1.0, 2.0]), np.array([[2.0, 0.0, 0.0], [1.0, 0.0, 1.0]]))
    assert np.allclose(parts.normal, [0, 1, 0], atol=1e-15, rtol=1e-9) and np.allclose(
        parts.tangential, [3, 0, 2], rtol=1e-14
    )
    assert np.allclose(first_order_change(np.array([1.0, 2.0]), np.array([[3.0, 0.5]])), [-4], rtol=1e-9)


def test_against_a_null_space():
    for seed in range(5):
        g, R, _ = _case(seed)
        N = null_space(R)
        parts = split(g, R)
        assert np.allclose(parts.normal, N @ (N.T @ g), atol=1e-13, rtol=1e-9)
        assert np.allclose(first_order_change(parts.normal, R), 0, atol=1e-13, rtol=1e-9)
        assert parts.normal @ parts.normal + parts.tangential @ parts.tangential == pytest.approx(g @ g)
    assert np.allclose(normal_direction(R.T @ np.array([1.0, -2.0, 0.5]), R), 0, atol=1e-13, rtol=1e-9)


def test_it_is_the_best_feasible_step():
    g, R, rng = _case(1)
    normal = normal_direction(g, R)
    best = np.linalg.norm(normal)
    for _ in range(200):
        d = normal_direction(rng.standard_normal(7), R)
        assert g @ d / np.linalg.norm(d) <= best + 1e-12
    start = normal_direction(rng.standard_normal(7), R)
    found = minimize(
        lambda d: g @ d,
        start / np.linalg.norm(start),
        jac=lambda d: g,
        constraints=[{"type": "eq", "fun": lambda d: R @ d}, {"type": "ineq", "fun": lambda d: 1 - d @ d}],
        method="SLSQP",
        tol=1e-12,
    )
    assert -found.fun == pytest.approx(best, rel=1e-6)


def test_a_real_step_changes_what_is_retained_to_second_order():
    rng = np.random.default_rng(2)
    loss = random_classifier(rng, points=30, hidden=6)
    theta = mlp.init(rng, loss.sizes)
    forget, retain = loss.on(slice(0, 10)), loss.on(slice(10, 30))
    g, r = -forget(theta)[1], retain(theta)[1]
    for direction, rate in ((normal_direction(g, r[None]), 4), (g, 2)):
        changes = [retain(theta - eta * direction)[0] - retain(theta)[0] for eta in (2e-3, 1e-3)]
        assert changes[0] / changes[1] == pytest.approx(rate, rel=0.03)


def test_the_metric_matters():
    g, R, rng = _case(3)
    h = np.exp(rng.uniform(-2, 2, 7))
    step = metric_direction(g, R, h) / h
    assert np.allclose(R @ step, 0, atol=1e-13, rtol=1e-9)
    assert abs(R @ (normal_direction(g, R) / h)).max() > 0.1
    assert np.allclose(metric_direction(g, R, np.full(7, 5.0)), normal_direction(g, R), atol=1e-13, rtol=1e-9)
    # of all steps with d·(h d) = 1 that no row sees, it descends most
    best = g @ step / np.sqrt(step @ (h * step))
    N = null_space(R)
    for _ in range(200):
        d = N @ rng.standard_normal(N.shape[1])
        assert g @ d / np.sqrt(d @ (h * d)) <= best + 1e-12
    assert np.allclose(whiten(R, h), R / np.sqrt(h), rtol=1e-15)


def test_the_effect_of_the_candidate_and_its_missing_term():
    """-z_r·z; without z_r·z_normal the prediction is right only where z_r lies in the span."""
    g, R, rng = _case(4)
    for z_r, inside in ((R.T @ rng.standard_normal(3), True), (rng.standard_normal(7), False)):
        z = candidate(g, R, z_r, kappa=1e6, gamma=0.8, beta=0.6)
        _, _, Q = np.linalg.svd(R, full_matrices=False)
        a, b = Q @ g, Q @ z_r
        short = -(0.8 * (a * b)[a * b > 0].sum() + 0.6 * (b @ b))
        missing = -0.8 * (z_r @ normal_direction(g, R))
        assert -(z_r @ z) == pytest.approx(short + missing, rel=1e-12)
        assert (abs(missing) < 1e-12) == inside
        if inside:
            assert -(z_r @ z) <= 0


def test_the_cap():
    g, R, _ = _case(5)
    kept = candidate(g, R, g, kappa=0.25) - normal_direction(g, R)
    assert np.linalg.norm(kept) == pytest.approx(0.25 * np.linalg.norm(normal_direction(g, R)), rel=1e-12)
    everything = candidate(g, R, g, kappa=1e6)
    assert np.allclose(everything, g, atol=1e-12, rtol=1e-9)


def test_the_joint_step():
    g, R, rng = _case(6)
    z_r = R.T @ rng.standard_normal(3)
    z = joint_step(g, R, z_r, rho=0.5, alpha=3.0, beta=2.0)
    assert -(z_r @ z) == pytest.approx(-0.5 * 2 * (z_r @ z_r), rel=1e-12)
    n = normal_direction(g, R)
    assert z @ z == pytest.approx(0.25 * (9 * (n @ n) + 4 * (z_r @ z_r)), rel=1e-12)


def test_the_rank_leaves_out_the_weakest():
    g = np.array([1.0, 1.0, 1.0])
    R = np.diag([5.0, 2.0, 0.01])[:, :3]
    assert np.allclose(normal_direction(g, R, rank=2), [0, 0, 1], rtol=1e-9)
    assert np.allclose(normal_direction(g, R, tol=0.1), [0, 0, 1], rtol=1e-9) and not normal_direction(g, R).any()


def test_the_cone_against_non_negative_least_squares():
    for seed in range(40):
        g, R, _ = _case(seed, M=4, P=5)
        weights, _ = nnls(R.T, -g)
        z = safe_cone(g, R, max_iter=20000).direction
        assert np.allclose(z, g + weights @ R, atol=1e-7, rtol=1e-9)
        assert (R @ z).min() >= -1e-8


def test_with_one_row_the_cone_is_a_one_sided_projection():
    g, r = np.array([-1.0, 2.0]), np.array([2.0, 0.0])
    assert np.allclose(safe_cone(g, r[None]).direction, [0, 2], rtol=1e-9)
    assert np.array_equal(safe_cone(-g, r[None]).direction, -g)


def test_bad_input():
    g, R, _ = _case()
    with pytest.raises(ValueError, match="curvature must be positive"):
        metric_direction(g, R, np.zeros(7))
    with pytest.raises(ValueError, match="rank"):
        split(g, R, rank=0)
