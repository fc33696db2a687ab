"""Directional attacks against PyTorch's autograd, and the cross-entropy that the authors' library attacks."""

import numpy as np
import pytest

from trref.optimization.directional_attacks import attack
from trref.problems.maps import Network

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

D, M, H = 4, 3, 6


def _outputs(theta, x):
    W, b, V, c = torch.split(torch.tensor(theta), [D * H, H, H * M, M])
    return torch.tanh(x @ W.reshape(D, H) + b) @ V.reshape(H, M) + c


@pytest.mark.parametrize("seed", range(3))
def test_attacks(seed):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal((D + 1) * H + (H + 1) * M)
    network, x, d = Network(theta, (D, H, M)), rng.standard_normal((5, D)), rng.standard_normal((5, M))

    def slope(delta):
        moved = (torch.tensor(x) + delta).requires_grad_()
        (torch.tensor(d) * _outputs(theta, moved)).sum().backward()
        return moved.grad

    zero = torch.zeros(5, D, dtype=torch.float64)
    assert np.allclose(attack(network, x, d, radius=0.3), 0.3 * slope(zero).sign().numpy())
    g = slope(zero)
    assert np.allclose(attack(network, x, d, radius=0.3, method="l2"), (0.3 * g / g.norm(dim=1, keepdim=True)).numpy())
    delta = zero
    for _ in range(10):
        delta = (delta + 0.3 / 4 * slope(delta).sign()).clamp(-0.3, 0.3)
    assert np.allclose(attack(network, x, d, radius=0.3, method="pgd"), delta.numpy())


def test_cross_entropy_loses_the_mean():
    """At outputs of 0 the slope of minus the cross-entropy with label d is d less its mean."""
    d = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    z = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (d * torch.log_softmax(z, 0)).sum().backward()
    assert torch.allclose(z.grad, d - d.mean())
