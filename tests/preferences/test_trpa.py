"""Theorems and limits of trust region preference approximation."""

import math

import numpy as np
import pytest

from trref.catalog import find
from trref.preferences.dpo import dpo
from trref.preferences.trpa import pair_loss, preference_levels, trpa


def _batch(seed, B=12, T=6, spread=0.4):
    rng = np.random.default_rng(seed)
    old = -rng.exponential(1.2, (B, T))
    log_prob, ref = old + spread * rng.standard_normal((2, B, T))
    mask = (np.arange(T) < rng.integers(1, T + 1, B)[:, None]).astype(float)
    return log_prob, old, ref, mask, rng.integers(1, 5, B), np.arange(B) // 4


def test_levels():
    levels = preference_levels(np.array([1.0, 1, 1, 0, 0]), np.array([1.0, 1, 0, 1, 0]), np.array([1.0, 0, 1, 1, 0]))
    assert levels.tolist() == [1, 2, 3, 4, 4]


def test_numbers_by_hand():
    """Levels 1, 2, 3 with log-ratios log 3, 0, 0 at β = 1, κ = 2: h = 2 log 3 twice, and 0 for the pair (2, 3)."""
    ratio, level, group = np.array([math.log(3), 0.0, 0.0]), np.array([1, 2, 3]), np.zeros(3, dtype=int)
    loss, gradient = pair_loss(ratio, level, group, beta=1.0, winner_weight=2.0)
    assert loss == pytest.approx((2 * math.log(10 / 9) + math.log(2)) / 3, rel=1e-14)
    # σ(-2 log 3) = 1/10, times κ = 2
    assert gradient == pytest.approx([-0.4 / 3, (0.2 - 0.5) / 3, (0.2 + 0.5) / 3], rel=1e-13)


def test_by_brute_force():
    rng = np.random.default_rng(0)
    u, level, group = rng.standard_normal(10), rng.integers(1, 5, 10), np.arange(10) // 4
    for form in ("pair", "answer"):
        losses = []
        for i in range(10):
            for j in range(10):
                if group[i] == group[j] and level[i] < level[j]:
                    ki, kj = (2.5 if level[k] == 1 else 1.0 for k in (i, j))
                    h = 0.1 * (ki * u[i] - (ki if form == "pair" else kj) * u[j])
                    losses.append(math.log1p(math.exp(-h)))
        assert pair_loss(u, level, group, form=form)[0] == pytest.approx(np.mean(losses), rel=1e-12)


def test_one_pair_is_dpo():
    """Of answers of one token, with κ = 1."""
    log_prob, ref = np.array([[-1.0], [-2.0]]), np.array([[-1.5], [-1.0]])
    one = np.ones((2, 1))
    loss, gradient = trpa(log_prob, log_prob, ref, one, np.array([1, 2]), np.zeros(2, dtype=int), winner_weight=1.0)
    theirs, d_theirs = dpo(log_prob[0], log_prob[1], ref[0], ref[1], beta=0.1)
    assert loss == pytest.approx(theirs, rel=1e-14)
    assert gradient[:, 0] == pytest.approx(np.concatenate(d_theirs), rel=1e-13)


def test_only_differences_count_in_one_form():
    rng = np.random.default_rng(1)
    u, level, group = rng.standard_normal(8), np.array([1, 2, 3, 4] * 2), np.arange(8) // 4
    by_pair, by_answer = pair_loss(u, level, group), pair_loss(u, level, group, form="answer")
    assert pair_loss(u + 3, level, group)[0] == pytest.approx(by_pair[0], rel=1e-12)
    assert abs(by_pair[1].sum()) < 1e-15
    assert pair_loss(u + 3, level, group, form="answer")[0] < by_answer[0] and by_answer[1].sum() < 0
    same = pair_loss(u, level, group, winner_weight=1.0, form="answer")
    assert same[0] == pytest.approx(pair_loss(u, level, group, winner_weight=1.0)[0], rel=1e-14)


def test_without_a_pair_each_is_pushed_by_its_level():
    ratio = np.array([math.log(3), -math.log(3)])
    up, d_up = pair_loss(ratio, np.array([1, 1]), np.zeros(2, dtype=int))
    assert up == pytest.approx((math.log(4 / 3) + math.log(4)) / 2) and d_up == pytest.approx([-1 / 8, -3 / 8])
    down, d_down = pair_loss(ratio, np.array([3, 3]), np.zeros(2, dtype=int))
    assert down == pytest.approx(up) and d_down == pytest.approx([3 / 8, 1 / 8])


def test_the_penalty_has_no_slope_at_the_old_policy():
    _, old, ref, mask, level, group = _batch(2)
    with_penalty = trpa(old, old, ref, mask, level, group, kl_weight=5.0)
    without = trpa(old, old, ref, mask, level, group, kl_weight=0.0)
    assert with_penalty[0] == without[0] and np.array_equal(with_penalty[1], without[1])


def test_the_penalty_by_hand_and_its_clamp():
    """d = log 2: 2 - log 2 - 1, slope 1 - 2; d = 3: 16.1 is 10, without a slope. A mean of three tokens."""
    old = np.array([[-1.0, -1.0, -1.0]])
    log_prob = old - [[math.log(2), 3.0, 0.0]]
    arguments = log_prob, old, log_prob, np.ones((1, 3)), np.array([1]), np.array([0])
    loss, gradient = trpa(*arguments, kl_weight=0.3)
    base, d_base = trpa(*arguments, kl_weight=0.0)
    assert loss - base == pytest.approx(0.1 * (1 - math.log(2) + 10), rel=1e-13)
    assert (gradient - d_base)[0] == pytest.approx([-0.1, 0, 0], abs=1e-15)


def test_the_root_of_the_penalty_by_hand():
    """Of a mean of 2 (by k3 = 2 at one of one tokens) the root is 1.5, and the slope a third of the mean's."""
    d = 1.5052414957928833  # exp(d) - d - 1 = 2
    assert math.expm1(d) - d == pytest.approx(2, rel=1e-15)
    old = np.array([[-1.0]])
    arguments = old - d, old, old - d, np.ones((1, 1)), np.array([1]), np.array([0])
    mean, root, base = (
        trpa(*arguments, kl_weight=c, penalty=name) for c, name in ((0.3, "mean"), (0.3, "root"), (0.0, "root"))
    )
    assert root[0] - base[0] == pytest.approx(0.3 * 1.5, rel=1e-13)
    assert root[1] - base[1] == pytest.approx((mean[1] - base[1]) / 3, rel=1e-13)


def test_what_the_penalty_estimates():
    """Under the old policy: Σ old²/new - 1 - KL(old‖new), which is KL(new‖old) to second order only."""
    rng = np.random.default_rng(3)
    old = rng.dirichlet(np.ones(5))
    direction = rng.standard_normal(5)
    direction -= direction @ old

    def both(step):
        new = old * (1 + step * direction)
        d = np.log(old / new)
        return old @ (np.exp(d) - d - 1), new @ -d, (old**2 / new).sum() - 1 - old @ d

    k3, kl, stated = both(0.2)
    assert k3 == pytest.approx(stated, rel=1e-12) and abs(k3 - kl) > 0.01 * kl
    gaps = [abs(both(step)[0] / both(step)[1] - 1) for step in (0.02, 0.01)]
    assert gaps[1] < 0.6 * gaps[0] < 0.06


def test_micro_batches_change_the_loss():
    batch = _batch(4)
    deviation = find("trpa.trpa").deviations[0]
    assert abs(deviation.f(*batch)[0] - trpa(*batch)[0]) > 1e-3
