"""What is known of `trref.optimizers.gradient_clipping`."""

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
from trref.catalog.optimizers.interfaces import UPDATE
from trref.nn.flat import join
from trref.optimizers.gradient_clipping import (
    clip_global,
    clip_global_jvp,
    clip_value,
    clip_value_jvp,
    global_norm,
    init,
    update,
)


def _gradient(*values):
    return lambda: {"g": xp.array(values)}


GRADIENT = Interface(
    "gradient_to_clip",
    example=lambda rng, size: {
        "g": rng.choice((0.05, 0.5, 5.0)) * rng.standard_normal(size)
    },
    edges={
        "zero": _gradient(0.0, 0.0, 0.0),
        "short": _gradient(0.3, -0.4),
        "as long as the threshold": _gradient(0.6, -0.8),
        "long": _gradient(3.0, -4.0),
        "one entry": _gradient(-2.0),
        "one entry of many": _gradient(0.01, -0.02, 7.0, 0.0, 0.03),
        "tiny": _gradient(3e-7, 4e-7),
        "huge": _gradient(3e12, -4e12),
    },
)
"""``f(g (P), …)``: a gradient of all parameters together."""


def _norm_by_loops(g, *, order=2.0):
    sizes = [abs(a) for a in g.tolist()]
    if order is None:
        return xp.asarray(max(sizes))
    return xp.asarray(math.fsum(a**order for a in sizes) ** (1 / order))


def _epsilon_added(g, *, threshold=1.0):
    norm = xp.sqrt((g * g).sum())
    return g * xp.minimum(threshold / (norm + 1e-6), 1)


def _entry_by_entry(g, *, threshold=1.0):
    return clip_value(g, threshold=threshold)


def _step_epsilon_added(params, grads, state, *, lr=0.1, threshold=1.0, kind="global"):
    norm = global_norm(join(grads))
    if kind == "global":
        factor = xp.minimum(threshold / (norm + 1e-6), 1)
        grads, threshold = [factor * g for g in grads], 1e15  # nothing is left to cut
    moved, _ = update(params, grads, state, lr=lr, threshold=threshold, kind=kind)
    return moved, state._replace(norm=norm)


def _tensor_by_tensor(params, grads, state, *, lr=0.1, threshold=1.0, kind="global"):
    kind = "each" if kind == "global" else kind
    return update(params, grads, state, lr=lr, threshold=threshold, kind=kind)


PYTORCH = "PyTorch 2.13, torch/nn/utils/clip_grad.py, clip_grad_norm_"

EPSILON_ADDED = Deviation(
    "a millionth added to the norm",
    _epsilon_added,
    seen_in=PYTORCH,
    computes="a gradient a little shorter than the threshold, also where it was as long",
)
ENTRY_BY_ENTRY = Deviation(
    "entry by entry",
    _entry_by_entry,
    seen_in="PyTorch 2.13, torch/nn/utils/clip_grad.py, clip_grad_value_, where it stands for this clip",
    computes="each entry cut to the threshold: another direction",
    documented=True,
)
STEP_EPSILON_ADDED = Deviation(
    "a millionth added to the norm",
    _step_epsilon_added,
    seen_in=PYTORCH,
    computes="a step a little shorter than the rate times the threshold",
)
TENSOR_BY_TENSOR = Deviation(
    "tensor by tensor",
    _tensor_by_tensor,
    seen_in="Keras 3.15.1, optimizers/base_optimizer.py, clipnorm, where it is taken for global_clipnorm",
    computes="the norm of each tensor cut to the threshold",
    documented=True,
)


def _one_entry(inputs):
    """There is one entry"""
    return {"g": inputs["g"][:1]}


def _short(inputs):
    """No entry is longer than the threshold"""
    largest = abs(inputs["g"]).max() * inputs["g"].size
    return {"g": inputs["g"] / xp.where(largest > 1, largest, 1)}


def _one_tensor(inputs):
    """There is one tensor"""
    return {
        "params": inputs["params"][:1],
        "gradients": [grads[:1] for grads in inputs["gradients"]],
    }


def _own_adjoint(jvp):
    """The product with the transposed Jacobian, which is the Jacobian."""
    return lambda g, *, cotangent, **hyper: jvp(g, cotangent, **hyper)


CUT = {"default": {}, "probe": {"threshold": 0.3}}

METHOD = Method(
    key="pascanu2013on",
    provenance={
        "confirmed": ("norm", "global", "each", "value", "step"),
        "reconstructed": ("jacobian",),
    },
    functions=(
        Estimator(
            f=global_norm,
            interface=GRADIENT,
            settings={
                "default": {},
                "sum of sizes": {"order": 1.0},
                "largest entry": {"order": None},
                "probe": {"order": 3.5},
            },
            brute_force=_norm_by_loops,
        ),
        Transform(
            f=clip_global,
            interface=GRADIENT,
            wrt="g",
            jvp=clip_global_jvp,
            vjp=_own_adjoint(clip_global_jvp),
            idempotent=True,
            settings=CUT,
            limits=(
                Limit("gradient_clipping.clip_value", {}, where=_one_entry),
                Limit("gradient_clipping.clip_value", {}, where=_short),
            ),
            deviations=(EPSILON_ADDED, ENTRY_BY_ENTRY),
        ),
        Transform(
            f=clip_value,
            interface=GRADIENT,
            wrt="g",
            jvp=clip_value_jvp,
            vjp=_own_adjoint(clip_value_jvp),
            idempotent=True,
            settings=CUT,
        ),
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "each tensor": {"kind": "each"},
                "each entry": {"kind": "value"},
                "probe": {"lr": 0.03, "threshold": 0.3, "kind": "each"},
            },
            limits=(
                Limit("sgd.update", {"lr": 0.03, "threshold": 1e15}, {"lr": 0.03}),
                Limit(
                    "gradient_clipping.update",
                    {"kind": "each"},
                    {"kind": "global"},
                    where=_one_tensor,
                ),
            ),
            deviations=(STEP_EPSILON_ADDED, TENSOR_BY_TENSOR),
        ),
    ),
)
