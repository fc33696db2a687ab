"""Objectives and policies that give nonsense are named."""

import warnings

import numpy as np
import pytest

from trref.policy.natural_gradient import backtracking_line_search
from trref.policy.trpo import trpo_step
from trref.problems.policies import CategoricalPolicy

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

NONSENSE = [None, "low", 0.5, (0.5,), (0.5, None), (0.5, "far"), (np.zeros(2), 0.1), (0.5, np.zeros(1)), [0.5, 0.1]]


@given(wrong=st.sampled_from(NONSENSE), after=st.integers(0, 2))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_what_an_objective_returns_is_named(wrong, after):
    calls = []

    def objective(theta):
        calls.append(theta)
        return wrong if len(calls) > after else (-float(len(calls)), 0.0)  # the objective falls: all trials are made

    theta = np.zeros(2)
    with pytest.raises(TypeError, match="objective_and_divergence must return a tuple of two scalars"):
        backtracking_line_search(objective, theta, theta + 1, theta + 1, trials=3)


@pytest.mark.parametrize("start", [(np.nan, 0.0), (0.0, np.nan), (np.inf, 0.0)])
def test_an_objective_without_a_start(start):
    theta = np.zeros(2)
    with pytest.raises(ValueError, match="objective_and_divergence must give finite values at theta"):
        backtracking_line_search(lambda _: start, theta, theta + 1, theta + 1)


def test_a_trial_that_is_not_finite_is_rejected():
    values = iter([(0.0, 0.0), (np.nan, 0.0), (1.0, np.nan), (1.0, 0.0)])
    theta = np.zeros(2)
    result = backtracking_line_search(lambda _: next(values), theta, theta + 1, theta + 1)
    assert result.converged and result.iterations == 3 and np.allclose(result.theta, 0.25, rtol=1e-9)


class Spoiled(CategoricalPolicy):
    """A policy with NaN or infinities in one of its results."""

    def __init__(self, method, value):
        super().__init__((3, 4))
        object.__setattr__(self, "method", method)
        object.__setattr__(self, "value", value)

    def _spoiled(self, method, array):
        return array + self.value if method == self.method else array

    def log_prob(self, z, actions):
        value, derivative = super().log_prob(z, actions)
        return self._spoiled("log_prob", value), self._spoiled("derivative", derivative)

    def vjp(self, cache, cotangent):
        return self._spoiled("vjp", super().vjp(cache, cotangent))


@given(
    method=st.sampled_from(("log_prob", "derivative", "vjp")),
    value=st.sampled_from((np.nan, np.inf, -np.inf)),
    n=st.integers(1, 6),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_policy_that_gives_no_numbers_is_named(method, value, n):
    rng, policy = np.random.default_rng(n), Spoiled(method, value)
    theta, states = rng.standard_normal(policy.size), rng.standard_normal((n, 3))
    with (
        warnings.catch_warnings(action="ignore", category=RuntimeWarning),  # of what infinities give on the way
        pytest.raises(ValueError, match=r"policy.* must return finite values"),
    ):
        trpo_step(policy, theta, states, np.zeros(n, dtype=int), rng.standard_normal(n))
