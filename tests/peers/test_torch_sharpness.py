"""Sharpness-aware gradients against PyTorch's autograd, and against pytorch_optimizer's SAM where they are SAM's."""

import numpy as np
import pytest

from tests.peers.by_autograd import close
from trref.nn import mlp
from trref.problems.networks import MeanOutput, random_classifier
from trref.sharpness import adversarial_model_perturbation as amp
from trref.sharpness import gam, ignite
from trref.sharpness import gradient_regularization as gr

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.peer


def _task(seed=0):
    """A classifier of ours, a point, and its loss in torch."""
    rng = np.random.default_rng(seed)
    loss = random_classifier(rng, points=12, hidden=4)
    (d, h, k), X, labels = loss.sizes, torch.tensor(loss.X), torch.tensor(loss.labels)

    def in_torch(theta):
        W1, b1, W2, b2 = torch.split(theta, [d * h, h, h * k, k])
        hidden = torch.tanh(X @ W1.reshape(d, h) + b1)
        return F.cross_entropy(hidden @ W2.reshape(h, k) + b2, labels)

    return loss, mlp.init(rng, loss.sizes), in_torch


def _gradient(f, theta, **options):
    theta = theta.detach().requires_grad_() if not theta.requires_grad else theta
    return torch.autograd.grad(f(theta), theta, **options)[0]


@pytest.mark.parametrize("how", [{}, {"rho": 0.4, "inner_lr": 0.3, "steps": 4}])
def test_adversarial_model_perturbation(how):
    loss, theta, f = _task()
    start, moved = torch.tensor(theta), torch.zeros(len(theta), dtype=torch.float64)
    for _ in range(how.get("steps", 1)):
        moved = moved + how.get("inner_lr", 1.0) * _gradient(f, start + moved)
        moved = torch.renorm(moved[None], 2, 0, how.get("rho", 0.5))[0]
    value, gradient = amp.perturbed_gradient(loss, theta, **how)
    close(value, f(start + moved), 1e-7)  # renorm divides by the norm + 1e-7
    close(gradient, _gradient(f, start + moved), 1e-7)


def test_beyond_the_ball_it_is_public_sam():
    SAM = pytest.importorskip("pytorch_optimizer").SAM
    loss, theta, f = _task(1)
    weight = torch.tensor(theta, requires_grad=True)
    optimizer = SAM([weight], torch.optim.SGD, rho=0.05, lr=1.0)
    f(weight).backward()
    optimizer.first_step(zero_grad=True)
    # its norm is a number of single precision
    close(amp.perturbed_gradient(loss, theta, rho=0.05)[1], _gradient(f, weight.detach()), 1e-7)


def test_penalised_loss_by_double_backward():
    loss, theta, f = _task(2)
    point = torch.tensor(theta, requires_grad=True)
    g = _gradient(f, point, create_graph=True)
    penalised = f(point) + 0.15 * (g * g).sum()
    value, gradient = gr.penalised_loss(loss, theta, penalty_weight=0.3)
    close(value, penalised)
    close(gradient, torch.autograd.grad(penalised, point)[0])


@pytest.mark.parametrize("scheme", ["forward", "backward", "central"])
def test_differences_of_gradients(scheme):
    loss, theta, f = _task(3)
    point = torch.tensor(theta)
    g = _gradient(f, point)
    up, down = (_gradient(f, point + sign * 0.05 * g) for sign in (1, -1))
    difference = {"forward": up - g, "backward": g - down, "central": (up - down) / 2}[scheme] / 0.05
    ours = gr.finite_difference_gradient(loss, theta, penalty_weight=0.3, inner_lr=0.05, scheme=scheme)[1]
    close(ours, g + 0.3 * difference)


def test_gam_by_double_backward():
    loss, theta, f = _task(4)

    def slope(point):
        return torch.linalg.vector_norm(_gradient(f, point, create_graph=True))

    point = torch.tensor(theta, requires_grad=True)
    norm_gradient = torch.autograd.grad(slope(point), point)[0]
    close(gam.gradient_norm(loss, theta)[0], slope(point))
    close(gam.gradient_norm(loss, theta)[1], norm_gradient)
    moved = 0.1 * norm_gradient / torch.linalg.vector_norm(norm_gradient)
    total = f(point) + 0.3 * 0.1 * slope(point + moved)
    value, gradient = gam.gam(loss, theta, rho=0.1, alpha=0.3)
    close(value, total)
    close(gradient, torch.autograd.grad(total, point)[0])


def test_penalty_on_the_outputs_slope_by_double_backward():
    loss, theta, f = _task(5)
    output = MeanOutput(np.random.default_rng(6).standard_normal((10, 3)), (3, 6, 1))
    assert mlp.size(output.sizes) == len(theta)
    X = torch.tensor(output.X)

    def mean(point):
        W1, b1, W2, b2 = torch.split(point, [18, 6, 6, 1])
        return (torch.tanh(X @ W1.reshape(3, 6) + b1) @ W2 + b2).mean()

    point = torch.tensor(theta, requires_grad=True)
    g = _gradient(mean, point, create_graph=True)
    total = f(point) + 0.7 * (0.3 * torch.linalg.vector_norm(g) - 0.2)
    how = {"penalty_weight": 0.7, "rho": 0.3, "threshold": 0.2}
    value, gradient = ignite.penalised_fit_exact(loss, output, theta, **how)
    close(value, total)
    close(gradient, torch.autograd.grad(total, point)[0])
    there = _gradient(mean, point.detach() + 0.1 * g.detach() / torch.linalg.vector_norm(g.detach()))
    wanted = _gradient(f, point.detach()) + 0.7 * 3 * (there - g.detach())
    close(ignite.penalised_fit(loss, output, theta, inner_rho=0.1, **how)[1], wanted)
