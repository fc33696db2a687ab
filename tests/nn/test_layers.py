"""Layers against differences and closed forms (against torch: tests/peers)."""

import numpy as np
import pytest

from trref.checks import check_gradient
from trref.nn import activations, attention, conv, heads, losses, mlp, norm, recurrent
from trref.problems.networks import ClassifierLoss, curvature, random_classifier


def _rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_activation_derivatives(name):
    phi = activations.get(name)
    a = np.linspace(-6, 6, 101) + 0.013
    h = 1e-4
    first = (phi.value(a + h) - phi.value(a - h)) / (2 * h)
    assert np.allclose(phi.first(a, phi.value(a)), first, atol=1e-7, rtol=1e-9)
    derivative = lambda a: phi.first(a, phi.value(a))  # noqa: E731
    second = (derivative(a + h) - derivative(a - h)) / (2 * h)
    assert np.allclose(phi.second(a, phi.value(a)), second, atol=1e-6, rtol=1e-9)


def test_softplus_at_extremes():
    value = activations.get("softplus").value(np.array([-800.0, 0.0, 800.0]))
    assert np.allclose(value, [0, np.log(2), 800], rtol=1e-15)


@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (3, 5, 4, 2)])
def test_mlp_derivatives(activation, sizes):
    """vjp against differences, jvp and vjp adjoint, Hessian product against differences of the gradient."""
    rng = _rng(1)
    loss = ClassifierLoss(rng.standard_normal((6, 3)), rng.integers(0, 2, 6), sizes, activation)
    theta = mlp.init(rng, sizes) + 0.1 * rng.standard_normal(mlp.size(sizes))
    check_gradient(lambda t: loss(t)[0], theta, loss(theta)[1], rng=rng)
    out, cache = mlp.forward(theta, loss.X, sizes, activation)
    v, w = rng.standard_normal(theta.size), rng.standard_normal(out.shape)
    tangent_X = rng.standard_normal(loss.X.shape)
    h = 1e-6
    move = lambda s: mlp.forward(theta + s * v, loss.X + s * tangent_X, sizes, activation)[0]  # noqa: E731
    pushed = mlp.jvp(cache, v, tangent_X)
    assert np.allclose(pushed, (move(h) - move(-h)) / (2 * h), atol=1e-8, rtol=1e-9)
    d_theta, d_X = mlp.vjp(cache, w)
    assert d_theta @ v + (d_X * tangent_X).sum() == pytest.approx((w * pushed).sum(), rel=1e-12)
    Hv = loss.hessian_product(theta, v)
    assert np.allclose(Hv, (loss(theta + h * v)[1] - loss(theta - h * v)[1]) / (2 * h), atol=1e-7, rtol=1e-9)


def test_gauss_newton_is_positive_and_exact_for_a_linear_network():
    rng = _rng(2)
    loss = random_classifier(rng, points=8)
    theta = mlp.init(rng, loss.sizes)
    G = np.stack([loss.gauss_newton_product(theta, e) for e in np.eye(theta.size)])
    assert np.allclose(G, G.T, atol=1e-13, rtol=1e-9) and np.linalg.eigvalsh(G).min() > -1e-12
    linear = ClassifierLoss(loss.X, loss.labels, (3, 3))
    theta, v = rng.standard_normal(12), rng.standard_normal(12)
    assert np.allclose(linear.gauss_newton_product(theta, v), linear.hessian_product(theta, v), atol=1e-14, rtol=1e-9)


def test_curvature_is_the_top_eigenvalue():
    rng = _rng(3)
    loss = random_classifier(rng, points=20)
    theta = mlp.init(rng, loss.sizes)
    H = np.stack([loss.hessian_product(theta, e) for e in np.eye(theta.size)])
    assert np.allclose(H, H.T, atol=1e-12, rtol=1e-9)
    eigenvalues = np.linalg.eigvalsh(H)
    assert curvature(loss, theta, rtol=1e-8, iterations=1000) == pytest.approx(eigenvalues[-1], rel=1e-4)


def test_parameters_of_the_wrong_length():
    with pytest.raises(ValueError, match=r"theta must have shape \(13,\) for sizes \(2, 3, 1\)"):
        mlp.forward(np.zeros(12), np.zeros((1, 2)), (2, 3, 1))
    with pytest.raises(ValueError, match="X must have shape"):
        mlp.forward(np.zeros(3), np.zeros((1, 5)), (2, 1))
    with pytest.raises(ValueError, match="activation must be one of"):
        mlp.forward(np.zeros(3), np.zeros((1, 2)), (2, 1), "swish")


def test_init_is_one_network_in_every_dtype():
    a, b = mlp.init(_rng(4), (3, 4, 2)), mlp.init(_rng(4), (3, 4, 2), dtype="float32")
    assert b.dtype == np.float32 and np.array_equal(a.astype(np.float32), b)


def _by_rows(f, x, gradient):
    """Check row-wise gradients through the sum of all rows with random weights."""
    weights = _rng(9).standard_normal(len(x))
    check_gradient(lambda y: (weights * f(y)).sum(), x, weights[:, None] * gradient, rng=_rng(8))


def test_categorical_head():
    rng = _rng(5)
    z, q, actions = rng.standard_normal((7, 4)), rng.standard_normal((7, 4)), rng.integers(0, 4, 7)
    _by_rows(lambda z: heads.categorical_log_prob(z, actions)[0], z, heads.categorical_log_prob(z, actions)[1])
    _by_rows(lambda z: heads.categorical_entropy(z)[0], z, heads.categorical_entropy(z)[1])
    kl, d_z, d_q = heads.categorical_kl(z, q)
    _by_rows(lambda z: heads.categorical_kl(z, q)[0], z, d_z)
    _by_rows(lambda q: heads.categorical_kl(z, q)[0], q, d_q)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    assert np.allclose(heads.categorical_entropy(z)[0], -(p * np.log(p)).sum(1), rtol=1e-9)
    assert (kl > 0).all() and np.allclose(heads.categorical_kl(z, z)[0], 0, atol=1e-15, rtol=1e-9)


def test_categorical_head_at_extremes():
    z = np.array([[900.0, 0.0, -900.0]])
    assert heads.categorical_log_prob(z, np.array([2]))[0] == pytest.approx([-1800.0])
    assert np.isfinite(heads.categorical_entropy(z)[0]).all()
    loss, gradient = losses.softmax_cross_entropy(z, np.array([2]))
    assert loss == 1800.0 and np.allclose(gradient, [[1, 0, -1]], rtol=1e-9)


def test_gaussian_head():
    from scipy.stats import multivariate_normal, norm

    rng = _rng(6)
    mean, log_std, other_mean, other_log_std, a = (rng.standard_normal((5, 3)) for _ in range(5))
    value, gradient = heads.gaussian_log_prob(mean, log_std, a)
    oracle = [
        multivariate_normal(m, np.diag(np.exp(2 * s))).logpdf(x) for m, s, x in zip(mean, log_std, a, strict=True)
    ]
    assert np.allclose(value, oracle, rtol=1e-9)
    _by_rows(lambda m: heads.gaussian_log_prob(m, log_std, a)[0], mean, gradient.mean)
    _by_rows(lambda s: heads.gaussian_log_prob(mean, s, a)[0], log_std, gradient.log_std)
    entropy, d_log_std = heads.gaussian_entropy(log_std)
    assert np.allclose(entropy, norm(scale=np.exp(log_std)).entropy().sum(1), rtol=1e-9) and (d_log_std == 1).all()
    kl, ours, theirs = heads.gaussian_kl(mean, log_std, other_mean, other_log_std)
    _by_rows(lambda m: heads.gaussian_kl(m, log_std, other_mean, other_log_std)[0], mean, ours.mean)
    _by_rows(lambda s: heads.gaussian_kl(mean, s, other_mean, other_log_std)[0], log_std, ours.log_std)
    _by_rows(lambda m: heads.gaussian_kl(mean, log_std, m, other_log_std)[0], other_mean, theirs.mean)
    _by_rows(lambda s: heads.gaussian_kl(mean, log_std, other_mean, s)[0], other_log_std, theirs.log_std)
    assert (kl > 0).all() and np.allclose(heads.gaussian_kl(mean, log_std, mean, log_std)[0], 0, atol=1e-15, rtol=1e-9)


def _adjoint(f, vjp, arrays):
    """vjp against differences, argument by argument."""
    out = f(*arrays)
    cotangent = _rng(10).standard_normal(out.shape)
    for i, (x, gradient) in enumerate(zip(arrays, vjp(cotangent), strict=True)):

        def value(y, i=i):
            return (cotangent * f(*arrays[:i], y, *arrays[i + 1 :])).sum()

        check_gradient(value, x, gradient, rng=_rng(i))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (1, 2)])
def test_convolution(stride, padding):
    rng = _rng(7)
    x, w, b = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(4)
    how = {"stride": stride, "padding": padding}
    _adjoint(lambda x, w, b: conv.conv2d(x, w, b, **how), lambda c: conv.conv2d_vjp(x, w, c, **how), [x, w, b])
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    y = conv.conv2d(x, w, b, **how)
    for n, f, i, j in [(0, 0, 0, 0), (1, 3, y.shape[2] - 1, y.shape[3] - 1)]:
        patch = padded[n, :, i * stride : i * stride + 3, j * stride : j * stride + 2]
        assert y[n, f, i, j] == pytest.approx((patch * w[f]).sum() + b[f], rel=1e-12)


def test_pooling():
    x = _rng(8).standard_normal((2, 3, 4, 6))
    _adjoint(conv.max_pool, lambda c: [conv.max_pool_vjp(x, c)], [x])
    _adjoint(conv.average_pool, lambda c: [conv.average_pool_vjp(x, c)], [x])
    assert conv.max_pool(x)[1, 2, 0, 1] == x[1, 2, 0:2, 2:4].max()
    tie = np.ones((1, 1, 2, 2))
    assert conv.max_pool_vjp(tie, np.ones((1, 1, 1, 1))).ravel().tolist() == [1, 0, 0, 0]
    with pytest.raises(ValueError, match="divisible by size"):
        conv.max_pool(x, size=4)


def test_layer_norm():
    rng = _rng(9)
    x, gain, bias = rng.standard_normal((2, 3, 5)), rng.standard_normal(5), rng.standard_normal(5)
    _adjoint(norm.layer_norm, lambda c: norm.layer_norm_vjp(x, gain, c), [x, gain, bias])
    t, h = rng.standard_normal(x.shape), 1e-6
    difference = (norm.layer_norm(x + h * t, gain, bias) - norm.layer_norm(x - h * t, gain, bias)) / (2 * h)
    assert np.allclose(norm.layer_norm_jvp(x, gain, t), difference, atol=1e-8, rtol=1e-9)


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    rng = _rng(10)
    q, k, v = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4, 5))
    _adjoint(
        lambda q, k, v: attention.attention(q, k, v, causal=causal),
        lambda c: attention.attention_vjp(q, k, v, c, causal=causal),
        [q, k, v],
    )
    arrays = [rng.standard_normal(s) for s in [(2, 4, 3), (3, 2), (3, 2), (3, 4), (4, 3)]]
    _adjoint(
        lambda *a: attention.self_attention(*a, causal=causal),
        lambda c: attention.self_attention_vjp(*arrays, c, causal=causal),
        arrays,
    )


def test_causal_attention_sees_no_future():
    q, k, v = (_rng(i).standard_normal((1, 5, 3)) for i in range(3))
    before = attention.attention(q, k, v, causal=True)
    k[:, 3:] += 1
    v[:, 3:] += 1
    after = attention.attention(q, k, v, causal=True)
    assert np.array_equal(before[:, :3], after[:, :3]) and not np.allclose(before[:, 3:], after[:, 3:])


def test_recurrent_layer():
    rng = _rng(11)
    arrays = [rng.standard_normal(s) for s in [(2, 5, 3), (2, 4), (3, 4), (4, 4), (4,)]]
    states = recurrent.recurrent(*arrays)
    _adjoint(recurrent.recurrent, lambda c: recurrent.recurrent_vjp(*arrays[:4], states, c), arrays)


def test_squared_error():
    rng = _rng(12)
    out, target = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    loss, gradient = losses.squared_error(out, target)
    assert loss == pytest.approx(((out - target) ** 2).sum() / 8)
    check_gradient(lambda o: losses.squared_error(o, target)[0], out, gradient, rng=rng)
    assert np.array_equal(losses.squared_error_hessian(out, target), target / 4)
