"""The gradient against the package's networks, Hessians by differences, the contraction, and the leak."""

import numpy as np
import pytest

from trref.federated.gradient_inversion import (
    analytic_leak,
    extreme_eigenvalues,
    gradient_jacobian,
    matching_hessian,
    matching_loss,
    parameter_gradient,
    predicted_offset,
)
from trref.nn import flat, mlp
from trref.problems.networks import ClassifierLoss

SHAPES = ((5, 4), (4,), (4, 3), (3,))


def _sample(seed=0):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(mlp.size((5, 4, 3)))
    x = rng.standard_normal(5)
    return x, theta, dict(zip(("W1", "b1", "W2", "b2"), flat.split(theta, SHAPES), strict=True)), np.eye(3)[1]


def test_the_gradient_is_that_of_the_network():
    x, theta, weights, target = _sample()
    expected = ClassifierLoss(x[None], np.array([1]), (5, 4, 3))(theta)[1]
    assert np.allclose(parameter_gradient(x, **weights, target=target), expected, atol=1e-14, rtol=1e-9)


def test_its_derivative():
    x, _, weights, target = _sample(1)
    J, step = gradient_jacobian(x, **weights, target=target), 1e-6
    for d in range(5):
        ends = [parameter_gradient(x + s * np.eye(5)[d], **weights, target=target) for s in (step, -step)]
        assert np.allclose((ends[0] - ends[1]) / (2 * step), J[:, d], atol=1e-8, rtol=1e-9)


@pytest.mark.parametrize("kind", ["squared", "cosine"])
def test_the_hessian_at_the_truth(kind):
    x, _, weights, target = _sample(2)
    seen = parameter_gradient(x, **weights, target=target)
    slope = lambda point: matching_loss(point, **weights, target=target, gradient=seen, kind=kind)[1]  # noqa: E731
    assert np.allclose(slope(x), 0, atol=1e-14, rtol=1e-9)
    J = gradient_jacobian(x, **weights, target=target)
    H = matching_hessian(J, seen, kind=kind)
    step = 1e-5
    columns = [(slope(x + step * e) - slope(x - step * e)) / (2 * step) for e in np.eye(5)]
    assert np.allclose(np.stack(columns, 1), H, rtol=1e-4, atol=1e-6 * abs(H).max())


def test_scales_and_interlacing():
    x, _, weights, target = _sample(3)
    g, J = parameter_gradient(x, **weights, target=target), gradient_jacobian(x, **weights, target=target)
    assert np.allclose(matching_hessian(7 * J, 7 * g, kind="cosine"), matching_hessian(J, g, kind="cosine"), rtol=1e-9)
    assert np.allclose(matching_hessian(7 * J, 7 * g), 49 * matching_hessian(J, g), rtol=1e-9)
    angle = np.linalg.eigvalsh(matching_hessian(J, g, kind="cosine")) * (g @ g)
    plain = np.linalg.eigvalsh(J.T @ J)
    assert (angle <= plain * (1 + 1e-12)).all() and (angle[1:] >= plain[:-1] * (1 - 1e-9)).all()
    told = extreme_eigenvalues(matching_hessian(J, g))
    assert told.largest == pytest.approx(2 * plain[-1]) and told.smallest == pytest.approx(2 * plain[0])


def test_descent_contracts_as_foreseen():
    """From very near along one eigenvector: the factor |1 - lr lambda| in each step."""
    x, _, weights, target = _sample(4)
    seen = parameter_gradient(x, **weights, target=target)
    H = matching_hessian(gradient_jacobian(x, **weights, target=target), seen)
    values, Q = np.linalg.eigh(H)
    lr, offset = 1.0 / values[-1], 1e-6 * Q[:, 2]
    point = x + offset
    for _ in range(30):
        point = point - lr * matching_loss(point, **weights, target=target, gradient=seen)[1]
    expected = predicted_offset(H, offset, lr=lr, steps=30)
    assert np.allclose(expected, (1 - lr * values[2]) ** 30 * offset, atol=1e-18, rtol=1e-9)
    assert np.allclose(point - x, expected, rtol=1e-3, atol=1e-10)


def test_the_leak_is_exact():
    x, _, weights, target = _sample(5)
    W1, b1, *_ = flat.split(parameter_gradient(x, **weights, target=target), SHAPES)
    assert np.allclose(analytic_leak(W1, b1), x, rtol=1e-12)


def test_with_fewer_parameters_than_inputs_some_directions_are_not_seen():
    J = np.random.default_rng(6).standard_normal((2, 4))
    assert abs(extreme_eigenvalues(matching_hessian(J, np.ones(2))).smallest) < 1e-12


def test_bad_input():
    x, _, weights, target = _sample()
    with pytest.raises(ValueError, match="gradient must have length"):
        matching_loss(x, **weights, target=target, gradient=np.ones(3))
    with pytest.raises(ValueError, match="bias_gradient must not be 0"):
        analytic_leak(np.ones((2, 2)), np.zeros(2))
