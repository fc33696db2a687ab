"""What is known of `trref.diffusion.ddpm`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective, Transform
from trref.catalog.diffusion.interfaces import STEP
from trref.diffusion.ddpm import ancestral_step, range_variance, variance_loss
from trref.diffusion.score_models import ddpm_step, denoise

PROBE = {"alpha_bar": 0.3, "next_alpha_bar": 0.45}


def _scale(alpha_bar=0.5, next_alpha_bar=0.8, **_):
    return math.sqrt(next_alpha_bar / alpha_bar)


def _step_jvp(*, tangent, **given):
    """At a given noise the mean is linear in x, with the scale 1/sqrt(a)."""
    return _scale(**given) * tangent


def _step_vjp(*, cotangent, **given):
    return _scale(**given) * cotangent


def _slope(v, alpha_bar=0.5, next_alpha_bar=0.8):
    """The ratio of the variances is (1 - alpha_bar)/(1 - next_alpha_bar); the logarithm moves by half of its own."""
    half = math.log((1 - alpha_bar) / (1 - next_alpha_bar)) / 2
    return half * range_variance(v, alpha_bar=alpha_bar, next_alpha_bar=next_alpha_bar)


# ---- places


def _at_the_small(inputs):
    """v is -1"""
    return {**inputs, "v": 0 * inputs["x"] - 1}


def _at_the_large(inputs):
    """v is 1"""
    return {**inputs, "v": 0 * inputs["x"] + 1}


# ---- deviations


def _moved(x, noise, z, v, clipped, kind, **levels):
    """A step of the method's, from a clipped estimate of the data."""
    x0 = denoise(x, noise, alpha_bar=levels["alpha_bar"])
    change = xp.clip(x0, -1, 1) - x0 if clipped else 0 * x0
    shift = ddpm_step(0 * x, change, 0 * x, **levels)
    return ancestral_step(x, noise, z, v, variance=kind, **levels) + shift


def _data_clipped(
    x, noise, z, v=None, *, alpha_bar=0.5, next_alpha_bar=0.8, variance="small"
):
    levels = {"alpha_bar": alpha_bar, "next_alpha_bar": next_alpha_bar}
    return _moved(x, noise, z, v, True, variance, **levels)


def _large_and_clipped(
    x, noise, z, v=None, *, alpha_bar=0.5, next_alpha_bar=0.8, variance="small"
):
    levels = {"alpha_bar": alpha_bar, "next_alpha_bar": next_alpha_bar}
    return _moved(x, noise, z, v, True, "large", **levels)


def _noise_at_the_end(
    x, noise, z, v=None, *, alpha_bar=0.5, next_alpha_bar=0.8, variance="small"
):
    levels = {"alpha_bar": alpha_bar, "next_alpha_bar": next_alpha_bar}
    step = ancestral_step(x, noise, z, v, variance=variance, **levels)
    late = next_alpha_bar == 1 and variance == "large"
    return step + math.sqrt(1 - alpha_bar) * z if late else step


def _between_variances(v, *, alpha_bar=0.5, next_alpha_bar=0.8):
    large = 1 - alpha_bar / next_alpha_bar
    small = (1 - next_alpha_bar) / (1 - alpha_bar) * large
    return (v + 1) / 2 * large + (1 - v) / 2 * small


def _bits_an_entry(v, x, x0, noise, *, alpha_bar=0.5, next_alpha_bar=0.8):
    levels = {"alpha_bar": alpha_bar, "next_alpha_bar": next_alpha_bar}
    loss, gradient = variance_loss(v, x, x0, noise, **levels)
    unit = v.shape[1] * math.log(2)
    return loss / unit, gradient / unit


STEP_DEVIATIONS = (
    Deviation(
        "data clipped to ±1",
        _data_clipped,
        seen_in="diffusers 0.42.1 DDPMScheduler with clip_sample=True, its default",
        computes="the mean from the estimate of the data cut off at ±1",
        documented=True,
    ),
    Deviation(
        "the larger variance, and data clipped to ±1",
        _large_and_clipped,
        seen_in="ermongroup/ddim functions/denoising.py ddpm_steps",
        computes="the larger variance whatever is asked for, and the mean from data cut off at ±1",
    ),
    Deviation(
        "noise on the finished sample",
        _noise_at_the_end,
        seen_in="diffusers 0.42.1 DDPMScheduler with fixed_large and steps_offset=1, as Stable Diffusion has it",
        computes="fresh noise of variance 1 - alpha_bar in the step to the data",
    ),
)


REFUSED = {
    "no step": {"alpha_bar": 0.8, "next_alpha_bar": 0.8},
    "a place beyond the range": {"v": 3.0},
}


METHOD = Method(
    key="ho2020denoising",
    provenance="confirmed",
    functions=(
        Transform(
            f=range_variance,
            interface=STEP,
            wrt="v",
            jvp=lambda v, *, tangent, **hyper: _slope(v, **hyper) * tangent,
            vjp=lambda v, *, cotangent, **hyper: _slope(v, **hyper) * cotangent,
            settings={"default": {}, "probe": PROBE},
            deviations=(
                Deviation(
                    "between the variances",
                    _between_variances,
                    seen_in="diffusers before its pull request 2090",
                    computes="a mean of the variances in the place of a mean of their logarithms",
                ),
            ),
            refused=REFUSED,
        ),
        Transform(
            f=ancestral_step,
            interface=STEP,
            wrt="x",
            jvp=_step_jvp,
            vjp=_step_vjp,
            settings={
                "default": {},
                "large": {"variance": "large"},
                "range": {"variance": "range"},
                "to the data": {"next_alpha_bar": 1.0, "variance": "large"},
                "probe": {**PROBE, "variance": "range"},
            },
            limits=(
                Limit("score_models.ddim_step", {}, {"eta": 1.0}),
                Limit("score_models.denoise", {"next_alpha_bar": 1.0}),
                Limit(
                    "ddpm.ancestral_step",
                    {"variance": "range"},
                    {"variance": "small"},
                    where=_at_the_small,
                ),
                Limit(
                    "ddpm.ancestral_step",
                    {"variance": "range"},
                    {"variance": "large"},
                    where=_at_the_large,
                ),
            ),
            deviations=STEP_DEVIATIONS,
            refused={
                "no step": {"alpha_bar": 0.8, "next_alpha_bar": 0.8},
                "a place beyond the range": {"v": 3.0},
                "a range without a place": {"variance": "range", "v": None},
            },
        ),
        Objective(
            f=variance_loss,
            interface=STEP,
            wrt="v",
            settings={"default": {}, "probe": PROBE},
            deviations=(
                Deviation(
                    "mean over entries, in bits",
                    _bits_an_entry,
                    seen_in="openai/improved-diffusion gaussian_diffusion.py _vb_terms_bpd",
                    computes="the bound divided by the entries of a sample and by log 2",
                    documented=True,
                ),
            ),
            refused=REFUSED,
        ),
    ),
)
