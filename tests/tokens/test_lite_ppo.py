"""Lite PPO: its advantage, what a prompt counts, and the mean over tokens."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog.tokens.lite_ppo import ABOUT_THE_GROUP_MEANS
from trref.conformance import identify
from trref.tokens.dr_grpo import centred_advantage
from trref.tokens.grpo import group_advantage
from trref.tokens.lite_ppo import lite_ppo, lite_ppo_advantage
from trref.tokens.reinforce_plus_plus import reinforce_plus_plus_baseline


def test_by_hand():
    """Rewards 3, 1 | 1, 1, 0, 0, with mean 1: squares 4, 0, 0, 0, 1, 1, a deviation of sqrt(6/5)."""
    reward, group = np.array([3.0, 1, 1, 1, 0, 0]), np.array([5, 5, 2, 2, 2, 2])
    expected = np.array([1, -1, 0.5, 0.5, -0.5, -0.5]) / math.sqrt(6 / 5)
    assert lite_ppo_advantage(reward, group, eps=0.0) == pytest.approx(expected, rel=1e-14)
    d, mask = np.log([[1.5], [1.5], [1.0], [1.0], [1.0], [1.0]]), np.ones((6, 1))
    loss, gradient = lite_ppo(d, 0 * d, reward, group, mask, eps=0.0)
    terms = expected * np.array([1.2, 1.5, 1, 1, 1, 1])
    assert loss == pytest.approx(-terms.mean(), rel=1e-13)
    assert -6 * gradient[:, 0] == pytest.approx(expected * np.array([0, 1.5, 1, 1, 1, 1]), rel=1e-13)


def test_it_is_the_centred_reward_up_to_one_number():
    rng = np.random.default_rng(0)
    reward, group = rng.standard_normal(12), np.repeat([0, 1, 2], 4)
    ratio = lite_ppo_advantage(reward, group) / centred_advantage(reward, group)
    assert np.ptp(ratio) < 1e-12 * ratio[0]
    assert np.ptp(group_advantage(reward, group) / centred_advantage(reward, group)) > 0.1


@pytest.mark.parametrize("right", [1, 4, 7])
def test_what_a_prompt_counts(right):
    """The sizes of n advantages sum to 2 n p (1 - p) over the deviation; GRPO's to 2 n sqrt(p (1 - p))."""
    reward = np.r_[np.ones(right), np.zeros(8 - right), 1.0, 0.0]
    group, p = np.r_[np.zeros(8, int), 1, 1], right / 8
    sizes = abs(lite_ppo_advantage(reward, group, eps=0.0))[:8].sum() * reward.std(ddof=1)
    assert sizes == pytest.approx(16 * p * (1 - p), rel=1e-13)
    grpo = abs(group_advantage(reward, group, std="population"))[:8].sum()
    assert grpo == pytest.approx(16 * math.sqrt(p * (1 - p)), rel=1e-13)


def test_tokens_count_alike():
    _, old, _, mask = token_batch(1)
    reward, group = np.random.default_rng(1).random(8), np.arange(8) // 4
    gradient = lite_ppo(old, old, reward, group, mask)[1]
    each = gradient / -lite_ppo_advantage(reward, group)[:, None]
    assert np.allclose(each[mask == 1], 1 / mask.sum(), rtol=1e-12) and not each[mask == 0].any()


def test_about_the_group_means_it_is_the_baseline_form_of_reinforce_plus_plus():
    reward, group = np.random.default_rng(2).random(9), np.array([0, 0, 0, 4, 4, 4, 4, 7, 7])
    theirs = reinforce_plus_plus_baseline(reward, group, np.ones((9, 1)), ddof=1, eps=0.0)[:, 0]
    assert np.allclose(ABOUT_THE_GROUP_MEANS.f(reward, group, eps=0.0), theirs, rtol=1e-12)
    assert (abs(theirs) > 1.02 * abs(lite_ppo_advantage(reward, group))).all()


def _mine(log_prob, old_log_prob, reward, group, mask):
    """Token by token."""
    B, T = mask.shape
    scale = np.std(reward, ddof=1) + 1e-6 if B > 1 else 1.0
    loss, gradient, n = 0.0, np.zeros((B, T)), max(mask.sum(), 1)
    for i in range(B):
        inside = reward[group == group[i]]
        A = 0.0 if np.ptp(inside) == 0 else (reward[i] - inside.mean()) / scale
        for t in np.flatnonzero(mask[i]):
            ratio = math.exp(log_prob[i, t] - old_log_prob[i, t])
            free, cut = ratio * A, min(max(ratio, 0.8), 1.2) * A
            loss -= min(free, cut) / n
            gradient[i, t] = -free / n if free <= cut else 0.0
    return loss, gradient


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert "lite_ppo.lite_ppo" in [m.candidate.text for m in found.exact]
