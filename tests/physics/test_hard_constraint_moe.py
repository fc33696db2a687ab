"""A mixture of hard constraints: one expert, more experts, parts that do not touch, and the equation itself."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trref.catalog.physics.equations import small_equation
from trref.physics.hard_constraint_moe import mixture, mixture_loss, partition
from trref.physics.implicit_layer import constrained_loss
from trref.physics.levenberg_marquardt import levenberg_marquardt
from trref.problems.pde import PolynomialEquation, reaction_diffusion


def _small(seed=0, K=2):
    rng = np.random.default_rng(seed)
    equation, basis = small_equation(rng, 8, 0.1), rng.standard_normal((8, 2))
    owner = np.arange(8) * K // 8
    rows = np.zeros((K, 10))
    rows[owner, np.arange(8)] = 1
    rows[:, 8:] = 1
    return equation, basis, 0.2 * rng.standard_normal(2), owner, rows


def test_partition_by_hand():
    parts = partition(np.array([0.0, 0.24, 0.25, 0.5, 0.99, 1.0]), experts=4)
    assert parts.tolist() == [0, 0, 1, 2, 3, 3]
    assert partition(np.ones(3), experts=4).tolist() == [0, 0, 0]


def test_one_expert_is_the_hard_constraint():
    equation, basis, w0, owner, rows = _small(K=1)
    one = mixture(equation, basis, w0, owner, rows, ridge=0.1)
    whole = levenberg_marquardt(equation, basis, w0, ridge=0.1)
    assert one.weights[0] == pytest.approx(whole.weights, rel=1e-9)
    assert one.u == pytest.approx(basis @ whole.weights, rel=1e-9)
    a, b = (
        mixture_loss(equation, basis, w0, owner, rows, ridge=0.1),
        constrained_loss(equation, basis, w0, rows[0], ridge=0.1),
    )
    assert a[0] == pytest.approx(b[0], rel=1e-12) and a[1] == pytest.approx(b[1], rel=1e-9)


def test_the_gradient_by_solving_again():
    equation, basis, w0, owner, rows = _small(1)
    _, gradient = mixture_loss(equation, basis, w0, owner, rows, ridge=0.05)
    h = 1e-5
    for i, j in ((0, 0), (3, 1), (4, 0), (7, 1)):
        moved = np.zeros((8, 2))
        moved[i, j] = h
        ends = [mixture_loss(equation, basis + s * moved, w0, owner, rows, ridge=0.05)[0] for s in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(gradient[i, j], rel=1e-5, abs=1e-7)


def test_splitting_never_makes_the_rows_of_the_parts_worse():
    """For rows without neighbours: what the parts reach together is at most what one solve reaches."""
    rng = np.random.default_rng(2)
    eye = np.eye(8)
    equation = PolynomialEquation(eye, 0.1 * eye, 0 * eye, rng.standard_normal(8))
    basis, w0, owner = rng.standard_normal((8, 2)), np.zeros(2), np.arange(8) // 4
    rows = (owner == np.arange(2)[:, None]).astype(float)
    two = mixture(equation, basis, w0, owner, rows, ridge=1e-6)
    one = mixture(equation, basis, w0, 0 * owner, np.ones((1, 8)), ridge=1e-6)
    assert np.linalg.norm(two.norms) <= one.norms[0] * (1 + 1e-9)
    assert np.linalg.norm(equation.residual(two.u)) == pytest.approx(np.linalg.norm(two.norms), rel=1e-6)


def test_the_grid_equation_is_the_equation():
    """Its residual at the solution of an integrator is that of the differences in time, and falls with the step."""
    sizes = []
    for steps in (17, 33):
        equation, x, t, start = reaction_diffusion(16, steps)
        rate = 2 + 1.5 * np.sin(6 * np.pi * x[:16])

        def slope(_, u, rate=rate):
            return 1e-3 * 256 * (np.roll(u, 1) - 2 * u + np.roll(u, -1)) + rate * u * (1 - u)

        u = solve_ivp(slope, (0, 0.5), start, t_eval=t[::16], rtol=1e-10, atol=1e-12).y.T.ravel()
        sizes.append(abs(equation.residual(u)).max())
    assert sizes[1] < 0.3 * sizes[0] < 0.03


def test_what_is_refused():
    equation, basis, w0, owner, rows = _small()
    with pytest.raises(ValueError, match="owner must be less than the number of rows"):
        mixture(equation, basis, w0, owner + 1, rows)
