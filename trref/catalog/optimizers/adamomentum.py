"""What is known of `trref.optimizers.adamomentum`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.adamomentum import init, update


def _coupled(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.0,
):
    added = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    return update(params, added, state, lr=lr, beta1=beta1, beta2=beta2, eps=eps)


def _one_line_of_adam(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.0,
):
    t, kept = state.step + 1, 1 - lr * weight_decay
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)]
    v = [beta2 * b + (1 - beta2) * a * a for b, a in zip(state.v, m, strict=True)]
    moved = [
        kept * p - lr * a / (1 - beta1**t) / (xp.sqrt(b / (1 - beta2**t)) + eps)
        for p, a, b in zip(params, m, v, strict=True)
    ]
    return moved, type(state)(t, m, v)


def _corrected_first(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.0,
):
    t, kept = state.step + 1, 1 - lr * weight_decay
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)]
    m_hat = [a / (1 - beta1**t) for a in m]
    v = [
        beta2 * b + (1 - beta2) * a * a + eps
        for b, a in zip(state.v, m_hat, strict=True)
    ]
    moved = [
        kept * p - lr * a / xp.sqrt(b / (1 - beta2**t))
        for p, a, b in zip(params, m_hat, v, strict=True)
    ]
    return moved, type(state)(t, m, v)


ADAMOMENTUM_COUPLED = Deviation(
    "coupled decay",
    _coupled,
    seen_in="lavish619/AdaMomentum-Optimizer-Experiments, utils/optimizer.py (0e807b8)",
    computes="the decay added to the gradient, and so through both averages",
)
ADAMOMENTUM_EPS_IN_DENOMINATOR = Deviation(
    "Adam's epsilon",
    _one_line_of_adam,
    seen_in="what changing one line of Adam gives; not seen in public code",
    computes="epsilon added to the root at the end, not to the second average at every step",
)
ADAMOMENTUM_CORRECTED_M = Deviation(
    "first average corrected before it is squared",
    _corrected_first,
    seen_in="a plausible mistake; not seen in public code",
    computes="a second average of the corrected first one, so that the first steps are Adam's",
)


# epsilons so small that it does not matter where they are added
_SHARED = {"lr": 0.02, "beta1": 0.0, "beta2": 0.95}

METHOD = Method(
    key="wang2021rethinking",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "no momentum": {"beta1": 0.0},
                "no decay": {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3},
                "probe": {
                    "lr": 0.05,
                    "beta1": 0.8,
                    "beta2": 0.95,
                    "eps": 1e-3,
                    "weight_decay": 0.2,
                },
            },
            limits=(
                Limit(
                    "adam.update",
                    {**_SHARED, "eps": 1e-60},
                    {**_SHARED, "eps": 1e-60},
                ),
            ),
            deviations=(
                ADAMOMENTUM_COUPLED,
                ADAMOMENTUM_EPS_IN_DENOMINATOR,
                ADAMOMENTUM_CORRECTED_M,
            ),
        ),
    ),
)
