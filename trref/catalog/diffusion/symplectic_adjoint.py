"""What is known of `trref.diffusion.symplectic_adjoint`."""

import math

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Transform,
)
from trref.catalog.diffusion.interfaces import waves
from trref.diffusion.noise_schedules import time_at
from trref.diffusion.symplectic_adjoint import (
    TABLEAUX,
    guidance,
    guided_step,
    solve_flow,
    symplectic_adjoint,
    trained_guidance,
    travel_back,
)
from trref.problems.denoisers import Residual, TimeNetwork
from trref.problems.mixtures import (
    GaussianMixture,
    MixtureDenoiser,
    MixtureNoise,
    three_components,
)
from trref.problems.rewards import BumpReward, QuadraticReward

# ---- examples


def _mixture(rng, D):
    cube = rng.standard_normal((3, D, D)) / 2
    return GaussianMixture(
        rng.dirichlet(xp.ones(3)),
        rng.standard_normal((3, D)),
        cube @ cube.swapaxes(1, 2) + 0.2 * xp.eye(D),
    )


def _example(rng, size):
    """One to three steps from a ratio near 2 or 0.5; points of the size of the noisy data, or of the data."""
    D, steps = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    kind = (MixtureNoise, MixtureDenoiser)[rng.integers(2)]
    first = float(rng.choice((2.0, 0.5)))
    network = TimeNetwork(D, (int(rng.integers(3, 6)),))
    return {
        "model": kind(_mixture(rng, D)),
        "network": network,
        "theta": float(rng.choice((0.3, 1.0))) * rng.standard_normal(network.size),
        "x": float(rng.choice((1.0, 2.0))) * rng.standard_normal((size, D)),
        "levels": first * xp.linspace(1.0, 0.2, steps + 1) ** 2,
        "cotangent": rng.standard_normal((size, D)),
        "loss": BumpReward(QuadraticReward(rng.standard_normal(D)), xp.zeros(D), 2.0),
    }


def _in_the_plane(levels, residual=False):
    model, network = MixtureNoise(three_components()), TimeNetwork(2, (4,))
    return {
        "model": model,
        "network": Residual(model, network) if residual else network,
        "theta": waves(network.size),
        "x": waves(3, 2),
        "levels": xp.array(levels),
        "cotangent": waves(3, 2)[:, ::-1] ** 2,
        "loss": QuadraticReward(xp.array([0.5, -1.0])),
    }


def _near_one_mode(D):
    network = TimeNetwork(D, (2,))
    near = GaussianMixture(xp.ones(1), waves(1, D), 0.3 * xp.eye(D)[None])
    return {
        "model": MixtureNoise(near),
        "network": network,
        "theta": waves(network.size) / 2,
        "x": waves(1, D),
        "levels": xp.array([0.9, 0.4]),
        "cotangent": waves(1, D) ** 2,
        "loss": QuadraticReward(xp.zeros(D), 0.05),
    }


FLOW = Interface(
    "ratio_grid",
    example=_example,
    edges={
        "one step": lambda: _in_the_plane([1.0, 0.1]),
        "no step": lambda: _in_the_plane([0.7, 0.7]),
        "uneven steps": lambda: _in_the_plane([3.0, 0.3, 0.25, 0.01]),
        "a model and a correction": lambda: _in_the_plane([1.0, 0.4], residual=True),
        "one number": lambda: _near_one_mode(1),
        "one point in sixteen dimensions": lambda: _near_one_mode(16),
    },
)
"""A model, or a network with its parameters, noisy points x (N, D), and K+1 falling ratios of noise to signal; a
cotangent of the end, or a loss there."""

SETTINGS = {
    "default": {},
    "midpoint": {"rule": "midpoint"},
    "Heun": {"rule": "heun"},
    "data": {"given": "data"},
    "exploding noise": {"schedule": "ve", "rule": "midpoint"},
    "probe": {"given": "data", "rule": "rk4", "schedule": "flow"},
}


SMALL = {"sizes": (4, 8), "seeds": (0,)}
FEW = {name: SETTINGS[name] for name in ("default", "exploding noise", "probe")}
KEPT = ("uneven steps", "a model and a correction", "one number")
TRAINED = Interface(
    "ratio_grid", example=_example, edges={name: FLOW.edges[name] for name in KEPT}
)
"""The same with fewer edges, for what is differentiated by all its entries."""


# ---- brute force


def _tangents(model, x, levels, given, rule, schedule):
    """States and dense Jacobians (D, D) of one row's flow, forward through the stages."""
    a, b, c = TABLEAUX[rule]

    def at(s):
        ratio = s if given == "noise" else 1 / s
        alpha = {"vp": 1 / math.sqrt(1 + ratio**2), "flow": 1 / (1 + ratio), "ve": 1.0}
        scale = alpha[schedule] * (1.0 if given == "noise" else ratio)
        log_ratio = xp.array([-2 * math.log(max(ratio, 1e-12))])
        return scale, time_at(log_ratio, schedule=schedule)

    s = [float(v) if given == "noise" else 1 / float(v) for v in levels]
    first, D = at(s[0])[0], len(x)
    y, M = x / first, xp.eye(D) / first
    for k in range(len(s) - 1):
        h, slopes, moved = s[k + 1] - s[k], [], []
        for i, row in enumerate(a):
            X, T = y, M
            for share, slope, tangent in zip(row, slopes, moved, strict=True):
                X, T = X + h * share * slope, T + h * share * tangent
            scale, t = at(s[k] + c[i] * h)
            z = (scale * X)[None]
            J = xp.stack([model.vjp(z, t, e[None])[0] for e in xp.eye(D)])
            slopes.append(model(z, t)[0])
            moved.append(scale * J @ T)
        y = y + h * sum(w * slope for w, slope in zip(b, slopes, strict=True))
        M = M + h * sum(w * tangent for w, tangent in zip(b, moved, strict=True))
    last = at(s[-1])[0]
    return last * y, last * M


def by_dense_jacobians(
    model, x, levels, cotangent, *, given="noise", rule="euler", schedule="vp"
):
    """Brute force: the Jacobian of each row's end, forward through the stages, and its transpose."""
    rows = zip(x, cotangent, strict=True)
    return xp.stack(
        [
            _tangents(model, row, levels, given, rule, schedule)[1].T @ pulled
            for row, pulled in rows
        ]
    )


# ---- places


def _to_the_data(inputs):
    """one Euler step from the ratio 1 to the data"""
    x, levels = inputs["x"], xp.array([1.0, 0.0]).astype(inputs["x"].dtype)
    t = time_at(xp.zeros_like(x[:, 0]))
    return {**inputs, "levels": levels}, {"x": x, "noise": inputs["model"](x, t)}


def _as_ddim(inputs):
    """Euler steps in the form of the noise"""
    levels, x = inputs["levels"], inputs["x"]
    times = xp.minimum(time_at(-2 * xp.log(levels)), 1)
    chain = {
        "model": inputs["model"],
        "x": x,
        "z": xp.stack([0 * x] * (len(levels) - 1)),
        "times": times,
        "alpha_bar": 1 / (1 + levels**2),
    }
    return inputs, chain


# ---- deviations


class _Snapped:
    """A model that is asked, in time and in scale, at the nearest level of a grid."""

    def __init__(self, model, levels):
        self.model, self.levels = model, levels

    def __call__(self, x, t):
        ratio = self._ratio(t)
        nearest = self.levels[abs(self.levels - ratio).argmin()]
        scale = xp.sqrt((1 + ratio**2) / (1 + nearest**2))
        time = time_at(-2 * xp.log(xp.maximum(nearest + 0 * t, 1e-12)))
        return self.model(x * scale, time)

    @staticmethod
    def _ratio(t):
        square = xp.exp(-(t[0] ** 2) * (20.0 - 0.1) / 2 - t[0] * 0.1)
        return xp.sqrt(1 / square - 1)


def _time_snapped(model, x, levels, *, given="noise", rule="euler", schedule="vp"):
    if schedule != "vp" or given != "noise":
        return solve_flow(model, x, levels, given=given, rule=rule, schedule=schedule)
    return solve_flow(_Snapped(model, levels), x, levels, rule=rule)


TIME_SNAPPED = Deviation(
    "stages at the nearest level",
    _time_snapped,
    seen_in="HanshuYAN/AdjointDPM img_guided_sampling/guided_sampling/pipeline_sd_guided.py",
    computes="stages between two levels with the time and the scale of the nearer one (here in the form of the noise)",
)


def _backwards(
    model, x, levels, cotangent, *, given="noise", rule="euler", schedule="vp"
):
    """Point and adjoint by the same method, from the end to the start, row by row."""
    a, b, c = TABLEAUX[rule]
    hyper = {"given": given, "schedule": schedule}
    s = levels if given == "noise" else 1 / levels

    def at(s):
        ratio = s if given == "noise" else 1 / s
        alpha = {"vp": 1 / xp.sqrt(1 + ratio**2), "flow": 1 / (1 + ratio), "ve": 1.0}
        scale = alpha[schedule] * (1.0 if given == "noise" else ratio)
        log_ratio = -2 * xp.log(xp.maximum(ratio + 0 * x[:, 0], 1e-12))
        return scale, time_at(log_ratio, schedule=schedule)

    y = solve_flow(model, x, levels, rule=rule, **hyper) / at(s[-1])[0]
    adjoint = at(s[-1])[0] * cotangent
    for k in reversed(range(len(s) - 1)):
        h, slopes = s[k] - s[k + 1], []
        for i, row in enumerate(a):
            Y, A = y, adjoint
            for share, (u, v) in zip(row, slopes, strict=True):
                Y, A = Y + h * share * u, A + h * share * v
            scale, t = at(s[k + 1] + c[i] * h)
            slopes.append((model(scale * Y, t), -scale * model.vjp(scale * Y, t, A)))
        y = y + h * sum(w * u for w, (u, _) in zip(b, slopes, strict=True))
        adjoint = adjoint + h * sum(w * v for w, (_, v) in zip(b, slopes, strict=True))
    return adjoint / at(s[0])[0]


CONTINUOUS_ADJOINT = Deviation(
    "the adjoint equation solved backwards",
    _backwards,
    seen_in="torchdiffeq odeint_adjoint, which the authors' earlier AdjointDPM is built on",
    computes="the gradient of the flow's solution, off by the error of the method, at points integrated back",
    documented=True,
)


def _rms_of_the_batch(x, gradient, gap, *, strength=0.2, scale=7.5):
    size, moved = xp.sqrt((gradient**2).mean()), xp.sqrt((gap**2).mean())
    return x - strength * scale * moved / xp.where(size > 0, size, 1) * gradient


RMS_OF_THE_BATCH = Deviation(
    "rms over the batch",
    _rms_of_the_batch,
    seen_in="HanshuYAN/AdjointDPM img_guided_sampling/guided_sampling/pipeline_sd_guided.py",
    computes="one weight for all samples, from means over the whole batch",
)


def _step_example(rng, size):
    names, D = ("x", "gradient", "gap"), int(rng.integers(1, 5))
    return {name: rng.standard_normal((size, D)) for name in names}


def _step_edge(gradient, gap):
    gradient, gap = xp.array(gradient), xp.array(gap)
    return {"x": 2 * gap - gradient, "gradient": gradient, "gap": gap}


def _travel_example(rng, size):
    D = int(rng.integers(1, 5))
    return {name: rng.standard_normal((size, D)) for name in ("x", "z")}


def step_by_rows(x, gradient, gap, *, strength=0.2, scale=7.5):
    """Brute force: row by row, with norms, whose ratio is that of the rms."""
    rows = []
    for here, g, d in zip(x, gradient, gap, strict=True):
        length = math.sqrt(float(g @ g))
        unit = g / length if length else g
        rows.append(here - strength * scale * math.sqrt(float(d @ d)) * unit)
    return xp.stack(rows)


def _scale(alpha_bar=0.5, next_alpha_bar=0.8, **_):
    return math.sqrt(alpha_bar / next_alpha_bar)


REFUSED = {
    "levels that rise": {"levels": lambda levels: levels[::-1]},
    "no noise at the start": {"levels": 0},
    "one level": {"levels": lambda levels: levels[:1]},
}


METHOD = Method(
    key="pan2023accurate",
    provenance="confirmed",
    functions=(
        Transform(
            f=solve_flow,
            interface=FLOW,
            wrt="x",
            vjp=symplectic_adjoint,
            settings=SETTINGS,
            **SMALL,
            limits=(
                Limit("score_models.denoise", {}, where=_to_the_data),
                Limit("score_models.ddim_from_noise", {}, where=_as_ddim),
            ),
            deviations=(TIME_SNAPPED,),
            refused=REFUSED,
        ),
        Estimator(
            f=symplectic_adjoint,
            interface=FLOW,
            settings=SETTINGS,
            **SMALL,
            brute_force=by_dense_jacobians,
            deviations=(CONTINUOUS_ADJOINT,),
            refused=REFUSED,
        ),
        Objective(
            f=guidance,
            interface=TRAINED,
            wrt="x",
            settings=FEW,
            **SMALL,
            refused=REFUSED,
        ),
        Objective(
            f=trained_guidance,
            interface=TRAINED,
            wrt=("theta", "x"),
            settings=FEW,
            **SMALL,
            refused=REFUSED,
        ),
        Estimator(
            f=guided_step,
            example=_step_example,
            edges={
                "no gradient in a row": lambda: _step_edge(
                    [[0.0, 0.0], [1.0, -2.0]], [[1.0, 1.0], [0.5, 0.0]]
                ),
                "equal predictions": lambda: _step_edge([[1.0, 2.0]], [[0.0, 0.0]]),
            },
            settings={
                "default": {},
                "without strength": {"strength": 0.0},
                "probe": {"strength": 0.3, "scale": 4.0},
            },
            brute_force=step_by_rows,
            deviations=(RMS_OF_THE_BATCH,),
        ),
        Transform(
            f=travel_back,
            example=_travel_example,
            edges={
                "one row": lambda: {
                    "x": xp.array([[1.0, -2.0]]),
                    "z": xp.array([[0.5, 3.0]]),
                }
            },
            wrt="x",
            jvp=lambda *, tangent, **given: _scale(**given) * tangent,
            vjp=lambda *, cotangent, **given: _scale(**given) * cotangent,
            settings={
                "default": {},
                "from the data": {"next_alpha_bar": 1.0},
                "probe": {"alpha_bar": 0.3, "next_alpha_bar": 0.45},
            },
            refused={
                "a step away from the data": {"alpha_bar": 0.8, "next_alpha_bar": 0.5},
            },
        ),
    ),
)
