"""Update rules against optax, and what optax computes instead, step by step in float64."""

import numpy as np
import pytest

from trref import catalog
from trref.optimizers import adam, adan, amsgrad, lion, sgd

optax = pytest.importorskip("optax")
jax = pytest.importorskip("jax")

SHAPES = [(3, 2), (4,), (2, 3, 2)]


def _agree(transformation, rule, init, hyper, *, steps=30):
    """Run both on the same gradients, of changing scale."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(8)
        params = [rng.standard_normal(s) for s in SHAPES]
        theirs = [jax.numpy.asarray(p) for p in params]
        state, their_state = init(params), transformation.init(theirs)
        for step in range(steps):
            gradients = [rng.standard_normal(s) * (0.3, 1.0, 2.0)[step % 3] for s in SHAPES]
            params, state = rule(params, gradients, state, **hyper)
            named = [jax.numpy.asarray(g) for g in gradients]
            updates, their_state = transformation.update(named, their_state, theirs)
            theirs = optax.apply_updates(theirs, updates)
            for ours, p in zip(params, theirs, strict=True):
                assert np.allclose(ours, np.asarray(p), rtol=1e-11, atol=1e-12), step


def _deviation(function, name):
    return next(d.f for d in catalog.find(function).deviations if d.name == name)


RATES = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}
ADAM = {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov):
    hyper = {"lr": 0.05, "momentum": 0.9, "nesterov": nesterov}
    _agree(optax.sgd(0.05, momentum=0.9, nesterov=nesterov), sgd.update, sgd.init, hyper)


def test_adam_and_adamw():
    _agree(optax.adam(0.05, **RATES), adam.update, adam.init, ADAM)
    ours = {**ADAM, "weight_decay": 0.2}
    _agree(optax.adamw(0.05, **RATES, weight_decay=0.2), adam.update, adam.init, ours)


def test_epsilon_inside_the_root():
    inside = optax.adam(0.05, b1=0.8, b2=0.95, eps=0.0, eps_root=1e-3)
    _agree(inside, _deviation("adam.update", "epsilon inside the root"), adam.init, ADAM)


def test_amsgrad_by_default_and_as_in_the_paper():
    _agree(optax.amsgrad(0.05, **RATES), amsgrad.update, amsgrad.init, {**ADAM, "corrected": "moments"})
    bare = optax.chain(
        optax.scale_by_amsgrad(**RATES, bias_correction_mu=False, bias_correction_nu=False), optax.scale(-0.05)
    )
    _agree(bare, amsgrad.update, amsgrad.init, ADAM)


def test_lion():
    ours = {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.3}
    _agree(optax.lion(0.02, b1=0.8, b2=0.95, weight_decay=0.3), lion.update, lion.init, ours)


def test_adan_mixes_the_conventions():
    theirs = optax.chain(optax.scale_by_adan(b1=0.8, b2=0.7, b3=0.9, eps=1e-3), optax.scale(-0.02))
    rule = _deviation("adan.update", "conventions mixed")
    _agree(theirs, rule, adan.init, {"lr": 0.02, "beta1": 0.8, "beta2": 0.7, "beta3": 0.9, "eps": 1e-3})
