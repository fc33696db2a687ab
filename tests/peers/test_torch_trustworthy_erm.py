"""Gradients of the master objective, of the adversary's game and of robust losses by autograd."""

import numpy as np
import pytest

from trref.trustworthiness import trustworthy_erm

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")


def _tensor(x, grad=False):
    return torch.tensor(x, dtype=torch.float64, requires_grad=grad)


def _data(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(5, 40)), int(rng.integers(2, 6))
    weights = rng.dirichlet(np.ones(n))
    return rng.standard_normal(d), rng.standard_normal((n, d)), rng.integers(0, 2, n).astype(float), weights


@pytest.mark.parametrize("seed", range(5))
def test_worst_data_and_a_tilt(seed):
    """The attack is made by the sign of PyTorch's gradient, the tilt by its logsumexp."""
    theta, X, labels, weights = _data(seed)
    t, x = _tensor(theta, True), _tensor(X, True)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    bce(x @ t.detach(), _tensor(labels), reduction="sum").backward()
    moved = _tensor(X) + 0.2 * x.grad.sign()
    # the moved data are held: Danskin
    losses = bce(moved @ t, _tensor(labels), reduction="none")
    value = 0.7 * torch.logsumexp(losses / 0.7 + _tensor(weights).log(), 0) + 0.15 * (t * t).sum()
    value.backward()
    ours = trustworthy_erm.master_objective(
        theta, X, labels, weights, rho=0.2, reweighting="kl_penalty", kl_weight=0.7, l2_weight=0.3
    )
    assert ours[0] == pytest.approx(value.item(), rel=1e-10)
    assert np.allclose(ours[1], t.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_reversed_gradients(seed):
    """One graph with a layer that is the identity forwards and -λ backwards, as domain-adversarial code has it."""

    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, h):
            return h.view_as(h)

        @staticmethod
        def backward(ctx, cotangent):
            return -0.6 * cotangent

    _, X, labels, _ = _data(seed)
    rng = np.random.default_rng(seed)
    domain = rng.integers(0, 2, len(X)).astype(float)
    encoder, head, adversary = rng.standard_normal((X.shape[1], 2)), rng.standard_normal(2), rng.standard_normal(2)
    W, v, u = (_tensor(part, True) for part in (encoder, head, adversary))
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    h = _tensor(X) @ W
    (bce(h @ v, _tensor(labels)) + bce(Reverse.apply(h) @ u, _tensor(domain))).backward()
    _, ours = trustworthy_erm.encoder_objective(encoder, head, adversary, X, labels, domain, adversary_weight=0.6)
    _, by_adversary = trustworthy_erm.adversary_objective(adversary, encoder, X, domain)
    assert np.allclose(ours.encoder, W.grad.numpy(), rtol=1e-9, atol=1e-12)
    assert np.allclose(ours.head, v.grad.numpy(), rtol=1e-9, atol=1e-12)
    assert np.allclose(by_adversary, u.grad.numpy(), rtol=1e-9, atol=1e-12)
