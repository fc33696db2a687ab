"""Functions of inputs: a gradient a row."""

import numpy as np
import pytest

from tests.problems.agreement import same_on_strict
from trref.checks import check_gradient
from trref.nn import losses, mlp
from trref.problems.rows import LinearScore, QuadraticScore, ReluScore, RowLoss, RowScore

SIZES = (3, 5, 4)


def _rng(seed=0):
    return np.random.default_rng(seed)


def _all(rng):
    theta, labels = mlp.init(rng, SIZES), rng.integers(0, 4, 6)
    A = rng.standard_normal((3, 3))
    return {
        "loss": RowLoss(theta, labels, SIZES),
        "score": RowScore(theta, labels, SIZES, "softplus"),
        "linear": LinearScore(rng.standard_normal(3), 0.7),
        "quadratic": QuadraticScore(A @ A.T, rng.standard_normal(3)),
        "relu": ReluScore(rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal(4)),
    }


KINDS = ("loss", "score", "linear", "quadratic", "relu")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_row_by_row(kind):
    rng = _rng(1)
    f, x, weights = _all(rng)[kind], rng.standard_normal((6, 3)), rng.standard_normal(6)
    values, gradients = f(x)
    assert values.shape == (6,) and gradients.shape == x.shape
    check_gradient(lambda x: (weights * f(x)[0]).sum(), x, weights[:, None] * gradients, rng=rng)
    with pytest.raises(ValueError, match=r"must have shape \(N, 3\)"):
        f(x[:, :2])


def test_values_by_hand():
    rng = _rng(2)
    f, x = _all(rng), rng.standard_normal((6, 3))
    z = f["loss"].logits(x)
    assert f["loss"](x)[0].mean() == pytest.approx(losses.softmax_cross_entropy(z, f["loss"].labels)[0], rel=1e-13)
    z = f["score"].logits(x)
    assert np.array_equal(f["score"](x)[0], z[np.arange(6), f["score"].labels])
    A, c = f["quadratic"].A, f["quadratic"].c
    assert np.allclose(f["quadratic"](x)[0], [-(r - c) @ A @ (r - c) / 2 for r in x], rtol=1e-9)
    value, gradient = f["quadratic"](c[None])
    assert value == 0 and not gradient.any()
    g = f["relu"]
    assert np.allclose(
        g(x)[0], [sum(w * max(u @ r + b, 0) for u, b, w in zip(g.U, g.b, g.w, strict=True)) for r in x], rtol=1e-9
    )
    assert np.allclose(f["linear"](x)[0], x @ f["linear"].w + 0.7, rtol=1e-9)
    kink = ReluScore(np.eye(2), np.zeros(2), np.ones(2))(np.array([[0.0, 1.0]]))
    assert kink[0] == 1 and kink[1].tolist() == [[0, 1]], "on a kink the inactive side"


def test_tangents_of_the_logits():
    rng, h = _rng(3), 1e-6
    f, x, t = _all(rng)["score"], rng.standard_normal((6, 3)), rng.standard_normal((6, 3))
    assert np.allclose(f.jvp(x, t), (f.logits(x + h * t) - f.logits(x - h * t)) / (2 * h), atol=1e-8, rtol=1e-9)
    rows = np.array([4, 1])
    assert np.allclose(f.on(rows)(x[rows])[1], f(x)[1][rows], atol=1e-15, rtol=1e-9) and len(f.on(rows)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_strict_device(kind):
    f, x = _all(_rng(4))[kind], _rng(5).standard_normal((6, 3))
    same_on_strict(lambda f, x: f(x), f, x)
    if hasattr(f, "jvp"):
        same_on_strict(lambda f, x: (f.jvp(x, x), f.logits(x), f.on(slice(1, 6))(x[1:])), f, x)
