"""The mask by Algorithm 1 and in its limits, the divergence mask; the loss frozen at the mask."""

import numpy as np
import pytest
from scipy.special import log_softmax

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.cppo import cppo, cppo_binary, cppo_mask
from trref.tokens.cppo_budget import position_weight
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
    """Without a budget to keep: the allowance on D is delta / w."""
    T = 6
    old = np.full((1, T), -2.0)
    w = position_weight(np.ones((1, T)))
    for factor, kept in ((0.999, 1), (1.001, 0)):
        batch = old + 0.1, old, np.ones(1), np.ones((1, T)), factor * 0.15 / w
        assert (cppo_mask(*batch, delta_b=1e9) == kept).all()


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
