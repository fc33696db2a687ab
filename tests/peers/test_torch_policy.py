"""Policy gradients, divergences and Fisher-vector products against PyTorch's autograd, to 1e-10 in float64."""

import numpy as np
import pytest

from tests.peers.by_autograd import close
from trref.policy.natural_gradient import fisher_vector_product, mean_kl_categorical, mean_kl_diag_gaussian
from trref.policy.ppo import total_objective
from trref.policy.ppo_penalty import kl_penalty_objective
from trref.policy.trpo import vine_surrogate
from trref.problems.policies import CategoricalPolicy, GaussianPolicy, ValueNetwork

torch = pytest.importorskip("torch")
from torch.distributions import Categorical, Independent, Normal, kl_divergence  # noqa: E402

pytestmark = pytest.mark.peer
POLICIES = {"categorical": CategoricalPolicy((3, 6, 5, 4)), "Gaussian": GaussianPolicy((3, 6, 2))}


def _t(x, grad=False):
    return torch.tensor(x, requires_grad=grad)


def _network(theta, X, sizes):
    h, start = X, 0
    for l in range(len(sizes) - 1):
        m, n = sizes[l : l + 2]
        a = h @ theta[start : start + m * n].reshape(m, n) + theta[start + m * n : start + m * n + n]
        h, start = torch.tanh(a), start + m * n + n
    return a


def _distribution(policy, theta, X):
    if policy.discrete:
        return Categorical(logits=_network(theta, X, policy.sizes))
    d = policy.actions
    return Independent(Normal(_network(theta[:-d], X, policy.sizes), theta[-d:].exp()), 1)


def _case(name):
    policy, rng = POLICIES[name], np.random.default_rng(len(name))
    theta, X = 0.5 * rng.standard_normal(policy.size), rng.standard_normal((9, 3))
    return policy, theta, X, policy.sample(rng, policy(theta, X)), rng


@pytest.mark.parametrize("name", POLICIES)
def test_log_probability_entropy_and_divergence_of_policies(name):
    policy, theta, X, actions, rng = _case(name)
    other, weight = theta + 0.3 * rng.standard_normal(policy.size), rng.standard_normal(9)
    z, cache = policy.forward(other, X)
    point = _t(other, grad=True)
    theirs, old = _distribution(policy, point, _t(X)), _distribution(policy, _t(theta), _t(X))
    for (ours, d_ours), expected in (
        (policy.log_prob(z, actions), theirs.log_prob(_t(actions))),
        (policy.entropy(z), theirs.entropy()),
        (policy.kl(policy(theta, X), z), kl_divergence(old, theirs)),
    ):
        close(ours, expected)
        (gradient,) = torch.autograd.grad((expected * _t(weight)).sum(), point, retain_graph=True)
        close(policy.vjp(cache, weight[:, None] * d_ours), gradient)


@pytest.mark.parametrize("name", POLICIES)
def test_fisher_vector_product_by_differentiating_the_divergence_twice(name):
    policy, theta, X, _, rng = _case(name)
    v, point = rng.standard_normal(policy.size), _t(theta, grad=True)
    old = _distribution(policy, _t(theta), _t(X))
    divergence = kl_divergence(old, _distribution(policy, point, _t(X))).mean()
    (gradient,) = torch.autograd.grad(divergence, point, create_graph=True)
    (product,) = torch.autograd.grad((gradient * _t(v)).sum(), point)
    close(fisher_vector_product(policy, theta, v, X, damping=0.2), product + 0.2 * _t(v))


def test_mean_divergences():
    rng = np.random.default_rng(1)
    old, new = rng.standard_normal((6, 4)), rng.standard_normal((6, 4))
    point = _t(new, grad=True)
    kl = kl_divergence(Categorical(logits=_t(old)), Categorical(logits=point)).mean()
    kl.backward()
    ours = mean_kl_categorical(old, new)
    close(ours[0], kl)
    close(ours[1], point.grad)
    old_mean, old_log_std, *new = (rng.standard_normal((6, 2)) for _ in range(4))
    mean, log_std = (_t(x, grad=True) for x in new)
    p, q = Normal(_t(old_mean), _t(old_log_std).exp()), Normal(mean, log_std.exp())
    kl = kl_divergence(p, q).sum(1).mean()
    kl.backward()
    ours = mean_kl_diag_gaussian(old_mean, old_log_std, *new)
    close(ours[0], kl)
    close(ours[1].mean, mean.grad)
    close(ours[1].log_std, log_std.grad)


def test_the_whole_objective_through_a_policy_and_a_value_network():
    policy, theta, X, actions, rng = _case("categorical")
    network = ValueNetwork((3, 5, 1))
    phi, advantage, target = network.init(rng), rng.standard_normal(9), rng.standard_normal(9)
    old = policy.log_prob(policy(theta, X), actions)[0] + 0.4 * rng.standard_normal(9)
    z, cache = policy.forward(theta, X)
    value, value_cache = network.forward(phi, X)
    (log_prob, d_log_prob), (entropy, d_entropy) = policy.log_prob(z, actions), policy.entropy(z)
    loss, g = total_objective(log_prob, old, advantage, value, target, entropy, value_weight=0.5, entropy_weight=0.03)

    t_theta, t_phi = _t(theta, grad=True), _t(phi, grad=True)
    distribution = _distribution(policy, t_theta, _t(X))
    ratio = torch.exp(distribution.log_prob(_t(actions)) - _t(old))
    A = _t(advantage)
    clipped = torch.min(ratio * A, ratio.clamp(0.8, 1.2) * A).mean()
    error = _network(t_phi, _t(X), network.sizes)[:, 0] - _t(target)
    theirs = -(clipped - 0.5 * (error**2).mean() + 0.03 * distribution.entropy().mean())
    theirs.backward()
    close(loss, theirs)
    close(policy.vjp(cache, g.log_prob[:, None] * d_log_prob + g.entropy[:, None] * d_entropy), t_theta.grad)
    close(network.vjp(value_cache, g.value), t_phi.grad)


def test_penalty_and_vine():
    rng = np.random.default_rng(2)
    logits, old, actions = rng.standard_normal((7, 4)), rng.standard_normal((7, 4)), rng.integers(0, 4, 7)
    advantage, point = rng.standard_normal(7), _t(logits, grad=True)
    p, q = Categorical(logits=_t(old)), Categorical(logits=point)
    ratio = torch.exp(q.log_prob(_t(actions)) - p.log_prob(_t(actions)))
    loss = -(ratio * _t(advantage) - 1.7 * kl_divergence(p, q)).mean()
    loss.backward()
    ours = kl_penalty_objective(logits, old, actions, advantage, kl_weight=1.7)
    close(ours[0], loss)
    close(ours[1], point.grad)

    log_prob, behavior, value = (rng.standard_normal((7, 3)) for _ in range(3))
    point = _t(log_prob, grad=True)
    ratio = torch.exp(point - _t(behavior))
    loss = -((ratio * _t(value)).sum(1) / ratio.sum(1)).mean()
    loss.backward()
    ours = vine_surrogate(log_prob, behavior, value)
    close(ours[0], loss)
    close(ours[1], point.grad)
