"""What is known of `trref.optimizers.induced_metric`."""

import dataclasses

from trref.backend import xp
from trref.catalog import Estimator, Interface, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.induced_metric import (
    init,
    log_step,
    natural_step,
    update,
    update_log,
    update_rms,
)


def _with_losses(inputs):
    losses = [xp.asarray(0.1 * 3.0**k) for k in range(len(inputs["gradients"]))]
    return {**inputs, "losses": losses}


WITH_LOSSES = dataclasses.replace(
    UPDATE,
    name="update_rule_with_losses",
    example=lambda rng, size: _with_losses(UPDATE.example(rng, size)),
    edges={
        name: (lambda make=make: _with_losses(make()))
        for name, make in UPDATE.edges.items()
    },
)
"""``update(params, grads, state, *, loss, …)``: with the loss of each step's batch."""


def _losses_of_one(inputs):
    """All losses are one"""
    plain = {name: inputs[name] for name in ("params", "gradients")}
    return {**inputs, "losses": [xp.ones_like(a) for a in inputs["losses"]]}, plain


def _gradients(rng, size):
    return {
        "g": rng.choice((0.1, 5.0)) * rng.standard_normal(size),
        "base": 10.0 ** rng.uniform(-1, 1, size),
        "loss": xp.asarray(10.0 ** rng.uniform(-1, 1)),
    }


def _one(g, base, loss):
    return lambda: {"g": xp.array(g), "base": xp.array(base), "loss": xp.asarray(loss)}


GRADIENT = Interface(
    "gradient_and_loss",
    example=_gradients,
    edges={
        "zero": _one([0.0, 0.0], [1.0, 2.0], 0.5),
        "one parameter": _one([-3.0], [0.5], 2.0),
        "from the identity": lambda: {
            "g": xp.array([1.0, -2.0, 3.0]),
            "base": None,
            "loss": xp.asarray(0.4),
        },
        "very steep": _one([30.0, -40.0], [1.0, 1.0], 0.1),
    },
)


def _dense(g, base=None, *, xi=0.1):
    """The metric as a matrix, inverted."""
    G = xp.eye(len(g)) if base is None else xp.diag(base)
    return xp.linalg.solve(G + xi * xp.outer(g, g), g)


def _dense_log(g, loss, *, xi=0.1):
    return _dense(g / loss, xi=xi)


SETTINGS = {
    "default": {},
    "without averages": {"momentum": 0.0, "beta": 0.0, "xi": 1.0},
    "probe": {
        "lr": 0.05,
        "momentum": 0.6,
        "xi": 0.3,
        "beta": 0.7,
        "weight_decay": 0.2,
    },
}

METHOD = Method(
    key="harvey2025optimiser",
    provenance={
        "confirmed": ("average", "step", "log-scale", "rms"),
        "reconstructed": ("metric", "base", "log"),
    },
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings=SETTINGS,
            limits=(
                Limit(
                    "sgd.update",
                    {"xi": 0.0, "momentum": 0.8, "lr": 0.05},
                    {"averaging": "debiased_ema", "momentum": 0.8, "lr": 0.05},
                ),
            ),
        ),
        UpdateRule(
            f=update_log,
            interface=WITH_LOSSES,
            init=init,
            step_inputs={"loss": "losses"},
            settings=SETTINGS,
            limits=(
                Limit("induced_metric.update", {}, {}, where=_losses_of_one),
                Limit(
                    "sgd.update",
                    {"xi": 0.0, "momentum": 0.8, "lr": 0.05},
                    {"averaging": "debiased_ema", "momentum": 0.8, "lr": 0.05},
                    where=_losses_of_one,
                ),
            ),
        ),
        UpdateRule(
            f=update_rms,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "without averages": {"momentum": 0.0, "beta": 0.0, "xi": 1.0},
                "probe": {
                    "lr": 0.05,
                    "momentum": 0.6,
                    "xi": 0.3,
                    "beta": 0.7,
                    "beta2": 0.95,
                    "eps": 1e-3,
                    "weight_decay": 0.2,
                },
            },
            limits=(
                Limit(
                    "adam.update",
                    {"xi": 0.0, "momentum": 0.8, "beta2": 0.95, "lr": 0.05},
                    {"beta1": 0.8, "beta2": 0.95, "lr": 0.05},
                ),
            ),
        ),
        Estimator(
            f=natural_step,
            interface=GRADIENT,
            settings={"default": {}, "probe": {"xi": 0.7}},
            brute_force=_dense,
        ),
        Estimator(
            f=log_step,
            interface=GRADIENT,
            settings={"default": {}, "probe": {"xi": 0.7}},
            brute_force=_dense_log,
        ),
    ),
)
