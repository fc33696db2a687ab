"""Optimistic descent within a ball that it never leaves against optax's optimistic gradient descent."""

import numpy as np
import pytest

from trref.optimization.optimistic_omd import mirror_descent
from trref.problems.online import QuadraticLosses

optax = pytest.importorskip("optax")
jax = pytest.importorskip("jax")
pytestmark = pytest.mark.peer


def test_path():
    """One gradient a round, twice the new one less the one before: x_{t+1} = x_t - 2 η g_t + η g_{t-1}."""
    rng = np.random.default_rng(0)
    goals = rng.standard_normal((30, 4))
    # the first gradient is 0: theirs is its own guess before the first step, ours has none
    losses, start = QuadraticLosses(goals), goals[0].copy()
    how = {"diameter": 1e3, "bound": 1e3 / np.sqrt(30) / 0.1, "rule": "horizon"}
    ours = mirror_descent(losses, start, np.arange(30), **how)
    assert np.allclose(ours.lengths, 0.1)
    with jax.enable_x64(True):
        rule = optax.optimistic_gradient_descent(0.1)
        x = jax.numpy.asarray(start)
        state = rule.init(x)
        for t in range(30):
            assert np.allclose(ours.points[t], np.asarray(x), rtol=1e-12)
            step, state = rule.update(jax.numpy.asarray(losses(np.asarray(x), t)), state)
            x = optax.apply_updates(x, step)
