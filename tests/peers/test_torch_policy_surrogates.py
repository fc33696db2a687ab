"""Surrogates of policies against PyTorch's autograd, written as trainers write them."""

import numpy as np
import pytest

from tests.peers.by_autograd import close, compare, token_data, token_mean
from trref.policy.bpo import bpo_loss, gbpo, median_value_loss
from trref.policy.mdpo import gaussian_objective, mdpo_objective, off_policy_loss
from trref.policy.spo import penalised_surrogate
from trref.problems.rewards import QuadraticReward

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _samples(seed, N=40):
    rng = np.random.default_rng(seed)
    old = -rng.exponential(1.5, N)
    return {
        "log_prob": old + 0.4 * rng.standard_normal(N),
        "old_log_prob": old,
        "advantage": rng.standard_normal(N),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_spo(seed):
    """As the authors' trainer has it."""

    def loss(x):
        ratio, A = torch.exp(x["log_prob"] - x["old_log_prob"]), x["advantage"]
        return -(ratio * A - A.abs() * (ratio - 1).pow(2) / (2 * 0.3)).mean()

    compare(penalised_surrogate, {"radius": 0.3}, loss, _samples(seed))


def test_bpo():
    """`l1_loss`, weighed by hand; the medians' loss by softplus."""
    data = _samples(2)
    data["target"] = 1 + 0.3 * np.sign(data["advantage"])

    def loss(x):
        miss = torch.nn.functional.l1_loss(torch.exp(x["log_prob"] - x["old_log_prob"]), x["target"], reduction="none")
        return (x["advantage"].abs() * miss).mean()

    compare(bpo_loss, {}, loss, data)
    u, q = torch.tensor(data["log_prob"], requires_grad=True), torch.tensor(data["advantage"])
    x = (q - u) / 0.3
    value = (0.3 * (torch.nn.functional.softplus(x) - x / 2)).mean()
    value.backward()
    ours = median_value_loss(data["log_prob"], data["advantage"], temperature=0.3)
    close(ours[0], value)
    close(ours[1], u.grad)


def test_gbpo():
    """Group by group, as in the authors' advantage estimator."""
    data = token_data(3)

    def loss(x):
        A, signal = torch.zeros_like(x["reward"]), torch.zeros_like(x["reward"])
        for g in x["group"].unique():
            mine = x["group"] == g
            r = x["reward"][mine]
            scale = r.std() + 1e-6
            A[mine] = (r - r.mean()) / scale
            signal[mine] = (r - torch.quantile(r, 0.5)) / scale
        target = 1 - 0.2 + 0.48 * torch.sigmoid(signal)
        ratio = torch.exp(x["log_prob"] - x["old_log_prob"])
        return token_mean((ratio - target[:, None]).abs() * A.abs()[:, None], x)

    compare(gbpo, {"clip_high": 0.28}, loss, data)


def test_mdpo():
    """`kl_divergence` of torch's categorical distributions, the new one first."""
    rng = np.random.default_rng(4)
    logits, old, y, A = *rng.standard_normal((2, 9, 4)), rng.integers(0, 4, 9), rng.standard_normal(9)
    z = torch.tensor(logits, requires_grad=True)
    new, before = (torch.distributions.Categorical(logits=v) for v in (z, torch.tensor(old)))
    ratio = torch.exp(new.log_prob(torch.tensor(y)) - before.log_prob(torch.tensor(y)))
    kl = torch.distributions.kl_divergence(new, before)
    loss = -(ratio * torch.tensor(A) - kl / 0.4).mean()
    loss.backward()
    value, gradient = mdpo_objective(logits, old, y, A, lr=0.4)
    close(value, loss)
    close(gradient, z.grad)


def test_mdpo_of_gaussians():
    rng = np.random.default_rng(5)
    mean, log_std, old_mean, old_log_std, noise = 0.5 * rng.standard_normal((5, 7, 2))
    A = rng.standard_normal(7)
    m, s = (torch.tensor(v, requires_grad=True) for v in (mean, log_std))
    normal = torch.distributions.Normal
    new = torch.distributions.Independent(normal(m, s.exp()), 1)
    old = torch.distributions.Independent(normal(torch.tensor(old_mean), torch.tensor(old_log_std).exp()), 1)
    actions = old_mean + np.exp(old_log_std) * noise
    ratio = torch.exp(new.log_prob(torch.tensor(actions)) - old.log_prob(torch.tensor(actions)))
    loss = -(ratio * torch.tensor(A) - torch.distributions.kl_divergence(new, old) / 0.4).mean()
    loss.backward(retain_graph=True)
    value, gradient = gaussian_objective(mean, log_std, old_mean, old_log_std, actions, A, lr=0.4)
    close(value, loss)
    close(gradient.mean, m.grad)
    close(gradient.log_std, s.grad)

    m.grad = s.grad = None
    a = m + s.exp() * torch.tensor(noise)
    goal = np.array([0.3, -0.2])
    critic = -((a - torch.tensor(goal)) ** 2).sum(-1)
    loss = (0.7 * new.log_prob(a) + (0.2 - 0.7) * old.log_prob(a) - critic).mean()
    loss.backward()
    value, gradient = off_policy_loss(mean, log_std, old_mean, old_log_std, noise, QuadraticReward(goal), kl_weight=0.7)
    close(value, loss)
    close(gradient.mean, m.grad)
    close(gradient.log_std, s.grad)
