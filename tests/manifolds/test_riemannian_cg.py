"""Riemannian conjugate gradients: solutions known otherwise, the recurrences written out, invariances."""

import itertools
import types
import warnings

import numpy as np
import pytest
import scipy.linalg

from trref.manifolds.riemannian_cg import _change, riemannian_cg
from trref.manifolds.stiefel import project, retract_qr
from trref.manifolds.stiefel_retraction import retract_cayley, retract_polar
from trref.manifolds.stiefel_transport import (
    scaled_transport,
    transport,
    transport_cayley,
    transport_polar,
    transport_qr,
)
from trref.problems.convex import spd_matrix
from trref.problems.frames import Brockett, JointDiagonalisation, Procrustes
from trref.validate import ConvergenceWarning

BETAS = ["FR", "PR+", "HS", "DY"]
WAYS = [
    ("qr", "projection"),
    ("qr", "differential"),
    ("qr", "scaled"),
    ("polar", "projection"),
    ("polar", "differential"),
    ("cayley", "projection"),
    ("cayley", "differential"),
    ("cayley", "cayley"),
]


def _frame(rng, n, p):
    return np.linalg.qr(rng.standard_normal((n, p)))[0]


def _brockett(seed, n=20, p=3):
    rng = np.random.default_rng(seed)
    A = spd_matrix(rng, np.concatenate([rng.random(n - p), 2.0 + np.arange(p)]))
    return Brockett(A, np.arange(p, 0, -1.0)), _frame(rng, n, p)


@pytest.mark.parametrize(("beta", "way"), list(itertools.product(BETAS, WAYS)))
def test_brockett_finds_the_eigenvectors(beta, way):
    f, x0 = _brockett(0)
    result = riemannian_cg(f, x0, beta=beta, retraction=way[0], transport=way[1], gtol=1e-9)
    values, vectors = np.linalg.eigh(f.A)
    assert result.converged
    assert np.allclose(abs((result.x * vectors[:, :-4:-1]).sum(0)), 1, rtol=0, atol=1e-12)
    assert result.losses[-1] == pytest.approx(-0.5 * values[:-4:-1] @ f.weights, rel=1e-13)
    assert abs(result.x.T @ result.x - np.eye(3)).max() < 1e-14 * (result.iterations + 1)


@pytest.mark.parametrize("beta", BETAS)
def test_procrustes_recovers_the_frame(beta):
    rng = np.random.default_rng(1)
    A, target = rng.standard_normal((30, 12)), _frame(rng, 12, 4)
    start = np.linalg.qr(target + 0.3 * rng.standard_normal((12, 4)))[0]
    start *= np.sign((start * target).sum(0))
    result = riemannian_cg(Procrustes(A, A @ target), start, beta=beta, gtol=1e-10)
    assert result.converged and np.allclose(result.x, target, rtol=0, atol=1e-8)


def test_balanced_procrustes_against_scipy():
    """Square frames have a closed form, within the component of the orthogonal group where the start is."""
    rng = np.random.default_rng(2)
    A, B = rng.standard_normal((20, 5)), rng.standard_normal((20, 5))
    best = scipy.linalg.orthogonal_procrustes(A, B)[0]
    start = np.eye(5)
    start[0, 0] = np.linalg.det(best)
    result = riemannian_cg(Procrustes(A, B), start, gtol=1e-11)
    assert np.allclose(result.x, best, rtol=0, atol=1e-9)


def test_joint_diagonalisation():
    rng = np.random.default_rng(3)
    Q = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    A = np.array([(Q * rng.standard_normal(8)) @ Q.T for _ in range(5)])
    start = np.linalg.qr(Q + 0.3 * rng.standard_normal((8, 8)))[0]
    x = riemannian_cg(JointDiagonalisation(A), start, gtol=1e-12).x
    turned = x.T @ A @ x
    off = turned - turned * np.eye(8)
    assert abs(off).max() < 1e-9 * abs(turned).max()


def _naive(f, x, beta, way, t, iterations):
    """The recurrences written out, with the public functions and a fixed step."""
    move = {"qr": retract_qr, "polar": retract_polar, "cayley": retract_cayley}[way[0]]
    carry = {
        ("qr", "differential"): lambda x, s, y, v: transport_qr(x, s, v),
        ("polar", "differential"): lambda x, s, y, v: transport_polar(x, s, v),
        ("qr", "scaled"): lambda x, s, y, v: scaled_transport(x, s, v),
        ("cayley", "cayley"): lambda x, s, y, v: transport_cayley(x, s, v),
    }.get(way, lambda x, s, y, v: transport(x, y, v))
    g = project(x, f(x)[1])
    d = -g
    for _ in range(iterations):
        y = move(x, t * d)
        new, Td, Tg = project(y, f(y)[1]), carry(x, t * d, y, d), carry(x, t * d, y, g)
        change = new - Tg
        b = {
            "FR": np.sum(new * new) / np.sum(g * g),
            "PR+": max(0, np.sum(new * change) / np.sum(g * g)),
            "HS": np.sum(new * change) / np.sum(Td * change),
            "DY": np.sum(new * new) / np.sum(Td * change),
        }[beta]
        x, g, d = y, new, -new + b * Td
        if np.sum(d * g) >= 0:
            d = -g
    return x


@pytest.mark.parametrize("way", [w for w in WAYS if w != ("cayley", "differential")])
@pytest.mark.parametrize("beta", BETAS)
def test_recurrences(beta, way):
    f, x0 = _brockett(4)
    expected = _naive(f, x0, beta, way, 0.02, 6)
    with pytest.warns(ConvergenceWarning):
        result = riemannian_cg(f, x0, beta=beta, retraction=way[0], transport=way[1], lr=0.02, restart=None, max_iter=6)
    assert result.iterations == 6
    assert np.allclose(result.x, expected, rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
def test_scaled_transport_is_the_differential_made_no_longer():
    """On a start where the differential of QR lengthens directions, so that scaling changes the iterates."""
    changed = 0
    for seed in range(8):
        f, x0 = _brockett(seed)
        scaled, plain = (_naive(f, x0, "FR", ("qr", way), 0.05, 10) for way in ("scaled", "differential"))
        changed += not np.allclose(scaled, plain, rtol=0, atol=1e-6)
        result = riemannian_cg(f, x0, beta="FR", transport="scaled", lr=0.05, restart=None, max_iter=10)
        assert np.allclose(result.x, scaled, rtol=0, atol=1e-10)
    assert changed > 0


def test_change_near_the_minimum_by_the_trapezoidal_rule():
    """Exact for a quadratic along the curve: from slope -3 to 1 in t = 0.4 the loss changes by -0.4."""
    trial = types.SimpleNamespace(t=0.4, loss=7.0 + 1e-15, slope=1.0, g=np.zeros(1))
    assert _change(trial, 7.0, -3.0) == pytest.approx(-0.4, rel=1e-14)
    trial.loss = 6.9
    assert _change(trial, 7.0, -3.0) == pytest.approx(-0.1, rel=1e-12), "away from the minimum the losses decide"


@pytest.mark.parametrize("beta", BETAS)
def test_losses_fall_and_histories_are_true(beta):
    f, x0 = _brockett(5)
    result = riemannian_cg(f, x0, beta=beta)
    assert len(result.losses) == len(result.gradient_norms) == result.iterations + 1
    assert all(b <= a + 1e-12 * abs(a) for a, b in itertools.pairwise(result.losses))
    assert result.losses[0] == pytest.approx(f(x0)[0], rel=1e-14)
    assert result.losses[-1] == pytest.approx(f(result.x)[0], rel=1e-13)
    assert result.gradient_norms[-1] == pytest.approx(np.linalg.norm(project(result.x, f(result.x)[1])), rel=1e-3)


def test_does_not_stall_at_the_square_root_of_rounding():
    """Armijo on losses alone ends near 1e-8; the trapezoidal rule goes on."""
    for seed in range(5):
        f, x0 = _brockett(seed)
        result = riemannian_cg(f, x0, gtol=1e-13)
        assert result.converged
        assert result.gradient_norms[-1] < 1e-11 * result.gradient_norms[0]


def test_far_fewer_iterations_than_descent():
    rng = np.random.default_rng(6)
    f = Brockett(spd_matrix(rng, np.linspace(0.1, 1, 30)), np.arange(3, 0, -1.0))
    x, step, descent = _frame(rng, 30, 3), 0.5, 0
    target = 1e-5 * np.linalg.norm(f(x)[1])
    conjugate = riemannian_cg(f, x, gtol=1e-5).iterations
    while np.linalg.norm(g := project(x, f(x)[1])) > target:
        x, descent = retract_qr(x, -step * g), descent + 1
    assert descent > 5 * conjugate


def test_retraction_hardly_changes_the_iterations():
    f, x0 = _brockett(7)
    counts = [riemannian_cg(f, x0, retraction=name).iterations for name in ("qr", "polar", "cayley")]
    assert max(counts) < 1.6 * min(counts)


def test_scale_of_the_loss_does_not_matter():
    f, x0 = _brockett(8)
    scaled = Brockett(2.0**20 * f.A, f.weights)
    a, b = riemannian_cg(f, x0), riemannian_cg(scaled, x0)
    assert a.iterations == b.iterations and np.array_equal(a.x, b.x)


def test_rotated_problems_have_rotated_iterates():
    f, x0 = _brockett(9)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 20)))[0]
    a = riemannian_cg(f, x0, gtol=1e-3)
    b = riemannian_cg(Brockett(Q @ f.A @ Q.T, f.weights), Q @ x0, gtol=1e-3)
    assert a.iterations == b.iterations and np.allclose(Q @ a.x, b.x, rtol=0, atol=1e-8)


def test_powells_restart_frees_fletcher_reeves_and_dai_yuan():
    """Without it they jam on some starts; with it they keep up with PR+."""
    jammed = 0
    for seed, beta in itertools.product(range(4), ("FR", "DY")):
        f, x0 = _brockett(seed, 40)
        usual, helped = riemannian_cg(f, x0).iterations, riemannian_cg(f, x0, beta=beta).iterations
        assert helped < 2 * usual
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            jammed += not riemannian_cg(f, x0, beta=beta, restart=None, max_iter=4 * helped).converged
    assert jammed >= 4


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
def test_polak_ribiere_with_a_small_fixed_step_is_descent():
    """Successive gradients hardly differ, so the multiple is nearly 0; that of Fletcher and Reeves is nearly 1."""
    f, x0 = _brockett(10)
    x, step, k = x0, 1e-3, 15
    for _ in range(k):
        x = retract_qr(x, -step * project(x, f(x)[1]))
    moved = {b: riemannian_cg(f, x0, beta=b, lr=step, restart=None, max_iter=k).x for b in ("PR+", "FR")}
    assert np.linalg.norm(moved["PR+"] - x) < 0.05 * np.linalg.norm(x - x0)
    assert np.linalg.norm(moved["FR"] - x) > np.linalg.norm(x - x0)


def test_start_at_a_stationary_frame():
    f = Brockett(np.diag([3.0, 2.0, 1.0]), np.array([2.0, 1.0]))
    for start in (np.eye(3)[:, :2], np.eye(3)[:, 1:]):
        result = riemannian_cg(f, start)
        assert result.converged and result.iterations == 0
        assert result.x is not start and np.array_equal(result.x, start)


def test_errors_and_warnings():
    f, x0 = _brockett(0)
    with pytest.raises(ValueError, match="transport 'cayley' needs the retraction 'cayley'"):
        riemannian_cg(f, x0, transport="cayley")
    with pytest.raises(ValueError, match="beta must be one of"):
        riemannian_cg(f, x0, beta="PR")
    with pytest.raises(ValueError, match="x0 must have orthonormal columns"):
        riemannian_cg(f, 2 * x0)
    with pytest.warns(ConvergenceWarning, match="stopped after 3 iterations"):
        assert not riemannian_cg(f, x0, max_iter=3).converged
    with pytest.raises(ValueError, match="loss_and_grad must give finite values"):
        riemannian_cg(Brockett(np.full((4, 4), np.nan), np.ones(1)), np.eye(4)[:, :1])


def test_a_search_that_finds_nothing_ends_with_a_warning():
    """A gradient of the wrong sign: every step along the direction climbs."""
    f, x0 = _brockett(11)
    with pytest.warns(ConvergenceWarning, match="stopped after 0 iterations"):
        result = riemannian_cg(lambda x: (f(x)[0], -f(x)[1]), x0)
    assert not result.converged and np.array_equal(result.x, x0)


def test_goes_downhill_from_the_top_and_from_a_saddle():
    """Negative curvature along the first direction: the search must lengthen its steps."""
    rng = np.random.default_rng(12)
    f = _brockett(12)[0]
    vectors = np.linalg.eigh(f.A)[1]
    for stationary in (vectors[:, :3], vectors[:, [-1, 0, 1]]):
        start = retract_qr(stationary, project(stationary, 1e-4 * rng.standard_normal((20, 3))))
        result = riemannian_cg(f, start)
        assert result.converged and np.allclose(abs((result.x * vectors[:, :-4:-1]).sum(0)), 1, rtol=0, atol=1e-9)
