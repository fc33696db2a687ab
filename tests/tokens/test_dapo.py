"""Limits of DAPO's objectives, its sampling and its penalty."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.tokens.dapo import dapo, dapo_over_batch, dynamic_sampling, overlong_penalty
from trref.tokens.grpo import group_advantage, grpo


def _same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-13) and np.allclose(a[1], b[1], rtol=1e-12)


def test_loss_by_hand():
    """Prompt 0: lengths 1 and 2; prompt 1: length 1. Ratios 1.5 | 0.5, 1.1 | 1.25; advantages 1, -1, 2."""
    log_prob = np.log([[1.5, 9.0], [0.5, 1.1], [1.25, 9.0]])
    mask, group = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]), np.array([5, 5, 2])
    batch = log_prob, np.zeros((3, 2)), np.array([1.0, -1.0, 2.0]), mask
    first, second = (1.28 - 0.8 - 1.1) / 3, 2.5
    loss, gradient = dapo(*batch, group)
    assert loss == pytest.approx(-(first + second) / 2)
    assert np.allclose(gradient, [[0, 0], [0, 1.1 / 6], [-2.5 / 2, 0]], rtol=1e-9)
    assert dapo_over_batch(*batch)[0] == pytest.approx(-(1.28 - 0.8 - 1.1 + 2.5) / 4)


def test_prompts_of_equal_size_are_averaged():
    log_prob, old, advantage, mask = token_batch(1, spread=0.4)
    group = np.repeat([3, 1], 4)
    halves = [dapo_over_batch(*(x[group == g] for x in (log_prob, old, advantage, mask))) for g in (3, 1)]
    loss, gradient = dapo(log_prob, old, advantage, mask, group)
    assert loss == pytest.approx((halves[0][0] + halves[1][0]) / 2, rel=1e-13)
    assert np.allclose(gradient, np.concatenate([halves[0][1], halves[1][1]]) / 2, rtol=1e-13)


def test_clip_higher():
    """A ratio of 1.25 still earns; one of 0.75 does not matter for a good token, and is cut for a bad one."""
    ratio = np.log([[1.25, 1.25, 0.75, 0.75]])
    advantage = np.array([[1.0, -1.0, 1.0, -1.0]])
    _, gradient = dapo_over_batch(ratio, np.zeros((1, 4)), advantage, np.ones((1, 4)))
    assert np.allclose(gradient, [[-1.25 / 4, 1.25 / 4, -0.75 / 4, 0]], rtol=1e-9)
    assert grpo(ratio, np.zeros((1, 4)), advantage, np.ones((1, 4)))[1][0, 0] == 0


def test_rare_tokens_may_grow_by_as_much_more():
    """The largest probability that still has a gradient: 0.01 to 0.0128, against 0.9 to beyond 1."""
    for p, limit in ((0.01, 0.0128), (0.5, 0.64)):
        for new, earns in ((0.999 * limit, True), (1.001 * limit, False)):
            one = np.array([[math.log(new)]]), np.array([[math.log(p)]]), np.ones(1), np.ones((1, 1))
            assert bool(dapo_over_batch(*one)[1].any()) == earns


def test_the_batch_mean_is_what_trainers_compute():
    deviation = next(d.f for d in find("dapo.dapo").deviations if "batch" in d.name)
    batch, group = token_batch(3, spread=0.4), np.array([0, 0, 0, 0, 0, 0, 1, 1])
    _same(deviation(*batch, group), dapo_over_batch(*batch))
    assert dapo(*batch, group)[0] != pytest.approx(dapo_over_batch(*batch)[0], rel=1e-3)


def test_dynamic_sampling_keeps_what_has_a_gradient():
    reward = np.array([1.0, 1, 0, 0, 1, 0, 1.0])
    group = np.array([4, 4, 2, 2, 7, 7, 9])
    keep = dynamic_sampling(reward, group)
    assert keep.tolist() == [0, 0, 0, 0, 1, 1, 0]
    assert (keep == (group_advantage(reward, group) != 0)).all()


@pytest.mark.parametrize("cache", [0.0, 20.5, np.nan])
def test_the_cache_is_a_part_of_the_length(cache):
    with pytest.raises(ValueError, match="cache must lie in"):
        overlong_penalty(np.ones(2), longest=20, cache=cache)


def test_overlong_penalty():
    lengths = np.array([1.0, 12, 13, 14, 16, 17])
    penalty = overlong_penalty(lengths, longest=16, cache=4)
    assert penalty.tolist() == [0, 0, -0.25, -0.5, -1, -1]
    fine = np.linspace(0, 30, 3001)
    assert abs(np.diff(overlong_penalty(fine, longest=16, cache=4))).max() <= 0.01 / 4 + 1e-12  # continuous
