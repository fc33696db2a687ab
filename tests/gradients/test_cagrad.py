"""The dual against its primal by SLSQP, and its best weights of two tasks on a line."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from trref.gradients.cagrad import direction, dual_objective, duality_gap


def _best(G, c):
    M = len(G)
    found = minimize(
        lambda w: dual_objective(w, G, c=c),
        np.full(M, 1 / M),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * M,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return found.x


@pytest.mark.parametrize("c", [0.3, 0.8])
def test_the_best_weights_close_the_gap(c):
    for seed in range(4):
        G = np.random.default_rng(seed).standard_normal((3, 6))
        w, g0 = _best(G, c), G.mean(0)
        d = direction(G, w, c=c)
        assert abs(duality_gap(G, w, c=c)) < 1e-5
        assert np.linalg.norm(d - g0) == pytest.approx(c * np.linalg.norm(g0), rel=1e-9)
        rng = np.random.default_rng(9)
        for _ in range(300):
            u = rng.standard_normal(6)
            other = g0 + c * np.linalg.norm(g0) * u / np.linalg.norm(u)
            assert (G @ other).min() <= (G @ d).min() + 1e-6
        assert duality_gap(G, np.array([1.0, 0.0, 0.0]), c=c) > -1e-12


def test_two_tasks_on_a_line_of_weights():
    G = np.array([[1.0, 0.2], [-0.6, 0.9]])
    line = minimize_scalar(lambda t: float(dual_objective(np.array([t, 1 - t]), G)[0]), bounds=(0, 1), method="bounded")
    value = max((G @ direction(G, np.array([t, 1 - t]))).min() for t in np.linspace(0, 1, 2001))
    assert value <= line.fun == pytest.approx(value, abs=5e-4)  # the grid is that coarse


def test_without_room_it_is_the_mean():
    G = np.random.default_rng(1).standard_normal((3, 4))
    assert np.allclose(direction(G, np.array([0.2, 0.3, 0.5]), c=0.0), G.mean(0), rtol=1e-9)
    opposite = np.array([[1.0, -2.0], [-1.0, 2.0]])
    assert not direction(opposite, np.array([0.5, 0.5])).any()


def test_bad_input():
    with pytest.raises(ValueError, match="c must"):
        direction(np.ones((2, 3)), np.ones(2), c=-1.0)
