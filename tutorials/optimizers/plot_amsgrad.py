"""
The problem that Adam gets wrong
================================

A convex problem in one variable on which Adam walks to the worst point; and what three ways to correct AMSGrad do after
one large gradient.
"""

# %%
# A rare large slope
# ------------------
# Slope 3 with probability (a little more than) one third, else -1, on [-1, 1]: the mean is positive and the best point
# is -1. As in the paper β₁ = 0, and a short memory. The order is random, in ten seeds; the rate falls with 1/√t.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.optimizers import adam, amsgrad

plt = use_style()
steps, seeds = 3000, 10
rules = {"Adam": (adam, {}), "AMSGrad": (amsgrad, {}), "as in PyTorch": (amsgrad, {"corrected": "maximum"})}
rules["as in optax"] = (amsgrad, {"corrected": "moments"})


def walk(rule, hyper):
    """Paths of all seeds at once."""
    rng, x, path = np.random.default_rng(0), [np.zeros(seeds)], []
    state = rule.init(x)
    for t in range(1, steps + 1):
        slope = np.where(rng.random(seeds) < 0.36, 3.0, -1.0)
        rate = 0.5 / np.sqrt(t)
        x, state = rule.update(x, [slope], state, lr=rate, beta1=0.0, beta2=0.1, eps=1e-12, **hyper)
        x = [np.clip(x[0], -1, 1)]
        path.append(x[0])
    return np.array(path)


paths = {name: walk(*rule) for name, rule in rules.items()}
figure, axis = plt.subplots()
for name, path in paths.items():
    spread(axis, range(0, steps, 10), path[::10].T.tolist(), name)
axis.set(xlabel="step", ylabel="x")
axis.legend()
ends = {name: path[-500:].mean(0) for name, path in paths.items()}
for name, end in ends.items():
    print(f"{name:14} mean of the last 500 steps: {np.round(end, 2)}")
assert (ends["Adam"] > 0.5).all(), "Adam ends near the worst point, in every seed"
assert all((ends[name] < -0.5).all() for name in rules if name != "Adam"), "AMSGrad ends near the best"

# %%
# After one large gradient
# ------------------------
# A gradient of 10, then 0.1 for a thousand steps, at the defaults. How far does each rule get?

gradients = [10.0] + [0.1] * 1000
figure, axis = plt.subplots()
way = {}
for name, (rule, hyper) in rules.items():
    x = [np.zeros(1)]
    state, path = rule.init(x), []
    for g in gradients:
        x, state = rule.update(x, [np.array([g])], state, **hyper)
        path.append(-x[0][0])
    way[name] = path[-1]
    axis.plot(path, label=name)
axis.set(xlabel="step", ylabel="way", yscale="log")
axis.legend()
print({name: round(float(length), 4) for name, length in way.items()})

# %%
# Where the maximum is taken of corrected moments, the first gradient counts in full for ever: fifteen times slower.

assert way["as in optax"] < 0.1 * way["as in PyTorch"], "one early outlier freezes one form and not the other"

# %%
# .. claim:: Adam need not converge on a convex problem; with the largest second moment it does.
#     :experiment: the paper's stochastic example in one variable, ten seeds, 3000 steps
#     :controls: Adam; three forms of the correction; one outlier at the start
#     :shown: yes, in every seed and for all three forms; the forms differ fifteenfold after an early outlier. Gains on
#         networks are not compared
