"""Weights, budgets and thresholds by hand; the mask by Algorithm 1 and in its limits; the loss frozen at the mask."""

import numpy as np
import pytest
from scipy.special import log_softmax

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.cppo import cppo, cppo_binary, cppo_mask, dynamic_budget, position_weight, prefix_threshold
from trref.tokens.reduced_divergences import binary_rows
from trref.tokens.terms import logit_gradient


def test_by_hand():
    """A good answer whose tokens all rise: the first spends 0.1, so the second may have 0.065, and spends 0.072.

    The third may have 0.15 + 0.015 * 1.9 - 0.172 = 0.0065, and has 0.004.
    """
    old = np.full((1, 3), -2.0)
    batch = old + 0.1, old, np.ones(1), np.ones((1, 3)), np.array([[0.1, 0.08, 0.005]])
    assert cppo_mask(*batch).tolist() == [[1, 0, 1]]
    loss, gradient = cppo(*batch)
    assert loss == pytest.approx(-2 * np.exp(0.1) / 3)
    assert gradient[0] == pytest.approx([-np.exp(0.1) / 3, 0, -np.exp(0.1) / 3])
    assert cppo_mask(batch[0], old, -np.ones(1), *batch[3:]).tolist() == [[1, 1, 1]], "tokens that return are kept"


def test_late_tokens_have_more_room():
    """Without a budget to keep: the allowance on D is radius / w."""
    T = 6
    old = np.full((1, T), -2.0)
    w = position_weight(np.ones((1, T)))
    for factor, kept in ((0.999, 1), (1.001, 0)):
        batch = old + 0.1, old, np.ones(1), np.ones((1, T)), factor * 0.15 / w
        assert (cppo_mask(*batch, mean_radius=1e9) == kept).all()


def test_masked_tokens_spend_too():
    """The second token is masked out, and what it spent costs the third its gradient."""
    old = np.full((1, 3), -2.0)
    batch = old + 0.1, old, np.ones(1), np.ones((1, 3)), np.array([[0.05, 0.3, 0.1]])
    assert cppo_mask(*batch).tolist() == [[1, 0, 0]]
    kept_only = {d.name: d.f for d in find("cppo.cppo").deviations}["masked tokens spend nothing"]
    assert kept_only(*batch)[1][0, 2] != 0


def test_the_binary_divergence():
    """That of two cells, the sampled token and all others."""
    log_prob, old, advantage, mask = token_batch(4, spread=0.3)
    D = np.maximum(binary_rows(log_prob, old, "total_variation")[0], 0)
    loss, gradient = cppo(log_prob, old, advantage, mask, D)
    binary = cppo_binary(log_prob, old, advantage, mask)
    assert binary[0] == pytest.approx(loss, rel=1e-12) and np.allclose(binary[1], gradient, rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_to_the_logits_at_a_frozen_mask(seed):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((4, 5, 6))
    old_z, actions = z + 0.3 * rng.standard_normal(z.shape), rng.integers(0, 6, (4, 5))
    advantage, mask = rng.standard_normal(4), np.ones((4, 5))

    def taken(logits):
        return np.take_along_axis(log_softmax(logits, -1), actions[..., None], 2)[..., 0]

    D = abs(np.exp(log_softmax(z, -1)) - np.exp(log_softmax(old_z, -1))).sum(-1) / 2
    batch = taken(z), taken(old_z), advantage, mask, D
    keep = cppo_mask(*batch)
    assert 0 < keep.sum() < 20

    def value(x):
        return -float((keep * np.exp(taken(x) - batch[1]) * advantage[:, None]).mean())

    gradient = logit_gradient(z, actions, cppo(*batch)[1])
    check_gradient(value, z, gradient, rng=rng)


def test_the_description_of_the_code_differs_from_the_code():
    """At a late token of divergence 0.16 the paper's rule keeps what the description would drop."""
    shrinks = {d.name: d.f for d in find("cppo.cppo").deviations}["an allowance that shrinks along the answer"]
    old = np.full((1, 2), -2.0)
    batch = old + 0.1, old, np.ones(1), np.ones((1, 2)), np.array([[0.0, 0.16]])
    assert cppo(*batch)[1][0, 1] != 0 == shrinks(*batch)[1][0, 1]


# ---- the budget


def test_weights_by_hand():
    mask = np.array([[1.0, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    expected = [[1, 0.95, 0.9, 0.85, 0.8], [1, 0, 0.9, 0, 0.8], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert np.allclose(position_weight(mask), expected, rtol=1e-14)


def test_thresholds_by_hand():
    """No drift, no change; a first divergence of 0.1 leaves 0.15 + 0.015 - 0.1, and later tokens earn it back."""
    ones = np.ones((1, 3))
    assert prefix_threshold(ones, 0 * ones)[0] == pytest.approx([0.15] * 3)
    assert prefix_threshold(ones, np.array([[0.1, 0.0, 0.0]]))[0] == pytest.approx([0.15, 0.065, 0.0785])
    assert prefix_threshold(ones, np.array([[0.5, 0.0, 0.0]]))[0, 1] < 0


def test_without_a_budget_the_threshold_only_falls():
    rng = np.random.default_rng(0)
    D = rng.exponential(0.02, (20, 30))
    c = prefix_threshold(np.ones_like(D), D, mean_radius=0.0)
    w = position_weight(np.ones_like(D))
    assert (np.diff(c, axis=1) <= 1e-15).all()
    assert np.allclose(c[:, 1:], 0.15 - np.cumsum(w * D, axis=1)[:, :-1], atol=1e-14, rtol=1e-9)


def test_a_large_budget_leaves_one_threshold():
    D = np.random.default_rng(1).random((5, 9))
    assert (prefix_threshold(np.ones_like(D), D, mean_radius=1e6) == 0.15).all()
    assert (prefix_threshold(np.ones_like(D), D)[:, 0] == 0.15).all(), "the first token has no prefix"


def test_what_the_rule_keeps():
    """If all tokens are within their threshold, S_m <= radius + mean_radius W_(m-1)."""
    rng = np.random.default_rng(2)
    D = rng.exponential(0.03, (400, 12))
    ones = np.ones_like(D)
    w, c = position_weight(ones), prefix_threshold(ones, D)
    kept = (w * D <= c).all(1)
    S, W = np.cumsum(w * D, axis=1), np.cumsum(w, axis=1) - w
    assert 20 < kept.sum() < 380 and (S <= 0.15 + 0.015 * W + 1e-14)[kept].all()


@pytest.mark.parametrize("length", [1, 2, 7, 11])
def test_decile(length):
    rng = np.random.default_rng(length)
    D, mask = rng.random((30, 11)), np.zeros((30, 11))
    for row in mask:
        row[rng.choice(11, length, replace=False)] = 1
    expected = [np.quantile(d[m == 1], 0.9) for d, m in zip(D, mask, strict=True)]
    assert dynamic_budget(mask, D, smallest=0.3) == pytest.approx(np.clip(expected, 0.3, 0.6))


def test_rows_are_accounts_of_their_own():
    rng = np.random.default_rng(3)
    D, mask = rng.exponential(0.05, (6, 8)), (np.arange(8) < rng.integers(1, 9, (6, 1))).astype(float)
    for budget in ("fixed", "dynamic"):
        together = prefix_threshold(mask, D, budget=budget)
        for i in range(6):
            n = int(mask[i].sum())
            alone = prefix_threshold(np.ones((1, n)), D[i : i + 1, :n], budget=budget)
            assert np.allclose(together[i, :n], alone[0], rtol=1e-14)
