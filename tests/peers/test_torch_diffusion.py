"""Gradients through samplers against PyTorch's autograd, from log-densities and networks written for it alone."""

import itertools

import numpy as np
import pytest

from trref.catalog import find
from trref.diffusion.adjoint_dpm import adjoint_gradient
from trref.diffusion.symplectic_adjoint import TABLEAUX, guidance, trained_guidance
from trref.problems.denoisers import TimeNetwork
from trref.problems.mixtures import MixtureNoise, three_components, vp_schedule
from trref.problems.rewards import QuadraticReward

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

MIXTURE, NETWORK = three_components(), TimeNetwork(2, (6, 5))
X = np.random.default_rng(0).standard_normal((4, 2))
LEVELS, GOAL = np.array([2.0, 0.9, 0.3, 0.05]), np.array([0.5, -1.0])


def _score_noise(x, alpha, t):
    """-sigma times the gradient of the noisy log-density, by autograd."""
    sigma, terms = torch.sqrt(1 - alpha**2), []
    for w, m, S in zip(MIXTURE.weights, MIXTURE.means, MIXTURE.covariances, strict=True):
        C = alpha**2 * torch.tensor(S) + sigma**2 * torch.eye(2, dtype=torch.float64)
        component = torch.distributions.MultivariateNormal(alpha * torch.tensor(m), C)
        terms.append(np.log(w) + component.log_prob(x))
    density = torch.logsumexp(torch.stack(terms), 0).sum()
    return -sigma * torch.autograd.grad(density, x, create_graph=True)[0]


def _network_noise(theta):
    def noise(x, alpha, t):
        t = t.expand(len(x), 1)
        h, start = torch.cat([x, t, torch.cos(torch.pi * t), torch.sin(torch.pi * t)], 1), 0
        for m, n in itertools.pairwise(NETWORK.sizes):
            if start:
                h = torch.nn.functional.silu(h)
            W, b = theta[start : start + m * n].reshape(m, n), theta[start + m * n : start + m * n + n]
            h, start = h @ W + b, start + m * n + n
        return h

    return noise


def _time(alpha):
    """The positive root of t² (20 - 0.1)/4 + 0.1 t/2 = -log alpha."""
    a, b, c = 19.9 / 4, 0.05, torch.log(alpha)
    return (-b + torch.sqrt(b**2 - 4 * a * c)) / (2 * a)


def _solve(noise, x, rule):
    a, b, c = TABLEAUX[rule]
    s = torch.tensor(LEVELS)
    y = x * torch.sqrt(1 + s[0] ** 2)
    for here, there in itertools.pairwise(s):
        h, slopes = there - here, []
        for row, node in zip(a, c, strict=True):
            alpha = 1 / torch.sqrt(1 + (here + node * h) ** 2)
            X = y
            for share, k in zip(row, slopes, strict=True):
                X = X + h * share * k
            slopes.append(noise(alpha * X, alpha, _time(alpha)))
        for share, k in zip(b, slopes, strict=True):
            y = y + h * share * k
    return y / torch.sqrt(1 + s[-1] ** 2)


@pytest.mark.parametrize("rule", TABLEAUX)
def test_guidance_through_exact_scores(rule):
    x = torch.tensor(X, requires_grad=True)
    loss = -((_solve(_score_noise, x, rule) - torch.tensor(GOAL)) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    ours = guidance(MixtureNoise(MIXTURE), X, LEVELS, QuadraticReward(GOAL), rule=rule)
    assert ours[0] == pytest.approx(loss.item(), rel=1e-9)
    assert np.allclose(ours[1], gradient.numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("rule", TABLEAUX)
def test_guidance_through_a_network(rule):
    start = np.random.default_rng(1).standard_normal(NETWORK.size)
    x, theta = torch.tensor(X, requires_grad=True), torch.tensor(start, requires_grad=True)
    loss = -((_solve(_network_noise(theta), x, rule) - torch.tensor(GOAL)) ** 2).sum()
    by_x, by_theta = torch.autograd.grad(loss, (x, theta))
    value, gradients = trained_guidance(NETWORK, start, X, LEVELS, QuadraticReward(GOAL), rule=rule)
    assert value == pytest.approx(loss.item(), rel=1e-9)
    assert np.allclose(gradients.x, by_x.numpy(), rtol=1e-8, atol=1e-9)
    assert np.allclose(gradients.theta, by_theta.numpy(), rtol=1e-8, atol=1e-9)


def _on(grid):
    """Options by which torchdiffeq takes these steps, there and back; it keeps no points between the ends.

    It wants times that rise: those of the flows below are the levels with the opposite sign.
    """
    there, back = ({"grid_constructor": lambda f, y, t, g=g: g} for g in (grid, grid.flip(0)))
    return {"options": there, "adjoint_options": back}


@pytest.mark.parametrize("rule", ["euler", "midpoint"])
def test_torchdiffeq_solves_the_adjoint_equation(rule):
    """Gradients of the solution, by the parameters, too, and not of the steps."""
    torchdiffeq = pytest.importorskip("torchdiffeq")
    rng, times = np.random.default_rng(1), np.array([0.5, 0.4, 0.3, 0.2])
    theta = 0.5 * rng.standard_normal(NETWORK.init(rng).size)
    alpha, sigma = (a.tolist() for a in vp_schedule(times))

    class Flow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = torch.nn.Parameter(torch.tensor(theta))

        def forward(self, time, y):
            rho = -time
            alpha_t = 1 / torch.sqrt(1 + ((rho + sigma[0]) / alpha[0]) ** 2)
            return -_network_noise(self.theta)(alpha_t / alpha[0] * y, alpha_t, _time(alpha_t))

    flow, x = Flow(), torch.tensor(X, requires_grad=True)
    grid = torch.tensor([sigma[0] - alpha[0] * s / a for a, s in zip(alpha, sigma, strict=True)], dtype=torch.float64)
    ends, how = grid[[0, -1]], {"method": rule, "adjoint_params": (flow.theta,), **_on(grid)}
    end = torchdiffeq.odeint_adjoint(flow, x, ends, **how)[-1]
    loss = -((alpha[-1] / alpha[0] * end - torch.tensor(GOAL)) ** 2).sum()
    by_x, by_theta = torch.autograd.grad(loss, (x, flow.theta))
    ours = adjoint_gradient(NETWORK, theta, X, times, QuadraticReward(GOAL), rule=rule)
    assert ours.loss == pytest.approx(loss.item(), rel=1e-9)
    assert np.allclose(ours.x, by_x.numpy(), rtol=1e-8, atol=1e-9)
    assert np.allclose(ours.theta, by_theta.numpy(), rtol=1e-8, atol=1e-9)
    levels = np.array(sigma) / np.array(alpha)
    _, of_steps = trained_guidance(NETWORK, theta, X, levels, QuadraticReward(GOAL), rule=rule)
    assert abs(of_steps.x - ours.x).max() > 1e-4


@pytest.mark.parametrize("rule", ["euler", "midpoint"])
def test_torchdiffeq_computes_the_deviation_on_record(rule):
    torchdiffeq = pytest.importorskip("torchdiffeq")
    record = find("symplectic_adjoint.symplectic_adjoint")
    backwards = next(d.f for d in record.deviations if d.name == "the adjoint equation solved backwards")

    class Flow(torch.nn.Module):
        def forward(self, time, y):
            alpha = 1 / torch.sqrt(1 + time**2)
            with torch.enable_grad():
                y = y if y.requires_grad else y.detach().requires_grad_()
                return -_score_noise(alpha * y, alpha, None)

    x, grid, alpha = torch.tensor(X, requires_grad=True), torch.tensor(-LEVELS), 1 / np.sqrt(1 + LEVELS**2)
    how = {"method": rule, "adjoint_params": (), **_on(grid)}
    end = torchdiffeq.odeint_adjoint(Flow(), x / alpha[0], grid[[0, -1]], **how)[-1]
    (gradient,) = torch.autograd.grad((alpha[-1] * end * torch.tensor(X)).sum(), x)
    ours = backwards(MixtureNoise(MIXTURE), X, LEVELS, X, rule=rule)
    assert np.allclose(ours, gradient.numpy(), rtol=1e-8, atol=1e-9)
