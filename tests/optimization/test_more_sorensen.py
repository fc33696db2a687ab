"""Moré and Sorensen's iteration itself; its solutions are tested with the other exact solvers."""

import numpy as np
import pytest

from trref.optimization.more_sorensen import more_sorensen
from trref.problems.convex import spd_matrix
from trref.validate import ConvergenceWarning


def _length(g, B, multiplier):
    return np.linalg.norm(np.linalg.solve(B + multiplier * np.eye(len(g)), g))


def test_first_newton_step_by_hand():
    """B = (0), g = (3), radius 1 in one dimension: ‖p(λ)‖ = 3/λ, and the bracket is the solution λ = 3."""
    result = more_sorensen(np.array([3.0]), np.array([[0.0]]), radius=1.0)
    assert result.multipliers == [3.0] and result.p == pytest.approx([-1])


def test_one_newton_step_is_exact_for_a_multiple_of_the_identity():
    """1/‖p(λ)‖ = (2 + λ)/‖g‖ is linear in λ, so Newton's step from anywhere ends the iteration."""
    result = more_sorensen(np.array([3.0, 4.0]), 2 * np.eye(2), radius=0.5)
    assert len(result.multipliers) <= 2 and result.multiplier == pytest.approx(8, rel=1e-12)


def test_newton_from_the_left_climbs_without_overshooting():
    """The reciprocal length is concave, so multipliers at which the step is too long rise to the solution."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        B = spd_matrix(rng, rng.uniform(0.5, 20.0, 6))
        g = rng.standard_normal(6)
        result = more_sorensen(g, B, radius=0.01)
        long = [m for m in result.multipliers if _length(g, B, m) > 0.01 * (1 + 1e-10)]
        assert long == sorted(long) and all(m <= result.multiplier * (1 + 1e-10) for m in long)


def test_few_factorisations_for_ordinary_problems():
    rng, counts = np.random.default_rng(1), []
    for _ in range(300):
        A = rng.standard_normal((8, 8))
        counts.append(more_sorensen(rng.standard_normal(8), A + A.T, radius=float(10 ** rng.uniform(-1, 1))).iterations)
    assert np.mean(counts) < 9 and max(counts) < 25


def test_too_few_iterations_warn():
    rng = np.random.default_rng(2)
    A = rng.standard_normal((8, 8))
    with pytest.warns(ConvergenceWarning, match="more_sorensen stopped after 2 iterations"):
        result = more_sorensen(rng.standard_normal(8), A + A.T, radius=1.0, max_iter=2)
    assert not result.converged and result.iterations == 2


@pytest.mark.parametrize("bad", [{"rtol": 0.0}, {"rtol": 1.0}, {"max_iter": 0}])
def test_settings_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        more_sorensen(np.ones(2), np.eye(2), radius=1.0, **bad)
