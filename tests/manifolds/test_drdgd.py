"""DRDGD and DRGTA: the recurrences agent by agent, what a constant step leaves, and that tracking removes it."""

import numpy as np
import pytest

from trref.manifolds.drcgd_consensus import metropolis_weights, subspace_distance
from trref.manifolds.drdgd import drdgd, drgta
from trref.problems import graphs
from trref.problems.frames import AgentsPCA, agents_pca
from trref.validate import ConvergenceWarning

pytestmark = pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")


def _setting(seed=0, agents=8, dims=8, r=3, graph=graphs.ring, **kwargs):
    problem = agents_pca(np.random.default_rng(seed), agents=agents, dims=dims, points=50, **kwargs)
    x0 = np.linalg.qr(np.random.default_rng(seed).standard_normal((dims, r)))[0]
    return problem, x0, metropolis_weights(graph(agents))


def _polar(Z):
    U, _, Vt = np.linalg.svd(Z, full_matrices=False)
    return U @ Vt


def _tangent(x, z):
    return z - x @ (x.T @ z + z.T @ x) / 2


def _agent_by_agent(C, x0, W, iterations, *, beta, alpha, rounds, decay, tracking):
    """One loop over agents and one over neighbours; each round of averaging by itself."""
    n = len(C)
    x = [x0] * n
    g = [_tangent(x0, -Ci @ x0) for Ci in C]
    y = list(g)

    def average(frames):
        for _ in range(rounds):
            frames = [sum(W[i, j] * frames[j] for j in range(n)) for i in range(n)]
        return frames

    for k in range(iterations):
        near, near_y = average(x), average(y)
        step = beta / (k + 1) ** decay
        x = [
            _polar(x[i] + alpha * _tangent(x[i], near[i] - x[i]) - step * _tangent(x[i], y[i] if tracking else g[i]))
            for i in range(n)
        ]
        new = [_tangent(x[i], -C[i] @ x[i]) for i in range(n)]
        y = [near_y[i] + new[i] - g[i] for i in range(n)]
        g = new
        assert np.allclose(sum(y), sum(g), rtol=0, atol=1e-12), "the tracked gradients have the gradients' mean"
    return np.array(x), np.array([-_tangent(x[i], y[i] if tracking else g[i]) for i in range(n)])


@pytest.mark.parametrize("graph", [graphs.ring, graphs.path, graphs.complete])
@pytest.mark.parametrize(("rounds", "decay", "alpha"), [(1, 0.0, 1.0), (3, 0.5, 0.7)])
@pytest.mark.parametrize("solver", [drdgd, drgta])
def test_recurrences(solver, graph, rounds, decay, alpha):
    problem, x0, W = _setting(graph=graph)
    hyper = {"rounds": rounds, "decay": decay}
    x, directions = _agent_by_agent(problem.C, x0, W, 12, beta=0.2, alpha=alpha, tracking=solver is drgta, **hyper)
    result = solver(problem, x0, W, lr=0.2, consensus_lr=alpha, tol=1e-9, max_iter=12, **hyper)
    assert result.iterations == 12
    assert np.allclose(result.agents, x, rtol=0, atol=1e-12)
    assert np.allclose(result.directions, directions, rtol=0, atol=1e-12)
    assert np.allclose(result.x, _polar(x.mean(0)), rtol=0, atol=1e-12)


def test_a_constant_step_leaves_an_error_unless_gradients_are_tracked():
    for seed in range(3):
        problem, x0, W = _setting(seed, decay=0.6)
        best = np.linalg.eigh(problem.C.mean(0))[1][:, -3:]
        options = {"tol": 1e-12, "max_iter": 800}
        floors = [drdgd(problem, x0, W, lr=s, **options).consensus_errors[-1] for s in (0.05, 0.15)]
        assert 1e-3 < floors[0] < floors[1] / 2, "grows with the step"
        tracked = drgta(problem, x0, W, lr=0.15, **options)
        assert tracked.consensus_errors[-1] < 1e-6 * floors[1], "exact with the same constant step"
        assert float(subspace_distance(tracked.x, best)) < 1e-6


@pytest.mark.parametrize("solver", [drdgd, drgta])
def test_identical_functions_keep_consensus(solver):
    problem, x0, W = _setting(3, spread=0.0)
    together = solver(problem, x0, W, lr=0.2, tol=1e-9, max_iter=40)
    alone = solver(AgentsPCA(problem.C[:1]), x0, np.eye(1), lr=0.2, tol=1e-9, max_iter=40)
    assert max(together.consensus_errors) < 1e-13
    assert np.allclose(together.x, alone.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", [drdgd, drgta])
def test_errors_and_warnings(solver):
    problem, x0, W = _setting()
    with pytest.warns(ConvergenceWarning, match="stopped after 2 iterations") as caught:
        assert not solver(problem, x0, W, max_iter=2).converged
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match="weights must be symmetric and doubly stochastic"):
        solver(problem, x0, 2 * W)
    with pytest.raises(ValueError, match="x must have shape"):
        solver(AgentsPCA(problem.C[:3]), x0, W)
    for bad in ({"lr": 0.0}, {"consensus_lr": -1.0}, {"decay": -0.5}, {"tol": 1.0}, {"rounds": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
            solver(problem, x0, W, **bad)
