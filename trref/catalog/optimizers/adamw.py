"""What is known of `trref.optimizers.adamw`."""

from trref.catalog import Deviation, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers import adam
from trref.optimizers.adamw import init, update


def _as_programs_have_it(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=1e-5,
    schedule=1.0,
):
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
    decay = lr * weight_decay
    return update(params, grads, state, **hyper, weight_decay=decay, schedule=schedule)


def _schedule_outside(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=1e-5,
    schedule=1.0,
):
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
    moved, after = update(
        params, grads, state, **hyper, weight_decay=0.0, schedule=schedule
    )
    pairs = zip(moved, params, strict=True)
    return [q - weight_decay * p for q, p in pairs], after


def _penalty(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=1e-5,
    schedule=1.0,
):
    hyper = {"beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
    rate = {"lr": lr * schedule} if schedule else {"lr": 1e-300}
    return adam.update(
        params, grads, state, **hyper, **rate, decoupled_weight_decay=False
    )


DEVIATIONS = (
    Deviation(
        "the rate in the decay",
        _as_programs_have_it,
        seen_in="PyTorch 2.13, optim/adamw.py; optax 0.2.8, adamw; Keras 3.15, AdamW",
        computes="weights that shrink by lr · weight_decay, times the schedule",
        documented=True,
    ),
    Deviation(
        "a decay without the schedule",
        _schedule_outside,
        seen_in="TensorFlow Addons, DecoupledWeightDecayExtension; pytorch_optimizer 4.1, fixed_decay=True",
        computes="weights that shrink by weight_decay, whatever rate and schedule are",
        documented=True,
    ),
    Deviation(
        "a penalty",
        _penalty,
        seen_in="PyTorch 2.13, optim/adam.py, weight_decay of Adam",
        computes="the weights added to the gradient, before the moments",
        documented=True,
    ),
)

RATES = {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}

METHOD = Method(
    key="loshchilov2017decoupled",
    provenance="partly",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "no decay": {"weight_decay": 0.0},
                "the end of a schedule": {**RATES, "schedule": 0.0},
                "probe": {**RATES, "weight_decay": 0.2, "schedule": 0.6},
            },
            limits=(
                Limit(
                    "adam.update",
                    {**RATES, "weight_decay": 0.02},
                    {**RATES, "weight_decay": 0.4},
                ),
                Limit("adam.update", {**RATES, "weight_decay": 0.0}, RATES),
            ),
            deviations=DEVIATIONS,
        ),
    ),
)
