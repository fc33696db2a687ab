"""What is known of `trref.diffusion.edm_heun`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Transform
from trref.catalog.diffusion.interfaces import STEP
from trref.diffusion.edm_heun import (
    churned_path,
    karras_levels,
    network_input,
    precondition,
)
from trref.problems.mixtures import (
    GaussianMixture,
    MixtureDenoiser,
    MixtureNoise,
    three_components,
)

# ---- examples


def _path_example(rng, size):
    """One to four steps, the last of them to the data or to a small level."""
    steps, D = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    cube = rng.standard_normal((3, D, D)) / 2
    mixture = GaussianMixture(
        rng.dirichlet(xp.ones(3)),
        rng.standard_normal((3, D)),
        cube @ cube.swapaxes(1, 2) + 0.1 * xp.eye(D),
    )
    position = xp.linspace(0.0, 1.0, steps + 1)
    levels = karras_levels(position, smallest=0.1, largest=4.0)
    levels[-1] *= rng.integers(2)
    return {
        "model": MixtureDenoiser(mixture, "ve"),
        "x": levels[0] * rng.standard_normal((size, D)),
        "z": rng.standard_normal((steps, size, D)),
        "levels": levels,
    }


def _of_three(levels, rows=3):
    x = xp.array([[0.5, -1.0], [2.0, 0.25], [0.0, 0.75]])[:rows]
    return {
        "model": MixtureDenoiser(three_components(), "ve"),
        "x": x,
        "z": xp.stack([-x * (k + 1) for k in range(len(levels) - 1)]),
        "levels": xp.array(levels),
    }


PATH = Interface(
    "level_grid",
    example=_path_example,
    edges={
        "one step": lambda: _of_three([2.0, 0.5]),
        "one step to the data": lambda: _of_three([0.7, 0.0]),
        "no step": lambda: _of_three([0.7, 0.7]),
        "one point": lambda: _of_three([2.0, 0.5, 0.1], 1),
        "levels in and out of the churn": lambda: _of_three([5.0, 1.0, 0.2, 0.1, 0.0]),
    },
)
"""A denoiser under the schedule "ve", noise x (N, D), fresh noise z (K, N, D), and K+1 falling noise levels."""


# ---- brute force


def by_rows(
    model,
    x,
    z,
    levels,
    *,
    churn=0.0,
    churn_min=0.0,
    churn_max=1e15,
    noise_scale=1.0,
    rule="heun",
):
    """Brute force: every row by itself, with the score of the mixture: the slope is -sigma times it."""

    def slope(row, sigma):
        return -sigma * model.mixture.noised(1.0, sigma).score(row[None])[0]

    rows = []
    for n, row in enumerate(x):
        for k in range(len(z)):
            now, then = float(levels[k]), float(levels[k + 1])
            added = 0.0
            if churn_min <= now and now <= churn_max:
                added = now * min(churn / len(z), 2**0.5 - 1)
            up = now + added
            row = row + math.sqrt(added * (2 * now + added)) * noise_scale * z[k, n]
            first = slope(row, up)
            second = first
            if rule == "heun" and then:
                second = slope(row + (then - up) * first, then)
            row = row + (then - up) / 2 * (first + second)
        rows.append(row)
    return xp.stack(rows)


def levels_by_roots(position, *, smallest=0.002, largest=80.0, rho=7.0):
    """Brute force: number by number, in logarithms."""
    high, low = (math.exp(math.log(end) / rho) for end in (largest, smallest))
    return xp.array(
        [math.exp(rho * math.log((1 - p) * high + p * low)) for p in position.tolist()]
    )


# ---- places


def _above_the_data(inputs):
    """levels are at least 0.05, without churn"""
    levels, model = xp.maximum(inputs["levels"], 0.05), inputs["model"]
    noise = MixtureNoise(model.mixture, "ve")
    return (
        {**inputs, "levels": levels},
        {"model": noise, "x": inputs["x"], "levels": levels},
    )


# ---- deviations


def _churn_after_the_model(
    model,
    x,
    z,
    levels,
    *,
    churn=0.0,
    churn_min=0.0,
    churn_max=1e15,
    noise_scale=1.0,
    rule="heun",
):
    hyper = {"churn_min": churn_min, "churn_max": churn_max, "rule": rule}
    if rule != "euler":
        return churned_path(
            model, x, z, levels, churn=churn, noise_scale=noise_scale, **hyper
        )
    for k, fresh in enumerate(z):
        now, then = float(levels[k]), float(levels[k + 1])
        # without churn the step is x + (then - now) d: its slope is that of the point before
        slope = (
            x - churned_path(model, x, fresh[None], xp.array([now, 0.0]), rule="euler")
        ) / now
        gamma = min(churn / len(z), math.sqrt(2) - 1)
        up = now * (1 + gamma * (churn_min <= now <= churn_max))
        x = x + math.sqrt(up**2 - now**2) * noise_scale * fresh
        x = x + (then - up) * slope
    return x


def _no_churn(
    model,
    x,
    z,
    levels,
    *,
    churn=0.0,
    churn_min=0.0,
    churn_max=1e15,
    noise_scale=1.0,
    rule="heun",
):
    return churned_path(model, x, z, levels, rule=rule)


def _larger_churn(
    model,
    x,
    z,
    levels,
    *,
    churn=0.0,
    churn_min=0.0,
    churn_max=1e15,
    noise_scale=1.0,
    rule="heun",
):
    most = len(z) * max(churn / len(z), math.sqrt(2) - 1)
    return churned_path(
        model,
        x,
        z,
        levels,
        churn=most,
        churn_min=churn_min,
        churn_max=churn_max,
        noise_scale=noise_scale,
        rule=rule,
    )


PATH_DEVIATIONS = (
    Deviation(
        "churn after the model",
        _churn_after_the_model,
        seen_in="diffusers 0.42.1 scheduling_euler_discrete.py and scheduling_edm_euler.py",
        computes="Euler steps from the churned point with the noise that the model saw in the point before",
    ),
    Deviation(
        "no churn",
        _no_churn,
        seen_in="diffusers 0.42.1 scheduling_heun_discrete.py",
        computes="steps with a churn of 0, whatever is asked for",
        documented=True,
    ),
    Deviation(
        "the larger churn",
        _larger_churn,
        seen_in="Comfy-Org/ComfyUI pull request 13820, corrected there",
        computes="max for min: a churn of at least 0.414 at every step",
    ),
)


def _kept(sigma=0.8, data_deviation=0.5, **_):
    return sigma * data_deviation / math.hypot(sigma, data_deviation)


def _shrunk(sigma=0.8, data_deviation=0.5, **_):
    return 1 / math.hypot(sigma, data_deviation)


def _scaled(scale, wrt):
    """The derivatives of what is linear in `wrt`: a scale, which serves as jvp and as vjp."""
    return {
        "wrt": wrt,
        "jvp": lambda *, tangent, **given: scale(**given) * tangent,
        "vjp": lambda *, cotangent, **given: scale(**given) * cotangent,
    }


def _output_example(rng, size):
    given = STEP.example(rng, size)
    return {"x": given["x"], "output": given["noise"]}


PRECONDITIONS = {"default": {}, "probe": {"sigma": 3.0, "data_deviation": 0.7}}


METHOD = Method(
    key="karras2022elucidating",
    provenance="confirmed",
    functions=(
        Estimator(
            f=karras_levels,
            example=lambda rng, size: {"position": rng.random(size)},
            edges={
                "the ends": lambda: {"position": xp.array([0.0, 1.0])},
                "one level": lambda: {"position": xp.array([0.5])},
            },
            settings={
                "default": {},
                "linear": {"rho": 1.0},
                "probe": {"smallest": 0.03, "largest": 14.6, "rho": 5.0},
            },
            brute_force=levels_by_roots,
            refused={
                "levels in the wrong order": {"smallest": 2.0, "largest": 1.0},
            },
        ),
        Estimator(
            f=churned_path,
            interface=PATH,
            settings={
                "default": {},
                "Euler": {"rule": "euler"},
                "the most churn": {"churn": 40.0, "churn_max": 1.0},
                "probe": {
                    "churn": 0.7,
                    "churn_min": 0.15,
                    "churn_max": 3.0,
                    "noise_scale": 1.1,
                    "rule": "euler",
                },
            },
            limits=(
                Limit(
                    "symplectic_adjoint.solve_flow",
                    {},
                    {"rule": "heun", "schedule": "ve"},
                    where=_above_the_data,
                ),
                Limit(
                    "symplectic_adjoint.solve_flow",
                    {"rule": "euler"},
                    {"rule": "euler", "schedule": "ve"},
                    where=_above_the_data,
                ),
            ),
            brute_force=by_rows,
            deviations=PATH_DEVIATIONS,
            refused={
                "levels that rise": {"levels": lambda levels: levels[::-1]},
                "data before the end": {"levels": 0},
            },
        ),
        Transform(
            f=precondition,
            example=_output_example,
            edges={
                "one number": lambda: {
                    "x": xp.array([[2.0]]),
                    "output": xp.array([[-1.0]]),
                }
            },
            **_scaled(_kept, "output"),
            settings=PRECONDITIONS,
        ),
        Transform(
            f=network_input,
            interface=STEP,
            **_scaled(_shrunk, "x"),
            settings=PRECONDITIONS,
        ),
    ),
)
