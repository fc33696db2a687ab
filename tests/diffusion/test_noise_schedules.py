"""Theorems of noise schedules: rates by quadrature of the variance, times as inverses, numbers by hand."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from trref.diffusion.noise_schedules import log_snr, rates, time_at
from trref.problems.mixtures import SCHEDULES

KINDS = ("vp", "ve", "flow")


def test_by_hand():
    """vp at 1: log alpha = -5.025; ve at 1/2: sigma² = 0.1; flow at 1/4: 3 to 1."""
    one = lambda t, kind: float(log_snr(np.array([t]), schedule=kind)[0])  # noqa: E731
    assert one(1.0, "vp") == pytest.approx(-10.05 - np.log1p(-np.exp(-10.05)), rel=1e-14)
    assert one(0.5, "ve") == pytest.approx(np.log(10), rel=1e-14)
    assert one(0.25, "flow") == pytest.approx(2 * np.log(3), rel=1e-14)
    assert np.allclose(time_at(np.array([2 * np.log(3)]), schedule="flow"), 0.25, rtol=1e-14)
    assert np.allclose(rates(np.array([0.5])).squared_diffusion, 10.05, rtol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_times_and_ratios_are_inverse(kind):
    """Over the whole of time, also where the signal or the noise is tiny."""
    t = np.concatenate([[1e-6, 1e-4], np.linspace(0.01, 0.99, 50), [0.9999]])
    assert np.allclose(time_at(log_snr(t, schedule=kind), schedule=kind), t, rtol=1e-9)
    assert (np.diff(log_snr(t, schedule=kind)) < 0).all(), "the ratio falls"


def test_the_time_of_a_ratio_by_a_root_finder():
    for ratio in (-6.0, 0.0, 5.0):
        gap = lambda t, r=ratio: log_snr(np.array([t]), beta0=0.3, beta1=12.0)[0] - r  # noqa: E731
        found = brentq(gap, 1e-6, 1.0, xtol=1e-15)
        assert float(time_at(np.array([ratio]), beta0=0.3, beta1=12.0)[0]) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rates_carry_signal_and_variance(kind):
    """The linear equation with these rates: alpha by the integral of f, sigma² by that of g² through the signal."""
    f = lambda t: float(rates(np.array([t]), schedule=kind).drift[0])  # noqa: E731
    g2 = lambda t: float(rates(np.array([t]), schedule=kind).squared_diffusion[0])  # noqa: E731
    a, b = 0.2, 0.7
    (alpha_a, sigma_a), (alpha_b, sigma_b) = (SCHEDULES[kind](np.array(t)) for t in (a, b))
    assert np.exp(quad(f, a, b)[0]) == pytest.approx(float(alpha_b / alpha_a), rel=1e-10)
    carried = lambda t: g2(t) * float(alpha_b / SCHEDULES[kind](np.array(t))[0]) ** 2  # noqa: E731
    variance = float(alpha_b / alpha_a * sigma_a) ** 2 + quad(carried, a, b)[0]
    assert variance == pytest.approx(float(sigma_b) ** 2, rel=1e-10)


def test_far_ratios_do_not_overflow():
    far = np.array([-1e4, 1e4])
    for kind in KINDS:
        assert np.isfinite(time_at(far, schedule=kind)).all()


@pytest.mark.parametrize(
    ("f", "given", "message"),
    [
        (log_snr, {"t": np.array([0.0])}, "t must be at least 1e-9"),
        (log_snr, {"t": np.array([1.0]), "schedule": "flow"}, "t must be below 1"),
        (rates, {"t": np.array([1.0]), "schedule": "flow"}, "t must be below 1"),
        (rates, {"t": np.array([0.5]), "beta0": 2.0, "beta1": 1.0}, "beta1 must not be below"),
        (time_at, {"log_ratio": np.zeros(1), "smallest": 2.0, "largest": 2.0}, "largest must be above"),
        (log_snr, {"t": np.array([0.5]), "schedule": "cosine"}, "schedule must be one of"),
    ],
)
def test_bad_input(f, given, message):
    with pytest.raises(ValueError, match=message):
        f(**given)
