"""Derivatives of guidance against PyTorch's autograd."""

import numpy as np
import pytest

from tests.peers.by_autograd import close
from trref.diffusion import adaptive_projected_guidance as guidance

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _guided(c, u, b, *, scale, radius, momentum, parallel):
    gap = c - u + momentum * b
    gap = gap * torch.clamp(radius / gap.norm(dim=1, keepdim=True), max=1.0)
    along = torch.nn.functional.normalize(c, dim=1)
    part = (gap * along).sum(1, keepdim=True) * along
    return c + (scale - 1) * (gap - part + parallel * part)


@pytest.mark.parametrize("radius", [0.5, 2.0, 100.0])
def test_projected_guidance(radius):
    how = {"scale": 5.0, "radius": radius, "momentum": -0.5, "parallel": 0.25}
    arrays = np.random.default_rng(0).standard_normal((4, 30, 6))
    c, u, b, cotangent = map(torch.tensor, arrays)
    c.requires_grad_()
    result = _guided(c, u, b, **how)
    (result * cotangent).sum().backward()
    close(guidance.apg(*arrays[:3], **how), result)
    close(guidance.apg_vjp(*arrays, **how), c.grad)
