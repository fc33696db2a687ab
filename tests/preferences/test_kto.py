"""Theorems and limits of KTO."""

import math

import numpy as np
import pytest

from trref.catalog import find
from trref.preferences.dpo import dpo
from trref.preferences.kto import kto, reference_point


def _answers(ratios, desirable):
    return np.array(ratios) - 9, np.full(len(ratios), -9.0), np.array(desirable, dtype=float)


def test_numbers_by_hand():
    """v = log 3 for a good answer, -log 3 for a bad one: 1 - σ = 1/4 and 3/4; slopes ∓3/16, halved by the mean."""
    loss, gradient = kto(*_answers([math.log(3) + 0.5] * 2, [1, 0]), np.array(0.5), beta=1.0)
    assert loss == pytest.approx((1 / 4 + 3 / 4) / 2, rel=1e-14)
    assert gradient == pytest.approx([-3 / 32, 3 / 32], rel=1e-14)


def test_weights_by_hand():
    loss, gradient = kto(
        *_answers([0.0, 0.0], [1, 0]), np.array(0.0), beta=1.0, desirable_weight=3.0, undesirable_weight=0.5
    )
    assert loss == pytest.approx((3 + 0.5) / 4) and gradient == pytest.approx([-3 / 8, 0.5 / 8])


def test_the_weight_is_largest_at_the_point_and_falls_on_both_sides():
    """DPO's, of the same answers as losers, tends to 1 on the wrong side: KTO gives up what contradicts it most."""
    ratios = np.array([-50.0, -5.0, 0.7, 6.4, 51.4])
    weight = -kto(*_answers(ratios, np.ones(5)), np.array(0.7), beta=1.0)[1] * 5
    assert weight[2] == pytest.approx(1 / 4) and weight[2] == weight.max()
    assert weight[1] == pytest.approx(weight[3]) and weight[0] < 1e-20
    zero = np.zeros(1)
    assert dpo(np.array([-50.0]), zero, zero, zero, beta=1.0)[1].chosen_log_prob == pytest.approx([-1.0])


def test_moving_everything_but_not_the_ratios_alone():
    log_prob, ref, desirable = _answers([0.3, -1.0, 2.0], [1, 0, 1])
    loss, gradient = kto(log_prob, ref, desirable, np.array(0.4))
    moved, d_moved = kto(log_prob + 2, ref, desirable, np.array(2.4))
    assert moved == pytest.approx(loss, rel=1e-13) and d_moved == pytest.approx(gradient, rel=1e-12)
    assert abs(kto(log_prob + 2, ref, desirable, np.array(0.4))[0] - loss) > 0.01


def test_at_the_reference_it_is_a_quarter_of_dpo():
    """On the 2B answers of B pairs: β/4 over 2B against β/2 over B."""
    rng = np.random.default_rng(0)
    chosen, rejected = -9 + rng.standard_normal((2, 5))
    pairs = dpo(chosen, rejected, chosen, rejected, beta=0.3)[1]
    both = np.concatenate([chosen, rejected])
    single = kto(both, both, np.repeat([1.0, 0.0], 5), np.array(0.0), beta=0.3)[1]
    assert single == pytest.approx(np.concatenate(pairs) / 4, rel=1e-13)


def test_of_one_label_only():
    for label in (0.0, 1.0):
        loss, gradient = kto(*_answers([1.0, -1.0], [label, label]), np.array(0.2))
        assert 0 < loss < 1 and (np.sign(gradient) == (1 - 2 * label)).all()


def test_the_point_by_hand():
    """Log-ratios 1, 2 and 0: their mean 1; of -1 and -2 it is 0. HALOs leaves the zero out: 3/2."""
    ref = np.array([-4.0, -5.0, -6.0])
    assert reference_point(ref + [1.0, 2.0, 0.0], ref) == pytest.approx(1.0)
    assert reference_point(ref - [1.0, 2.0, 0.0], ref) == 0
    left_out, clamped = find("kto.reference_point").deviations
    assert left_out.f(ref + [1.0, 2.0, 0.0], ref) == pytest.approx(1.5)
    assert clamped.f(ref + [1.0, -2.0, 1.0], ref) == pytest.approx(2 / 3)


def test_its_expectation_is_the_divergence_where_answers_are_the_policys():
    """Not so for answers of others: mismatched ones estimate something smaller."""
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(6), 2)
    kl = (p * np.log(p / q)).sum()
    drawn = rng.choice(6, 40_000, p=p)
    ratio = np.log(p / q)
    allowance = 5 * np.sqrt((p * (ratio - kl) ** 2).sum() / 40_000)
    assert reference_point(np.log(p)[drawn], np.log(q)[drawn]) == pytest.approx(kl, abs=allowance)
    of_reference = rng.choice(6, 40_000, p=q)
    assert reference_point(np.log(p)[of_reference], np.log(q)[of_reference]) == 0  # minus KL(q‖p), clamped


def test_out_of_range():
    with pytest.raises(ValueError, match="desirable"):
        kto(*_answers([1.0], [-1]), np.array(0.0))
    with pytest.raises(ValueError, match="beta must lie in"):
        kto(*_answers([1.0], [1]), np.array(0.0), beta=0.0)
