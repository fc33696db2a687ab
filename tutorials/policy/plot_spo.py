"""
A parabola in the place of a clip
=================================

PPO stops pushing a sample whose ratio has left the interval, and does nothing to bring it back. SPO gives each sample a
parabola with its top at the edge. One batch, a network, many steps: who lets the ratios go, and what does it cost?
"""

# %%
# One batch
# ---------
# 512 states, six actions, a network with two hidden layers, and advantages of all actions that are known, so that the
# gain of the policy on these states is known, too. 120 steps of Adam on the whole batch, with a small and a large step
# length. Controls are PPO and the unclipped surrogate.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.experiments.one_batch import improve, one_batch, surrogate_slope
from trref.policy.ppo import clipped_surrogate, unclipped_surrogate
from trref.policy.spo import penalised_surrogate

plt = use_style()
STEPS, SEEDS, RATES = 120, range(3), (1e-3, 5e-3)
objectives = {"PPO": clipped_surrogate, "SPO": penalised_surrogate, "unclipped": unclipped_surrogate}
runs = {
    (name, lr): [improve(one_batch(seed), surrogate_slope(f), steps=STEPS, lr=lr) for seed in SEEDS]
    for name, f in objectives.items()
    for lr in RATES
}


def field(name, lr, what):
    return np.array([getattr(run, what) for run in runs[name, lr]])


figure, axes = plt.subplots(2, 3, figsize=(10, 6))
labels = {"largest": "largest |r - 1|", "kl": "mean KL(old‖new)", "gain": "exact gain"}
for row, lr in zip(axes, RATES, strict=True):
    for axis, (what, label) in zip(row, labels.items(), strict=True):
        for i, name in enumerate(objectives):
            if what != "largest" or name != "unclipped":
                spread(axis, np.arange(STEPS + 1), field(name, lr, what), name, color=f"C{i}")
        axis.set(xlabel="step", ylabel=label)
        if what != "gain":
            axis.set_yscale("log")
    row[0].set_title(f"step length {lr:g}")
axes[0, 2].legend()

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: SPO keeps the ratio within its interval, where PPO does not, and learns better.
#     :experiment: one batch of 512 states and six actions, a network of two hidden layers, 120 steps of Adam with two
#         step lengths; 3 seeds
#     :controls: PPO; the surrogate without a bound
#     :shown: in part: the largest ratio and the divergence stay small at both step lengths in every seed, at a fifth or
#         less of PPO's. The exact gain on this batch is smaller, too, by more than half: SPO buys safety here. That it
#         learns better in the long run, with deep networks, is not tried
#
# Exercises
# ---------
# 1. From :eq:`spo-gradient`, at which ratio is the derivative of a sample with a positive advantage steepest?
# 2. Give the objective an advantage of 0 on half of the samples. How far do their ratios go, and what holds them?
# 3. Replace the absolute advantage by its mean over the batch. Where is the top of each parabola now?


def last(name, lr, what):
    return field(name, lr, what)[:, -1]


for name, lr in runs:
    print(name, lr, {what: last(name, lr, what).round(3).tolist() for what in labels})
for lr in RATES:
    assert (last("SPO", lr, "largest") < 0.4).all() and (last("PPO", lr, "largest") > 1).all(), "who lets go"
    assert (last("SPO", lr, "kl") < last("PPO", lr, "kl") / 5).all(), "and how far"
    assert (last("SPO", lr, "gain") < 0.5 * last("PPO", lr, "gain")).all(), "it costs gain, on a batch"
    assert (last("SPO", lr, "gain") > 0.1).all() and (last("unclipped", lr, "kl") > 1).all()
