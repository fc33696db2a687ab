"""Theorems and limits of trust-region steps in any norm."""

import numpy as np
import pytest
import scipy.linalg

from trref.optimizers.noneuclidean_trust_region import composite_step, dual_norm, init, lmo, polar_first_update, update

NORMS = {
    "spectral": lambda x: np.linalg.norm(x, 2),
    "frobenius": np.linalg.norm,
    "max": lambda x: abs(x).max(),
    "column": lambda x: np.linalg.norm(x, axis=0).max(),
}
DUALS = {
    "spectral": lambda g: np.linalg.norm(g, "nuc"),
    "frobenius": np.linalg.norm,
    "max": lambda g: abs(g).sum(),
    "column": lambda g: np.linalg.norm(g, axis=0).sum(),
}


def _run(rule, gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = rule(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path)


def test_steps_by_hand():
    """The gradient diag(3, -4) has singular values 3 and 4, norm 5, and columns (3, 0) and (0, -4)."""
    g = np.diag([3.0, -4.0])
    assert np.allclose(lmo(g), np.diag([-1.0, 1.0]), rtol=1e-9)
    assert np.allclose(lmo(g, norm="frobenius"), np.diag([-0.6, 0.8]), rtol=1e-9)
    assert np.allclose(lmo(g, norm="max"), np.diag([-1.0, 1.0]), rtol=1e-9)
    assert np.allclose(lmo(np.array([[3.0, 0.0], [4.0, 0.0]]), norm="column"), [[-0.6, 0.0], [-0.8, 0.0]], rtol=1e-9)


def test_momentum_by_hand():
    """Signs of 1, then of (1 - 0.1) · 1 - 0.1 · 8.9 = 0.01, then of 0.9 · 0.01 - 0.1 · 8.9; a start at zero differs."""
    gradients = [np.array([[a]]) for a in (1.0, -8.9, -8.9)]
    path = _run(update, gradients, np.zeros((1, 1)), lr=0.5, alpha=0.1, norm="max")
    assert path.ravel().tolist() == [0.0, -0.5, -1.0, -0.5]
    first = _run(polar_first_update, gradients, np.zeros((1, 1)), lr=0.5, alpha=0.1, norm="max")
    # averages of the signs: 1, 0.9 - 0.1, 0.72 - 0.1
    assert first.ravel() == pytest.approx([0.0, -0.5, -0.9, -1.21])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 1)])
def test_the_oracle_is_feasible_and_best(norm, shape):
    rng = np.random.default_rng(0)
    g = rng.standard_normal(shape)
    D = lmo(g, norm=norm)
    assert NORMS[norm](D) <= 1 + 1e-12
    assert (g * D).sum() == pytest.approx(-DUALS[norm](g))
    assert dual_norm(g, norm=norm)[0] == pytest.approx(DUALS[norm](g))
    for _ in range(200):
        X = rng.standard_normal(shape)
        assert (g * X).sum() / NORMS[norm](X) >= (g * D).sum() - 1e-12


def test_the_spectral_step_is_scipy_s_polar_factor():
    g = np.random.default_rng(1).standard_normal((6, 4))
    assert np.allclose(lmo(g), -scipy.linalg.polar(g)[0], rtol=0, atol=1e-13)


def test_zero_does_not_move():
    for norm in NORMS:
        assert not lmo(np.zeros((3, 2)), norm=norm).any() and dual_norm(np.zeros((3, 2)), norm=norm)[0] == 0
    for rule in (update, polar_first_update):
        assert (_run(rule, [np.zeros((3, 2))] * 3, np.ones((3, 2)))[-1] == 1).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_scale_of_the_objective_does_not_matter(norm):
    gradients = np.random.default_rng(2).standard_normal((20, 4, 3))
    a, b = (_run(update, c * gradients, np.zeros((4, 3)), norm=norm) for c in (1.0, 1e4))
    assert np.allclose(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_decay_keeps_a_ball_and_is_frank_wolfe(norm):
    """Within the ball of radius r = lr / shrink, a step is (1 - β) X + β r lmo(M)."""
    rng, shrink, lr = np.random.default_rng(3), 0.1, 0.2
    path = _run(update, rng.standard_normal((60, 4, 3)), np.zeros((4, 3)), lr=lr, shrink=shrink, norm=norm, alpha=1.0)
    assert max(NORMS[norm](x) for x in path) <= lr / shrink * (1 + 1e-12)
    g = np.random.default_rng(3).standard_normal((60, 4, 3))[0]
    assert np.allclose(path[1], (1 - shrink) * path[0] + shrink * (lr / shrink) * lmo(g, norm=norm), rtol=1e-9)


LIPSCHITZ = {"spectral": 3, "frobenius": 1, "max": 12, "column": 3}  # of X - C in the dual norm, 4 × 3


@pytest.mark.parametrize("norm", NORMS)
def test_the_descent_lemma(norm):
    """f falls by η |G|_* at least, but for 2 η |M - G|_* and L η²/2, at every step on |X - C|²/2."""
    rng, eta = np.random.default_rng(4), 0.05
    C = rng.standard_normal((4, 3))
    params, state = [np.zeros((4, 3))], init([np.zeros((4, 3))])
    for _ in range(80):
        G = params[0] - C
        after, state = update(params, [G + rng.standard_normal((4, 3))], state, lr=eta, norm=norm)
        fall = ((params[0] - C) ** 2).sum() / 2 - ((after[0] - C) ** 2).sum() / 2
        error = DUALS[norm](state.m[0] - G)
        assert fall >= eta * DUALS[norm](G) - 2 * eta * error - LIPSCHITZ[norm] * eta**2 / 2 - 1e-12
        params = after


@pytest.mark.parametrize("norm", NORMS)
def test_the_bound_without_noise(norm):
    """The least dual norm of K gradients is at most Δ/(η K) + L η/2."""
    C, eta, params = np.random.default_rng(5).standard_normal((4, 3)), 0.02, [np.zeros((4, 3))]
    state, least = init(params), np.inf
    start = (C**2).sum() / 2
    for k in range(1, 200):
        least = min(least, DUALS[norm](params[0] - C))
        assert least <= start / (eta * k) + LIPSCHITZ[norm] * eta / 2
        params, state = update(params, [params[0] - C], state, lr=eta, alpha=1.0, norm=norm)


def test_vectors_and_kernels():
    """A vector is a column; a kernel's first axis counts rows."""
    rng = np.random.default_rng(6)
    v, kernel = rng.standard_normal(5), rng.standard_normal((3, 2, 2))
    for norm in NORMS:
        moved = _run(update, [v], np.zeros(5), lr=1.0, norm=norm)[1]
        assert np.allclose(moved, lmo(v[:, None], norm=norm)[:, 0], rtol=1e-9)
        moved = _run(update, [kernel], np.zeros((3, 2, 2)), lr=1.0, norm=norm)[1]
        assert np.allclose(moved, lmo(kernel.reshape(3, 4), norm=norm).reshape(3, 2, 2), rtol=1e-9)


def test_composite_steps_by_hand():
    """The free minimum is -m/λ = (-2, 1): ten from (8, 1) in the Frobenius ball, clipped in each entry of the other."""
    x, m = np.array([[8.0, 1.0]]), np.array([[1.0, -0.5]])
    assert np.allclose(composite_step(x, m, lr=4.0, penalty=0.5), [[4.0, 1.0]], rtol=1e-9)
    assert np.allclose(composite_step(x, m, lr=20.0, penalty=0.5), [[-2.0, 1.0]], rtol=1e-9)
    assert np.allclose(composite_step(x + [[0.0, 3.0]], m, lr=2.0, penalty=0.5, norm="max"), [[6.0, 2.0]], rtol=1e-9)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"alpha": 0.0}, {"alpha": 1.5}, {"shrink": 1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run(update, [np.ones((2, 2))], np.ones((2, 2)), **bad)
