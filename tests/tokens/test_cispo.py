"""CISPO: its weight, its coefficient at the four corners, and what tells it from the clip."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.conformance import Options, identify, verify
from trref.tokens.cispo import cispo, importance_weight
from trref.tokens.dapo import dapo_over_batch


def test_by_hand():
    """Ratios 8, 2 and 0.5; bound 5, so the weights are 5, 2 and 0.5; three tokens."""
    log_prob = np.log([[0.8, 0.4], [0.05, 0.9]])
    old, mask = np.log([[0.1, 0.2], [0.1, 0.3]]), np.array([[1.0, 1.0], [1.0, 0.0]])
    loss, gradient = cispo(log_prob, old, np.array([1.0, -2.0]), mask)
    assert np.allclose(importance_weight(log_prob, old), [[5, 2], [0.5, 3]], rtol=1e-14)
    assert np.allclose(gradient, [[-5 / 3, -2 / 3], [1 / 3, 0]], rtol=1e-14)
    assert loss == pytest.approx(-(5 * math.log(0.8) + 2 * math.log(0.4) - math.log(0.05)) / 3)


@pytest.mark.parametrize("sign, ratio", [(1.0, 3.0), (1.0, 0.1), (-1.0, 3.0), (-1.0, 0.1)])
def test_corners(sign, ratio):
    """Where the clip silences a token, or lets its coefficient grow without bound, CISPO's is the clipped ratio."""
    one = np.log([[ratio]]), np.zeros((1, 1)), np.array([sign]), np.ones((1, 1))
    ours = cispo(*one, clip_high=0.28)[1][0, 0]
    clip = dapo_over_batch(*one)[1][0, 0]
    assert ours == pytest.approx(-sign * min(ratio, 1.28))
    silent = (sign > 0) == (ratio > 1)
    assert clip == pytest.approx(0 if silent else -sign * ratio)


def test_the_coefficient_is_bounded():
    log_prob, old, advantage, mask = token_batch(0, spread=3.0)
    bound = 5 * abs(advantage)[:, None] / mask.sum()
    assert (abs(cispo(log_prob, old, advantage, mask)[1]) <= bound * (1 + 1e-12)).all()
    assert (abs(dapo_over_batch(log_prob, old, advantage, mask)[1]) > bound).any()


def test_the_weight_has_to_be_held_constant():
    """The gradient is that of the loss with a frozen weight; recomputed in the quotient, the check fails."""
    log_prob, old, advantage, mask = token_batch(1)
    weight, rng = importance_weight(log_prob, old), np.random.default_rng(1)
    gradient = cispo(log_prob, old, advantage, mask)[1]
    check_gradient(lambda x: cispo(x, old, advantage, mask, weight=weight)[0], log_prob, gradient, rng=rng)
    with pytest.raises(AssertionError):
        check_gradient(lambda x: cispo(x, old, advantage, mask)[0], log_prob, gradient, rng=rng)


def test_with_the_mask_ppo_s_zeros_are_back_and_bad_tokens_stay_bounded():
    d = np.log([[1.5], [0.5], [1.5], [0.5], [1.1]])
    A = np.array([1.0, 1.0, -1.0, -1.0, -1.0])
    bounds = {"clip_low": 0.2, "clip_high": 0.2, "masked": True}
    gradient = cispo(d, 0 * d, A, np.ones((5, 1)), **bounds)[1]
    assert -5 * gradient[:, 0] == pytest.approx([0, 0.8, -1.2, 0, -1.1], rel=1e-13)


def test_a_surrogate_of_the_same_gradient():
    """The ratio up to the bound C, C (1 + log(ratio / C)) beyond."""
    log_prob, old, advantage, mask = token_batch(2, spread=1.5)

    def surrogate(x):
        ratio = np.exp(x - old)
        tau = np.where(ratio <= 5, ratio, 5 * (1 + np.log(ratio / 5)))
        return -(mask * tau * advantage[:, None]).sum() / mask.sum()

    gradient = cispo(log_prob, old, advantage, mask)[1]
    check_gradient(surrogate, log_prob, gradient, rng=np.random.default_rng(2))


def test_a_cap_at_the_width_is_reinforce_times_a_constant():
    """TRL's convention with 0.2: where no ratio falls below 0.2, each token weighs 0.2."""
    log_prob, old, advantage, mask = token_batch(3, spread=0.1)
    capped = next(d.f for d in find("cispo.cispo").deviations if "capped" in d.name)
    gradient = capped(log_prob, old, advantage, mask, clip_high=0.2)[1]
    assert np.allclose(gradient, -0.2 * mask * advantage[:, None] / mask.sum(), rtol=1e-13)


def _mine(log_prob, old_log_prob, advantage, mask, clip_low=1.0, clip_high=4.0):
    """Written from the equations, token by token."""
    count, loss, gradient = max(mask.sum(), 1), 0.0, np.zeros_like(log_prob)
    for i, t in zip(*np.nonzero(mask), strict=True):
        A = advantage[i] if advantage.ndim == 1 else advantage[i, t]
        ratio = math.exp(log_prob[i, t] - old_log_prob[i, t])
        gradient[i, t] = -min(max(ratio, 1 - clip_low), 1 + clip_high) * A / count
        loss += gradient[i, t] * log_prob[i, t]
    return loss, gradient


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["cispo.cispo"]
    assert verify("cispo.cispo", _mine, Options(reference={"aggregation": "token_mean"})).conforms


def test_bad_input():
    log_prob, old, advantage, mask = token_batch(4)
    with pytest.raises(ValueError, match="clip_high"):
        cispo(log_prob, old, advantage, mask, clip_high=0)
    with pytest.raises(ValueError, match="aggregation"):
        cispo(log_prob, old, advantage, mask, aggregation="mean")
