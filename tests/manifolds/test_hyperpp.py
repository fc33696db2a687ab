"""Bounded features: the bound and where it is attained, in any number of dimensions, at any scale."""

import math

import numpy as np
import pytest

from trref.manifolds.hyperbolic_head import exp_poincare
from trref.manifolds.hyperpp import bounded_features


@pytest.mark.parametrize("D", [2, 8, 64, 1024])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_the_bound_in_any_dimension_at_any_scale(D, scale):
    rng = np.random.default_rng(D)
    a = scale * rng.standard_normal((50, D))
    for c in (0.5, 1.0):
        v = bounded_features(a, 3 * rng.standard_normal(D), np.asarray(30.0), curvature=c)
        lengths = np.sqrt((v**2).sum(1))
        assert (lengths <= math.tanh(1) * math.atanh(0.95) / math.sqrt(c)).all()
        assert (math.sqrt(c) * np.sqrt((exp_poincare(v, curvature=c) ** 2).sum(1)) < 0.95).all()


def test_where_it_is_attained():
    a = np.array([[5.0, -5.0, 5.0]])
    v = bounded_features(a, np.zeros(3), np.asarray(40.0), eps=1e-12)
    assert np.linalg.norm(v) == pytest.approx(math.tanh(1) * math.atanh(0.95), rel=1e-12)
    assert math.tanh(1) * math.atanh(0.95) == pytest.approx(1.395, abs=1e-3)


def test_by_hand():
    """a = (3, 4): the root mean square is √12.5."""
    a, w, b = np.array([[3.0, 4.0]]), np.array([1.0, -2.0]), 0.3
    u = [math.tanh(x / math.sqrt(12.5)) / math.sqrt(2) for x in (3, 4)]
    share = 1 / (1 + math.exp(-(u[0] - 2 * u[1] + b)))
    wanted = [share * math.atanh(0.9) / math.sqrt(2) * x for x in u]
    v = bounded_features(a, w, np.asarray(b), curvature=2.0, alpha=0.9, eps=1e-12)
    assert v[0] == pytest.approx(wanted, rel=1e-11)


def test_the_scale_of_the_encoder_does_not_matter():
    rng = np.random.default_rng(1)
    a, w = rng.standard_normal((4, 5)), rng.standard_normal(5)
    one = bounded_features(a, w, np.asarray(0.1), eps=1e-12)
    assert bounded_features(1000 * a, w, np.asarray(0.1), eps=1e-12) == pytest.approx(one, rel=1e-10)
    assert not bounded_features(0 * a, w, np.asarray(0.1)).any()
