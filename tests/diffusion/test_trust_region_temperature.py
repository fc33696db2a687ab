"""Theorems and limits of TRQAM's trust region."""

import numpy as np
import pytest
from scipy.optimize import brentq

from trref.diffusion.trqam import lean_adjoint, memoryless_path, memoryless_rate
from trref.diffusion.trust_region_temperature import dual_function, dual_update, path_kl, tilted_kl
from trref.problems.mixtures import GaussianMixture, MixtureVelocity

X = np.linspace(-9, 9, 6001)


def _weights(density):
    """Of the trapezoidal rule."""
    weight = density * np.full(len(X), X[1] - X[0])
    weight[[0, -1]] /= 2
    return weight / weight.sum()


MIXTURE = _weights(0.7 * np.exp(-2 * (X + 1) ** 2) + 0.3 * np.exp(-8 * (X - 1.5) ** 2))
CRITIC = np.sin(2 * X) + 0.4 * X


def _kl(temperature, value=CRITIC, weight=MIXTURE):
    return tilted_kl(np.asarray(temperature), value, weight)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_gaussian_base_and_a_linear_critic(temperature):
    m, s, b = 0.4, 0.7, 1.3
    kl, slope = _kl(temperature, b * X, _weights(np.exp(-((X - m) ** 2) / (2 * s * s))))
    assert kl == pytest.approx(b**2 * s**2 / (2 * temperature**2), rel=1e-9)
    assert slope == pytest.approx(-(b**2) * s**2 / temperature**3, rel=1e-9)


def test_the_divergence_falls_as_the_temperature_rises():
    """By quadrature of the tilted density itself, and its slope by differences."""
    last = np.inf
    for temperature in (0.05, 0.3, 1.0, 5.0, 100.0):
        density = MIXTURE * np.exp((CRITIC - CRITIC.max()) / temperature)
        density /= density.sum()
        seen = density > 0
        kl = (density[seen] * np.log(density[seen] / MIXTURE[seen])).sum()
        assert _kl(temperature).kl == pytest.approx(kl, rel=1e-8, abs=1e-12) and kl < last
        h = 1e-4 * temperature
        by_differences = (_kl(temperature + h).kl - _kl(temperature - h).kl) / (2 * h)
        assert _kl(temperature).slope == pytest.approx(by_differences, rel=1e-6)
        last = kl
    assert last < 1e-3, "and the base is left alone where it is hot"


@pytest.mark.parametrize("budget", [0.05, 0.5, 1.5])
def test_the_dual_is_least_where_the_divergence_is_the_budget(budget):
    """And there it is the mean of the critic under the tilted law."""
    root = brentq(lambda temperature: _kl(temperature).kl - budget, 0.01, 100, xtol=1e-13)
    value, slope = dual_function(np.asarray(root), CRITIC, MIXTURE, budget=budget)
    density = MIXTURE * np.exp(CRITIC / root)
    assert value == pytest.approx(density @ CRITIC / density.sum(), rel=1e-9) and abs(slope) < 1e-9
    for other in (0.8 * root, 1.25 * root):
        assert dual_function(np.asarray(other), CRITIC, MIXTURE, budget=budget)[0] > value


@pytest.mark.parametrize("budget", [0.1, 0.5, 1.0])
def test_the_temperature_finds_the_budget(budget):
    """With a policy that is always at its optimum."""
    temperature, average = np.ones(1), np.zeros(1)
    for _ in range(2000):
        kl = np.array([_kl(temperature[0], CRITIC[::20], MIXTURE[::20] / MIXTURE[::20].sum()).kl])
        temperature, average = dual_update(temperature, average, kl, budget=budget, lr=0.1)
    assert kl[0] == pytest.approx(budget, rel=1e-6) and average[0] == pytest.approx(budget, rel=1e-6)


def test_one_step_by_hand():
    """The estimates 0.3 and 50, the latter cut at 2; the average 0.1 of them, which is below the budget."""
    dual = dual_update(np.ones(2), np.zeros(2), np.array([0.3, 50.0]))
    assert dual.average == pytest.approx([0.03, 0.2]) and dual.temperature == pytest.approx([0.9903, 0.992])


def test_a_large_budget_leads_to_the_lower_end():
    temperature, average = np.ones(1), np.zeros(1)
    for _ in range(50):
        temperature, average = dual_update(temperature, average, np.full(1, 3.0), budget=100.0)
    assert temperature[0] == 0.01


def _gaussian(mean, s):
    return MixtureVelocity(GaussianMixture(np.ones(1), np.array([[mean]]), np.array([[[s * s]]])))


def _along(policy, base, K):
    times = np.linspace(1.0, 0.0, K + 1)
    path = memoryless_path(policy, base, np.random.default_rng(0).standard_normal((K, 3, 1)), times)
    velocities = (
        np.stack([f(x, np.full(3, u)) for x, u in zip(path[:-1], times, strict=False)]) for f in (policy, base)
    )
    return path_kl(*velocities, times)


def test_at_the_optimum_paths_are_as_far_apart_as_samples():
    """For two Gaussians of one deviation the velocities differ by what does not depend on the state."""
    m, s, shift = 0.4, 0.7, 0.9
    errors = [
        abs(_along(_gaussian(m + shift, s), _gaussian(m, s), K) - shift**2 / (2 * s * s)) for K in (100, 200, 400)
    ]
    assert errors[2] < 0.01 and errors[1] < 0.6 * errors[0] and errors[2] < 0.6 * errors[1]


def test_elsewhere_paths_are_further_apart():
    """A constant push moves the mean of the samples, which are still as wide: a divergence that is known."""
    base, K = _gaussian(0.4, 0.7), 200
    pushed = lambda x, t: base(x, t) - 0.5  # noqa: E731
    z, times = np.zeros((K, 1, 1)), np.linspace(1.0, 0.0, K + 1)
    shift = (memoryless_path(pushed, base, z, times) - memoryless_path(base, base, z, times))[-1, 0, 0]
    assert _along(pushed, base, K) > 1.1 * shift**2 / (2 * 0.7**2) > 0.05


def test_the_estimate_weighs_steps_and_chunks():
    times = np.array([1.0, 0.75, 0.0])
    v = np.zeros((2, 1, 4))
    v[0, 0, 0], v[1, 0, 0] = 1.0, 2.0
    rate = memoryless_rate(times[:-1], times[1:])
    expected = 2 * 0.25 / rate[0] + 2 * 0.75 / rate[1] * 4
    assert path_kl(v, 0 * v, times) == pytest.approx(expected)
    assert path_kl(v, 0 * v, times, horizon=4) == pytest.approx(expected / 4)


def test_what_is_asked_of_the_policy_has_the_divergence_of_its_temperature():
    """The regression's minimiser for a linear critic: b²s²/(2λ²), so half the temperature is four times as far."""
    base, K, b, s = _gaussian(0.4, 0.7), 400, 1.1, 0.7
    times = np.linspace(1.0, 0.0, K + 1)
    path = np.zeros((K + 1, 1, 1))
    adjoint = lean_adjoint(base, path, np.full((1, 1), b), times)
    g2 = memoryless_rate(times[:-1], times[1:])[:, None, None]
    for temperature in (0.5, 1.0):
        away = g2 * adjoint / (2 * temperature)
        assert path_kl(away, 0 * away, times) == pytest.approx(b**2 * s**2 / (2 * temperature**2), rel=0.02)


def test_refused():
    with pytest.raises(ValueError, match="temperature must be at least"):
        _kl(1e-4)
    with pytest.raises(ValueError, match="lowest must not be above"):
        dual_update(np.ones(1), np.ones(1), np.ones(1), lowest=2.0, highest=1.0)
