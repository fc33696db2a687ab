"""What is known of `trref.optimizers.soap`."""

from trref.backend import xp
from trref.catalog import Deviation, Interface, Method, UpdateRule
from trref.optimizers.soap import init, turned, update


def _sequence(params, gradients):
    return {"params": params, "gradients": gradients}


def _example(rng, size, steps=6):
    """Small matrices whose sides have full rank, so that their bases are unique, and a vector."""
    n = int(rng.integers(2, 4))
    shapes = [(n, n), (n + 1, n), (2, n), (size,)]
    scale = float(rng.choice((0.05, 1.5)))
    return _sequence(
        [rng.standard_normal(s) for s in shapes],
        [[scale * rng.standard_normal(s) for s in shapes] for _ in range(steps)],
    )


def _matrices(*rows):
    return [xp.array(r) for r in rows]


BASES = Interface(
    "soap_update",
    example=_example,
    edges={
        "zero gradients": lambda: _sequence(
            [xp.array([[1.0, -2.0], [0.5, 3.0]])], [[xp.zeros((2, 2))]] * 3
        ),
        "the order of the basis changes": lambda: _sequence(
            [xp.zeros((2, 2))],
            [
                _matrices([[2.0, 0.1], [0.0, 0.5]]),
                _matrices([[0.1, 0.2], [0.3, 9.0]]),
                _matrices([[0.2, -0.1], [0.5, 7.0]]),
                _matrices([[1.0, 0.5], [-0.4, 2.0]]),
            ],
        ),
        "one number, and a column": lambda: _sequence(
            [xp.array([[0.5]]), xp.array([1.0, 2.0, -1.0])],
            [[xp.array([[g]]), xp.array([g, -1.0, 0.5])] for g in (1.0, -0.3, 2.0)],
        ),
    },
)


# ---- deviations


def _in_today_s_basis(
    params,
    grads,
    state,
    *,
    lr=3e-3,
    beta1=0.95,
    beta2=0.95,
    shampoo_beta=0.95,
    eps=1e-8,
    weight_decay=0.01,
    every=10,
    max_dim=10000,
):
    """The first call makes the bases and steps in them."""
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "shampoo_beta": shampoo_beta}
    hyper |= {"eps": eps, "weight_decay": weight_decay, "every": every}
    hyper |= {"max_dim": max_dim}
    if state.calls == 0:
        params, state = update(params, grads, state, **hyper)
    return update(params, grads, state, **hyper)


def _old_order(
    params,
    grads,
    state,
    *,
    lr=3e-3,
    beta1=0.95,
    beta2=0.95,
    shampoo_beta=0.95,
    eps=1e-8,
    weight_decay=0.01,
    every=10,
    max_dim=10000,
):
    """The second moment stays where it is when the basis is put in order."""
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "shampoo_beta": shampoo_beta}
    hyper |= {"eps": eps, "weight_decay": weight_decay, "every": every}
    params, after = update(params, grads, state, **hyper, max_dim=max_dim)
    if state.calls == 0:
        return params, after
    views = [turned(G, Q) for G, Q in zip(grads, state.bases, strict=True)]
    v = [beta2 * b + (1 - beta2) * G * G for b, G in zip(state.v, views, strict=True)]
    return params, after._replace(v=v)


DEVIATIONS = (
    Deviation(
        "a first step in today's basis",
        _in_today_s_basis,
        seen_in="NVIDIA-NeMo/Emerging-Optimizers before PR 68",
        computes="a step at the first call, in the basis of its own gradient",
    ),
    Deviation(
        "the second moment in its old order",
        _old_order,
        seen_in="NVIDIA-NeMo/Emerging-Optimizers, review of PR 266",
        computes="a second moment that is not put in order with the basis",
    ),
)

RATES = {"lr": 0.05, "beta1": 0.8, "beta2": 0.7, "eps": 1e-3, "every": 1}

METHOD = Method(
    key="vyas2024soap",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=BASES,
            init=init,
            settings={
                "default": {},
                "every step": {**RATES, "weight_decay": 0.0},
                "no basis": {**RATES, "max_dim": 1},
                "probe": {
                    **RATES,
                    "shampoo_beta": 0.6,
                    "weight_decay": 0.2,
                    "every": 2,
                    "max_dim": 3,
                },
            },
            deviations=DEVIATIONS,
            sizes=(4, 8),
        ),
    ),
)
