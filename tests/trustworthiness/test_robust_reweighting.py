"""Worst weights: linear programmes, minima over the dual variable, order and limits, importance weighting."""

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, special

from trref.trustworthiness.robust_reweighting import (
    balanced_weights,
    chi_square_ball,
    cvar,
    effective_size,
    group_weights,
    kl_ball,
    kl_penalty,
)


def _losses(seed, n=12, equal=False):
    rng = np.random.default_rng(seed)
    weights = 0.2 + rng.random(n)
    return rng.exponential(1, n), np.full(n, 1 / n) if equal else weights / weights.sum()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("level", [0.05, 0.25, 0.37, 1.0])
def test_cvar_is_a_linear_programme(seed, level):
    losses, p = _losses(seed)
    value, q = cvar(losses, p, level=level)
    bounds = [(0, w / level) for w in p]
    theirs = optimize.linprog(-losses, A_eq=np.ones((1, 12)), b_eq=[1], bounds=bounds)
    assert value == pytest.approx(-theirs.fun, rel=1e-9) and np.allclose(q, theirs.x, atol=1e-9)
    dual = min(eta + p @ np.maximum(losses - eta, 0) / level for eta in losses)
    assert value == pytest.approx(dual, rel=1e-12)


def test_cvar_by_hand():
    """The worst 30 % of four equal samples: all of the first, a fifth of the second."""
    value, q = cvar(np.array([1.0, 4.0, 2.0, 3.0]), level=0.3)
    assert q == pytest.approx([0, 5 / 6, 0, 1 / 6]) and value == pytest.approx(4 * 5 / 6 + 3 / 6)


def _dual_kl(losses, p, radius):
    def dual(t):
        scale = math.exp(t)
        return scale * radius + scale * special.logsumexp(losses / scale, b=p)

    return optimize.minimize_scalar(dual, bounds=(-12, 12), method="bounded", options={"xatol": 1e-10}).fun


def _dual_chi(losses, p, radius):
    def dual(eta):
        return eta + math.sqrt((1 + 2 * radius) * (p @ np.maximum(losses - eta, 0) ** 2))

    return optimize.minimize_scalar(dual, bounds=(-200, losses.max()), method="bounded", options={"xatol": 1e-9}).fun


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [0.01, 0.2, 1.0])
def test_balls_are_their_duals(seed, radius):
    losses, p = _losses(seed)
    value, q = kl_ball(losses, p, radius=radius)
    assert value == pytest.approx(_dual_kl(losses, p, radius), rel=1e-7)
    assert value == pytest.approx(q @ losses, rel=1e-10) and q.sum() == pytest.approx(1)
    assert special.rel_entr(q, p).sum() == pytest.approx(radius, rel=1e-9), "the bound is reached"
    value, q = chi_square_ball(losses, p, radius=radius)
    assert value == pytest.approx(_dual_chi(losses, p, radius), rel=1e-7)
    assert value == pytest.approx(q @ losses, rel=1e-10) and q.sum() == pytest.approx(1) and q.min() >= 0
    assert p @ (q / p - 1) ** 2 / 2 == pytest.approx(radius, rel=1e-9)


@pytest.mark.parametrize("kl_weight", [0.1, 1.0, 10.0])
def test_penalty(kl_weight):
    losses, p = _losses(5)
    value, q = kl_penalty(losses, p, kl_weight=kl_weight)
    assert value == pytest.approx(kl_weight * special.logsumexp(losses / kl_weight, b=p), rel=1e-12)
    assert value == pytest.approx(q @ losses - kl_weight * special.rel_entr(q, p).sum(), rel=1e-10)
    rng = np.random.default_rng(0)
    for other in rng.dirichlet(np.ones(12), 200):
        assert other @ losses - kl_weight * special.rel_entr(other, p).sum() <= value


def test_small_ball_is_mean_and_deviation():
    losses, p = _losses(6)
    mean = p @ losses
    variance = p @ (losses - mean) ** 2
    radius = 0.02
    value, q = chi_square_ball(losses, p, radius=radius)
    assert q.min() > 0 and value == pytest.approx(mean + math.sqrt(2 * radius * variance), rel=1e-10)
    # the divergence is the same to second order
    small = kl_ball(losses, p, radius=1e-8)[0]
    assert small - mean == pytest.approx(math.sqrt(2e-8 * variance), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_order_and_limits(seed):
    losses, p = _losses(seed)
    mean, worst = p @ losses, losses.max()
    families = {
        cvar: [{"level": v} for v in (1.0, 0.5, 0.2, 0.05, 1e-3)],
        kl_penalty: [{"kl_weight": v} for v in (1e6, 10.0, 1.0, 0.1, 1e-5)],
        kl_ball: [{"radius": v} for v in (1e-12, 0.1, 0.5, 1.0, 20.0)],
        chi_square_ball: [{"radius": v} for v in (1e-12, 0.1, 0.5, 2.0, 1e4)],
    }
    for f, settings in families.items():
        values = [f(losses, p, **setting)[0] for setting in settings]
        assert (np.diff(values) > -1e-12).all() and mean <= values[0] + 1e-9 and values[-1] <= worst + 1e-12
        assert values[0] == pytest.approx(mean, abs=2e-5) and values[-1] == pytest.approx(worst, abs=1e-4)
        equal = f(np.full(5, 0.7), **settings[2])
        assert equal[0] == pytest.approx(0.7, rel=1e-12)


def test_two_robust_losses_have_no_order():
    """Of a worst share and a ball: which is larger depends on the losses."""
    rare, even = np.array([0.0] * 19 + [10.0]), np.linspace(0, 1, 20)
    gaps = [cvar(x, level=0.2)[0] - kl_ball(x, radius=0.6)[0] for x in (rare, even)]
    assert gaps[0] < 0 < gaps[1]


def test_groups_find_the_worst():
    losses, weights = np.array([0.5, 1.5, 1.0]), np.full(3, 1 / 3)
    once = group_weights(weights, losses, lr=0.3)
    assert once == pytest.approx(special.softmax(0.3 * losses))
    for _ in range(300):
        weights = group_weights(weights, losses, lr=0.3)
    assert weights @ losses == pytest.approx(1.5, abs=1e-9)
    # one step is the best reply under a penalty on the divergence from the weights before
    assert once == pytest.approx(kl_penalty(losses, np.full(3, 1 / 3), kl_weight=1 / 0.3)[1], rel=1e-12)


def test_balanced():
    group = np.array([0, 0, 0, 1, 2, 2])
    q = balanced_weights(group, groups=3)
    assert [q[group == g].sum() for g in range(3)] == pytest.approx([1 / 3] * 3)
    values = np.arange(6.0)
    means = [values[group == g].mean() for g in range(3)]
    assert q @ values == pytest.approx(np.mean(means))


def test_importance_weights_are_unbiased_and_cost_samples():
    """All samples of three from a law P, weighted to Q; their variance is that of an effective size."""
    P, Q, loss = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.3, 0.5]), np.array([1.0, 3.0, 2.0])
    ratio = Q / P
    mean = sum(
        P[list(draw)].prod() * np.mean(ratio[list(draw)] * loss[list(draw)])
        for draw in itertools.product(range(3), repeat=3)
    )
    assert mean == pytest.approx(Q @ loss, rel=1e-12)
    assert effective_size(np.ones(7)) == pytest.approx(7) and effective_size(np.array([0.0, 3, 0])) == 1
    assert effective_size(ratio) == pytest.approx(ratio.sum() ** 2 / (ratio**2).sum())
    # of noise of variance 1 a weighted mean has the variance 1 / n_eff
    w = ratio / ratio.sum()
    assert w @ w == pytest.approx(1 / effective_size(ratio))


def test_what_is_refused():
    with pytest.raises(ValueError, match="group must have a member of each of the 2 groups"):
        balanced_weights(np.array([0, 0]), groups=2)
    with pytest.raises(ValueError, match="weights must not all be 0"):
        effective_size(np.zeros(2))
    with pytest.raises(ValueError, match="level must"):
        cvar(np.ones(2), level=0.0)
