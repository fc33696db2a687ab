"""Limits of Dr. GRPO."""

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.tokens.dr_grpo import centred_advantage, dr_grpo


def _same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-13) and np.allclose(a[1], b[1], rtol=1e-13)


def test_loss_by_hand():
    """Ratios 1.5 | 0.5, 1.1, advantages 1 and -1, L = 4: (1.2 - 0.8 - 1.1) / 8."""
    log_prob, mask = np.log([[1.5, 9.0], [0.5, 1.1]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    loss, gradient = dr_grpo(log_prob, np.zeros((2, 2)), np.array([1.0, -1.0]), mask, max_length=4)
    assert loss == pytest.approx(0.7 / 8) and np.allclose(gradient, [[0, 0], [0, 1.1 / 8]], rtol=1e-9)


def test_it_is_linear_in_the_constant():
    batch = token_batch(1, spread=0.4)
    loss, gradient = dr_grpo(*batch, max_length=5)
    _same(dr_grpo(*batch, max_length=10), (loss / 2, gradient / 2))


def test_padding_changes_nothing():
    """One more column of padding: verl's default divisor would change."""
    log_prob, old, advantage, mask = token_batch(2, spread=0.4)
    wider = [np.concatenate([x, np.zeros((8, 1))], 1) for x in (log_prob, old, mask)]
    ours = dr_grpo(wider[0], wider[1], advantage, wider[2], max_length=5)
    assert ours[0] == pytest.approx(dr_grpo(log_prob, old, advantage, mask, max_length=5)[0], rel=1e-13)
    padded = next(d.f for d in find("dr_grpo.dr_grpo").deviations if "padded" in d.name)
    narrow, wide = padded(log_prob, old, advantage, mask), padded(wider[0], wider[1], advantage, wider[2])
    _same(narrow, dr_grpo(log_prob, old, advantage, mask, max_length=5))
    assert wide[0] == pytest.approx(5 / 6 * narrow[0], rel=1e-12)


def test_sum_over_the_constant_is_a_factor():
    summed = next(d.f for d in find("dr_grpo.dr_grpo").deviations if "number" in d.name)
    batch = token_batch(3, spread=0.4)
    loss, gradient = dr_grpo(*batch, max_length=7)
    _same(summed(*batch, max_length=7), (8 * loss, 8 * gradient))


def test_advantages_are_on_the_scale_of_the_rewards():
    reward, group = np.array([1.0, 0, 0, 0, 1, 1, 1, 0]), np.repeat([0, 1], 4)
    assert centred_advantage(reward, group) == pytest.approx([0.75, *[-0.25] * 3, *[0.25] * 3, -0.75])
    assert centred_advantage(3 * reward, group) == pytest.approx(3 * centred_advantage(reward, group))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf])
def test_the_constant_must_be_positive(bad):
    with pytest.raises(ValueError, match="max_length must lie in"):
        dr_grpo(*token_batch(0, spread=0.4), max_length=bad)
