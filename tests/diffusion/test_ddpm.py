"""Theorems of ancestral sampling: which data each variance is exact for, the bounds, the best variance."""

import numpy as np
import pytest

from trref.diffusion.ddpm import ancestral_step, range_variance, variance_loss
from trref.problems.mixtures import ddpm_schedule

T, S = 0.3, 0.55
LEVELS = {"alpha_bar": T, "next_alpha_bar": S}
X, NOISE, Z, X0 = np.random.default_rng(0).standard_normal((4, 5, 3))
ZERO, ONE = np.zeros((1, 1)), np.ones((1, 1))


def test_the_mean_in_terms_of_the_noise():
    """(x - (1 - a) noise / sqrt(1 - alpha_bar)) / sqrt(a)."""
    a = T / S
    mean = (X - (1 - a) / np.sqrt(1 - T) * NOISE) / np.sqrt(a)
    assert np.allclose(ancestral_step(X, NOISE, 0 * Z, **LEVELS), mean, rtol=1e-12, atol=1e-14)


def _spread(variance):
    return float((ancestral_step(ZERO, ZERO, ONE, variance=variance, **LEVELS))[0, 0])


def test_standard_normal_data_need_the_larger_variance():
    """x is N(0, 1) at all times, the noise is sqrt(1 - alpha_bar) x; one step keeps the law with beta, and only so."""
    slope = float(ancestral_step(ONE, np.sqrt(1 - T) * ONE, ZERO, **LEVELS)[0, 0])
    assert slope**2 + _spread("large") ** 2 == pytest.approx(1, rel=1e-14)
    assert slope**2 + _spread("small") ** 2 < 0.9


def test_one_data_point_needs_the_smaller_variance():
    """x - sqrt(alpha_bar) c is the noise; one step leaves the variance 1 - next_alpha_bar, and only so."""
    slope = float(ancestral_step(ONE, ONE / np.sqrt(1 - T), ZERO, **LEVELS)[0, 0])
    assert slope**2 * (1 - T) + _spread("small") ** 2 == pytest.approx(1 - S, rel=1e-14)
    assert slope**2 * (1 - T) + _spread("large") ** 2 > 1.1 * (1 - S)


def test_the_range_lies_between_the_variances():
    v = np.linspace(-1, 1, 9)[:, None]
    small, large = _spread("small") ** 2, _spread("large") ** 2
    ours = range_variance(v, **LEVELS)[:, 0]
    assert np.allclose(ours, np.geomspace(small, large, 9), rtol=1e-13)
    assert ours[4] == pytest.approx(np.sqrt(small * large), rel=1e-13), "the middle is the geometric mean"


def test_ratios_on_the_linear_schedule():
    """Of the card, measured on public code: the dispute matters in the first steps of the full grid only."""
    levels = ddpm_schedule()
    for k, ratio in ((1, 0.455), (10, 0.864), (100, 0.982), (999, 1 - 8e-7)):
        given = {"alpha_bar": float(levels[k]), "next_alpha_bar": float(levels[k - 1])}
        small, large = (ancestral_step(ZERO, ZERO, ONE, variance=v, **given)[0, 0] ** 2 for v in ("small", "large"))
        assert small / large == pytest.approx(ratio, abs=5e-4 if k < 999 else 1e-7)


@pytest.mark.parametrize("variance", ["small", "large", "range"])
def test_the_last_step_gives_the_estimate_of_the_data(variance):
    step = ancestral_step(X, NOISE, 100 * Z, 0 * X, alpha_bar=T, next_alpha_bar=1.0, variance=variance)
    assert np.allclose(step, (X - np.sqrt(1 - T) * NOISE) / np.sqrt(T), rtol=1e-13, atol=1e-14)


def test_the_bound_by_quadrature():
    """The divergence of two Gaussians, entry by entry, as an integral."""
    v = np.array([[0.3, -0.8]])
    x, x0, noise = X[:1, :2], X0[:1, :2], NOISE[:1, :2]
    true = (x - np.sqrt(T) * x0) / np.sqrt(1 - T)
    p, q = (ancestral_step(x, eps, 0 * x, **LEVELS)[0] for eps in (true, noise))
    small, learned = _spread("small") ** 2, range_variance(v, **LEVELS)[0]
    total = 0.0
    for m, n, s in zip(p, q, learned, strict=True):
        y = m + np.linspace(-12, 12, 20001) * np.sqrt(small)
        log_p = -((y - m) ** 2) / (2 * small) - np.log(small) / 2
        log_q = -((y - n) ** 2) / (2 * s) - np.log(s) / 2
        total += np.trapezoid(np.exp(log_p) / np.sqrt(2 * np.pi) * (log_p - log_q), y)
    assert variance_loss(v, x, x0, noise, **LEVELS)[0] == pytest.approx(total, rel=1e-8)


def test_the_best_variance_is_the_smaller_one_plus_the_squared_error():
    """There the gradient is zero; with the true noise the loss and its gradient vanish at v = -1."""
    error = 0.2
    x0 = ZERO + error
    mean_error = np.sqrt(S) * (1 - T / S) / (1 - T) * error
    small, large = _spread("small") ** 2, _spread("large") ** 2
    best = np.log((small + mean_error**2) / small) / np.log(large / small) * 2 - 1
    loss, gradient = variance_loss(ZERO + best, ZERO, x0, ZERO, **LEVELS)
    assert gradient[0, 0] == pytest.approx(0, abs=1e-15) and loss > 0
    loss, gradient = variance_loss(ZERO - 1, ZERO, ZERO, ZERO, **LEVELS)
    assert loss == pytest.approx(0, abs=1e-15) and gradient[0, 0] == pytest.approx(0, abs=1e-15)


def test_bad_input():
    with pytest.raises(ValueError, match="v must be given"):
        ancestral_step(X, NOISE, Z, variance="range")
    with pytest.raises(ValueError, match="v must lie in"):
        range_variance(X + 5)
    for f, given in (
        (ancestral_step, (X, NOISE, Z)),
        (range_variance, (0 * X,)),
        (variance_loss, (0 * X, X, X0, NOISE)),
    ):
        with pytest.raises(ValueError, match="next_alpha_bar must be above"):
            f(*given, alpha_bar=0.5, next_alpha_bar=0.5)
