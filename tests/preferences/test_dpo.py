"""Theorems and limits of direct preference optimisation."""

import math

import numpy as np
import pytest

from trref.nn.heads import log_softmax
from trref.preferences.dpo import (
    dpo,
    hinge,
    implicit_reward,
    length_normalised,
    optimal_policy,
    population_loss,
    reference_free,
    robust,
    sequence_log_prob,
)


def _pairs(seed, B=30):
    rng = np.random.default_rng(seed)
    return [-10 + 3 * rng.standard_normal(B) for _ in range(4)]


def _of_margins(h):
    h = np.asarray(h, dtype=float)
    return h - 5, np.full_like(h, -7.0), np.full_like(h, -5.0), np.full_like(h, -7.0)


def test_numbers_by_hand():
    """Margins log 3 and 0: losses log 4/3 and log 2, slopes -1/4 and -1/2, halved by the mean."""
    loss, gradient = dpo(*_of_margins([math.log(3), 0.0]), beta=1.0)
    assert loss == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-14)
    assert gradient.chosen_log_prob == pytest.approx([-1 / 8, -1 / 4], rel=1e-14)
    assert gradient.rejected_log_prob == pytest.approx([1 / 8, 1 / 4], rel=1e-14)


def test_at_the_reference_the_weight_is_half_of_beta():
    chosen, rejected, *_ = _pairs(0)
    loss, gradient = dpo(chosen, rejected, chosen, rejected, beta=0.3)
    assert loss == pytest.approx(math.log(2), rel=1e-14)
    assert gradient.chosen_log_prob == pytest.approx(np.full(30, -0.15 / 30), rel=1e-14)


def test_only_differences_count():
    """Both answers less likely by the same: the same loss. So the loss cannot keep the chosen one up."""
    chosen, rejected, *reference = _pairs(1)
    assert dpo(chosen - 3, rejected - 3, *reference)[0] == pytest.approx(
        dpo(chosen, rejected, *reference)[0], rel=1e-12
    )


def test_conservative_by_hand_and_its_minimum():
    """With s = 1/5 at margin log 3: 4/5 log 4/3 + 1/5 log 4; the slope vanishes at log 4."""
    loss, gradient = dpo(*_of_margins([math.log(3)]), beta=1.0, label_smoothing=0.2)
    assert loss == pytest.approx(0.8 * math.log(4 / 3) + 0.2 * math.log(4), rel=1e-14)
    assert gradient.chosen_log_prob == pytest.approx([-0.8 / 4 + 0.2 * 3 / 4], rel=1e-13)
    at_minimum = dpo(*_of_margins([math.log(4) / 0.25]), beta=0.25, label_smoothing=0.2)[1]
    assert abs(at_minimum.chosen_log_prob).max() < 1e-15


def test_a_tie_pulls_back_to_the_reference():
    """Half of the labels wrong: the loss is even in the margin, with its minimum log 2 at 0."""
    losses = [dpo(*_of_margins([h]), beta=1.0, label_smoothing=0.5)[0] for h in (-2.0, 0.0, 2.0)]
    assert losses[0] == pytest.approx(losses[2]) and losses[1] == pytest.approx(math.log(2)) and losses[0] > losses[1]


def test_robust_is_unbiased():
    """Its mean over labels that are flipped with probability s is the loss of the right labels."""
    chosen, rejected, ref_chosen, ref_rejected = _pairs(2)
    right = dpo(chosen, rejected, ref_chosen, ref_rejected)
    s = 0.3
    kept = robust(chosen, rejected, ref_chosen, ref_rejected, label_smoothing=s)
    flipped = robust(rejected, chosen, ref_rejected, ref_chosen, label_smoothing=s)
    assert (1 - s) * kept[0] + s * flipped[0] == pytest.approx(right[0], rel=1e-12)
    mean = (1 - s) * kept[1].chosen_log_prob + s * flipped[1].rejected_log_prob
    assert mean == pytest.approx(right[1].chosen_log_prob, rel=1e-12)


def test_robust_has_no_minimum_and_conservative_has():
    margins = np.array([100.0])
    assert robust(*_of_margins(margins), beta=1.0)[1].chosen_log_prob[0] == pytest.approx(-0.1 / 0.8)
    assert robust(*_of_margins(margins), beta=1.0)[0] == pytest.approx(-0.1 * 100 / 0.8)
    assert dpo(*_of_margins(margins), beta=1.0, label_smoothing=0.1)[1].chosen_log_prob[0] == pytest.approx(0.1)


def test_reference_free_ignores_what_the_reference_says():
    chosen, rejected, ref_chosen, ref_rejected = _pairs(3)
    free = reference_free(chosen, rejected, beta=0.2)
    zero = np.zeros(30)
    assert free[0] == pytest.approx(dpo(chosen, rejected, zero, zero, beta=0.2)[0])
    assert abs(free[0] - dpo(chosen, rejected, ref_chosen, ref_rejected, beta=0.2)[0]) > 1e-3


def test_an_answer_said_twice():
    """Its sum and its length double: the mean stays, and the margin of the sums does not."""
    chosen, rejected, ref_chosen, ref_rejected = _pairs(4)
    lengths = np.arange(1.0, 31.0), np.arange(31.0, 1.0, -1.0)
    once = length_normalised(chosen, rejected, ref_chosen, ref_rejected, *lengths)
    twice = length_normalised(2 * chosen, rejected, 2 * ref_chosen, ref_rejected, 2 * lengths[0], lengths[1])
    assert twice[0] == pytest.approx(once[0], rel=1e-12)
    assert twice[1].chosen_log_prob == pytest.approx(once[1].chosen_log_prob / 2, rel=1e-12)
    assert abs(dpo(2 * chosen, rejected, 2 * ref_chosen, ref_rejected)[0] - dpo(*_pairs(4))[0]) > 1e-3


def test_equal_lengths_are_another_beta():
    pairs = _pairs(5)
    five = np.full(30, 5.0)
    ours, plain = length_normalised(*pairs, five, five, beta=1.0), dpo(*pairs, beta=0.2)
    assert ours[0] == pytest.approx(plain[0], rel=1e-12)
    assert ours[1].rejected_log_prob == pytest.approx(plain[1].rejected_log_prob, rel=1e-12)


def test_lengths_by_hand():
    """Log-ratios 6 over 3 tokens and -2 over 1 token: margin 2 + 2, slope σ(-4)/3 and σ(-4)."""
    loss, gradient = length_normalised(
        *[np.array([x]) for x in (-1.0, -9.0, -7.0, -7.0, 3.0, 1.0)],
        beta=1.0,
    )
    sigma = 1 / (1 + math.exp(4))
    assert loss == pytest.approx(math.log1p(math.exp(-4)), rel=1e-13)
    assert gradient.chosen_log_prob == pytest.approx([-sigma / 3]) and gradient.rejected_log_prob == pytest.approx(
        [sigma]
    )


def test_hinge_by_hand():
    """Margins 0.5, 1 and 3: losses 0.5, 0 and 0; only the first has a slope."""
    loss, gradient = hinge(*_of_margins([0.5, 1.0, 3.0]), beta=1.0)
    assert loss == pytest.approx(0.5 / 3) and gradient.chosen_log_prob == pytest.approx([-1 / 3, 0, 0])


def test_margins_of_any_size():
    """log σ in two steps would be log 0 here."""
    loss, gradient = dpo(*_of_margins([2e4, -2e4]), beta=1.0)
    assert loss == pytest.approx(1e4) and gradient.chosen_log_prob == pytest.approx([0.0, -0.5])


def test_sequences():
    log_prob, mask = np.array([[-1.0, -2.0, -9.0], [-3.0, -4.0, -5.0]]), np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert sequence_log_prob(log_prob, mask) == pytest.approx([-3.0, 0.0])
    assert sequence_log_prob(log_prob, mask, average=True) == pytest.approx([-1.5, 0.0])


def _table(seed, K=5):
    rng = np.random.default_rng(seed)
    reward, weight = rng.standard_normal(K), rng.exponential(1.0, (K, K))
    return rng, reward, 1 / (1 + np.exp(reward[None] - reward[:, None])), weight + weight.T


def test_the_population_is_the_expectation():
    rng, _, P, W = _table(6)
    logits, ref_logits = rng.standard_normal((2, 5))
    log_prob, ref = log_softmax(logits), log_softmax(ref_logits)
    value, by_log_prob = 0.0, np.zeros(5)
    for i in range(5):
        for j in range(5):
            one = [np.array([x]) for x in (log_prob[i], log_prob[j], ref[i], ref[j])]
            loss, gradient = dpo(*one, beta=0.4)
            value += W[i, j] * P[i, j] * loss
            by_log_prob[i] += W[i, j] * P[i, j] * gradient.chosen_log_prob[0]
            by_log_prob[j] += W[i, j] * P[i, j] * gradient.rejected_log_prob[0]
    by_logits = by_log_prob - np.exp(log_prob) * by_log_prob.sum()
    loss, gradient = population_loss(logits, ref_logits, P, W, beta=0.4)
    assert loss == pytest.approx(value, rel=1e-12) and gradient == pytest.approx(by_logits, rel=1e-11)


@pytest.mark.parametrize("beta", [0.05, 0.5, 3.0])
def test_the_optimum_of_the_objective_is_that_of_the_loss(beta):
    """With preferences of Bradley and Terry. The loss is convex in the logits: a zero gradient is the minimum."""
    rng, reward, P, W = _table(7)
    ref_logits = rng.standard_normal(5)
    optimum = optimal_policy(ref_logits, reward, beta=beta)
    assert abs(population_loss(optimum, ref_logits, P, W, beta=beta)[1]).max() < 1e-13
    # and it maximises E[r] - beta KL(pi‖ref): better than 200 others
    p, log_ref = np.exp(optimum), log_softmax(ref_logits)

    def objective(p):
        return p @ reward - beta * (p * (np.log(p) - log_ref)).sum()

    others = rng.dirichlet(np.ones(5), 200)
    assert objective(p) > max(objective(np.maximum(q, 1e-12)) for q in others)


def test_the_implicit_reward_is_the_reward_up_to_a_constant():
    rng, reward, *_ = _table(8)
    ref_logits = rng.standard_normal(5)
    optimum = optimal_policy(ref_logits, reward, beta=0.7)
    implicit = implicit_reward(optimum, log_softmax(ref_logits), beta=0.7)
    assert np.ptp(implicit - reward) < 1e-13


def test_certain_preferences_have_no_optimum():
    """The slope of the margin has one sign, whatever beta."""
    P, W = np.array([[0.5, 1.0], [0.0, 0.5]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    for beta in (0.01, 1.0):
        losses = [population_loss(np.array([m, 0.0]), np.zeros(2), P, W, beta=beta)[0] for m in (0, 10, 100, 300)]
        assert (np.diff(losses) < 0).all()
        assert population_loss(np.array([300.0, 0.0]), np.zeros(2), P, W, beta=beta)[1][0] < 0


def test_out_of_range():
    pairs, one = _pairs(0), np.ones(30)
    with pytest.raises(ValueError, match="label_smoothing must lie in"):
        robust(*pairs, label_smoothing=0.5)
    with pytest.raises(ValueError, match="label_smoothing must lie in"):
        dpo(*pairs, label_smoothing=0.7)
    with pytest.raises(ValueError, match="chosen_length"):
        length_normalised(*pairs, 0 * one, one)
    with pytest.raises(ValueError, match="beta must lie in"):
        dpo(*pairs, beta=0.0)
