"""The exact solvers of the trust-region subproblem: the conditions of optimality, and what follows from them."""

import itertools

import numpy as np
import pytest

from trref.catalog.optimization.interfaces import optimality
from trref.optimization.more_sorensen import more_sorensen
from trref.optimization.trust_region_subproblem import eigen_step, pencil_step
from trref.problems.convex import spd_matrix

EXACT = [eigen_step, more_sorensen]


def problems(number, seed):
    """Random subproblems of all kinds: convex, singular, indefinite, repeated eigenvalues, near-hard and hard.

    For the near-hard ones g is scaled by 10^-k along the eigenspace of the smallest eigenvalue, k = 0..16, and then by
    0; some have a radius near the length at which the hard case begins.
    """
    rng = np.random.default_rng(seed)
    for i in range(number):
        kind = ("any", "convex", "singular", "repeated", "near-hard", "critical radius")[i % 6]
        n = int(rng.integers(1, 13))
        w = rng.standard_normal(n) * 10 ** rng.uniform(-3, 3)
        w = abs(w) if kind in ("convex", "singular") else w
        if kind == "singular":
            w[rng.integers(n)] = 0
        if kind == "repeated":
            w[: n // 2] = w.min()
        Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
        B = (Q * w) @ Q.T
        c = rng.standard_normal(n) * 10 ** rng.uniform(-3, 3)
        softest = np.isclose(w, w.min(), rtol=1e-9)
        if kind not in ("any", "convex"):
            k = int(rng.integers(0, 18))
            c[softest] *= 10.0**-k if k < 17 else 0
        radius = 10 ** rng.uniform(-3, 3)
        if kind == "critical radius" and not softest.all():
            critical = np.linalg.norm(c[~softest] / (w - w.min())[~softest])
            radius = np.clip(critical * (1 + rng.choice((0, 1e-12, -1e-12, 1e-6, -1e-6, 1e-2))), 1e-8, 1e8)
        yield Q @ c, (B + B.T) / 2, float(radius)


def _worst(solver, number, seed):
    worst = dict.fromkeys(("stationarity", "feasibility", "complementarity", "indefiniteness"), -np.inf)
    for g, B, radius in problems(number, seed):
        result = solver(g, B, radius=radius)
        assert result.converged
        figures = optimality(result, g, B, radius=radius)
        assert figures["negative multiplier"] <= 0
        worst = {name: max(value, figures[name]) for name, value in worst.items()}
    return worst


def test_optimal_on_thousands_of_problems_by_eigenvalues():
    assert all(value < 1e-13 for value in _worst(eigen_step, 6000, 0).values())


def test_optimal_on_thousands_of_problems_by_cholesky():
    assert all(value < 1e-11 for value in _worst(more_sorensen, 6000, 1).values())


def test_optimal_to_a_third_of_the_digits_by_the_pencil():
    assert all(value < 1e-4 for value in _worst(pencil_step, 3000, 2).values())


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("k", range(18))
def test_near_hard(solver, k):
    """g has a component 10^-k along the softest direction, and none for the last."""
    rng = np.random.default_rng(k)
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    w = np.array([-2.0, -1.0, 0.5, 1.0, 2.0, 3.0])
    c = np.array([10.0**-k if k < 17 else 0.0, 0.3, -0.2, 0.5, 0.1, 0.4])
    g, B = Q @ c, (Q * w) @ Q.T
    B = (B + B.T) / 2
    result = solver(g, B, radius=2.0)
    assert max(optimality(result, g, B, radius=2.0).values()) < 1e-11
    assert np.linalg.norm(result.p) == pytest.approx(2, rel=1e-11)
    exact = _value(eigen_step(g, B, radius=2.0), g, B)
    # dm*/dΔ = -λ Δ, and the length may be off by 1e-12 of Δ, each way
    slack = 2e-12 * result.multiplier * 2.0**2
    assert _value(result, g, B) == pytest.approx(exact, rel=1e-12, abs=slack)


def _value(result, g, B):
    return g @ result.p + result.p @ B @ result.p / 2


@pytest.mark.parametrize("solver", [*EXACT, pencil_step])
def test_hard_case_by_hand(solver):
    """B = diag(-2, -2, 1, 3), g = (0, 0, 1, 1), radius 2: λ = 2, p = (·, ·, -1/3, -1/5), m = -64/15."""
    g, B = np.array([0.0, 0.0, 1.0, 1.0]), np.diag([-2.0, -2.0, 1.0, 3.0])
    result = solver(g, B, radius=2.0)
    assert result.status == "hard case" and result.multiplier == pytest.approx(2, rel=1e-7)
    assert result.p[2:] == pytest.approx([-1 / 3, -1 / 5], rel=1e-6)
    assert np.hypot(*result.p[:2]) == pytest.approx(np.sqrt(4 - 1 / 9 - 1 / 25), rel=1e-6)
    assert _value(result, g, B) == pytest.approx(-64 / 15, rel=1e-9)


@pytest.mark.parametrize("solver", [*EXACT, pencil_step])
@pytest.mark.parametrize("w", [(1.0, 2.0, 3.0), (-1.0, 0.5, 2.0)])
@pytest.mark.parametrize("radius", [0.1, 40.0])
def test_the_certificate_sees_a_wrong_multiplier(solver, w, radius):
    g, B = np.array([0.3, -0.2, 0.5]), np.diag(w)
    result = solver(g, B, radius=radius)
    assert max(optimality(result, g, B, radius=radius).values()) < 1e-9
    for wrong in (result.multiplier * 1.001 + 1e-3, -result.multiplier - 1e-3, np.nan):
        figures = optimality(result._replace(multiplier=wrong, multipliers=[wrong]), g, B, radius=radius)
        assert not all(value <= 1e-6 for value in figures.values())


@pytest.mark.parametrize("seed", range(8))
def test_brute_force_in_two_dimensions(seed):
    """No point of a fine grid over the disc is lower."""
    rng = np.random.default_rng(seed)
    g, B = rng.standard_normal(2), rng.standard_normal((2, 2))
    B = B + B.T
    angle, length = np.meshgrid(np.linspace(0, 2 * np.pi, 721), np.linspace(0, 1.3, 101))
    P = np.stack([length * np.cos(angle), length * np.sin(angle)], -1).reshape(-1, 2)
    lowest = (P @ g + ((P @ B) * P).sum(1) / 2).min()
    for solver in (*EXACT, pencil_step):
        value = _value(solver(g, B, radius=1.3), g, B)
        assert lowest - 2e-3 <= value <= lowest + 1e-9


def test_three_solvers_agree():
    rng = np.random.default_rng(3)
    for _ in range(200):
        n = int(rng.integers(1, 9))
        A = rng.standard_normal((n, n))
        g, B, radius = rng.standard_normal(n), A + A.T, float(10 ** rng.uniform(-2, 1))
        results = [solver(g, B, radius=radius) for solver in (eigen_step, more_sorensen, pencil_step)]
        for other in results[1:]:
            assert np.allclose(other.p, results[0].p, rtol=1e-6, atol=1e-7 * radius)
            assert other.multiplier == pytest.approx(results[0].multiplier, rel=1e-7, abs=1e-9)
            assert other.status == results[0].status


def test_length_falls_with_the_multiplier_and_the_multiplier_with_the_radius():
    rng = np.random.default_rng(4)
    A, g = rng.standard_normal((6, 6)), rng.standard_normal(6)
    B = A + A.T
    radii = np.geomspace(1e-3, 1e3, 60)
    multipliers = [eigen_step(g, B, radius=r).multiplier for r in radii]
    assert all(b < a for a, b in itertools.pairwise(multipliers))
    assert multipliers[-1] > -np.linalg.eigvalsh(B)[0]


@pytest.mark.parametrize("indefinite", [False, True])
def test_slope_of_the_optimal_value_in_the_radius(indefinite):
    """d m*/dΔ = -λ Δ, and m* never rises."""
    rng = np.random.default_rng(5)
    B = spd_matrix(rng, np.array([3.0, 1.0, -1.0 if indefinite else 0.5]))
    g = rng.standard_normal(3)
    value = lambda r: _value(eigen_step(g, B, radius=r), g, B)  # noqa: E731
    for r in (0.1, 0.5, 2.0, 20.0):
        slope = (value(r + 1e-5 * r) - value(r - 1e-5 * r)) / (2e-5 * r)
        assert slope == pytest.approx(-eigen_step(g, B, radius=r).multiplier * r, rel=1e-6, abs=1e-8)
    values = [value(r) for r in np.geomspace(1e-3, 1e3, 40)]
    assert all(b <= a + 1e-13 for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("solver", [*EXACT, pencil_step])
def test_limits(solver):
    rng = np.random.default_rng(6)
    B, g = spd_matrix(rng, np.array([4.0, 2.0, 1.0])), rng.standard_normal(3)
    tiny = solver(g, B, radius=1e-8)
    assert np.allclose(tiny.p, -1e-8 * g / np.linalg.norm(g), rtol=0, atol=1e-14)
    assert np.allclose(solver(g, B, radius=1e3).p, -np.linalg.solve(B, g), rtol=1e-10)
    assert solver(g, B, radius=1e3).multiplier == 0 and solver(g, B, radius=1e3).status == "interior"
    assert not solver(0 * g, B, radius=1.0).p.any()
    B = B - 3 * np.eye(3)
    v = np.linalg.eigh(B)[1][:, 0]
    assert abs(solver(0 * g, B, radius=0.7).p @ v) == pytest.approx(0.7, rel=1e-7)


@pytest.mark.parametrize("solver", EXACT)
def test_a_rotation_of_the_problem_rotates_the_step(solver):
    rng = np.random.default_rng(7)
    A, g, Q = rng.standard_normal((5, 5)), rng.standard_normal(5), np.linalg.qr(rng.standard_normal((5, 5)))[0]
    B = A + A.T
    rotated = Q @ B @ Q.T
    rotated = (rotated + rotated.T) / 2
    assert np.allclose(solver(Q @ g, rotated, radius=0.8).p, Q @ solver(g, B, radius=0.8).p, rtol=0, atol=1e-11)


@pytest.mark.parametrize("solver", [*EXACT, pencil_step])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"B": np.array([[1.0, 0.1], [0.0, 1.0]])}, "B must be symmetric"),
        ({"B": np.eye(3)}, "B must have shape"),
        ({"g": np.array([np.nan, 1.0])}, "g must be finite"),
        ({"radius": 0.0}, "radius must lie in"),
        ({"radius": np.inf}, "radius must lie in"),
    ],
)
def test_bad_input(solver, change, message):
    with pytest.raises(ValueError, match=message):
        solver(**{"g": np.ones(2), "B": np.eye(2), "radius": 1.0, **change})
