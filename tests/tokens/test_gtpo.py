"""GTPO by hand, in its limits, its filter, and what its deviations change."""

import math

import numpy as np
import pytest
from scipy.stats import entropy as shannon

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.tokens.gtpo import entropy_filter, gtpo, mean_entropy


def _batch(seed, symbols=3, **sizes):
    log_prob, old, advantage, mask = token_batch(seed, **sizes, spread=0.3)
    rng = np.random.default_rng(seed)
    return {
        "log_prob": log_prob,
        "old_log_prob": old,
        "advantage": advantage,
        "mask": mask,
        "actions": rng.integers(0, symbols, mask.shape),
        "group": np.repeat([0, 1], len(mask) // 2),
        "entropy": rng.random(mask.shape),
    }


def test_loss_by_hand():
    """Tokens 1 2 | 1 3, advantages 1 and -1, entropies 0.2 and 0.4, ratios 2, 1 | 3, 0.5: weights 2, 1 | 0, 1."""
    x = {
        "log_prob": np.log([[2.0, 1.0], [3.0, 0.5]]),
        "old_log_prob": np.zeros((2, 2)),
        "advantage": np.array([1.0, -1.0]),
        "mask": np.ones((2, 2)),
        "actions": np.array([[1, 2], [1, 3]]),
        "group": np.zeros(2, int),
        "entropy": np.array([[0.1, 0.3], [0.4, 0.4]]),
    }
    loss, gradient = gtpo(**x)
    assert np.allclose(-gradient, [[0.98 * 4 / 4, 0.98 / 4], [0, -1.04 * 0.5 / 4]], rtol=1e-9)
    assert loss == pytest.approx(gradient.sum())


def test_equal_rewards_push_down_whatever_was_sampled():
    x = _batch(1)
    x["advantage"] = np.zeros(8)
    loss, gradient = gtpo(**x, initial_entropy=1.0)
    assert loss > 0 and (gradient[x["mask"] == 1] > 0).all()


def test_signs_are_those_before_the_entropy_is_subtracted():
    """An advantage of 0.01 less 0.04: the answer counts as right, though it is pushed down."""
    x = _batch(2, B=2, T=2)
    x |= {"mask": np.ones((2, 2)), "actions": np.array([[1, 2], [1, 3]]), "group": np.zeros(2, int)}
    x |= {"advantage": np.array([0.01, -1.0]), "entropy": np.full((2, 2), 0.4)}
    _, gradient = gtpo(**x)
    ratio = np.exp(x["log_prob"] - x["old_log_prob"])
    assert gradient[0] == pytest.approx(np.array([2, 1]) * 0.03 * ratio[0] / 4) and gradient[1, 0] == 0


def test_filter():
    """Mean entropies just below, at and above log 2; only a policy that began below is filtered."""
    mask, entropy = np.ones((3, 1)), np.array([[0.69], [math.log(2)], [0.7]])
    assert list(entropy_filter(mask, entropy)) == [1, 1, 0]
    assert list(entropy_filter(mask, entropy, initial_entropy=0.69)) == [1, 1, 0]
    assert list(entropy_filter(mask, entropy, initial_entropy=0.7)) == [1, 1, 1]
    x = _batch(3)
    x["entropy"][0] += 1
    assert not gtpo(**x)[1][0].any() and gtpo(**x, initial_entropy=0.7)[1][0].any()


def test_two_tokens_cannot_hold_more_than_log_2():
    rng = np.random.default_rng(0)
    two = np.where(np.arange(6) < 2, rng.standard_normal((50, 1, 6)), -60.0)
    assert (mean_entropy(two, np.ones((50, 1))) <= math.log(2) + 1e-12).all()
    even = np.where(np.arange(6) < 2, 0.0, -60.0)[None, None]
    assert mean_entropy(even, np.ones((1, 1)))[0] == pytest.approx(math.log(2))


def test_entropy_against_scipy():
    rng = np.random.default_rng(1)
    logits, mask = 2 * rng.standard_normal((3, 4, 7)), np.array([[1.0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    h = shannon(np.exp(logits), axis=-1)
    assert mean_entropy(logits, mask) == pytest.approx([h[0].mean(), h[1, :2].mean(), 0])


def test_entropies_and_weights_are_constants():
    """The loss is linear in the ratios, at any entropy."""
    x = _batch(4)
    loss, gradient = gtpo(**x)
    assert loss == pytest.approx(gradient.sum())
    x["log_prob"] = x["log_prob"] + math.log(2)
    assert gtpo(**x)[0] == pytest.approx(2 * loss)


def test_deviations():
    fixed, divided = (d.f for d in find("gtpo.gtpo").deviations)
    x = _batch(5, symbols=2)
    x["entropy"] = np.minimum(x["entropy"], 0.6)
    assert fixed(**x)[0] == pytest.approx(gtpo(**x)[0]), "below both bounds there is no filter"
    x["entropy"][:] = 0.697
    assert gtpo(**x)[0] == 0 and fixed(**x)[0] != 0
    x["entropy"][:] = 0.8
    assert fixed(**x, initial_entropy=0.9)[0] == 0 and gtpo(**x, initial_entropy=0.9)[0] != 0
    y = _batch(6, symbols=1)
    y["entropy"] = 0.5 * y["entropy"]
    y["mask"][:] = 1
    assert np.allclose(divided(**y)[1], gtpo(**y)[1] / 5, rtol=1e-9), "all five tokens are in conflict"
