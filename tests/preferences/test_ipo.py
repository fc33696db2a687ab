"""Theorems and limits of identity preference optimisation."""

import numpy as np
import pytest

from trref.nn.heads import log_softmax
from trref.preferences import dpo
from trref.preferences.ipo import ipo, length_normalised, optimal_policy, population_loss


def _of_margins(h):
    h = np.asarray(h, dtype=float)
    return h - 5, np.full_like(h, -7.0), np.full_like(h, -5.0), np.full_like(h, -7.0)


def _table(seed, K=5):
    """Preferences of no law, intransitive among them."""
    rng = np.random.default_rng(seed)
    P = np.tril(rng.random((K, K)), -1)
    return rng, P + np.triu(1 - P.T, 1) + 0.5 * np.eye(K)


def test_numbers_by_hand():
    """Target 2 at τ = 1/4; margins 3 and -1: (1 + 9)/2, slopes ±1 and -3."""
    loss, gradient = ipo(*_of_margins([3.0, -1.0]), tau=0.25)
    assert loss == pytest.approx(5.0, rel=1e-14)
    assert gradient.chosen_log_prob == pytest.approx([1.0, -3.0])
    assert gradient.rejected_log_prob == pytest.approx([-1.0, 3.0])


def test_above_the_target_the_chosen_answer_is_pushed_down():
    for h, sign in ((4.9, -1), (5.0, 0), (5.1, 1)):
        assert np.sign(ipo(*_of_margins([h]), tau=0.1)[1].chosen_log_prob.round(12)) == sign


def test_lengths_by_hand():
    """Log-ratios 6 over 3 tokens and -2 over 1: margin 4, target 1 at τ = 1/2, error 3, slopes 6/3 and -6."""
    loss, gradient = length_normalised(
        *[np.array([x]) for x in (-1.0, -9.0, -7.0, -7.0, 3.0, 1.0)],
        tau=0.5,
    )
    assert loss == pytest.approx(9.0)
    assert gradient.chosen_log_prob == pytest.approx([2.0]) and gradient.rejected_log_prob == pytest.approx([-6.0])


def test_equal_lengths_are_another_tau_and_a_factor():
    """Answers of n tokens: τ' = τ / n, and 1 / n² of the loss."""
    pairs, four = _of_margins([3.0, -1.0, 20.0]), np.full(3, 4.0)
    ours, sums = length_normalised(*pairs, four, four, tau=0.2), ipo(*pairs, tau=0.05)
    assert ours[0] == pytest.approx(sums[0] / 16, rel=1e-13)
    assert ours[1].chosen_log_prob == pytest.approx(sums[1].chosen_log_prob / 16, rel=1e-12)


@pytest.mark.parametrize("preference", [1.0, 0.8, 0.5])
def test_two_answers(preference):
    """The margin of the optimum is (2P - 1) / 2τ: finite where the preference is certain, 0 for a tie."""
    P = np.array([[0.5, preference], [1 - preference, 0.5]])
    ref_logits = np.array([0.4, -0.3])
    ratio = optimal_policy(ref_logits, P, tau=0.2) - log_softmax(ref_logits)
    assert ratio[0] - ratio[1] == pytest.approx((2 * preference - 1) / 0.4, abs=1e-13)


def test_the_optimum_is_where_the_gradient_vanishes():
    rng, P = _table(0)
    ref_logits = rng.standard_normal(5)
    optimum = optimal_policy(ref_logits, P, tau=0.3)
    assert abs(population_loss(optimum, ref_logits, P, np.ones((5, 5)), tau=0.3)[1]).max() < 1e-12


def test_it_maximises_the_probability_of_winning():
    """E p(i) - τ KL(π‖ref), against 300 other policies."""
    rng, P = _table(1)
    ref_logits, tau = rng.standard_normal(5), 0.3
    log_ref, p = log_softmax(ref_logits), P.mean(1)

    def objective(q):
        return q @ p - tau * (q * (np.log(q) - log_ref)).sum()

    best = objective(np.exp(optimal_policy(ref_logits, P, tau=tau)))
    assert best > max(objective(np.maximum(q, 1e-12)) for q in rng.dirichlet(np.ones(5), 300))


def test_the_population_is_the_expectation():
    rng, P = _table(2)
    logits, ref_logits, W = rng.standard_normal(5), rng.standard_normal(5), rng.random((5, 5))
    log_prob, ref = log_softmax(logits), log_softmax(ref_logits)
    value, by_log_prob = 0.0, np.zeros(5)
    for i in range(5):
        for j in range(5):
            loss, gradient = ipo(*[np.array([x]) for x in (log_prob[i], log_prob[j], ref[i], ref[j])])
            value += W[i, j] * P[i, j] * loss
            by_log_prob[[i, j]] += W[i, j] * P[i, j] * np.concatenate(gradient) if i != j else 0
    loss, gradient = population_loss(logits, ref_logits, P, W)
    assert loss == pytest.approx(value, rel=1e-12)
    assert gradient == pytest.approx(by_log_prob - np.exp(log_prob) * by_log_prob.sum(), rel=1e-11)


def test_where_bradley_and_terry_hold_dpo_finds_the_reward_and_ipo_another_policy():
    reward = np.array([-1.0, 0.0, 2.0])
    P = 1 / (1 + np.exp(reward[None] - reward[:, None]))
    ref_logits = np.zeros(3)
    ours, theirs = optimal_policy(ref_logits, P, tau=0.5), dpo.optimal_policy(ref_logits, reward, beta=0.5)
    assert abs(np.exp(ours) - np.exp(theirs)).max() > 0.05
