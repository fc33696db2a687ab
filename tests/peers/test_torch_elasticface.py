"""Margins of angles and cosines against PyTorch's autograd through arccos, with the definitions of the papers."""

import numpy as np
import pytest

from trref.adversarial.elasticface import margin_objective

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def test_values_and_gradients():
    rng = np.random.default_rng(0)
    x, w, y = rng.standard_normal((9, 5)), rng.standard_normal((4, 5)), rng.integers(0, 4, 9)
    m = rng.uniform(0.1, 0.7, 9)
    for kind in ("arc", "cos"):
        X, W = (torch.tensor(v, requires_grad=True) for v in (x, w))
        cosine = torch.nn.functional.linear(torch.nn.functional.normalize(X), torch.nn.functional.normalize(W))
        own = cosine[range(9), y]
        moved = torch.cos(torch.acos(own) + torch.tensor(m)) if kind == "arc" else own - torch.tensor(m)
        logits = cosine.clone()
        logits[range(9), y] = moved
        loss = torch.nn.functional.cross_entropy(12 * logits, torch.tensor(y))
        loss.backward()
        value, gradient = margin_objective(x, w, y, m, scale=12.0, kind=kind)
        assert value == pytest.approx(loss.item(), rel=1e-12)
        assert np.allclose(gradient.embeddings, X.grad.numpy(), rtol=0, atol=1e-12)
        assert np.allclose(gradient.centres, W.grad.numpy(), rtol=0, atol=1e-12)
