"""Theorems and limits of the asymmetric confidence penalty."""

import math

import numpy as np
import pytest
from scipy.special import expit

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.ace import ace, confidence_shift, error_shares, penalty_factor
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.terms import clip_surrogate, token_weights


def _batch(seed, spread=0.5):
    log_prob, old, _, mask = token_batch(seed, spread=spread)
    group, reward = np.repeat([0, 1], 4), np.tile([1.0, 0.0, 0.0, 0.0], 2)
    ref = old + spread * np.random.default_rng(seed).standard_normal(old.shape)
    return log_prob, old, group_advantage(reward, group), mask, ref


def _enlarged(batch, hyper=None):
    """The advantages that the loss amounts to, read off its gradient on fresh samples."""
    log_prob, _, A, mask, ref = batch
    _, gradient = ace(log_prob, log_prob, A, mask, ref, **(hyper or {}))
    return -(gradient / np.where(mask == 1, token_weights(mask, "seq_mean"), 1)).sum(1) / mask.sum(1)


def test_by_hand():
    """Log-ratios 0.3 and 0.5 give c = 0.4; the wrong answer's ratio is 1."""
    log_prob, mask = np.array([[-1.0, -2.0, -9.0]]), np.array([[1.0, 1.0, 0.0]])
    ref = np.array([[-1.3, -2.5, 0.0]])
    assert confidence_shift(log_prob, mask, ref) == pytest.approx([0.4])
    assert confidence_shift(log_prob, mask, ref, shift="sum") == pytest.approx([0.8])
    factor = 1 + math.log(1 + math.exp(0.4))
    loss, gradient = ace(log_prob, log_prob, np.array([-1.0]), mask, ref)
    assert loss == pytest.approx(factor) and np.allclose(gradient, [[factor / 2, factor / 2, 0]], rtol=1e-9)
    assert ace(log_prob, log_prob, np.array([-1.0]), mask, ref, shape="relu")[0] == pytest.approx(1.4)
    assert ace(log_prob, log_prob, np.array([-1.0]), mask, ref, shape="relu", shift="sum")[0] == pytest.approx(1.8)
    assert ace(log_prob, log_prob, np.array([1.0]), mask, ref)[0] == pytest.approx(-1)


def test_softplus_is_logaddexp():
    log_prob, old, _, mask, ref = _batch(0, spread=3.0)
    c = confidence_shift(log_prob, mask, ref)
    assert np.allclose(penalty_factor(log_prob, old, mask, ref, alpha=0.7), 1 + 0.7 * np.logaddexp(0, c), rtol=1e-14)
    assert np.allclose(penalty_factor(log_prob, old, mask, ref, shape="relu"), 1 + np.maximum(c, 0), rtol=1e-14)
    c = confidence_shift(old, mask, ref)
    assert np.allclose(penalty_factor(log_prob, old, mask, ref, shift_of="rollout"), 1 + np.logaddexp(0, c), rtol=1e-14)


@pytest.mark.parametrize("shape", ["softplus", "relu"])
def test_the_penalty_grows_with_confidence(shape):
    _, old, A, mask, ref = _batch(1)
    sizes = []
    for c in (-20.0, -1.0, 0.0, 0.5, 1.0, 4.0):
        batch = ref + c, old, A, mask, ref
        enlarged = _enlarged(batch, {"shape": shape})
        assert np.allclose(enlarged[A > 0], A[A > 0], rtol=1e-14)
        sizes.append(enlarged[A < 0] / A[A < 0])
    assert (np.diff(sizes, axis=0) >= 0).all() and (np.diff(sizes, axis=0)[2:] > 0.1).all()
    assert np.allclose(sizes[0], 1, atol=1e-8, rtol=1e-9), "what has become unlikely is punished as before"
    assert np.allclose(sizes[2], 1 + math.log(2) if shape == "softplus" else 1, rtol=1e-9), (
        "softplus is not neutral at 0"
    )


def test_right_answers_are_untouched():
    log_prob, old, A, mask, ref = _batch(2)
    ours, base = ace(log_prob, old, A, mask, ref)[1], grpo(log_prob, old, A, mask)[1]
    assert np.array_equal(ours[A > 0], base[A > 0])
    assert not np.allclose(ours[A < 0], base[A < 0], rtol=0.1)


def test_it_is_the_base_method_with_other_advantages():
    log_prob, old, A, mask, ref = _batch(3)
    enlarged = np.where(A < 0, A * penalty_factor(log_prob, old, mask, ref), A)
    for hyper, base in (
        ({}, grpo(log_prob, old, enlarged, mask)),
        ({"clip_high": 0.28, "aggregation": "token_mean"}, dapo_over_batch(log_prob, old, enlarged, mask)),
    ):
        ours = ace(log_prob, old, A, mask, ref, **hyper)
        assert ours[0] == pytest.approx(base[0], rel=1e-14) and np.allclose(ours[1], base[1], rtol=1e-14)


def test_advantages_no_longer_sum_to_zero():
    batch = _batch(4)
    assert abs(batch[2][:4].sum()) < 1e-14
    enlarged = _enlarged(batch)
    assert enlarged[:4].sum() < -0.3 and enlarged[4:].sum() < -0.3


def test_a_group_of_wrong_answers_is_not_rescued():
    log_prob, old, _, mask, ref = _batch(5)
    A = group_advantage(np.zeros(8), np.zeros(8, int))
    loss, gradient = ace(log_prob, old, A, mask, ref)
    assert loss == 0 and not gradient.any()


def test_the_amplification_acts_inside_the_clip_only():
    """A wrong token below the lower clip has no gradient, whatever the penalty."""
    token = np.array([[-2.0]]), np.array([[-1.0]]), np.array([-1.0]), np.ones((1, 1)), np.array([[-8.0]])
    assert ace(*token)[1] == 0 and ace(*token)[0] > 5 * grpo(*token[:4])[0]


def test_without_the_mean_the_penalty_grows_with_the_length():
    for T in (2, 20, 200):
        mask, ref = np.ones((1, T)), np.full((1, T), -2.0)
        mean, total = (penalty_factor(ref + 0.1, ref, mask, ref, shift=shift)[0] for shift in ("mean", "sum"))
        assert mean == pytest.approx(1 + math.log(1 + math.exp(0.1)))
        assert total == pytest.approx(1 + math.log(1 + math.exp(0.1 * T)))
    assert total > 20


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((8, 6)), np.full(8, np.nan)])
def test_the_factor_is_checked(bad):
    with pytest.raises(ValueError, match="factor must"):
        ace(*_batch(6), factor=bad)


def test_shares_by_hand():
    ref, mask = np.zeros((5, 1)) - 3, np.ones((5, 1))
    log_prob = ref + np.array([[0.5], [0.05], [-0.5], [0.7], [0.9]])
    shares = error_shares(log_prob, mask, ref, np.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    assert [float(s) for s in shares] == [0.5, 0.25, 0.25]
    assert not any(error_shares(log_prob, mask, ref, np.ones(5)))


@pytest.mark.parametrize("seed", range(3))
def test_differentiating_the_shift_is_another_method(seed):
    """The deviation's gradient is that of the loss without the stop; its sigmoid is SciPy's."""
    slip = find("ace.ace").deviations[0].f
    log_prob, old, A, mask, ref = _batch(seed, spread=0.3)
    value, gradient = slip(log_prob, old, A, mask, ref)
    assert value == pytest.approx(ace(log_prob, old, A, mask, ref)[0], rel=1e-13)
    rng = np.random.default_rng(seed)
    check_gradient(lambda x: ace(x, old, A, mask, ref)[0], log_prob, gradient, rng=rng)
    w, c = token_weights(mask, "seq_mean"), confidence_shift(log_prob, mask, ref)
    term = clip_surrogate(log_prob, old, A, 0.2, 0.2)[0]
    through = (w * term).sum(1) * expit(c) / mask.sum(1) * (A < 0)
    assert np.allclose(gradient + through[:, None] * mask, ace(log_prob, old, A, mask, ref)[1], rtol=1e-12)
    assert abs(through).max() > 1e-3
