"""Gradients through time, and those of the penalty at held states and errors, against PyTorch."""

import numpy as np
import pytest

from trref.theory.rnn_gradients import errors, squared_loss, states, vanishing_penalty

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
@pytest.mark.parametrize("seed", range(3))
def test_through_time_and_of_the_penalty(seed, activation):
    rng = np.random.default_rng(seed)
    shapes = {"W_rec": (4, 4), "W_in": (4, 3), "bias": (4,), "start": (4,), "u": (6, 3), "target": (6, 4)}
    given = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    value, gradient = squared_loss(**given, activation=activation)
    at = {name: torch.tensor(a, requires_grad=name not in ("u", "target")) for name, a in given.items()}
    sigma = torch.tanh if activation == "tanh" else torch.sigmoid
    x = [at["start"]]
    for row in at["u"]:
        x.append(at["W_rec"] @ sigma(x[-1]) + at["W_in"] @ row + at["bias"])
    theirs = ((torch.stack(x[1:]) - at["target"]) ** 2).sum() / 2
    delta = torch.autograd.grad(theirs, x[1:], retain_graph=True)
    theirs.backward()
    assert value == pytest.approx(theirs.item(), rel=1e-13)
    for name in gradient._fields:
        assert np.allclose(getattr(gradient, name), at[name].grad.numpy(), rtol=1e-11, atol=1e-11), name

    path = states(**{name: a for name, a in given.items() if name != "target"}, activation=activation)
    back = errors(given["W_rec"], path, path[1:] - given["target"], activation=activation)
    assert np.allclose(back, torch.stack(delta).numpy(), rtol=1e-11, atol=1e-11)

    W = torch.tensor(given["W_rec"], requires_grad=True)
    held = torch.tensor(path[1:-1], requires_grad=True)
    slopes = torch.autograd.grad(sigma(held).sum(), held)[0]
    lengths = torch.tensor(back[1:]).norm(dim=1)
    ratio = ((torch.tensor(back[1:]) @ W) * slopes).norm(dim=1) / lengths
    for form, loss in (("ratio", ((ratio - 1) ** 2).sum()), ("squared", ((ratio**2 - 1) ** 2).mean())):
        value, by_W = vanishing_penalty(given["W_rec"], path, back, form=form, activation=activation)
        assert value == pytest.approx(loss.item(), rel=1e-11)
        (theirs,) = torch.autograd.grad(loss, W, retain_graph=True)
        assert np.allclose(by_W, theirs.numpy(), rtol=1e-10, atol=1e-11)
