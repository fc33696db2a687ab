"""Lookahead against optax and pytorch_optimizer, call by call."""

import numpy as np
import pytest

from trref import catalog
from trref.optimizers.lookahead import adam_update, init, update

pytestmark = pytest.mark.peer
GRADIENTS = np.random.default_rng(6).standard_normal((23, 3))
START = np.array([1.0, -2.0, 0.5])


def _ours(rule, **hyper):
    params, state, rows = [START], init([START]), []
    for g in GRADIENTS:
        params, state = rule(params, [g], state, **hyper)
        rows.append((params[0], state.slow[0]))
    return rows


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("adam", [False, True])
def test_optax(adam, reset):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with jax.enable_x64(True):
        inner = optax.adam(0.05, b1=0.8, b2=0.95) if adam else optax.sgd(0.05, momentum=0.8)
        theirs = optax.lookahead(inner, sync_period=4, slow_step_size=0.3, reset_state=reset)
        params = optax.LookaheadParams.init_synced(jax.numpy.asarray(START))
        state, rows = theirs.init(params), []
        for g in GRADIENTS:
            moves, state = theirs.update(jax.numpy.asarray(g), state, params)
            params = optax.apply_updates(params, moves)
            rows.append((np.asarray(params.fast), np.asarray(params.slow)))
    rule, inside = (adam_update, {"beta1": 0.8, "beta2": 0.95}) if adam else (update, {"momentum": 0.8})
    ours = _ours(rule, lr=0.05, **inside, k=4, alpha=0.3, moments="reset" if reset else "keep")
    assert np.allclose(rows, ours, rtol=1e-10, atol=1e-12)


def _pytorch_optimizer(inner, moments, **inside):
    torch, theirs = pytest.importorskip("torch"), pytest.importorskip("pytorch_optimizer")
    p = torch.nn.Parameter(torch.tensor(START))
    said = {"keep": "none"}.get(moments, moments)
    rule = theirs.Lookahead(getattr(torch.optim, inner)([p], lr=0.05, **inside), k=4, alpha=0.3, pullback_momentum=said)
    rows = []
    for g in GRADIENTS:
        p.grad = torch.tensor(g)
        rule.step()
        rows.append(p.detach().numpy().copy())
    return rows


@pytest.mark.parametrize("moments", ["keep", "reset", "pullback"])
def test_pytorch_optimizer(moments):
    shared = {"lr": 0.05, "k": 4, "alpha": 0.3, "moments": moments}
    ours = [fast for fast, _ in _ours(update, **shared, momentum=0.8)]
    assert np.allclose(_pytorch_optimizer("SGD", moments, momentum=0.8), ours, rtol=1e-10, atol=1e-12)
    found = _pytorch_optimizer("Adam", moments, betas=(0.8, 0.95))
    kept = next(iter(catalog.find("lookahead.adam_update").deviations)).f
    inside = {"beta1": 0.8, "beta2": 0.95}
    assert np.allclose(found, [fast for fast, _ in _ours(kept, **shared, **inside)], rtol=1e-10, atol=1e-12)
    right = np.allclose(found, [fast for fast, _ in _ours(adam_update, **shared, **inside)], rtol=1e-6, atol=1e-6)
    assert right == (moments == "keep")
