"""What is known of `trref.optimizers.oasis`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.catalog.sharpness.interfaces import PERTURBED_GRADIENT
from trref.optimizers.oasis import (
    adaptive_rate,
    fixed_update,
    hutchinson_diagonal,
    init,
    truncate,
    update,
)


def _with_curvature(inputs, scale=1.0):
    """Estimates of both signs, some below the floor."""
    curvatures = [
        [
            scale * (1.5 + xp.sin(3 * k + 5.0 * p)) * xp.cos(p + k)
            for p in inputs["params"]
        ]
        for k in range(len(inputs["gradients"]))
    ]
    return {**inputs, "curvatures": curvatures}


def _example(rng, size):
    return _with_curvature(UPDATE.example(rng, size), rng.choice((0.3, 5.0)))


def _edge(make):
    return lambda: _with_curvature(make())


SCALED_UPDATE = Interface(
    "scaled_update",
    example=_example,
    edges={
        **{name: _edge(make) for name, make in UPDATE.edges.items()},
        "no curvature": lambda: _with_curvature(
            UPDATE.edges["alternating signs"](), 0.0
        ),
        "a minimum that is reached": lambda: {
            "params": [xp.array([1.0])],
            "gradients": [[xp.array([g])] for g in (1.0, 0.25, 0.0, 0.0)],
            "curvatures": [[xp.array([2.0])]] * 4,
        },
    },
)
"""``update(params, grads, state, *, curvature, …)``: with an estimate of the Hessian's diagonal at each step."""


def _modulus_stored(
    params, grads, state, *, curvature, lr=1e-3, beta2=0.999, alpha=1e-5
):
    how = {"curvature": curvature, "lr": lr, "beta2": beta2, "alpha": alpha}
    params, state = update(params, grads, state, **how)
    return params, state._replace(D=[abs(d) for d in state.D])


def _rate_fixed(params, grads, state, *, curvature, lr=1e-3, beta2=0.999, alpha=1e-5):
    how = {"curvature": curvature, "lr": lr, "beta2": beta2, "alpha": alpha}
    return fixed_update(params, grads, state, momentum=0.0, **how)


OASIS_MODULUS_STORED = Deviation(
    "modulus stored",
    _modulus_stored,
    seen_in="a public NumPy implementation for logistic regression, update_diag",
    computes="an average of which the modulus is kept: signs of later estimates do not cancel those before",
)
OASIS_FIXED_RATE = Deviation(
    "rate fixed",
    _rate_fixed,
    seen_in="a public PyTorch class named OASIS",
    computes="every step at the rate of the first one",
)


def _signs(rng, size):
    inputs = PERTURBED_GRADIENT.example(rng, size)
    rows = 1 + size % 3
    return inputs | {"z": rng.choice((-1.0, 1.0), (rows, inputs["theta"].size))}


def _all_up(make):
    def with_signs():
        inputs = make()
        return inputs | {"z": xp.ones((2, len(inputs["theta"])))}

    return with_signs


def _by_dense_hessian(loss_and_grad, theta, z):
    """From the Hessian itself, column by column, and loops over its entries."""
    eye = xp.eye(len(theta))
    H = xp.stack([loss_and_grad.hessian_product(theta, e) for e in eye]).tolist()
    rows = z.tolist()
    entries = [
        math.fsum(r[i] * H[j][i] * r[j] for r in rows for j in range(len(H)))
        / len(rows)
        for i in range(len(H))
    ]
    return xp.asarray(entries)


def _moves(rng, size):
    scale = 10.0 ** rng.uniform(-3, 3, size)
    move = rng.choice((1e-3, 1.0)) * rng.standard_normal(size)
    return {"move": move, "change": scale * move * rng.random(size), "scale": scale}


def _three(move, change):
    return lambda: {
        "move": xp.array(move),
        "change": xp.array(change),
        "scale": xp.array([0.5, 2.0, 8.0]),
    }


def _rate_by_loops(move, change, scale, *, lr=1e-3, growth=None):
    triples = list(zip(move.tolist(), change.tolist(), scale.tolist(), strict=True))
    moved = math.fsum(s * m * m for m, _, s in triples)
    changed = math.fsum(c * c / s for _, c, s in triples)
    if not moved or not changed:
        return xp.asarray(lr)
    largest = math.inf if growth is None else lr * math.sqrt(1 + growth)
    return xp.asarray(min(largest, math.sqrt(moved / changed) / 2))


def _without_curvature(inputs):
    """There is no curvature"""
    plain = {name: inputs[name] for name in ("params", "gradients")}
    zero = [[0 * c for c in each] for each in inputs["curvatures"]]
    return {**inputs, "curvatures": zero}, plain


METHOD = Method(
    key="jahani2021doubly",
    provenance={
        "confirmed": ("hutchinson", "truncate", "rate", "step"),
        "partly": ("average",),
        "reconstructed": ("fixed",),
    },
    functions=(
        UpdateRule(
            f=update,
            interface=SCALED_UPDATE,
            init=init,
            step_inputs={"curvature": "curvatures"},
            settings={
                "default": {},
                "large steps": {"lr": 0.05, "beta2": 0.9, "alpha": 0.1},
                "probe": {"lr": 0.03, "beta2": 0.6, "alpha": 0.2},
            },
            deviations=(OASIS_MODULUS_STORED, OASIS_FIXED_RATE),
        ),
        UpdateRule(
            f=fixed_update,
            interface=SCALED_UPDATE,
            init=init,
            step_inputs={"curvature": "curvatures"},
            settings={
                "default": {},
                "without momentum": {"momentum": 0.0, "alpha": 0.1},
                "probe": {
                    "lr": 0.03,
                    "momentum": 0.8,
                    "beta2": 0.6,
                    "alpha": 0.2,
                    "weight_decay": 0.3,
                },
            },
            limits=(
                Limit(
                    "sgd.update",
                    {"lr": 0.05, "momentum": 0.8, "alpha": 1.0, "weight_decay": 0.2},
                    {
                        "lr": 0.05,
                        "momentum": 0.8,
                        "averaging": "ema",
                        "weight_decay": 0.2,
                        "decoupled_weight_decay": True,
                    },
                    where=_without_curvature,
                ),
            ),
        ),
        Estimator(
            f=hutchinson_diagonal,
            example=_signs,
            edges={n: _all_up(make) for n, make in PERTURBED_GRADIENT.edges.items()},
            brute_force=_by_dense_hessian,
        ),
        Estimator(
            f=truncate,
            example=lambda rng, size: {"D": rng.standard_normal(size)},
            edges={"zero": lambda: {"D": xp.zeros(2)}},
            settings={"default": {}, "probe": {"alpha": 0.7}},
            brute_force=lambda D, *, alpha=1e-5: xp.asarray(
                [max(abs(d), alpha) for d in D.tolist()]
            ),
        ),
        Estimator(
            f=adaptive_rate,
            example=_moves,
            edges={
                "nothing moved": _three([0.0, 0.0, 0.0], [1.0, 0.0, 2.0]),
                "the gradient is the same": _three([1.0, -2.0, 0.5], [0.0, 0.0, 0.0]),
                "a steep turn": _three([1e-3, 0.0, 0.0], [1e3, -1e3, 2.0]),
            },
            settings={
                "default": {},
                "slow growth": {"lr": 0.3, "growth": 0.5},
                "probe": {"lr": 0.03, "growth": 2.5},
            },
            brute_force=_rate_by_loops,
        ),
    ),
)
