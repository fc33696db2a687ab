"""Weights by hand, the bias of each by enumeration of all answers, and the two conventions of rejection."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import log_softmax

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.conformance import identify
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.rollout_correction import (
    normalised_weight,
    off_policy_mask,
    rejection_mask,
    rollout_corrected,
    rollout_weight,
)


def test_weights_by_hand():
    """Ratios 4, 1/2 and (masked) 9: product 2, geometric mean √2."""
    old, sampler, mask = np.log([[4.0, 0.5, 9.0]]), np.zeros((1, 3)), np.array([[1.0, 1.0, 0.0]])

    def weight(**hyper):
        return rollout_weight(old, sampler, mask, **hyper)[0]

    assert np.allclose(weight(upper=3.0), [3, 0.5, 0], rtol=1e-9)
    assert np.allclose(weight(upper=3.0, lower=0.7), [3, 0.7, 0], rtol=1e-9)
    assert np.allclose(weight(rule="mask", lower=0.6, upper=5.0), [4, 0, 0], rtol=1e-9)
    assert np.allclose(weight(level="sequence", upper=5.0), [2, 2, 0], rtol=1e-9)
    assert np.allclose(weight(level="sequence", upper=1.5), [1.5, 1.5, 0], rtol=1e-9)
    assert np.allclose(weight(level="geometric"), [math.sqrt(2), math.sqrt(2), 0], rtol=1e-9)
    assert np.allclose(weight(level="geometric", rule="mask", upper=1.4), 0, rtol=1e-9)


def test_loss_by_hand():
    """One answer, ratios of the sampler 4 and 1/2 capped at 2, ratios of the update 1.1 and 1.5, advantage 1."""
    old, sampler = np.log([[0.4, 0.2]]), np.log([[0.1, 0.4]])
    log_prob = old + np.log([[1.1, 1.5]])
    loss, gradient = rollout_corrected(log_prob, old, np.ones(1), np.ones((1, 2)), sampler)
    assert loss == pytest.approx(-(2 * 1.1 + 0.5 * 1.2) / 2) and np.allclose(gradient, [[-1.1, 0]], rtol=1e-9)


def test_rejection_by_hand():
    old, sampler, mask = np.log([[4.0, 0.5], [1.0, 1.2]]), np.zeros((2, 2)), np.array([[1.0, 1.0], [1.0, 0.0]])
    assert np.array_equal(rejection_mask(old, sampler, mask, lower=0.4, upper=3.0), [[0, 1], [1, 0]])
    assert np.array_equal(rejection_mask(old, sampler, mask, level="sum"), [[1, 1], [1, 0]])  # the product is 2
    assert np.array_equal(rejection_mask(old, sampler, mask, level="all", upper=3.0), [[0, 0], [1, 0]])
    veto = {"level": "all", "lower": 0.6, "upper": 1e15}
    assert np.array_equal(rejection_mask(old, sampler, mask, **veto), [[0, 0], [1, 0]])
    assert np.array_equal(rejection_mask(old, sampler, mask, level="sum", upper=1.9), [[0, 0], [1, 0]])
    k3 = [math.exp(d) - 1 - d for d in (math.log(4), math.log(0.5))]
    assert np.array_equal(rejection_mask(old, sampler, mask, statistic="k3", upper=k3[1] + 1e-9), [[0, 1], [1, 0]])
    mean = sum(k3) / 2
    for upper, kept in ((mean + 1e-9, 1), (mean - 1e-9, 0)):
        assert rejection_mask(old, sampler, mask, statistic="k3", level="mean", upper=upper)[0, 0] == kept


def test_the_inverse_ratio_is_the_same_for_reciprocal_bounds_alone():
    inverse = find("rollout_correction.rejection_mask").deviations[0].f
    old, sampler, _, mask = token_batch(0, spread=1.0)
    for bounds, same in (({"lower": 0.5, "upper": 2.0}, True), ({"lower": 0.5, "upper": 5.0}, False)):
        ours, theirs = (f(old, sampler, mask, **bounds) for f in (rejection_mask, inverse))
        assert np.array_equal(ours, theirs) == same
    three = np.log([[3.0]]), np.zeros((1, 1)), np.ones((1, 1))
    assert rejection_mask(*three, upper=5.0) == 1 and inverse(*three, upper=5.0) == 0


def test_the_default_bounds_tell_the_two_conventions_apart():
    inverse = find("rollout_correction.rejection_mask").deviations[0].f
    old, sampler, _, mask = token_batch(0, spread=1.0)
    assert not np.array_equal(rejection_mask(old, sampler, mask), inverse(old, sampler, mask))


def test_bad_answers_that_the_policy_has_left_are_dropped():
    """Mean log-ratios of the sampler to the policy 0.2, 0.2 and 0.05; a masked token does not count."""
    sampler = np.array([[-1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0]])
    log_prob = sampler - np.array([[0.1, 0.3], [0.1, 0.3], [0.05, 9.0]])
    mask = np.array([[1.0, 1], [1, 1], [1, 0]])
    kept = off_policy_mask(log_prob, sampler, np.array([-1.0, 1.0, -1.0]), mask, radius=0.15)
    assert kept.tolist() == [[0, 0], [1, 1], [1, 0]]
    kept = off_policy_mask(log_prob, sampler, np.array([-1.0, 1.0, -1.0]), mask, radius=0.25)
    assert np.array_equal(kept, mask)


def test_normalised_weights_have_mean_one():
    old, sampler, _, mask = token_batch(2, spread=1.0)
    weight = rollout_weight(old, sampler, mask)
    scaled = normalised_weight(weight, mask)
    assert scaled.sum() / mask.sum() == pytest.approx(1, rel=1e-13)
    assert np.allclose(scaled * weight.sum() / mask.sum(), weight, rtol=1e-13, atol=0)


V, T = 3, 2
ANSWERS = np.array(list(itertools.product(range(V), repeat=T)))


def _policy(seed, scale):
    """Log-probabilities (9, 2) of the tokens of all answers under the old policy and the sampler, and scores."""
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((T, V, V))
    previous = np.concatenate([np.zeros((len(ANSWERS), 1), int), ANSWERS[:, :-1]], 1)
    old, sampler = (
        log_softmax(z[np.arange(T), previous], -1) for z in (table, table + scale * rng.standard_normal(table.shape))
    )
    score = np.zeros((len(ANSWERS), T, T, V, V))
    for i, t in itertools.product(range(len(ANSWERS)), range(T)):
        score[i, t, t, previous[i, t]] = np.eye(V)[ANSWERS[i, t]] - np.exp(old[i, t])
    taken = [np.take_along_axis(x, ANSWERS[..., None], 2)[..., 0] for x in (old, sampler)]
    return *taken, score


def _expectations(seed, scale=0.7, **hyper):
    """The expected gradient of the mean reward by weighted samples of the sampler, and the true one."""
    old, sampler, score = _policy(seed, scale)
    reward = np.random.default_rng([seed, 1]).standard_normal(len(ANSWERS))
    _, gradient = rollout_corrected(old, old, reward, np.ones_like(old), sampler, aggregation="seq_mean", **hyper)
    coefficient = -gradient * len(ANSWERS) * T
    mean = np.einsum("n,nt,nt...->...", np.exp(sampler.sum(1)), coefficient, score)
    true = np.einsum("n,n,nt...->...", np.exp(old.sum(1)), reward, score)
    return mean, true


@pytest.mark.parametrize("seed", range(3))
def test_only_the_answers_weight_is_unbiased(seed):
    mean, true = _expectations(seed, level="sequence", upper=1e12)
    assert np.allclose(mean, true, atol=1e-12, rtol=1e-9)
    for hyper in (
        {"upper": 1e12},
        {"level": "geometric", "upper": 1e12},
        {"rule": "mask", "lower": 0.5, "upper": 5.0},
        {"level": "sequence", "upper": 1.2},
    ):
        mean, true = _expectations(seed, **hyper)
        assert abs(mean - true).max() > 1e-3 * abs(true).max(), hyper


@pytest.mark.parametrize("cap", [0.5, 1.5, 3.0])
def test_what_truncation_loses(cap):
    """E[min(ρ, C)] = 1 - E[(ρ - C)+] under the sampler."""
    old, sampler, _ = _policy(0, 0.7)
    p, ratio = np.exp(sampler.sum(1)), np.exp((old - sampler).sum(1))
    weight = rollout_weight(old, sampler, np.ones_like(old), level="sequence", upper=cap)[:, 0]
    assert p @ weight == pytest.approx(1 - p @ np.maximum(ratio - cap, 0), abs=1e-14)


def test_rules_and_levels_agree_where_they_should():
    log_prob, old, advantage, mask = token_batch(1)
    sampler = old + 0.1 * np.random.default_rng(1).standard_normal(old.shape)
    tis, icepop = (rollout_corrected(log_prob, old, advantage, mask, sampler, rule=r) for r in ("truncate", "mask"))
    assert tis[0] == icepop[0] and np.array_equal(tis[1], icepop[1])
    one = (mask * (np.arange(mask.shape[1]) == 0)), {"upper": 1.3}
    weights = [
        rollout_weight(old, sampler, one[0], level=x, **one[1])[:, 0] for x in ("token", "sequence", "geometric")
    ]
    assert np.allclose(weights[0], weights[1], rtol=1e-9) and np.allclose(weights[0], weights[2], rtol=1e-9)
    assert rollout_corrected(log_prob, old, advantage, mask, old)[0] == pytest.approx(
        dapo_over_batch(log_prob, old, advantage, mask, clip_high=0.2)[0]
    )


def test_long_answers_do_not_overflow():
    """A product of 60 ratios of e^25 is capped before it is formed."""
    old, sampler, mask = np.full((1, 60), -1.0), np.full((1, 60), -26.0), np.ones((1, 60))
    assert (rollout_weight(old, sampler, mask, level="sequence") == 2).all()
    assert (rollout_weight(old, sampler, mask, level="sequence", rule="mask") == 0).all()


def test_bounds_in_the_wrong_order():
    old, sampler, mask = np.zeros((1, 1)), np.zeros((1, 1)), np.ones((1, 1))
    with pytest.raises(ValueError, match="upper"):
        rollout_weight(old, sampler, mask, lower=3.0, upper=2.0)


def _mine(log_prob, old_log_prob, advantage, mask, behavior_log_prob, upper=2.0, clip=0.2):
    """TIS as written: each token's clipped term times its capped ratio."""
    count, value, gradient = max(mask.sum(), 1), 0.0, np.zeros_like(mask)
    for i, t in zip(*np.nonzero(mask), strict=True):
        A = advantage[i] if advantage.ndim == 1 else advantage[i, t]
        ratio = math.exp(log_prob[i, t] - old_log_prob[i, t])
        weight = min(math.exp(old_log_prob[i, t] - behavior_log_prob[i, t]), upper)
        clipped = min(max(ratio, 1 - clip), 1 + clip) * A
        value += weight * min(ratio * A, clipped) / count
        gradient[i, t] = weight * ratio * A / count if ratio * A <= clipped else 0.0
    return -value, -gradient


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["rollout_correction.rollout_corrected"]
