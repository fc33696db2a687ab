"""Gradient clipping against PyTorch and optax, gradients by autograd too."""

import numpy as np
import pytest

from trref.catalog.optimizers.gradient_clipping import EPSILON_ADDED
from trref.nn.flat import join
from trref.optimizers.gradient_clipping import (
    clip_global,
    clip_global_jvp,
    clip_value,
    clip_value_jvp,
    global_norm,
    init,
    update,
)

pytestmark = pytest.mark.peer


def _gradients(scale):
    rng = np.random.default_rng(4)
    return [scale * rng.standard_normal(shape) for shape in ((3, 2), (4,), (2, 3, 2))]


def _ours(grads, threshold, kind):
    params = [np.zeros_like(g) for g in grads]
    moved, _ = update(params, grads, init(params), lr=1.0, threshold=threshold, kind=kind)
    return -join(moved)


@pytest.mark.parametrize("scale", [0.002, 1.0, 30.0])
def test_torch(scale):
    torch = pytest.importorskip("torch")
    grads = _gradients(scale)

    def parameters():
        params = [torch.zeros(g.shape, dtype=torch.float64) for g in grads]
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.tensor(g)
        return params

    def read(params):
        return np.concatenate([p.grad.numpy().ravel() for p in params])

    for order, named in ((1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (None, float("inf"))):
        theirs = torch.nn.utils.get_total_norm([p.grad for p in parameters()], norm_type=named)
        assert float(theirs) == pytest.approx(float(global_norm(join(grads), order=order)), rel=1e-13)
    by_value = parameters()
    torch.nn.utils.clip_grad_value_(by_value, 0.7)
    assert np.array_equal(read(by_value), _ours(grads, 0.7, "value"))
    by_norm = parameters()
    before = torch.nn.utils.clip_grad_norm_(by_norm, 0.01)
    assert float(before) == pytest.approx(float(global_norm(join(grads))), rel=1e-13), "the norm before"
    theirs, ours = read(by_norm), _ours(grads, 0.01, "global")
    assert np.allclose(theirs, EPSILON_ADDED.f(join(grads), threshold=0.01), rtol=1e-13, atol=0)
    short = 1 - np.linalg.norm(theirs) / np.linalg.norm(ours)
    assert short == pytest.approx(min(1e-6 / float(before), 1e-4), rel=2e-2) or short == 0


@pytest.mark.parametrize("scale", [0.002, 1.0, 30.0])
def test_optax(scale):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with jax.enable_x64(True):
        grads = _gradients(scale)
        rules = {"global": optax.clip_by_global_norm(0.7), "value": optax.clip(0.7)}
        for kind, rule in rules.items():
            theirs, _ = rule.update([jax.numpy.asarray(g) for g in grads], rule.init(None))
            assert np.allclose(join([np.asarray(g) for g in theirs]), _ours(grads, 0.7, kind), rtol=1e-13, atol=1e-300)
        each = [np.asarray(rule.update([g], rule.init(None))[0][0]) for g in grads for rule in [rules["global"]]]
        assert np.allclose(join(each), _ours(grads, 0.7, "each"), rtol=1e-13, atol=1e-300)


def test_derivatives_by_autograd():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    for scale in (0.1, 3.0):
        g, tangent = scale * rng.standard_normal((2, 5))
        at, along = torch.tensor(g, requires_grad=True), torch.tensor(tangent)

        def by_norm(x):
            return x * torch.clamp(0.7 / x.norm(), max=1.0)

        cases = ((by_norm, clip_global_jvp), (lambda x: x.clamp(-0.7, 0.7), clip_value_jvp))
        for theirs, ours in cases:
            (moved,) = torch.autograd.grad(theirs(at) @ along, at)
            assert np.allclose(moved.numpy(), ours(g, tangent, threshold=0.7), rtol=1e-13, atol=1e-14)
        assert np.allclose(by_norm(at).detach().numpy(), clip_global(g, threshold=0.7), rtol=1e-13, atol=0)
        assert np.array_equal(at.detach().clamp(-0.7, 0.7).numpy(), clip_value(g, threshold=0.7))
