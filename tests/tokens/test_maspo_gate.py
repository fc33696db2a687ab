"""The gate's shape against the normal density, and the order and limits of its widths."""

import numpy as np
import pytest
from scipy.stats import norm

from trref.tokens.maspo import gaussian_gate, half_gate_distance, mass_width, risk_width

FIXED = {"alpha": 0.0, "beta_pos": 0.0, "beta_neg": 0.0}


def _tokens(ratio, p, advantage):
    """One answer for each ratio."""
    old = np.log(np.broadcast_to(p, np.shape(ratio)))[:, None]
    return old + np.log(ratio)[:, None], old, np.broadcast_to(float(advantage), np.shape(ratio)).copy()


# ---- widths


def test_widths_by_hand():
    p = np.array([[1.0, 0.25, 0.01, 1e-6]])
    assert mass_width(np.log(p), alpha=0.5)[0] == pytest.approx([1, 2, 10, 10])
    assert mass_width(np.log(p))[0] == pytest.approx([1, 0.25**-0.3, 0.01**-0.3, 10])
    A = np.array([0.0, 2.0, -2.0, 1000.0, -1000.0])
    assert risk_width(A) == pytest.approx([1, 1.06, 1 / 1.06, 10, 0.1])


def test_order_of_the_widths():
    """Wider for rare tokens; for right answers wider with the advantage, for wrong ones narrower with its size."""
    p = np.geomspace(1e-3, 1, 50)
    assert (np.diff(mass_width(np.log(p)[None])[0]) < 0).all()
    A = np.linspace(0.01, 5, 50)
    assert (np.diff(risk_width(A)) > 0).all() and (np.diff(risk_width(-A)) < 0).all()
    assert (risk_width(A) > 1).all() and (risk_width(-A) < 1).all()


def test_a_probability_that_underflows_has_the_largest_width():
    assert mass_width(np.array([[-1e4, -1e90]])) == pytest.approx(10.0)


@pytest.mark.parametrize(("alpha", "power"), [(0.0, 1.0), (0.3, 0.7), (1.0, 0.0)])
def test_half_gate_shift_in_probability(alpha, power):
    """p σ √(2 log 2) grows as p^(1 - alpha); at that distance the gate is one half."""
    p = np.geomspace(0.2, 0.9, 9)
    widths = {"sigma": 0.1, "alpha": alpha, "sigma_high": 1e6}
    mass = mass_width(np.log(p)[None], **widths)
    distance = half_gate_distance(mass * risk_width(np.array([1.5])))[0]
    assert p * distance / (p * distance)[-1] == pytest.approx((p / p[-1]) ** power)
    for sign in (1, -1):
        distance = half_gate_distance(mass * risk_width(np.array([1.5 * sign])))[0]
        gates = gaussian_gate(*_tokens(1 + sign * distance, p, 1.5 * sign), **widths)
        assert gates == pytest.approx(0.5)


# ---- the gate


@pytest.mark.parametrize("advantage", [1.3, -0.7])
@pytest.mark.parametrize("p", [0.9, 0.05])
def test_the_gate_is_a_normal_density(advantage, p):
    ratio = np.geomspace(0.05, 20, 201)
    gate = gaussian_gate(*_tokens(ratio, p, advantage))[:, 0]
    sigma = (mass_width(np.log([[p]])) * risk_width(np.array([advantage])))[0, 0]
    away = advantage * (ratio - 1) > 0
    expected = norm.pdf(ratio, 1, sigma) / norm.pdf(1, 1, sigma)
    assert np.allclose(gate, np.where(away, expected, 1), rtol=1e-12)
    assert ((gate >= 0) & (gate <= 1)).all() and (gate[~away] == 1).all()


def test_symmetric_for_one_width():
    distance = np.linspace(0.01, 0.9, 30)
    up = gaussian_gate(*_tokens(1 + distance, 0.3, 1.0), **FIXED)
    down = gaussian_gate(*_tokens(1 - distance, 0.3, -1.0), **FIXED)
    assert np.allclose(up, down, rtol=1e-12) and (np.diff(up[:, 0]) < 0).all()


def test_no_advantage_no_gate():
    assert (gaussian_gate(*_tokens(np.array([0.2, 1.0, 5.0]), 0.3, 0.0)) == 1).all()
