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
from trref.problems.mixtures import ddpm_schedule

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
