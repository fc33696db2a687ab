"""DRCGD: the recurrences agent by agent, its limits, what theory bounds and where a fixed step leaves theory."""

import warnings

import numpy as np
import pytest
import scipy.optimize

from trref.manifolds.drcgd import dprgd, drcgd
from trref.manifolds.drcgd_consensus import metropolis_weights, subspace_distance
from trref.manifolds.riemannian_cg import riemannian_cg
from trref.manifolds.stiefel import project
from trref.manifolds.stiefel_retraction import retract_polar
from trref.problems import graphs
from trref.problems.frames import AgentsPCA, Brockett, agents_pca
from trref.validate import ConvergenceWarning

pytestmark = pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")


def _frame(seed, d, r):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, r)))[0]


def _setting(seed=0, agents=8, dims=8, r=3, graph=graphs.ring, **kwargs):
    problem = agents_pca(np.random.default_rng(seed), agents=agents, dims=dims, points=50, **kwargs)
    return problem, _frame(seed, dims, r), metropolis_weights(graph(agents))


def _polar(Z):
    U, _, Vt = np.linalg.svd(Z, full_matrices=False)
    return U @ Vt


def _tangent(x, z):
    return z - x @ (x.T @ z + z.T @ x) / 2


def _agent_by_agent(C, x0, W, alpha, iterations, *, rounds=1, use_beta=True, decay=0.0):
    """The paper's Algorithm 1 with one loop over agents and one over neighbours."""
    n, Wt = len(C), np.linalg.matrix_power(W, rounds)
    x = [x0] * n
    g = [_tangent(x[i], -C[i] @ x[i]) for i in range(n)]
    eta = [-v for v in g]
    for k in range(iterations):
        x = [_polar(sum(Wt[i, j] * x[j] for j in range(n)) + alpha / (k + 1) ** decay * eta[i]) for i in range(n)]
        new, directions = [], []
        for i in range(n):
            gi = _tangent(x[i], -C[i] @ x[i])
            beta = np.sum(gi**2) / np.sum(g[i] ** 2) if use_beta else 0.0
            directions.append(-gi + beta * _tangent(x[i], sum(Wt[i, j] * eta[j] for j in range(n))))
            new.append(gi)
        g, eta = new, directions
    return np.array(x), np.array(eta)


@pytest.mark.parametrize("graph", [graphs.ring, graphs.path, graphs.complete])
@pytest.mark.parametrize(("rounds", "decay"), [(1, 0.0), (3, 0.5)])
def test_recurrences_of_the_paper(graph, rounds, decay):
    problem, x0, W = _setting(graph=graph)
    x, eta = _agent_by_agent(problem.C, x0, W, 0.2, 12, rounds=rounds, decay=decay)
    result = drcgd(problem, x0, W, lr=0.2, rounds=rounds, decay=decay, tol=1e-9, max_iter=12)
    assert result.iterations == 12
    assert np.allclose(result.agents, x, rtol=0, atol=1e-12)
    assert np.allclose(result.directions, eta, rtol=0, atol=1e-11)


def test_without_beta_it_is_dprgd():
    problem, x0, W = _setting(1)
    x, _ = _agent_by_agent(problem.C, x0, W, 0.2, 15, use_beta=False)
    for result in (
        dprgd(problem, x0, W, lr=0.2, tol=1e-9, max_iter=15),
        drcgd(problem, x0, W, lr=0.2, beta_cap=0.0, tol=1e-9, max_iter=15),
    ):
        assert np.allclose(result.agents, x, rtol=0, atol=1e-13)


def test_one_agent_is_riemannian_conjugate_gradients():
    """Fletcher-Reeves with the polar retraction, projection transport and a fixed step."""
    A = agents_pca(np.random.default_rng(2), agents=1, dims=8).C[0]
    x0 = _frame(2, 8, 2)
    alone = drcgd(AgentsPCA(A[None]), x0, np.eye(1), lr=0.1, tol=1e-9, max_iter=10)
    cg = riemannian_cg(
        Brockett(A, np.ones(2)), x0, beta="FR", retraction="polar", lr=0.1, restart=None, gtol=1e-9, max_iter=10
    )
    assert alone.iterations == cg.iterations == 10
    assert np.allclose(alone.agents[0], cg.x, rtol=0, atol=1e-13)
    assert alone.losses == pytest.approx(cg.losses, rel=1e-12)
    assert alone.gradient_norms == pytest.approx(cg.gradient_norms, rel=1e-9)


@pytest.mark.parametrize("graph", [graphs.ring, graphs.path, graphs.complete])
def test_identical_functions_keep_consensus(graph):
    problem, x0, W = _setting(3, spread=0.0, graph=graph)
    together = drcgd(problem, x0, W, lr=0.2, tol=1e-9, max_iter=40)
    alone = drcgd(AgentsPCA(problem.C[:1]), x0, np.eye(1), lr=0.2, tol=1e-9, max_iter=40)
    assert max(together.consensus_errors) < 1e-13
    for agent in together.agents:
        assert np.allclose(agent, alone.agents[0], rtol=0, atol=1e-10)


def test_many_rounds_are_full_averaging():
    problem, x0, W = _setting(4)
    many = drcgd(problem, x0, W, rounds=500, tol=1e-9, max_iter=20)
    full = drcgd(problem, x0, np.full((8, 8), 1 / 8), tol=1e-9, max_iter=20)
    assert np.allclose(many.agents, full.agents, rtol=0, atol=1e-11)


def test_frames_and_directions_stay_where_they_belong():
    problem, x0, W = _setting(5)
    for cap in (None, 0.9):
        result = drcgd(problem, x0, W, lr=0.3, beta_cap=cap, tol=1e-9, max_iter=150)
        x, eta = result.agents, result.directions
        assert abs(x.mT @ x - np.eye(3)).max() < 1e-13
        assert abs(x.mT @ eta + eta.mT @ x).max() < 1e-13 * max(1, abs(eta).max())


def test_histories_are_true():
    problem, x0, W = _setting(6)
    result = drcgd(problem, x0, W, beta_cap=0.9, tol=1e-9, max_iter=25)
    mean, mean_C = _polar(result.agents.mean(0)), problem.C.mean(0)
    assert np.allclose(result.x, mean, rtol=0, atol=1e-13)
    assert result.losses[-1] == pytest.approx(-0.5 * np.trace(mean.T @ mean_C @ mean), rel=1e-12)
    assert result.gradient_norms[-1] == pytest.approx(np.linalg.norm(_tangent(mean, -mean_C @ mean)), rel=1e-9)
    spread = np.sqrt(np.mean([np.sum((x - mean) ** 2) for x in result.agents]))
    assert result.consensus_errors[-1] == pytest.approx(spread, rel=1e-9)
    assert result.consensus_errors[0] < 1e-13
    assert len(result.losses) == len(result.consensus_errors) == 26


def test_a_fixed_step_leaves_a_floor_that_grows_with_it():
    problem, x0, W = _setting(7, decay=0.8)
    floors = [dprgd(problem, x0, W, lr=a, tol=1e-6, max_iter=400).consensus_errors[-1] for a in (0.05, 0.15, 0.5)]
    assert floors[0] > 1e-4 and 2 < floors[1] / floors[0] < 4 and 2 < floors[2] / floors[1] < 4


def test_decaying_steps_reach_consensus_at_the_eigenvectors():
    problem, x0, W = _setting(8, spread=0.3)
    fixed = drcgd(problem, x0, W, lr=0.5, beta_cap=0.8, rounds=3, tol=1e-8, max_iter=600)
    decaying = drcgd(problem, x0, W, lr=0.5, beta_cap=0.8, rounds=3, decay=0.6, tol=1e-8, max_iter=600)
    assert decaying.consensus_errors[-1] < 0.1 * fixed.consensus_errors[-1]
    best = np.linalg.eigh(problem.C.mean(0))[1][:, -3:]
    assert float(subspace_distance(decaying.x, best)) < 0.01


def _descent(problem, x0, W, step, iterations=80):
    """The ratios of Lemma 8 for every agent and iteration under a fixed step."""
    ratios = []
    for k in range(1, iterations):
        r = drcgd(problem, x0, W, lr=step, tol=1e-9, max_iter=k)
        g = np.array([_tangent(x, -C @ x) for x, C in zip(r.agents, problem.C, strict=True)])
        ratios.append((g * r.directions).sum((1, 2)) / (g * g).sum((1, 2)))
    return np.array(ratios)


def test_lemma_of_descent_needs_wolfe_steps():
    """-1/(1-c) <= <grad, eta> / |grad|^2 <= -(1-2c)/(1-c) along steps whose slope falls to at most c of the first."""
    c = 0.25
    C = agents_pca(np.random.default_rng(9), agents=1, dims=8).C[0]
    x = _frame(9, 8, 2)
    g = project(x, -C @ x)
    eta = -g
    for _ in range(12):
        m = np.sum(g * eta)

        def left(t, x=x, eta=eta, m=m):
            y = retract_polar(x, t * eta)
            return np.sum(project(y, -C @ y) * eta) - c * m

        ends = [t for t in np.geomspace(1e-3, 1e2, 60) if left(t) > 0]
        t = scipy.optimize.brentq(left, 0.0, ends[0])
        y = retract_polar(x, t * eta)
        new = project(y, -C @ y)
        x, g, eta = y, new, -new + np.sum(new**2) / np.sum(g**2) * project(y, eta)
        ratio = np.sum(g * eta) / np.sum(g**2)
        assert -1 / (1 - c) - 1e-6 <= ratio <= -(1 - 2 * c) / (1 - c) + 1e-6

    problem, x0, W = _setting(9, agents=4)
    ratios = _descent(problem, x0, W, 0.3)
    violated = np.mean(ratios > 0)
    assert violated > 0.1, "with a fixed step many directions do not even descend"


def test_restart_makes_every_direction_descend():
    problem, x0, W = _setting(10, agents=4)
    restarted = 0
    for k in range(1, 40):
        r = drcgd(problem, x0, W, lr=0.3, restart=0.5, tol=1e-9, max_iter=k)
        g = np.array([_tangent(x, -C @ x) for x, C in zip(r.agents, problem.C, strict=True)])
        ratio = (g * r.directions).sum((1, 2)) / (g * g).sum((1, 2))
        assert np.all(ratio <= -0.5 + 1e-12)
        restarted += np.sum(abs(r.directions + g).max((1, 2)) < 1e-12)
    assert 0 < restarted < 78, "some agents restart, some go on"


def test_turning_the_problem_turns_the_agents():
    problem, x0, W = _setting(11)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    a = drcgd(problem, x0, W, tol=1e-9, max_iter=15)
    b = drcgd(AgentsPCA(Q @ problem.C @ Q.T), Q @ x0, W, tol=1e-9, max_iter=15)
    assert np.allclose(Q @ a.agents, b.agents, rtol=0, atol=1e-11)


def test_errors_and_warnings():
    problem, x0, W = _setting()
    with pytest.warns(ConvergenceWarning, match="stopped after 2 iterations"):
        assert not drcgd(problem, x0, W, max_iter=2).converged
    with pytest.raises(ValueError, match="weights must be symmetric and doubly stochastic"):
        drcgd(problem, x0, 2 * W)
    with pytest.raises(ValueError, match="x must have shape"):
        drcgd(AgentsPCA(problem.C[:3]), x0, W)
    with warnings.catch_warnings(), pytest.raises(ValueError, match="lr"):
        drcgd(problem, x0, W, lr=-1.0)
