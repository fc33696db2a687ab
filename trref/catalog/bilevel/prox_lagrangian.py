"""What is known of `trref.bilevel.prox_lagrangian`."""

import numpy as np

from trref.backend import xp
from trref.bilevel.prox_lagrangian import (
    Saddle,
    project_multiplier,
    proximal_lagrangian,
    saddle_point,
    value_at_saddle,
)
from trref.catalog import Deviation, Estimator, Method, Objective, Solver
from trref.catalog.bilevel.interfaces import COUPLED
from trref.problems.bilevel import CoupledBilevel


def _times_gamma(problem, theta, multiplier, x, y, z, *, gamma1=1.0, gamma2=1.0):
    gammas = {"gamma1": gamma1, "gamma2": gamma2}
    value, d = proximal_lagrangian(problem, theta, multiplier, x, y, z, **gammas)
    return value, d._replace(theta=d.theta + (theta - y) * (gamma1 - 1 / gamma1))


def _bisected(answer, low, high):
    """Where a falling function is its argument, or the end that it is beyond."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if answer(middle) > middle else (low, middle)
    return low


def _entry(problem, x, y, z, gamma1, gamma2, radius):
    """The saddle point of one entry: the multiplier meets the answer to its own best response."""
    floor = -np.inf if problem.floor is None else problem.floor

    def theta(multiplier):
        free = (2 * x + y / gamma1 - multiplier) / (1 + 1 / gamma1)
        return max(free, floor)

    found = _bisected(lambda m: z + gamma2 * (x + theta(m) - problem.limit), 0, radius)
    return theta(found), found


def by_bisection(problem, x, y, z, *, gamma1=1.0, gamma2=1.0, radius=10.0, **_):
    """The saddle point, by one number at a time."""
    if not problem.equality:
        entries = zip(x.tolist(), y.tolist(), z.tolist(), strict=True)
        found = [_entry(problem, *e, gamma1, gamma2, radius) for e in entries]
        return Saddle(*np.array(found).T)

    def theta(m):
        first = (x + y[: len(x)] / gamma1 - m) / (1 + 1 / gamma1)
        return np.concatenate([first, y[len(x) :] - gamma1 * (1 + m)])

    found = _bisected(
        lambda m: z[0] + gamma2 * (x.sum() + theta(m).sum()), -radius, radius
    )
    return Saddle(theta(found), np.array([found]))


def _certificate(result, problem, x, y, z, *, rtol=1e-10, **hyper):
    exact = by_bisection(problem, x, y, z, **hyper)
    theta, multiplier = np.asarray(result.theta), np.asarray(result.multiplier)
    size = max(1.0, float(np.sqrt((theta**2).sum() + (multiplier**2).sum())))
    return {
        "lower level": float(abs(theta - exact.theta).max()) / size,
        "multiplier": float(abs(multiplier - exact.multiplier).max()) / size,
        "last residual over its target": result.residuals[-1] / (rtol * size),
        "target over the residual before": rtol
        * size
        / (result.residuals[-2] if len(result.residuals) > 1 else np.inf),
        "iterations": abs(result.iterations - len(result.residuals) + 1),
    }


def _in_the_box(result, problem, x, y, z, *, radius=10.0, **_):
    low = -radius if problem.equality else 0.0
    outside = np.maximum(low - result.multiplier, result.multiplier - radius)
    return {"outside of the box": (float(outside.max()), 0.0)}


def _box_by_loop(problem, multiplier, *, radius=10.0):
    low = -radius if problem.equality else 0.0
    return np.array([min(max(v, low), radius) for v in multiplier])


def _far():
    return {
        "problem": CoupledBilevel(),
        "x": xp.array([4.0]),
        "y": xp.array([-2.0]),
        "z": xp.array([0.0]),
    }


METHOD = Method(
    key="yao2024constrained",
    provenance={
        "partly": ("saddle", "value", "gradient"),
        "reconstructed": ("extragradient",),
    },
    functions=(
        Objective(
            f=proximal_lagrangian,
            wrt=("theta", "multiplier"),
            interface=COUPLED,
            settings={"default": {}, "probe": {"gamma1": 0.4, "gamma2": 3.0}},
            deviations=(
                Deviation(
                    "times gamma",
                    _times_gamma,
                    seen_in="SUSTech-Optimization/LV-HBA, Hyperparameter optimization/Linear SVM/diabetes/LV-HBA.py",
                    computes="the proximal slope multiplied by gamma1 in the place of divided by it",
                ),
            ),
        ),
        Objective(
            f=value_at_saddle,
            wrt=("x", "y", "z"),
            interface=COUPLED,
            settings={"default": {}, "probe": {"gamma1": 0.4, "gamma2": 3.0}},
        ),
        Estimator(
            f=project_multiplier,
            interface=COUPLED,
            settings={"default": {}, "probe": {"radius": 0.3}},
            brute_force=_box_by_loop,
        ),
        Solver(
            f=saddle_point,
            interface=COUPLED,
            sizes=(2, 4),
            seeds=(0,),
            settings={
                "default": {},
                "a small box": {"radius": 0.5},
                "probe": {
                    "gamma1": 0.4,
                    "gamma2": 3.0,
                    "radius": 2.5,
                    "inner_lr": 0.15,
                    "rtol": 1e-8,
                    "max_iter": 1500,
                },
            },
            certificate=_certificate,
            tolerances={
                "lower level": 1e-7,
                "multiplier": 1e-7,
                "last residual over its target": 1.0 + 1e-3,
                "target over the residual before": 1.0 + 1e-3,
                "iterations": 0.0,
            },
            prescribed=False,
            agreement=1e-6,
            failures={
                "two steps": lambda: (_far(), {"max_iter": 2}),
                "steps that are too long": lambda: (
                    _far(),
                    {"inner_lr": 3.0, "max_iter": 3000},
                ),
            },
            remains=_in_the_box,
        ),
    ),
)
