"""TRAM against PyTorch: divergences, the ascent by pytorch_optimizer's adaptive SAM, and gradients by autograd."""

import numpy as np
import pytest

from tests.peers.by_autograd import close
from trref.nn import mlp
from trref.problems.networks import random_classifier
from trref.sharpness import tram

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.peer


def _task(seed=0):
    rng = np.random.default_rng(seed)
    loss = random_classifier(rng, points=12, hidden=4)
    d, h, k = loss.sizes
    labels = torch.tensor(loss.labels)

    def logits(theta, X):
        W1, b1, W2, b2 = torch.split(theta, [d * h, h, h * k, k])
        return torch.tanh(torch.tensor(X) @ W1.reshape(d, h) + b1) @ W2.reshape(h, k) + b2

    theta = mlp.init(rng, loss.sizes) + 0.1
    anchor, noise = theta + 0.4 * rng.standard_normal(theta.size), 0.3 * rng.standard_normal(loss.X.shape)
    return loss, theta, anchor, noise, logits, labels


def _kl(new, old):
    return F.kl_div(F.log_softmax(new, 1), F.log_softmax(old, 1), reduction="batchmean", log_target=True)


def test_distances():
    loss, theta, anchor, noise, logits, _ = _task()
    here = logits(torch.tensor(theta), loss.X)
    close(tram.anchored_distance(loss, theta, anchor), _kl(here, logits(torch.tensor(anchor), loss.X)))
    close(tram.noised_distance(loss, theta, noise), _kl(here, logits(torch.tensor(theta), loss.X + noise)))


def test_ascent_by_public_adaptive_sam():
    SAM = pytest.importorskip("pytorch_optimizer").SAM
    loss, theta, anchor, _, logits, labels = _task(1)
    d = float(tram.anchored_distance(loss, theta, anchor))
    weight = torch.tensor(theta, requires_grad=True)
    optimizer = SAM([weight], torch.optim.SGD, rho=d, adaptive=True, lr=1.0)
    F.cross_entropy(logits(weight, loss.X), labels).backward()
    optimizer.first_step(zero_grad=True)
    F.cross_entropy(logits(weight, loss.X), labels).backward()
    # its norm is a number of single precision
    close(tram.anchored_gradient(loss, theta, anchor)[1], weight.grad, 1e-6)


def test_trust_region_by_autograd():
    loss, theta, anchor, _, logits, labels = _task(2)
    weight = torch.tensor(theta, requires_grad=True)
    old = logits(torch.tensor(anchor), loss.X)
    total = F.cross_entropy(logits(weight, loss.X), labels) + 0.3 * _kl(logits(weight, loss.X), old)
    total.backward()
    value, gradient = tram.trust_region_loss(loss, theta, anchor, penalty_weight=0.3)
    close(value, total)
    close(gradient, weight.grad)


def test_fisher_ascent_by_autograd():
    loss, theta, _, noise, logits, labels = _task(3)
    weight = torch.tensor(theta, requires_grad=True)
    g = torch.autograd.grad(F.cross_entropy(logits(weight, loss.X), labels), weight)[0]
    each = [
        torch.autograd.grad(F.cross_entropy(logits(weight, loss.X + noise)[i : i + 1], labels[i : i + 1]), weight)[0]
        for i in range(12)
    ]
    matrix = 1 + 0.5 * torch.stack(each).square().mean(0)
    usual = 0.2 * g / matrix / torch.sqrt(g @ (g / matrix))
    close(tram.fisher_perturbation(loss, theta, noise, gamma=0.2, eta=0.5), usual)
