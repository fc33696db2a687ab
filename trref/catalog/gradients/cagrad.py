"""What is known of `trref.gradients.cagrad`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.gradients.interfaces import GRADIENTS
from trref.gradients.cagrad import direction, dual_objective, duality_gap


def _weighed(arguments, rng=None):
    M = len(arguments["gradients"])
    w = rng.dirichlet(xp.ones(M)) if rng else xp.arange(1.0, M + 1)
    return {**arguments, "weights": w / w.sum()}


WEIGHED = dataclasses.replace(
    GRADIENTS,
    name="weighed gradients",
    example=lambda rng, size: _weighed(GRADIENTS.example(rng, size), rng),
    edges={
        n: lambda make=make: _weighed(make()) for n, make in GRADIENTS.edges.items()
    },
)


# where there is but one direction the gap is 0, and what is computed of it rounding
OPEN = dataclasses.replace(
    WEIGHED,
    edges={
        n: e for n, e in WEIGHED.edges.items() if n not in ("one gradient", "all equal")
    },
)


def _ahead(gradients, weights, *, c=0.5):
    columns = gradients.T.tolist()
    mean = [math.fsum(x) / len(x) for x in columns]
    g_w = [math.fsum(a * b for a, b in zip(weights, x, strict=True)) for x in columns]
    pull = c * math.hypot(*mean) / (math.hypot(*g_w) or 1.0)
    return xp.array([m + pull * g for m, g in zip(mean, g_w, strict=True)])


def _gap(gradients, weights, *, c=0.5):
    """The primal value, against that of the best direction for the weighted task."""
    d = _ahead(gradients, weights, c=c)
    g_w = weights @ gradients
    return xp.asarray(g_w @ d - min(float(g @ d) for g in gradients))


def _shorter(gradients, weights, *, c=0.5):
    return direction(gradients, weights, c=c) / (1 + c * c)


def _means(inputs):
    """clients with equal counts"""
    rows = inputs["gradients"]
    return inputs, {"thetas": rows, "counts": xp.ones_like(rows[:, 0])}


SETTINGS = {"default": {}, "the mean": {"c": 0.0}, "probe": {"c": 0.3}}

METHOD = Method(
    key="liu2021conflict",
    provenance="partly",
    functions=(
        Objective(
            f=dual_objective, interface=WEIGHED, wrt="weights", settings=SETTINGS
        ),
        Estimator(
            f=direction,
            interface=WEIGHED,
            settings=SETTINGS,
            brute_force=_ahead,
            limits=(Limit(to="fedavg.average", hyper={"c": 0.0}, where=_means),),
            deviations=(
                Deviation(
                    "divided by 1 + c²",
                    _shorter,
                    seen_in="Cranial-XIX/CAGrad, cagrad with rescale=1",
                    computes="the direction over 1 + c²",
                ),
            ),
        ),
        Estimator(f=duality_gap, interface=OPEN, settings=SETTINGS, brute_force=_gap),
    ),
)
