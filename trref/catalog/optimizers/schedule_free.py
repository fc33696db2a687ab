"""What is known of `trref.optimizers.schedule_free`."""

import dataclasses

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.schedule_free import (
    adamw_update,
    init,
    recover_mean,
    update,
)


def _rate_of_the_step_before(
    params,
    grads,
    state,
    *,
    lr=1.0,
    beta=0.9,
    weight_decay=0.0,
    warmup=0,
    step_power=0.0,
    rate_power=2.0,
):
    """The step is as much shorter as its rate is; the weights are as they were."""
    t = state.step + 1
    behind = min(1, (t - 1) / warmup) / min(1, t / warmup) if warmup else 1
    pairs = zip(params, grads, strict=True)
    return update(
        params,
        [behind * (g + weight_decay * p) for p, g in pairs],
        state,
        lr=lr,
        beta=beta,
        warmup=warmup,
        step_power=step_power,
        rate_power=rate_power,
    )


SCHEDULE_FREE_BEHIND = Deviation(
    "the rate of the step before",
    _rate_of_the_step_before,
    seen_in="optax 0.2.8, contrib/_schedule_free.py, with warmup_steps",
    computes="in the warm-up a step with the rate before, the first of length 0, and the weight of the rate now",
)


def _alternating():
    """From 0.7, so that no mean of the fast sequence is 0 up to rounding."""
    gradients = [[xp.array([1.0])], [xp.array([-1.0])]] * 3
    return {"params": [xp.array([0.7])], "gradients": gradients}


SEQUENCES = dataclasses.replace(
    UPDATE, edges={**UPDATE.edges, "alternating signs": _alternating}
)


def _example(rng, size):
    return {"y": rng.standard_normal(size), "z": 2 + rng.standard_normal(size)}


def _mean_by_loops(y, z, *, beta=0.9):
    pairs = zip(y.tolist(), z.tolist(), strict=True)
    return xp.asarray([(a - (1 - beta) * b) / beta for a, b in pairs])


_SLOW = {"lr": 0.05, "weight_decay": 0.3}
_ADAM = {"lr": 0.02, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.2}

METHOD = Method(
    key="defazio2024road",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=SEQUENCES,
            init=init,
            settings={
                "default": {},
                "slow": {"lr": 0.05},
                "at the fast sequence": {"lr": 0.05, "beta": 0.0},
                "all weights equal": {"lr": 0.05, "warmup": 4, "rate_power": 0.0},
                "at the mean": {"lr": 0.05, "beta": 1.0},
                "warm-up": {"lr": 0.1, "warmup": 4},
                "long warm-up": {"lr": 0.1, "warmup": 50, "rate_power": 1.0},
                "probe": {
                    "lr": 0.07,
                    "beta": 0.7,
                    "weight_decay": 0.3,
                    "warmup": 3,
                    "step_power": 1.5,
                    "rate_power": 0.6,
                },
            },
            limits=(Limit("sgd.update", {**_SLOW, "beta": 0.0}, _SLOW),),
            deviations=(SCHEDULE_FREE_BEHIND,),
        ),
        UpdateRule(
            f=adamw_update,
            interface=SEQUENCES,
            init=init,
            settings={
                "default": {},
                "warm-up and decay": {"weight_decay": 0.1, "warmup": 4},
                "probe": {
                    "lr": 0.07,
                    "beta": 0.7,
                    "beta2": 0.8,
                    "eps": 1e-3,
                    "weight_decay": 0.3,
                    "warmup": 3,
                    "step_power": 1.5,
                    "rate_power": 0.6,
                },
            },
            limits=(
                Limit("adam.update", {**_ADAM, "beta": 0.0}, {**_ADAM, "beta1": 0.0}),
            ),
        ),
        Estimator(
            f=recover_mean,
            example=_example,
            edges={
                "one point": lambda: {"y": xp.array([2.0]), "z": xp.array([2.0])},
                "zero and large": lambda: {
                    "y": xp.array([0.0, 1e6]),
                    "z": xp.array([3.0, -1e6]),
                },
            },
            settings={"default": {}, "probe": {"beta": 0.4}},
            brute_force=_mean_by_loops,
        ),
    ),
)
