"""Theorems and limits of GARDO."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from trref.catalog.diffusion.flow_grpo import PENALTY_OF_THE_CODE
from trref.catalog.diffusion.gardo import GATED, RANKS_REVERSED
from trref.diffusion.flow_grpo import flow_sde_mean, flow_sde_std
from trref.diffusion.gardo import (
    gardo,
    gardo_advantage,
    gated_kl,
    nearest_distance,
    reference_resets,
    risk_gate,
    risk_shares,
    uncertainty,
    win_rate,
)


def _of(f, steps, **hyper):
    return f(**{n: steps[n] for n in f.inputs}, **hyper)


@pytest.mark.parametrize("seed", range(4))
def test_win_rates_are_average_ranks(seed):
    reward = np.random.default_rng(seed).integers(0, 4, 9).astype(float)
    assert win_rate(reward) == pytest.approx((rankdata(reward) - 1) / 8)
    assert win_rate(reward).mean() == pytest.approx(0.5)


def test_the_over_rated_sample_is_the_uncertain_one():
    """Best by the proxy and worst by all others: 1. The released sign gives it the most negative value."""
    reward = np.array([9.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    auxiliary = np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [-7.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    U = uncertainty(reward, auxiliary)
    assert U[0] == pytest.approx(1.0) and U[1:] == pytest.approx(np.full(5, -0.2))
    released = RANKS_REVERSED.f(reward, auxiliary)
    assert released[0] == -5 and released[1:].tolist() == [1] * 5
    assert released == pytest.approx(-5 * U)
    assert risk_gate(U, share=1.0).sum() == 0, "the only one of at least 0 is its own percentile"
    assert risk_gate(np.append(U, 0.0), share=0.5).tolist() == [1, 0, 0, 0, 0, 0, 0]


def test_only_the_order_of_rewards_matters():
    rng = np.random.default_rng(0)
    reward, auxiliary = rng.standard_normal(12), rng.standard_normal((2, 12))
    assert np.array_equal(uncertainty(reward, auxiliary), uncertainty(np.exp(reward), auxiliary**3))
    assert uncertainty(reward, np.stack([reward, 2 * reward])) == pytest.approx(np.zeros(12), abs=1e-15)
    assert uncertainty(reward, auxiliary).mean() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
def test_the_gate_lets_about_its_share_through(share):
    rng = np.random.default_rng(1)
    for n in (5, 11, 40):
        risk = rng.permutation(np.concatenate([np.arange(n) / n, -rng.random(7)]))
        chosen = risk_gate(risk, share=share)
        assert chosen.sum() == np.ceil(round(share * (n - 1), 9)), "those strictly above the percentile"
        assert risk[chosen == 1].min() > risk[(chosen == 0) & (risk >= 0)].max()


def test_distances_against_scipy():
    rng = np.random.default_rng(2)
    features, group = rng.standard_normal((10, 4)), np.array([0] * 6 + [5] * 4)
    for g in (0, 5):
        D = cdist(features[group == g], features[group == g], metric="cosine")
        np.fill_diagonal(D, np.inf)
        assert nearest_distance(features, group)[group == g] == pytest.approx(D.min(1), abs=1e-14)
    scaled = features * rng.exponential(1.0, (10, 1))
    assert nearest_distance(scaled, group) == pytest.approx(nearest_distance(features, group), abs=1e-13)


def test_duplicates_lose_their_advantage():
    """By hand: two of four good samples look the same; distances 0, 0, 1, 1 have the mean 1/2."""
    features = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    A = gardo_advantage(np.array([2.0, 2.0, 2.0, -6.0]), features, np.zeros(4, int))
    assert A.tolist() == [0, 0, 4, -5], "the last would be -6"


def test_multipliers_have_the_mean_1_and_advantages_do_not_sum_to_0():
    rng = np.random.default_rng(3)
    reward, features, group = rng.standard_normal(8), rng.standard_normal((8, 3)), np.zeros(8, int)
    d = nearest_distance(features, group)
    centred = reward - reward.mean()
    A = gardo_advantage(reward, features, group)
    assert A[centred < 0] == pytest.approx(centred[centred < 0])
    assert A[centred > 0] == pytest.approx((centred * d / d.mean())[centred > 0])
    assert abs(A.sum()) > 0.01
    corners = np.vstack([np.eye(4), -np.eye(4)])  # all at the distance 1 from the nearest
    assert gardo_advantage(reward, corners, group) == pytest.approx(centred)


def test_the_penalty_is_that_of_released_code_where_all_are_gated():
    steps = GATED.edges["all are gated"]()
    ours = _of(gardo, steps, kl_weight=0.3)
    names = ("x", "next_x", "velocity", "old_log_prob", "advantage", "u", "next_u", "ref_velocity")
    theirs = PENALTY_OF_THE_CODE.f(**{n: steps[n] for n in names}, clip=1e-5, kl_weight=0.3)
    assert ours[0] == pytest.approx(float(theirs[0])) and np.allclose(ours[1], theirs[1], rtol=1e-12)


def test_the_penalty_by_hand():
    """Of two gated steps of four, from their means."""
    steps = GATED.edges["far apart"]() | {"gate": np.array([0.0, 1.0, 0.0, 1.0])}
    times = (steps["u"], steps["next_u"])
    apart = flow_sde_mean(steps["x"], steps["velocity"], *times) - flow_sde_mean(
        steps["x"], steps["ref_velocity"], *times
    )
    rate = flow_sde_std(*times) ** 2 / (steps["u"] - steps["next_u"])
    each = (apart**2).sum(1) / (2 * rate * 2)
    value, slope = _of(gated_kl, steps)
    assert value == pytest.approx((each[1] + each[3]) / 2)
    assert (slope[[0, 2]] == 0).all() and (slope[[1, 3]] != 0).any()
    assert _of(gated_kl, steps | {"gate": np.zeros(4)})[0] == 0


def test_the_share_by_hand():
    """Up, stay, down, and down to the bound; the window forgets."""
    assert risk_shares(np.array([0.5, 0.6, 0.55, 0.4])) == pytest.approx([0.1, 0.11, 0.11, 0.099])
    assert risk_shares(np.linspace(1, 0.1, 40))[-1] == 0.02 and risk_shares(np.linspace(0, 1, 40))[-1] == 0.2
    forgotten = risk_shares(np.array([9.0, *[0.3] * 20, 0.5, 0.6]))
    assert forgotten[-2:] == pytest.approx([0.099, 0.1089]) and forgotten[-3] == pytest.approx(0.09)


def test_resets_by_hand():
    resets = reference_resets(np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]), threshold=0.5, patience=2)
    assert resets.tolist() == [0, 1, 0, 0, 1, 0]
    assert np.flatnonzero(reference_resets(np.zeros(40))).tolist() == [15, 31]


def test_refused():
    steps = GATED.edges["far apart"]()
    with pytest.raises(ValueError, match="old_log_prob must be within 30"):
        _of(gardo, steps | {"old_log_prob": steps["old_log_prob"] + 31})
    with pytest.raises(ValueError, match="gate must hold only 0 and 1"):
        _of(gated_kl, steps | {"gate": np.full(4, 0.5)})
    with pytest.raises(ValueError, match="smallest"):
        risk_shares(np.ones(3), smallest=0.3, largest=0.2)
