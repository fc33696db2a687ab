"""What is known of `trref.optimizers.lion`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.lion import init, update


def _two_signs(
    params, grads, state, *, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0
):
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
    moved, after = update(params, grads, state, **hyper)
    mixtures = [
        beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)
    ]
    drifted = [
        p + lr * xp.where(c == 0, 1.0, 0.0)
        for p, c in zip(moved, mixtures, strict=True)
    ]
    return drifted, after


def _average_first(
    params, grads, state, *, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0
):
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
    _, after = update(params, grads, state, **hyper)
    moved, _ = update(params, grads, after, **hyper)
    return moved, after


def _signum(params, grads, state, *, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """The mixture with the slow rate is the average itself."""
    hyper = {"lr": lr, "beta2": beta2, "weight_decay": weight_decay}
    return update(params, grads, state, beta1=beta2, **hyper)


def _fixed_decay(
    params, grads, state, *, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0
):
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2}
    return update(params, grads, state, **hyper, weight_decay=weight_decay / lr)


LION_TWO_SIGNS = Deviation(
    "a sign with two values",
    _two_signs,
    seen_in="DeepSpeed, csrc/lion/multi_tensor_lion.cu (023aa62)",
    computes="a step of plus the rate where the mixture is zero",
)
LION_AVERAGE_FIRST = Deviation(
    "average first",
    _average_first,
    seen_in="a plausible order; not seen in public code",
    computes="the sign of a mixture with the average of today, not of yesterday",
)
LION_SIGNUM = Deviation(
    "sign of the average",
    _signum,
    seen_in="signum, another method",
    computes="the sign of the slow average alone",
    documented=True,
)
LION_FIXED_DECAY = Deviation(
    "decay without the rate",
    _fixed_decay,
    seen_in="pytorch_optimizer 4.1, optimizer/lion.py with fixed_decay=True",
    computes="weights that shrink by 1 - weight_decay a step, not by 1 - lr · weight_decay",
    documented=True,
)

METHOD = Method(
    key="chen2023symbolic",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "sign of the gradient": {"beta1": 0.0},
                "no decay": {"lr": 0.02, "beta1": 0.8, "beta2": 0.95},
                "probe": {
                    "lr": 0.02,
                    "beta1": 0.8,
                    "beta2": 0.95,
                    "weight_decay": 0.3,
                },
            },
            limits=(
                Limit(
                    "adam.update",
                    {"lr": 0.02, "beta1": 0.0, "beta2": 0.0, "weight_decay": 0.3},
                    {
                        "lr": 0.02,
                        "beta1": 0.0,
                        "beta2": 0.0,
                        "eps": 1e-200,
                        "weight_decay": 0.3,
                    },
                ),
            ),
            deviations=(
                LION_TWO_SIGNS,
                LION_AVERAGE_FIRST,
                LION_SIGNUM,
                LION_FIXED_DECAY,
            ),
        ),
    ),
)
