"""REINFORCE++: by hand, its moments, what it subtracts, and the paths of charges."""

import numpy as np
import pytest
from scipy.stats import zscore

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.conformance import identify
from trref.tokens.opo import opo_advantage
from trref.tokens.reinforce_plus_plus import (
    reinforce_plus_plus,
    reinforce_plus_plus_baseline,
    reward_to_go,
    standardise,
)
from trref.tokens.rloo import charged_reward


def _batch(seed):
    log_prob, ref, _, mask = token_batch(seed)
    rng = np.random.default_rng(seed)
    return rng.standard_normal(8), log_prob, ref, mask, np.repeat([3, 5], 4)


def test_reward_to_go_by_hand():
    """Log-ratios 1, -2, (gap) 9, 3; weight 0.5, discount 0.5, reward 4: charges -0.5, +1, -1.5."""
    log_prob, mask = np.array([[1.0, -2.0, 9.0, 3.0]]), np.array([[1.0, 1.0, 0.0, 1.0]])
    ours = reward_to_go(np.array([4.0]), log_prob, np.zeros((1, 4)), mask, kl_weight=0.5, discount=0.5)
    assert np.allclose(ours, [[-0.5 + 0.5 * 2.25, 1 + 0.5 * 2.5, 0, 2.5]], rtol=1e-9)


def test_standardise_by_hand():
    """1, 2, 6 (and 99 outside): mean 3, variances 14/3 and 7."""
    x, mask = np.array([[1.0, 2.0], [6.0, 99.0]]), np.array([[1.0, 1.0], [1.0, 0.0]])
    centred = np.array([[-2.0, -1.0], [3.0, 0.0]])
    assert np.allclose(standardise(x, mask, eps=0.0), centred / np.sqrt(14 / 3), rtol=1e-9)
    assert np.allclose(standardise(x, mask, ddof=1, eps=0.0), centred / np.sqrt(7), rtol=1e-9)
    assert np.allclose(standardise(x, mask, eps=0.25), centred / np.sqrt(14 / 3 + 0.25), rtol=1e-9)


@pytest.mark.parametrize("ddof", [0, 1])
def test_against_scipy(ddof):
    reward, log_prob, ref, mask, _ = _batch(0)
    to_go = reward_to_go(reward, log_prob, ref, mask)
    ours = reinforce_plus_plus(reward, log_prob, ref, mask, ddof=ddof, eps=0.0)
    assert np.allclose(ours[mask == 1], zscore(to_go[mask == 1], ddof=ddof), rtol=1e-12)
    assert not ours[mask == 0].any()


def test_moments_and_scale():
    reward, log_prob, ref, mask, group = _batch(1)
    ours = reinforce_plus_plus(reward, log_prob, ref, mask, eps=0.0)
    assert ours.sum() == pytest.approx(0, abs=1e-12) and (ours**2).sum() / mask.sum() == pytest.approx(1)
    ten, one = (reinforce_plus_plus_baseline(k * reward + k, group, mask, eps=0.0) for k in (10.0, 1.0))
    assert np.allclose(ten, one, rtol=1e-9), "neither scale nor shift of the rewards matter"


def test_equal_rewards_have_no_gradient():
    _, log_prob, ref, mask, group = _batch(2)
    equal = np.full(8, 0.1)
    assert not reinforce_plus_plus(equal, log_prob, ref, mask, kl_weight=0.0, eps=0.0).any()
    assert not reinforce_plus_plus_baseline(equal + group, group, mask, eps=0.0).any()


def test_what_is_subtracted_is_opos_baseline_over_the_batch():
    reward, log_prob, ref, mask, _ = _batch(3)
    ours = reinforce_plus_plus(reward, log_prob, ref, mask, kl_weight=0.0, eps=0.0)
    centred = mask * opo_advantage(reward, np.zeros(8, int), mask)[:, None]
    deviation = np.sqrt((centred**2).sum() / mask.sum())
    assert np.allclose(ours * deviation, centred, atol=1e-12, rtol=1e-9)


def test_the_first_token_pays_the_whole_charge():
    reward, log_prob, ref, mask, _ = _batch(4)
    first = reward_to_go(reward, log_prob, ref, mask, kl_weight=0.3)[:, 0]
    assert np.allclose(first, charged_reward(reward, log_prob, ref, mask, kl_weight=0.3), rtol=1e-9)


def test_deviations():
    by_name = {d.name: d.f for d in find("reinforce_plus_plus.reward_to_go").deviations}
    reward, log_prob, ref = np.array([1.0]), np.zeros((1, 3)), np.array([[-1.0, -1.0, -1.0]])
    full, gap = np.ones((1, 3)), np.array([[1.0, 0.0, 1.0]])
    own, cut = by_name["each token's own charge alone"], by_name["a gap in the mask cuts the return"]
    assert np.allclose(own(reward, log_prob, ref, full, kl_weight=0.1), 0.9, rtol=1e-9)
    assert np.allclose(reward_to_go(reward, log_prob, ref, full, kl_weight=0.1), [[0.7, 0.8, 0.9]], rtol=1e-9)
    assert np.allclose(cut(reward, log_prob, ref, full), reward_to_go(reward, log_prob, ref, full), rtol=1e-9)
    assert cut(reward, log_prob, ref, gap, kl_weight=0.0)[0, 0] == 0
    assert reward_to_go(reward, log_prob, ref, gap, kl_weight=0.0)[0, 0] == 1


def _mine(reward, group, mask):
    rows = reward - np.array([np.mean(reward[group == g]) for g in group])
    rows[np.array([np.ptp(reward[group == g]) == 0 for g in group])] = 0
    each = np.repeat(rows[:, None], mask.shape[1], 1)[mask == 1]
    found = np.zeros_like(mask)
    found[mask == 1] = (each - each.mean()) / np.sqrt(each.var() + 1e-8) if len(each) and np.ptp(each) else 0
    return found


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["reinforce_plus_plus.reinforce_plus_plus_baseline"]
