"""Virtual layers put into a network and differentiated, bounds, invariances, and SciPy's correlations."""

import itertools

import numpy as np
import pytest
from scipy import signal, stats

from trref.attribution.normgrad import (
    class_sensitivity,
    combine,
    grad_cam,
    meta_parameters,
    saliency,
    weight_gradient,
)
from trref.nn.conv import conv2d


def _activations(seed=0, shape=(1, 3, 5, 4)):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), rng.standard_normal(shape)


def _score(y):
    """A smooth score of activations, and its gradient."""
    w = np.cos(np.arange(y.size)).reshape(y.shape)
    return (w * np.tanh(y)).sum(), w * (1 - np.tanh(y) ** 2)


def test_numbers_by_hand():
    """g = (1, -2), x = (3, 4): norms sqrt 5 and 5; products 3 and -8."""
    x, g = np.array([3.0, 4.0]).reshape(1, 2, 1, 1), np.array([1.0, -2.0]).reshape(1, 2, 1, 1)
    at = lambda **how: saliency(x, g, **how)[0, 0, 0]  # noqa: E731
    assert at() == pytest.approx(5 * np.sqrt(5)) and at(how="sum") == pytest.approx(-7)
    assert at(how="max") == pytest.approx(4) and at(how="positive") == pytest.approx(5)
    assert at(layer="scaling") == pytest.approx(np.sqrt(73)) and at(layer="scaling", how="sum") == pytest.approx(-5)
    assert at(layer="bias") == pytest.approx(np.sqrt(5)) and grad_cam(x, g)[0, 0, 0] == 0


def test_the_gradient_of_a_virtual_convolution():
    """The identity as a 3x3 kernel, each entry moved a little: the score's slope."""
    x, _ = _activations(1)
    identity = np.zeros((3, 3, 3, 3))
    identity[range(3), range(3), 1, 1] = 1
    assert np.allclose(conv2d(x, identity, np.zeros(3), padding=1), x, rtol=1e-9)
    _, g = _score(x)
    ours = weight_gradient(x, g).reshape(3, 3, 3, 3)
    for entry in itertools.product(range(3), repeat=4):
        e = np.zeros_like(identity)
        e[entry] = 1e-6
        ends = [_score(conv2d(x, identity + s * e, np.zeros(3), padding=1))[0] for s in (1, -1)]
        assert ours[entry] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


def test_virtual_scaling_and_bias():
    """At ones and at zeros: sums over places of the extracts."""
    x, _ = _activations(2)
    _, g = _score(x)
    for k in range(3):
        e = np.zeros((1, 3, 1, 1))
        e[0, k] = 1e-6
        scaled = (_score(x * (1 + e))[0] - _score(x * (1 - e))[0]) / 2e-6
        moved = (_score(x + e)[0] - _score(x - e)[0]) / 2e-6
        alone = [v[:, k : k + 1] for v in (x, g)]
        assert saliency(*alone, layer="scaling", how="sum").sum() == pytest.approx(scaled, abs=1e-7)
        assert saliency(*alone, layer="bias", how="sum").sum() == pytest.approx(moved, abs=1e-7)


def test_weights_with_scipy():
    x, g = _activations(3)
    ours = weight_gradient(x, g).reshape(3, 3, 3, 3)
    for k, c in itertools.product(range(3), repeat=2):
        wide = np.pad(x[0, c], 1)
        assert np.allclose(ours[k, c], signal.correlate2d(wide, g[0, k], mode="valid"), rtol=1e-12)


def test_the_weights_gradient_is_no_longer_than_the_sum_of_the_map():
    x, g = _activations(4)
    for size, layer in ((1, "conv1x1"), (3, "conv")):
        assert np.linalg.norm(weight_gradient(x, g, size=size)) <= saliency(x, g, layer=layer).sum() * (1 + 1e-12)
    one = np.zeros_like(g)
    one[:, :, 2, 1] = g[:, :, 2, 1]  # a single summand
    assert np.linalg.norm(weight_gradient(x, one)) == pytest.approx(saliency(x, one, layer="conv").sum())


def test_a_larger_layer_has_a_larger_norm():
    x, g = _activations(5, (2, 3, 4, 4))
    maps = [saliency(x, g, layer=name) for name in ("scaling", "conv1x1", "conv")]
    assert (maps[0] <= maps[1] + 1e-12).all() and (maps[1] <= maps[2] + 1e-12).all()


def test_turning_the_channels():
    """The 1x1 norm and the sum of the scaling do not see an orthogonal map of channels, the scaling's norm does."""
    x, g = _activations(6)
    Q, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((3, 3)))
    turned = [np.einsum("kc,nchw->nkhw", Q, v) for v in (x, g)]
    for how in ({}, {"layer": "scaling", "how": "sum"}):
        assert np.allclose(saliency(*turned, **how), saliency(x, g, **how), rtol=1e-9, atol=1e-12)
    assert abs(saliency(*turned, layer="scaling") - saliency(x, g, layer="scaling")).max() > 0.1
    for layer in ("conv1x1", "conv", "scaling"):
        assert np.allclose(saliency(7 * x, g / 7, layer=layer), saliency(x, g, layer=layer), rtol=1e-12)


def test_before_a_global_average():
    """The gradient is the same everywhere: a flat bias map, Grad-CAM is the linear approximation, and the 1x1 norm is
    that of the activations: whatever class is asked for."""
    x, _ = _activations(8, (1, 3, 4, 4))
    w = np.random.default_rng(9).standard_normal((2, 3))
    likely, unlikely = (np.broadcast_to(v[None, :, None, None] / 16, x.shape).copy() for v in w)
    assert np.ptp(saliency(x, likely, layer="bias")) < 1e-15
    linear = saliency(x, likely, layer="scaling", how="sum")
    assert np.allclose(grad_cam(x, likely), np.maximum(linear, 0), rtol=1e-12, atol=1e-15)
    assert class_sensitivity(saliency(x, likely), saliency(x, unlikely)) == pytest.approx([1.0])
    assert class_sensitivity(linear, saliency(x, unlikely, layer="scaling", how="sum"))[0] < 0.99


def test_sensitivity_with_scipy():
    rng = np.random.default_rng(10)
    a, b = rng.integers(0, 5, (2, 3, 4, 5)).astype(float)
    expected = [stats.spearmanr(p.ravel(), q.ravel())[0] for p, q in zip(a, b, strict=True)]
    assert np.allclose(class_sensitivity(a, b), expected, rtol=1e-12)


def test_combinations_by_hand():
    """Maps 0, 1, 1/2 and 1, 0, 1/4 in shares 3/4 and 1/4."""
    maps = np.array([[[[1.0, 3.0, 2.0]]], [[[4.0, 0.0, 1.0]]]])
    weights = np.array([3.0, 1.0])
    assert np.allclose(combine(maps, weights), [[[0.25, 0.75, 0.4375]]], rtol=1e-9)
    assert np.allclose(combine(maps, weights, rule="product"), [[[0, 0, 0.5**0.75 * 0.25**0.25]]], rtol=1e-9)


def test_the_meta_step():
    loss = lambda theta: (float(theta @ theta) / 2, theta)  # noqa: E731
    theta = np.array([1.0, -2.0])
    assert np.allclose(meta_parameters(loss, theta, lr=0.1), 0.9 * theta, rtol=1e-9)
    assert np.allclose(meta_parameters(loss, theta, lr=0.1, towards=False), 1.1 * theta, rtol=1e-9)
    assert np.array_equal(meta_parameters(loss, theta, lr=0.0), theta)


def test_bad_input():
    x, g = _activations(11)
    with pytest.raises(ValueError, match="size must be odd"):
        saliency(x, g, layer="conv", size=4)
    with pytest.raises(ValueError, match="layer must be"):
        saliency(x, g, layer="dense")
