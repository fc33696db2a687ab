"""What is known of `trref.optimizers.adamp`."""

import math

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Transform,
    UpdateRule,
)
from trref.optimizers.adamp import (
    init,
    largest_cosine,
    project_radial,
    project_radial_jvp,
    project_radial_vjp,
    sgdp_update,
    update,
)

# ---- examples: weights with gradients across them, a row each, as a whole, or not at all


def _across(w, g):
    """The gradient without its part along the weights, row by row."""
    return g - w * ((w * g).sum(-1) / (w * w).sum(-1))[..., None]


def _example(rng, size, steps=6):
    shapes = [(size, 3), (3, size), (size,), (2, 2, size)]
    params = [rng.standard_normal(s) for s in shapes]
    gradients = []
    for k in range(steps):
        scale = (0.05, 0.4, 1.5)[k % 3]
        by_rows, whole, vector, any_ = (scale * rng.standard_normal(s) for s in shapes)
        gradients.append(
            [
                _across(params[0], by_rows),
                _across(params[1].ravel(), whole.ravel()).reshape(3, size),
                vector,
                any_,
            ]
        )
    return {"params": params, "gradients": gradients}


def _one_step(w, g):
    return {"params": [xp.array(w)], "gradients": [[xp.array(g)]] * 3}


SCALE_INVARIANT = Interface(
    "scale_invariant_update",
    example=_example,
    edges={
        "zero gradients": lambda: _one_step([[1.0, -2.0]], [[0.0, 0.0]]),
        "zero weights": lambda: _one_step([[0.0, 0.0]], [[1.0, 2.0]]),
        "one parameter": lambda: _one_step([[2.0]], [[1.0]]),
        "along the weights": lambda: _one_step([[3.0, 4.0]], [[0.3, 0.4]]),
        "across the weights": lambda: _one_step([[3.0, 4.0]], [[-0.4, 0.3]]),
        "one row along": lambda: _one_step(
            [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.0], [0.0, -0.5]]
        ),
    },
)


def _rows(rng, size):
    w = rng.standard_normal((2 + size % 3, size))
    return {
        "w": w,
        "g": rng.choice((0.1, 5.0)) * rng.standard_normal(w.shape),
        "p": rng.choice((0.1, 5.0)) * rng.standard_normal(w.shape),
    }


ROWS = Interface(
    "weight_rows",
    example=_rows,
    edges={
        "zero": lambda: {
            "w": xp.zeros((2, 3)),
            "g": xp.zeros((2, 3)),
            "p": xp.ones((2, 3)),
        },
        "parallel": lambda: {
            "w": xp.array([[1.0, 2.0]]),
            "g": xp.array([[-2.0, -4.0]]),
            "p": xp.array([[0.5, -1.0]]),
        },
        "one row": lambda: {
            "w": xp.array([[2.0, 0.0, 1.0]]),
            "g": xp.array([[-1.0, 1.0, 0.0]]),
            "p": xp.array([[3.0, 0.5, -1.0]]),
        },
    },
)


def _cosines_one_by_one(w, g, *, eps=1e-8):
    largest = 0.0
    for a, b in zip(w.tolist(), g.tolist(), strict=True):
        inner = sum(x * y for x, y in zip(a, b, strict=True))
        norms = (max(math.hypot(*a), eps), max(math.hypot(*b), eps))
        largest = max(largest, abs(inner) / (norms[0] * norms[1]))
    return xp.asarray(largest)


# ---- what public code computes instead


def _momentum_projected(
    params,
    grads,
    state,
    *,
    lr=0.1,
    momentum=0.0,
    eps=1e-8,
    weight_decay=0.0,
    threshold=0.1,
    decay_ratio=0.1,
    nesterov=False,
):
    hyper = {
        "lr": lr,
        "momentum": momentum,
        "eps": eps,
        "threshold": threshold,
        "decay_ratio": decay_ratio,
        "nesterov": nesterov,
    }
    moved, after = sgdp_update(params, grads, state, **hyper, weight_decay=weight_decay)
    if nesterov:
        return moved, after
    bare, _ = sgdp_update(params, grads, state, **hyper)
    steps = [(p - q) / lr for p, q in zip(params, bare, strict=True)]
    return moved, after._replace(m=steps)


def _epsilon_hat(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    threshold=0.1,
    decay_ratio=0.1,
    nesterov=False,
):
    """With the second moments for which the published root is this one: the projection keeps its own epsilon."""
    hyper = {
        "lr": lr,
        "beta1": beta1,
        "beta2": beta2,
        "eps": eps,
        "weight_decay": weight_decay,
        "threshold": threshold,
        "decay_ratio": decay_ratio,
        "nesterov": nesterov,
    }
    root, v, before = (1 - beta2 ** (state.step + 1)) ** 0.5, [], []
    for a, g in zip(state.v, grads, strict=True):
        v.append(beta2 * a + (1 - beta2) * g * g)
        wanted = (xp.sqrt(v[-1]) + eps * (1 - root)) ** 2
        before.append((wanted - (1 - beta2) * g * g) / beta2)
    moved, after = update(params, grads, state._replace(v=before), **hyper)
    return moved, after._replace(v=v)


SGDP_MOMENTUM_PROJECTED = Deviation(
    "momentum projected",
    _momentum_projected,
    seen_in="clovaai/AdamP, adamp/sgdp.py (146287b), without Nesterov's form",
    computes="a momentum that loses its radial part, too: the projection is done in place",
)
ADAMP_EPSILON_HAT = Deviation(
    "epsilon hat",
    _epsilon_hat,
    seen_in="pytorch_optimizer 4.1, optimizer/adamp.py",
    computes="epsilon added to the root of the uncorrected second moment",
)


METHOD = Method(
    key="heo2020adamp",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=SCALE_INVARIANT,
            init=init,
            settings={
                "default": {},
                "Nesterov": {"lr": 0.01, "nesterov": True},
                "decay": {"lr": 0.01, "weight_decay": 0.3},
                "never": {"lr": 0.02, "threshold": 0.0, "weight_decay": 0.3},
                "probe": {
                    "lr": 0.05,
                    "beta1": 0.8,
                    "beta2": 0.95,
                    "eps": 1e-3,
                    "weight_decay": 0.2,
                    "threshold": 3.0,
                    "decay_ratio": 0.3,
                    "nesterov": True,
                },
            },
            limits=(
                Limit(
                    "adam.update",
                    {"lr": 0.02, "threshold": 0.0, "weight_decay": 0.3},
                    {"lr": 0.02, "weight_decay": 0.3},
                ),
            ),
            deviations=(ADAMP_EPSILON_HAT,),
        ),
        UpdateRule(
            f=sgdp_update,
            interface=SCALE_INVARIANT,
            init=init,
            settings={
                "default": {},
                "momentum": {"lr": 0.02, "momentum": 0.8},
                "Nesterov": {"lr": 0.02, "momentum": 0.8, "nesterov": True},
                "always": {"lr": 0.02, "momentum": 0.8, "threshold": 9.0},
                "probe": {
                    "lr": 0.05,
                    "momentum": 0.6,
                    "eps": 1e-3,
                    "weight_decay": 0.2,
                    "threshold": 3.0,
                    "decay_ratio": 0.3,
                    "nesterov": True,
                },
            },
            limits=(
                Limit(
                    "sgd.update",
                    {
                        "lr": 0.02,
                        "momentum": 0.75,
                        "threshold": 0.0,
                        "weight_decay": 0.3,
                    },
                    {"lr": 0.02, "momentum": 0.75, "weight_decay": 1.2},
                ),
            ),
            deviations=(SGDP_MOMENTUM_PROJECTED,),
        ),
        Transform(
            f=project_radial,
            interface=ROWS,
            wrt="p",
            jvp=project_radial_jvp,
            vjp=project_radial_vjp,
            settings={"default": {}, "probe": {"eps": 0.3}},
        ),
        Estimator(
            f=largest_cosine,
            interface=ROWS,
            settings={"default": {}, "probe": {"eps": 0.3}},
            brute_force=_cosines_one_by_one,
        ),
    ),
)
