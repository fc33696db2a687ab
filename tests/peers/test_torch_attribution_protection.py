"""The penalty's gradient, differentiated twice by PyTorch, through integrated gradients of a softplus network."""

import numpy as np
import pytest

from trref.attribution.attribution_protection import attack_objective, igr_penalty

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _given():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 1, (5, 4))
    shapes = {"U": (6, 4), "bias": (6,), "head": (3, 6)}
    given = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return {**given, "x": x, "moved": x + 0.2 * rng.uniform(-1, 1, x.shape), "labels": rng.integers(0, 3, 5)}


def _scores(z, U, b, head):
    return torch.nn.functional.softplus(z @ U.T + b) @ head.T


def _attribution(z, U, b, head, y, m=8):
    total = 0
    for k in range(m):
        point = (k + 0.5) / m * z
        if not point.requires_grad:
            point.requires_grad_()
        score = _scores(point, U, b, head)[range(5), y].sum()
        total = total + torch.autograd.grad(score, point, create_graph=True)[0]
    return z * total / m


def test_both_gradients():
    given = _given()
    parameters = [torch.tensor(given[n], requires_grad=True) for n in ("U", "bias", "head")]
    x, moved = torch.tensor(given["x"]), torch.tensor(given["moved"], requires_grad=True)
    maps = [_attribution(z, *parameters, given["labels"]) for z in (x, moved)]
    R = 1 - torch.nn.functional.cosine_similarity(*maps)
    value, gradient = igr_penalty(**given)
    assert value == pytest.approx(R.mean().item(), rel=1e-12)
    theirs = torch.autograd.grad(R.mean(), parameters, retain_graph=True)
    for ours, other in zip(gradient, theirs, strict=True):
        assert np.allclose(ours, other.numpy(), rtol=0, atol=1e-12)
    loss = torch.nn.functional.cross_entropy(
        _scores(moved, *parameters), torch.tensor(given["labels"]), reduction="sum"
    )
    attack = R.sum() - 0.7 * loss
    value, slope = attack_objective(**given, loss_weight=0.7)
    assert value == pytest.approx(attack.item(), rel=1e-12)
    assert np.allclose(slope, torch.autograd.grad(attack, moved)[0].numpy(), rtol=0, atol=1e-12)
