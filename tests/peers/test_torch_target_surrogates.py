"""Target-based surrogates against PyTorch's autograd, and in the authors' convention."""

import numpy as np
import pytest

from trref.optimization.target_surrogates import mirror_surrogate, surrogate
from trref.problems.networks import ClassifierLoss
from trref.problems.target_losses import BinaryTargets, SoftmaxTargets, SquaredTargets

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

N, K = 7, 3


def _task(seed):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(2 * 4 + 4 + 4 * K + K)
    network = ClassifierLoss(rng.standard_normal((N, 2)), np.zeros(N, int), (2, 4, K))
    return network, theta, rng.standard_normal((N, K)), rng.standard_normal((N, K)), rng


def _outputs(network, theta):
    W, b, V, c = torch.split(theta, [8, 4, 4 * K, K])
    X = torch.tensor(network.X)
    return torch.tanh(X @ W.reshape(2, 4) + b) @ V.reshape(4, K) + c


def _compare(ours, theirs, theta):
    value, gradient = ours
    x = torch.tensor(theta, requires_grad=True)
    loss = theirs(x)
    loss.backward()
    assert value == pytest.approx(float(loss.detach()), rel=1e-12)
    assert np.allclose(gradient, x.grad.numpy(), rtol=0, atol=1e-12 * abs(gradient).max())


@pytest.mark.parametrize("seed", range(3))
def test_surrogates(seed):
    network, theta, targets, g, _ = _task(seed)
    z_t, slope = torch.tensor(targets), torch.tensor(g)

    def quadratic(x):
        # their mean of g z / c + (z - z_t)², c = 1/(2 eta), times N K / (2 eta), less a constant
        z, c = _outputs(network, x), 1 / (2 * 0.3)
        return ((slope * (z - z_t) / c + (z - z_t) ** 2).mean()) * N * K * c

    def divergence(x):
        p, q = (torch.distributions.Categorical(logits=z) for z in (_outputs(network, x), z_t))
        return (slope * (p.probs - q.probs)).sum() + torch.distributions.kl_divergence(p, q).sum() / 0.3

    _compare(surrogate(network, theta, targets, g, eta=0.3), quadratic, theta)
    _compare(mirror_surrogate(network, theta, targets, g, eta=0.3), divergence, theta)


def test_losses_of_targets():
    _, _, z, y, rng = _task(5)
    labels, binary = rng.integers(0, K, N), rng.integers(0, 2, (N, K)) * 1.0
    functional = torch.nn.functional
    pairs = [
        (SquaredTargets(y), lambda t: ((t - torch.tensor(y)) ** 2).sum() / (2 * N)),
        (SoftmaxTargets(labels), lambda t: functional.cross_entropy(t, torch.tensor(labels))),
        (
            BinaryTargets(binary),
            lambda t: functional.binary_cross_entropy_with_logits(t, torch.tensor(binary), reduction="sum") / N,
        ),
    ]
    for ours, theirs in pairs:
        _compare(ours(z), theirs, z)
