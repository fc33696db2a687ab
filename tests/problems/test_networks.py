"""Networks on fixed data: losses, mean outputs, and the convex problems' Hessian products."""

import numpy as np
import pytest

from tests.problems.agreement import same_on_strict
from trref.checks import check_gradient
from trref.nn import mlp
from trref.problems import convex, curvature
from trref.problems.networks import MeanOutput, RegressionLoss, random_classifier

SIZES = (3, 5, 1)


def _rng(seed=0):
    return np.random.default_rng(seed)


def _network(rng, kind):
    X = rng.standard_normal((6, 3))
    return RegressionLoss(X, rng.standard_normal((6, 1)), SIZES) if kind == "loss" else MeanOutput(X, SIZES, "silu")


@pytest.mark.parametrize("kind", ["loss", "mean"])
def test_gradient_and_hessian_product(kind):
    rng = _rng(1)
    f = _network(rng, kind)
    theta, h = mlp.init(rng, SIZES) + 0.1 * rng.standard_normal(mlp.size(SIZES)), 1e-6
    v = rng.standard_normal(theta.size)
    check_gradient(lambda t: f(t)[0], theta, f(theta)[1], rng=rng)
    difference = (f(theta + h * v)[1] - f(theta - h * v)[1]) / (2 * h)
    assert np.allclose(f.hessian_product(theta, v), difference, atol=1e-7, rtol=1e-9)
    both = f(np.stack([theta, v]))
    assert np.allclose(both[0], [f(theta)[0], f(v)[0]], rtol=1e-9) and np.allclose(
        both[1], [f(theta)[1], f(v)[1]], rtol=1e-9
    )
    some = f.on(np.array([2, 4]))
    assert len(f) == 6 and len(some) == 2
    same_on_strict(lambda f, t, v: (f(t), f.hessian_product(t, v), f.on(slice(3))(t)), f, theta, v)


def test_values_and_input_gradients():
    rng = _rng(2)
    loss, theta, X = _network(rng, "loss"), mlp.init(rng, SIZES), rng.standard_normal((4, 3))
    r = loss.predict(theta, loss.X) - loss.y
    assert loss(theta)[0] == pytest.approx((r**2).sum() / 12, rel=1e-13)
    mean = MeanOutput(X, SIZES)
    assert mean(theta)[0] == pytest.approx(loss.predict(theta, X).mean(), rel=1e-13)
    check_gradient(lambda X: loss.predict(theta, X).sum(), X, loss.input_gradient(theta, X), rng=rng)
    same_on_strict(lambda f, t, X: (f.predict(t, X), f.input_gradient(t, X)), loss, theta, X)
    with pytest.raises(ValueError, match="sizes must end in 1"):
        MeanOutput(X, (3, 2))


def test_a_classifier_s_logits_and_other_inputs():
    rng = _rng(3)
    loss = random_classifier(rng, points=6)
    theta, cotangent = mlp.init(rng, loss.sizes), rng.standard_normal((6, 3))
    gradient = loss.logits_vjp(theta, cotangent)
    check_gradient(lambda t: (cotangent * loss.logits(t)).sum(), theta, gradient, rng=rng)
    moved = loss.at(loss.X + 0.1)
    assert moved(theta)[0] != loss(theta)[0] and moved.at(loss.X)(theta)[0] == loss(theta)[0]
    assert np.array_equal(loss.predict(theta, loss.X), loss.logits(theta).argmax(1))
    same_on_strict(
        lambda f, t, c: (f.logits(t), f.logits_vjp(t, c), f.at(2 * f.X)(t), f.each(t)), loss, theta, cotangent
    )


@pytest.mark.parametrize("kind", ["quadratic", "logistic", "rosenbrock"])
def test_hessian_products_are_those_of_the_hessians(kind):
    rng = _rng(4)
    A, logistic = convex.spd_matrix(rng, np.arange(1.0, 6)), convex.logistic(rng, points=10, dims=5)
    f, hessian = {
        "quadratic": (convex.Quadratic(A, rng.standard_normal(5)), curvature.QuadraticHessian(A)),
        "logistic": (logistic, curvature.LogisticHessian(logistic.X, logistic.y, logistic.l2)),
        "rosenbrock": (convex.Rosenbrock(), curvature.RosenbrockHessian()),
    }[kind]
    x, v, h = rng.standard_normal(5), rng.standard_normal(5), 1e-6
    product = f.hessian_product(x, v)
    assert np.allclose(product, hessian(x) @ v, rtol=1e-12, atol=1e-12)
    difference = (f(x + h * v)[1] - f(x - h * v)[1]) / (2 * h)
    assert np.allclose(product, difference, rtol=1e-6, atol=1e-6)
    same_on_strict(lambda f, x, v: f.hessian_product(x, v), f, x, v)
