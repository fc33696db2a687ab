"""
Bias, variance and the lambda of GAE
====================================

The value function is wrong; how much of the reward should an advantage estimate see for itself? In a random Markov
decision process with eight states everything can be computed exactly, and the estimate of the policy gradient can be
taken apart into bias and variance.
"""

# %%
# A decision process with known values
# ------------------------------------

import itertools

import numpy as np

from trref.experiments.figures import use_style
from trref.policy.gae import gae

plt = use_style()
S, A, gamma, T, batch = 8, 3, 0.95, 40, 20
rng = np.random.default_rng(0)
P = rng.dirichlet(0.3 * np.ones(S), size=(S, A))
R = rng.standard_normal((S, A))
logits = 0.5 * rng.standard_normal((S, A))
policy = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
P_pi, R_pi = np.einsum("sa,sat->st", policy, P), (policy * R).sum(1)
V = np.linalg.solve(np.eye(S) - gamma * P_pi, R_pi)
advantage = R + gamma * P @ V - V[:, None]
wrong = V + V.std() * rng.standard_normal(S)

# %%
# Many trajectories at once
# -------------------------
# The estimator is the mean over T steps of score times advantage estimate. Its expectation under the true advantages is
# computed from the exact state distribution of each step.

trajectories = 3000
state = np.zeros(trajectories, int)
states, actions = np.empty((T + 1, trajectories), int), np.empty((T, trajectories), int)
for t in range(T):
    states[t] = state
    actions[t] = (rng.random((trajectories, 1)) > np.cumsum(policy[state], 1)[:, :-1]).sum(1)
    state = (rng.random((trajectories, 1)) > np.cumsum(P[state, actions[t]], 1)[:, :-1]).sum(1)
states[T] = state
score = np.eye(A)[actions] - policy[states[:-1]]
where = np.eye(S)[states[:-1]]

weights, exact = np.eye(S)[0], np.zeros((S, A))
for _ in range(T):
    exact += weights[:, None] * policy * advantage / T
    weights = weights @ P_pi


def gradients(lam):
    flags = np.zeros((T, trajectories))
    estimate = gae(R[states[:-1], actions], wrong[states[:-1]], wrong[states[1:]], flags, flags, gamma=gamma, lam=lam)
    return np.einsum("tn,tns,tna->nsa", estimate, where, score) / T


lambdas = [0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0]
bias, variance = [], []
for lam in lambdas:
    g = gradients(lam)
    spread = g.var(0).sum()
    bias.append(((g.mean(0) - exact) ** 2).sum() - spread / trajectories)
    variance.append(spread / batch)
error = np.array(bias) + variance

figure, axis = plt.subplots()
axis.plot(lambdas, bias, "o-", label="squared bias")
axis.plot(lambdas, variance, "s-", label=f"variance of {batch} trajectories")
axis.plot(lambdas, error, "^-", label="mean squared error")
axis.set(xlabel="lambda", ylabel="squared error of the policy gradient", yscale="log")
axis.legend()

# %%
# What the figure shows
# ---------------------
# The bias falls with lambda while the variance rises, and the error is smallest in between. With the true values there
# is no bias at any lambda. (At lambda 1 a segment of T steps still bootstraps at its end, from the wrong value; what is
# left of the bias there is that, and sampling error.)

for lam, b, v in zip(lambdas, bias, variance, strict=True):
    print(f"lambda {lam:4.2f}: squared bias {b:.4f}, variance {v:.4f}, error {b + v:.4f}")
best = lambdas[int(np.argmin(error))]
print("smallest error at lambda", best)
assert bias[0] > 3 * max(bias[-1], 0), "lambda 1 removes most of the bias of lambda 0"
assert all(a < b for a, b in itertools.pairwise(variance[1:])), "variance rises with lambda"
assert variance[-1] > 3 * variance[0]
assert 0 < best < 1, "and the best lambda is neither 0 nor 1"
