"""What is known of `trref.optimizers.adafactor`."""

import dataclasses
import inspect

from trref.backend import xp
from trref.catalog import Deviation, Method, UpdateRule
from trref.catalog.optimizers.interfaces import MATRIX_UPDATE, UPDATE
from trref.optimizers.adafactor import AdafactorState, init, update


def _moved(weights, gradients):
    return {"params": [xp.array(w) for w in weights], "gradients": gradients}


def _jump():
    """A gradient of a hundred times the size after a few small ones."""
    small = [xp.array([[0.1, -0.2], [0.3, 0.1], [0.0, 0.2]]), xp.array([0.1, -0.1])]
    large = [100 * g for g in small]
    weights = [xp.ones((3, 2)), xp.zeros(2)]
    return _moved(weights, [small, small, large, small])


FACTORED = dataclasses.replace(
    MATRIX_UPDATE,
    edges={
        **MATRIX_UPDATE.edges,
        "tiny and huge": UPDATE.edges["tiny and huge"],
        "a gradient that jumps, and weights of 0": _jump,
    },
)


def _torch(
    params,
    grads,
    state,
    *,
    lr=1e-2,
    beta1=0.0,
    decay=0.8,
    longest=1.0,
    eps1=1e-30,
    eps2=1e-3,
    clip=1.0,
    weight_decay=0.0,
    relative=True,
    warm_up=False,
    scaled=True,
):
    """PyTorch's rule written out; what it has no keyword for is as in the paper."""
    t = state.step + 1
    share, moments, moved = t**-decay, [], []
    for p, g, old in zip(params, grads, state.moments, strict=True):
        parts = [(g * g).mean(-1), (g * g).mean(-2)] if g.ndim > 1 else [g * g]
        moments.append(
            [(1 - share) * a + share * b for a, b in zip(old, parts, strict=True)]
        )
        v = moments[-1][0]
        if g.ndim > 1:
            rows, columns = moments[-1]
            v = rows[..., None] * columns[..., None, :]
            v = v / xp.maximum(rows.mean(-1), eps1)[..., None, None]
        u = g / xp.sqrt(xp.maximum(v, eps1**2))
        rms = lambda x: xp.sqrt((x * x).mean())  # noqa: E731
        alpha = xp.maximum(rms(p), eps2) * min(lr, t**-0.5)
        step = alpha * u / xp.maximum(rms(u) / clip, 1)
        moved.append((1 - lr * weight_decay) * p - step)
    return moved, AdafactorState(t, moments, state.m)


def _with(change):
    """The rule with other keywords than it is asked for."""

    def deviation(
        params,
        grads,
        state,
        *,
        lr=1e-2,
        beta1=0.0,
        decay=0.8,
        longest=1.0,
        eps1=1e-30,
        eps2=1e-3,
        clip=1.0,
        weight_decay=0.0,
        relative=True,
        warm_up=False,
        scaled=True,
    ):
        asked = locals()
        names = inspect.signature(update).parameters
        hyper = {n: asked[n] for n in names if n not in ("params", "grads", "state")}
        return change(params, grads, state, hyper)

    return deviation


def _falling(params, grads, state, hyper):
    return update(params, grads, state, **{**hyper, "relative": True})


def _decay_after(params, grads, state, hyper):
    moved, after = update(params, grads, state, **{**hyper, "weight_decay": 0.0})
    shrunk = [p - hyper["weight_decay"] * w for p, w in zip(moved, params, strict=True)]
    return shrunk, after


DEVIATIONS = (
    Deviation(
        "PyTorch's decay and bounds",
        _torch,
        seen_in="PyTorch 2.13, optim/_adafactor.py",
        computes="weights that shrink by lr · weight_decay, and moments bounded by epsilon in the place of a sum",
        documented=True,
    ),
    Deviation(
        "a rate that always falls",
        _with(_falling),
        seen_in="Keras 3.15, optimizers/adafactor.py, where relative_step=False has no effect",
        computes="a rate that falls as one over the root of the step, also if it is not to",
    ),
    Deviation(
        "decay after all scaling",
        _with(_decay_after),
        seen_in="optax 0.2.8, alias.py, adafactor",
        computes="weights that shrink by weight_decay a step, whatever the rate",
    ),
)

METHOD = Method(
    key="shazeer2018adafactor",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=FACTORED,
            init=init,
            settings={
                "default": {},
                "warm-up": {"warm_up": True, "lr": 0.3},
                "not relative": {"relative": False, "lr": 0.9, "weight_decay": 0.3},
                "vision": {
                    "relative": False,
                    "scaled": False,
                    "beta1": 0.9,
                    "longest": 0.4,
                    "lr": 0.02,
                },
                "all but the last three": {
                    "lr": 0.6,
                    "beta1": 0.7,
                    "decay": 0.6,
                    "longest": 0.45,
                    "eps1": 1e-3,
                    "eps2": 0.4,
                    "clip": 0.8,
                    "weight_decay": 0.2,
                },
                "probe": {
                    "lr": 0.04,
                    "beta1": 0.6,
                    "decay": 0.7,
                    "longest": 0.35,
                    "eps1": 2e-3,
                    "eps2": 0.3,
                    "clip": 0.7,
                    "weight_decay": 0.1,
                    "relative": False,
                    "warm_up": True,
                    "scaled": False,
                },
            },
            deviations=DEVIATIONS,
        ),
    ),
)
