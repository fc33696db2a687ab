"""Rows of length one against PyTorch's weight normalisation with a gain of one."""

import numpy as np
import pytest

from tests.peers.by_autograd import close
from trref.optimizers import weight_conditioning as wc

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def test_weight_norm_with_gain_one():
    rng = np.random.default_rng(0)
    w, b, x, out = (rng.standard_normal(s) for s in ((5, 3), (5,), (7, 3), (7, 5)))
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 5, dtype=torch.float64), dim=0)
    gain, raw = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    with torch.no_grad():
        gain.fill_(1.0)
        raw.copy_(torch.tensor(w))
        layer.bias.copy_(torch.tensor(b))
    result = layer(torch.tensor(x))
    (result * torch.tensor(out)).sum().backward()
    close(wc.conditioned_linear(x, w, b), result)
    close(wc.conditioned_linear_vjp(x, w, b, out), raw.grad)
