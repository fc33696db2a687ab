"""Sum-log-concave losses and checkered regression against PyTorch's autograd."""

import numpy as np
import pytest

from trref.optimization.checkered import checkoid_loss, cross_checkoid_loss, multiclass_checkoid_loss, outcome_weights
from trref.optimization.sum_log_concave import regularised_loss, slc_loss
from trref.problems.samples import LogisticSamples

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _compare(ours, theirs, x):
    value, gradient = ours
    x = torch.tensor(x, requires_grad=True)
    loss = theirs(x)
    loss.backward()
    assert value == pytest.approx(float(loss.detach()), rel=1e-11)
    assert np.allclose(gradient, x.grad.numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_parts(seed):
    rng = np.random.default_rng(seed)
    X, y, theta = rng.standard_normal((6, 3)), rng.choice([-1.0, 1.0], 6), rng.standard_normal(3)
    parts, mixture = LogisticSamples(X, y), rng.dirichlet(np.ones(6))
    losses = lambda t: torch.nn.functional.softplus(-torch.tensor(y) * (torch.tensor(X) @ t))  # noqa: E731
    _compare(slc_loss(parts, theta), lambda t: -torch.logsumexp(-losses(t), 0), theta)

    def with_divergence(t):
        mu, log_q = torch.tensor(mixture), torch.log_softmax(-losses(t), 0)
        return -torch.logsumexp(-losses(t), 0) + (mu * (mu.log() - log_q)).sum()

    _compare(regularised_loss(parts, theta, mixture), with_divergence, theta)


@pytest.mark.parametrize("seed", range(3))
def test_checkered(seed):
    rng = np.random.default_rng(seed)
    z, parity = rng.standard_normal((8, 4)), rng.integers(0, 2, 8)

    def product(x):
        even = (1 + torch.tanh(x / 2).prod(1)) / 2
        return -torch.where(torch.tensor(parity) > 0, 1 - even, even).log().mean()

    _compare(checkoid_loss(z, parity * 1.0), product, z)
    Z, labels = rng.standard_normal((8, 3, 4)), rng.integers(0, 4, 8)

    def transformed(x):
        p = torch.fft.ifft(torch.fft.fft(torch.softmax(x, -1)).prod(1)).real
        return -p[torch.arange(8), torch.tensor(labels)].log().mean()

    _compare(multiclass_checkoid_loss(Z, labels), transformed, Z)
    other = rng.standard_normal(Z.shape)
    w = outcome_weights(other, labels)
    crossed = lambda x: (torch.logsumexp(x, -1) - (torch.tensor(w) * x).sum(-1)).sum() / 8  # noqa: E731
    _compare(cross_checkoid_loss(Z, w), crossed, Z)
