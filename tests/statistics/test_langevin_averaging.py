"""Averages on the sphere: gradients by differences, means by sampling the sphere, the chain's rate of forgetting."""

import math

import numpy as np
import pytest
from scipy import stats

from trref.problems.sphere_models import SingleIndex, TensorPCA
from trref.statistics.langevin_averaging import (
    average_direction,
    averages,
    fourth_degree_drift,
    run,
    sphere_step,
    tensor_drift,
    third_degree_drift,
    top_direction,
    weak_drift_mean,
    weak_drift_second,
)


def _models(seed=0, d=6):
    rng = np.random.default_rng(seed)
    direction = np.eye(d)[0]
    X, y = rng.standard_normal((40, d)), rng.standard_normal(40)
    return TensorPCA.draw(rng, direction, 3.0), SingleIndex(X, y, 3), SingleIndex(X, y, 4)


@pytest.mark.parametrize("index", range(3))
def test_gradients_of_the_models(index):
    model, theta, h = _models()[index], np.random.default_rng(1).standard_normal(6), 1e-5
    numeric = [(model(theta + e)[0] - model(theta - e)[0]) / (2 * h) for e in h * np.eye(6)]
    assert model(theta)[1] == pytest.approx(np.array(numeric), rel=1e-7, abs=1e-7)


def test_the_tensor_is_symmetric():
    tensor = _models()[0].tensor
    for order in ((1, 0, 2), (2, 1, 0)):
        assert tensor == pytest.approx(tensor.transpose(order), rel=1e-13, abs=1e-13)


def _sphere(rng, draws, d):
    z = rng.standard_normal((draws, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_mean_drifts_by_sampling_the_sphere():
    """Each entry within five standard errors of its mean over 20,000 points."""
    tensor, third, fourth = _models(2)
    z = _sphere(np.random.default_rng(3), 20_000, 6)

    def compare(values, stated):
        error = values.std(0) / math.sqrt(len(values))
        assert (abs(values.mean(0) - stated) < 5 * error).all()

    b = np.array([-tensor(p)[1] for p in z])
    compare(b - (b * z).sum(1, keepdims=True) * z, tensor_drift(tensor.tensor))
    compare(np.array([-third(p)[1] for p in z]), third_degree_drift(third.X, third.y))
    b = np.array([-fourth(p)[1] for p in z])
    compare(z[:, :, None] * b[:, None], fourth_degree_drift(fourth.X, fourth.y))


def _path(seed, drift_weight, *, d=8, steps=20_000, step_size=0.025):
    direction = np.eye(d)[0]

    def loss_and_grad(theta):
        return -(theta @ direction), -direction

    rng = np.random.default_rng(seed)
    return run(rng, loss_and_grad, rng.standard_normal(d), step_size=step_size, drift_weight=drift_weight, steps=steps)


def test_the_chain_forgets_as_a_step_of_its_length_does():
    """Without a drift E⟨θ_k, θ_(k+1)⟩ = E (1 + Δ χ²)^(-1/2), and the second moment is I/d."""
    d, step = 8, 0.025
    path = _path(0, 0.0)
    chi = stats.chi2(d - 1)
    rho = chi.expect(lambda q: (1 + step * q) ** -0.5)
    products = (path[1:] * path[:-1]).sum(1)
    assert abs(products.mean() - rho) < 5 * products.std() / math.sqrt(len(products))
    assert rho > math.exp(-(d - 1) * step / 2) + 0.001, "not the rate of the continuous motion"
    assert averages(path).second == pytest.approx(np.eye(d) / d, abs=0.03)


def test_the_mean_to_first_order():
    """Over ten paths, with the factor of a step of finite length: 5 standard errors, and a second order of ε²/d²."""
    d, step, weight = 8, 0.025, 0.5
    paths = [averages(_path(seed, weight)) for seed in range(10)]
    means = np.array([m.mean[0] for m in paths])
    chi = stats.chi2(d - 1)
    rho = chi.expect(lambda q: (1 + step * q) ** -0.5)
    factor = rho * step * (d - 1) / (2 * (1 - rho))
    stated = factor * weak_drift_mean((1 - 1 / d) * np.eye(d)[0], drift_weight=weight)[0]
    assert abs(means.mean() - stated) < 5 * means.std() / math.sqrt(10) + 0.02 * stated
    assert factor > 1.02


def test_the_second_moment_to_first_order():
    """A drift A θ with a diagonal A: E_z[z (P_z A z)ᵀ] in closed form, over ten paths."""
    d, weight = 6, 0.4
    A = np.diag([1.0, -1, 0, 0, 0, 0])
    # E z zᵀ A = A/d, and E z zᵀ (zᵀ A z) = 2 A / (d (d + 2)) without a trace
    outer = A / d - 2 * A / (d * (d + 2))
    stated = weak_drift_second(outer, drift_weight=weight)
    seconds = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        path = run(
            rng,
            lambda t: (-(t @ A @ t) / 2, -A @ t),
            rng.standard_normal(d),
            step_size=0.02,
            drift_weight=weight,
            steps=10_000,
        )
        seconds.append(averages(path).second)
    seconds = np.array(seconds)
    error = seconds.std(0) / math.sqrt(10)
    pushed = stated - np.eye(d) / d
    assert (abs(seconds.mean(0) - stated) < 5 * error + 0.15 * abs(pushed)).all()
    assert pushed[0, 0] > 5 * error[0, 0], "the drift is seen"


def test_directions():
    assert average_direction(np.array([3.0, -4.0])).tolist() == [0.6, -0.8]
    v = np.array([-0.8, 0.6])
    assert top_direction(np.outer(v, v) + np.eye(2)) == pytest.approx([0.8, -0.6], rel=1e-13)
    with pytest.raises(ValueError, match="mean must not be 0"):
        average_direction(np.zeros(2))
    with pytest.raises(ValueError, match="start must not be 0"):
        run(np.random.default_rng(0), _models()[0], np.zeros(6))


def test_one_step_by_hand():
    """At (1, 0): the drift's part along the point is dropped, (1, 0.01·2·3 + 0.1·1) is divided by its length."""
    moved = sphere_step(np.array([5.0, 0]), np.array([7.0, 3]), np.array([2.0, 1]), step_size=0.01, drift_weight=2.0)
    assert moved == pytest.approx(np.array([1, 0.16]) / math.hypot(1, 0.16), rel=1e-14)
