"""
Bias, variance and the lambda of GAE
====================================

The value function is wrong; how much of the reward should an advantage estimate see for itself? In random Markov
decision processes with eight states everything can be computed exactly, and the estimate of the policy gradient can be
taken apart into bias and variance.
"""

# %%
# Decision processes with known values
# ------------------------------------
# Five of them, drawn at random, each with a random policy and a value function that is off by as much as it varies.

import itertools
from typing import Any, NamedTuple

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.policy.gae import gae, response
from trref.problems.mdp import TabularMDP

plt = use_style()
S, A, gamma, T, batch, trajectories, seeds = 8, 3, 0.95, 40, 20, 3000, range(5)


class Process(NamedTuple):
    """The decision process, a policy (S, A), its true advantages (S, A), its true values (S,), and wrong ones."""

    mdp: TabularMDP
    policy: Any
    advantage: Any
    true: Any
    wrong: Any


def draw_process(rng):
    P = rng.dirichlet(0.3 * np.ones(S), size=(S, A))
    R = rng.standard_normal((S, A))
    logits = 0.5 * rng.standard_normal((S, A))
    policy = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mdp = TabularMDP(P, R, np.eye(S)[0], gamma)
    V, advantage, *_ = mdp(policy)
    return Process(mdp, policy, advantage, V, V + V.std() * rng.standard_normal(S))


# %%
# How long an action is felt
# --------------------------
# The response: by how much an action changes the expected reward of each later step. Discounted by gamma and summed up
# it is the advantage; a discount of gamma times lambda cuts its tail off. Rewards shaped by the true value function
# respond at once; shaped by our wrong ones they respond about as long as they are.

lags = range(12)
potentials = {"rewards": lambda p: 0 * p.true, "shaped by wrong values": lambda p: p.wrong}
potentials["shaped by the true values"] = lambda p: p.true
tails, left_out = {name: [] for name in potentials}, []
for seed in seeds:
    process = draw_process(np.random.default_rng(seed))
    for name, potential in potentials.items():
        chi = response(process.policy, potential(process), process.mdp, steps=400)
        size = abs(chi).mean((1, 2))
        tails[name].append(np.maximum(size[: len(lags)] / size[0], 1e-6).tolist())
        left_out.append(abs(np.tensordot(gamma ** np.arange(400), chi, 1) - process.advantage).max())
figure, axis = plt.subplots()
for name, values in tails.items():
    spread(axis, lags, values, name)
axis.set(xlabel="steps after the action", ylabel="mean response, relative to the first step", yscale="log")
axis.set_ylim(1e-4, 2)
axis.legend()
assert max(left_out) < 1e-6, "summed up with gamma every response is the advantage"
assert np.array(tails["shaped by the true values"])[:, 1:].max() <= 1e-6, "with the true values it comes at once"
assert (np.array(tails["rewards"])[:, 2] > 0.01).all(), "without values it lasts"


# %%
# Many trajectories at once
# -------------------------
# The estimator is the mean over T steps of score times advantage estimate. Its expectation under the true advantages is
# computed from the exact state distribution of each step.


def play(rng, process):
    """States (T + 1, trajectories) and actions (T, trajectories), all from state 0."""
    state = np.zeros(trajectories, int)
    states, actions = np.empty((T + 1, trajectories), int), np.empty((T, trajectories), int)
    for t in range(T):
        states[t] = state
        actions[t] = (rng.random((trajectories, 1)) > np.cumsum(process.policy[state], 1)[:, :-1]).sum(1)
        cumulated = np.cumsum(process.mdp.transition[state, actions[t]], 1)[:, :-1]
        state = (rng.random((trajectories, 1)) > cumulated).sum(1)
    states[T] = state
    return states, actions


def exact_gradient(process):
    transitions = np.einsum("sa,sat->st", process.policy, process.mdp.transition)
    weights, exact = np.eye(S)[0], np.zeros((S, A))
    for _ in range(T):
        exact += weights[:, None] * process.policy * process.advantage / T
        weights = weights @ transitions
    return exact


def errors(seed, lambdas, values="wrong"):
    """Squared bias, and variance of a batch, for each lambda."""
    rng = np.random.default_rng(seed)
    process = draw_process(rng)
    states, actions = play(rng, process)
    score, where = np.eye(A)[actions] - process.policy[states[:-1]], np.eye(S)[states[:-1]]
    V = getattr(process, values)
    reward, value, following = process.mdp.reward[states[:-1], actions], V[states[:-1]], V[states[1:]]
    exact, flags, rows = exact_gradient(process), np.zeros((T, trajectories)), []
    for lam in lambdas:
        estimate = gae(reward, value, following, flags, flags, gamma=gamma, lam=lam)
        g = np.einsum("tn,tns,tna->nsa", estimate, where, score) / T
        noise = g.var(0).sum()
        rows.append((((g.mean(0) - exact) ** 2).sum() - noise / trajectories, noise / batch))
    return np.array(rows).T


lambdas = [0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0]
bias, variance = np.moveaxis(np.array([errors(seed, lambdas) for seed in seeds]), 1, 0)
error = bias + variance
unbiased = np.array([errors(seed, (0.0, 0.6, 1.0), "true")[0] for seed in seeds])

# %%
# The scales of the processes differ; each is shown relative to its error at lambda 0.

figure, axis = plt.subplots()
for values, label, marker in (
    (bias, "squared bias", "o"),
    (variance, f"variance of {batch} trajectories", "s"),
    (error, "mean squared error", "^"),
):
    spread(axis, lambdas, np.maximum(values / error[:, :1], 1e-4).tolist(), label, marker=marker)
axis.set(xlabel="lambda", ylabel="squared error of the policy gradient, relative", yscale="log")
axis.legend()

# %%
# What the figures show
# ---------------------
# The bias falls with lambda while the variance rises, and the error is smallest in between. With the true values, the
# control, there is no bias at any lambda, up to sampling error. (At lambda 1 a segment of T steps still bootstraps at
# its end, from the wrong value; what is left of the bias there is that, and sampling error, which can make the estimate
# of the squared bias negative.)

for lam, b, v in zip(lambdas, bias.mean(0), variance.mean(0), strict=True):
    print(f"lambda {lam:4.2f}: squared bias {b:.4f}, variance {v:.4f}, error {b + v:.4f}")
best = [lambdas[i] for i in error.argmin(1)]
print("smallest error at lambda", best)
for b, v in zip(bias, variance, strict=True):
    assert b[0] > 3 * max(b[-1], 0), "lambda 1 removes most of the bias of lambda 0"
    assert all(low < high for low, high in itertools.pairwise(v[1:])), "variance rises with lambda"
    assert v[-1] > 3 * v[0], "several times over"
print(f"squared bias with the true values: at most {(unbiased / bias[:, :1]).max():.3f} of that at lambda 0")
assert (abs(unbiased) < 0.1 * bias[:, :1]).all(), "the bias comes from the wrong values"
assert all(0 < lam < 1 for lam in best), "and the best lambda is neither 0 nor 1, in any process"

# %%
# .. claim:: With a wrong value function an intermediate lambda gives the best estimate of the policy gradient: less
#     variance than whole returns, less bias than single residuals.
#     :experiment: five random decision processes of 8 states, 3000 trajectories each, error of batches of 20
#     :controls: lambda 0 (single residuals) and lambda 1 (whole returns); the true values; the exact gradient
#     :shown: yes: in all five the error is smallest between the two. How much is learned with it is not tried here
