"""Attacks against the same ascent with gradients from PyTorch's autograd."""

import itertools

import numpy as np
import pytest

from trref.adversarial.pgd import fgsm, pgd
from trref.nn import mlp
from trref.problems.rows import RowLoss

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.peer


def _network(theta, sizes):
    """A perceptron of torch's own layers with the weights of ours."""
    layers, start = [], 0
    for m, n in itertools.pairwise(sizes):
        layer = torch.nn.Linear(m, n, dtype=torch.float64)
        W, b = theta[start : start + m * n].reshape(m, n), theta[start + m * n : start + m * n + n]
        layer.weight.data, layer.bias.data = torch.tensor(W.T), torch.tensor(b)
        layers, start = [*layers, layer, torch.nn.Tanh()], start + m * n + n
    return torch.nn.Sequential(*layers[:-1])


def _ascent(network, x, labels, start, radius, lr, steps):
    point = torch.clamp(start, x - radius, x + radius).clamp(0, 1)
    for _ in range(steps):
        point = point.detach().requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(network(point), labels), point)
        point = torch.clamp(point + lr * g.sign(), x - radius, x + radius).clamp(0, 1)
    return point.detach().numpy()


def test_projected_gradient_ascent():
    rng, sizes = np.random.default_rng(0), (6, 9, 4)
    theta, labels = 2 * mlp.init(rng, sizes), rng.integers(0, 4, 25)
    x = rng.random((25, 6))
    start = x + 0.2 * rng.uniform(-1, 1, x.shape)
    loss, network = RowLoss(theta, labels, sizes), _network(theta, sizes)
    inputs = torch.tensor(x), torch.tensor(labels)
    theirs = _ascent(network, *inputs, torch.tensor(start), 0.15, 0.03, 20)
    assert np.allclose(pgd(loss, x, start, radius=0.15, lr=0.03, steps=20), theirs, rtol=0, atol=1e-13)
    theirs = _ascent(network, *inputs, inputs[0], 0.15, 0.15, 1)
    assert np.allclose(fgsm(loss, x, radius=0.15), theirs, rtol=0, atol=1e-15)
