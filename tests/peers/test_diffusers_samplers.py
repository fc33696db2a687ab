"""Steps and grids of diffusers as released: where they are right, and where a deviation on record says what they do.

The modules are imported without the package (`tests.peers.trainers`); a scheduler's configuration is set by hand, and
its fresh noise is given.
"""

import types

import numpy as np
import pytest

from tests.peers import trainers
from trref.catalog import find
from trref.diffusion.ddpm import ancestral_step
from trref.diffusion.dpm_solver_pp import multistep, singlestep_2, singlestep_3, step_orders
from trref.diffusion.edm_heun import churned_path, karras_levels
from trref.diffusion.flow_euler import euler_step, stochastic_step
from trref.diffusion.noise_schedules import time_at
from trref.diffusion.time_grids import sampling_levels, zero_terminal_snr
from trref.diffusion.v_prediction import angular_step
from trref.problems.mixtures import MixtureDenoiser, ddpm_schedule, three_components

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

X, NOISE, Z, V = np.random.default_rng(0).standard_normal((4, 3, 4))
V = np.clip(V, -1, 1)
LEVELS = ddpm_schedule()


def _module(name):
    if not trainers.FOLDER.is_dir():
        pytest.skip("the trainers are installed by tools/test.py --peers")
    return trainers.load(f"diffusers.schedulers.scheduling_{name}")


def _deviation(function, name):
    return next(d.f for d in find(function).deviations if d.name == name)


def _as_torch(*arrays):
    """As images of one pixel, whose channels are the entries."""
    return tuple(torch.tensor(a)[:, :, None, None] for a in arrays)


# ---- DDPM


def _ddpm(t, then, kind="fixed_small", clip=False):
    """One released step from index t to index `then` of the full grid; -1 is the data."""
    module = _module("ddpm")
    x, noise, z, v = _as_torch(X, NOISE, Z, V)
    module.randn_tensor = lambda *args, **kwargs: z
    scheduler = module.DDPMScheduler.__new__(module.DDPMScheduler)
    scheduler.config = types.SimpleNamespace(
        variance_type=kind, prediction_type="epsilon", thresholding=False, clip_sample=clip, clip_sample_range=1.0
    )
    scheduler.variance_type, scheduler.one = kind, torch.tensor(1.0, dtype=torch.float64)
    scheduler.alphas_cumprod, scheduler.custom_timesteps = torch.tensor(LEVELS), True
    scheduler.timesteps = torch.tensor([t] + [then] * (then >= 0))
    output = torch.cat([noise, v], 1) if kind == "learned_range" else noise
    return scheduler.step(output, t, x, return_dict=False)[0][:, :, 0, 0].numpy()


def _levels(t, then):
    return {"alpha_bar": float(LEVELS[t]), "next_alpha_bar": float(LEVELS[then]) if then >= 0 else 1.0}


@pytest.mark.parametrize(("t", "then"), [(999, 899), (400, 399), (99, 0), (1, 0)])
@pytest.mark.parametrize("kind", ["small", "large", "range"])
def test_ddpm_steps(kind, t, then):
    released = _ddpm(t, then, {"small": "fixed_small", "large": "fixed_large", "range": "learned_range"}[kind])
    ours = ancestral_step(X, NOISE, Z, V, variance=kind, **_levels(t, then))
    assert np.allclose(ours, released, rtol=1e-9, atol=1e-11)


def test_ddpm_adds_noise_to_the_finished_sample():
    released = _ddpm(1, -1, "fixed_large")
    late = _deviation("ddpm.ancestral_step", "noise on the finished sample")
    assert np.allclose(late(X, NOISE, Z, variance="large", **_levels(1, -1)), released, rtol=1e-9, atol=1e-12)
    ours = ancestral_step(X, NOISE, Z, variance="large", **_levels(1, -1))
    assert np.abs(ours - released).max() > 0.005
    assert np.allclose(_ddpm(0, -1, "fixed_large"), ancestral_step(X, NOISE, Z, **_levels(0, -1)), rtol=1e-9)


def test_ddpm_clips():
    clipped = _deviation("ddpm.ancestral_step", "data clipped to ±1")
    released = _ddpm(400, 300, clip=True)
    assert np.allclose(clipped(X, NOISE, Z, **_levels(400, 300)), released, rtol=1e-9, atol=1e-12)
    assert np.abs(ancestral_step(X, NOISE, Z, **_levels(400, 300)) - released).max() > 0.1


# ---- Euler and Heun in noise levels, which diffusers computes in float32

MODEL = MixtureDenoiser(three_components(), "ve")
PLANE = np.random.default_rng(1).standard_normal((3, 2))


def _slope(x, sigma):
    """The noise that a model of diffusers would give."""
    t = time_at(np.full(len(x), -2 * np.log(sigma)), schedule="ve")
    return (x - MODEL(x, t)) / sigma


def _released_path(name, calls, levels, churn=0.0, z=None):
    """A scheduler on given levels; `calls` are the levels that each call of the model is for."""
    module = _module(name)
    kind = next(vars(module)[n] for n in ("EulerDiscreteScheduler", "HeunDiscreteScheduler") if n in vars(module))
    scheduler = kind.__new__(kind)
    scheduler.config = types.SimpleNamespace(prediction_type="epsilon", clip_sample=False)
    scheduler.sigmas = torch.tensor(levels, dtype=torch.float32)
    scheduler.is_scale_input_called, scheduler._step_index, scheduler._begin_index = True, 0, 0
    scheduler.prev_derivative = scheduler.dt = scheduler.sample = None
    x, options = torch.tensor(levels[0] * PLANE, dtype=torch.float32), {"s_churn": churn} if churn else {}
    for k, sigma in enumerate(calls):
        module.randn_tensor = lambda *args, k=k, **kwargs: torch.tensor(z[k], dtype=torch.float32)
        noise = torch.tensor(_slope(x.double().numpy(), sigma), dtype=torch.float32)
        x = scheduler.step(noise, torch.tensor(1.0), x, **options, return_dict=False)[0]
    return x.double().numpy()


def test_euler_steps():
    levels = np.append(karras_levels(np.linspace(0, 1, 6), smallest=0.1, largest=5.0), 0.0)
    ours = churned_path(MODEL, 5 * PLANE, np.zeros((6, 3, 2)), levels, rule="euler")
    assert np.allclose(_released_path("euler_discrete", levels[:-1], levels), ours, rtol=1e-5, atol=2e-5)


def test_heun_steps():
    """The released list repeats the inner levels: one call for each end of a step, but for the last."""
    levels = np.append(karras_levels(np.linspace(0, 1, 6), smallest=0.1, largest=5.0), 0.0)
    twice = np.concatenate([levels[:1], np.repeat(levels[1:-1], 2), levels[-1:]])
    ours = churned_path(MODEL, 5 * PLANE, np.zeros((6, 3, 2)), levels)
    assert np.allclose(_released_path("heun_discrete", twice[:-1], twice), ours, rtol=1e-5, atol=2e-5)


def test_euler_churns_after_the_model():
    levels = np.append(karras_levels(np.linspace(0, 1, 6), smallest=0.1, largest=5.0), 0.0)
    z = np.random.default_rng(2).standard_normal((6, 3, 2))
    late = _deviation("edm_heun.churned_path", "churn after the model")
    released = _released_path("euler_discrete", levels[:-1], levels, 1.2, z)
    given = (MODEL, 5 * PLANE, z, levels)
    assert np.allclose(released, late(*given, churn=1.2, rule="euler"), rtol=1e-5, atol=5e-5)
    assert np.abs(released - churned_path(*given, churn=1.2, rule="euler")).max() > 0.05


def test_the_grid_of_karras():
    module = _module("euler_discrete")
    scheduler = module.EulerDiscreteScheduler.__new__(module.EulerDiscreteScheduler)
    scheduler.config = types.SimpleNamespace(sigma_min=0.02, sigma_max=14.6)
    released = scheduler._convert_to_karras(None, 12)
    assert np.allclose(released, karras_levels(np.linspace(0, 1, 12), smallest=0.02, largest=14.6), rtol=1e-12)


# ---- DPM-Solver++

VP = MixtureDenoiser(three_components())


def _solver(kind, levels, solver_type="midpoint"):
    """A scheduler whose updates see given ratios of noise to signal."""
    module = _module(f"dpmsolver_{kind}")
    scheduler = getattr(module, f"DPMSolver{kind.title()}Scheduler")
    scheduler = scheduler.__new__(scheduler)
    scheduler.config = types.SimpleNamespace(
        algorithm_type="dpmsolver++", solver_type=solver_type, use_flow_sigmas=False
    )
    scheduler.sigmas = torch.tensor(levels, dtype=torch.float64)
    return scheduler


def _data(x, ratio):
    t = time_at(np.full(len(x), -2 * np.log(ratio)))
    return torch.tensor(VP(x.numpy(), t))


@pytest.mark.parametrize("kind", ["midpoint", "heun"])
def test_multistep_updates(kind):
    levels = np.array([3.0, 1.4, 0.9, 0.2])
    scheduler, x, seen = _solver("multistep", levels, kind), torch.tensor(PLANE), []
    for k in range(3):
        scheduler._step_index = k
        seen.append(_data(x, levels[k]))
        if k == 0:
            x = scheduler.dpm_solver_first_order_update(seen[-1], sample=x)
        else:
            x = scheduler.multistep_dpm_solver_second_order_update(seen[-2:], sample=x)
    assert np.allclose(multistep(VP, PLANE, levels, kind=kind), x.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["midpoint", "heun"])
def test_singlestep_updates_of_second_order(kind):
    levels = np.array([2.0, 0.5])
    middle = 2.0 * (0.5 / 2.0) ** 0.3
    scheduler, x = _solver("singlestep", [2.0, middle, 0.5], kind), torch.tensor(PLANE)
    scheduler._step_index, first = 0, _data(x, 2.0)
    u = scheduler.dpm_solver_first_order_update(first, sample=x)
    scheduler._step_index = 1
    x = scheduler.singlestep_dpm_solver_second_order_update([first, _data(u, middle)], sample=x)
    assert np.allclose(singlestep_2(VP, PLANE, levels, r1=0.3, kind=kind), x.numpy(), rtol=1e-9, atol=1e-11)


def test_singlestep_updates_of_third_order():
    levels = np.array([2.0, 0.5])
    one, two = (2.0 * (0.5 / 2.0) ** r for r in (0.4, 0.7))
    # the released scheduler reaches its inner points by the steps of its own list
    u = singlestep_2(VP, PLANE, np.array([2.0, two]), r1=0.4 / 0.7, kind="heun")
    first = singlestep_2(lambda x, t: VP(PLANE, t), PLANE, np.array([2.0, one]))
    scheduler = _solver("singlestep", [2.0, one, two, 0.5])
    scheduler._step_index = 2
    seen = [_data(torch.tensor(p), r) for p, r in ((PLANE, 2.0), (first, one), (u, two))]
    x = scheduler.singlestep_dpm_solver_third_order_update(seen, sample=torch.tensor(PLANE))
    assert np.allclose(singlestep_3(VP, PLANE, levels, r1=0.4, r2=0.7), x.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("final", ["sigma_min", "zero"])
def test_orders_of_single_steps(order, final):
    """The released list has an entry a call, and counts up to the order of each step."""
    ends_low = _deviation("dpm_solver_pp.step_orders", "two steps of the first order at the end")
    scheduler = _solver("singlestep", [1.0])
    scheduler.config = types.SimpleNamespace(solver_order=order, lower_order_final=True, final_sigmas_type=final)
    for calls in range(2, 20):
        released = scheduler.get_order_list(calls)
        steps = [o for o, following in zip(released, [*released[1:], 1], strict=True) if following == 1]
        split = (final == "zero" and order == 3) or order == 2
        ours = ends_low(calls=calls, order=order) if split else step_orders(calls=calls, order=order)
        assert steps == ours.tolist()


# ---- flows, in float32


@pytest.mark.parametrize("stochastic", [False, True])
def test_flow_steps(stochastic):
    module = _module("flow_match_euler_discrete")
    z = torch.tensor(Z, dtype=torch.float32)
    scheduler = module.FlowMatchEulerDiscreteScheduler.__new__(module.FlowMatchEulerDiscreteScheduler)
    scheduler.config = types.SimpleNamespace(stochastic_sampling=stochastic)
    scheduler.sigmas, scheduler._step_index, scheduler._begin_index = torch.tensor([0.7, 0.3]), 0, 0
    x, v = (torch.tensor(a, dtype=torch.float32) for a in (X, NOISE))
    module.randn_tensor = lambda *args, **kwargs: z
    released = scheduler.step(v, torch.tensor(700.0), x, return_dict=False)[0]
    times = {"u": 0.7, "next_u": 0.3}
    ours = stochastic_step(X, NOISE, Z, **times) if stochastic else euler_step(X, NOISE, **times)
    assert np.allclose(released.numpy(), ours, rtol=1e-5, atol=5e-6)


# ---- time grids


def _released_grid(name, kind, steps, spacing, offset=0):
    module = _module(name)
    scheduler = getattr(module, kind).__new__(getattr(module, kind))
    scheduler.config = types.SimpleNamespace(
        num_train_timesteps=1000, timestep_spacing=spacing, steps_offset=offset, rescale_betas_zero_snr=False
    )
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 7, 10, 50, 999, 1000])
@pytest.mark.parametrize(("spacing", "offset"), [("leading", 0), ("leading", 1), ("trailing", 0), ("linspace", 0)])
@pytest.mark.parametrize(("name", "kind"), [("ddpm", "DDPMScheduler"), ("ddim", "DDIMScheduler")])
def test_grids(name, kind, spacing, offset, steps):
    if (spacing, steps) == ("linspace", 1) or (offset and steps == 1000):
        return  # one of two ends; an index that does not exist: refused here
    ours = sampling_levels(LEVELS, steps=steps, spacing=spacing, offset=offset)
    assert _released_grid(name, kind, steps, spacing, offset) == ours.indices.tolist()


@pytest.mark.parametrize("steps", [61, 103, 201])
def test_trailing_grids_with_an_entry_too_many(steps):
    released = _released_grid("ddim", "DDIMScheduler", steps, "trailing")
    assert len(released) == steps + 1 and released[-1] == -1
    counted = _deviation("time_grids.sampling_levels", "a floating range")
    assert counted(LEVELS, steps=steps).indices.tolist() == released


def test_zero_terminal_snr_of_ddim():
    rates = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    mended = _module("ddim").rescale_zero_terminal_snr(rates)
    released = torch.cumprod(1 - mended, 0).numpy()
    assert np.allclose(zero_terminal_snr(LEVELS), released, rtol=1e-9, atol=1e-14)


# ---- velocities


def test_ddim_by_velocity():
    module = _module("ddim")
    scheduler = module.DDIMScheduler.__new__(module.DDIMScheduler)
    scheduler.config = types.SimpleNamespace(
        num_train_timesteps=2, prediction_type="v_prediction", thresholding=False, clip_sample=False
    )
    scheduler.num_inference_steps, scheduler.alphas_cumprod = 2, torch.tensor([0.8, 0.3], dtype=torch.float64)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    released = scheduler.step(torch.tensor(NOISE), 1, torch.tensor(X), return_dict=False)[0]
    angle, then = (float(np.arccos(np.sqrt(level))) for level in (0.3, 0.8))
    assert np.allclose(angular_step(X, NOISE, angle=angle, next_angle=then), released.numpy(), rtol=1e-12)
