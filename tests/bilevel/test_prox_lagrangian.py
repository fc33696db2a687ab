"""The proximal Lagrangian value: closed forms, the envelope theorem by differences, and what it is 0 for."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.bilevel.prox_lagrangian import project_multiplier, proximal_lagrangian, saddle_point, value_at_saddle
from trref.problems.bilevel import BalancedBilevel, CoupledBilevel
from trref.validate import ConvergenceWarning

PROBLEM = CoupledBilevel()


def _value(problem, x, y, z, **hyper):
    saddle = saddle_point(problem, x, y, z, rtol=1e-13, max_iter=5000, **hyper)
    gammas = {k: v for k, v in hyper.items() if k.startswith("gamma")}
    return value_at_saddle(problem, x, y, z, saddle.theta, saddle.multiplier, **gammas)


def _one(*values):
    return tuple(np.array([v]) for v in values)


def test_numbers_by_hand():
    """x = 1.5, θ = 2, λ = 1, y = 1, z = 3, limit 3: f = ½, g = ½, proximal terms ½ and 2."""
    x, y, z, theta, multiplier = _one(1.5, 1.0, 3.0, 2.0, 1.0)
    value, slopes = proximal_lagrangian(PROBLEM, theta, multiplier, x, y, z)
    assert value == 0.5 + 0.5 + 0.5 - 2
    assert slopes.theta == -1 + 1 + 1 and slopes.multiplier == 0.5 + 2
    value, slopes = proximal_lagrangian(PROBLEM, theta, multiplier, x, y, z, gamma1=0.5, gamma2=4.0)
    assert value == 0.5 + 0.5 + 1 - 0.5 and slopes.theta == -1 + 1 + 2 and slopes.multiplier == 0.5 + 0.5
    _, by = value_at_saddle(PROBLEM, x, y, z, theta, multiplier)
    assert (by.x, by.y, by.z) == (2 + 1, -1, -2)
    # the constraint does not bind: θ = (2x + y)/2, the multiplier falls to 0 from z = 0
    saddle = saddle_point(PROBLEM, *_one(0.0, 1.0, 0.0))
    assert saddle.theta == pytest.approx([0.5]) and saddle.multiplier == pytest.approx([0.0])
    # it binds: θ = (3 + 1.5 - λ)/2, λ = 1.5 + (1.5 + θ - 3): both 1.5
    saddle = saddle_point(PROBLEM, *_one(1.5, 1.5, 1.5))
    assert saddle.theta == pytest.approx([1.5]) and saddle.multiplier == pytest.approx([1.5])


@pytest.mark.parametrize("gammas", [{}, {"gamma1": 0.4, "gamma2": 3.0}])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("problem", [PROBLEM, CoupledBilevel(1.0, 2.0, 0.3), BalancedBilevel()])
def test_envelope(problem, seed, gammas):
    """The gradient with the saddle point held is the slope of the value with it solved anew."""
    rng = np.random.default_rng(seed)
    sizes = (2, 4, 1) if problem.equality else (3, 3, 3)
    at = [rng.standard_normal(n) for n in sizes]
    hyper = {"inner_lr": 0.15} | gammas
    gradient, h = _value(problem, *at, **hyper)[1], 1e-5
    for k, part in enumerate(gradient):
        for i in range(len(part)):
            plus, minus = ([a.copy() for a in at] for _ in range(2))
            plus[k][i] += h
            minus[k][i] -= h
            slope = (_value(problem, *plus, **hyper)[0] - _value(problem, *minus, **hyper)[0]) / (2 * h)
            # piecewise quadratic: an error only where the active set changes within h, then below h times a curvature
            assert part[i] == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_a_saddle_point(seed):
    """Nothing near it is better for either side, and the constraints keep it."""
    rng = np.random.default_rng(seed)
    problem = CoupledBilevel(2.0, 2.0, 0.4)
    x, y, z = rng.standard_normal((3, 3))
    saddle = saddle_point(problem, x, y, z, radius=1.5)
    value = proximal_lagrangian(problem, saddle.theta, saddle.multiplier, x, y, z)[0]
    for _ in range(50):
        theta = problem.project_lower(saddle.theta + 0.3 * rng.standard_normal(3))
        multiplier = project_multiplier(problem, saddle.multiplier + 0.3 * rng.standard_normal(3), radius=1.5)
        assert proximal_lagrangian(problem, theta, saddle.multiplier, x, y, z)[0] >= value - 1e-12
        assert proximal_lagrangian(problem, saddle.theta, multiplier, x, y, z)[0] <= value + 1e-12


def test_zero_exactly_at_solutions_with_their_multiplier():
    """f - v is 0 where y solves the lower level and z is its multiplier, and positive for others."""
    x, y, z = _one(1.5, 1.5, 1.5)
    f = PROBLEM.lower(x, y)[0]
    assert f - _value(PROBLEM, x, y, z)[0] == pytest.approx(0, abs=1e-12)
    assert f - _value(PROBLEM, x, y, z + 0.5)[0] > 0.01, "another multiplier"
    other = y - 0.7
    assert PROBLEM.lower(x, other)[0] - _value(PROBLEM, x, other, z)[0] > 0.1, "another y"
    assert f - _value(PROBLEM, x, y, z, radius=1.0)[0] > 0.01, "a box that is too small for the multiplier"
    rng = np.random.default_rng(0)
    for _ in range(30):
        x, y, z = rng.standard_normal((3, 2)) + 1
        x, y = PROBLEM.project(x, y)
        assert PROBLEM.lower(x, y)[0] >= _value(PROBLEM, x, y, abs(z))[0] - 1e-12


def test_equality_multipliers_have_both_signs():
    """a = x + 1 with multiplier -1, whatever b, as long as the sum is 0."""
    problem, x = BalancedBilevel(), np.array([0.3, -1.0])
    b = np.array([2.0, 0.0])
    b -= (x.sum() + (x + 1).sum() + b.sum()) / 2
    y = np.concatenate([x + 1, b])
    gap = problem.lower(x, y)[0] - _value(problem, x, y, np.array([-1.0]))[0]
    assert gap == pytest.approx(0, abs=1e-12)
    saddle = saddle_point(problem, x, y, np.array([-1.0]))
    assert saddle.theta == pytest.approx(y, abs=1e-9) and saddle.multiplier == pytest.approx([-1.0], abs=1e-9)


def test_without_binding_constraints_it_is_the_moreau_envelope():
    problem = CoupledBilevel(limit=1e6)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 3))
    for gamma in (0.3, 1.0, 4.0):
        value, by = _value(problem, x, y, np.zeros(3), gamma1=gamma)

        def proximal(w, gamma=gamma):
            return problem.lower(x, w)[0] + ((w - y) ** 2).sum() / (2 * gamma)

        best = minimize(proximal, y, options={"gtol": 1e-9})
        assert value == pytest.approx(best.fun, abs=1e-10)
        assert by.y == pytest.approx((y - best.x) / gamma, abs=1e-6) and (by.z == 0).all()


def test_as_the_terms_vanish_it_is_the_least_value():
    """Loose in both: the value of the constrained problem, here (limit - 3x)²/2 beyond the kink; by SLSQP."""
    x, y, z = _one(1.6, 0.0, 0.0)

    def lower(w):
        return PROBLEM.lower(x, w)[0]

    least = minimize(lower, y, constraints={"type": "ineq", "fun": lambda w: 3 - x - w}, method="SLSQP").fun
    assert least == pytest.approx((3 - 4.8) ** 2 / 2, abs=1e-8)
    errors = []
    for gamma in (10.0, 100.0, 1000.0):
        saddle = saddle_point(PROBLEM, x, y, z, gamma1=gamma, gamma2=gamma, rtol=1e-6, max_iter=20_000)
        value = value_at_saddle(PROBLEM, x, y, z, *saddle[:2], gamma1=gamma, gamma2=gamma)[0]
        errors.append(abs(value - least))
    assert errors[1] < errors[0] / 3 and errors[2] < errors[1] / 5, "of order 1/gamma in the end"


def test_too_few_steps():
    with pytest.warns(ConvergenceWarning, match="saddle_point"):
        saddle = saddle_point(PROBLEM, *_one(4.0, -2.0, 0.0), max_iter=3)
    assert not saddle.converged and saddle.iterations == 3
    floored = dataclasses.replace(PROBLEM, floor=0.5)
    assert saddle_point(floored, *_one(0.0, -5.0, 0.0)).theta == [0.5]
