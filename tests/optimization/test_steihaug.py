"""Theorems of Steihaug's and Toint's truncated conjugate gradients."""

import numpy as np
import pytest

from trref.catalog.optimization.steihaug import POSITIVE_ROOT
from trref.krylov.cg import cg
from trref.optimization.steihaug import steihaug_toint
from trref.optimization.trust_region_steps import cauchy_point
from trref.optimization.trust_region_subproblem import eigen_step
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.validate import ConvergenceWarning


def _problems(number, seed, definite):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        n = int(rng.integers(2, 9))
        signs = np.ones(n) if definite else rng.choice((-1.0, 1.0), n)
        yield rng.standard_normal(n), spd_matrix(rng, signs * np.exp(rng.uniform(-2, 3, n))), 10 ** rng.uniform(-2, 1)


def _value(p, g, B):
    return g @ p + p @ B @ p / 2


@pytest.mark.parametrize("definite", [True, False])
def test_between_the_cauchy_point_and_the_exact_step(definite):
    for g, B, radius in _problems(500, 1, definite):
        step = steihaug_toint(g, DenseOperator(B), radius=radius)
        values = _value(step.p, g, B), _value(cauchy_point(g, B, radius=radius).p, g, B)
        exact = _value(eigen_step(g, B, radius=radius).p, g, B)
        assert exact - 1e-10 * abs(exact) <= values[0] <= values[1] + 1e-12 * abs(values[1])
        assert np.linalg.norm(step.p) <= radius * (1 + 1e-12)
        assert step.values[-1] == pytest.approx(values[0], rel=1e-9)


def test_half_of_the_optimal_decrease_for_a_definite_matrix():
    """Yuan's theorem, when run to the end or the boundary; and some problem comes below 0.9."""
    shares = []
    for g, B, radius in _problems(3000, 2, True):
        step = steihaug_toint(g, DenseOperator(B), radius=radius, rtol=1e-10)
        shares.append(_value(step.p, g, B) / _value(eigen_step(g, B, radius=radius).p, g, B))
    assert min(shares) >= 0.5 and min(shares) < 0.9


@pytest.mark.parametrize("definite", [True, False])
def test_the_model_falls_at_every_step(definite):
    for g, B, radius in _problems(200, 3, definite):
        step = steihaug_toint(g, DenseOperator(B), radius=radius, rtol=1e-10)
        assert all(b < a for a, b in zip(step.values, step.values[1:], strict=False))


@pytest.mark.filterwarnings("ignore:cg stopped")
@pytest.mark.parametrize("radius", [0.3, 1.0, 1e6])
def test_values_on_the_way_are_those_of_the_iterates(radius):
    for g, B, _ in _problems(50, 4, True):
        step = steihaug_toint(g, DenseOperator(B), radius=radius, rtol=1e-6)
        inside = len(step.values) - (1 if step.status == "interior" else 2)
        iterates = [cg(DenseOperator(B), -g, rtol=1e-15, max_iter=k).x for k in range(1, inside + 1)]
        assert step.values[0] == 0 and step.iterations == len(step.values) - 1
        assert step.values[1 : inside + 1] == pytest.approx([_value(x, g, B) for x in iterates], rel=1e-9)


@pytest.mark.filterwarnings("ignore:cg stopped")
def test_iterates_grow():
    """So nothing is lost by stopping at the first crossing of the boundary."""
    for g, B, _ in _problems(100, 4, True):
        lengths = [np.linalg.norm(cg(DenseOperator(B), -g, rtol=1e-15, max_iter=k).x) for k in range(1, len(g) - 1)]
        assert lengths == sorted(lengths)


def test_negative_curvature_by_hand():
    """B = -I: along -g to the boundary, m = -5 · 2 - 4/2."""
    step = steihaug_toint(np.array([3.0, 4.0]), DenseOperator(-np.eye(2)), radius=2.0)
    assert np.allclose(step.p, [-1.2, -1.6], rtol=1e-9) and step.status == "negative curvature"
    assert step.values == pytest.approx([0, -10 - 2])


def test_the_better_end_is_better_in_some_problems():
    better, share = 0, []
    for g, B, radius in _problems(2000, 5, False):
        ours = steihaug_toint(g, DenseOperator(B), radius=radius, rtol=1e-8)
        theirs = POSITIVE_ROOT.f(g, DenseOperator(B), radius=radius, rtol=1e-8)
        a, b = _value(ours.p, g, B), _value(theirs.p, g, B)
        assert a <= b + 1e-9 * abs(b)
        better += a < b - 1e-6 * abs(b)
        share.append(a / b)
    assert 0.005 < better / 2000 < 0.2 and max(share) > 1.2


def test_zero_gradient_is_no_step():
    step = steihaug_toint(np.zeros(3), DenseOperator(np.eye(3)), radius=1.0)
    assert not step.p.any() and step.iterations == 0 and step.converged


def test_the_default_tolerance_follows_the_gradient():
    """min(1/2, √‖g‖): a small gradient is solved more accurately."""
    B = np.diag(np.linspace(1, 9, 20))
    counts = [steihaug_toint(s * np.ones(20), DenseOperator(B), radius=1e9).iterations for s in (1.0, 1e-4, 1e-8)]
    assert counts[0] < counts[1] < counts[2]


def test_a_tolerance_of_zero_ends_at_rounding():
    """Two eigenvalues need two steps; what follows would only carry the residual on towards an underflow."""
    rng = np.random.default_rng(6)
    B, g = spd_matrix(rng, rng.choice((1.0, 3.0), 64)), rng.standard_normal(64)
    step = steihaug_toint(g, DenseOperator(B), radius=100.0, rtol=0.0)
    assert step.status == "interior" and step.converged and step.iterations <= 4
    assert np.allclose(step.p, -np.linalg.solve(B, g), rtol=1e-12)


def test_more_products_than_unknowns_where_rounding_asks_for_them():
    B, g = spd_matrix(np.random.default_rng(7), spectrum(30, 1e6)), np.random.default_rng(8).standard_normal(30)
    step = steihaug_toint(g, DenseOperator(B), radius=1e12, rtol=1e-8)
    assert step.converged and step.iterations > 30
    assert np.linalg.norm(g + B @ step.p) <= 1.1e-8 * np.linalg.norm(g)


def test_an_unreachable_target_warns():
    B, g = spd_matrix(np.random.default_rng(9), spectrum(40, 1e14)), np.random.default_rng(8).standard_normal(40)
    with pytest.warns(ConvergenceWarning, match="steihaug_toint stopped after 400 iterations"):
        assert not steihaug_toint(g, DenseOperator(B), radius=1e14, rtol=0.0).converged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matvec": DenseOperator(np.full((2, 2), np.nan))}, "matvec must give finite values"),
        ({"matvec": DenseOperator(np.ones((3, 2)))}, "matvec must give float64 arrays of shape"),
        ({"radius": 0.0}, "radius must lie in"),
        ({"rtol": 1.0}, "rtol must lie in"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        steihaug_toint(**{"g": np.ones(2), "matvec": DenseOperator(np.eye(2)), "radius": 1.0, **change})
