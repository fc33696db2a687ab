"""Schedule-free methods against pytorch_optimizer and optax: the point between and the mean, step by step."""

import numpy as np
import pytest

from trref import catalog
from trref.optimizers.schedule_free import adamw_update, init, update

pytestmark = pytest.mark.peer
GRADIENTS = np.random.default_rng(4).standard_normal((25, 3))
START = np.array([1.0, -2.0, 0.5])


def _ours(rule, **hyper):
    params, state, rows = [START], init([START]), []
    for g in GRADIENTS:
        params, state = rule(params, [g], state, **hyper)
        rows.append((params[0], state.x[0]))
    return rows


HYPER = {"lr": 0.05, "weight_decay": 0.1, "warmup_steps": 6, "r": 1.0}
OURS = {"lr": 0.05, "weight_decay": 0.1, "warmup": 6, "step_power": 1.0, "beta": 0.8}


@pytest.mark.parametrize("adamw", [False, True])
def test_pytorch_optimizer(adamw):
    """It has 1e-15 in AdamW's root: with v above 1e-6 at the first gradients, a relative 1e-9 at most."""
    torch, theirs = pytest.importorskip("torch"), pytest.importorskip("pytorch_optimizer")
    p = torch.nn.Parameter(torch.tensor(START))
    if adamw:
        rule, ours = theirs.ScheduleFreeAdamW([p], betas=(0.8, 0.95), eps=1e-3, **HYPER), {"beta2": 0.95, "eps": 1e-3}
    else:
        rule, ours = theirs.ScheduleFreeSGD([p], momentum=0.8, **HYPER), {}
    for g, (y, x) in zip(GRADIENTS, _ours(adamw_update if adamw else update, **OURS, **ours), strict=True):
        rule.train()
        p.grad = torch.tensor(g)
        rule.step()
        assert np.allclose(p.detach().numpy(), y, rtol=1e-8, atol=1e-9)
        rule.eval()
        assert np.allclose(p.detach().numpy(), x, rtol=1e-8, atol=1e-9)


def _optax(rule, **hyper):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with jax.enable_x64(True):
        theirs = getattr(optax.contrib, rule)(0.05, b1=0.8, weight_decay=0.1, **hyper)
        params = jax.numpy.asarray(START)
        state, rows = theirs.init(params), []
        for g in GRADIENTS:
            moves, state = theirs.update(jax.numpy.asarray(g), state, params)
            params = optax.apply_updates(params, moves)
            rows.append((np.asarray(params), np.asarray(optax.contrib.schedule_free_eval_params(state, params))))
    return rows


def test_optax_at_a_constant_rate():
    shared = {"lr": 0.05, "beta": 0.8, "weight_decay": 0.1}
    assert np.allclose(_optax("schedule_free_sgd"), _ours(update, **shared), rtol=1e-10, atol=1e-12)
    found = _optax("schedule_free_adamw", b2=0.95, eps=1e-3)
    assert np.allclose(found, _ours(adamw_update, **shared, beta2=0.95, eps=1e-3), rtol=1e-10, atol=1e-12)


def test_optax_in_a_warm_up_is_behind():
    behind = next(iter(catalog.find("schedule_free.update").deviations)).f
    hyper = {"lr": 0.05, "beta": 0.8, "weight_decay": 0.1, "warmup": 6}
    found = _optax("schedule_free_sgd", warmup_steps=6)
    assert np.allclose(found, _ours(behind, **hyper), rtol=1e-6, atol=1e-7), "its schedule is in single precision"
    assert not np.allclose(found, _ours(update, **hyper), rtol=1e-3, atol=1e-3)
