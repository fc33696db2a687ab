"""Gradients through a chain of steps against PyTorch's autograd, with predictions detached as released code does it."""

import itertools

import numpy as np
import pytest

from trref.diffusion.alignprop import chain, ddpo, reward_of_chain
from trref.diffusion.lora import lora_gradients, lora_weights
from trref.problems.denoisers import TimeNetwork
from trref.problems.mixtures import vp_schedule
from trref.problems.rewards import QuadraticReward

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

NETWORK = TimeNetwork(2, (6, 5))
TIMES = np.linspace(1.0, 0.3, 6) ** 2
ALPHA_BAR = vp_schedule(TIMES)[0] ** 2


def _noise(theta, x, t):
    """The same perceptron on the same features."""
    t = torch.full((len(x), 1), float(t), dtype=torch.float64)
    h, start = torch.cat([x, t, torch.cos(torch.pi * t), torch.sin(torch.pi * t)], 1), 0
    for m, n in itertools.pairwise(NETWORK.sizes):
        if start:
            h = torch.nn.functional.silu(h)
        W, b = theta[start : start + m * n].reshape(m, n), theta[start + m * n : start + m * n + n]
        h, start = h @ W + b, start + m * n + n
    return h


def _mean_and_variance(theta, x, k, eta, detach=False):
    """DDIM's step in its usual words: the predicted data, and the direction that points to x."""
    now, then = torch.tensor(ALPHA_BAR[k]), torch.tensor(ALPHA_BAR[k + 1])
    noise = _noise(theta, x, TIMES[k])
    noise = noise.detach() if detach else noise
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    data = (x - (1 - now).sqrt() * noise) / now.sqrt()
    return then.sqrt() * data + (1 - then - variance).sqrt() * noise, variance


def _problem():
    rng = np.random.default_rng(0)
    theta = 0.8 * rng.standard_normal(NETWORK.size)
    return theta, rng.standard_normal((7, 2)), rng.standard_normal((5, 7, 2))


@pytest.mark.parametrize("kept", [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [1, 0, 1, 0, 0]])
@pytest.mark.parametrize(("eta", "target"), [(0.0, None), (0.6, None), (1.0, -2.0)])
def test_detached_predictions(kept, eta, target):
    theta, x, z = _problem()
    weights, point = torch.tensor(theta, requires_grad=True), torch.tensor(x)
    for k in range(5):
        mean, variance = _mean_and_variance(weights, point, k, eta, detach=not kept[k])
        point = mean + variance.sqrt() * torch.tensor(z[k])
    R = -((point - torch.tensor([0.5, -1.0])) ** 2).sum(1)
    loss = -R.mean() if target is None else (R - target).abs().mean()
    loss.backward()
    how = {} if target is None else {"kind": "target", "target": target}
    reward = QuadraticReward(np.array([0.5, -1.0]))
    ours = reward_of_chain(
        NETWORK, theta, x, z, TIMES, ALPHA_BAR, np.array(kept, float), reward, eta=eta, every=2, **how
    )
    theirs = weights.grad.numpy()
    assert float(ours[0]) == pytest.approx(float(loss.detach()), rel=1e-11)
    assert np.allclose(ours[1], theirs, rtol=1e-8, atol=1e-10 * abs(theirs).max())


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_log_densities_of_paths(eta):
    theta, x, z = _problem()
    path, advantage = chain(NETWORK, theta + 0.05, x, z, TIMES, ALPHA_BAR, eta=eta), np.linspace(-1, 2, 7)
    weights, total = torch.tensor(theta, requires_grad=True), 0.0
    for k in range(5):
        mean, variance = _mean_and_variance(weights, torch.tensor(path[k]), k, eta)
        law = torch.distributions.Normal(mean, variance.sqrt())
        total = total + law.log_prob(torch.tensor(path[k + 1])).sum(1)
    loss = -(torch.tensor(advantage) * total).mean()
    loss.backward()
    ours, theirs = ddpo(NETWORK, theta, path, TIMES, ALPHA_BAR, advantage, eta=eta), weights.grad.numpy()
    assert float(ours[0]) == pytest.approx(float(loss.detach()), rel=1e-10)
    assert np.allclose(ours[1], theirs, rtol=1e-8, atol=1e-10 * abs(theirs).max())


def test_adapters():
    rng = np.random.default_rng(1)
    W, A, B = rng.standard_normal((5, 4)), rng.standard_normal((2, 4)), rng.standard_normal((5, 2))
    tA, tB = (torch.tensor(a, requires_grad=True) for a in (A, B))
    adapted = torch.tensor(W) + 0.7 * 3.0 / 2 * tB @ tA
    torch.sin(adapted).sum().backward()
    ours = lora_weights(W, A, B, alpha=3.0, strength=0.7)
    assert np.allclose(ours, adapted.detach().numpy(), rtol=1e-13, atol=1e-14)
    d_A, d_B = lora_gradients(np.cos(ours), A, B, alpha=3.0, strength=0.7)
    assert np.allclose(d_A, tA.grad.numpy(), rtol=1e-12, atol=1e-13)
    assert np.allclose(d_B, tB.grad.numpy(), rtol=1e-12, atol=1e-13)
