"""The outer iteration: radius, ratio, convergence, and what it refuses."""

import dataclasses

import numpy as np
import pytest

from trref.optimization.trust_region_minimize import STEPS, trust_region_minimize, update_radius
from trref.problems.convex import Quadratic, Rosenbrock, logistic
from trref.problems.curvature import LogisticHessian, QuadraticHessian, RosenbrockHessian
from trref.validate import ConvergenceWarning

START = np.array([-1.2, 1.0])


@pytest.mark.parametrize(
    ("ratio", "at_boundary", "expected"),
    [
        (-1.0, True, 0.5),
        (0.2499, False, 0.5),
        (0.25, True, 2.0),
        (0.75, True, 2.0),
        (0.76, True, 4.0),
        (0.76, False, 2.0),
    ],
)
def test_update_of_the_radius(ratio, at_boundary, expected):
    assert update_radius(ratio, at_boundary, 2.0, max_radius=100.0) == expected


def test_largest_radius():
    assert update_radius(1.0, True, 80.0, max_radius=100.0) == 100.0


@pytest.mark.parametrize(
    ("loss", "hessian", "dims"),
    [
        (Rosenbrock(), RosenbrockHessian(), 5),
        (Quadratic(np.diag([1.0, 2.0]), np.ones(2)), QuadraticHessian(np.diag([1.0, 2.0])), 2),
    ],
)
def test_hessians_are_differences_of_gradients(loss, hessian, dims):
    x = np.random.default_rng(0).standard_normal(dims)
    columns = [(loss(x + 1e-5 * e)[1] - loss(x - 1e-5 * e)[1]) / 2e-5 for e in np.eye(dims)]
    assert np.allclose(hessian(x), columns, rtol=1e-7, atol=1e-5)


def test_hessian_of_the_logistic_loss():
    rng = np.random.default_rng(1)
    loss, x = logistic(rng, points=30, dims=4, l2=0.2), rng.standard_normal(4)
    columns = [(loss(x + 1e-5 * e)[1] - loss(x - 1e-5 * e)[1]) / 2e-5 for e in np.eye(4)]
    assert np.allclose(LogisticHessian(loss.X, loss.y, loss.l2)(x), columns, rtol=0, atol=1e-9)


@pytest.mark.parametrize("step", ["exact", "more_sorensen", "steihaug", "dogleg", "subspace"])
def test_rosenbrock(step):
    result = trust_region_minimize(Rosenbrock(), RosenbrockHessian(), START, step=step)
    assert result.converged and np.allclose(result.x, 1, rtol=0, atol=1e-6) and result.iterations < 60
    assert all(b <= a for a, b in zip(result.values, result.values[1:], strict=False))
    assert len(result.radii) == len(result.ratios) == result.iterations


def test_convergence_is_quadratic_at_the_end():
    norms = trust_region_minimize(Rosenbrock(), RosenbrockHessian(), START, gtol=1e-10).gradient_norms
    assert norms[-1] < 1e-10 and norms[-1] <= 10 * norms[-2] ** 2


def test_radius_and_steps_follow_the_ratios():
    result = trust_region_minimize(Rosenbrock(), RosenbrockHessian(), START, radius=2.0, accept_ratio=0.1)
    for ratio, before, after in zip(result.ratios, result.radii, result.radii[1:], strict=False):
        assert (after == before / 4) == (ratio < 0.25) and after in (before, before / 4, 2 * before)
    assert len(result.values) - 1 == sum(ratio > 0.1 for ratio in result.ratios)


def test_a_quadratic_is_solved_in_one_step_inside_the_radius():
    A = np.diag([1.0, 5.0])
    result = trust_region_minimize(Quadratic(A, np.ones(2)), QuadraticHessian(A), np.zeros(2), radius=2.0)
    assert result.iterations == 1 and result.ratios == pytest.approx([1.0])
    assert np.allclose(result.x, [1, 0.2], rtol=1e-9)


@dataclasses.dataclass(frozen=True)
class DoubleWell:
    """f = Σ (x² - 1)²/4, with a maximum at 0 and its Hessian."""

    second: bool = False

    def __call__(self, x):
        return np.diag(3 * x**2 - 1) if self.second else (((x**2 - 1) ** 2).sum() / 4, x**3 - x)


@pytest.mark.parametrize("step", ["exact", "more_sorensen", "steihaug"])
def test_leaves_a_saddle_along_negative_curvature(step):
    start = np.array([1e-3, 0.9, -1e-3])
    result = trust_region_minimize(DoubleWell(), DoubleWell(second=True), start, step=step)
    assert result.converged and np.allclose(abs(result.x), 1, rtol=0, atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Barrier:
    """f = x - log x, infinite at and beyond 0, with its Hessian."""

    second: bool = False

    def __call__(self, x):
        if x[0] <= 0:
            return np.float64(np.inf), np.array([np.nan])
        return np.array([[1 / x[0] ** 2]]) if self.second else (x[0] - np.log(x[0]), 1 - 1 / x)


def test_a_step_to_an_infinite_value_shrinks_the_radius():
    result = trust_region_minimize(Barrier(), Barrier(second=True), np.array([4.0]), radius=100.0)
    assert result.converged and result.x == pytest.approx([1.0]) and result.ratios[0] == -1.0
    assert result.radii[1] == 25.0


def test_a_start_that_is_not_finite():
    with pytest.raises(ValueError, match="loss_and_grad must be finite at x0"):
        trust_region_minimize(Barrier(), Barrier(second=True), np.array([-1.0]))


@dataclasses.dataclass(frozen=True)
class BrokenGradient:
    """f = x²/2 whose gradient is not a number below 1, with its Hessian."""

    second: bool = False

    def __call__(self, x):
        return np.eye(1) if self.second else (x[0] ** 2 / 2, np.where(x < 1, np.nan, x))


def test_a_gradient_that_is_not_finite_is_never_accepted():
    with pytest.warns(ConvergenceWarning):
        result = trust_region_minimize(BrokenGradient(), BrokenGradient(second=True), np.array([3.0]))
    assert np.isfinite(result.gradient_norms).all() and result.x[0] >= 1 and not result.converged


def test_cauchy_steps_crawl():
    with pytest.warns(ConvergenceWarning, match="trust_region_minimize stopped"):
        result = trust_region_minimize(Rosenbrock(), RosenbrockHessian(), START, step="cauchy", max_iter=300)
    assert not result.converged and result.iterations == 300


def test_a_target_below_rounding_warns_and_ends():
    loss = logistic(np.random.default_rng(2), points=30, dims=4, l2=0.1)
    with pytest.warns(ConvergenceWarning):
        result = trust_region_minimize(loss, LogisticHessian(loss.X, loss.y, loss.l2), np.zeros(4), gtol=1e-30)
    assert not result.converged and result.gradient_norms[-1] < 1e-12 and result.iterations < 100


def test_dogleg_with_an_indefinite_hessian():
    with pytest.raises(ValueError, match="B must be positive definite"):
        trust_region_minimize(DoubleWell(), DoubleWell(second=True), np.array([0.1]), step="dogleg")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"step": "newton"}, "step must be one of"),
        ({"accept_ratio": 0.25}, "accept_ratio must lie in"),
        ({"radius": 2.0, "max_radius": 1.0}, "max_radius must be at least radius"),
        ({"hessian": QuadraticHessian(np.eye(3))}, "hessian must give float64 arrays of shape"),
        ({"max_iter": 0}, "max_iter must lie in"),
    ],
)
def test_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        trust_region_minimize(**{"loss_and_grad": Rosenbrock(), "hessian": RosenbrockHessian(), "x0": START, **bad})


def test_the_table_of_steps():
    assert set(STEPS) == {"exact", "more_sorensen", "steihaug", "dogleg", "subspace", "cauchy"}
