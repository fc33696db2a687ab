"""ReMax: by hand, and unbiased whatever the greedy answer is worth."""

import numpy as np
import pytest

from tests.tokens.groups import expected_gradient
from trref.catalog import find
from trref.conformance import identify
from trref.tokens.remax import remax_advantage


def test_by_hand():
    """Charges 0.5 and 0.25, a reward of 2 at the end, greedy reward 1; the last position is padding."""
    token_reward, mask = np.array([[-0.5, -0.25, 2.0, 9.0]]), np.array([[1.0, 1.0, 1.0, 0.0]])
    assert np.allclose(remax_advantage(token_reward, np.ones(1), mask), [[0.25, 0.75, 1.0, 0.0]], rtol=1e-9)


@pytest.mark.parametrize("greedy", [0.0, 1.0, -3.0])
def test_it_is_unbiased(greedy):
    rng = np.random.default_rng(0)
    reward, logits = rng.standard_normal(4), rng.standard_normal(4)

    def advantage(chosen):
        one = np.ones((len(chosen), 1))
        return remax_advantage(reward[chosen][:, None], np.full(len(chosen), greedy), one)[:, 0]

    mean, true = expected_gradient(advantage, reward, logits, 2)
    assert np.allclose(mean, true, atol=1e-14, rtol=1e-9)


def test_a_constant_has_to_be_added_to_both():
    rng = np.random.default_rng(1)
    token_reward, greedy, mask = rng.standard_normal((3, 4)), rng.standard_normal(3), np.ones((3, 4))
    moved = token_reward + np.array([0, 0, 0, 5.0])
    assert np.allclose(remax_advantage(moved, greedy + 5, mask), remax_advantage(token_reward, greedy, mask), rtol=1e-9)
    assert not np.allclose(remax_advantage(moved, greedy, mask), remax_advantage(token_reward, greedy, mask))


def test_own_charges_forget_what_follows():
    own = find("remax.remax_advantage").deviations[0].f
    mask, greedy = np.array([[1.0, 1.0, 1.0, 0.0]]), np.array([0.5])
    end = np.array([[0.0, 0.0, 2.0, 0.0]])
    assert np.allclose(own(end, greedy, mask), remax_advantage(end, greedy, mask), rtol=1e-9)
    charged = end - np.array([[0.1, 0.2, 0.0, 0.0]])
    assert np.allclose(own(charged, greedy, mask), [[1.4, 1.3, 1.5, 0]], rtol=1e-9)
    assert np.allclose(remax_advantage(charged, greedy, mask), [[1.2, 1.3, 1.5, 0]], rtol=1e-9)


def _mine(token_reward, greedy_reward, mask):
    found, running = np.zeros_like(mask), np.zeros(len(mask))
    for t in reversed(range(mask.shape[1])):
        running = running + mask[:, t] * token_reward[:, t]
        found[:, t] = mask[:, t] * (running - greedy_reward)
    return found


def test_an_independent_function_is_identified():
    found = identify(_mine, "greedy_baseline")
    assert [m.candidate.text for m in found.exact] == ["remax.remax_advantage"]
