"""Smooth domain adversarial training against PyTorch: both players of one step by autograd."""

import numpy as np
import pytest

from tests.peers.by_autograd import close
from trref.nn import two_heads
from trref.problems.domains import DomainAdversarial
from trref.sharpness import sdat

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.peer


class Reverse(torch.autograd.Function):
    """The identity, and a gradient times minus the weight."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.weight = weight
        return x

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.weight * gradient, None


def test_a_step_with_a_gradient_reversal_layer():
    """As training code has it: ascend the task, then one backward pass of task and reversed domain loss."""
    rng, weight, rho = np.random.default_rng(0), 0.4, 0.2
    sizes = two_heads.Sizes((2, 4), (3,), (5, 1))
    game = DomainAdversarial(rng.standard_normal((6, 2)), rng.integers(0, 3, 6), rng.standard_normal((5, 2)) + 1, sizes)
    both = two_heads.init(rng, sizes)
    theta, phi = (torch.tensor(x, requires_grad=True) for x in (both[: game.size], both[game.size :]))
    source, target, labels = (torch.tensor(x) for x in (game.source, game.target, game.labels))

    def linear(x, flat, m, n):
        return x @ flat[: m * n].reshape(m, n) + flat[m * n :]

    def features(theta, x):
        return torch.tanh(linear(x, theta[:12], 2, 4))

    def task(theta):
        return F.cross_entropy(linear(features(theta, source), theta[12:], 4, 3), labels)

    def logit(f):
        return linear(torch.tanh(linear(f, phi[:25], 4, 5)), phi[25:], 5, 1)[:, 0]

    g = torch.autograd.grad(task(theta), theta)[0]
    moved = theta + (rho * g / torch.linalg.vector_norm(g)).detach()
    parts = []
    for x, is_source in ((source, 1.0), (target, 0.0)):
        z = logit(Reverse.apply(features(moved, x), weight))
        parts.append(F.binary_cross_entropy_with_logits(z, torch.full_like(z, is_source)))
    (task(moved) + sum(parts)).backward()

    ours = sdat.generator_objective(game, both[: game.size], both[game.size :], rho=rho, domain_weight=weight)
    close(ours[1], theta.grad)
    close(ours[0], task(moved) - weight * sum(parts))
    perturbation = sdat.worst_perturbation(game, both[: game.size], both[game.size :], rho=rho)
    value, gradient = sdat.discriminator_objective(game, both[: game.size], both[game.size :], perturbation)
    close(value, sum(parts))
    close(gradient, phi.grad)
