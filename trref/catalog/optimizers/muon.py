"""What is known of `trref.optimizers.muon`."""

from trref.catalog import Deviation, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import MATRIX_UPDATE
from trref.optimizers.muon import init, update


def _sum(
    params,
    grads,
    state,
    *,
    lr=0.02,
    momentum=0.95,
    nesterov=True,
    weight_decay=0.0,
    factor="muon",
    steps=5,
    eps=1e-7,
    scale="muon",
):
    """A sum is the average over 1 - momentum, and so epsilon is that much smaller against it."""
    return update(
        params,
        grads,
        state,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        factor=factor,
        steps=steps,
        eps=eps * (1 - momentum),
        scale=scale,
    )


def _first_scale(
    params,
    grads,
    state,
    *,
    lr=0.02,
    momentum=0.95,
    nesterov=True,
    weight_decay=0.0,
    factor="muon",
    steps=5,
    eps=1e-7,
    scale="muon",
):
    """Array by array without a scale, at the longer rate; the decay keeps its own."""
    hyper = {"momentum": momentum, "nesterov": nesterov, "factor": factor}
    hyper |= {"steps": steps, "eps": eps}
    moved, averages = [], []
    for p, g, m in zip(params, grads, state.m, strict=True):
        longer = max(len(p), p.size // len(p)) ** 0.5 if scale == "muon" else 1.0
        own = scale if scale != "muon" else "none"
        decay = weight_decay / longer
        rate = {"lr": lr * longer, "weight_decay": decay, "scale": own}
        (p,), after = update([p], [g], type(state)([m]), **hyper, **rate)
        moved.append(p)
        averages += after.m
    return moved, type(state)(averages)


MUON_SUM = Deviation(
    "a sum of the gradients",
    _sum,
    seen_in="the algorithm as written in Muon's write-up, and in the docstring of PyTorch 2.13's Muon",
    computes="a momentum that is not multiplied by 1 - momentum: an epsilon of another relative size",
)
MUON_FIRST_SCALE = Deviation(
    "the first scale",
    _first_scale,
    seen_in="Muon's first versions of October 2024, and copies of them",
    computes="steps that are multiplied by the root of the longer side of the matrix",
    documented=True,
)

METHOD = Method(
    key="jordan2024muon",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=MATRIX_UPDATE,
            init=init,
            settings={
                "default": {},
                "exact": {"factor": "svd", "momentum": 0.8},
                "without Nesterov": {"nesterov": False, "scale": "none"},
                "probe": {
                    "lr": 0.05,
                    "momentum": 0.6,
                    "nesterov": False,
                    "weight_decay": 0.2,
                    "factor": "polar_express",
                    "steps": 3,
                    "eps": 1e-3,
                    "scale": "adam",
                },
            },
            limits=(
                Limit(
                    "noneuclidean_trust_region.update",
                    {"momentum": 0.0, "factor": "svd", "scale": "none", "lr": 0.05},
                    {"alpha": 1.0, "lr": 0.05},
                ),
            ),
            deviations=(MUON_SUM, MUON_FIRST_SCALE),
        ),
    ),
)
