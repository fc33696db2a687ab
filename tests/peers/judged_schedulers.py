"""diffusers' schedulers as released, each with the few lines that fit it to a catalogued function.

The DDIM scheduler's step is in `tests.peers.judged_libraries`. Configurations are set by hand, because the decorator
that reads them is absent (`tests.peers.trainers`); the noise that a scheduler would draw is given.
"""

import types

import numpy as np

from tests.peers import trainers
from tests.peers.judged import TORCH, Judged, signature
from trref.conformance import Options
from trref.diffusion.noise_schedules import time_at

__all__ = ["JUDGED"]

KINDS = {"small": "fixed_small", "large": "fixed_large", "range": "learned_range"}


def _scheduler(module, kind, **config):
    """The module, and a scheduler with this configuration that has seen no step."""
    module = trainers.load(f"diffusers.schedulers.scheduling_{module}")
    scheduler = getattr(module, kind).__new__(getattr(module, kind))
    scheduler.config = types.SimpleNamespace(prediction_type="epsilon", thresholding=False, **config)
    return module, scheduler


def _ddpm(clip_sample):
    def make():
        import torch

        def step(x, noise, z, v=None, alpha_bar=0.5, next_alpha_bar=0.8, variance="small"):
            kind, last = KINDS[variance], next_alpha_bar == 1
            config = {"variance_type": kind, "clip_sample": clip_sample, "clip_sample_range": 1.0}
            module, scheduler = _scheduler("ddpm", "DDPMScheduler", **config)
            module.randn_tensor = lambda *args, **kwargs: z
            levels = [alpha_bar] if last else [next_alpha_bar, alpha_bar]
            scheduler.alphas_cumprod = torch.tensor(levels, dtype=x.dtype)
            scheduler.variance_type, scheduler.one = kind, torch.tensor(1.0, dtype=x.dtype)
            scheduler.custom_timesteps = True
            scheduler.timesteps = torch.arange(len(levels)).flip(0)
            # entries are channels of one pixel: the learned variances are the second half of them
            output = torch.cat([noise, v], 1) if kind == "learned_range" else noise
            return scheduler.step(output, len(levels) - 1, x, return_dict=False)[0]

        return step

    return make


def _time(x, ratio, schedule):
    """The noise time at which a model is asked for a ratio of noise to signal."""
    (t,) = time_at(np.array([-2 * np.log(float(ratio))]), schedule=schedule)
    return x[:, 0] * 0 + float(t)


def _euler():
    """Euler's steps through given noise levels; the model's answer goes in as noise."""
    import torch

    def path(model, x, z, levels, churn=0.0):
        module, scheduler = _scheduler("euler_discrete", "EulerDiscreteScheduler")
        scheduler.sigmas = levels
        scheduler.is_scale_input_called, scheduler._step_index, scheduler._begin_index = True, 0, 0
        for k, sigma in enumerate(levels[:-1]):
            module.randn_tensor = lambda *args, k=k, **kwargs: z[k]
            noise = (x - model(x, _time(x, sigma, "ve"))) / sigma
            x = scheduler.step(noise, torch.tensor(1.0), x, s_churn=churn, return_dict=False)[0]
        return x

    return path


def _heun():
    """Heun's: the list repeats the inner levels, a call of the model for each end of a step."""
    import torch

    def path(model, x, z, levels):
        _, scheduler = _scheduler("heun_discrete", "HeunDiscreteScheduler", clip_sample=False)
        twice = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
        scheduler.sigmas, scheduler._step_index, scheduler._begin_index = twice, 0, 0
        scheduler.prev_derivative = scheduler.dt = scheduler.sample = None
        for sigma in twice if twice[-1] > 0 else twice[:-1]:
            noise = (x - model(x, _time(x, sigma, "ve"))) / sigma
            x = scheduler.step(noise, torch.tensor(1.0), x, return_dict=False)[0]
        return x

    return path


def _multistep(solver_type, lower_order_final):
    """DPM-Solver++ through given ratios of noise to signal."""

    def make():
        import torch

        def path(model, x, levels):
            _, scheduler = _scheduler(
                "dpmsolver_multistep",
                "DPMSolverMultistepScheduler",
                algorithm_type="dpmsolver++",
                solver_type=solver_type,
                solver_order=2,
                lower_order_final=lower_order_final,
                euler_at_final=False,
                final_sigmas_type="zero" if levels[-1] == 0 else "sigma_min",
                use_flow_sigmas=False,
            )
            scheduler.config.prediction_type = "sample"
            scheduler.sigmas, scheduler.timesteps = levels, levels[:-1]
            scheduler.num_inference_steps = len(levels) - 1
            scheduler.model_outputs, scheduler.lower_order_nums, scheduler._step_index = [None, None], 0, 0
            for k in range(len(levels) - 1):
                data = model(x, _time(x, levels[k], "vp"))
                x = scheduler.step(data, torch.tensor(1.0), x, return_dict=False)[0]
            return x

        return path

    return make


def _grid(module, kind, *keywords):
    """The indices that a scheduler visits, their levels, and where its steps lead: what they make of the data 1."""

    def make():
        import torch

        def levels(alpha_bar, steps=10, spacing="trailing", offset=0, final="data"):
            loaded, scheduler = _scheduler(
                module,
                kind,
                timestep_spacing=spacing,
                steps_offset=offset,
                num_train_timesteps=len(alpha_bar),
                rescale_betas_zero_snr=False,
                clip_sample=False,
                variance_type="fixed_small",
            )
            scheduler.config.prediction_type, scheduler.variance_type = "sample", "fixed_small"
            scheduler.alphas_cumprod = torch.tensor(alpha_bar)
            scheduler.one = torch.ones_like(scheduler.alphas_cumprod[0])
            scheduler.final_alpha_cumprod = scheduler.one if final == "data" else scheduler.alphas_cumprod[0]
            loaded.randn_tensor = lambda shape, **how: torch.zeros(shape)
            scheduler.set_timesteps(steps)
            indices = scheduler.timesteps.numpy()
            now = scheduler.alphas_cumprod[scheduler.timesteps][:, None, None]
            one, ends = torch.ones_like(now), []
            for k, t in enumerate(indices.tolist()):
                ends.append(scheduler.step(one[k], t, torch.sqrt(now[k]), return_dict=False)[0])
            return indices, now[:, 0, 0].numpy(), torch.cat(ends)[:, 0].numpy() ** 2

        return signature(levels, ["alpha_bar"], ["steps", "spacing", "offset", *keywords])

    return make


def _with_no_signal_at_the_end():
    import torch

    module = trainers.load("diffusers.schedulers.scheduling_ddim")

    def rescaled(alpha_bar):
        rates = 1 - alpha_bar / torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
        return torch.cumprod(1 - module.rescale_zero_terminal_snr(rates), 0)

    return rescaled


JUDGED = (
    Judged(
        "diffusers DDPMScheduler.step, clip_sample=False",
        "diffusers",
        "ddpm.ancestral_step",
        _ddpm(clip_sample=False),
        True,
        "the published step with each of the three variances",
        TORCH,
    ),
    Judged(
        "diffusers DDPMScheduler.step",
        "diffusers",
        "ddpm.ancestral_step",
        _ddpm(clip_sample=True),
        False,
        "its default clips the estimate of the data to ±1",
        TORCH,
        explained="'data clipped to ±1'",
    ),
    Judged(
        "diffusers EulerDiscreteScheduler.step",
        "diffusers",
        "edm_heun.churned_path",
        _euler,
        False,
        "the published steps of Euler's rule, kept in float32",
        Options(framework="torch", reference={"rule": "euler"}),
        explained="float32 inside",
    ),
    Judged(
        "diffusers EulerDiscreteScheduler.step, s_churn=1",
        "diffusers",
        "edm_heun.churned_path",
        _euler,
        False,
        "the noise is added after the model has been called, which then answers for another point",
        Options(framework="torch", constants={"churn": 1.0}, reference={"rule": "euler"}),
        explained="'churn after the model'",
    ),
    Judged(
        "diffusers HeunDiscreteScheduler.step",
        "diffusers",
        "edm_heun.churned_path",
        _heun,
        True,
        "the published steps of Heun's rule; it has no churn",
        Options(framework="torch", reference={"rule": "heun"}),
    ),
    Judged(
        "diffusers DPMSolverMultistepScheduler.step, lower_order_final=False",
        "diffusers",
        "dpm_solver_pp.multistep",
        _multistep("midpoint", lower_order_final=False),
        False,
        "the published steps, kept in float32",
        Options(framework="torch", reference={"kind": "midpoint"}),
        explained="float32 inside",
    ),
    Judged(
        "diffusers DPMSolverMultistepScheduler.step, solver_type='heun', lower_order_final=False",
        "diffusers",
        "dpm_solver_pp.multistep",
        _multistep("heun", lower_order_final=False),
        False,
        "the published steps with the slope in the integral, kept in float32",
        Options(framework="torch", reference={"kind": "heun"}),
        explained="float32 inside",
    ),
    Judged(
        "diffusers DPMSolverMultistepScheduler.step",
        "diffusers",
        "dpm_solver_pp.multistep",
        _multistep("midpoint", lower_order_final=True),
        False,
        "below 15 steps, its default takes the last one with the first order",
        Options(framework="torch", reference={"kind": "midpoint"}),
        explained="'the first order at the end of short runs'",
    ),
    Judged(
        "diffusers DDIMScheduler.set_timesteps",
        "diffusers",
        "time_grids.sampling_levels",
        _grid("ddim", "DDIMScheduler", "final"),
        False,
        "the published grids, but for trailing ones that are counted in floating numbers and may have an entry too"
        " many; steps lead to the index a stride below, whatever the next entry is",
        explained="'the index a stride below'",
    ),
    Judged(
        "diffusers DDPMScheduler.set_timesteps",
        "diffusers",
        "time_grids.sampling_levels",
        _grid("ddpm", "DDPMScheduler"),
        False,
        "the published grids, but for trailing ones that are counted in floating numbers and may have an entry too"
        " many, -1; the step before it leads to the data",
    ),
    Judged(
        "diffusers rescale_zero_terminal_snr",
        "diffusers",
        "time_grids.zero_terminal_snr",
        _with_no_signal_at_the_end,
        True,
        "the published shift and scale",
        TORCH,
    ),
)
