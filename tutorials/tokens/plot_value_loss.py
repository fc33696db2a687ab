"""
Which of two squared errors? Clipped value losses
=================================================

Trainers of PPO clip the value function, too, and keep the larger of two squared errors. One paper writes the smaller
one. It sounds like a detail. It decides whether a value that has gone astray can come back.
"""

# %%
# The loss of one state
# ---------------------
# Old value 0, target 0.5, clip 0.2: the three losses and their slopes against the new value.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.tokens.value_loss import value_loss

plt = use_style()
KINDS = {"maximum": "max", "minimum": "min", "clipped alone": "clipped"}
V, one = np.linspace(-0.8, 1.6, 481)[:, None], np.ones((481, 1))
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
for (name, kind), style in zip(KINDS.items(), ("-", "--", ":"), strict=True):
    gradient = value_loss(V, 0 * V, 0.5 * one, one, kind=kind)[1]
    axes[0].plot(V[:, 0], 481 * gradient[:, 0], style, label=name)
axes[0].axvspan(-0.2, 0.2, alpha=0.15, color="#8c8c8c")
axes[0].set(xlabel="new value", ylabel="slope", title="old value 0, target 0.5, clip 0.2")
axes[0].legend()

# %%
# A thousand states, 400 steps on one batch
# -----------------------------------------
# Targets are normal, old values the targets plus a normal error of deviation 1, mean size 0.80. We start at the old
# values, and then half a unit further away from the targets, as if an earlier step had gone wrong. Five seeds.

N, STEPS, SEEDS = 1000, 400, range(5)


def descend(kind, astray, seed, clip=0.2):
    rng = np.random.default_rng(seed)
    target = rng.standard_normal((1, N))
    old = target + rng.standard_normal((1, N))
    value, history = old + astray * np.sign(old - target), []
    for _ in range(STEPS):
        history.append(abs(value - target).mean())
        value = value - 0.05 * N * value_loss(value, old, target, np.ones((1, N)), clip=clip, kind=kind)[1]
    return history


ends = {}
for axis, astray in zip(axes[1:], (0.0, 0.5), strict=True):
    for name, kind in KINDS.items():
        runs = [descend(kind, astray, seed) for seed in SEEDS]
        ends[name, astray] = np.array(runs)[:, -1]
        spread(axis, range(STEPS), runs, name)
    runs = [descend("max", astray, seed, clip=1e9) for seed in SEEDS]
    ends["not clipped", astray] = np.array(runs)[:, -1]
    spread(axis, range(STEPS), runs, "not clipped")
    start = "the old values" if astray == 0 else "half a unit further off"
    axis.set(xlabel="step", ylabel="mean error", title=f"from {start}")
axes[2].legend(fontsize=8)
for (name, astray), values in ends.items():
    print(f"{name:14s} starting {astray} astray: mean error {values.mean():.2f}  (seeds {np.round(values, 2)})")

# %%
# From the old values the maximum and the clipped error stop after a move of 0.2, the minimum goes on to the target.
# From further off the maximum comes back and stops again; the other two stay where they are, for ever.

assert (abs(ends["maximum", 0.0] - 0.62) < 0.06).all(), "it moves each value by at most the clip"
assert np.allclose(ends["maximum", 0.0], ends["clipped alone", 0.0], atol=0.06)
assert (ends["minimum", 0.0] < 0.01).all(), "the minimum is no trust region"
assert (ends["maximum", 0.5] < 0.7).all(), "the maximum recovers"
assert (ends["minimum", 0.5] > 1.2).all() and (ends["clipped alone", 0.5] > 1.2).all(), "the others cannot"
assert (ends["not clipped", 0.5] < 0.01).all()

# %%
# .. claim:: Clipping keeps the value function from moving too far on one batch.
#     :experiment: 1000 scalar values, 400 steps on one batch, five seeds
#     :controls: the minimum; the clipped error alone; no clip
#     :shown: yes for the maximum, which also comes back from a bad start; no for the minimum, which does not stop, and
#         neither it nor the clipped error recovers. Whether returns get better is not tried
