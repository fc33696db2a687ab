"""
How far to trust a surrogate
============================

The surrogate of a policy's return looks at new actions in old states. It is right to first order; how wrong can it be
further away, and how much of that does the proven lower bound give away?
"""

# %%
# One direction, near and far
# ---------------------------
# From a random policy we follow the gradient and watch the return, the surrogate, and the two lower bounds.

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.policy.trpo_improvement import (
    expected_return,
    lower_bound,
    surrogate_return,
    theoretical_policy_iteration,
)
from trref.problems.mdp import random_mdp

plt = use_style()
rng = np.random.default_rng(0)
mdp, old = random_mdp(rng, states=6, actions=3, gamma=0.5), rng.standard_normal((6, 3))
start, direction = -expected_return(old, mdp)[0], -expected_return(old, mdp)[1]
direction /= np.linalg.norm(direction)
lengths = np.linspace(-1, 8, 91)
lines = {
    "return": [-expected_return(old + t * direction, mdp)[0] for t in lengths],
    "surrogate": [-surrogate_return(old + t * direction, old, mdp)[0] for t in lengths],
    "lower bound, total variation": [lower_bound(old + t * direction, old, mdp, divergence="tv") for t in lengths],
    "lower bound, KL": [lower_bound(old + t * direction, old, mdp) for t in lengths],
}
figure, axis = plt.subplots()
for name, values in lines.items():
    axis.plot(lengths, values, label=name)
axis.set(xlabel="distance along the gradient of the logits", ylabel="return", ylim=(start - 0.8, None))
axis.legend()

# %%
# Three hundred decision processes
# --------------------------------
# Each point is a random process with two random policies. On the diagonal the surrogate would be right; no point may
# lie further below it than the penalty.

predicted, actual, penalty = [], [], []
for seed in range(300):
    rng = np.random.default_rng(seed)
    process = random_mdp(rng, states=6, actions=3, gamma=rng.choice((0.3, 0.6, 0.9)))
    a = rng.standard_normal((6, 3))
    b = a + (0.1, 0.5, 2.0)[seed % 3] * rng.standard_normal((6, 3))
    before, surrogate = -expected_return(a, process)[0], -surrogate_return(b, a, process)[0]
    predicted.append(surrogate - before)
    actual.append(-expected_return(b, process)[0] - before)
    penalty.append(surrogate - lower_bound(b, a, process))
predicted, actual, penalty = map(np.array, (predicted, actual, penalty))
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
axes[0].plot(predicted, actual, ".", alpha=0.6)
limits = [predicted.min(), predicted.max()]
axes[0].plot(limits, limits, color=COLOURS[-1], linestyle=":", label="surrogate = return")
axes[0].set(xlabel="change of the surrogate", ylabel="change of the return")
axes[0].legend()
axes[1].loglog(penalty, abs(predicted - actual), ".", alpha=0.6)
axes[1].loglog(penalty, penalty, color=COLOURS[-1], linestyle=":", label="the bound")
axes[1].set(xlabel="penalty of the KL bound", ylabel="error of the surrogate")
axes[1].legend()

# %%
# What the figures show
# ---------------------
# The surrogate is close for small changes, and optimistic or pessimistic further out. The bound holds everywhere, with
# orders of magnitude to spare: so pessimistic that its maximiser is a very short way along the gradient. That is why
# TRPO replaces the penalty by a bound on the divergence.

margin = np.median(penalty / abs(predicted - actual))
step = theoretical_policy_iteration(old, mdp, iterations=1)
best = max(lines["return"]) - start
print(f"the penalty is {margin:.0f} times the error, in the median")
print(f"one step of Algorithm 1 gains {step.returns[1] - start:.4f}; along the gradient {best:.3f} could be had")
assert (actual >= predicted - penalty - 1e-12).all(), "the bound is never violated"
assert (actual < predicted).any() and (actual > predicted).any(), "the surrogate errs on both sides"
assert np.corrcoef(predicted, actual)[0, 1] > 0.8, "but mostly it tells better from worse"
assert margin > 20, "and the bound is far from tight"
assert 0 < step.returns[1] - start < 0.2 * best, "its maximiser improves, a little"

# %%
# .. claim:: The surrogate minus a penalty on the largest divergence is a lower bound of the return; whoever maximises
#     it never loses.
#     :experiment: 300 random decision processes with two random policies each; one step of Algorithm 1 on one process
#     :controls: the exact return; the best point along the gradient
#     :shown: yes: the bound is never violated, and its maximiser improves. It is far from tight: the penalty is a
#         thousand times the error, in the median
