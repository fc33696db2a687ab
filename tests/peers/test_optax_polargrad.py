"""PolarGrad against optax's adaptive Muon, whose momentum is corrected for its start."""

import numpy as np
import pytest

from trref.optimizers import polargrad

optax = pytest.importorskip("optax")
jax = pytest.importorskip("jax")
pytestmark = pytest.mark.peer


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_adaptive_muon(shape):
    """The same directions; lengths differ by the correction, 1 - momentum^t."""
    scale = optax.contrib.scale_by_muon(
        ns_coeffs=(15 / 8, -10 / 8, 3 / 8), ns_steps=40, beta=0.8, nesterov=False, adaptive=True
    )
    step, rng = jax.jit(scale.update), np.random.default_rng(0)
    params = [rng.standard_normal(shape)]
    state = polargrad.init(params)
    with jax.enable_x64(True):
        there = jax.numpy.asarray(params[0])
        theirs = scale.init(there)
        for t in range(1, 5):
            G, before = rng.standard_normal(shape), params[0]
            updates, theirs = step(jax.numpy.asarray(G), theirs, there)
            params, state = polargrad.update(params, [G], state, lr=1.0, momentum=0.8)
            corrected = (before - params[0]) / (1 - 0.8**t)
            assert np.allclose(corrected, np.asarray(updates), rtol=1e-6, atol=1e-7 * abs(corrected).max())
