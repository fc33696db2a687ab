"""What is known of `trref.optimizers.shampoo`."""

from trref.backend import xp
from trref.catalog import Deviation, Method, UpdateRule
from trref.catalog.optimizers.interfaces import MATRIX_UPDATE
from trref.optimizers.shampoo import ShampooState, init, inverse_root, update


def _one_after_the_other(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    eps=1e-6,
    beta2=1.0,
    root=2.0,
    every=1,
    graft=False,
):
    """Sums alone, each side's of what the sides before have made of the gradient, and the exponent -1/k."""
    moved, statistics = [], []
    for p, G, sides in zip(params, grads, state.statistics, strict=True):
        kept = []
        for axis, H in enumerate(sides):
            U = xp.moveaxis(G, axis, 0).reshape(G.shape[axis], -1)
            kept.append(H + U @ U.T)
            held = kept[-1] + eps * xp.eye(len(H), dtype=H.dtype)
            turned = inverse_root(held, 1 / G.ndim) @ U
            shape = (G.shape[axis], *G.shape[:axis], *G.shape[axis + 1 :])
            G = xp.moveaxis(turned.reshape(shape), 0, axis)
        statistics.append(kept)
        moved.append(p - lr * G)
    return moved, ShampooState(state.step + 1, statistics, state.used)


ONE_AFTER_THE_OTHER = Deviation(
    "one side after the other, with the power -1/k",
    _one_after_the_other,
    seen_in="moskomule/shampoo.pytorch, shampoo.py; pytorch_optimizer 2.12 and 3.3",
    computes="twice the exponent, and a second side's statistics of the preconditioned gradient",
)


def _twice_the_exponent(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    eps=1e-6,
    beta2=1.0,
    root=2.0,
    every=1,
    graft=False,
):
    hyper = {"lr": lr, "eps": eps, "beta2": beta2, "every": every, "graft": graft}
    return update(params, grads, state, **hyper, root=1.0)


TWICE_THE_EXPONENT = Deviation(
    "the power -1/k",
    _twice_the_exponent,
    seen_in="moskomule/shampoo.pytorch, issue 2, of its exponent alone",
    computes="the exponent -1/k on each of k axes, where it is -1/(2k)",
)

METHOD = Method(
    key="gupta2018shampoo",
    provenance="partly",
    functions=(
        UpdateRule(
            f=update,
            interface=MATRIX_UPDATE,
            init=init,
            settings={
                "default": {},
                "a large epsilon": {"lr": 0.1, "eps": 0.1},
                "averages": {"lr": 0.02, "eps": 0.01, "beta2": 0.9},
                "grafting": {"lr": 0.05, "eps": 0.1, "graft": True},
                "seldom": {"lr": 0.05, "eps": 0.1, "every": 2},
                "probe": {
                    "lr": 0.05,
                    "eps": 0.5,
                    "beta2": 0.95,
                    "root": 1.5,
                    "every": 3,
                    "graft": True,
                },
            },
            deviations=(ONE_AFTER_THE_OTHER, TWICE_THE_EXPONENT),
            sizes=(4, 8),
            refused={
                "a number without an axis": {
                    "params": lambda _: [xp.asarray(1.0)],
                    "gradients": lambda _: [[xp.asarray(1.0)]],
                },
            },
        ),
    ),
)
