"""Theorems of the interpolated proximal policy, and the limits of decoupled PPO."""

import math

import numpy as np
import pytest
from scipy.special import logsumexp

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.a3po import a3po, decoupled, proximal_approximation
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.terms import logit_gradient

NOW = 6


def log_softmax(z):
    return z - logsumexp(z, axis=-1, keepdims=True)


def _batch(seed, **sizes):
    log_prob, behavior, advantage, mask = token_batch(seed, **sizes)
    return {
        "log_prob": log_prob,
        "advantage": advantage,
        "mask": mask,
        "behavior_log_prob": behavior,
        "version": np.random.default_rng(seed).integers(0, NOW, mask.shape),
    }


def _ppo(batch, old, clip=0.2):
    return dapo_over_batch(batch["log_prob"], old, batch["advantage"], batch["mask"], clip_low=clip, clip_high=clip)


def _same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-12) and np.allclose(a[1], b[1], rtol=1e-12, atol=0)


def _one(log_prob, advantage, version, behavior=0.0):
    return {
        "log_prob": np.array([[log_prob]]),
        "advantage": np.array([advantage]),
        "mask": np.ones((1, 1)),
        "behavior_log_prob": np.array([[behavior]]),
        "version": np.array([[version]]),
    }


# ---- the weight and the anchor


def _weight(version):
    """Of the current policy in the anchor, where that policy has log-probability 0 and the sampling one -1."""
    current = np.zeros(version.shape)
    return 1 + proximal_approximation(current, current - 1, version, current_version=NOW)


def test_weight_by_hand():
    """Sampled 1, 2, 4 versions ago: 0, 1/2, 3/4; from the current policy or a later one: 0."""
    weight = _weight(np.array([[5, 4, 2, 6, 9]]))
    assert weight.tolist() == [[0, 0.5, 0.75, 0, 0]]


def test_it_is_exact_where_log_probabilities_move_linearly():
    rng = np.random.default_rng(0)
    start, drift = -rng.exponential(2, (5, 4)) - 2, 0.1 * rng.standard_normal((5, 4))
    version = rng.integers(0, NOW, (5, 4))
    anchor = proximal_approximation(start + NOW * drift, start + version * drift, version, current_version=NOW)
    assert np.allclose(anchor, start + (NOW - 1) * drift, rtol=1e-14)


@pytest.mark.parametrize("interpolation", ["loglinear", "linear"])
def test_otherwise_its_error_is_of_second_order(interpolation):
    """Halve the change per version: a quarter of the error."""
    rng = np.random.default_rng(1)
    start, first, second = (rng.standard_normal((6, 9)) for _ in range(3))

    def error(h):
        path = [log_softmax(start + v * h * first + (v * h) ** 2 * second)[:, :1] for v in range(NOW + 1)]
        version = np.full((6, 1), 2)
        anchor = proximal_approximation(path[NOW], path[2], version, current_version=NOW, interpolation=interpolation)
        return abs(anchor - path[NOW - 1]).max()

    assert error(0.01) / error(0.005) == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("interpolation", ["loglinear", "linear"])
def test_sandwich(interpolation):
    batch = _batch(2, spread=2.0)
    log_prob, behavior = batch["log_prob"], batch["behavior_log_prob"]
    anchor = proximal_approximation(
        log_prob, behavior, batch["version"], current_version=NOW, interpolation=interpolation
    )
    # two products and a sum of numbers up to these, or an exponential and a logarithm more
    rounding = 4 * np.finfo(float).eps * np.maximum(abs(log_prob), abs(behavior))
    assert (anchor >= np.minimum(log_prob, behavior) - rounding).all()
    assert (anchor <= np.maximum(log_prob, behavior) + rounding).all()


def test_a_geometric_mean_is_no_distribution():
    """Hölder: its mass is at most 1, and 1 only where the policies agree; the mean of probabilities has mass 1."""
    rng = np.random.default_rng(3)
    behavior = log_softmax(rng.standard_normal((4, 7)))
    moved = log_softmax(behavior + 0.7 * rng.standard_normal((4, 7)))
    version = np.broadcast_to(np.array([[1], [2], [3], [4]]), (4, 7))
    mass = logsumexp(proximal_approximation(moved, behavior, version, current_version=NOW), axis=1)
    assert (mass < -1e-3).all()
    assert np.allclose(
        logsumexp(proximal_approximation(behavior, behavior, version, current_version=NOW), axis=1), 0, rtol=1e-9
    )
    linear = proximal_approximation(moved, behavior, version, current_version=NOW, interpolation="linear")
    assert np.allclose(logsumexp(linear, axis=1), 0, atol=1e-14, rtol=1e-9)


# ---- the clip that it amounts to


@pytest.mark.parametrize("clip", [0.1, 0.2, 0.4])
def test_the_total_ratio_is_clipped_to_a_power(clip):
    """Tokens without a gradient are those whose ratio to the sampling policy leaves [(1-e)^d, (1+e)^d]."""
    batch = _batch(4, B=40, T=25, spread=1.0)
    batch["mask"] = np.ones((40, 25))
    _, gradient = a3po(**batch, current_version=NOW, clip=clip)
    ratio, d = np.exp(batch["log_prob"] - batch["behavior_log_prob"]), NOW - batch["version"]
    up = batch["advantage"][:, None] > 0
    clipped = np.where(up, ratio > (1 + clip) ** d, ratio < (1 - clip) ** d)
    assert ((gradient == 0) == clipped).all() and 20 < clipped.sum() < 900


@pytest.mark.parametrize("interpolation", ["loglinear", "linear", "rollout"])
def test_the_anchor_cancels_from_the_gradient(interpolation):
    batch = _batch(5)
    _, gradient = a3po(**batch, current_version=NOW, interpolation=interpolation)
    ratio = np.exp(batch["log_prob"] - batch["behavior_log_prob"])
    expected = -ratio * batch["advantage"][:, None] * batch["mask"] / batch["mask"].sum()
    assert np.allclose(gradient, np.where(gradient == 0, 0, expected), rtol=1e-12)
    assert (gradient != 0).sum() > 5


def test_the_anchor_cancels_for_every_anchor():
    batch, rng = _batch(6), np.random.default_rng(6)
    anchor = batch["log_prob"] + 0.3 * rng.standard_normal((8, 5))
    _, gradient = a3po(**batch, current_version=NOW, proximal_log_prob=anchor)
    _, other = decoupled(batch["log_prob"], anchor, *(batch[n] for n in ("advantage", "mask", "behavior_log_prob")))
    expected = -np.exp(batch["log_prob"] - batch["behavior_log_prob"]) * batch["advantage"][:, None]
    expected = expected * batch["mask"] / batch["mask"].sum()
    assert np.array_equal(gradient, other) and 0 < (gradient[batch["mask"] > 0] == 0).sum()
    assert np.allclose(gradient, np.where(gradient == 0, 0, expected), rtol=1e-12)


def test_by_hand():
    """Sampled 2 versions ago, ratio 1.69: r = w = 1.3, clipped at 1.2; under a clip of 0.4 it is free."""
    token = _one(2 * math.log(1.3), 1.0, NOW - 2)
    assert a3po(**token, current_version=NOW) == (pytest.approx(-1.3 * 1.2), pytest.approx(0))
    assert a3po(**token, current_version=NOW, clip=0.4) == (pytest.approx(-1.69), pytest.approx(-1.69))
    bad = _one(2 * math.log(1.3), -1.0, NOW - 2)
    assert a3po(**bad, current_version=NOW) == (pytest.approx(1.69), pytest.approx(1.69))


# ---- limits


def test_without_an_age_it_is_the_rollout():
    """Which is clipped most."""
    batch = _batch(8)
    coupled = a3po(**batch, current_version=NOW, interpolation="rollout")
    _same(coupled, a3po(**batch, current_version=0))
    assert (coupled[1] == 0).sum() > (a3po(**batch, current_version=NOW)[1] == 0).sum()


def test_the_oldest_data_are_never_clipped():
    """As d grows, alpha tends to 1 and the ratio to the anchor to 1: importance-weighted policy gradient."""
    batch = _batch(9, spread=2.0)
    loss, gradient = a3po(**batch, current_version=10**6)
    ratio = np.exp(batch["log_prob"] - batch["behavior_log_prob"]) * batch["mask"] / batch["mask"].sum()
    assert np.allclose(gradient, -ratio * batch["advantage"][:, None], rtol=1e-12)
    assert loss == pytest.approx(-(ratio * batch["advantage"][:, None]).sum(), rel=1e-12)


@pytest.mark.parametrize(("over_cap", "loss"), [("mask", -(1.1 + 0) / 2), ("clamp", -(1.1 + 5) / 2)])
def test_weights_above_the_cap(over_cap, loss):
    """Weights 1 and 6, ratios 1.1 and 1: the second counts with 0 or with 5; both count in the mean."""
    behavior = np.array([[-2.0, -2.0 - math.log(6)]])
    old, log_prob = np.array([[-2.0, -2.0]]), np.array([[-2.0 + math.log(1.1), -2.0]])
    batch = log_prob, old, np.ones(1), np.ones((1, 2)), behavior
    assert decoupled(*batch, weight_cap=5.0, over_cap=over_cap)[0] == pytest.approx(loss)
    assert decoupled(*batch)[0] == pytest.approx(-(1.1 + 6) / 2)


def test_without_clipping_it_is_unbiased():
    """On a whole vocabulary, weighted by the sampling policy: the exact gradient of the mean advantage."""
    rng = np.random.default_rng(12)
    z, behavior, A = rng.standard_normal(5), log_softmax(rng.standard_normal(5)), rng.standard_normal((5, 1))
    log_p = log_softmax(z)
    mean = np.zeros(5)
    for y in range(5):
        one = _one(log_p[y], A[y, 0], 2, behavior[y])
        coefficient = a3po(**one, current_version=NOW, clip=1e6)[1]
        mean += math.exp(behavior[y]) * logit_gradient(z[None, None], np.array([[y]]), coefficient)[0, 0]
    check_gradient(lambda x: float(-(np.exp(log_softmax(x)) @ A)[0]), z, mean, rng=rng)


# ---- the stop-gradient


def test_a_missing_stop_gradient_shows_at_clipped_tokens_only():
    slip = next(d.f for d in find("a3po.a3po").deviations if "differentiated" in d.name)
    batch = _batch(13, spread=1.0)
    ours, theirs = a3po(**batch, current_version=NOW), slip(**batch, current_version=NOW)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-13)
    free = ours[1] != 0
    assert np.allclose(ours[1][free], theirs[1][free], rtol=1e-12)
    frozen = ~free & (batch["mask"] == 1)
    alpha = _weight(batch["version"])
    w = np.exp(alpha * (batch["log_prob"] - batch["behavior_log_prob"]))
    A = batch["advantage"][:, None]
    expected = -alpha * w * np.where(A > 0, 1.2, 0.8) * A / batch["mask"].sum()
    assert np.allclose(theirs[1][frozen], expected[frozen], rtol=1e-12) and (alpha[frozen] > 0).any()
    rng = np.random.default_rng(13)

    def value(x):
        return a3po(**{**batch, "log_prob": x}, current_version=NOW)[0]

    check_gradient(value, batch["log_prob"], theirs[1], rng=rng)


def test_without_the_weight_is_another_objective():
    absent = find("a3po.decoupled").deviations[0].f
    batch = _batch(14)
    old = batch["log_prob"] - 0.01
    _same(
        absent(batch["log_prob"], old, batch["advantage"], batch["mask"], batch["behavior_log_prob"]), _ppo(batch, old)
    )
    _same(
        absent(batch["log_prob"], old, batch["advantage"], batch["mask"], old),
        decoupled(batch["log_prob"], old, batch["advantage"], batch["mask"], old),
    )


def test_the_anchor_is_checked():
    batch = _batch(15)
    for anchor, message in ((np.zeros((8, 6)), "shape"), (batch["log_prob"] - 31, "within 30 of log_prob")):
        with pytest.raises(ValueError, match=f"proximal_log_prob must .*{message}"):
            a3po(**batch, current_version=NOW, proximal_log_prob=anchor)
