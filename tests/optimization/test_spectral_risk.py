"""Spectral risks: numbers by hand, majorisation, the certificate of the oracle, and its limits."""

import math

import numpy as np
import pytest

from trref.optimization.spectral_risk import (
    exponential_spectrum,
    extremile_spectrum,
    max_oracle,
    robust_objective,
    smooth_risk,
    spectral_risk,
    superquantile_spectrum,
)
from trref.problems.samples import LogisticSamples

PENALTIES = ("chi2", "kl")


def _shares(n):
    return np.linspace(0, 1, n + 1)


def _losses(seed, n=20):
    rng = np.random.default_rng(seed)
    return rng.choice([0.2, 1.0, 5.0]) * rng.standard_normal(n)


def _spectra(n):
    return [
        superquantile_spectrum(_shares(n), level=0.63),
        extremile_spectrum(_shares(n), power=2.5),
        exponential_spectrum(_shares(n), rate=4.0),
    ]


def test_spectra_by_hand():
    assert np.allclose(superquantile_spectrum(_shares(4), level=0.625), [0, 0, 1 / 3, 2 / 3])
    assert np.allclose(extremile_spectrum(_shares(3), power=2.0), [1 / 9, 3 / 9, 5 / 9])
    # weights 1, 2, 4 of 7 where each is twice the one before
    assert np.allclose(exponential_spectrum(_shares(3), rate=3 * math.log(2)), [1 / 7, 2 / 7, 4 / 7])
    for make in (superquantile_spectrum, extremile_spectrum, exponential_spectrum):
        assert np.allclose(make(_shares(1)), 1)
    assert np.allclose(exponential_spectrum(_shares(5), rate=1e-10), 0.2)


def test_a_whole_number_of_losses_left_out():
    """100 times 0.29 is a little less than 29 in floating point: 71 losses have weight, all but for rounding."""
    assert math.floor(100 * 0.29) == 28
    weights = superquantile_spectrum(_shares(100), level=0.29)
    assert np.allclose(weights[29:], 1 / 71, rtol=1e-12) and (weights[:29] < 1e-15).all()


def test_superquantile_is_its_own_definition():
    """The minimum over t of t + mean(max(l - t, 0)) / (1 - a), which is attained at a loss."""
    losses = _losses(0)
    for level in (0.0, 0.3, 0.5, 0.77, 0.95):
        risk = spectral_risk(losses, superquantile_spectrum(_shares(20), level=level))[0]
        assert risk == pytest.approx(min(t + np.maximum(losses - t, 0).mean() / (1 - level) for t in losses))


def test_extremile_is_the_expected_largest_of_draws():
    """Over all pairs and triples with replacement."""
    losses = _losses(1, n=6)
    for power in (2, 3):
        grid = np.stack(np.meshgrid(*[losses] * power)).reshape(power, -1)
        risk = spectral_risk(losses, extremile_spectrum(_shares(6), power=float(power)))[0]
        assert risk == pytest.approx(grid.max(0).mean())


def test_risk_is_the_worst_order():
    from itertools import permutations

    losses, weights = _losses(2, n=6), extremile_spectrum(_shares(6))
    risk, q = spectral_risk(losses, weights)
    assert risk == pytest.approx(max(np.dot(p, losses) for p in permutations(weights)))
    assert risk == pytest.approx(q @ losses) and np.allclose(np.sort(q), weights)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("cost", [0.02, 0.3, 2.0])
def test_oracle_is_feasible_and_optimal(penalty, cost):
    """Majorised by the spectrum, and no point of the hull is better to first order: a concave problem, so none is."""
    for seed in range(20):
        losses = _losses(seed)
        for weights in _spectra(20):
            q = max_oracle(losses, weights, shift_cost=cost, penalty=penalty)
            tails, bounds = np.cumsum(np.sort(q)[::-1]), np.cumsum(weights[::-1])
            assert tails[-1] == pytest.approx(1, abs=1e-12) and (tails <= bounds + 1e-12).all()
            # where a weight is 0 to 1e-300 the slope of the entropy is large, and its sign right
            slope = 20 * (q - 1 / 20) if penalty == "chi2" else np.log(np.maximum(20 * q, 1e-300)) + 1
            direction = losses - cost * slope
            gap = np.sort(direction) @ weights - direction @ q
            scale = abs(losses).max() + cost * 20
            assert gap <= 1e-12 * scale


@pytest.mark.parametrize("penalty", PENALTIES)
def test_monotone_and_symmetric(penalty):
    rng = np.random.default_rng(3)
    losses = np.repeat(_losses(3, n=10), 2)
    for weights in _spectra(20):
        q = max_oracle(losses, weights, shift_cost=0.2, penalty=penalty)
        assert np.allclose(q[::2], q[1::2], rtol=0, atol=1e-15), "equal losses, equal weights"
        order = np.argsort(losses)
        assert (np.diff(q[order]) >= -1e-15).all(), "a larger loss never has a smaller weight"
        shuffle = rng.permutation(20)
        assert np.allclose(max_oracle(losses[shuffle], weights, shift_cost=0.2, penalty=penalty), q[shuffle])
        assert np.allclose(max_oracle(losses + 3.0, weights, shift_cost=0.2, penalty=penalty), q, rtol=1e-9)


def test_weights_are_lipschitz():
    """Of the chi-square penalty: nu n Omega is nu n strongly convex, so q moves by at most 1/(nu n) of the losses."""
    rng = np.random.default_rng(4)
    for seed in range(30):
        losses, move = _losses(seed), 10.0 ** rng.uniform(-3, 1) * rng.standard_normal(20)
        for weights in _spectra(20):
            ends = [max_oracle(x, weights, shift_cost=0.1) for x in (losses, losses + move)]
            assert np.linalg.norm(ends[1] - ends[0]) <= np.linalg.norm(move) / (0.1 * 20) * (1 + 1e-9)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_limits(penalty):
    losses = _losses(5)
    for weights in _spectra(20):
        risk, q = smooth_risk(losses, weights, shift_cost=1e-9, penalty=penalty)
        sharp = spectral_risk(losses, weights)
        # the price of the worst weights, at most nu n / 2 or nu log n
        assert np.allclose(q, sharp[1], rtol=1e-6) and risk == pytest.approx(sharp[0], abs=2e-8)
        risk, q = smooth_risk(losses, weights, shift_cost=1e9, penalty=penalty)
        assert np.allclose(q, 1 / 20, rtol=1e-6) and risk == pytest.approx(losses.mean(), abs=1e-6)
        risks = [smooth_risk(losses, weights, shift_cost=c, penalty=penalty)[0] for c in (0.01, 0.1, 1, 10)]
        assert (np.diff(risks) <= 0).all() and losses.mean() <= risks[-1] <= risks[0] <= sharp[0]


def test_two_losses_by_hand():
    """Losses 0 and 1, spectrum (0, 1): q_2 maximises q - nu (q - 1/2)², 2 (q - 1/2)²: q = 1/2 + 1/4nu, or 1."""
    losses, weights = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    assert np.allclose(max_oracle(losses, weights, shift_cost=1.0), [0.25, 0.75])
    assert np.allclose(max_oracle(losses, weights, shift_cost=0.25), [0, 1])
    risk, q = smooth_risk(losses, weights, shift_cost=1.0)
    assert risk == pytest.approx(0.75 - 2 * 0.25**2)
    # entropy alone: softmax, and the risk is nu times the log of the mean of exp(l / nu)
    risk, q = smooth_risk(losses, weights, shift_cost=1.0, penalty="kl")
    assert q[1] == pytest.approx(math.e / (1 + math.e)) and risk == pytest.approx(math.log((1 + math.e) / 2))


def test_objective_of_a_model():
    rng = np.random.default_rng(6)
    samples = LogisticSamples(rng.standard_normal((20, 3)), rng.choice([-1.0, 1.0], 20))
    theta, weights = rng.standard_normal(3), extremile_spectrum(_shares(20))
    value, gradient = robust_objective(samples, theta, weights, shift_cost=0.1, l2=0.5)
    losses, each = samples.each(theta)
    risk, q = smooth_risk(losses, weights, shift_cost=0.1)
    assert value == pytest.approx(risk + 0.25 * theta @ theta) and np.allclose(gradient, q @ each + 0.5 * theta)
    uniform = robust_objective(samples, theta, np.full(20, 0.05))
    assert uniform[0] == pytest.approx(samples(theta)[0]) and np.allclose(uniform[1], samples(theta)[1])


def test_refused():
    with pytest.raises(ValueError, match="spectrum must not fall"):
        spectral_risk(np.arange(2.0), np.array([0.7, 0.3]))
    with pytest.raises(ValueError, match="cumulative must go from 0 to 1"):
        extremile_spectrum(np.array([0.1, 1.0]))
    with pytest.raises(ValueError, match="cumulative must not fall"):
        superquantile_spectrum(np.array([0.0, 0.6, 0.4, 1.0]))
    with pytest.raises(ValueError, match="spectrum"):
        max_oracle(np.arange(3.0), np.array([0.5, 0.5]))
