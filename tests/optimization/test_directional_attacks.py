"""Directional attacks: exact for linear maps, right to first order, within the box; and what the hybrid keeps."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.optimization.directional_attacks import (
    attack,
    attack_gain,
    centred_outputs,
    hybrid,
    sufficient_increase,
)
from trref.problems.maps import LinearMap, Network, SquaredDistance


def _network(seed, D=4, M=3, width=8):
    rng = np.random.default_rng(seed)
    return Network(rng.standard_normal((D + 1) * width + (width + 1) * M) / 1.5, (D, width, M)), rng


def _draws(rng, T, n):
    return (*rng.standard_normal((3, T, n)), rng.random(T))


@dataclasses.dataclass(frozen=True)
class _First:
    """The first output is at most a bound."""

    bound: Any

    def __call__(self, y):
        return y[:1] - self.bound


def test_by_hand():
    """A = (1, -2; 0, 3), d = (1, 1): Aᵀd = (1, 1); with d = (2, 0), (2, -4)."""
    network, x = LinearMap(np.array([[1.0, -2.0], [0.0, 3.0]])), np.zeros((2, 2))
    d = np.array([[1.0, 1.0], [2.0, 0.0]])
    assert np.allclose(attack(network, x, d, radius=0.5), [[0.5, 0.5], [0.5, -0.5]])
    root = np.sqrt([2, 20])[:, None]
    assert np.allclose(attack(network, x, d, radius=0.5, method="l2"), 0.5 * np.array([[1, 1], [2, -4]]) / root)
    gain = attack_gain(network, x, attack(network, x, d, radius=0.5), d)
    assert np.allclose(gain, [0.5 * 2, 0.5 * 6]), "radius times the sum of absolute slopes"


def test_exact_for_linear_maps():
    """No point of the box gains more than a corner, and none of the ball more than along the slope."""
    rng = np.random.default_rng(0)
    network, x, d = LinearMap(rng.standard_normal((3, 4))), rng.standard_normal((1, 4)), rng.standard_normal((1, 3))
    best = attack_gain(network, x, attack(network, x, d, radius=0.3), d)[0]
    slope = (d @ network.A)[0]
    assert best == pytest.approx(0.3 * abs(slope).sum())
    many = rng.uniform(-0.3, 0.3, (20_000, 4))
    assert (attack_gain(network, x + 0 * many, many, d + np.zeros((20_000, 3))) <= best).all()
    along = attack_gain(network, x, attack(network, x, d, radius=0.3, method="l2"), d)[0]
    assert along == pytest.approx(0.3 * np.linalg.norm(slope))
    assert np.array_equal(attack(network, x, d, method="pgd", steps=4), attack(network, x, d))


def test_slopes_by_differences_and_first_order():
    """The gain less the linear one falls with the square of the radius."""
    network, rng = _network(1)
    x, d = rng.standard_normal((1, 4)), rng.standard_normal((1, 3))
    slope = network.vjp(x, d)[0]
    for i, e in enumerate(np.eye(4)):
        ahead, behind = ((d * network(x + s * 1e-6 * e)).sum() for s in (1, -1))
        assert slope[i] == pytest.approx((ahead - behind) / 2e-6, abs=1e-8)
    rest = []
    for radius in (0.1, 0.01, 0.001):
        delta = attack(network, x, d, radius=radius)
        rest.append(abs(attack_gain(network, x, delta, d)[0] - radius * abs(slope).sum()))
    slopes = np.diff(np.log10(rest))
    assert (slopes < -1.7).all()


def test_many_steps_stay_in_the_box_and_mostly_gain():
    better = 0
    for seed in range(20):
        network, rng = _network(seed)
        x, d = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
        gains = []
        for method in ("fgsm", "pgd"):
            delta = attack(network, x, d, radius=0.8, method=method, steps=30)
            assert abs(delta).max() <= 0.8
            gains.append(attack_gain(network, x, delta, d))
        better += int((gains[1] >= gains[0] - 1e-9).sum())
    assert better >= 75, "not a theorem, but three of four"


def test_the_centred_network():
    network, rng = _network(2)
    x, inside = rng.standard_normal((6, 4)), rng.random((6, 4))
    assert np.allclose(centred_outputs(network, x, np.full((6, 4), 0.5)), 0)
    delta = 2 * 0.3 * (inside - 0.5)
    assert np.allclose(centred_outputs(network, x, inside, radius=0.3), network(x + delta) - network(x))


def test_increase():
    new, old = np.array([1.0, -0.998, 5e-10, 5e-7, 2.0]), np.array([0.999, -1.0, 0.0, 0.0, 2.0])
    assert np.array_equal(sufficient_increase(new, old, share=1e-3), [1, 1, 0, 1, 0])


@pytest.mark.parametrize("parts", ["hybrid", "attack", "search", "random"])
def test_values_never_fall_and_points_are_allowed(parts):
    for seed in range(3):
        network, rng = _network(seed)
        x0 = rng.standard_normal(4)
        bound = _First(float(network(x0[None])[0, 0]) + 0.1)
        objective = SquaredDistance(rng.standard_normal(3))
        found = hybrid(network, objective, x0, *_draws(rng, 60, 4), bound, parts=parts)
        outputs = network(found.points)
        assert (np.diff(found.values) >= 0).all() and found.values[-1] > found.values[0]
        assert np.allclose(found.values, [objective(y)[0] for y in outputs])
        assert all(bound(y) <= 0 for y in outputs)
        for radii in (found.attack_radii, found.search_radii):
            assert (radii >= 1e-5).all() and (radii <= 1).all()


def test_without_help_it_stalls_where_the_slope_is_0():
    """A map that is flat at the start: attacks alone do not move, direct search does."""

    @dataclasses.dataclass(frozen=True)
    class Flat:
        def __call__(self, x):
            return x**2

        def vjp(self, x, cotangent):
            return 2 * x * cotangent

    rng = np.random.default_rng(3)
    draws = _draws(rng, 40, 2)
    objective = SquaredDistance(np.ones(2))
    alone = hybrid(Flat(), objective, np.zeros(2), *draws, parts="attack")
    assert (not alone.points.any() and alone.attack_radii[-1] == 1e-5) or alone.attack_radii[-1] < 1e-3
    assert hybrid(Flat(), objective, np.zeros(2), *draws).values[-1] > -0.1


def test_maximum_by_scipy():
    """Unconstrained and smooth: as good as a quasi-Newton method from the same start, which is the better choice."""
    network, rng = _network(4, D=2, M=2)
    objective, x0 = SquaredDistance(np.array([0.3, -0.2])), np.array([0.2, 0.1])

    def negative(x):
        y = network(x[None])
        value, slope = objective(y[0])
        return -value, -network.vjp(x[None], slope[None])[0]

    best = minimize(negative, x0, jac=True, method="L-BFGS-B")
    found = hybrid(network, objective, x0, *_draws(rng, 300, 2))
    assert found.values[-1] >= -best.fun - 1e-3


def test_refused():
    network, rng = _network(5)
    x0 = rng.standard_normal(4)
    bound = _First(float(network(x0[None])[0, 0]) - 0.1)
    with pytest.raises(ValueError, match="at x0 objective must be finite, constraint at most 0"):
        hybrid(network, SquaredDistance(np.zeros(3)), x0, *_draws(rng, 1, 4), bound)
