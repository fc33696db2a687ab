"""Implementations in JAX, and optax's transformations as update rules."""

import pytest

from trref.conformance import Options, verify

jax = pytest.importorskip("jax")

SOURCE = """
import jax
import jax.numpy as jnp
import numpy as np


@jax.jit
def loss(log_prob, old_log_prob, advantage, clip=0.2):
    r = jnp.exp(log_prob - old_log_prob)
    return -jnp.minimum(r * advantage, jnp.clip(r, 1 - clip, 1 + clip) * advantage).mean()


def with_metrics(log_prob, old_log_prob, advantage, clip=0.2):
    return loss(log_prob, old_log_prob, advantage, clip), {"ratio": jnp.exp(log_prob - old_log_prob).mean()}


def held(log_prob, old_log_prob, advantage, clip=0.2):
    return loss(jax.lax.stop_gradient(log_prob), old_log_prob, advantage, clip)


def single(log_prob, old_log_prob, advantage, clip=0.2):
    return loss(log_prob.astype(jnp.float32), old_log_prob, advantage.astype(jnp.float32), clip)


def in_numpy(log_prob, old_log_prob, advantage, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    return -np.minimum(r * advantage, np.clip(r, 1 - clip, 1 + clip) * advantage).mean()


def project(x, z):
    inner = jnp.swapaxes(x, -1, -2) @ z
    return z - x @ (inner + jnp.swapaxes(inner, -1, -2)) / 2


def half(x, z):
    return jax.lax.stop_gradient(project(x, z) / 2) + project(x, z) / 2


def adam(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    import optax

    return optax.adam(lr, beta1, beta2, eps)
"""
NAME = "ppo.clipped_surrogate"


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return lambda name: f"{path}:{name}"


FEW = {"seeds": (0,), "sizes": (4,)}


def test_a_loss(target):
    """On the clip bound, where both branches are equal, JAX adds half of each one's gradient: no derivative there."""
    for name in ("loss", "with_metrics"):
        verdict = verify(NAME, target(name), **FEW)
        assert [e.name for e in verdict.exemptions] == ["ties"] and verdict.framework == "jax", str(verdict)
        assert verdict.compared == "value, gradient by autograd"
    assert verify(NAME, target("loss"), assume=["ties"], **FEW).conforms
    assert verify(NAME, target("loss"), Options(gradient=False), **FEW).conforms


def test_a_wrong_loss(target):
    verdict = verify(NAME, target("held"), **FEW)
    assert any("the gradient is zero (detached)" in str(e) for e in verdict.explanations), str(verdict)
    assert verify(NAME, target("single"), explain=False, **FEW).status == "deviates"


def test_numpy_beside_jax(target):
    assert verify(NAME, target("in_numpy"), **FEW).framework == "numpy"


def test_a_transform(target):
    verdict = verify("stiefel.project", target("project"), **FEW)
    assert verdict.conforms and verdict.compared == "result, vjp", str(verdict)
    verdict = verify("stiefel.project", target("half"), explain=False, **FEW)
    assert verdict.status == "deviates" and "vjp" in str(verdict)


def test_optax(target):
    pytest.importorskip("optax")
    verdict = verify("adam.update", target("adam"), **FEW)
    assert verdict.conforms and verdict.framework == "optax", str(verdict)
    names = {"lr": "learning_rate", "beta1": "b1", "beta2": "b2"}
    assert verify("adam.update", "optax:adam", Options(names=names)).conforms
    assert not verify(
        "adam.update", "optax:adam", Options(names=names, theirs={"eps_root": 1e-3}), explain=False
    ).conforms
