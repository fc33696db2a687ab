"""
Three things that are called weight decay
=========================================

A penalty in the gradient, a decay beside the step, and a decay beside step and rate: how much of a weight is left
after a thousand steps of nothing but noise?
"""

# %%
# Noise of many sizes
# -------------------
# Weights of 1 under gradients without mean, of sizes from 0.01 to 10; decay 0.1 (of the paper's form 0.001, the same at
# this rate), rates 0.01 and 0.02.

import numpy as np

from trref.experiments.figures import use_style
from trref.optimizers import adam, adamw

plt = use_style()
sizes, steps, copies = np.geomspace(0.01, 10, 7), 1000, 200


def left(rule, lr, seed=0, **hyper):
    """Mean weight at the end, for each size of noise, and its standard error."""
    rng, params = np.random.default_rng(seed), [np.ones((7, copies))]
    state = rule.init(params)
    for _ in range(steps):
        g = sizes[:, None] * rng.standard_normal((7, copies))
        params, state = rule.update(params, [g], state, lr=lr, **hyper)
    return params[0].mean(1), params[0].std(1) / copies**0.5


forms = {
    "a penalty": (adam, {"weight_decay": 0.1, "decoupled_weight_decay": False}),
    "programs": (adam, {"weight_decay": 0.1}),
    "the paper": (adamw, {"weight_decay": 0.001}),
}
found = {(name, lr): left(rule, lr, **hyper) for name, (rule, hyper) in forms.items() for lr in (0.01, 0.02)}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), sharey=True)
for axis, lr in zip(axes, (0.01, 0.02), strict=True):
    for name in forms:
        mean, error = found[name, lr]
        axis.errorbar(sizes, mean, 3 * error, marker="o", label=name)
    axis.set(xlabel="size of the noise", xscale="log", title=f"rate {lr:g}")
axes[0].set_ylabel("weight that is left of 1")
axes[0].legend()

# %%
# What the figure shows
# ---------------------
# The penalty takes all of a weight whose gradients are small and next to nothing of one whose gradients are large: Adam
# divides it away. Both decays treat all weights alike. Twice the rate squares what the programs' form leaves, and
# changes nothing in the paper's.

for (name, lr), (mean, _) in found.items():
    print(f"{name:10} rate {lr:g}: left {mean.round(2)}")
inside = lambda key, value: (abs(found[key][0] - value) < 4 * found[key][1] + 0.01).all()  # noqa: E731
assert inside(("programs", 0.01), 0.999**1000) and inside(("programs", 0.02), 0.998**1000)
assert inside(("the paper", 0.01), 0.999**1000) and inside(("the paper", 0.02), 0.999**1000)
penalty = found["a penalty", 0.01][0]
assert penalty[0] < 0.1 and penalty[-1] > 0.8, "the penalty depends on the size of gradients"

# %%
# .. claim:: Decoupled decay acts on all weights alike, and can be chosen without the learning rate.
#     :experiment: weights of 1 under noise of seven sizes, 200 copies each, 1000 steps, two rates
#     :controls: the penalty; the form of programs
#     :shown: yes: within four standard errors of the closed form at every size; the second half for the paper's form
#         alone
#
# Exercises
# ---------
# 1. Take a schedule that falls to 0. Which of the forms still decays at the end?
# 2. Replace Adam by gradient descent. Which two of the three become one?
# 3. Let the noise go on for 10,000 steps. How large are weights then, and why?
