"""Direct search: polls that span, uniform covering, monotone values, and radii that fall after failures alone."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from trref.optimization.direct_search import covering_steps, direct_search, poll_directions, search_step


@dataclasses.dataclass(frozen=True)
class _Hill:
    """-‖x - top‖², and minus infinity where the first entry is above a bound."""

    top: Any
    bound: float = np.inf

    def __call__(self, x):
        return np.where(x[0] > self.bound, -np.inf, -((x - self.top) ** 2).sum())


def _draws(rng, T, n):
    return (*rng.standard_normal((3, T, n)), rng.random(T))


def test_by_hand():
    """u along the first axis: H = diag(-1, 1), so ±e_1, ±e_2; or -e_1, e_2 and e_1 - e_2."""
    u = np.array([2.0, 0.0])
    assert np.allclose(poll_directions(u, radius=0.5), [[-0.5, 0], [0, 0.5], [0.5, 0], [0, -0.5]])
    assert np.allclose(poll_directions(u, kind="n+1"), [[-1, 0], [0, 1], [1, -1]])
    step = covering_steps(np.array([[3.0, 4.0]]), np.array([0.25]), radius=2.0)
    assert np.allclose(step, [[0.6, 0.8]])  # 2 √0.25 = 1
    assert np.allclose(search_step(np.array([3.0, 4.0]), radius=0.5, searches=3), [0.6, 0.8])


@pytest.mark.parametrize("kind", ["2n", "n+1"])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_polls_span_positively(kind, n):
    """No direction has products of at most 0 with all of them, other than 0: by linear programs."""
    rng = np.random.default_rng(n)
    for _ in range(10):
        steps = poll_directions(rng.standard_normal(n), radius=0.3, kind=kind)
        assert len(steps) == (2 * n if kind == "2n" else n + 1) and np.allclose(abs(steps).max(1), 0.3)
        assert np.linalg.matrix_rank(steps) == n
        for sign in (1, -1):
            for axis in np.eye(n):
                result = linprog(-sign * axis, A_ub=steps, b_ub=np.zeros(len(steps)), bounds=(-1, 1))
                assert result.fun > -1e-9


def test_covering_is_uniform():
    """The share within a fraction of the radius is the fraction to the power n: four standard errors."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 5):
        steps = covering_steps(rng.standard_normal((4000, n)), rng.random(4000), radius=3.0)
        lengths = np.linalg.norm(steps, axis=1)
        assert lengths.max() <= 3
        for share in (0.3, 0.7, 0.9):
            p = share**n
            assert abs((lengths <= 3 * share).mean() - p) <= 4 * np.sqrt(p * (1 - p) / 4000)


def test_values_never_fall_and_the_top_is_found():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        top, start = rng.standard_normal((2, 3))
        found = direct_search(_Hill(top), start, *_draws(rng, 150, 3))
        assert (np.diff(found.values) >= 0).all() and found.values[-1] > -1e-5
        assert np.allclose(found.values, [_Hill(top)(x) for x in found.points])


def test_radii():
    """They halve where nothing was better, and only there; they stay where covering was; else they double."""
    rng = np.random.default_rng(1)
    found = direct_search(_Hill(np.zeros(2)), np.ones(2), *_draws(rng, 200, 2), radius=0.25)
    better = np.diff(found.values) > 0
    factors = found.radii[1:] / found.radii[:-1]
    inside = (found.radii[:-1] > 2e-5) & (found.radii[:-1] <= 0.5)
    assert set(factors[inside]) == {0.5, 1.0, 2.0}
    assert (factors[~better & inside] == 0.5).all() and (factors[better] >= 1).all()


def test_at_a_maximum_all_polls_fail():
    found = direct_search(_Hill(np.zeros(2)), np.zeros(2), *_draws(np.random.default_rng(2), 30, 2), least=1e-4)
    assert not found.points.any() and found.radii[-1] == 1e-4


def test_forbidden_points_are_no_success():
    rng = np.random.default_rng(3)
    hill = _Hill(np.array([2.0, 0.0]), bound=0.5)
    found = direct_search(hill, np.array([0.0, 1.0]), *_draws(rng, 300, 2))
    assert (found.points[:, 0] <= 0.5).all() and found.values[-1] > -(1.5**2) - 0.01
    with pytest.raises(ValueError, match="value must be finite at x0"):
        direct_search(hill, np.ones(2), *_draws(rng, 1, 2))
    with pytest.raises(ValueError, match="radius must be between least and largest"):
        direct_search(hill, np.zeros(2), *_draws(rng, 1, 2), radius=2.0)
    with pytest.raises(ValueError, match="polls must not be 0"):
        direct_search(hill, np.zeros(2), np.ones((1, 2)), np.ones((1, 2)), np.zeros((1, 2)), np.ones(1))
