"""Both sides of the score projection identity."""

import numpy as np
import pytest
from scipy.integrate import quad

from trref.diffusion.score_projection import frozen_distance, moving_distance, projected_gradient

ONE = {"mean": np.array([0.7]), "scale": np.array([1.3]), "ref_means": np.array([0.3])}


def _pair(gradient):
    return [gradient.mean[0], gradient.scale[0]]


def _by_scipy(m, s, law_mean, law_scale):
    """The distance for one reference N(0.3, 0.25), on samples of a law, with c = 0.5, α = 0.8 and σ = 0.6."""
    v, w, u = (0.64 * a**2 + 0.36 for a in (s, 0.5, law_scale))

    def integrand(x):
        y = -(x - 0.8 * m) / v + (x - 0.24) / w
        density = np.exp(-((x - 0.8 * law_mean) ** 2) / (2 * u)) / np.sqrt(2 * np.pi * u)
        return density * (np.sqrt(y**2 + 0.25) - 0.5)

    return quad(integrand, -14, 14, epsabs=1e-13, limit=300)[0]


def test_both_gradients_by_another_quadrature():
    """Differences of SciPy's integrals, with the law held constant and with a law that moves."""
    h, steps = 1e-4, ((1, 0), (0, 1))
    frozen, moving = (
        [
            (_by_scipy(*ahead, *law(ahead)) - _by_scipy(*behind, *law(behind))) / (2 * h)
            for ahead, behind in (((0.7 + a * h, 1.3 + b * h), (0.7 - a * h, 1.3 - b * h)) for a, b in steps)
        ]
        for law in (lambda _: (0.7, 1.3), lambda at: at)
    )
    assert _pair(frozen_distance(**ONE)[1]) == pytest.approx(frozen, abs=1e-6)
    assert _pair(projected_gradient(**ONE)) == pytest.approx(frozen, abs=1e-6)
    assert _pair(moving_distance(**ONE)[1]) == pytest.approx(moving, abs=1e-6)


def test_the_value_against_scipy():
    for f in (frozen_distance, moving_distance):
        assert f(**ONE)[0] == pytest.approx(_by_scipy(0.7, 1.3, 0.7, 1.3), abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_the_identity(seed):
    rng = np.random.default_rng(seed)
    line = {"mean": rng.standard_normal(3), "scale": rng.uniform(0.3, 1.5, 3), "ref_means": rng.standard_normal(2)}
    frozen, projected = frozen_distance(**line)[1], projected_gradient(**line)
    assert projected.mean == pytest.approx(frozen.mean, abs=1e-10)
    assert projected.scale == pytest.approx(frozen.scale, abs=1e-10)
    moving = moving_distance(**line)[1]
    assert abs(moving.scale - frozen.scale).max() > 0.01, "the law that moves has another gradient"


@pytest.mark.parametrize("u", [np.sin, lambda x: x**3, np.tanh])
def test_any_function_is_projected(u):
    """E[u(x) (s(x) + (x - α x0)/σ²)] = 0."""
    z = np.linspace(-9, 9, 181)
    weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    x0, noise = (0.7 + 1.3 * z)[:, None], z[None]
    x = 0.8 * x0 + 0.6 * noise
    r = -(x - 0.56) / (0.64 * 1.69 + 0.36) + noise / 0.6
    assert weight @ (u(x) * r) @ weight == pytest.approx(0, abs=1e-13)


def test_at_the_reference_there_is_no_distance():
    same = {"mean": np.array([0.3]), "scale": np.array([0.5]), "ref_means": np.array([0.3])}
    value, gradient = frozen_distance(**same)
    assert value == pytest.approx(0, abs=1e-14) and _pair(gradient) == pytest.approx([0, 0], abs=1e-13)


def test_refused():
    with pytest.raises(ValueError, match="scale"):
        frozen_distance(**{**ONE, "scale": np.array([0.0])})
    with pytest.raises(ValueError, match="huber"):
        moving_distance(**ONE, huber=0.0)
