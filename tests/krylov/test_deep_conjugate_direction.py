"""DCDM: SciPy's conjugate gradients where the network is a matrix, and what holds for any network."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import cg as scipy_cg

from trref.krylov.deep_conjugate_direction import dcdm, direction_loss, training_vectors
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.problems.stencil import Identity, Poisson, StencilNetwork, stencil_network
from trref.validate import ConvergenceWarning


def _system(seed, n=20, condition=10.0):
    rng = np.random.default_rng(seed)
    A = spd_matrix(rng, spectrum(n, condition))
    return A, DenseOperator(A), rng.standard_normal(n), rng


def test_numbers_by_hand():
    """A = diag(1, 2), r = (1, 0)·0.6 + (0, 1)·0.8, f = (1, 1): u = 1.4, v = 3, e = r - 1.4/3 (1, 2)."""
    matvec, r = DenseOperator(np.diag([1.0, 2.0])), np.array([0.6, 0.8])
    value, gradient = direction_loss(np.ones(2), r, matvec)
    e = r - 1.4 / 3 * np.array([1, 2])
    assert value == pytest.approx(e @ e)
    bend = (e @ [1, 2]) * (r / 3 - 2 * 1.4 * np.array([1, 2]) / 9)
    assert gradient == pytest.approx(-2 * (bend + 1.4 / 3 * e * [1, 2]))
    # steepest descent by hand: b = (1, 1), step 2/3
    with pytest.warns(ConvergenceWarning):
        first = dcdm(matvec, np.ones(2), Identity(), orthogonal=0, max_iter=1)
    assert first.x == pytest.approx([2 / 3, 2 / 3])
    assert first.residual_norms == pytest.approx([2**0.5, 2**0.5 / 3])


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_does_not_see_lengths(seed):
    A, matvec, r, rng = _system(seed)
    f, r = rng.standard_normal(20), r / np.linalg.norm(r)
    value, gradient = direction_loss(f, r, matvec)
    assert abs(f @ gradient) < 1e-12 * np.linalg.norm(f) * np.linalg.norm(gradient)
    for c in (-1.0, 1e-20, 1e20):
        assert direction_loss(c * f, r, matvec)[0] == pytest.approx(value, rel=1e-12)
    assert direction_loss(3 * np.linalg.solve(A, r), r, matvec)[0] < 1e-24
    # the step is that of the A-norm: no other step along f leaves less error in it
    alpha = (f @ r) / (f @ A @ f)
    errors = [(c * f - np.linalg.solve(A, r)) @ A @ (c * f - np.linalg.solve(A, r)) for c in (alpha, 1.1 * alpha, 0)]
    assert errors[0] < min(errors[1:])


@pytest.mark.parametrize("orthogonal", [1, 2, 100])
@pytest.mark.parametrize("seed", range(3))
def test_matrices_make_it_conjugate_gradients(seed, orthogonal):
    A, matvec, b, rng = _system(seed)
    M = spd_matrix(rng, spectrum(20, 4.0))
    for network, preconditioner in ((Identity(), None), (DenseOperator(M), LinearOperator((20, 20), lambda v: M @ v))):
        path = []
        scipy_cg(A, b, rtol=1e-6, M=preconditioner, callback=lambda x, path=path: path.append(x.copy()))
        with pytest.warns(ConvergenceWarning):
            fit = dcdm(matvec, b, network, orthogonal=orthogonal, rtol=1e-12, max_iter=5)
        # CG at this condition: rounding of five steps
        assert fit.x == pytest.approx(path[4], rel=1e-9, abs=1e-11)


def test_the_inverse_needs_one_step():
    A, matvec, b, _ = _system(7)
    fit = dcdm(matvec, b, DenseOperator(-5 * np.linalg.inv(A)), rtol=1e-9)
    assert fit.iterations == 1 and fit.x == pytest.approx(np.linalg.solve(A, b), rel=1e-9)


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
@pytest.mark.parametrize("orthogonal", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_any_network_lets_the_error_fall(seed, orthogonal):
    """In the norm of A, at every step, here with random stencils that are far from an inverse."""
    _, matvec, b, rng = _system(seed, n=16)
    network = stencil_network(rng, levels=3, scale=2.0)
    exact, errors = np.linalg.solve(matvec.A, b), []
    for steps in range(1, 12):
        fit = dcdm(matvec, b, network, orthogonal=orthogonal, rtol=1e-12, max_iter=steps)
        errors.append((fit.x - exact) @ matvec.A @ (fit.x - exact))
    assert (np.diff([exact @ matvec.A @ exact, *errors]) <= 1e-12).all()


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
def test_directions_are_conjugate_to_those_before():
    """From the iterates: differences of x are the directions, and the last ones are A-orthogonal to each other."""
    _, matvec, b, rng = _system(3, n=16)
    network = stencil_network(rng, levels=3, scale=0.5)
    for orthogonal in (1, 3):
        x = [np.zeros(16)]
        x += [dcdm(matvec, b, network, orthogonal=orthogonal, rtol=1e-12, max_iter=k).x for k in range(1, 7)]
        p = np.diff(x, axis=0)
        gram = p @ matvec.A @ p.T
        gram /= np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
        near = np.abs(np.subtract.outer(range(6), range(6)))
        if orthogonal == 1:
            assert abs(gram[near == 1]).max() < 1e-8 < abs(gram[near == 2]).max()
        else:
            assert abs(gram[near == 1]).max() < abs(gram[near > 3]).max()


def test_training_vectors_by_the_whole_spectrum():
    """All steps: Ritz vectors are eigenvectors, and the shares of a long sample are those of the weights."""
    A, matvec, start, rng = _system(4, n=8, condition=30.0)
    noise = rng.standard_normal((4000, 8))
    r = training_vectors(matvec, start, noise)
    assert np.linalg.norm(r, axis=1) == pytest.approx(np.ones(4000))
    Q = np.linalg.eigh(A)[1]
    signed = Q * np.sign((A @ start) @ Q)
    expected = noise * np.where(np.arange(8) < 4, 9, 1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert r @ signed == pytest.approx(expected, abs=1e-8)
    flat = training_vectors(matvec, start, noise, boost=1.0) @ signed
    assert (flat**2).mean(0) == pytest.approx(np.full(8, 1 / 8), rel=0.1)
    assert ((r @ signed)[:, :4] ** 2).sum(1).mean() > 0.95
    assert training_vectors(DenseOperator(1e-12 * A), start, noise[:2]).any() == 0


def test_network_gradients_by_differences():
    rng = np.random.default_rng(5)
    network = stencil_network(rng, levels=3, channels=3)
    R, C = rng.standard_normal((2, 8)), rng.standard_normal((2, 8))
    out, cache = network.forward(R)
    gradients, h = network.vjp(cache, C), 1e-6
    assert network(R[0]) == pytest.approx(out[0]) and network(3 * R[0]) == pytest.approx(3 * out[0])
    for name, gradient in zip(("first", "last"), gradients, strict=True):
        for index in ((0, 0, 0), (1, 2, 1), (2, 1, 2)):
            values = []
            for s in (h, -h):
                moved = {"first": network.first.copy(), "last": network.last.copy()}
                moved[name][index] += s
                values.append((StencilNetwork(**moved).forward(R)[0] * C).sum())
            assert gradient[index] == pytest.approx((values[0] - values[1]) / (2 * h), abs=1e-6)


def test_poisson():
    A = np.array([Poisson()(e) for e in np.eye(5)])
    assert (A == 2 * np.eye(5) - np.eye(5, k=1) - np.eye(5, k=-1)).all()


def test_no_direction():
    _, matvec, b, _ = _system(1)
    with pytest.warns(ConvergenceWarning, match="no new direction"):
        fit = dcdm(matvec, b, DenseOperator(np.zeros((20, 20))))
    assert not fit.converged and (fit.x == 0).all()
