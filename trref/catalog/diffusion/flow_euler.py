"""What is known of `trref.diffusion.flow_euler`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Transform
from trref.catalog.diffusion.interfaces import STEP
from trref.diffusion.flow_euler import (
    dynamic_mu,
    euler_step,
    shift,
    shifted_levels,
    stochastic_step,
    stretch,
    velocity_path,
)
from trref.problems.mixtures import (
    GaussianMixture,
    MixtureDenoiser,
    MixtureNoise,
    MixtureVelocity,
    three_components,
)

# ---- examples


def _step_example(rng, size):
    given = STEP.example(rng, size)
    return {"x": given["x"], "velocity": given["noise"], "z": given["z"]}


def _step_edge(x, velocity):
    x, velocity = xp.array(x), xp.array(velocity)
    return {"x": x, "velocity": velocity, "z": x - 2 * velocity}


FLOW_STEP = Interface(
    "flow_step",
    example=_step_example,
    edges={
        "no velocity": lambda: _step_edge([[1.0, -2.0]], [[0.0, 0.0]]),
        "away from the data": lambda: _step_edge(
            [[1.0, -2.0], [0.5, 0.0]], [[-2.0, 4.0], [3.0, 0.0]]
        ),
    },
)
"""Points x (N, D), the velocity estimated there, and fresh noise z."""


def _path_example(rng, size):
    steps, D = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    cube = rng.standard_normal((3, D, D)) / 2
    mixture = GaussianMixture(
        rng.dirichlet(xp.ones(3)),
        rng.standard_normal((3, D)),
        cube @ cube.swapaxes(1, 2) + 0.1 * xp.eye(D),
    )
    position = xp.linspace(0.0, 1.0, steps + 1)
    return {
        "model": MixtureVelocity(mixture),
        "x": rng.standard_normal((size, D)),
        "times": shifted_levels(position, smallest=rng.choice((0.0, 0.1))),
    }


def _of_three(times, rows=3):
    x = xp.array([[0.5, -1.0], [2.0, 0.25], [0.0, 0.75]])[:rows]
    model = MixtureVelocity(three_components())
    return {"model": model, "x": x, "times": xp.array(times)}


PATH = Interface(
    "velocity_grid",
    example=_path_example,
    edges={
        "one step": lambda: _of_three([1.0, 0.0]),
        "no step": lambda: _of_three([0.4, 0.4]),
        "one point": lambda: _of_three([1.0, 0.5, 0.1], 1),
    },
)
"""The velocity of a mixture, noise x (N, D), and K+1 falling noise times."""


# ---- brute force


def path_by_rows(model, x, times, *, rule="euler"):
    """Brute force: row by row, with the mixture's own estimates of noise and of data."""
    noise = MixtureNoise(model.mixture, "flow")
    data = MixtureDenoiser(model.mixture, "flow")

    def velocity(row, u):
        t = xp.array([u])
        return (noise(row[None], t) - data(row[None], t))[0]

    rows, grid = [], times.tolist()
    for row in x:
        for k in range(len(grid) - 1):
            h = grid[k] - grid[k + 1]
            v = velocity(row, grid[k])
            if rule == "heun" and grid[k + 1] > 0:
                v = v / 2 + velocity(row - h * v, grid[k + 1]) / 2
            row = row - h * v
        rows.append(row)
    return xp.stack(rows)


def shift_by_odds(u, *, factor=3.0, power=1.0):
    """Brute force: number by number, through the odds of the data."""
    return xp.array(
        [0.0 if v == 0 else 1 / (1 + (1 / v - 1) ** power / factor) for v in u.tolist()]
    )


def levels_by_odds(position, *, factor=3.0, smallest=0.0):
    """Brute force: number by number."""
    plain = [(1 - p) + p * smallest for p in position.tolist()]
    return xp.array([factor * u / (1 + (factor - 1) * u) for u in plain])


def mu_by_weights(tokens, *, few=256.0, many=4096.0, mu_few=0.5, mu_many=1.15):
    """Brute force: the mean of the two ends, weighted by the distances from them."""
    weighted = [(m - few) * mu_many + (many - m) * mu_few for m in tokens.tolist()]
    return xp.array(weighted) / (many - few)


def stretched_by_hand(u, *, terminal=0.02):
    """Brute force: number by number, in signal levels."""
    signal = [1 - v for v in u.tolist()]
    return xp.array([1 - s * (1 - terminal) / signal[-1] for s in signal])


# ---- places: all at the default times, 0.6 and 0.2


def _as_noise(inputs):
    """the noise is that of the velocity"""
    x = inputs["x"]
    return inputs, {"x": x, "prediction": x + 0.4 * inputs["velocity"]}


def _as_variance_preserving(inputs):
    """the point is scaled to unit levels, and the noise is that of the velocity"""
    x, n = inputs["x"], math.sqrt(0.4**2 + 0.6**2)
    noise = x + 0.4 * inputs["velocity"]
    return inputs, {"x": x / n, "noise": noise, "z": 0 * x}


def _its_scale(inputs):
    """times the scale of the path at 0.2"""
    return math.hypot(0.8, 0.2)


def _own_noise(inputs):
    """what is drawn is the noise of the velocity"""
    noise = inputs["x"] + 0.4 * inputs["velocity"]
    return {**inputs, "z": noise}


def _before_pure_noise(inputs):
    """times are at most 0.9"""
    times, model = xp.minimum(inputs["times"], 0.9), inputs["model"]
    ratios = {"levels": times / (1 - times), "x": inputs["x"]}
    return (
        {**inputs, "times": times},
        {**ratios, "model": MixtureNoise(model.mixture, "flow")},
    )


# ---- deviations


def _data_time(x, velocity, *, u=0.6, next_u=0.2):
    return euler_step(x, -velocity, u=u, next_u=next_u)


def _shifted_twice(position, *, factor=3.0, smallest=0.0):
    end = float(shift(xp.array([smallest]), factor=factor)[0])
    return shifted_levels(position, factor=factor, smallest=end)


A_STEP_AWAY = {
    "a step away from the data": {"u": 0.2, "next_u": 0.6},
}


METHOD = Method(
    key="lipman2023flow",
    provenance="confirmed",
    functions=(
        Transform(
            f=euler_step,
            interface=FLOW_STEP,
            wrt="x",
            jvp=lambda *, tangent, **_: tangent.copy(),
            vjp=lambda *, cotangent, **_: cotangent.copy(),
            settings={
                "default": {},
                "from noise to data": {"u": 1.0, "next_u": 0.0},
                "probe": {"u": 0.9, "next_u": 0.35},
            },
            limits=(
                Limit(
                    "probability_flow.exponential_step",
                    {},
                    {"alpha": 0.4, "sigma": 0.6, "next_alpha": 0.8, "next_sigma": 0.2},
                    where=_as_noise,
                ),
                Limit(
                    "score_models.ddim_step",
                    {},
                    {"alpha_bar": 0.16 / 0.52, "next_alpha_bar": 0.64 / 0.68},
                    where=_as_variance_preserving,
                    factor=_its_scale,
                ),
            ),
            deviations=(
                Deviation(
                    "data time",
                    _data_time,
                    seen_in="facebookresearch/flow_matching, whose paths run from noise at 0 to data at 1",
                    computes="a step along the opposite velocity: away from the data, if fed with that of noise time",
                    documented=True,
                ),
            ),
            refused=A_STEP_AWAY,
        ),
        Transform(
            f=stochastic_step,
            interface=FLOW_STEP,
            wrt="x",
            jvp=lambda *, tangent, next_u=0.2, **_: (1 - next_u) * tangent,
            vjp=lambda *, cotangent, next_u=0.2, **_: (1 - next_u) * cotangent,
            settings={
                "default": {},
                "to the data": {"next_u": 0.0},
                "probe": {"u": 0.9, "next_u": 0.35},
            },
            limits=(Limit("flow_euler.euler_step", {}, where=_own_noise),),
            refused=A_STEP_AWAY,
        ),
        Estimator(
            f=velocity_path,
            interface=PATH,
            settings={"default": {}, "probe": {"rule": "heun"}},
            limits=(
                Limit(
                    "symplectic_adjoint.solve_flow",
                    {},
                    {"schedule": "flow"},
                    where=_before_pure_noise,
                ),
            ),
            brute_force=path_by_rows,
            refused={
                "times that rise": {"times": lambda times: times[::-1]},
            },
        ),
        Estimator(
            f=shift,
            example=lambda rng, size: {"u": rng.random(size)},
            edges={"the ends": lambda: {"u": xp.array([0.0, 0.5, 1.0])}},
            settings={
                "default": {},
                "towards the data": {"factor": 0.5},
                "probe": {"factor": 2.5, "power": 1.3},
            },
            brute_force=shift_by_odds,
        ),
        Estimator(
            f=shifted_levels,
            example=lambda rng, size: {"position": rng.random(size)},
            edges={"the ends": lambda: {"position": xp.array([0.0, 1.0])}},
            settings={"default": {}, "probe": {"factor": 2.5, "smallest": 0.01}},
            brute_force=levels_by_odds,
            deviations=(
                Deviation(
                    "the smallest level shifted twice",
                    _shifted_twice,
                    seen_in="diffusers 0.42.1 scheduling_flow_match_euler_discrete.py",
                    computes="levels between 1 and a smallest one that was shifted before",
                ),
            ),
        ),
        Estimator(
            f=dynamic_mu,
            example=lambda rng, size: {"tokens": rng.uniform(100.0, 9000.0, size)},
            edges={"the two counts": lambda: {"tokens": xp.array([256.0, 4096.0])}},
            settings={
                "default": {},
                "probe": {
                    "few": 300.0,
                    "many": 5000.0,
                    "mu_few": 0.4,
                    "mu_many": 1.3,
                },
            },
            brute_force=mu_by_weights,
            refused={
                "counts in the wrong order": {"few": 2.0, "many": 1.0},
            },
        ),
        Estimator(
            f=stretch,
            example=lambda rng, size: {
                "u": xp.sort(rng.uniform(0.05, 0.98, size))[::-1].copy()
            },
            edges={
                "one level": lambda: {"u": xp.array([0.3])},
                "from pure noise to the data": lambda: {"u": xp.array([1.0, 0.5, 0.0])},
            },
            settings={"default": {}, "probe": {"terminal": 0.1}},
            brute_force=stretched_by_hand,
            refused={
                "an end of noise alone": {"u": 1},
            },
        ),
    ),
)
