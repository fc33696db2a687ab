"""What is known of `trref.optimizers.diffgrad`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.diffgrad import friction, init, update


def _aliased(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    form="paper",
    weight_decay=0.0,
):
    """After the first step the gradient before is the one of today."""
    if state.step:
        today = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
        state = state._replace(previous=today)
    return update(
        params,
        grads,
        state,
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        form=form,
        weight_decay=weight_decay,
    )


def _decoupled(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    form="paper",
    weight_decay=0.0,
):
    shrunk = [(1 - lr * weight_decay) * p for p in params]
    return update(
        shrunk, grads, state, lr=lr, beta1=beta1, beta2=beta2, eps=eps, form=form
    )


DIFFGRAD_ALIASED = Deviation(
    "previous gradient is today's",
    _aliased,
    seen_in="shivram1987/diffGrad, diffGrad.py (9a834f5), where gradients are zeroed in place",
    computes="from the second step on a friction of ½: Adam at half the rate",
    documented=True,
)
DIFFGRAD_DECOUPLED = Deviation(
    "decoupled decay",
    _decoupled,
    seen_in="pytorch_optimizer 4.1, optimizer/diffgrad.py, by default",
    computes="weights that shrink by 1 - lr · weight_decay, and gradients that do not see the decay",
    documented=True,
)


def _hardly_any_gradient(inputs):
    """The gradients are tiny"""
    tiny = [[1e-11 * g / (1 + abs(g)) for g in grads] for grads in inputs["gradients"]]
    return {**inputs, "gradients": tiny}


def _much_change(inputs):
    """The gradients change by more than 37 at each step"""
    grown = [
        [1e14 * (k + 1) * abs(g) for g in grads]
        for k, grads in enumerate(inputs["gradients"])
    ]
    return {**inputs, "gradients": grown}


def _example(rng, size):
    scale = rng.choice((0.1, 3.0))
    shape = (2 + size % 3, size)
    return {
        "current": scale * rng.standard_normal(shape),
        "previous": scale * rng.standard_normal(shape),
    }


def _one_by_one(current, previous):
    """Each friction by the exponential function of the standard library."""
    pairs = zip(current.ravel().tolist(), previous.ravel().tolist(), strict=True)
    shares = [1 / (1 + math.exp(-abs(a - b))) for a, b in pairs]
    return xp.asarray(shares).reshape(current.shape)


# epsilons so small that it does not matter which root they are added to
_SHARED = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-200}

METHOD = Method(
    key="dubey2019diffgrad",
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
                    "form": "corrected",
                    "weight_decay": 0.05,
                },
            },
            limits=(
                Limit(
                    "adam.update",
                    {"lr": 0.02, **_SHARED},
                    {"lr": 0.01, **_SHARED},
                    where=_hardly_any_gradient,
                ),
                Limit(
                    "adam.update",
                    {"lr": 0.02, **_SHARED},
                    {"lr": 0.02, **_SHARED},
                    where=_much_change,
                ),
            ),
            deviations=(DIFFGRAD_ALIASED, DIFFGRAD_DECOUPLED),
        ),
        Estimator(
            f=friction,
            example=_example,
            edges={
                "no change": lambda: {
                    "current": xp.array([1.0, -2.0]),
                    "previous": xp.array([1.0, -2.0]),
                },
                "a jump": lambda: {
                    "current": xp.array([1e6, -3.0]),
                    "previous": xp.array([-1e6, 3.0]),
                },
                "one entry": lambda: {
                    "current": xp.array([[0.5]]),
                    "previous": xp.zeros((1, 1)),
                },
            },
            brute_force=_one_by_one,
        ),
    ),
)
