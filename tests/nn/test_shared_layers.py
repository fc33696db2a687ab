"""Flat parameters, per-sample gradients, input gradients, RMS norm, binary cross-entropy, two heads."""

import numpy as np
import pytest

import trref
from trref.backend import to_host, xp
from trref.checks import check_gradient
from trref.nn import flat, losses, mlp, norm, per_sample, two_heads


def _rng(seed=0):
    return np.random.default_rng(seed)


# ---- the perceptron's further derivatives


@pytest.mark.parametrize("activation", ["tanh", "softplus", "gelu", "silu"])
def test_gradient_of_a_slope(activation):
    """The Hessian product with a tangent of the input alone is the gradient of <cotangent, J_x tangent>."""
    rng, sizes = _rng(1), (3, 5, 4, 2)
    theta, X = mlp.init(rng, sizes), rng.standard_normal((6, 3))
    cotangent, tangent = rng.standard_normal((6, 2)), rng.standard_normal(X.shape)

    def slope(theta):
        cache = mlp.forward(theta, X, sizes, activation)[1]
        return (cotangent * mlp.jvp(cache, xp.zeros_like(theta), tangent)).sum()

    _, cache = mlp.forward(theta, X, sizes, activation)
    gradient = mlp.hessian_product(cache, np.zeros_like(theta), cotangent, np.zeros_like, X_tangent=tangent)
    check_gradient(slope, theta, gradient, rng=rng)


def test_hessian_product_along_parameters_and_input():
    rng, sizes = _rng(2), (3, 4, 2)
    theta, X, target = mlp.init(rng, sizes), rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    v, tangent, h = rng.standard_normal(theta.size), rng.standard_normal(X.shape), 1e-6

    def gradient(s):
        out, cache = mlp.forward(theta + s * v, X + s * tangent, sizes)
        return mlp.gradient(cache, losses.squared_error(out, target)[1])

    out, cache = mlp.forward(theta, X, sizes)
    cotangent = losses.squared_error(out, target)[1]
    product = mlp.hessian_product(cache, v, cotangent, lambda u: losses.squared_error_hessian(out, u), tangent)
    assert np.allclose(product, (gradient(h) - gradient(-h)) / (2 * h), atol=1e-8, rtol=1e-9)


@pytest.mark.parametrize("sizes", [(3, 2), (3, 5, 4, 2)])
def test_input_gradient(sizes):
    rng = _rng(3)
    theta, X, cotangent = mlp.init(rng, sizes), rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    _, cache = mlp.forward(theta, X, sizes)
    value = lambda X: (cotangent * mlp.forward(theta, X, sizes)[0]).sum()  # noqa: E731
    check_gradient(value, X, mlp.input_gradient(cache, cotangent), rng=rng)


@pytest.mark.parametrize("sizes", [(3, 2), (3, 5, 4, 2)])
def test_per_sample_gradients_are_those_of_one_row(sizes):
    rng = _rng(4)
    theta, X, labels = mlp.init(rng, sizes), rng.standard_normal((6, 3)), rng.integers(0, 2, 6)
    out, cache = mlp.forward(theta, X, sizes)
    cotangent = 6 * losses.softmax_cross_entropy(out, labels)[1]
    each = per_sample.gradients(cache, cotangent)
    for i in range(6):
        one, row = mlp.forward(theta, X[i : i + 1], sizes)
        alone = mlp.gradient(row, losses.softmax_cross_entropy(one, labels[i : i + 1])[1])
        assert np.allclose(each[i], alone, rtol=1e-12, atol=1e-15)
    assert np.allclose(per_sample.norms(cache, cotangent), np.linalg.norm(each, axis=1), rtol=1e-12)


@pytest.mark.parametrize("own_data", [False, True])
def test_several_networks_at_once(own_data):
    """Seed by seed the same numbers: outputs, losses, gradients, tangents, Hessian products."""
    rng, sizes, S = _rng(12), (3, 5, 4, 2), 3
    thetas = np.stack([mlp.init(rng, sizes) for _ in range(S)])
    X = rng.standard_normal((S, 6, 3) if own_data else (6, 3))
    labels, v = rng.integers(0, 2, (S, 6) if own_data else 6), rng.standard_normal(thetas.shape)

    def everything(theta, X, labels, v):
        out, cache = mlp.forward(theta, X, sizes)
        loss, d = losses.softmax_cross_entropy(out, labels)
        bend = lambda u: losses.softmax_cross_entropy_hessian(out, u)  # noqa: E731
        value, e = losses.squared_error(out, np.ones_like(out))
        yield from (out, loss, d, value, losses.squared_error_hessian(out, e), *mlp.vjp(cache, d), mlp.jvp(cache, v))
        yield from (mlp.hessian_product(cache, v, d, bend), mlp.gauss_newton_product(cache, v, bend))
        yield from (per_sample.gradients(cache, d), per_sample.norms(cache, d))
        yield from losses.binary_cross_entropy(out[..., 0], 1.0 * labels)

    together = list(everything(thetas, X, labels, v))
    for s in range(S):
        alone = everything(thetas[s], X[s] if own_data else X, labels[s] if own_data else labels, v[s])
        assert all(np.allclose(a[s], b, rtol=1e-12, atol=1e-14) for a, b in zip(together, alone, strict=True))


def test_start_has_the_variance_that_is_said():
    theta = mlp.init(_rng(13), (400, 100, 25), scale=2.0)
    (W, b), (V, c) = mlp.unpack(theta, (400, 100, 25))
    # a standard deviation of n draws is right to 1/sqrt(2n)
    assert W.std() == pytest.approx(2 / 20, rel=5 / np.sqrt(2 * 40_000)) and not b.any()
    assert V.std() == pytest.approx(2 / 10, rel=5 / np.sqrt(2 * 2500)) and not c.any()


# ---- flat parameters


def test_split_and_join():
    shapes = [(2, 3), (), (4,), (1, 2, 2)]
    arrays = [_rng(i).standard_normal(shape) for i, shape in enumerate(shapes)]
    theta = flat.join(arrays)
    assert theta.shape == (flat.size(shapes),) == (15,)
    assert theta.tolist() == [x for a in arrays for x in a.ravel()]
    parts = flat.split(theta, shapes)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, parts, strict=True))
    assert np.shares_memory(parts[0], theta)
    with pytest.raises(ValueError, match=r"theta must have shape \(15,\) for these shapes, not \(14,\)"):
        flat.split(theta[1:], shapes)


def test_split_is_that_of_the_perceptron():
    theta = mlp.init(_rng(5), (3, 4, 2))
    layers = [x for pair in mlp.unpack(theta, (3, 4, 2)) for x in pair]
    parts = flat.split(theta, [(3, 4), (4,), (4, 2), (2,)])
    assert all(np.array_equal(a, b) for a, b in zip(layers, parts, strict=True))


# ---- norms and losses


def test_rms_norm():
    rng = _rng(6)
    x, gain, cotangent = rng.standard_normal((2, 3, 5)), rng.standard_normal(5), rng.standard_normal((2, 3, 5))
    out = norm.rms_norm(x, np.ones(5), eps=0.0)
    assert np.allclose(np.sqrt((out**2).mean(-1)), 1, rtol=1e-9) and np.allclose(out / x, (out / x)[..., :1], rtol=1e-9)
    d_x, d_gain = norm.rms_norm_vjp(x, gain, cotangent, eps=0.1)
    check_gradient(lambda x: (cotangent * norm.rms_norm(x, gain, eps=0.1)).sum(), x, d_x, rng=rng)
    check_gradient(lambda g: (cotangent * norm.rms_norm(x, g, eps=0.1)).sum(), gain, d_gain, rng=rng)
    t = rng.standard_normal(x.shape)
    pushed = norm.rms_norm_jvp(x, gain, t, eps=0.1)
    assert (cotangent * pushed).sum() == pytest.approx((d_x * t).sum(), rel=1e-12)
    assert np.isfinite(norm.rms_norm(np.zeros((1, 3)), np.ones(3))).all()


@pytest.mark.parametrize("weights", [None, np.array([0.5, 3.0, 0.0, 1.0])])
def test_binary_cross_entropy(weights):
    rng = _rng(7)
    z, t, u = rng.standard_normal(4), np.array([1.0, 0.0, 1.0, 0.3]), rng.standard_normal(4)
    loss, gradient = losses.binary_cross_entropy(z, t, weights)
    w = np.ones(4) if weights is None else weights
    p = 1 / (1 + np.exp(-z))
    assert loss == pytest.approx(-(w * (t * np.log(p) + (1 - t) * np.log(1 - p))).sum() / w.sum(), rel=1e-12)
    check_gradient(lambda z: losses.binary_cross_entropy(z, t, weights)[0], z, gradient, rng=rng)
    h = 1e-6
    ahead, behind = (losses.binary_cross_entropy(z + s * u, t, weights)[1] for s in (h, -h))
    assert np.allclose(
        losses.binary_cross_entropy_hessian(z, u, weights), (ahead - behind) / (2 * h), atol=1e-9, rtol=1e-9
    )


def test_binary_cross_entropy_is_softmax_of_two_classes_and_survives_extremes():
    z, labels = _rng(8).standard_normal(5), np.array([0, 1, 1, 0, 1])
    two = losses.softmax_cross_entropy(np.stack([np.zeros(5), z], 1), labels)
    loss, gradient = losses.binary_cross_entropy(z, labels.astype(float))
    assert loss == pytest.approx(two[0], rel=1e-14) and np.allclose(gradient, two[1][:, 1], atol=1e-16, rtol=1e-9)
    loss, gradient = losses.binary_cross_entropy(np.array([900.0, -900.0]), np.array([0.0, 0.0]))
    assert loss == 450.0 and gradient.tolist() == [0.5, 0.0]


# ---- two heads

SIZES = two_heads.Sizes((3, 5, 4), (2,), (6, 1))


def test_each_head_alone_is_a_perceptron():
    """With one cotangent zero the network is the perceptron body-head, and so is its gradient."""
    rng = _rng(9)
    theta, X = two_heads.init(rng, SIZES), rng.standard_normal((7, 3))
    first, second, cache = two_heads.forward(theta, X, SIZES)
    body, one = mlp.size((3, 5, 4)), mlp.size((4, 2))
    for i, (out, sizes, head) in enumerate(
        [(first, (3, 5, 4, 2), slice(body, body + one)), (second, (3, 5, 4, 6, 1), slice(body + one, None))]
    ):
        alone = np.concatenate([theta[:body], theta[head]])
        plain, plain_cache = mlp.forward(alone, X, sizes)
        cotangent = rng.standard_normal(out.shape)
        both = [cotangent, np.zeros_like(second)] if i == 0 else [np.zeros_like(first), cotangent]
        gradient, expected = two_heads.vjp(cache, *both), mlp.gradient(plain_cache, cotangent)
        assert np.allclose(out, plain, atol=1e-15, rtol=1e-9)
        assert np.allclose(np.concatenate([gradient[:body], gradient[head]]), expected, atol=1e-13, rtol=1e-9)
        rest = np.ones(theta.size, bool)
        rest[:body] = rest[head] = False
        assert not gradient[rest].any()
    assert two_heads.size(SIZES) == theta.size and cache.features.shape == (7, 4)


def test_both_heads_together():
    rng = _rng(10)
    theta, X = two_heads.init(rng, SIZES), rng.standard_normal((7, 3))
    a, b = rng.standard_normal((7, 2)), rng.standard_normal((7, 1))

    def value(theta):
        first, second, _ = two_heads.forward(theta, X, SIZES, "silu")
        return (a * first).sum() + (b * second).sum()

    cache = two_heads.forward(theta, X, SIZES, "silu")[2]
    check_gradient(value, theta, two_heads.vjp(cache, a, b), rng=rng)
    with pytest.raises(ValueError, match="theta must have shape"):
        two_heads.forward(theta[1:], X, SIZES)
    several = np.stack([theta, -theta])
    first, second, cache = two_heads.forward(several, X, SIZES, "silu")
    gradient = two_heads.vjp(cache, np.stack([a, a]), np.stack([b, b]))
    for s in range(2):
        one, two, alone = two_heads.forward(several[s], X, SIZES, "silu")
        assert np.allclose(first[s], one, rtol=1e-9) and np.allclose(second[s], two, rtol=1e-9)
        assert np.allclose(gradient[s], two_heads.vjp(alone, a, b), atol=1e-13, rtol=1e-9)


# ---- the strict device computes all of it, bit for bit


def _everything(rng):
    theta, X = two_heads.init(rng, SIZES, dtype="float32"), xp.asarray(rng.standard_normal((4, 3)), dtype="float32")
    first, second, cache = two_heads.forward(theta, X, SIZES, "silu")
    t, w = xp.asarray([1.0, 0.0, 1.0, 0.5], dtype="float32"), xp.asarray([1.0, 2.0, 0.5, 0.0], dtype="float32")
    loss, d_second = losses.binary_cross_entropy(second[:, 0], t, w)
    gradient = two_heads.vjp(cache, first, d_second[:, None])
    _, body = mlp.forward(theta[: mlp.size(SIZES.body)], X, SIZES.body)
    slope = mlp.hessian_product(body, xp.zeros_like(theta[: mlp.size(SIZES.body)]), body.pre_activations[-1], abs, X)
    ones = xp.ones(3, dtype="float32")
    results = [loss, gradient, slope, mlp.input_gradient(body, cache.features)]
    results += [per_sample.gradients(body, cache.features), per_sample.norms(body, cache.features)]
    results += [norm.rms_norm(X, ones), *norm.rms_norm_vjp(X, ones, X), norm.rms_norm_jvp(X, ones, X)]
    results += [losses.binary_cross_entropy_hessian(t, w, w), *flat.split(flat.join([X, ones]), [(4, 3), (3,)])]
    return results


def test_strict_device():
    host = _everything(_rng(11))
    assert all(x.dtype == np.float32 for x in host)
    with trref.use_backend("strict"):
        device = [to_host(x) for x in _everything(_rng(11))]
    assert all(np.array_equal(a, b) for a, b in zip(host, device, strict=True))
