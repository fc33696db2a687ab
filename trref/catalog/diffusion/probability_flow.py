"""What is known of `trref.diffusion.probability_flow`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Sampler,
    Transform,
)
from trref.catalog.diffusion.interfaces import STEP
from trref.catalog.diffusion.score_models import moments_of_the_mixture
from trref.diffusion.noise_schedules import rates
from trref.diffusion.probability_flow import (
    exponential_step,
    flow_path,
    log_likelihood,
    reverse_drift,
    reverse_sample,
    sde_path,
)
from trref.problems.mixtures import (
    SCHEDULES,
    GaussianMixture,
    MixtureNoise,
    ring,
    three_components,
)

# ---- examples


def _scaled(scale, wrt="x"):
    """The derivatives of a step that is linear in `wrt`: a scale, which serves as jvp and as vjp."""

    def jvp(*, tangent, **given):
        return scale(**given) * tangent

    def vjp(*, cotangent, **given):
        return scale(**given) * cotangent

    return {"wrt": wrt, "jvp": jvp, "vjp": vjp}


def _of_exponential(
    alpha=0.6, sigma=0.8, next_alpha=0.8, next_sigma=0.6, given="noise", **_
):
    return next_alpha / alpha if given == "noise" else next_sigma / sigma


def _prediction_example(rng, size):
    given = STEP.example(rng, size)
    return {"x": given["x"], "prediction": given["noise"]}


def on_grid(model, x, z, times, schedule):
    """All that a path needs, with the levels and rates of a schedule at its times."""
    drift, squared_diffusion = rates(times, schedule=schedule)
    return {
        "model": model,
        "x": x,
        "z": z,
        "times": times,
        "sigma": SCHEDULES[schedule](times)[1],
        "drift": drift,
        "squared_diffusion": squared_diffusion,
    }


def _mixture(rng, D):
    cube = rng.standard_normal((3, D, D)) / 2
    return GaussianMixture(
        rng.dirichlet(xp.ones(3)),
        rng.standard_normal((3, D)),
        cube @ cube.swapaxes(1, 2) + 0.1 * xp.eye(D),
    )


def _path_example(rng, size):
    steps, D = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    schedule = ("vp", "ve", "flow")[rng.integers(3)]
    times = xp.linspace(0.95, rng.choice((0.1, 0.3, 0.5)), steps + 1) ** 2
    x, z = rng.standard_normal((size, D)), rng.standard_normal((steps, size, D))
    return on_grid(MixtureNoise(_mixture(rng, D), schedule), x, z, times, schedule)


def _of_three(times, schedule):
    x, times = xp.array([[0.5, -1.0], [2.0, 0.25]]), xp.array(times)
    model = MixtureNoise(three_components(), schedule)
    z = xp.stack([-x] * (len(times) - 1))
    return on_grid(model, x, z, times, schedule)


def _one_point():
    given = _of_three([0.9, 0.5, 0.2], "flow")
    return {**given, "x": given["x"][:1], "z": given["z"][:, :1]}


PATH = Interface(
    "flow_grid",
    example=_path_example,
    edges={
        "one step": lambda: _of_three([0.6, 0.2], "vp"),
        "no step": lambda: _of_three([0.4, 0.4], "vp"),
        "noise that explodes": lambda: _of_three([1.0, 0.6, 0.0], "ve"),
        "one point": _one_point,
    },
)
"""A model of noise under one of the three schedules, a start x (N, D), fresh noise z (K, N, D), and K+1 falling times
with their levels and rates."""


def _backwards(given):
    for name in ("times", "sigma", "drift", "squared_diffusion"):
        given[name] = given[name][::-1].copy()
    return given


TO_NOISE = Interface(
    "flow_grid",
    example=lambda rng, size: _backwards(_path_example(rng, size)),
    edges={
        name: lambda make=make: _backwards(make()) for name, make in PATH.edges.items()
    },
)
"""The same with times that rise."""


# ---- brute force: row by row, from the score of the mixture itself


def _score(model, row, t):
    alpha, sigma = SCHEDULES[model.schedule](t)
    return model.mixture.noised(alpha, sigma).score(row[None])[0]


def flow_by_rows(model, x, times, sigma, drift, squared_diffusion, *, rule="heun"):
    """Brute force: every row by itself, with the score of the mixture in the place of a model of the noise."""

    def velocity(row, k):
        return drift[k] * row - squared_diffusion[k] / 2 * _score(model, row, times[k])

    rows = []
    for row in x:
        for k in range(len(times) - 1):
            h = times[k + 1] - times[k]
            v = velocity(row, k)
            if rule == "heun":
                v = (v + velocity(row + h * v, k + 1)) / 2
            row = row + h * v
        rows.append(row)
    return xp.stack(rows)


def sde_by_rows(model, x, z, times, sigma, drift, squared_diffusion, *, churn=1.0):
    """Brute force: every row by itself, with the score of the mixture in the place of a model of the noise."""
    rows = []
    for n, row in enumerate(x):
        for k in range(len(z)):
            h, g2 = times[k + 1] - times[k], squared_diffusion[k]
            pull = (1 + churn**2) * g2 / 2 * _score(model, row, times[k])
            row = row + h * (drift[k] * row - pull)
            row = row + churn * xp.sqrt(-h * g2) * z[k, n]
        rows.append(row)
    return xp.stack(rows)


def likelihood_by_rows(model, x, times, sigma, drift, squared_diffusion):
    """Brute force: every row by itself, with the trace of the mixture's own Hessian."""

    def both(row, k):
        alpha, s = SCHEDULES[model.schedule](times[k])
        noised, g2 = model.mixture.noised(alpha, s), squared_diffusion[k]
        trace = noised.score_jacobian(row[None])[0].trace()
        v = drift[k] * row - g2 / 2 * noised.score(row[None])[0]
        return v, len(row) * drift[k] - g2 / 2 * trace

    values = []
    for row in x:
        total = 0.0
        for k in range(len(times) - 1):
            h = times[k + 1] - times[k]
            v, rate = both(row, k)
            w, other = both(row + h * v, k + 1)
            row, total = row + h * (v + w) / 2, total + h * (rate + other) / 2
        each = xp.exp(-((row / sigma[-1]) ** 2) / 2)
        each = each / (sigma[-1] * math.sqrt(2 * math.pi))
        values.append(total + xp.log(each).sum())
    return xp.array(values)


# ---- places


def _as_prediction(inputs):
    """alpha 0.8 and sigma 0.6, on the straight path"""
    return inputs, {"prediction": inputs["noise"], "x": inputs["x"]}


def _as_noise(inputs):
    """the squared levels of signal are 0.36 and 0.64"""
    x, noise = inputs["x"], inputs["prediction"]
    return inputs, {"x": x, "noise": noise, "z": 0 * x}


def _as_data(inputs):
    """data predicted, and the noise that belongs to it; the squared levels of signal are 0.36 and 0.64"""
    x = inputs["x"]
    noise = (x - 0.6 * inputs["prediction"]) / 0.8
    return inputs, {"x": x, "noise": noise, "z": 0 * x}


def _without_noise(inputs):
    """without fresh noise"""
    return inputs, {k: v for k, v in inputs.items() if k != "z"}


# ---- deviations


def _equal_steps(model, x, z, times, sigma, drift, squared_diffusion, *, churn=1.0):
    h = 1 / len(times)
    for k, fresh in enumerate(z):
        one = xp.array([1.0, 1.0 - h]).astype(times.dtype)
        # the model sees the grid's time, the step is one of 1/N
        at = [xp.stack([a[k], a[k]]) for a in (sigma, drift, squared_diffusion)]
        asked = _Late(model, times[k])
        x = sde_path(asked, x, fresh[None], one, *at, churn=churn)
    return x


@dataclasses.dataclass(frozen=True)
class _Late:
    """A model that is always asked at one time."""

    model: object
    time: object

    def __call__(self, x, t):
        return self.model(x, 0 * t + self.time)


EQUAL_STEPS = Deviation(
    "steps of 1/N on any grid",
    _equal_steps,
    seen_in="yang-song/score_sde_pytorch sampling.py; diffusers 0.42.1 ScoreSdeVpScheduler.step_pred",
    computes="steps of one over the number of times, however far these are apart",
)


def _one_probe(model, x, times, sigma, drift, squared_diffusion):
    return log_likelihood(_Probed(model), x, times, sigma, drift, squared_diffusion)


@dataclasses.dataclass(frozen=True)
class _Probed:
    """A model whose trace is estimated from a probe of ones: each entry of the diagonal is the sum of its row."""

    model: object

    def __call__(self, x, t):
        return self.model(x, t)

    def vjp(self, x, t, cotangent):
        probe = xp.ones_like(x)
        return cotangent * self.model.vjp(x, t, probe)


ONE_PROBE = Deviation(
    "trace from one probe",
    _one_probe,
    seen_in="yang-song/score_sde_pytorch likelihood.py, with a random probe of signs; here all are 1",
    computes="the divergence as one quadratic form in place of the sum of the diagonal",
    documented=True,
)


TIMES_RISE = {
    "times that rise": {"times": lambda times: times[::-1]},
}


METHOD = Method(
    key="song2021score",
    provenance="confirmed",
    functions=(
        Transform(
            f=reverse_drift,
            interface=STEP,
            **_scaled(lambda drift=-1.25, **_: drift),
            settings={
                "default": {},
                "with noise": {"churn": 1.0},
                "probe": {
                    "drift": -0.7,
                    "squared_diffusion": 1.6,
                    "sigma": 0.3,
                    "churn": 0.5,
                },
            },
            limits=(
                Limit(
                    "score_matching.convert_prediction",
                    {},
                    {"wanted": "velocity"},
                    where=_as_prediction,
                ),
            ),
        ),
        Transform(
            f=exponential_step,
            example=_prediction_example,
            edges={
                "against the signal": lambda: {
                    "x": xp.array([[1.0, -2.0]]),
                    "prediction": xp.array([[-1.0, 2.0]]),
                }
            },
            **_scaled(_of_exponential),
            settings={
                "default": {},
                "data": {"given": "data"},
                "to the data": {"next_alpha": 1.0, "next_sigma": 0.0, "given": "data"},
                "without a change of the signal": {"alpha": 1.0, "next_alpha": 1.0},
                "probe": {
                    "alpha": 0.3,
                    "sigma": 1.2,
                    "next_alpha": 0.7,
                    "next_sigma": 0.4,
                    "given": "data",
                },
            },
            limits=(
                Limit(
                    "score_models.ddim_step",
                    {},
                    {"alpha_bar": 0.36, "next_alpha_bar": 0.64},
                    where=_as_noise,
                ),
                Limit(
                    "score_models.ddim_step",
                    {"given": "data"},
                    {"alpha_bar": 0.36, "next_alpha_bar": 0.64},
                    where=_as_data,
                ),
            ),
        ),
        Estimator(
            f=flow_path,
            interface=PATH,
            settings={"default": {}, "probe": {"rule": "euler"}},
            brute_force=flow_by_rows,
            refused=TIMES_RISE,
        ),
        Estimator(
            f=sde_path,
            interface=PATH,
            settings={
                "default": {},
                "no noise": {"churn": 0.0},
                "probe": {"churn": 0.6},
            },
            limits=(
                Limit(
                    "probability_flow.flow_path",
                    {"churn": 0.0},
                    {"rule": "euler"},
                    where=_without_noise,
                ),
            ),
            brute_force=sde_by_rows,
            deviations=(EQUAL_STEPS,),
            refused=TIMES_RISE,
        ),
        Estimator(
            f=log_likelihood,
            interface=TO_NOISE,
            brute_force=likelihood_by_rows,
            deviations=(ONE_PROBE,),
            refused={
                "times that fall": {"times": lambda times: times[::-1]},
            },
        ),
        Sampler(
            f=reverse_sample,
            example=lambda rng, size: {"model": MixtureNoise(three_components())},
            edges={
                "a ring of modes": lambda: {"model": MixtureNoise(ring(spread=0.4))}
            },
            settings={
                "default": {},
                "the flow": {"churn": 0.0},
                "probe": {
                    "draws": 700,
                    "dims": 2,
                    "steps": 120,
                    "churn": 0.5,
                    "t_max": 0.9,
                    "t_min": 2e-3,
                },
            },
            moments=moments_of_the_mixture,
            refused={
                "ends in the wrong order": {"t_min": 0.9, "t_max": 0.1},
            },
        ),
    ),
)
