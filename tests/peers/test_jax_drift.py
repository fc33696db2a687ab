"""The drift loss of DFP and its released form, against JAX's autograd."""

import numpy as np
import pytest

from trref.catalog.diffusion.drifting_field_policy import FIELD, RELEASED
from trref.diffusion.drifting_field_policy import drift_loss

jax = pytest.importorskip("jax")
jnp = jax.numpy
pytestmark = pytest.mark.peer


def _published(x, positives, negatives, h):
    held = jax.lax.stop_gradient(x)

    def shift(targets, itself):
        logits = -((held[:, None] - targets) ** 2).sum(-1) / (2 * h**2)
        if itself:
            logits = jnp.where(jnp.eye(len(x), dtype=bool), -jnp.inf, logits)
        return jax.nn.softmax(logits, axis=1) @ targets - held

    own = negatives is None
    V = shift(positives, False) - shift(held if own else negatives, own)
    return ((x - jax.lax.stop_gradient(held + V)) ** 2).sum(-1).mean()


def _released(x, positives, negatives, R):
    held, own = jax.lax.stop_gradient(x), negatives is None
    away = held if own else negatives
    targets = jnp.concatenate([away, positives])
    gram = held @ targets.T
    square = (held**2).sum(1)[:, None] + (targets**2).sum(1) - 2 * gram
    distance = jnp.sqrt(jnp.clip(square, 1e-8))
    scale = distance.mean()
    unit = jnp.clip(scale / jnp.sqrt(x.shape[1]), 1e-3)
    normed = distance / jnp.clip(scale, 1e-3)
    if own:
        normed = normed.at[jnp.arange(len(x)), jnp.arange(len(x))].add(100.0)
    affinity = jax.nn.softmax(-normed / R, axis=-1) * jax.nn.softmax(-normed / R, axis=-2)
    affinity = jnp.sqrt(jnp.clip(affinity, 1e-6))
    negative, positive = affinity[:, : len(away)], affinity[:, len(away) :]
    force = (positive * negative.sum(1, keepdims=True)) @ positives - (negative * positive.sum(1, keepdims=True)) @ away
    total = (positive.sum(1) * negative.sum(1) - negative.sum(1) * positive.sum(1))[:, None]
    force = (force - total * held) / unit
    force = force / jnp.sqrt(jnp.clip((force**2).mean(), 1e-8))
    goal = jax.lax.stop_gradient(held / unit + force)
    return ((x / jax.lax.stop_gradient(unit) - goal) ** 2).mean()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("ours", "theirs"), [(drift_loss, _published), (RELEASED.f, _released)])
def test_the_loss(seed, ours, theirs):
    points = FIELD.example(np.random.default_rng(seed), 6)
    given = {n: points[n] for n in ("x", "positives", "negatives")}
    with jax.enable_x64(True):
        tensors = {n: None if a is None else jnp.asarray(a) for n, a in given.items()}
        value, slope = jax.value_and_grad(lambda x: theirs(x, tensors["positives"], tensors["negatives"], 0.3))(
            tensors["x"]
        )
    loss, gradient = ours(**given, bandwidth=0.3)
    assert float(loss) == pytest.approx(float(value), rel=1e-7)
    assert np.allclose(gradient, np.asarray(slope), rtol=0, atol=1e-7 * max(1.0, abs(np.asarray(slope)).max()))
