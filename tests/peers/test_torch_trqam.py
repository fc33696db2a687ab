"""TRQAM's adjoint and loss, written in the paper's time from the noise, against autograd of PyTorch, to 1e-10."""

import numpy as np
import pytest

from trref.catalog.diffusion.trqam import THREE_TEMPERATURES, TIME_SHIFTED
from trref.diffusion.trqam import adjoint_matching, lean_adjoint
from trref.diffusion.trust_region_temperature import path_kl

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

W = np.array([[0.8, -0.5, 0.2], [0.3, 0.9, -0.4], [-0.6, 0.1, 0.7]])


class Wave:
    """A velocity of noise time with a derivative by hand: sin(xW + 3u)."""

    def __call__(self, x, t):
        return np.sin(x @ W + 3 * t[:, None])

    def vjp(self, x, t, cotangent):
        return (cotangent * np.cos(x @ W + 3 * t[:, None])) @ W.T


def _base(x, t):
    """The velocity of data time at time t from the noise."""
    return -torch.sin(x @ torch.tensor(W) + 3 * (1 - t))


@pytest.mark.parametrize("shifted", [False, True])
def test_the_adjoint(shifted):
    rng, K = np.random.default_rng(0), 5
    path, slope = rng.standard_normal((K + 1, 4, 3)), rng.standard_normal((4, 3))
    f = TIME_SHIFTED.f if shifted else lean_adjoint
    found, h = f(Wave(), path, slope, np.linspace(1, 0, K + 1)), 1 / K
    adjoint = -torch.tensor(slope)
    for k in reversed(range(K)):
        t, x = k / K, torch.tensor(path[k], requires_grad=True)
        drift = 2 * _base(x, t + h * shifted) - x / (t + h)
        adjoint = adjoint + h * torch.autograd.grad(drift, x, adjoint)[0]
        assert np.allclose(found[k], adjoint.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 3])
def test_the_loss_and_the_divergence(scale):
    rng, K, temperature = np.random.default_rng(1), 10, 0.7
    v, base, adjoint = rng.standard_normal((3, K, 4, 3))
    times, h = np.linspace(1, 0, K + 1), 1 / K
    f = THREE_TEMPERATURES.f if scale == 3 else adjoint_matching
    loss, gradient = f(v, base, adjoint, times, temperature=temperature)
    t = torch.arange(K, dtype=torch.float64)[:, None, None] / K
    squared = 2 * (1 - t + h) / (t + h)
    sigma = torch.sqrt(squared / (scale * temperature))
    fine = torch.tensor(-v, requires_grad=True)
    away = fine - torch.tensor(-base)
    theirs = (2 * away / sigma + sigma * torch.tensor(adjoint)).square().sum(-1).sum(0).mean()
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-10)
    assert np.allclose(gradient, -fine.grad.numpy(), rtol=1e-10, atol=1e-12)
    kl = (2 * h / squared[..., 0] * away.detach().square().sum(-1)).sum(0).mean()
    assert path_kl(v, base, times) == pytest.approx(kl.item(), rel=1e-10)
