"""Both losses of dual adversarial training, and both ascents, against PyTorch's autograd."""

import itertools

import numpy as np
import pytest

from trref.diffusion.dual_adversarial_jem import attack, dual_adversarial_loss, generate
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss
from trref.problems.rows import RowLoss, RowScore

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.peer
SIZES = (3, 7, 4)


def _logits(theta, x):
    h, start = x, 0
    for m, n in itertools.pairwise(SIZES):
        h = torch.tanh(h) if start else h
        h = h @ theta[start : start + m * n].reshape(m, n) + theta[start + m * n : start + m * n + n]
        start += m * n + n
    return h


def _problem():
    rng = np.random.default_rng(0)
    return 2 * mlp.init(rng, SIZES), rng.random((12, 3)), rng.integers(0, 4, 12), rng.random((9, 3))


def test_the_loss():
    theta, x, labels, other = _problem()
    moved = np.clip(x + 0.1, 0, 1)
    weights = torch.tensor(theta, requires_grad=True)
    scores = torch.logsumexp(_logits(weights, torch.tensor(np.concatenate([x, other]))), 1)
    truth = torch.tensor([1.0] * 12 + [0.0] * 9, dtype=torch.float64)
    loss = F.binary_cross_entropy_with_logits(scores, truth)
    loss = loss + F.cross_entropy(_logits(weights, torch.tensor(moved)), torch.tensor(labels))
    loss.backward()
    value, gradient = dual_adversarial_loss(ClassifierLoss(x, labels, SIZES), theta, other, moved)
    assert float(value) == pytest.approx(float(loss.detach()), rel=1e-12)
    assert np.allclose(gradient, weights.grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("radius", [None, 0.15])
def test_normalised_steps(radius):
    theta, x, labels, _ = _problem()
    start, point = torch.tensor(x), torch.tensor(x)
    for _ in range(6):
        point = point.detach().requires_grad_()
        logits = _logits(torch.tensor(theta), point)
        rows = torch.arange(12), torch.tensor(labels)
        score = logits[rows].sum() if radius is None else F.cross_entropy(logits, rows[1], reduction="sum")
        (g,) = torch.autograd.grad(score, point)
        moved = point + 0.08 * g / (g.norm(dim=1, keepdim=True) + 1e-10) - start
        if radius is not None:
            moved = moved * torch.clamp(radius / moved.norm(dim=1, keepdim=True), max=1.0)
        point = (start + moved).clamp(0, 1)
    if radius is None:
        ours = generate(RowScore(theta, labels, SIZES), x, steps=6, lr=0.08)
    else:
        ours = attack(RowLoss(theta, labels, SIZES), x, steps=6, lr=0.08, radius=radius)
    assert np.allclose(ours, point.detach().numpy(), rtol=0, atol=1e-12)
