"""Theorems and limits of parl."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.policy.parl import a_parl, hypergradient, lower_value, upper_objective
from trref.problems.mdp import TabularMDP, random_mdp
from trref.problems.trajectories import all_trajectories


def _problem(seed):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=2, actions=2, gamma=0.9, concentration=1.0)
    return {
        "nu": rng.standard_normal(3),
        "theta": 0.5 * rng.standard_normal((2, 2)),
        "features": rng.standard_normal((2, 2, 3)),
        "true_reward": rng.standard_normal((2, 2)),
        "table": all_trajectories(mdp, 3),
    }


def _lower(p):
    return {k: p[k] for k in ("theta", "nu", "features", "table")}


def _best(p, nu=None, **hyper):
    """The lower optimum, by BFGS, and Newton's last steps by differences."""
    given = _lower(p) | {"nu": p["nu"] if nu is None else nu}

    def value(x):
        v, d = lower_value(**given | {"theta": x.reshape(2, 2)}, **hyper)
        return float(v), d.ravel()

    x = minimize(value, np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-11}).x
    for _ in range(3):
        H = np.array([(value(x + 1e-5 * e)[1] - value(x - 1e-5 * e)[1]) / 2e-5 for e in np.eye(4)])
        x = x - np.linalg.solve(H, value(x)[1])
    return x.reshape(2, 2)


def test_one_state_by_hand():
    """One step, two actions, π = (1/2, 1/2), reward (1, 0): V = 1/2; two trajectories, true rewards equal."""
    table = all_trajectories(TabularMDP(np.ones((1, 2, 1)), np.zeros((1, 2)), np.ones(1), 0.9), 1)
    args = {"theta": np.zeros((1, 2)), "nu": np.array([1.0, 0.0]), "features": np.eye(2)[None], "table": table}
    value, gradient = lower_value(**args)
    assert value == pytest.approx(-0.5) and gradient == pytest.approx(np.array([[-0.25, 0.25]]))
    value, gradient = upper_objective(**args, true_reward=np.zeros((1, 2)))
    s = math.log(1 / (1 + math.exp(-1))) + math.log(1 / (1 + math.exp(1)))
    assert value == pytest.approx(-(0.5 * -math.log(2) + 0.5 * s / 2))
    assert gradient.nu == pytest.approx(0.5 * (1 / (1 + math.exp(-1)) - 0.5) * np.array([1, -1]))


@pytest.mark.parametrize("seed", range(4))
def test_gradients_by_differences(seed):
    """At any policy, not at the optimum alone."""
    p = _problem(seed)
    _, d = lower_value(**_lower(p))
    _, g = upper_objective(**p)
    for name, f, slope in (
        ("theta", lambda q: lower_value(**_lower(q))[0], d),
        ("theta", lambda q: upper_objective(**q)[0], g.theta),
        ("nu", lambda q: upper_objective(**q)[0], g.nu),
    ):
        for at in np.ndindex(p[name].shape):
            values = []
            for e in (1e-5, -1e-5):
                moved = p[name].copy()
                moved[at] += e
                values.append(f(p | {name: moved}))
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope[at], abs=1e-8)


@pytest.mark.parametrize("regularisation", [0.3, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_hypergradient_is_that_of_the_solved_lower_level(seed, regularisation):
    """Differences of the upper objective, with the lower level solved anew at each point."""
    p = _problem(seed)
    theta = _best(p, regularisation=regularisation)
    whole = hypergradient(**p | {"theta": theta}, regularisation=regularisation)
    slopes = []
    for e in np.eye(3):
        up, down = (
            -upper_objective(**p | {"nu": nu, "theta": _best(p, nu, regularisation=regularisation)})[0]
            for nu in (p["nu"] + 1e-4 * e, p["nu"] - 1e-4 * e)
        )
        slopes.append((up - down) / 2e-4)
    assert np.allclose(whole.total, slopes, atol=2e-7, rtol=1e-9)
    assert np.allclose(whole.total, whole.direct + whole.implicit, rtol=1e-9, atol=1e-12)
    assert abs(whole.direct - slopes).max() > 1e-2, "without the second term it is another one"


def test_more_inner_steps_come_nearer_geometrically():
    """The error of the hypergradient at a lower level that is solved by K steps."""
    p = _problem(1)
    exact = hypergradient(**p | {"theta": _best(p)}).total
    errors = []
    for K in (5, 10, 20, 40):
        theta = p["theta"]
        for _ in range(K):
            theta = theta - 0.5 * lower_value(**_lower(p) | {"theta": theta})[1]
        errors.append(np.abs(hypergradient(**p | {"theta": theta}).total - exact).max())
    assert errors[1] < errors[0] / 2 and errors[2] < errors[1] / 4 and errors[3] < errors[2] / 16


def test_a_singular_lower_level_without_regularisation():
    """Its Hessian is singular along each state's constant: with a tiny one the second term explodes or not at all."""
    p = _problem(2)
    theta = p["theta"] + 3.0
    same = lower_value(**_lower(p) | {"theta": theta}, regularisation=1e-12)[0]
    assert same == pytest.approx(float(lower_value(**_lower(p), regularisation=1e-12)[0]), abs=1e-9)


def test_the_true_reward_cannot_be_improved_on_fixed_data():
    """With the true reward's weights the direct term is 0; the second is not: other data would be easier."""
    p = _problem(3)
    p["features"] = np.concatenate([p["true_reward"][..., None], p["features"][..., :2]], 2)
    p["nu"] = np.array([1.0, 0.0, 0.0])
    whole = hypergradient(**p | {"theta": _best(p)})
    assert np.abs(whole.direct).max() < 1e-14 and np.abs(whole.implicit).max() > 1e-3


def test_the_algorithm_climbs():
    p = _problem(4)
    few = a_parl(**p, steps=1, lr=1e-9, inner_steps=100)
    many = a_parl(**p, steps=60, lr=0.3, inner_steps=20)
    assert many.objective > few.objective
    assert np.abs(lower_value(**_lower(p) | {"nu": many.nu, "theta": many.theta})[1]).max() < 0.02, "near the optimum"


def test_refused():
    p = _problem(5)
    with pytest.raises(ValueError, match="regularisation"):
        hypergradient(**p, regularisation=0.0)
    with pytest.raises(ValueError, match="features"):
        upper_objective(**p | {"features": p["features"][..., :2]})
