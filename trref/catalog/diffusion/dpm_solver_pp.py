"""What is known of `trref.diffusion.dpm_solver_pp`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method
from trref.diffusion.dpm_solver_pp import (
    multistep,
    singlestep_2,
    singlestep_3,
    step_orders,
)
from trref.diffusion.noise_schedules import time_at
from trref.problems.mixtures import (
    GaussianMixture,
    MixtureDenoiser,
    three_components,
)

# ---- examples


def _example(rng, size):
    """One to four uneven steps, the last of them to the data or to a small level."""
    steps, D = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    cube = rng.standard_normal((3, D, D)) / 2
    mixture = GaussianMixture(
        rng.dirichlet(xp.ones(3)),
        rng.standard_normal((3, D)),
        cube @ cube.swapaxes(1, 2) + 0.1 * xp.eye(D),
    )
    levels = 4.0 * xp.exp(-xp.cumsum(xp.append(0.0, rng.uniform(0.4, 1.5, steps))))
    levels[-1] *= rng.integers(2)
    return {
        "model": MixtureDenoiser(mixture),
        "x": rng.standard_normal((size, D)),
        "levels": levels,
    }


def _of_three(levels, rows=3):
    x = xp.array([[0.5, -1.0], [2.0, 0.25], [0.0, 0.75]])[:rows]
    model = MixtureDenoiser(three_components())
    return {"model": model, "x": x, "levels": xp.array(levels)}


PATH = Interface(
    "falling_ratios",
    example=_example,
    edges={
        "one step": lambda: _of_three([2.0, 0.5]),
        "one step to the data": lambda: _of_three([0.7, 0.0]),
        "steps of very different lengths": lambda: _of_three([3.0, 2.9, 0.5, 0.45]),
        "one point": lambda: _of_three([3.0, 1.0, 0.2, 0.0], 1),
    },
)
"""A denoiser, noisy points x (N, D), and K+1 falling ratios of noise to signal."""


# ---- brute force: the integral by quadrature, row by row

NODES, WEIGHTS = (a.tolist() for a in np.polynomial.legendre.leggauss(20))


def _levels(ratio, schedule):
    alpha = {"vp": (1 + ratio**2) ** -0.5, "ve": 1.0, "flow": 1 / (1 + ratio)}[schedule]
    return alpha, ratio * alpha


def _moved(x, now, then, start, slope, schedule):
    """Exact solution for a prediction that starts at `start` and changes by `slope` over the step in log ratio."""
    (_, s), (b, t) = _levels(now, schedule), _levels(then, schedule)
    if then == 0:
        return b * start
    h, total = math.log(now / then), 0.0
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        share = (1 + node) / 2
        grown = math.exp(share * h) / now
        total = total + weight / 2 * h * grown * (start + share * slope)
    return t / s * x + t * total


def _asked(model, row, ratio, schedule):
    t = time_at(xp.array([-2 * math.log(ratio)]), schedule=schedule)
    return model(row[None], t)[0]


def _step(x, now, then, D, change, kind, schedule):
    """With the slope in the integral, or with half of it as a constant."""
    if kind == "heun" or then == 0:
        return _moved(x, now, then, D, change, schedule)
    return _moved(x, now, then, D + change / 2, 0 * D, schedule)


def multistep_by_rows(
    model, x, levels, *, kind="midpoint", lower_order_below=0, schedule="vp"
):
    rows, grid = [], levels.tolist()
    for row in x:
        seen = []
        for k in range(len(grid) - 1):
            now, then = grid[k], grid[k + 1]
            seen.append(_asked(model, row, now, schedule))
            change = 0 * row
            ends = k == len(grid) - 2 and len(grid) - 1 < lower_order_below
            if k > 0 and then > 0 and not ends:
                lengths = math.log(now / then), math.log(grid[k - 1] / now)
                change = (seen[-1] - seen[-2]) * lengths[0] / lengths[1]
            row = _step(row, now, then, seen[-1], change, kind, schedule)
        rows.append(row)
    return xp.stack(rows)


def second_by_rows(model, x, levels, *, r1=0.5, kind="midpoint", schedule="vp"):
    rows, grid = [], levels.tolist()
    for row in x:
        for k in range(len(grid) - 1):
            now, then = grid[k], grid[k + 1]
            D, change = _asked(model, row, now, schedule), 0 * row
            if then > 0:
                middle = math.exp((1 - r1) * math.log(now) + r1 * math.log(then))
                u = _moved(row, now, middle, D, 0 * D, schedule)
                change = (_asked(model, u, middle, schedule) - D) / r1
            row = _step(row, now, then, D, change, kind, schedule)
        rows.append(row)
    return xp.stack(rows)


def third_by_rows(model, x, levels, *, r1=1 / 3, r2=2 / 3, schedule="vp"):
    rows, grid = [], levels.tolist()
    for row in x:
        for k in range(len(grid) - 1):
            now, then = grid[k], grid[k + 1]
            D, change = _asked(model, row, now, schedule), 0 * row
            if then > 0:
                one, two = (
                    math.exp((1 - r) * math.log(now) + r * math.log(then))
                    for r in (r1, r2)
                )
                u = _moved(row, now, one, D, 0 * D, schedule)
                slope = (_asked(model, u, one, schedule) - D) / r1
                u = _moved(row, now, two, D, r2 * slope, schedule)
                change = (_asked(model, u, two, schedule) - D) / r2
            row = _moved(row, now, then, D, change, schedule)
        rows.append(row)
    return xp.stack(rows)


def orders_by_calls(*, calls=20, order=3):
    """Brute force: the longest step that leaves what a lower one at the end needs."""
    orders, left = [], calls
    while left:
        fits = min(order, left)
        if order == 3 and left == 3:
            fits = 2
        orders.append(fits)
        left -= fits
    return xp.array(orders)


# ---- places


def _one_step(inputs):
    """one step, from the ratio 4/3 to 3/4"""
    x, levels = inputs["x"], xp.array([4 / 3, 3 / 4])
    t = time_at(xp.zeros_like(x[:, 0]) - 2 * math.log(4 / 3))
    return {**inputs, "levels": levels}, {"x": x, "prediction": inputs["model"](x, t)}


# ---- deviations


def _short_runs_end_lower(
    model, x, levels, *, kind="midpoint", lower_order_below=0, schedule="vp"
):
    return multistep(
        model, x, levels, kind=kind, lower_order_below=15, schedule=schedule
    )


def _upside_down(
    model, x, levels, *, kind="midpoint", lower_order_below=0, schedule="vp"
):
    hyper, grid, last = {"kind": kind, "schedule": schedule}, levels.tolist(), None
    for k in range(len(grid) - 1):
        now, then = grid[k], grid[k + 1]
        first = multistep(model, x, levels[k : k + 2], **hyper)
        D = multistep(model, x, xp.array([now, 0.0]), **hyper)
        ends = k == len(grid) - 2 and len(grid) - 1 < lower_order_below
        if last is not None and then > 0 and not ends:
            a, b = math.log(now / then), math.log(grid[k - 1] / now)
            change = (D - last) * b / a
            flat = _moved(0 * x, now, then, 0 * D, 0 * D, schedule)
            first = first + _step(flat, now, then, 0 * D, change, kind, schedule)
        x, last = first, D
    return x


MULTISTEP_DEVIATIONS = (
    Deviation(
        "the first order at the end of short runs",
        _short_runs_end_lower,
        seen_in="diffusers DPMSolverMultistepScheduler with lower_order_final, its default (below 15 steps);"
        " LuChengTHU/dpm-solver (below 10)",
        computes="the last step without a slope, where the run is short",
        documented=True,
    ),
    Deviation(
        "ratio of steps upside down",
        _upside_down,
        seen_in="a slip of re-implementations; in none of the public samplers read",
        computes="the change of the prediction by the last step over the present one",
    ),
)


def _two_first_orders_at_the_end(*, calls=20, order=3):
    orders = step_orders(calls=calls, order=order).tolist()
    return xp.array(orders[:-1] + [1, 1] if orders[-1] == 2 else orders)


REFUSED = {
    "levels that rise": {"levels": lambda levels: levels[::-1]},
    "one level": {"levels": lambda levels: levels[:1]},
}


METHOD = Method(
    key="lu2022dpm",
    provenance="confirmed",
    functions=(
        Estimator(
            f=multistep,
            interface=PATH,
            settings={
                "default": {},
                "heun": {"kind": "heun"},
                "exploding noise": {"schedule": "ve"},
                "lower": {"lower_order_below": 4},
                "probe": {"kind": "heun", "lower_order_below": 3, "schedule": "flow"},
            },
            limits=(
                Limit(
                    "probability_flow.exponential_step",
                    {},
                    {"given": "data"},
                    where=_one_step,
                ),
            ),
            brute_force=multistep_by_rows,
            deviations=MULTISTEP_DEVIATIONS,
            refused=REFUSED,
        ),
        Estimator(
            f=singlestep_2,
            interface=PATH,
            settings={
                "default": {},
                "heun": {"kind": "heun"},
                "exploding noise": {"schedule": "ve"},
                "probe": {"r1": 0.3, "kind": "heun", "schedule": "flow"},
            },
            brute_force=second_by_rows,
            refused=REFUSED,
        ),
        Estimator(
            f=singlestep_3,
            interface=PATH,
            settings={
                "default": {},
                "exploding noise": {"schedule": "ve"},
                "probe": {"r1": 0.4, "r2": 0.7, "schedule": "flow"},
            },
            brute_force=third_by_rows,
            refused=REFUSED,
        ),
        Estimator(
            f=step_orders,
            example=lambda rng, size: {},
            settings={
                "default": {},
                "one call": {"calls": 1},
                "three calls": {"calls": 3},
                "fifteen": {"calls": 15},
                "sixteen": {"calls": 16},
                "second": {"calls": 8, "order": 2},
                "first": {"calls": 4, "order": 1},
                "probe": {"calls": 9, "order": 2},
            },
            brute_force=orders_by_calls,
            deviations=(
                Deviation(
                    "two steps of the first order at the end",
                    _two_first_orders_at_the_end,
                    seen_in="diffusers 0.42.1 DPMSolverSinglestepScheduler.get_order_list, final_sigmas_type='zero'",
                    computes="two steps of the first order in the place of a last one of the second",
                ),
            ),
        ),
    ),
)
