"""Globally smooth functions: SLSQP on small graphs, a chain in closed form, weak duality, and what dividing does."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.manifolds.globally_smooth import authors_step, dual_step, dual_value, globally_smooth
from trref.manifolds.weighted_laplacian import heat_weights, local_slopes
from trref.validate import ConvergenceWarning


def _cloud(seed, N=10, labels=3):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (N, 2))
    labelled = np.zeros(N)
    labelled[:labels] = 1
    target = np.where(np.arange(N) % 2, 1.0, -1.0)
    return heat_weights(X, t=0.3, cutoff=0.0), target, labelled


def _by_slsqp(w, y, m, epsilon):
    """Variables (f, rho), from a start of three."""
    N = len(y)
    constraints = [
        {"type": "ineq", "fun": lambda z: epsilon - (m * (z[:N] - y) ** 2).sum() / m.sum()},
        {"type": "ineq", "fun": lambda z: z[N] - (w * (z[:N, None] - z[:N]) ** 2).sum(1)},
    ]
    results = []
    for seed in range(3):
        f = y + 0.1 * np.random.default_rng(seed).standard_normal(N)
        start = np.append(f, (w * (f[:, None] - f) ** 2).sum(1).max())
        done = minimize(
            lambda z: z[N], start, constraints=constraints, method="SLSQP", options={"maxiter": 500, "ftol": 1e-12}
        )
        results.append(done.fun)
    return min(results)


@pytest.mark.parametrize("rule", ["exponentiated", "projected"])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_a_solver_of_the_problem_itself(seed, rule):
    w, y, m = _cloud(seed)
    best = _by_slsqp(w, y, m, 0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = globally_smooth(w, y, m, epsilon=0.05, rule=rule, rtol=1e-3, max_iter=3000)
    assert found.lower <= best * (1 + 1e-6), "weak duality"
    assert found.rho >= best * (1 - 1e-6)
    assert found.rho == pytest.approx(best, rel=0.01)


def test_every_pair_of_multipliers_bounds_every_allowed_function():
    w, y, m = _cloud(2)
    rng = np.random.default_rng(0)
    best = globally_smooth(w, y, m, epsilon=0.05).rho
    for _ in range(50):
        share, mu = rng.dirichlet(np.ones(10)), rng.exponential(3)
        lower = dual_value(w, share + 1e-9, y, m, mu=mu, epsilon=0.05)
        assert lower.value <= best
    noise = rng.standard_normal((50, 10))
    for f in y + 0.05**0.5 * noise / abs(noise).max():
        assert local_slopes(f, w).max() >= globally_smooth(w, y, m, epsilon=0.05).lower


def test_derivatives_of_the_dual_by_differences():
    w, y, m = _cloud(3)
    share, h = np.random.default_rng(1).dirichlet(np.ones(10)), 1e-6
    at = dual_value(w, share, y, m, mu=2.0, epsilon=0.05)
    ends = [dual_value(w, share, y, m, mu=2.0 + s * h, epsilon=0.05).value for s in (1, -1)]
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(at.mu, rel=1e-6)
    direction = np.eye(10)[3] - np.eye(10)[7]
    ends = [dual_value(w, share + s * h * direction, y, m, mu=2.0, epsilon=0.05).value for s in (1, -1)]
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(direction @ at.share, rel=1e-5, abs=1e-8)


def test_two_points_in_closed_form():
    """Both move towards each other by the root of epsilon."""
    w = np.array([[0.0, 2.0], [2.0, 0.0]])
    found = globally_smooth(w, np.array([1.0, -1.0]), np.ones(2), epsilon=0.01, rtol=1e-6)
    assert found.rho == pytest.approx(2 * (2 - 0.2) ** 2, rel=1e-5)
    assert found.converged and found.lower <= found.rho


def test_the_best_constant_is_a_solution_where_it_is_allowed():
    w, y, m = _cloud(4, labels=4)
    found = globally_smooth(w, y, m, epsilon=1.0)
    assert found.converged and found.iterations == 0 and found.rho == 0 == found.lower
    assert abs(found.f - y[:4].mean()).max() < 1e-15


def test_shares_lie_where_the_slope_is_largest():
    w, y, m = _cloud(5, N=30, labels=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = globally_smooth(w, y, m, epsilon=0.05, rtol=1e-3, max_iter=2000)
    g = local_slopes(found.f, w)
    assert found.share[g < 0.5 * g.max()].sum() < 0.02


# ---- a chain from 0 to 1: slopes are h/share, normalised; the best shares are the lengths, and all slopes are 1

LENGTHS = np.array([0.05, 0.1, 0.4, 0.3, 0.1, 0.05])


def _chain(share):
    """Squared slopes of the best values for given shares of the edges."""
    drop = LENGTHS**2 / share
    return (drop / drop.sum() / LENGTHS) ** 2


def test_the_chain_by_exponentiated_steps():
    share = np.full(6, 1 / 6)
    assert _chain(share).max() == pytest.approx((LENGTHS.max() / (LENGTHS**2).sum()) ** 2, rel=1e-13)
    for _ in range(2000):
        share = dual_step(share, _chain(share), lr=0.2)
    assert share == pytest.approx(LENGTHS, abs=1e-10)
    assert _chain(share).max() == pytest.approx(1, abs=1e-9)


def test_the_chain_by_projected_steps():
    share = np.full(6, 1 / 6)
    for k in range(4000):
        # no share may be 0: its slope would be infinite
        share = 0.999999 * dual_step(share, _chain(share), lr=0.02 / (1 + k / 100), rule="projected") + 1e-6 / 6
    assert share == pytest.approx(LENGTHS, abs=1e-3)


def test_the_chain_by_the_authors_steps_on_average():
    """With exact values for f; the multiplier of the loss plays no part."""
    share, rho = np.full(6, 1 / 6), np.asarray(1.0)
    mean, zero = np.zeros(6), np.asarray(0.0)
    for k in range(20000):
        slopes = _chain(np.maximum(share, 1e-9) / max(share.sum(), 1e-9))
        # an edge that lost its share is the steepest of all
        share, _, rho = authors_step(share, zero, rho, np.minimum(slopes, 5), zero, lr=0.01, lr_rho=0.01)
        mean += share * (k >= 10000) / 10000
    assert mean.sum() == pytest.approx(1, abs=1e-2)
    assert _chain(mean / mean.sum()).max() == pytest.approx(1, abs=1e-2)


def test_dividing_ends_elsewhere():
    share = np.full(6, 1 / 6)
    for _ in range(5000):
        share = share + 0.05 * np.sqrt(_chain(share))
        share /= share.sum()
    slopes = np.sqrt(_chain(share))
    assert share == pytest.approx(slopes / slopes.sum(), rel=1e-6), "shares in proportion to the slopes"
    assert slopes / slopes[0] == pytest.approx(np.sqrt(LENGTHS / LENGTHS[0]), rel=1e-6)
    assert 1.1 < _chain(share).max() < _chain(np.full(6, 1 / 6)).max()


def test_what_is_refused():
    w, y, m = _cloud(6)
    apart = np.zeros((10, 10))
    with pytest.raises(ValueError, match="weights must connect every point with a label"):
        globally_smooth(apart, y, m)
    with pytest.raises(ValueError, match="share must be positive"):
        dual_value(w, np.eye(10)[0], y, m)
    with pytest.warns(ConvergenceWarning, match="after 1 iterations the gap is"):
        assert not globally_smooth(w, y, m, epsilon=1e-4, rtol=1e-6, max_iter=1).converged
