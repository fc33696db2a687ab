"""The channel by its moments, the appeals against binomial intervals and Bayes' rule."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from trref.tokens.noisy_rlvr_verifier import channel_mean, estimate_rates, noisy_verifier


def _observed(seed, n, rho0, rho1, right=0.6):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < right).astype(float)
    return truth, noisy_verifier(rng, truth, np.full(n, rho0), np.full(n, rho1)), rng


def test_shares_lie_in_their_binomial_intervals():
    truth, seen, _ = _observed(0, 20000, 0.15, 0.3)
    for kind, expected in ((0, 0.15), (1, 0.7)):
        of_kind = seen[truth == kind]
        interval = binomtest(int(of_kind.sum()), len(of_kind), expected).proportion_ci(0.999)
        assert interval.low < expected < interval.high
    assert channel_mean(np.array([0.0, 1.0]), np.full(2, 0.15), np.full(2, 0.3)) == pytest.approx([0.15, 0.7])


def test_without_noise_nothing_changes():
    truth, seen, _ = _observed(1, 100, 0.0, 0.0)
    assert np.array_equal(truth, seen)


@pytest.mark.parametrize(("rho0", "rho1", "right"), [(0.0, 0.3, 0.6), (0.2, 0.1, 0.3), (0.3, 0.4, 0.8)])
def test_checking_everything_gives_the_shares_themselves(rho0, rho1, right):
    truth, seen, _ = _observed(2, 4000, rho0, rho1, right)
    rates = estimate_rates(seen, truth, np.ones(4000), audit_accepted=True)
    assert rates.false_positive == pytest.approx(seen[truth == 0].mean())
    assert rates.false_negative == pytest.approx((1 - seen)[truth == 1].mean())


def test_appeals_of_a_part_lie_in_the_interval():
    """A tenth of the rejected ones is checked; no false positives."""
    truth, seen, rng = _observed(3, 40000, 0.0, 0.3)
    checked = (rng.random(40000) < 0.1).astype(float)
    appealed = (seen == 0) & (checked == 1)
    ends = binomtest(int(truth[appealed].sum()), int(appealed.sum())).proportion_ci(0.999)
    rejected, accepted = (seen == 0).sum(), (seen == 1).sum()
    low, high = (f * rejected / (accepted + f * rejected) for f in (ends.low, ends.high))
    rates = estimate_rates(seen, truth, checked)
    assert low < rates.false_negative < high and low < 0.3 < high and rates.false_positive == 0


def test_by_hand():
    """6 accepted, of 2 checked 1 right; 4 rejected, of 4 checked 1 right: 1 / (3 + 1), 3 / (3 + 3)."""
    seen = np.array([1.0] * 6 + [0.0] * 4)
    truth = np.array([1.0, 0, 0, 0, 0, 0, 1, 0, 0, 0])
    checked = np.array([1.0, 1, 0, 0, 0, 0, 1, 1, 1, 1])
    rates = estimate_rates(seen, truth, checked, audit_accepted=True)
    assert rates == pytest.approx((0.5, 0.25))
    assert estimate_rates(seen, truth, checked) == pytest.approx((0.0, 1 / 7))
    averaged = estimate_rates(seen, truth, checked, audit_accepted=True, previous=rates, momentum=0.3)
    assert averaged == pytest.approx((0.5, 0.25))
    started = estimate_rates(seen, truth, checked, audit_accepted=True, previous=(0.1, 0.05), momentum=0.5)
    assert started == pytest.approx((0.3, 0.15))


def test_without_an_audit_false_positives_hide_false_negatives():
    truth, seen, _ = _observed(4, 40000, 0.4, 0.3, right=0.4)
    blind, audited = (
        estimate_rates(seen, truth, np.ones(40000), audit_accepted=a).false_negative for a in (False, True)
    )
    assert audited == pytest.approx(0.3, abs=0.02) and blind < 0.23


def test_counts_with_probabilities_have_the_right_mean():
    """Over all draws of three rejected answers, two of them right, each with its own probability; four accepted."""
    truth, chance = np.array([1.0, 0, 1, 1, 1, 1, 1]), np.array([0.2, 0.5, 0.9, 1, 1, 1, 1])
    seen = np.array([0.0, 0, 0, 1, 1, 1, 1])
    mean = 0.0
    for drawn in itertools.product((0.0, 1.0), repeat=3):
        appealed = np.array([*drawn, 1, 1, 1, 1])
        rate = estimate_rates(seen, truth, appealed, chance).false_negative
        right = 4 * rate / (1 - rate)  # of the rejected: rate = right / (4 + right)
        assert right == pytest.approx(drawn[0] / 0.2 + drawn[2] / 0.9)
        mean += np.prod(np.where(appealed == 1, chance, 1 - chance)) * right
    assert mean == pytest.approx(2)


def test_equal_probabilities_give_the_shares_where_their_part_was_drawn():
    truth, seen, rng = _observed(5, 4000, 0.2, 0.3)
    appealed = np.zeros(4000)
    for kind in (0, 1):
        rows = np.flatnonzero(seen == kind)
        appealed[rng.permutation(rows)[: len(rows) // 4]] = 1
    part = np.where(seen == 1, appealed[seen == 1].mean(), appealed[seen == 0].mean())
    by_shares, by_counts = (estimate_rates(seen, truth, appealed, a, audit_accepted=True) for a in (None, part))
    assert by_counts == pytest.approx(by_shares, rel=1e-12)


def test_what_cannot_be_is_refused():
    one = np.ones(2)
    with pytest.raises(ValueError, match="appeal_prob must be positive where appealed is 1"):
        estimate_rates(0 * one, one, np.array([1.0, 0.0]), np.array([0.0, 0.5]))
    with pytest.raises(ValueError, match="previous must lie in"):
        estimate_rates(0 * one, one, one, previous=(0.1, 1.5))
    with pytest.raises(TypeError, match="previous must be a pair"):
        estimate_rates(0 * one, one, one, previous=(0.1,))


def test_bounds_and_empty_batches():
    one = np.ones(3)
    assert estimate_rates(0 * one, one, one) == pytest.approx((0.0, 0.99)), "all right ones rejected"
    assert estimate_rates(one, one, 0 * one) == pytest.approx((0.0, 0.0))
    assert estimate_rates(0 * one, 0 * one, one, audit_accepted=True) == pytest.approx((0.0, 0.0))
