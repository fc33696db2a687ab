"""Bounds against samples of the region, their failures, and limits in closed form."""

import numpy as np
import pytest
from scipy import special, stats

from trref.shift.recap import (
    averaged_bound,
    entropy_bound,
    entropy_objective,
    recap_objective,
    region_entropy,
    region_instability,
    region_variances,
    sample_weights,
    sampled_confidence,
)


def _region(seed, N=1, K=4, D=3, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng, {
        "features": rng.standard_normal((N, D)),
        "head": scale * rng.standard_normal((K, D)),
        "bias": 0.5 * rng.standard_normal(K),
        "variance": rng.uniform(0.1, 1.0, D),
    }


def test_two_classes_by_hand():
    """L_RI = p1 log(p1 + p2 e) + p2 log(p2 + p1 e)."""
    z, A, variance = np.array([[1.0]]), np.array([[1.0], [-0.5]]), np.array([0.3])
    p = special.softmax([1.0, -0.5])
    e = np.exp(0.7 / 2 * 0.3 * 1.5**2)
    expected = p[0] * np.log(p[0] + p[1] * e) + p[1] * np.log(p[1] + p[0] * e)
    assert region_instability(z, A, np.zeros(2), variance, tau=0.7)[0] == pytest.approx(expected)
    q = special.softmax([1.0 + 0.35 * 0.3, -0.5 + 0.35 * 0.3 * 0.25])
    h = np.log([(p[0] + e * p[1]) / p[0], (e * p[0] + p[1]) / p[1]])
    assert region_entropy(z, A, np.zeros(2), variance, tau=0.7)[0] == pytest.approx(q @ h)


def test_without_a_region_all_are_the_entropy():
    _, region = _region(1, N=5)
    p = special.softmax(region["features"] @ region["head"].T + region["bias"], 1)
    H = stats.entropy(p, axis=1).sum()
    for f in (region_entropy, entropy_bound):
        assert f(**region, tau=0.0)[0] == pytest.approx(H)
    assert region_instability(**region, tau=0.0)[0] == pytest.approx(0, abs=1e-14)
    assert averaged_bound(p, **region, tau=0.0).sum() == pytest.approx(H)


def test_bounds_hold_in_random_regions():
    """20,000 samples each; B and V may be above the bounds by 5 standard errors, no more."""
    for seed in range(60):
        rng, region = _region(seed, scale=(0.5, 1.5, 3.0)[seed % 3])
        tau, noise = (0.1, 0.5, 1.5)[seed % 3], rng.standard_normal((20_000, 1, 3))
        near = region["features"] + np.sqrt(tau * region["variance"]) * noise
        p = special.softmax(near[:, 0] @ region["head"].T + region["bias"], 1)
        B, V = sampled_confidence(**region, noise=noise, tau=tau)
        error = 5 * stats.entropy(p, axis=1).std() / np.sqrt(20_000)
        assert entropy_bound(**region, tau=tau)[0] >= B[0] - error
        assert averaged_bound(p.mean(0)[None], **region, tau=tau)[0] >= B[0] - error
        middle = special.softmax(region["features"] @ region["head"].T + region["bias"], 1)
        each = stats.entropy(np.repeat(middle, 20_000, 0), p, axis=1)
        assert region_instability(**region, tau=tau)[0] >= V[0] - 5 * each.std() / np.sqrt(20_000)


def test_regional_entropy_is_no_bound():
    """Rows 3 and 2, logits 3 and 0, a region of variance 1: 0.0929, and the mean entropy is 0.2232."""
    region = {
        "features": np.array([[0.0]]),
        "head": np.array([[3.0], [2.0]]),
        "bias": np.array([3.0, 0.0]),
        "variance": np.array([1.0]),
    }
    noise = np.random.default_rng(2).standard_normal((100_000, 1, 1))
    B, _ = sampled_confidence(**region, noise=noise, tau=1.0)
    assert B[0] == pytest.approx(0.2232, abs=0.003)
    assert region_entropy(**region, tau=1.0)[0] == pytest.approx(0.0929, abs=1e-4)
    assert region_entropy(**region, tau=1.0, centre=True)[0] > B[0]


def test_the_codes_constants_belong_to_a_wider_region():
    """Logits 1 and 0, rows 1 and 0: 4.55 against a mean entropy of 0.53."""
    region = {
        "features": np.array([[1.0]]),
        "head": np.array([[1.0], [0.0]]),
        "bias": np.zeros(2),
        "variance": np.array([1.0]),
    }
    assert region_entropy(**region, tau=1.0, mode="released")[0] == pytest.approx(4.55, abs=0.01)
    noise = np.random.default_rng(3).standard_normal((100_000, 1, 1))
    assert sampled_confidence(**region, noise=noise, tau=1.0).entropy[0] == pytest.approx(0.53, abs=0.005)


def test_entropy_and_instability_bound_the_cross_entropy_not_the_entropy():
    """A tempting wrong bound: for a sure middle H + L_RI is below the mean entropy."""
    worst = 0.0
    for seed in range(40):
        rng, region = _region(seed, scale=3.0)
        noise = rng.standard_normal((20_000, 1, 3))
        logits = region["features"] @ region["head"].T + region["bias"]
        tempting = entropy_objective(logits)[0] + region_instability(**region, tau=0.3)[0]
        worst = max(worst, float(sampled_confidence(**region, noise=noise, tau=0.3).entropy[0] / tempting))
    assert worst > 1.02


def test_a_vector_added_to_all_rows():
    """The predictions' differences do not see it; regional entropy does, unless rows are centred."""
    _, region = _region(4, N=3)
    moved = {**region, "head": region["head"] + 2.0}
    logits = region["features"] @ region["head"].T
    moved["bias"] = region["bias"] + logits[0, 0] * 0
    for f, how in ((region_instability, {}), (entropy_bound, {}), (region_entropy, {"centre": True})):
        assert f(**moved, **how)[0] == pytest.approx(f(**region, **how)[0], rel=1e-10)
    assert abs(region_entropy(**moved)[0] - region_entropy(**region)[0]) > 1e-3


def test_instability_to_first_order():
    """tau sum_i p_i (a_i - abar) Sigma (a_i - abar)."""
    _, region = _region(5)
    p = special.softmax(region["features"] @ region["head"].T + region["bias"], 1)[0]
    off = region["head"] - p @ region["head"]
    expected = 1e-5 * p @ (off**2 @ region["variance"])
    assert region_instability(**region, tau=1e-5)[0] == pytest.approx(expected, rel=1e-3)


def test_the_objective_is_a_weighted_mean():
    _, region = _region(6, N=8)
    each = [{**region, "features": region["features"][i : i + 1]} for i in range(8)]
    E = np.array([float(region_entropy(**r, tau=0.3)[0]) for r in each])
    V = np.array([float(region_instability(**r, tau=0.3)[0]) for r in each])
    limit = 0.9 * np.log(4)
    sure = limit > E
    assert 0 < sure.sum() < 8
    alpha = np.minimum(np.exp(limit - E), 1.8)
    expected = (alpha * (E + 0.5 * V))[sure].mean()
    how = {"tau": 0.3, "threshold": 0.9, "cap": 1.8}
    assert recap_objective(**region, **how)[0] == pytest.approx(expected)
    assert np.allclose(sample_weights(**region, **how), np.where(sure, alpha, 0) / sure.sum(), rtol=1e-9)
    value, gradient = recap_objective(**region, threshold=-1.0)
    assert value == 0 and not gradient.any()  # nobody is sure enough


def test_regions_whose_moments_overflow():
    """e^960 is no number; the height of the class far away is 960 and its logarithm of probability."""
    z, A, variance = np.array([[1.0]]), np.array([[1.0], [-1.0]]), np.array([400.0])
    p = special.softmax([1.0, -1.0])
    expected = p @ [960 + np.log(p[1]), 960 + np.log(p[0])]
    value, gradient = region_instability(z, A, np.zeros(2), variance, tau=1.2)
    assert value == pytest.approx(expected) and np.isfinite(gradient).all()


def test_variances():
    x = np.random.default_rng(7).standard_normal((20, 3))
    assert np.allclose(region_variances(x), x.var(0), rtol=1e-9)


def test_bad_input():
    _, region = _region(8)
    with pytest.raises(ValueError, match="variance must be non-negative"):
        region_entropy(**{**region, "variance": -region["variance"]})
    with pytest.raises(ValueError, match="mode must be"):
        region_entropy(**region, mode="paper")
