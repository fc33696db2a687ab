"""What is known of `trref.optimizers.adan`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.adan import AdanState, init, update


def _direct(params, grads, state, change, factor, corrections, hyper):
    """Adan written out, with the factor before the change and the corrections of choice."""
    b1, b2, b3 = (hyper[f"beta{k}"] for k in (1, 2, 3))
    m, v, n, moved = [], [], [], []
    arrays = (params, grads, change, state.m, state.v, state.n)
    for p, g, d, m_i, v_i, n_i in zip(*arrays, strict=True):
        m.append(b1 * m_i + (1 - b1) * g)
        v.append(b2 * v_i + (1 - b2) * d)
        n.append(b3 * n_i + (1 - b3) * (g + factor * d) ** 2)
        c1, c2, c3 = corrections
        momentum = m[-1] / c1 + factor * v[-1] / c2
        step = hyper["lr"] * momentum / (xp.sqrt(n[-1] / c3) + hyper["eps"])
        decay = hyper["lr"] * hyper["weight_decay"]
        moved.append(
            (p - step) / (1 + decay) if hyper["proximal"] else (1 - decay) * p - step
        )
    return moved, AdanState(state.step + 1, m, v, n, [xp.array(g) for g in grads])


def _conventions_mixed(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.98,
    beta2=0.92,
    beta3=0.99,
    eps=1e-8,
    weight_decay=0.0,
    proximal=True,
):
    hyper = {
        "lr": lr,
        "beta1": beta1,
        "beta2": beta2,
        "beta3": beta3,
        "eps": eps,
        "weight_decay": weight_decay,
        "proximal": proximal,
    }
    t = state.step + 1
    change = [(g - a) * (t > 1) for g, a in zip(grads, state.previous, strict=True)]
    corrections = (1 - beta1**t, 1 - beta2**t, 1 - beta3**t)
    return _direct(params, grads, state, change, 1 - beta2, corrections, hyper)


def _as_in_the_paper(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.98,
    beta2=0.92,
    beta3=0.99,
    eps=1e-8,
    weight_decay=0.0,
    proximal=True,
):
    hyper = {
        "lr": lr,
        "beta1": beta1,
        "beta2": beta2,
        "beta3": beta3,
        "eps": eps,
        "weight_decay": weight_decay,
        "proximal": proximal,
    }
    zeros = [xp.zeros_like(g) for g in grads]
    if state.step == 0:  # averages that begin at the first gradient
        squares = [g * g for g in grads]
        state = state._replace(m=grads, n=squares)
        return _direct(params, grads, state, zeros, beta2, (1, 1, 1), hyper)
    change = [g - a for g, a in zip(grads, state.previous, strict=True)]
    if state.step == 1:  # and at the first change
        state = state._replace(v=change)
    return _direct(params, grads, state, change, beta2, (1, 1, 1), hyper)


ADAN_CONVENTIONS_MIXED = Deviation(
    "conventions mixed",
    _conventions_mixed,
    seen_in="optax 0.2.8, optax/_src/transform.py, scale_by_adan",
    computes="1 - beta2 for the factor before the change of the gradient, where it is beta2",
)
ADAN_UNCORRECTED = Deviation(
    "begun at the first gradient",
    _as_in_the_paper,
    seen_in="the paper's Algorithm 1, as quoted in optax's documentation",
    computes="averages that begin at the first gradient and the first change, and no corrections",
    documented=True,
)

METHOD = Method(
    key="xie2022adan",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "no decay": {
                    "lr": 0.02,
                    "beta1": 0.8,
                    "beta2": 0.7,
                    "beta3": 0.9,
                    "eps": 1e-3,
                },
                "proximal decay": {"lr": 0.05, "weight_decay": 0.3, "proximal": True},
                "probe": {
                    "lr": 0.05,
                    "beta1": 0.8,
                    "beta2": 0.7,
                    "beta3": 0.9,
                    "eps": 1e-3,
                    "weight_decay": 0.2,
                    "proximal": False,
                },
            },
            limits=(
                Limit(
                    "adam.update",
                    {"lr": 0.02, "beta1": 0.8, "beta2": 0.0, "beta3": 0.95},
                    {"lr": 0.02, "beta1": 0.8, "beta2": 0.95},
                ),
                Limit(
                    "adam.update",
                    {
                        "lr": 0.02,
                        "beta1": 0.8,
                        "beta2": 0.0,
                        "beta3": 0.95,
                        "weight_decay": 0.3,
                        "proximal": False,
                    },
                    {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.3},
                ),
            ),
            deviations=(ADAN_CONVENTIONS_MIXED, ADAN_UNCORRECTED),
        ),
    ),
)
