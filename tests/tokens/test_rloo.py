"""RLOO: by hand, unbiased, a sum over pairs, and the ratio of the whole answer."""

import itertools
import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from tests.tokens.groups import expected_gradient
from trref.conformance import identify
from trref.tokens.dr_grpo import centred_advantage
from trref.tokens.rloo import charged_reward, leave_one_out, rloo


def test_by_hand():
    """Rewards 1, 0, 0.5 of one prompt; a prompt of one; two equal ones."""
    reward, group = np.array([1.0, 0.0, 0.5, 7.0, 0.3, 0.3]), np.array([4, 4, 4, 1, 2, 2])
    assert np.array_equal(leave_one_out(reward, group), [0.75, -0.75, 0, 0, 0, 0])


def test_charge_by_hand():
    log_prob, ref = np.array([[-1.0, -2.0, -9.0]]), np.array([[-1.5, -1.0, -3.0]])
    charged = charged_reward(np.array([1.0]), log_prob, ref, np.array([[1.0, 1.0, 0.0]]), kl_weight=0.2)
    assert charged == pytest.approx(1 - 0.2 * (0.5 - 1.0))


@pytest.mark.parametrize("G", [2, 3])
def test_it_is_unbiased(G):
    rng = np.random.default_rng(G)
    reward, logits = rng.standard_normal(4), rng.standard_normal(4)
    one = np.zeros(G, int)
    mean, true = expected_gradient(lambda c: leave_one_out(reward[c], one), reward, logits, G)
    assert np.allclose(mean, true, atol=1e-14, rtol=1e-9) and abs(true).max() > 0.05
    mean, _ = expected_gradient(lambda c: centred_advantage(reward[c], one), reward, logits, G)
    assert np.allclose(mean, (1 - 1 / G) * true, atol=1e-14, rtol=1e-9)


def test_it_is_a_sum_over_pairs():
    rng = np.random.default_rng(0)
    reward, score, G = rng.standard_normal(5), rng.standard_normal((5, 3)), 5
    pairs = sum((reward[i] - reward[j]) * (score[i] - score[j]) for i, j in itertools.combinations(range(G), 2)) / (
        G * (G - 1)
    )
    assert np.allclose(leave_one_out(reward, np.zeros(G, int)) @ score / G, pairs, rtol=1e-13)


def test_loss_by_hand():
    """Ratios 1.5 and 0.75: the product 1.125 is inside 0.2; without the second token 1.5 is clipped."""
    log_prob, old = np.log([[1.5, 0.75], [1.5, 0.75]]), np.zeros((2, 2))
    loss, gradient = rloo(log_prob, old, np.ones(2), np.array([[1.0, 1.0], [1.0, 0.0]]))
    assert loss == pytest.approx(-(1.125 + 1.2) / 2) and np.allclose(gradient, [[-1.125 / 2] * 2, [0, 0]], rtol=1e-9)


def test_long_answers_leave_the_interval():
    """Token log-ratios of deviation 0.05: within 0.2 for a token, outside for most answers of 64."""
    rng = np.random.default_rng(1)
    d = 0.05 * rng.standard_normal((500, 64))
    silent = {n: 0.0 for n in (1, 64)}
    for n in silent:
        A = np.sign(d[:, :n].sum(1))  # the profitable direction
        silent[n] = (rloo(d[:, :n], 0 * d[:, :n], A, np.ones((500, n)))[1] == 0).all(1).mean()
    assert silent[1] < 0.01 and silent[64] > 0.5


def test_answers_that_overflow_are_refused():
    log_prob, old = np.full((1, 4), -1.0), np.full((1, 4), -25.0)
    with pytest.raises(ValueError, match="log_prob must make no answer"):
        rloo(log_prob, old, np.ones(1), np.ones((1, 4)))


def _mine(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.2):
    if advantage.ndim == 2:
        raise ValueError("an answer has one advantage")
    B, value, gradient = len(mask), 0.0, np.zeros_like(mask)
    for i in range(B):
        tokens = np.flatnonzero(mask[i])
        R = math.prod(math.exp(log_prob[i, t] - old_log_prob[i, t]) for t in tokens)
        clipped = min(max(R, 1 - clip_low), 1 + clip_high) * advantage[i]
        if len(tokens):
            value += min(R * advantage[i], clipped) / B
            gradient[i, tokens] = R * advantage[i] / B if R * advantage[i] <= clipped else 0.0
    return -value, -gradient


def test_independent_functions_are_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["rloo.rloo"]

    def others(reward, group):
        return np.array(
            [
                r - np.mean([x for j, x in enumerate(reward) if group[j] == group[i] and j != i] or [r])
                for i, r in enumerate(reward)
            ]
        )

    names = {m.candidate.text for m in identify(others, "group_reward").exact}
    assert "rloo.leave_one_out" in names and "grpo.group_advantage [leave one out]" in names


def test_brute_force():
    log_prob, old, advantage, mask = token_batch(2, spread=0.1)
    ours, loops = rloo(log_prob, old, advantage, mask), _mine(log_prob, old, advantage, mask)
    assert ours[0] == pytest.approx(loops[0], rel=1e-12) and np.allclose(ours[1], loops[1], rtol=1e-12)
