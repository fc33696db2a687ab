"""What is known of `trref.diffusion.score_models`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Sampler, Transform
from trref.catalog.diffusion.interfaces import STEP
from trref.diffusion.score_models import (
    ddim_from_noise,
    ddim_sample,
    ddim_step,
    ddpm_step,
    denoise,
    renoise,
)
from trref.problems.mixtures import (
    GaussianMixture,
    MixtureNoise,
    ring,
    three_components,
    vp_schedule,
)


def _scaling(scale, wrt):
    """The derivatives of a step that is linear in `wrt`: a scale, which serves as jvp and as vjp."""

    def jvp(*, tangent, **given):
        return scale(**given) * tangent

    def vjp(*, cotangent, **given):
        return scale(**given) * cotangent

    return {"wrt": wrt, "jvp": jvp, "vjp": vjp}


def _of_denoise(alpha_bar=0.5, **_):
    return 1 / math.sqrt(alpha_bar)


def _of_renoise(next_alpha_bar=0.8, **_):
    return math.sqrt(next_alpha_bar)


def _of_ddim(alpha_bar=0.5, next_alpha_bar=0.8, **_):
    return math.sqrt(next_alpha_bar / alpha_bar)


def _of_ddpm(alpha_bar=0.5, next_alpha_bar=0.8, **_):
    return (
        math.sqrt(alpha_bar / next_alpha_bar) * (1 - next_alpha_bar) / (1 - alpha_bar)
    )


STEP_SETTINGS = {
    "default": {},
    "DDPM": {"eta": 1.0},
    "to the data": {"next_alpha_bar": 1.0, "eta": 1.0},
    "probe": {"alpha_bar": 0.3, "next_alpha_bar": 0.45, "eta": 0.6},
}


# ---- places: all at the default levels, 0.5 and 0.8


def _as_prediction(inputs):
    """a prediction of the noise becomes one of the data"""
    return inputs, {"prediction": inputs["noise"], "x": inputs["x"]}


def _state_of_the_estimate(inputs):
    """the state is the estimate of the data with the estimate of the noise"""
    x0, noise = inputs["x0"], inputs["noise"]
    x = math.sqrt(0.5) * x0 + math.sqrt(0.5) * noise
    return inputs, {"x": x, "x0": x0, "z": inputs["z"]}


def _estimate_of_the_noise(inputs):
    """the noise is what the estimate of the data leaves of the state"""
    x = inputs["x"]
    noise = (x - math.sqrt(0.5) * inputs["x0"]) / math.sqrt(0.5)
    return inputs, {"x": x, "noise": noise, "z": inputs["z"]}


def moments_of_the_mixture(x, model, *, draws=1000, eta=0.0, steps=100, **_):
    """Mean and covariance of the mixture: five standard errors, and a bias that falls like 1/steps."""
    mixture, n = model.mixture, len(x)
    mean, covariance = mixture.mean(), mixture.covariance()
    moments = {}
    for i in range(mean.size):
        deviation = math.sqrt(float(covariance[i, i]))
        moments[f"mean {i}"] = (
            float(x[:, i].mean()),
            float(mean[i]),
            deviation * (5 / math.sqrt(n) + 3 / steps),
        )
        for j in range(i + 1):
            product = (x[:, i] - x[:, i].mean()) * (x[:, j] - x[:, j].mean())
            allowance = (
                5 * float(product.std()) / math.sqrt(n)
                + 6 / steps * deviation * float(covariance[j, j]) ** 0.5
            )
            moments[f"covariance {i}{j}"] = (
                float(product.mean()),
                float(covariance[i, j]),
                allowance,
            )
    return moments


# ---- paths from noise


def _path_example(rng, size):
    steps, D = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    cube = rng.standard_normal((3, D, D)) / 2
    mixture = GaussianMixture(
        rng.dirichlet(xp.ones(3)),
        rng.standard_normal((3, D)),
        cube @ cube.swapaxes(1, 2) + 0.1 * xp.eye(D),
    )
    times = xp.linspace(1.0, rng.choice((0.0, 0.1, 0.5)), steps + 1) ** 2
    return {
        "model": MixtureNoise(mixture),
        "x": rng.standard_normal((size, D)),
        "z": rng.standard_normal((steps, size, D)),
        "times": times,
        "alpha_bar": vp_schedule(times)[0] ** 2,
    }


def _one_step(alpha_bar):
    x = xp.array([[0.5, -1.0], [2.0, 0.25]])
    return {
        "model": MixtureNoise(three_components()),
        "x": x,
        "z": -x[None],
        "times": xp.array([0.6, 0.2]),
        "alpha_bar": xp.array(alpha_bar),
    }


def ancestral(model, x, z, times, alpha_bar, *, eta=0.0):
    """Brute force: the mean of DDPM's posterior, moved towards DDIM by what of the noise is kept, step by step.

    With a = alpha_bar_t / alpha_bar_s the posterior of x_s given x_t and the data has the variance
    (1 - alpha_bar_s)(1 - a)/(1 - alpha_bar_t), of which eta² is drawn afresh.
    """
    for k in range(len(z)):
        t, s = float(alpha_bar[k]), float(alpha_bar[k + 1])
        noise = model(x, xp.full(len(x), float(times[k])))
        signal = x - math.sqrt(1 - t) * noise
        posterior = (1 - s) * (1 - t / s) / (1 - t)
        direction = math.sqrt(1 - s) * math.sqrt(
            max(0.0, 1 - eta**2 * (1 - t / s) / (1 - t))
        )
        x = (
            math.sqrt(s / t) * signal
            + direction * noise
            + eta * math.sqrt(posterior) * z[k]
        )
    return x


# ---- deviations


def _with_variance(x, noise, z, alpha_bar, next_alpha_bar, variance):
    x0 = (x - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)
    kept = math.sqrt(max(1 - next_alpha_bar - variance, 0.0))
    return math.sqrt(next_alpha_bar) * x0 + kept * noise + math.sqrt(variance) * z


def _larger_variance(x, noise, z, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    return _with_variance(
        x,
        noise,
        z,
        alpha_bar,
        next_alpha_bar,
        eta**2 * (1 - alpha_bar / next_alpha_bar),
    )


def _variance_of_the_noise(x, noise, z, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    return _with_variance(
        x, noise, z, alpha_bar, next_alpha_bar, eta**2 * (1 - alpha_bar)
    )


def _data_clipped(x, noise, z, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    x0 = ddim_step(x, noise, z, alpha_bar=alpha_bar, next_alpha_bar=1.0)
    step = ddim_step(
        x, noise, z, alpha_bar=alpha_bar, next_alpha_bar=next_alpha_bar, eta=eta
    )
    return step + math.sqrt(next_alpha_bar) * (xp.clip(x0, -1, 1) - x0)


def _posterior_larger(x, x0, z, *, alpha_bar=0.5, next_alpha_bar=0.8):
    mean = ddpm_step(x, x0, 0 * z, alpha_bar=alpha_bar, next_alpha_bar=next_alpha_bar)
    return mean + math.sqrt(1 - alpha_bar / next_alpha_bar) * z


POSTERIOR_LARGER = Deviation(
    "DDPM's larger variance",
    _posterior_larger,
    seen_in="openai/guided-diffusion and diffusers DDPMScheduler with fixed_large; the paper of DDPM gives both",
    computes="fresh noise of variance 1 - alpha_bar / next_alpha_bar, that of one forward step",
    documented=True,
)

STEP_DEVIATIONS = (
    Deviation(
        "DDPM's larger variance",
        _larger_variance,
        seen_in="openai/guided-diffusion and others with fixed_large; the paper of DDPM gives both",
        computes="fresh noise of variance eta² (1 - alpha_bar / next_alpha_bar), that of one forward step",
        documented=True,
    ),
    Deviation(
        "fresh noise of all the noise's variance",
        _variance_of_the_noise,
        seen_in="a slip of re-implementations; in none of the public samplers read",
        computes="fresh noise of variance eta² (1 - alpha_bar), whatever the length of the step",
    ),
    Deviation(
        "data clipped to ±1",
        _data_clipped,
        seen_in="diffusers DDIMScheduler with clip_sample=True, its default",
        computes="the estimate of the data cut off at ±1, and the noise left as it is",
        documented=True,
    ),
)


def _one_step_late(model, x, z, times, alpha_bar, *, eta=0.0):
    late = xp.concatenate([alpha_bar[1:], alpha_bar[-1:]])
    late = xp.minimum(late, 1 - 1e-6)  # where all of the noise is gone there is no step
    return ddim_from_noise(model, x, z, times, late, eta=eta)


def _model_one_step_late(model, x, z, times, alpha_bar, *, eta=0.0):
    return ddim_from_noise(
        model, x, z, xp.concatenate([times[1:], times[-1:]]), alpha_bar, eta=eta
    )


PATH_DEVIATIONS = (
    Deviation(
        "schedule read one step late",
        _one_step_late,
        seen_in="a slip of re-implementations, where the list of levels begins with that of the data or lacks it",
        computes="signal levels of the next time while the model sees this one",
    ),
    Deviation(
        "model asked at the next time",
        _model_one_step_late,
        seen_in="a slip of re-implementations of the loop",
        computes="the noise at the time to which the step leads",
    ),
)


A_STEP_AWAY = {
    "a step away from the data": {"alpha_bar": 0.8, "next_alpha_bar": 0.5},
}


METHOD = Method(
    key="song2020denoising",
    provenance="confirmed",
    functions=(
        Transform(
            f=denoise,
            interface=STEP,
            **_scaling(_of_denoise, "x"),
            settings={
                "default": {},
                "little signal": {"alpha_bar": 1e-4},
                "probe": {"alpha_bar": 0.3},
            },
            limits=(
                Limit(
                    "score_matching.convert_prediction",
                    {"alpha_bar": 0.64},
                    where=_as_prediction,
                ),
            ),
        ),
        Transform(
            f=renoise,
            interface=STEP,
            **_scaling(_of_renoise, "x0"),
            settings=STEP_SETTINGS,
            limits=(
                Limit(
                    "score_models.ddpm_step", {"eta": 1.0}, where=_state_of_the_estimate
                ),
            ),
            refused=A_STEP_AWAY,
        ),
        Transform(
            f=ddim_step,
            interface=STEP,
            **_scaling(_of_ddim, "x"),
            settings=STEP_SETTINGS,
            limits=(Limit("score_models.denoise", {"next_alpha_bar": 1.0}),),
            deviations=STEP_DEVIATIONS,
            refused=A_STEP_AWAY,
        ),
        Transform(
            f=ddpm_step,
            interface=STEP,
            **_scaling(_of_ddpm, "x"),
            settings={
                name: {k: v for k, v in hyper.items() if k != "eta"}
                for name, hyper in STEP_SETTINGS.items()
                if name in ("default", "probe")
            },
            limits=(
                Limit(
                    "score_models.ddim_step",
                    {},
                    {"eta": 1.0},
                    where=_estimate_of_the_noise,
                ),
            ),
            deviations=(POSTERIOR_LARGER,),
            refused=A_STEP_AWAY,
        ),
        Estimator(
            f=ddim_from_noise,
            example=_path_example,
            edges={
                "one step": lambda: _one_step([0.1, 0.7]),
                "one step to the data": lambda: _one_step([0.1, 1.0]),
                "no step": lambda: _one_step([0.4, 0.4]),
            },
            settings={"default": {}, "DDPM": {"eta": 1.0}, "probe": {"eta": 0.6}},
            brute_force=ancestral,
            deviations=PATH_DEVIATIONS,
            refused={
                "times that rise": {"times": lambda times: times[::-1]},
                "levels that fall": {"alpha_bar": lambda alpha_bar: alpha_bar[::-1]},
                "no signal at the start": {"alpha_bar": 0},
                "data before the end": {"alpha_bar": 1},
            },
        ),
        Sampler(
            f=ddim_sample,
            example=lambda rng, size: {"model": MixtureNoise(three_components())},
            edges={"a ring of narrow modes": lambda: {"model": MixtureNoise(ring())}},
            settings={
                "default": {},
                "DDPM": {"eta": 1.0},
                "probe": {
                    "draws": 700,
                    "dims": 2,
                    "steps": 80,
                    "eta": 0.5,
                    "t_min": 2e-3,
                    "beta0": 0.2,
                    "beta1": 15.0,
                },
            },
            moments=moments_of_the_mixture,
        ),
    ),
)
