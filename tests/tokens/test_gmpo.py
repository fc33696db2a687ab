"""GMPO: by hand, its bounds, and clip-then-mean against mean-then-clip."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.conformance import identify
from trref.tokens.gmpo import gmpo
from trref.tokens.grpo import grpo
from trref.tokens.gspo import gspo


def test_by_hand():
    """Log-ratios 1 and 0.2, advantage 1: the first is cut to 0.4, the mean is 0.3; for -1 nothing is cut: 0.6."""
    d, mask = np.array([[1.0, 0.2, 5.0]]), np.array([[1.0, 1.0, 0.0]])
    loss, gradient = gmpo(d, 0 * d, np.ones(1), mask)
    assert loss == pytest.approx(-math.exp(0.3)) and np.allclose(gradient, [[0, -math.exp(0.3) / 2, 0]], rtol=1e-9)
    loss, gradient = gmpo(d, 0 * d, -np.ones(1), mask)
    assert loss == pytest.approx(math.exp(0.6)) and np.allclose(gradient, [[math.exp(0.6) / 2] * 2 + [0]], rtol=1e-9)


def test_the_other_side():
    """Log-ratios -1 and -0.2, advantage -1: cut to -0.4 and -0.2, mean -0.3."""
    d, mask = np.array([[-1.0, -0.2]]), np.ones((1, 2))
    loss, gradient = gmpo(d, 0 * d, -np.ones(1), mask)
    assert loss == pytest.approx(math.exp(-0.3)) and np.allclose(gradient, [[0, math.exp(-0.3) / 2]], rtol=1e-9)


def _mine(log_prob, old_log_prob, advantage, mask, clip_low=0.4, clip_high=0.4):
    """The product of the cut ratios to the power of one over the length, answer by answer."""
    B, value, gradient = len(mask), 0.0, np.zeros_like(mask)
    if advantage.ndim == 2:
        raise ValueError("an answer has one advantage")
    for i in range(B):
        tokens = np.flatnonzero(mask[i])
        ratios = {t: math.exp(log_prob[i, t] - old_log_prob[i, t]) for t in tokens}
        if advantage[i] > 0:
            cut = {t: min(r, math.exp(clip_high)) for t, r in ratios.items()}
        else:
            cut = {t: max(r, math.exp(-clip_low)) for t, r in ratios.items()}
        if len(tokens):
            s = math.prod(cut.values()) ** (1 / len(tokens))
            value += s * advantage[i] / B
            for t in tokens:
                gradient[i, t] = s * advantage[i] / (B * len(tokens)) if cut[t] == ratios[t] else 0
    return -value, -gradient


@pytest.mark.parametrize("hyper", [{}, {"clip_low": 0.1, "clip_high": 0.9}])
def test_brute_force(hyper):
    batch = token_batch(0)
    ours, loops = gmpo(*batch, **hyper), _mine(*batch, **hyper)
    assert ours[0] == pytest.approx(loops[0], rel=1e-12) and np.allclose(ours[1], loops[1], rtol=1e-12)


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_objective")
    assert [m.candidate.text for m in found.exact] == ["gmpo.gmpo"]


def test_one_outlier():
    """GMPO silences the outlier alone; GSPO, with the same bounds for the mean, the whole answer or nothing."""
    d, mask = np.full((1, 8), 0.1), np.ones((1, 8))
    d[0, 3] = 3.0  # mean 0.4625, beyond 0.4
    ours = gmpo(d, 0 * d, np.ones(1), mask)[1][0]
    other = gspo(d, 0 * d, np.ones(1), mask, clip_low=0.3, clip_high=math.exp(0.4) - 1)[1][0]
    assert ours[3] == 0 and (np.delete(ours, 3) < 0).all() and not other.any()


def test_bounds_of_the_mean():
    """s ≤ e^0.4 for good answers, ≥ e^-0.4 for bad ones, and never above the arithmetic mean."""
    log_prob, old, _, mask = token_batch(1, B=64, spread=2.0)
    ratio_mean = (np.exp(log_prob - old) * mask).sum(1) / mask.sum(1)
    for i in range(64):
        rows = log_prob[i : i + 1], old[i : i + 1]
        good, bad = (abs(gmpo(*rows, np.array([a]), mask[i : i + 1])[0]) for a in (1.0, -1.0))
        assert good <= math.exp(0.4) * (1 + 1e-12) and bad >= math.exp(-0.4) * (1 - 1e-12)
        assert good <= ratio_mean[i] * (1 + 1e-12)


def test_close_to_the_old_policy():
    """Off-policy the values of GRPO and GMPO part by half the variance of the log-ratios, to second order."""
    rng = np.random.default_rng(2)
    direction, mask, A = rng.standard_normal((1, 6)), np.ones((1, 6)), np.ones(1)
    for h in (1e-2, 5e-3):
        d = h * direction
        gap = gmpo(d, 0 * d, A, mask)[0] - grpo(d, 0 * d, A, mask)[0]
        assert gap == pytest.approx(h**2 * direction.var() / 2, rel=20 * h)


def test_bounds_of_logarithms():
    by_name = {d.name: d.f for d in find("gmpo.gmpo").deviations}
    batch = token_batch(3)
    ratios = by_name["bounds of ratios in the place of their logarithms"]
    inner = {"clip_low": -math.log(0.6), "clip_high": math.log(1.4)}
    assert ratios(*batch)[0] == pytest.approx(gmpo(*batch, **inner)[0], rel=1e-14)
    assert ratios(*batch)[0] != pytest.approx(gmpo(*batch)[0], rel=1e-4)


def test_an_advantage_a_token_is_refused():
    log_prob, old, _, mask = token_batch(4)
    with pytest.raises(ValueError, match="advantage"):
        gmpo(log_prob, old, np.ones_like(mask), mask)
