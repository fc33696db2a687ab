"""Theorems and limits of trapo."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.distillation.psft import sft
from trref.distillation.trapo import GROUPS, population_loss, prefix_ratio, trapo, trsft_optimum, trust_region_sft
from trref.tokens.dr_grpo import centred_advantage, dr_grpo


def _softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def _phi(p, alpha):
    """The potential as two cases."""
    return -math.log(p) if p >= alpha else 1 - math.log(alpha) - p / alpha


def _batch(seed, B=6, T=5):
    rng = np.random.default_rng(seed)
    old = -0.05 - rng.exponential(1.5, (B, T))
    new = -abs(old + 0.4 * rng.standard_normal((B, T)))
    prefix = (np.arange(T) < rng.integers(0, T, (B, 1))).astype(float)
    mask = (rng.random((B, T)) < 0.8).astype(float)
    return new, old, rng.standard_normal(B), prefix, np.ones((B, T)), mask


def test_numbers_by_hand():
    """Tokens of 0.5 and 0.05 at α = 0.1: -log 0.5, and 1 - log 0.1 - 0.5; pulls 1 and 0.5."""
    loss, gradient = trust_region_sft(np.log([[0.5, 0.05]]), np.ones((1, 2)))
    assert loss == pytest.approx((-math.log(0.5) + 0.5 - math.log(0.1)) / 2)
    assert gradient == pytest.approx(np.array([[-0.5, -0.25]]))


@pytest.mark.parametrize("alpha", [0.0, 0.03, 0.5, 1.0])
def test_the_potential_is_the_integral_of_the_weight(alpha):
    """φ(1) = 0, and its slope in p is -1/max(p, α), by differences, on both sides of α."""
    one = np.ones((1, 1))
    assert trust_region_sft(np.zeros((1, 1)), one, alpha=alpha)[0] == 0
    for p in (0.01, 0.04, 0.3, 0.7):
        value, slope = trust_region_sft(np.log([[p]]), one, alpha=alpha)
        assert value == pytest.approx(_phi(p, alpha)) and slope == pytest.approx(-p / max(p, alpha))
        up, down = (trust_region_sft(np.log([[p + e]]), one, alpha=alpha)[0] for e in (1e-7, -1e-7))
        assert (up - down) / 2e-7 == pytest.approx(-1 / max(p, alpha), rel=1e-6)


def test_no_token_pulls_its_probability_by_more_than_one_over_alpha():
    log_prob = np.log(np.geomspace(1e-12, 1, 200))[None]
    pull = -200 * trust_region_sft(log_prob, np.ones((1, 200)), alpha=0.2)[1] / np.exp(log_prob)
    assert pull.max() == pytest.approx(5.0) and (np.diff(pull[0]) <= 1e-12).all()
    plain = -200 * sft(log_prob, np.ones((1, 200)))[1] / np.exp(log_prob)
    assert plain.max() > 1e11


def _loss(q, e, alpha):
    return sum(x * _phi(y, alpha) for x, y in zip(e, q, strict=True) if x)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_against_slsqp(seed, alpha):
    rng = np.random.default_rng(seed)
    e = rng.dirichlet(np.ones(5))
    q = trsft_optimum(e[None], alpha=alpha)[0]
    assert q.sum() == pytest.approx(1) and (q >= 0).all()
    best = min(
        minimize(
            lambda x: _loss(np.maximum(x, 1e-12), e, alpha),
            rng.dirichlet(np.ones(5)),
            method="SLSQP",
            bounds=[(0, 1)] * 5,
            constraints=[{"type": "eq", "fun": lambda x: x.sum() - 1}],
            options={"ftol": 1e-14, "maxiter": 500},
        ).fun
        for _ in range(3)
    )
    assert _loss(np.maximum(q, 1e-12), e, alpha) <= best + 1e-7


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.6])
def test_the_optimum_is_stationary(alpha):
    """e/max(q, α) is the multiplier where q > 0, and no more elsewhere; the modes that are left only get fewer."""
    e = np.random.default_rng(7).dirichlet(np.ones(6), 200)
    q = trsft_optimum(e, alpha=alpha)
    slope = e / np.maximum(q, alpha)
    multiplier = slope.max(1, keepdims=True)
    assert np.allclose(slope[q > 1e-12], np.broadcast_to(multiplier, e.shape)[q > 1e-12], rtol=1e-9, atol=1e-12)
    assert ((q > 1e-12).sum(1) >= (trsft_optimum(e, alpha=alpha + 0.1) > 1e-12).sum(1)).all()
    regular = ~((q > 1e-12) & (q < alpha - 1e-12)).any(1)
    kept = np.where(q > 1e-12, e, 0).sum(1)
    assert regular.sum() > 20 and np.allclose(multiplier[regular, 0], kept[regular], rtol=1e-9, atol=1e-12)


def test_gradient_descent_ends_at_the_optimum():
    e, z = np.array([[0.55, 0.35, 0.04, 0.03, 0.03]]), np.zeros((1, 5))
    for _ in range(4000):
        z = z - 2.0 * population_loss(z, e)[1]
    assert _softmax(z) == pytest.approx(trsft_optimum(e), abs=2e-3)
    assert trsft_optimum(e)[0] == pytest.approx([0.55 / 0.9, 0.35 / 0.9, 0, 0, 0])


def test_at_the_ends():
    """α = 0 is supervised fine-tuning and keeps the expert, α = 1 puts all mass on its first mode."""
    new, *_, mask = _batch(0)
    ours, theirs = trust_region_sft(new, mask, alpha=0.0), sft(new, mask)
    assert ours[0] == pytest.approx(float(theirs[0])) and np.array_equal(ours[1], theirs[1])
    e = np.random.default_rng(1).dirichlet(np.ones(4), 5)
    assert np.allclose(trsft_optimum(e, alpha=0.0), e, rtol=1e-9, atol=1e-12)
    assert np.array_equal(trsft_optimum(e, alpha=1.0), np.eye(4)[e.argmax(1)])
    loss, gradient = population_loss(np.zeros((5, 4)), e, alpha=1.0)
    assert loss == pytest.approx(1 - 0.25), "1 - Σ e q"
    assert np.allclose(gradient, -(e - 0.25) / 4 / 5, rtol=1e-9, atol=1e-12)


def test_the_mixed_loss_token_by_token():
    new, old, A, prefix, supervised, mask = _batch(2)
    supervised = (np.random.default_rng(3).random(mask.shape) < 0.6).astype(float)
    loss, gradient = trapo(new, old, A, prefix, supervised, mask, max_length=9.0)
    expected, slope = 0.0, np.zeros_like(new)
    for i, t in np.argwhere(mask):
        p = math.exp(new[i, t])
        if prefix[i, t]:
            expected += supervised[i, t] * _phi(p, 0.1) / 54
            slope[i, t] = -supervised[i, t] * min(1.0, p / 0.1) / 54
        else:
            expected -= A[i] * p / math.exp(old[i, t]) / 54
            slope[i, t] = -A[i] * p / math.exp(old[i, t]) / 54
    assert loss == pytest.approx(expected) and np.allclose(gradient, slope, rtol=1e-12, atol=0)


def test_without_a_prefix_it_is_dr_grpo_and_with_all_of_it_imitation():
    new, old, A, _, supervised, mask = _batch(4)
    ours = trapo(new, old, A, 0 * mask, supervised, mask, max_length=9.0, clip=0.2)
    theirs = dr_grpo(new, old, A, mask, max_length=9.0)
    assert ours[0] == pytest.approx(float(theirs[0])) and np.allclose(ours[1], theirs[1], rtol=1e-12, atol=0)
    ours = trapo(new, old, A, 0 * mask + 1, supervised, mask, max_length=9.0)
    theirs = trust_region_sft(new, mask)
    assert ours[0] == pytest.approx(float(theirs[0]) * mask.sum() / 54)
    loss, gradient = trapo(new, old, A, mask, supervised, 0 * mask, max_length=9.0)
    assert loss == 0 and not gradient.any()


def test_the_schedule():
    """Nothing is shown where all answers are right, all groups get their prefix where none is."""
    for rewards, expected in ((1.0, [0, 0, 0, 0]), (0.0, [0, 0.2, 0.5, 1.0])):
        shown, so_far = [], 0
        for group in GROUPS:
            seen = np.full((1, max(so_far, 1)), rewards)
            shown.append(float(prefix_ratio(seen, ratio=group.ratio, threshold=group.threshold)[0]))
            so_far += group.answers
        assert shown == expected and so_far == 8
    assert prefix_ratio(np.array([[1.0, 1, 1, 1, 0, 0]]), ratio=0.5, threshold=0.7) == 0.5


def test_advantages_of_guided_and_unguided_answers_are_centred_together():
    reward = np.array([0.0, 0, 0, 0, 0, 1, 1, 1])
    A = centred_advantage(reward, np.zeros(8, dtype=int))
    assert A == pytest.approx(reward - 3 / 8)


def test_refused():
    new, old, A, prefix, supervised, mask = _batch(5)
    with pytest.raises(ValueError, match="alpha"):
        trust_region_sft(new, mask, alpha=1.5)
    with pytest.raises(ValueError, match="expert"):
        trsft_optimum(np.array([[0.5, 0.6]]))
    with pytest.raises(ValueError, match="prefix"):
        trapo(new, old, A, 0.5 * prefix + 0.1, supervised, mask, max_length=9.0)
