"""Theorems and limits of the natural gradient."""

import math
import warnings

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import cg as scipy_cg
from scipy.special import softmax
from scipy.stats import entropy

from trref.catalog import find
from trref.krylov.cg import cg
from trref.policy.natural_gradient import (
    backtracking_line_search,
    fisher_vector_product,
    mean_kl_categorical,
    mean_kl_diag_gaussian,
    natural_step,
)
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.problems.mdp import random_mdp
from trref.problems.policies import CategoricalPolicy, GaussianPolicy, LinearSoftmaxPolicy, QuadraticTrustRegion
from trref.validate import ConvergenceWarning

POLICIES = {
    "categorical": CategoricalPolicy((3, 6, 4)),
    "Gaussian": GaussianPolicy((3, 5, 2)),
    "linear": LinearSoftmaxPolicy(3, 4),
}


def _case(name, states=12):
    policy, rng = POLICIES[name], np.random.default_rng(len(name))
    return policy, 0.6 * rng.standard_normal(policy.size), rng.standard_normal((states, 3)), rng


def _fisher(policy, theta, X):
    return np.stack([fisher_vector_product(policy, theta, e, X) for e in np.eye(policy.size)], 1)


def test_divergences_by_hand():
    """p = (1/2, 1/2), q = (1/4, 3/4): log(4/3)/2 + … ; two unit Gaussians a distance of 2 apart: 2."""
    kl, gradient = mean_kl_categorical(np.zeros((1, 2)), np.log([[0.25, 0.75]]))
    assert kl == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), rel=1e-14)
    assert gradient == pytest.approx(np.array([[-0.25, 0.25]]))
    one = np.zeros((1, 1))
    kl, gradient = mean_kl_diag_gaussian(one, one, 2 + one, one)
    assert kl == pytest.approx(2.0) and gradient.mean == pytest.approx(np.array([[2.0]]))
    assert mean_kl_diag_gaussian(one, math.log(2) + one, one, one)[0] == pytest.approx(-math.log(2) + 2 - 0.5)


def test_divergence_does_not_see_a_shift_of_all_logits():
    rng = np.random.default_rng(0)
    old, new = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    shifted = mean_kl_categorical(old + 7, new - 3)[0]
    assert shifted == pytest.approx(mean_kl_categorical(old, new)[0], rel=1e-12)


@pytest.mark.parametrize("name", POLICIES)
def test_the_fisher_matrix_is_the_hessian_of_either_divergence(name):
    policy, theta, X, rng = _case(name)
    v = rng.standard_normal(policy.size)
    quadratic = v @ fisher_vector_product(policy, theta, v, X)
    h, z = 1e-3, policy(theta, X)
    for forward in (True, False):
        kl = lambda t: (policy.kl(z, policy(t, X)) if forward else policy.kl(policy(t, X), z))[0].mean()  # noqa: E731, B023
        f = {k: kl(theta + k * h * v) for k in (-2, -1, 1, 2)}
        second = (16 * (f[1] + f[-1]) - (f[2] + f[-2])) / (12 * h * h)
        assert quadratic == pytest.approx(second, rel=1e-6)


def test_the_old_policy_comes_first():
    """Against SciPy's relative entropy; the other direction is another number at a finite step."""
    rng = np.random.default_rng(2)
    old, new = rng.standard_normal((5, 4)), 3 * rng.standard_normal((5, 4))
    there, back = (entropy(softmax(a, 1), softmax(b, 1), axis=1).mean() for a, b in ((old, new), (new, old)))
    assert mean_kl_categorical(old, new)[0] == pytest.approx(there, rel=1e-12)
    assert abs(there - back) > 0.05 * there


@pytest.mark.parametrize("name", POLICIES)
def test_symmetric_positive_semidefinite(name):
    policy, theta, X, _ = _case(name)
    F = _fisher(policy, theta, X)
    eigenvalues = np.linalg.eigvalsh(F)
    assert np.allclose(F, F.T, atol=1e-14 * abs(F).max(), rtol=1e-9)
    # products over the batch and the eigenvalues themselves each err by some eps for every row of the matrix
    assert eigenvalues.min() > -10 * len(F) * np.finfo(float).eps * eigenvalues.max()


def test_rank_is_at_most_states_times_free_outputs():
    policy, theta, X, _ = _case("categorical", states=3)
    assert np.linalg.matrix_rank(_fisher(policy, theta, X), tol=1e-10) == 3 * (4 - 1)


def test_scipy_gives_the_same_iterates():
    policy, theta, X, rng = _case("categorical")
    g = rng.standard_normal(policy.size)
    matvec = lambda v: fisher_vector_product(policy, theta, v, X, damping=0.1)  # noqa: E731
    operator = LinearOperator((policy.size, policy.size), matvec=matvec, dtype=float)
    for k in (1, 2, 3, 5, 8):
        theirs, _ = scipy_cg(operator, g, rtol=1e-14, maxiter=k)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            ours = cg(matvec, g, rtol=1e-14, max_iter=k).x
        assert np.allclose(ours, theirs, rtol=1e-11, atol=1e-12)
        step = natural_step(matvec, g, delta=0.02, iterations=k, rtol=1e-14).step
        assert np.allclose(step, theirs * math.sqrt(0.04 / (theirs @ matvec(theirs))), rtol=1e-10, atol=1e-12)


def test_dense_solution_and_model_of_the_divergence():
    rng = np.random.default_rng(3)
    A, g = spd_matrix(rng, spectrum(8, 20.0)), rng.standard_normal(8)
    result = natural_step(DenseOperator(A), g, delta=0.05, iterations=30)
    direction = np.linalg.solve(A, g)
    assert np.allclose(result.step, math.sqrt(0.1 / (g @ direction)) * direction, rtol=1e-8)
    assert result.step @ A @ result.step / 2 == pytest.approx(0.05, rel=1e-12)
    assert result.converged


def test_one_iteration_is_the_plain_gradient():
    rng = np.random.default_rng(4)
    A, g = spd_matrix(rng, spectrum(8, 20.0)), rng.standard_normal(8)
    result = natural_step(DenseOperator(A), g, delta=0.05, iterations=1)
    assert np.allclose(result.step, math.sqrt(0.1 / (g @ A @ g)) * g, rtol=1e-12) and not result.converged


def test_strong_damping_is_the_plain_gradient():
    policy, theta, X, rng = _case("categorical")
    g = rng.standard_normal(policy.size)
    step = natural_step(lambda v: fisher_vector_product(policy, theta, v, X, damping=1e6), g).step
    assert step @ g / math.sqrt((step @ step) * (g @ g)) == pytest.approx(1, rel=1e-10)


def test_no_gradient_no_step():
    assert not natural_step(DenseOperator(np.eye(3)), np.zeros(3)).step.any()


def test_the_scale_of_the_gradient_does_not_matter():
    A, g = DenseOperator(np.diag([1.0, 2.0, 3.0])), np.array([1.0, -2.0, 0.5])
    for scale in (1e-200, 1e90):
        assert np.allclose(natural_step(A, scale * g).step, natural_step(A, g).step, rtol=1e-12)


def test_tabular_closed_form():
    """For a table of logits, F⁺ g is the advantage, up to a constant in each state."""
    rng = np.random.default_rng(5)
    mdp = random_mdp(rng, states=4, actions=3, gamma=0.8)
    logits = rng.standard_normal((4, 3))
    policy = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    _, advantage, visits, _ = mdp(policy)
    g = (visits[:, None] * policy * advantage).ravel()
    table = LinearSoftmaxPolicy(4, 3)
    rows = np.eye(4)
    F = sum(visits[s] * _fisher(table, logits.ravel(), rows[s : s + 1]) for s in range(4))
    direction = (np.linalg.pinv(F) @ g).reshape(4, 3)
    off = direction - advantage
    assert np.allclose(off - off.mean(1, keepdims=True), 0, atol=1e-9, rtol=1e-9)


def test_invariant_to_linear_reparametrisation():
    """theta = B omega: the natural step moves theta the same way; the plain gradient does not."""
    rng = np.random.default_rng(6)
    policy, X, B = GaussianPolicy((2, 1)), rng.standard_normal((30, 2)), rng.standard_normal((4, 4))
    theta, g = rng.standard_normal(4), rng.standard_normal(4)
    F = _fisher(policy, theta, X)
    step = natural_step(DenseOperator(F), g, iterations=60).step
    other = natural_step(DenseOperator(B.T @ F @ B), B.T @ g, iterations=60).step
    assert np.allclose(B @ other, step, rtol=1e-6)
    assert not np.allclose(B @ (B.T @ g), g, rtol=0.1)


def test_backtracking_takes_the_first_that_fits():
    """D = (2^-j)²/2 <= 0.01 first at j = 3: 1/128 = 0.0078."""
    model = QuadraticTrustRegion(np.zeros(1), np.ones(1), np.eye(1))
    result = backtracking_line_search(model, np.zeros(1), np.ones(1), np.ones(1))
    assert result.theta == pytest.approx([0.125]) and result.iterations == 4 and result.converged
    assert result.divergences == pytest.approx([0.5, 0.125, 1 / 32, 1 / 128])


def test_backtracking_asks_for_a_share_of_the_prediction():
    """J = d - 20 d²/2 at d = 0.14, 0.07, 0.035: gains of -0.056, 0.021 (0.3 of the prediction), 0.023 (0.65)."""
    model = QuadraticTrustRegion(np.zeros(1), np.ones(1), np.eye(1), 20.0)
    accepted = [
        backtracking_line_search(model, np.zeros(1), np.array([0.14]), np.ones(1), accept_ratio=ratio).iterations
        for ratio in (0.0, 0.25, 0.5)
    ]
    assert accepted == [2, 2, 3]


def test_rejection_changes_nothing():
    theta = np.array([0.1, 1 / 3])
    downhill = QuadraticTrustRegion(theta, np.array([-1.0, 0.0]), np.eye(2))
    with pytest.warns(ConvergenceWarning, match="accepted none of its 10 trials"):
        result = backtracking_line_search(downhill, theta, np.array([0.1, 0.0]), np.array([1.0, 0.0]))
    assert not result.converged and result.iterations == 10
    assert result.theta.tobytes() == theta.tobytes() and not np.shares_memory(result.theta, theta)


def test_nan_is_rejected():
    def f(x):
        return (0.0, 0.0) if not x.any() else (math.nan, math.nan)

    with pytest.warns(ConvergenceWarning):
        assert not backtracking_line_search(f, np.zeros(1), np.ones(1), np.ones(1)).converged


def test_public_line_searches_leave_the_trust_region():
    record = find("natural_gradient.backtracking_line_search")
    model = QuadraticTrustRegion(np.zeros(1), np.ones(1), np.eye(1))
    unbounded, slack = (d.f for d in record.deviations)
    start = (np.zeros(1), np.array([0.17]), np.ones(1))  # a divergence of 0.01445, between 1 and 1.5 times the bound
    for public in (unbounded, slack):
        assert model(public(model, *start)[0])[1] == pytest.approx(0.01445)
    assert model(backtracking_line_search(model, *start).theta)[1] <= 0.01
