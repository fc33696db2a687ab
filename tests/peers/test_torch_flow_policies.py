"""Losses of flow policies as public trainers write them, against autograd of PyTorch, to 1e-10."""

import numpy as np
import pytest

from trref.catalog.diffusion.flow_grpo import PENALTY_OF_THE_CODE
from trref.catalog.diffusion.gardo import GATED
from trref.catalog.diffusion.grpo_guard import AVERAGED
from trref.catalog.diffusion.interfaces import FLOW_POLICY
from trref.catalog.diffusion.sage_grpo import SAGE_POLICY
from trref.diffusion.flow_grpo import flow_grpo
from trref.diffusion.gardo import gardo
from trref.diffusion.grpo_guard import grpo_guard
from trref.diffusion.sage_grpo import sage_grpo

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _step(x, v, u, next_u, a):
    """Mean, ς and √δ of a batch of steps."""
    u, dt = u[:, None], (next_u - u)[:, None]
    rate = torch.sqrt(u / (1 - torch.where(u == 1, next_u[:, None], u))) * a
    mean = x * (1 + rate**2 / (2 * u) * dt) + v * (1 + rate**2 * (1 - u) / (2 * u)) * dt
    return mean, rate, torch.sqrt(-dt)


def _log_prob(next_x, mean, rate, root):
    density = torch.distributions.Normal(mean, (rate * root).expand_as(mean))
    return density.log_prob(next_x).mean(1)


def _clipped(ratio, A, clip):
    return torch.maximum(-A * ratio, -A * torch.clamp(ratio, 1 - clip, 1 + clip))


def _flow_grpo(t, a, clip, beta, as_released):
    mean, rate, root = _step(t["x"], t["velocity"], t["u"], t["next_u"], a)
    ref = _step(t["x"], t["ref_velocity"], t["u"], t["next_u"], a)[0]
    ratio = torch.exp(_log_prob(t["next_x"], mean, rate, root) - t["old_log_prob"])
    squares = (mean - ref) ** 2
    if as_released:
        penalty = squares.mean(1) / (2 * rate[:, 0] ** 2)
    else:
        each = torch.distributions.Normal(mean, (rate * root).expand_as(mean))
        penalty = torch.distributions.kl_divergence(
            each, torch.distributions.Normal(ref, (rate * root).expand_as(ref))
        ).sum(1)
    return _clipped(ratio, t["advantage"], clip).mean() + beta * penalty.mean()


def _guard(t, a, clip, beta, averaged):
    mean, rate, root = _step(t["x"], t["velocity"], t["u"], t["next_u"], a)
    old = _step(t["x"], t["old_velocity"], t["u"], t["next_u"], a)[0]
    ref = _step(t["x"], t["ref_velocity"], t["u"], t["next_u"], a)[0]
    log_ratio = _log_prob(t["next_x"], mean, rate, root) - _log_prob(t["next_x"], old, rate, root)
    wide, length = (rate.mean(), root.mean()) if averaged else (rate[:, 0], root[:, 0])
    bias = ((mean - old) ** 2).mean(1) / (2 * (wide * length) ** 2)
    ratio = torch.exp((log_ratio + bias) * wide * length)
    penalty = ((mean - ref) ** 2).sum(1) / (2 * (rate * root)[:, 0] ** 2)
    return (_clipped(ratio, t["advantage"], clip) / length**2).mean() + beta * penalty.mean()


def compare(ours, theirs, steps, hyper, wrt="velocity"):
    """Hold value and gradient of an objective against a function of tensors."""
    tensors = {k: torch.tensor(np.ascontiguousarray(v)) for k, v in steps.items()}
    tensors[wrt].requires_grad_()
    loss = theirs(tensors)
    loss.backward()
    names = ours.inputs if hasattr(ours, "inputs") else ours.__code__.co_varnames[: ours.__code__.co_argcount]
    value, gradient = ours(**{n: steps[n] for n in names}, **hyper)
    slope = tensors[wrt].grad.numpy()
    assert float(value) == pytest.approx(float(loss.detach()), rel=1e-10, abs=1e-12)
    assert np.allclose(gradient, slope, rtol=0, atol=1e-10 * max(1.0, abs(slope).max()))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("clip", [1e-4, 0.2])
def test_flow_grpo(seed, clip):
    steps = FLOW_POLICY.example(np.random.default_rng(seed), 24)
    hyper = {"noise_level": 0.7, "clip": clip, "kl_weight": 0.04}
    compare(flow_grpo, lambda t: _flow_grpo(t, 0.7, clip, 0.04, False), steps, hyper)
    compare(PENALTY_OF_THE_CODE.f, lambda t: _flow_grpo(t, 0.7, clip, 0.04, True), steps, hyper)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("clip", [2e-6, 0.2])
def test_grpo_guard(seed, clip):
    steps = FLOW_POLICY.example(np.random.default_rng(seed), 24)
    hyper = {"noise_level": 0.55, "clip": clip, "kl_weight": 0.04}
    compare(grpo_guard, lambda t: _guard(t, 0.55, clip, 0.04, False), steps, hyper)
    compare(AVERAGED.f, lambda t: _guard(t, 0.55, clip, 0.04, True), steps, hyper)


def _sage(t, eta, clip, beta):
    """As in the authors' scheduler: the variance by its closed form, one batch of steps at a time."""
    u, next_u = t["u"][:, None], t["next_u"][:, None]
    dt = next_u - u
    variance = eta**2 * (dt + torch.log((1 - next_u) / (1 - torch.clamp(u, max=0.997))))
    spread = torch.sqrt(variance)

    def mean(v):
        x0 = t["x"] - u * v
        score = -(t["x"] - (1 - u) * x0) / u**2
        return t["x"] + dt * v + 0.5 * variance * score

    new, ref = mean(t["velocity"]), mean(t["ref_velocity"])
    log_prob = torch.distributions.Normal(new, spread.expand_as(new)).log_prob(t["next_x"]).mean(1)
    ratio = torch.exp(log_prob - t["old_log_prob"])
    policy = (t["weight"] * _clipped(ratio, t["advantage"], clip)).mean()
    moving = (((new - ref) ** 2).mean(1) / (2 * (variance[:, 0] + 1e-6))).mean()
    return policy + beta * (moving + 0.1 * (t["old_log_prob"] - log_prob).mean())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("clip", [1e-4, 0.2])
def test_sage_grpo(seed, clip):
    steps = SAGE_POLICY.example(np.random.default_rng(seed), 24)
    compare(sage_grpo, lambda t: _sage(t, 0.5, clip, 0.3), steps, {"clip": clip, "kl_weight": 0.3})


def _gardo(t, a, clip, beta):
    mean, rate, root = _step(t["x"], t["velocity"], t["u"], t["next_u"], a)
    ref = _step(t["x"], t["ref_velocity"], t["u"], t["next_u"], a)[0]
    ratio = torch.exp(_log_prob(t["next_x"], mean, rate, root) - t["old_log_prob"])
    policy, idx = _clipped(ratio, t["advantage"], clip).mean(), t["gate"] == 1
    if not idx.any():
        return policy
    return policy + beta * (torch.square(mean[idx] - ref[idx]) / (2 * rate[idx] ** 2)).mean()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("clip", [1e-5, 0.2])
def test_gardo(seed, clip):
    steps = GATED.example(np.random.default_rng(seed), 24)
    compare(gardo, lambda t: _gardo(t, 0.7, clip, 0.3), steps, {"clip": clip, "kl_weight": 0.3})
