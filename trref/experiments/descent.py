"""Update rules on small functions: one run, and a race in which each gets its best step length.

For adamp, diffgrad, induced_metric, polargrad, fismo, noneuclidean_trust_region, psgd and weight_conditioning.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from trref.backend import xp
from trref.experiments.training import train

__all__ = ["Best", "Trace", "descend", "race"]

DIVERGED = 1e12  # a loss beyond it ends a run


class Trace(NamedTuple):
    """Losses and norms of x before each step and at the end, (steps + 1,), infinite once diverged; the last x."""

    losses: Any
    norms: Any
    x: Any


class Best(NamedTuple):
    """The step length with the smallest median final loss, and its runs, one a seed."""

    lr: float
    traces: list[Trace]


def descend(loss, x, rule, *, steps, lr, noise=None, seed=0, **options):
    """Minimise a function from x on.

    Parameters
    ----------
    loss : callable
        ``loss(x) -> (value, gradient)``; x may have any shape, such as a matrix.
    x : array
    rule : module or Rule
    steps : int
    lr : float
    noise : callable, optional
        ``noise(rng, x)``, added to each gradient.
    seed : int
        Of the noise.
    **options
        Of `trref.experiments.training.train`: ``hyper``, ``schedule``, ``shapes``.

    Returns
    -------
    Trace
    """
    seen = []

    def diverged():
        return bool(seen) and not abs(seen[-1][0]) < DIVERGED

    def gradient(x, rng):
        value, slope = loss(x)
        seen.append((float(value), float(xp.sqrt((x * x).sum()))))
        slope = slope if noise is None else slope + noise(rng, x)
        return value, xp.zeros_like(slope) if diverged() else slope

    rng = np.random.default_rng(seed)
    run = train(
        gradient, x, rng, steps=steps, rule=rule, lr=lr, stop=diverged, **options
    )
    if not diverged():
        gradient(run.theta, rng)
    losses, norms = np.full((2, steps + 1), math.inf)
    losses[: len(seen)], norms[: len(seen)] = zip(*seen, strict=True)
    return Trace(np.where(abs(losses) < DIVERGED, losses, math.inf), norms, run.theta)


def race(loss, start, rules, *, rates, seeds=(0,), steps, **options):
    """Run several rules, each from the same starts, and keep the best step length of each.

    Parameters
    ----------
    loss : callable
    start : callable
        ``start(rng) -> x``, the start of a seed.
    rules : mapping
        Name to a pair of rule and further hyper-parameters.
    rates : sequence of float
        Step lengths to try.
    seeds : sequence of int
    steps : int
    **options
        Of `descend`: ``noise``, ``schedule``, ``shapes``.

    Returns
    -------
    dict of str to Best
    """
    results = {}
    for name, (rule, hyper) in rules.items():
        runs = {
            lr: [
                descend(
                    loss,
                    start(np.random.default_rng(s)),
                    rule,
                    steps=steps,
                    lr=lr,
                    seed=s,
                    hyper=hyper,
                    **options,
                )
                for s in seeds
            ]
            for lr in rates
        }
        best = min(
            rates, key=lambda lr: np.median([trace.losses[-1] for trace in runs[lr]])
        )
        results[name] = Best(best, runs[best])
    return results
