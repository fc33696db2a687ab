"""Fish and its objective against PyTorch's optimiser and second derivatives."""

import numpy as np
import pytest

from trref.domains.fish import fish_step, idgm_objective
from trref.problems.domains import DomainLosses

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.peer


def _example():
    rng = np.random.default_rng(0)
    losses = DomainLosses(rng.standard_normal((3, 15, 4)), rng.integers(0, 3, (3, 15)), 3)
    theta, X, labels = rng.standard_normal(12), torch.tensor(losses.features), torch.tensor(losses.labels)
    return losses, theta, lambda point, k: F.cross_entropy(X[k] @ point.reshape(4, 3), labels[k])


def test_the_objective_and_its_gradient():
    losses, theta, loss = _example()
    point = torch.tensor(theta, requires_grad=True)
    values = [loss(point, k) for k in range(3)]
    G = [torch.autograd.grad(value, point, create_graph=True)[0] for value in values]
    theirs = sum(values) / 3 - 0.4 * (G[0] @ G[1] + G[0] @ G[2] + G[1] @ G[2]) / 3
    theirs.backward()
    value, gradient = idgm_objective(losses, theta, gamma=0.4)
    assert value == pytest.approx(theirs.item(), rel=1e-13)
    assert np.allclose(gradient, point.grad.numpy(), rtol=0, atol=1e-13)


def test_a_step():
    losses, theta, loss = _example()
    inner = torch.tensor(theta, requires_grad=True)
    optimiser = torch.optim.SGD([inner], lr=0.3)
    for k in (2, 0, 1):
        optimiser.zero_grad()
        loss(inner, k).backward()
        optimiser.step()
    theirs = torch.lerp(torch.tensor(theta), inner.detach(), 0.4)
    assert np.allclose(
        fish_step(losses, theta, np.array([2, 0, 1]), lr=0.3, meta=0.4), theirs.numpy(), rtol=0, atol=1e-13
    )
