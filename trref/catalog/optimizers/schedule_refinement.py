"""What is known of `trref.optimizers.schedule_refinement`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.optimizers.schedule_refinement import (
    last_iterate_bound,
    learner_steps,
    optimal_weights,
    refined_schedule,
    smooth_norms,
    stepsizes_from_weights,
    usual_schedule,
)


def _example(rng, size):
    drift = 1 + 3 * rng.random() * xp.arange(float(size)) / size
    return {
        "weights": 10.0 ** rng.uniform(-1, 1, size),
        "norms": rng.choice((0.1, 5.0)) * drift * (0.5 + rng.random(size)),
        "times": xp.arange(float(size)),
    }


def _steps(weights, norms):
    def make():
        times = xp.arange(float(len(weights)))
        return {"weights": xp.array(weights), "norms": xp.array(norms), "times": times}

    return make


RUN = Interface(
    "run_of_norms",
    example=_example,
    edges={
        "one step": _steps([2.0], [3.0]),
        "two steps": _steps([2.0, 0.5], [3.0, 1.0]),
        "all equal": _steps([1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]),
        "a spike": _steps([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 1.0, 50.0, 1.0, 2.0]),
        "a window of three": _steps([1.0] * 24, [1.0 + t % 3 for t in range(24)]),
        "tiny and huge": _steps([1e-3, 1e3, 1.0], [1e-3, 1e3, 1.0]),
    },
)
"""``f(weights (T), norms (T), …)``: the weights of a run's steps, and the norms of its gradients."""


def _tails(weights):
    values = weights.tolist()
    return values, [math.fsum(values[t + 1 :]) for t in range(len(values))]


def _steps_by_sums(weights):
    values, after = _tails(weights)
    return xp.asarray(
        [w * a / math.fsum(values) for w, a in zip(values, after, strict=True)]
    )


def _shares_by_sums(weights):
    values, after = _tails(weights)
    return xp.asarray([a / math.fsum(values) for a in after])


def _weights_by_loops(norms, *, distance=1.0):
    inverse = [1 / g**2 for g in norms.tolist()]
    size = math.sqrt(math.fsum(inverse))
    return xp.asarray([distance * i / size for i in inverse])


def _medians(norms, *, window=0.1):
    """Window by window, of a list that is padded first."""
    values = norms.tolist()
    half = int(window * len(values) / 2)
    padded = [values[0]] * half + values + values[-2::-1][:half]
    return xp.asarray(
        [sorted(padded[t : t + 2 * half + 1])[half] for t in range(len(values))]
    )


def _shape_by_sums(norms, *, power=2.0):
    values, after = _tails(norms**-power)
    products = [w * a for w, a in zip(values, after, strict=True)]
    return xp.asarray([p / max(products) if max(products) else 1.0 for p in products])


def _usual_by_loops(times, *, total, kind="linear", warmup=0):
    shapes = {
        "constant": lambda t: 1.0,
        "linear": lambda t: max(1 - t / total, 0.0),
        "cosine": lambda t: math.cos(math.pi * min(t / total, 1) / 2) ** 2,
        "inverse": lambda t: 1 / (t + 1),
        "root": lambda t: 1 / math.sqrt(t + 1),
    }
    rise = [min((t + 1) / warmup, 1) if warmup else 1.0 for t in times.tolist()]
    return xp.asarray(
        [shapes[kind](t) * r for t, r in zip(times.tolist(), rise, strict=True)]
    )


def _by_the_sum(norms, *, power=2.0):
    weights = norms**-power
    after = xp.concatenate([xp.cumsum(weights[::-1])[::-1][1:], xp.zeros(1)])
    return weights * after / weights.sum()


DIVIDED_BY_THE_SUM = Deviation(
    "divided by the sum",
    _by_the_sum,
    seen_in="facebookresearch/adaptive_scheduling find_schedule.py (37a8a9b), find_closed_form_schedule",
    computes="the same shape, divided by the sum of the weights: its largest entry is not 1",
    documented=True,
)


METHOD = Method(
    key="defazio2023when",
    provenance={
        "confirmed": ("steps", "learner", "shape", "smooth", "usual"),
        "reconstructed": ("bound", "gradient", "weights"),
    },
    functions=(
        Estimator(f=stepsizes_from_weights, interface=RUN, brute_force=_steps_by_sums),
        Estimator(f=learner_steps, interface=RUN, brute_force=_shares_by_sums),
        Objective(
            f=last_iterate_bound,
            interface=RUN,
            wrt="weights",
            settings={"default": {}, "probe": {"distance": 3.5}},
        ),
        Estimator(
            f=optimal_weights,
            interface=RUN,
            settings={"default": {}, "probe": {"distance": 3.5}},
            brute_force=_weights_by_loops,
        ),
        Estimator(
            f=smooth_norms,
            interface=RUN,
            settings={
                "default": {},
                "as wide as the run": {"window": 1.0},
                "none": {"window": 0.0},
                "probe": {"window": 0.6},
            },
            brute_force=_medians,
        ),
        Estimator(
            f=refined_schedule,
            interface=RUN,
            settings={
                "default": {},
                "for Adam": {"power": 1.0},
                "probe": {"power": 1.5},
            },
            brute_force=_shape_by_sums,
            deviations=(DIVIDED_BY_THE_SUM,),
        ),
        Estimator(
            f=usual_schedule,
            interface=dataclasses.replace(RUN, name="times_of_steps"),
            settings={
                "default": {"total": 64},
                "longer than the run": {"total": 40, "warmup": 3},
                "constant": {"total": 64, "kind": "constant", "warmup": 5},
                "cosine": {"total": 40, "kind": "cosine"},
                "inverse": {"total": 64, "kind": "inverse"},
                "probe": {"total": 50, "kind": "root", "warmup": 7},
            },
            brute_force=_usual_by_loops,
        ),
    ),
)
