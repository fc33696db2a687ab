"""The line search keeps its conditions, wherever it starts."""

import dataclasses
import math

import numpy as np
import pytest

from trref.krylov.line_search import strong_wolfe
from trref.problems.convex import Quadratic, Rosenbrock, logistic, spd_matrix, spectrum
from trref.validate import ConvergenceWarning


def _holds(loss, x, direction, result, c1, c2):
    slope = loss(x)[1] @ direction
    value, gradient = loss(x + result.step * direction)
    decreases = value <= loss(x)[0] + c1 * result.step * slope + 1e-12 * abs(loss(x)[0])
    return result.converged and decreases and abs(gradient @ direction) <= c2 * abs(slope) * (1 + 1e-12)


@pytest.mark.parametrize("first_step", [1e-8, 1e-3, 1.0, 1e3, 1e8])
@pytest.mark.parametrize("c2", [0.01, 0.1, 0.9])
def test_conditions_hold_from_any_first_step(first_step, c2):
    rng = np.random.default_rng(0)
    for loss in (
        Rosenbrock(),
        logistic(rng, points=30, dims=5, l2=0.1),
        Quadratic(spd_matrix(rng, spectrum(5, 100.0)), rng.standard_normal(5)),
    ):
        for _ in range(5):
            x = rng.standard_normal(5)
            direction = -loss(x)[1] + 0.1 * rng.standard_normal(5)
            if loss(x)[1] @ direction < 0:
                result = strong_wolfe(loss, x, direction, first_step=first_step, c2=c2, max_iter=80)
                assert _holds(loss, x, direction, result, 1e-4, c2)
                assert np.array_equal(result.x, x + result.step * direction)
                assert result.value == loss(result.x)[0] and np.array_equal(result.gradient, loss(result.x)[1])


def test_the_curvature_condition_makes_the_slope_grow():
    """d·y >= (1 - c2) |d·g| > 0, which quasi-Newton and conjugate gradient methods need."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        x = rng.standard_normal(6)
        g = Rosenbrock()(x)[1]
        result = strong_wolfe(Rosenbrock(), x, -g, c2=0.3)
        assert -g @ (result.gradient - g) >= 0.7 * (g @ g) * (1 - 1e-12)


def test_cubic_interpolation_is_exact_on_a_cubic_interval():
    """On a quadratic the second trial is the exact minimiser: two trials end the tightest search."""
    rng = np.random.default_rng(2)
    A, b, x = spd_matrix(rng, spectrum(4, 10.0)), rng.standard_normal(4), rng.standard_normal(4)
    loss = Quadratic(A, b)
    g = loss(x)[1]
    exact = (g @ g) / (g @ A @ g)
    result = strong_wolfe(loss, x, -g, first_step=3 * exact, c2=1e-3)
    assert result.iterations == 2 and result.step == pytest.approx(exact, rel=1e-12)


@dataclasses.dataclass(frozen=True)
class OneDimensional:
    """f(t) and f'(t) of one variable."""

    name: str

    def __call__(self, x):
        t = float(x[0])
        if self.name == "more and thuente 1":
            value, slope = -t / (t**2 + 2), (t**2 - 2) / (t**2 + 2) ** 2
        elif self.name == "more and thuente 2":
            value, slope = (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4, 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3
        else:
            value, slope = -t, -1.0
        return np.float64(value), np.array([slope])


@pytest.mark.parametrize(("name", "minimiser"), [("more and thuente 1", math.sqrt(2)), ("more and thuente 2", 1.596)])
@pytest.mark.parametrize("first_step", [1e-3, 0.1, 10.0, 1e3])
def test_hard_functions_of_one_variable(name, minimiser, first_step):
    result = strong_wolfe(OneDimensional(name), np.zeros(1), np.ones(1), first_step=first_step, c1=1e-3, c2=0.1)
    assert result.converged
    if name.endswith("2"):  # only near the minimiser is the slope small enough
        assert result.step == pytest.approx(minimiser, abs=0.05)


def test_unbounded_below_warns():
    with pytest.warns(ConvergenceWarning, match="strong_wolfe found no step within 12 trials"):
        result = strong_wolfe(OneDimensional("linear"), np.zeros(1), np.ones(1), max_iter=12)
    assert not result.converged and result.value < 0


def test_next_to_the_minimum_the_slopes_decide():
    """The value differs from the smallest by less than its last digit, and the search still flattens the slope."""
    A = np.diag([1.0, 3.0])
    loss = Quadratic(A, A @ np.array([1.0, 2.0]))
    x = np.array([1.0, 2.0]) + 1e-9
    result = strong_wolfe(loss, x, -loss(x)[1], c2=0.5)
    assert result.converged and np.linalg.norm(result.gradient) < np.linalg.norm(loss(x)[1])


def test_a_rise_of_the_last_digit_is_forgiven():
    """Here rounding makes the value at the start smaller than at the minimum: without slack no step decreases it."""
    loss, x = Quadratic(np.array([[6.0]]), np.array([18.0])), np.array([3 + 82e-10])
    assert loss(x)[0] < loss(np.array([3.0]))[0]
    result = strong_wolfe(loss, x, np.array([-1.0]))
    assert result.converged and result.step > 0 and abs(result.gradient[0]) <= 0.1 * loss(x)[1][0]


def test_values_that_are_not_finite():
    with pytest.raises(ValueError, match="loss_and_grad must be finite at x"):
        strong_wolfe(Quadratic(np.eye(1), np.array([np.nan])), np.ones(1), -np.ones(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": np.ones(2)}, "direction must descend"),
        ({"direction": np.zeros(2)}, "direction must descend"),
        ({"c2": 1e-5}, "c2 must be larger than c1"),
        ({"first_step": 0.0}, "first_step must lie in"),
        ({"max_iter": 0}, "max_iter must lie in"),
    ],
)
def test_bad_input(change, message):
    arguments = {"x": np.ones(2), "direction": -np.ones(2), **change}
    with pytest.raises(ValueError, match=message):
        strong_wolfe(Quadratic(np.eye(2), np.zeros(2)), **arguments)
