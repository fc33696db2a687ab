"""Theorems of DDS: SciPy's conjugate gradients, Krylov spaces, the tangent space, closed limits, the dense volume."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import cg as scipy_cg

from trref.catalog import find
from trref.catalog.diffusion.dds import krylov_basis
from trref.conformance import verify
from trref.diffusion.dds import (
    admm_tv,
    dc_noiseless,
    dc_noisy,
    dds_step,
    dds_step_ve,
    dps_loss,
    exact_consistency,
    full_projection,
    row_cg,
)
from trref.diffusion.score_models import ddim_step
from trref.problems.measurements import LinearMeasurement, NormalOperator
from trref.problems.mixtures import GaussianMixture, MixtureDenoiser, low_rank_mixture, vp_schedule


def _draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def _problem(seed=0, N=4, M=5, D=9):
    A = _draws(seed, M, D) / np.sqrt(D)
    return A, LinearMeasurement(A), _draws(seed + 1, N, D), _draws(seed + 2, N, M)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("gamma", [None, 3.0])
def test_scipys_iterates(steps, gamma):
    """Row by row; the two sum in another order."""
    A, measurement, x0, y = _problem()
    if gamma is None:
        matrix, b = A.T @ A, y @ A
        ours = dc_noiseless(measurement, x0, y, iterations=steps)
    else:
        matrix, b = np.eye(9) + gamma * A.T @ A, x0 + gamma * y @ A
        ours = dc_noisy(measurement, x0, y, gamma=gamma, iterations=steps)
    system = LinearOperator(matrix.shape, matvec=lambda v: matrix @ v, dtype=float)
    for row, right, start in zip(ours, b, x0, strict=True):
        theirs, _ = scipy_cg(system, right, x0=start, maxiter=steps, rtol=0, atol=0)
        assert np.allclose(row, theirs, rtol=0, atol=1e-12)


def test_by_hand():
    """AᵀA = diag(1, 4), r = (1, 4): a = 17/65; the second step is exact."""
    measurement = LinearMeasurement(np.diag([1.0, 2.0]))
    x0, y = np.zeros((1, 2)), np.array([[1.0, 2.0]])
    assert dc_noiseless(measurement, x0, y, iterations=1) == pytest.approx(np.array([[17 / 65, 68 / 65]]))
    assert dc_noiseless(measurement, x0, y, iterations=2) == pytest.approx(np.ones((1, 2)))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_both_systems_stay_in_one_krylov_space_and_minimise_there(steps):
    A, measurement, x0, y = _problem(3)
    for n in range(4):
        r = A.T @ (y[n] - A @ x0[n])
        V = krylov_basis(lambda v: v @ (A.T @ A), r, steps)
        for gamma in (None, 0.5, 4.0):
            if gamma is None:
                x = dc_noiseless(measurement, x0, y, iterations=steps)[n]
                slope = A.T @ (A @ x - y[n])
            else:
                x = dc_noisy(measurement, x0, y, gamma=gamma, iterations=steps)[n]
                slope = gamma * A.T @ (A @ x - y[n]) + x - x0[n]
            moved = x - x0[n]
            assert np.allclose(moved, V @ (V.T @ moved), rtol=0, atol=1e-12), "in the space"
            assert abs(V.T @ slope).max() < 1e-12, "where the objective is flat along it"


def test_misfit_and_objective_never_rise():
    _, measurement, x0, y = _problem(6, N=20)
    misfit = [measurement.misfit(dc_noiseless(measurement, x0, y, iterations=k), y)[0] for k in range(8)]
    assert (np.diff(misfit, axis=0) <= 1e-13).all()
    objective = []
    for k in range(8):
        x = dc_noisy(measurement, x0, y, gamma=2.0, iterations=k)
        objective.append(2 * measurement.misfit(x, y)[0] + ((x - x0) ** 2).sum(1) / 2)
    assert (np.diff(objective, axis=0) <= 1e-13).all()


def test_the_limits_leave_what_is_not_seen():
    A, measurement, x0, y = _problem(7)
    unseen = np.linalg.svd(A)[2][5:]
    exact = exact_consistency(A, x0, y, gamma=2.0)
    assert np.allclose(dc_noisy(measurement, x0, y, gamma=2.0, iterations=9), exact, rtol=0, atol=1e-10)
    projected = full_projection(A, x0, y)
    assert np.allclose(projected @ A.T, y, rtol=0, atol=1e-12), "A has full row rank: y is met"
    for x in (exact, projected):
        assert np.allclose((x - x0) @ unseen.T, 0, rtol=0, atol=1e-12)
    near = exact_consistency(A, x0, y, gamma=1e8)
    assert np.allclose(near, projected, rtol=0, atol=1e-6)
    assert np.array_equal(dc_noiseless(measurement, x0, y, iterations=0), x0)


def test_orthonormal_rows_need_one_step():
    A = np.linalg.qr(_draws(8, 7, 3))[0].T
    x0, y = _draws(9, 5, 7), _draws(10, 5, 3)
    once = dc_noiseless(LinearMeasurement(A), x0, y, iterations=1)
    assert np.allclose(once, full_projection(A, x0, y), rtol=0, atol=1e-13)


def test_iterates_stay_in_a_tangent_space_that_the_measurement_respects():
    W = np.linalg.qr(_draws(11, 8, 3))[0]
    A = _draws(12, 2, 3) @ W.T  # AᵀA maps into the span of W
    x0, y = _draws(13, 4, 8), _draws(14, 4, 2)
    for k in (1, 2, 3):
        moved = dc_noisy(LinearMeasurement(A), x0, y, iterations=k) - x0
        assert np.allclose(moved, moved @ W @ W.T, rtol=0, atol=1e-13)


def test_singular_systems_do_not_explode():
    """Twenty steps on two measurements of thirty numbers, from near and far."""
    A = _draws(15, 2, 30)
    for size in (1e-6, 1.0, 1e6):
        x0, y = size * _draws(16, 3, 30), _draws(17, 3, 2)
        x = dc_noiseless(LinearMeasurement(A), x0, y, iterations=20)
        assert np.allclose(x, full_projection(A, x0, y), rtol=0, atol=1e-12 * max(size, 1))


def test_each_row_is_a_system_of_its_own():
    _, measurement, x0, y = _problem(18)
    together = dc_noisy(measurement, x0, y, iterations=2)
    alone = np.concatenate([dc_noisy(measurement, x0[n : n + 1], y[n : n + 1], iterations=2) for n in range(4)])
    assert np.allclose(together, alone, rtol=0, atol=1e-13)
    record = find("dds.row_cg")
    verdict = verify(record.name, record.deviations[0].f, sizes=(4,))
    assert not verdict.conforms and any("whole batch" in str(e) for e in verdict.explanations), str(verdict)


def test_a_step_with_nothing_to_correct_is_ddim():
    A, measurement, x, noise = _problem(19, M=9)
    z, levels = _draws(20, 4, 9), {"alpha_bar": 0.3, "next_alpha_bar": 0.6}
    plain = ddim_step(x, noise, z, **levels, eta=0.5)
    y = measurement((x - np.sqrt(0.7) * noise) / np.sqrt(0.3))
    for how in ({"iterations": 0}, {"iterations": 5}, {"gamma": 1e-13}):
        assert np.allclose(dds_step(measurement, x, noise, z, y, **levels, eta=0.5, **how), plain, rtol=0, atol=1e-11)
    assert np.isfinite(A).all()


@pytest.mark.parametrize("gamma", [None, 2.0])
def test_the_step_without_scaling_is_the_other_in_its_units(gamma):
    """x / sqrt(alpha_bar) has noise sqrt((1 - alpha_bar) / alpha_bar)."""
    _, measurement, x, noise = _problem(21, M=9)
    y, z, t, s = _draws(22, 4, 9), _draws(23, 4, 9), 0.3, 0.6
    vp = dds_step(measurement, x, noise, z, y, alpha_bar=t, next_alpha_bar=s, eta=0.7, gamma=gamma)
    level = lambda ab: float(np.sqrt((1 - ab) / ab))  # noqa: E731
    ve = dds_step_ve(
        measurement, x / np.sqrt(t), noise, z, y, sigma=level(t), next_sigma=level(s), eta=0.7, gamma=gamma
    )
    assert np.allclose(ve, vp / np.sqrt(s), rtol=0, atol=1e-12)


def test_the_two_splits_have_the_same_variance():
    """The sum of squares of what is kept and what is fresh is 1 - next_alpha_bar in both."""
    measurement, zero = LinearMeasurement(np.zeros((1, 1))), np.zeros((1, 1))
    released, parts = find("dds.dds_step").deviations[0].f, {}
    for name, f in (("ours", dds_step), ("released", released)):
        at = lambda noise, z, f=f: f(measurement, 0.5**0.5 * noise, noise, z, zero, eta=0.6)[0, 0]  # noqa: E731
        kept, fresh = at(zero + 1, zero), at(zero, zero + 1)
        parts[name] = kept, fresh
        assert kept**2 + fresh**2 == pytest.approx(0.2)
    assert parts["released"] == pytest.approx([np.sqrt(0.2) * 0.8, np.sqrt(0.2) * 0.6])
    assert parts["ours"][1] < parts["released"][1] - 0.03


def test_admm_finds_the_minimiser():
    """Many iterations with many steps: the subgradient of the total variation certifies the volume."""
    A, measurement, _, y = _problem(24, N=6, M=4, D=3)
    x, split, dual = np.zeros((3, 6, 3))
    for _ in range(800):
        x, split, dual = admm_tv(measurement, x, y, split, dual, rho=1.0, tv_weight=0.3, iterations=12)
    difference = np.roll(x, -1, 0) - x
    assert np.allclose(difference, split, rtol=0, atol=1e-7), "the constraint"
    assert (abs(dual) <= 0.3 + 1e-12).all(), "a subgradient of 0.3 |.|"
    moving = abs(split) > 1e-6
    assert moving.any() and not moving.all(), "some slices are equal, some are not"
    assert np.allclose(dual[moving], 0.3 * np.sign(split[moving]), rtol=0, atol=1e-9)
    slope = (x @ A.T - y) @ A + np.roll(dual, 1, 0) - dual
    assert np.allclose(slope, 0, rtol=0, atol=1e-7), "Aᵀ(A x - y) + Dᵀ dual = 0"


def test_one_slice_has_no_variation():
    _, measurement, x0, y = _problem(25, N=1)
    volume = admm_tv(measurement, x0, y, 0 * x0, 0 * x0, iterations=2)
    assert np.allclose(volume.x, dc_noiseless(measurement, x0, y, iterations=2), rtol=0, atol=1e-13)
    assert not volume.split.any() and not volume.dual.any()


def test_the_gradient_through_the_model_by_the_posterior_covariance():
    """-J'A'(y - A x0), J = sqrt(alpha_bar)/(1 - alpha_bar) Cov(x0|x)."""
    mixture, u = low_rank_mixture(np.random.default_rng(0), components=3, dims=6, rank=2), 0.3
    A, x, y = _draws(26, 2, 6), _draws(27, 4, 6), _draws(28, 4, 2)
    alpha, sigma = vp_schedule(np.array(u))
    _, gradient = dps_loss(MixtureDenoiser(mixture), LinearMeasurement(A), x, y, time=u)
    hessian = mixture.noised(alpha, sigma).score_jacobian(x)
    covariance = (sigma / alpha) ** 2 * (np.eye(6) + sigma**2 * hessian)
    J = alpha / sigma**2 * covariance
    x0 = MixtureDenoiser(mixture)(x, np.full(4, u))
    expected = -np.einsum("nij,nj->ni", J, (y - x0 @ A.T) @ A)
    assert np.allclose(gradient, expected, rtol=0, atol=1e-9 * abs(expected).max())


def test_one_gaussian_is_not_sampled_exactly():
    """The posterior mean of a Gaussian with exact measurements is known; DDS, for all steps, is biased: by how much."""
    covariance = np.diag([4.0, 0.25]) + 0.9
    data = GaussianMixture(np.ones(1), np.zeros((1, 2)), covariance[None])
    A, y = np.array([[1.0, 0.5]]), np.array([[1.0]])
    exact = covariance @ A.T / (A @ covariance @ A.T) * y
    model = MixtureDenoiser(data)
    times = np.linspace(1, 0, 60) ** 2
    levels = (vp_schedule(times)[0] ** 2).tolist()
    x, rng = np.random.default_rng(0).standard_normal((2000, 2)), np.random.default_rng(1)
    for k in range(59):
        alpha, sigma = np.sqrt(levels[k]), np.sqrt(1 - levels[k])
        noise = (x - alpha * model(x, np.full(2000, times[k]))) / sigma
        x = dds_step(
            LinearMeasurement(A),
            x,
            noise,
            rng.standard_normal(x.shape),
            np.tile(y, (2000, 1)),
            alpha_bar=levels[k],
            next_alpha_bar=levels[k + 1],
        )
    assert np.allclose(x @ A.T, 1, rtol=0, atol=1e-10), "measurements are met"
    gap = np.linalg.norm(x.mean(0) - exact[:, 0])
    assert gap < 0.5, "the mean is near"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, x, y: dc_noiseless(f, x, y[:, :1]), ValueError, "y must have shape"),
        (lambda f, x, y: dc_noisy(lambda x: x, x, y), TypeError, "measurement must have adjoint"),
        (lambda f, x, y: dc_noisy(f, x.astype("f4"), y.astype("f4")), TypeError, "measurement.* must return float32"),
        (lambda f, x, y: row_cg(lambda v: v[:1], x, x), ValueError, "operator must return an array of shape"),
        (lambda f, x, y: row_cg(lambda v: v * np.nan, x, x), ValueError, "operator must return finite"),
        (lambda f, x, y: dc_noisy(f, x, y, gamma=0.0), ValueError, "gamma must lie in"),
        (lambda f, x, y: dds_step(f, x, x, x, y, next_alpha_bar=0.1), ValueError, "next_alpha_bar must not be below"),
        (lambda f, x, y: dds_step_ve(f, x, x, x, y, next_sigma=2.0), ValueError, "next_sigma must not be above"),
    ],
)
def test_bad_input(call, error, message):
    _, measurement, x0, y = _problem()
    with pytest.raises(error, match=message):
        call(measurement, x0, y)


def test_normal_operator():
    A, _, x0, _ = _problem(30)
    assert np.allclose(NormalOperator(A, 0.5)(x0), x0 @ (0.5 * np.eye(9) + A.T @ A), rtol=0, atol=1e-13)
