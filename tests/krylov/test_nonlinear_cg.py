"""Theorems of nonlinear conjugate gradients."""

import itertools

import numpy as np
import pytest

from trref.krylov.cg_lanczos import cg_coefficients
from trref.krylov.nonlinear_cg import RULES, direction_parameter, nonlinear_cg
from trref.problems.convex import DenseOperator, Quadratic, Rosenbrock, logistic, spd_matrix, spectrum
from trref.validate import ConvergenceWarning


@pytest.mark.parametrize("rule", RULES)
def test_exact_line_search_on_a_quadratic_gives_linear_conjugate_gradients(rule):
    rng = np.random.default_rng(0)
    A, b = spd_matrix(rng, spectrum(8, 5.0)), rng.standard_normal(8)
    x, d = np.zeros(8), b
    for k in range(1, 7):
        g = A @ x - b
        x = x - (g @ d) / (d @ A @ d) * d
        assert np.allclose(x, cg_coefficients(DenseOperator(A), b, steps=k).x, rtol=1e-9)
        new = A @ x - b
        d = -new + direction_parameter(new, g, d, rule=rule) * d


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("FR", 5 / 2), ("PR", 4 / 2), ("PR+", 2), ("HS", 4 / 3), ("HS+", 4 / 3), ("DY", 5 / 3), ("HZ", -2)],
)
def test_by_hand(rule, expected):
    """g' = (2, 1), g = (1, -1), d = (1, 1): y = (1, 2), g'·g' = 5, g·g = 2, g'·y = 4, d·y = 3, y·y = 5, d·g' = 3.

    HZ: (4 - 2 · 3 · 5/3) / 3 = -2, above its floor -1/(√2 · 0.01).
    """
    value = direction_parameter(np.array([2.0, 1.0]), np.array([1.0, -1.0]), np.array([1.0, 1.0]), rule=rule)
    assert value == pytest.approx(expected, rel=1e-14)


def test_truncations():
    g, old, d = np.array([1.0, 0.0]), np.array([3.0, 0.0]), np.array([-1.0, 0.0])
    assert direction_parameter(g, old, d, rule="PR") < 0 == direction_parameter(g, old, d, rule="PR+")
    g, old, d = np.array([30.0, -1.0]), np.array([-1.0, 1.0]), np.array([1.0, 10.0])
    floor = -1 / (np.sqrt(101) * 0.01)
    y = g - old
    untruncated = (y - 2 * d * (y @ y) / (d @ y)) @ g / (d @ y)
    assert untruncated < floor and direction_parameter(g, old, d) == pytest.approx(floor)


def test_hager_zhang_descends_by_seven_eighths_for_every_line_search():
    """d·g <= -7/8 ‖g‖² for every pair of gradients and direction with d·y > 0, without the truncation."""
    rng = np.random.default_rng(1)
    tightest = -np.inf
    for _ in range(20000):
        n = int(rng.integers(1, 5))
        g, d, y = (rng.choice((0.1, 1.0, 10.0)) * rng.standard_normal(n) for _ in range(3))
        y = y if d @ y > 0 else -y
        beta = (y - 2 * d * (y @ y) / (d @ y)) @ g / (d @ y)
        truncated = beta < -1 / (np.linalg.norm(d) * min(0.01, np.linalg.norm(g - y)))
        if not truncated:
            assert float(direction_parameter(g, g - y, d)) == pytest.approx(beta, rel=1e-6, abs=1e-9)
        ratio = (-g + beta * d) @ g / (g @ g)
        tightest = max(tightest, ratio)
        assert ratio <= -7 / 8 + 1e-9
    assert tightest > -0.9  # the constant is sharp


@pytest.mark.parametrize("c2", [0.1, 0.4])
def test_fletcher_reeves_descends_within_its_bounds(c2):
    """With c2 < 1/2, -1/(1 - c2) <= d·g/‖g‖² <= (2 c2 - 1)/(1 - c2) at every step (Al-Baali)."""
    result = nonlinear_cg(Rosenbrock(), np.array([-1.2, 1.0, 0.5, -0.3]), rule="FR", c2=c2)
    ratios = np.array(result.slopes) / np.array(result.gradient_norms[: len(result.slopes)]) ** 2
    assert (ratios >= -1 / (1 - c2) - 1e-6).all() and (ratios <= (2 * c2 - 1) / (1 - c2) + 1e-6).all()


@pytest.mark.parametrize(("rule", "dims"), list(itertools.product(RULES, (2, 7))))
def test_rosenbrock(rule, dims):
    result = nonlinear_cg(Rosenbrock(), np.full(dims, 0.3), rule=rule)
    assert result.converged and np.allclose(result.x, 1, rtol=0, atol=1e-5)
    assert max(result.slopes) < 0
    assert all(b <= a for a, b in zip(result.values, result.values[1:], strict=False))
    assert len(result.values) == len(result.gradient_norms) == result.iterations + 1


def test_after_a_tiny_step_fletcher_reeves_keeps_its_direction_and_the_others_restart():
    """g' ≈ g and g' nearly orthogonal to d: beta is near 1 for FR, near 0 for PR+ and HS+."""
    g, d = np.array([1.0, 0.01]), np.array([-0.01, -100.0])
    new = g + 1e-3 * np.array([0.1, -0.5])
    assert direction_parameter(new, g, d, rule="FR") == pytest.approx(1, abs=1e-2)
    assert 0 <= direction_parameter(new, g, d, rule="PR+") < 1e-2
    assert 0 <= direction_parameter(new, g, d, rule="HS+") < 1e-2


def test_start_at_the_minimum():
    result = nonlinear_cg(Quadratic(np.eye(2), np.ones(2)), np.ones(2))
    assert result.converged and result.iterations == 0 and result.slopes == []


def test_too_few_iterations_warn():
    with pytest.warns(ConvergenceWarning, match="at most 3 iterations"):
        result = nonlinear_cg(Rosenbrock(), np.array([-1.2, 1.0]), max_iter=3)
    assert not result.converged and result.iterations == 3


def test_a_target_below_rounding_warns_and_ends():
    loss = logistic(np.random.default_rng(2), points=30, dims=4, l2=0.1)
    with pytest.warns(ConvergenceWarning):
        result = nonlinear_cg(loss, np.zeros(4), gtol=1e-30)
    assert not result.converged and result.gradient_norms[-1] < 1e-9


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rule": "BFGS"}, "rule must be one of"),
        ({"c2": 1e-6}, "c2 must be larger"),
        ({"gtol": 0.0}, "gtol must lie in"),
    ],
)
def test_bad_settings(bad, message):
    with pytest.raises(ValueError, match=message):
        nonlinear_cg(Rosenbrock(), np.zeros(2), **bad)


def test_values_that_are_not_finite():
    with pytest.raises(ValueError, match="loss_and_grad must give a finite value and a gradient of a norm of at most"):
        nonlinear_cg(Quadratic(np.eye(1), np.array([np.nan])), np.ones(1))


def test_a_slope_that_did_not_grow():
    for rule in ("HS", "HS+", "DY", "HZ"):
        with pytest.raises(ValueError, match="direction"):
            direction_parameter(np.array([1.0]), np.array([2.0]), np.array([1.0]), rule=rule)
    with pytest.raises(ValueError, match="previous_gradient must not be zero"):
        direction_parameter(np.ones(1), np.zeros(1), np.ones(1), rule="FR")
