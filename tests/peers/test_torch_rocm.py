"""The regularised reward of a consistency chain against PyTorch's autograd."""

import itertools

import numpy as np
import pytest

from trref.diffusion.rocm import rocm_objective, truncated_objective
from trref.problems.denoisers import TimeNetwork, WithParameters
from trref.problems.rewards import QuadraticReward

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer
NETWORK = TimeNetwork(2, (6, 5))


def _guess(theta, x, t):
    t = torch.full((len(x), 1), float(t), dtype=torch.float64)
    h, start = torch.cat([x, t, torch.cos(torch.pi * t), torch.sin(torch.pi * t)], 1), 0
    for m, n in itertools.pairwise(NETWORK.sizes):
        if start:
            h = torch.nn.functional.silu(h)
        W, b = theta[start : start + m * n].reshape(m, n), theta[start + m * n : start + m * n + n]
        h, start = h @ W + b, start + m * n + n
    return h


def _jensen_shannon(p, q):
    """Along the line through the means, on a fine grid."""
    delta = ((p.mean - q.mean) / p.stddev).norm(dim=1)
    z = torch.linspace(-13, 13, 6001, dtype=torch.float64)
    w = torch.exp(-(z**2) / 2)
    a = -(delta[:, None] * z + delta[:, None] ** 2 / 2)
    return np.log(2) - (w * torch.nn.functional.softplus(a)).sum(1) / w.sum()


DIVERGENCES = {
    "kl": lambda p, q: torch.distributions.kl_divergence(p, q).sum(1),
    "hellinger": lambda p, q: 1 - torch.exp(-(((p.mean - q.mean) / p.stddev) ** 2).sum(1) / 8),
    "total_variation": lambda p, q: (
        2 * torch.distributions.Normal(0.0, 1.0).cdf(((p.mean - q.mean) / p.stddev).norm(dim=1) / 2) - 1
    ),
    "jensen_shannon": _jensen_shannon,
    "fisher": lambda p, q: (((p.mean - q.mean) / p.stddev**2) ** 2).sum(1),
}


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("truncated", [False, True])
def test_the_objective(kind, truncated):
    rng = np.random.default_rng(3)
    first = 0.8 * rng.standard_normal(NETWORK.size)
    theta = first + 0.1 * rng.standard_normal(first.shape)
    x, z, times = rng.standard_normal((6, 2)), rng.standard_normal((3, 6, 2)), np.array([0.9, 0.6, 0.4, 0.1])
    signal, spread = np.array([0.7, 0.8, 0.9]), np.array([0.9, 0.6, 0.5])
    weights, old, point, penalty = torch.tensor(theta, requires_grad=True), torch.tensor(first), torch.tensor(x), 0.0
    for n in range(3):
        mean = signal[n] * _guess(weights, point, times[n])
        at = point.detach() if truncated else point
        p = torch.distributions.Normal(signal[n] * _guess(weights, at, times[n]), spread[n] * torch.ones(6, 2).double())
        q = torch.distributions.Normal(signal[n] * _guess(old, at, times[n]), p.stddev)
        penalty = penalty + DIVERGENCES[kind](p, q)
        point = mean + spread[n] * torch.tensor(z[n])
    end = _guess(weights, point, times[3])
    J = (-((end - torch.tensor([0.5, -1.0])) ** 2).sum(1) - 0.3 * penalty).mean()
    J.backward()
    f = truncated_objective if truncated else rocm_objective
    reward, reference = QuadraticReward(np.array([0.5, -1.0])), WithParameters(NETWORK, first)
    loss, gradient = f(NETWORK, theta, reference, x, z, times, signal, spread, reward, beta=0.3, kind=kind)
    theirs = -weights.grad.numpy()
    assert float(loss) == pytest.approx(-float(J.detach()), rel=1e-9)
    assert np.allclose(gradient, theirs, rtol=1e-7, atol=1e-9 * abs(theirs).max())
