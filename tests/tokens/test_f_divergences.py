"""Oracles, identities and inequalities of the f-divergences."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cityblock, jensenshannon
from scipy.special import kl_div, log_softmax, rel_entr
from scipy.stats import entropy, power_divergence

from trref.tokens.f_divergences import (
    CURVATURE,
    DIVERGENCES,
    divergence,
    divergence_from_samples,
    divergence_rows,
    generator,
    textbook_generator,
)
from trref.tokens.kl_estimators import kl_estimate


def _pairs(seed, n=50, V=8, scale=1.0):
    rng = np.random.default_rng(seed)
    return log_softmax(scale * rng.standard_normal((n, V)), -1), log_softmax(scale * rng.standard_normal((n, V)), -1)


def _all(log_p, log_q):
    return {kind: divergence_rows(log_p, log_q, kind)[0] for kind in DIVERGENCES}


ORACLES = {
    "reverse_kl": lambda p, q: (entropy(p, q), rel_entr(p, q).sum(), kl_div(p, q).sum()),
    "forward_kl": lambda p, q: (entropy(q, p), rel_entr(q, p).sum(), kl_div(q, p).sum()),
    "total_variation": lambda p, q: (cityblock(p, q) / 2, 1 - np.minimum(p, q).sum()),
    "pearson": lambda p, q: (power_divergence(p, q, lambda_="pearson").statistic,),
    "neyman": lambda p, q: (power_divergence(p, q, lambda_="neyman").statistic,),
    "jensen_shannon": lambda p, q: (jensenshannon(p, q) ** 2,),
    "hellinger": lambda p, q: (1 - np.sqrt(p * q).sum(), ((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2),
}


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("scale", [0.05, 1.0, 3.0])
def test_values_by_scipy(kind, scale):
    log_p, log_q = _pairs(0, scale=scale)
    values = divergence_rows(log_p, log_q, kind)[0]
    for value, p, q in zip(values, np.exp(log_p), np.exp(log_q), strict=True):
        for oracle in ORACLES[kind](p, q):
            assert value == pytest.approx(oracle, rel=1e-9, abs=1e-15)


CLOSED_GRADIENTS = {
    "reverse_kl": lambda p, q: p * (np.log(p / q) - entropy(p, q)),
    "forward_kl": lambda p, q: p - q,
    "total_variation": lambda p, q: p * (np.sign(p - q) / 2 - p @ np.sign(p - q) / 2),
    "pearson": lambda p, q: 2 * p * (p / q - p @ (p / q)),
    "neyman": lambda p, q: -(q**2) / p + p * (q**2 / p).sum(),
    "jensen_shannon": lambda p, q: p / 2 * (np.log(2 * p / (p + q)) - entropy(p, (p + q) / 2)),
    "hellinger": lambda p, q: -(np.sqrt(p * q) - p * np.sqrt(p * q).sum()) / 2,
}


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_gradients_by_their_closed_forms(kind):
    log_p, log_q = _pairs(1)
    for row, p, q in zip(divergence_rows(log_p, log_q, kind)[1], np.exp(log_p), np.exp(log_q), strict=True):
        assert np.allclose(row, CLOSED_GRADIENTS[kind](p, q), rtol=1e-11, atol=1e-14)
        assert abs(row.sum()) < 1e-13 * max(1, abs(row).max())


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_at_the_minimum(kind):
    """Value and gradient are 0 at p = q, exactly; the value is positive elsewhere."""
    log_p, log_q = _pairs(2)
    value, gradient = divergence_rows(log_p, log_p, kind)
    assert not value.any() and not gradient.any()
    assert (divergence_rows(log_p, log_q, kind)[0] > 0).all()
    for h in (1e-3, 1e-6, 1e-9):
        assert (divergence_rows(log_softmax(log_p + h * log_q, -1), log_p, kind)[0] >= -1e-17).all()


@pytest.mark.parametrize("kind", CURVATURE)
def test_the_gradient_near_the_minimum(kind):
    """Where the values are of the size of rounding the gradient still has 12 digits: p (u - 1) times 2 c."""
    log_q = _pairs(3, n=1)[0][0]
    q, step = np.exp(log_q), np.linspace(-1, 1, 8)
    gradient = divergence_rows(log_softmax(log_q + 1e-7 * step), log_q, kind)[1]
    assert np.allclose(gradient, 2 * CURVATURE[kind] * 1e-7 * q * (step - q @ step), rtol=1e-5, atol=1e-20)


def test_chi_square_is_the_variance_of_the_ratio():
    log_p, log_q = _pairs(4)
    u, q = np.exp(log_p - log_q), np.exp(log_q)
    assert np.allclose(divergence_rows(log_p, log_q, "pearson")[0], (q * u**2).sum(1) - (q * u).sum(1) ** 2, rtol=1e-9)
    assert np.allclose(2 * divergence_rows(log_p, log_q, "total_variation")[0], (q * abs(u - 1)).sum(1), rtol=1e-9)


def test_symmetries():
    log_p, log_q = _pairs(5)
    there, back = _all(log_p, log_q), _all(log_q, log_p)
    for kind in ("total_variation", "jensen_shannon", "hellinger"):
        assert np.allclose(there[kind], back[kind], rtol=1e-12)
    assert np.allclose(there["reverse_kl"], back["forward_kl"], rtol=1e-12)
    assert np.allclose(there["pearson"], back["neyman"], rtol=1e-12)


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_inequalities(scale):
    log_p, log_q = _pairs(6, n=4000, V=5, scale=scale)
    D = _all(log_p, log_q)
    kl, tv, chi2, js, h2 = (D[k] for k in ("reverse_kl", "total_variation", "pearson", "jensen_shannon", "hellinger"))
    slack = 1 + 1e-12
    assert (tv <= slack * np.sqrt(kl / 2)).all(), "Pinsker"
    assert (kl <= slack * np.log1p(chi2)).all()
    assert (tv <= slack * np.sqrt(chi2) / 2).all()
    assert (tv**2 / 2 <= slack * js).all() and (js <= slack * math.log(2) * tv).all() and (js < math.log(2)).all()
    assert (h2 <= slack * tv).all() and (tv <= slack * np.sqrt(2 * h2)).all(), "Le Cam"


@pytest.mark.parametrize("kind", CURVATURE)
def test_near_each_other_all_are_chi_square(kind):
    """To second order: half, half, 1, 1, an eighth, an eighth; the relative error falls with the distance."""
    log_q, direction = _pairs(7, n=5)
    errors = []
    for h in (1e-2, 1e-3):
        log_p = log_softmax(log_q + h * direction, -1)
        chi2 = divergence_rows(log_p, log_q, "pearson")[0]
        errors.append(abs(divergence_rows(log_p, log_q, kind)[0] / (CURVATURE[kind] * chi2) - 1).max())
    assert errors[0] < 0.05 and errors[1] < 0.2 * errors[0] + 1e-9


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_generators(kind):
    """f(1) = f'(1) = 0, f >= 0, f' is its derivative; the textbook form differs by a multiple of u - 1."""
    d = np.linspace(-3, 3, 601)
    f, slope = generator(d, kind)
    assert (f >= 0).all() and f[300] == 0 and slope[300] == 0
    h = 1e-6
    numeric = (generator(d + h, kind)[0] - generator(d - h, kind)[0]) / (2 * h)
    away = abs(d) > 1e-3 if kind == "total_variation" else slice(None)
    assert np.allclose((np.exp(d) * slope)[away], numeric[away], rtol=1e-6, atol=1e-8)
    other, other_slope = textbook_generator(d, kind)
    c = other_slope[300]
    assert np.allclose(other, f + c * np.expm1(d), atol=1e-12, rtol=1e-9) and np.allclose(
        other_slope, slope + c, atol=1e-12, rtol=1e-9
    )


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("form", ["nonnegative", "textbook"])
def test_estimates_are_unbiased_in_value_and_gradient(kind, form):
    """The mean over the vocabulary, with the probabilities of q."""
    log_p, log_q = (x[0] for x in _pairs(8, n=1))
    p, q, one = np.exp(log_p), np.exp(log_q), np.ones((1, 1))
    values, coefficients = [], []
    for a in range(8):
        value, gradient = divergence_from_samples(
            log_p[None, a : a + 1], log_q[None, a : a + 1], one, kind=kind, form=form
        )
        values.append(float(value))
        coefficients.append(float(gradient[0, 0]))
    exact, exact_gradient = divergence_rows(log_p, log_q, kind)
    assert q @ values == pytest.approx(float(exact), rel=1e-12)
    assert np.allclose(q @ (np.array(coefficients)[:, None] * (np.eye(8) - p)), exact_gradient, atol=1e-14, rtol=1e-9)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_monte_carlo(kind):
    """Within four standard errors; the non-negative form never below 0, and with the smaller deviation here."""
    rng = np.random.default_rng(9)
    log_p, log_q = (x[0] for x in _pairs(9, n=1, scale=0.7))
    tokens = rng.choice(8, 20_000, p=np.exp(log_q))
    terms = generator((log_p - log_q)[tokens], kind)[0]
    exact = float(divergence_rows(log_p, log_q, kind)[0])
    assert abs(terms.mean() - exact) < 4 * terms.std() / math.sqrt(len(terms))
    assert (terms >= 0).all()
    if kind in ("reverse_kl", "forward_kl", "hellinger"):
        assert terms.std() < textbook_generator((log_p - log_q)[tokens], kind)[0].std()


def test_forward_generator_is_k3():
    """k3 on tokens of p, for KL(p ‖ r), is the forward generator of r/p: the roles of the two are exchanged."""
    d = np.linspace(-2, 2, 9)
    assert np.allclose(kl_estimate(np.zeros(9), d, "k3")[0], generator(d, "forward_kl")[0], rtol=1e-9)


def test_policies_too_far_apart():
    logits = np.array([[[40.0, 0.0]]])
    with pytest.raises(ValueError, match="logits must give log-probabilities within 30"):
        divergence(logits, -logits, np.ones((1, 1)))
    with pytest.raises(ValueError, match="kind must be one of"):
        divergence(logits, logits, np.ones((1, 1)), kind="kl")


def test_rows_that_are_all_but_certain():
    log_p, log_q = (log_softmax(np.array([[z, 0.0, -3.0]]), -1) for z in (25.0, 20.0))
    for kind in DIVERGENCES:
        value, gradient = divergence_rows(log_p, log_q, kind)
        assert np.isfinite(value).all() and np.isfinite(gradient).all() and value > 0
