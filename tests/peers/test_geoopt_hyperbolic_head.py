"""Hyperbolic heads against geoopt's manifolds and PyTorch's derivatives; the histogram loss against PyTorch's."""

import math

import numpy as np
import pytest

from trref.manifolds.histogram_loss import histogram_loss, histogram_targets
from trref.manifolds.hyperbolic_head import (
    exp_hyperboloid,
    exp_poincare,
    hyperbolic_cross_entropy,
    poincare_logits,
)
from trref.manifolds.hyperpp import bounded_features

torch = pytest.importorskip("torch")
geoopt = pytest.importorskip("geoopt")
pytestmark = pytest.mark.peer

C = 0.25  # geoopt keeps it and its root in single precision


def _head(seed=0, N=6, D=3, K=4):
    rng = np.random.default_rng(seed)
    return 1.5 * rng.standard_normal((N, D)), rng.standard_normal((K, D)), 0.5 * rng.standard_normal(K)


def test_points():
    v = torch.tensor(_head()[0])
    ball = geoopt.PoincareBall(c=C).expmap0(v).numpy()
    assert np.allclose(exp_poincare(v.numpy(), curvature=C), ball, rtol=1e-12, atol=0)
    lorentz = geoopt.Lorentz(k=1 / C)  # its k is one over the curvature
    padded = torch.cat([torch.zeros(len(v), 1, dtype=v.dtype), v], 1)
    assert np.allclose(exp_hyperboloid(v.numpy(), curvature=C), lorentz.expmap0(padded).numpy(), rtol=1e-7, atol=1e-7)


def test_distances_to_planes_in_the_ball():
    v, normals, offsets = _head(1)
    manifold, z = geoopt.PoincareBall(c=C), torch.tensor(normals)
    length = z.norm(dim=1, keepdim=True)
    foot = manifold.expmap0(torch.tensor(offsets)[:, None] * z / length)
    x = manifold.expmap0(torch.tensor(v))
    distances = manifold.dist2plane(x[:, None], foot, z / length, signed=True)
    logits = poincare_logits(x.numpy(), normals, offsets, curvature=C)
    assert np.allclose(logits, (2 * length[:, 0] * distances).numpy(), rtol=1e-9, atol=1e-9)


def test_gradients_of_the_cross_entropy():
    v, normals, offsets = _head(2)
    labels = np.array([0, 3, 1, 2, 2, 0])
    tv, tz, tr = (torch.tensor(a, requires_grad=True) for a in (v, normals, offsets))
    root = math.sqrt(C)
    n, length = tv.norm(dim=1, keepdim=True), tz.norm(dim=1)
    first, rest = torch.cosh(root * n) / root, torch.sinh(root * n) / (root * n) * tv
    q = -root * first * torch.sinh(root * tr) + root * torch.cosh(root * tr) * (rest @ tz.T) / length
    theirs = torch.nn.functional.cross_entropy(length / root * torch.asinh(q), torch.tensor(labels))
    theirs.backward()
    loss, gradient = hyperbolic_cross_entropy(v, normals, offsets, labels, curvature=C)
    assert loss == pytest.approx(theirs.item(), rel=1e-13)
    for ours, tensor in zip(gradient, (tv, tz, tr), strict=True):
        assert np.allclose(ours, tensor.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_histogram_loss():
    rng = np.random.default_rng(3)
    logits, t = rng.standard_normal((5, 51)), 4 * rng.standard_normal(5)
    tensor = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(tensor, torch.tensor(histogram_targets(t)))
    theirs.backward()
    loss, gradient = histogram_loss(logits, t)
    assert loss == pytest.approx(theirs.item(), rel=1e-13)
    assert np.allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-15)


def test_bounded_features():
    rng = np.random.default_rng(4)
    a, w = rng.standard_normal((5, 8)), rng.standard_normal(8)
    norm = torch.nn.RMSNorm(8, eps=2**-23, elementwise_affine=False)
    u = torch.tanh(norm(torch.tensor(a))) / math.sqrt(8)
    theirs = torch.sigmoid(u @ torch.tensor(w) + 0.3)[:, None] * math.atanh(0.95) * u
    assert np.allclose(bounded_features(a, w, np.asarray(0.3)), theirs.numpy(), rtol=1e-12, atol=0)
