"""Smoothed maps and the blurred score against PyTorch's autograd and normal law."""

import numpy as np
import pytest

from trref.attribution.smoothgrad import blurred_score, gradient_variance, smooth_gradient, squared_gradient
from trref.nn import mlp
from trref.problems.rows import RowScore

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def test_maps_of_a_network():
    """Three inputs, of which torch sees all noisy copies in one batch."""
    rng, sizes, labels = np.random.default_rng(0), (4, 6, 3), np.array([2, 0, 1])
    theta, x, noise = 2 * mlp.init(rng, sizes), rng.random((3, 4)), rng.standard_normal((11, 3, 4))
    W1, b1, W2, b2 = torch.split(torch.tensor(theta), [24, 6, 18, 3])
    clean = torch.tensor(x)
    sigma = 0.2 * (clean.amax(1, keepdim=True) - clean.amin(1, keepdim=True))
    copies = (clean + sigma * torch.tensor(noise)).requires_grad_()
    logits = torch.relu(copies @ W1.reshape(4, 6) + b1) @ W2.reshape(6, 3) + b2
    (maps,) = torch.autograd.grad(logits[:, range(3), labels].sum(), copies)
    score = RowScore(theta, labels, sizes, "relu")
    for ours, theirs in (
        (smooth_gradient, maps.mean(0)),
        (squared_gradient, (maps**2).mean(0)),
        (gradient_variance, maps.var(0, unbiased=False)),
    ):
        assert np.allclose(ours(score, x, noise, level=0.2), theirs.numpy(), rtol=0, atol=1e-13)


def test_the_blurred_score_and_its_derivative():
    rng = np.random.default_rng(1)
    U, b, w, x = (rng.standard_normal(shape) for shape in ((7, 4), 7, 7, 4))
    point = torch.tensor(x, requires_grad=True)
    a, s = torch.tensor(U) @ point + torch.tensor(b), 0.4 * torch.linalg.norm(torch.tensor(U), dim=1)
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    theirs = torch.tensor(w) @ (a * normal.cdf(a / s) + s * normal.log_prob(a / s).exp())
    theirs.backward()
    value, gradient = blurred_score(U, b, w, x, sigma=0.4)
    assert value == pytest.approx(theirs.item(), rel=1e-13)
    assert np.allclose(gradient, point.grad.numpy(), rtol=0, atol=1e-13)
