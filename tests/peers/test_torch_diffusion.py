"""Gradients through samplers against PyTorch's autograd, from log-densities and networks written for it alone."""

import itertools

import numpy as np
import pytest

from trref.diffusion.symplectic_adjoint import TABLEAUX, guidance, trained_guidance
from trref.problems.denoisers import TimeNetwork
from trref.problems.mixtures import MixtureNoise, three_components
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
