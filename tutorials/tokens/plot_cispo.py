"""
Cap the weight, keep the gradient
=================================

A clip stops listening to a token as soon as its ratio has left the interval. CISPO caps how loud a token may be and
goes on listening. What does that do for a rare answer that has to grow, and what does it not protect from?
"""

# %%
# What a token's log-probability gets
# -----------------------------------
# The coefficient of one token against its ratio, for a good and for a bad token. The clip is 0 where a token has moved
# in the profitable direction, and without bound where a bad token has grown. CISPO is never 0, and never above its cap.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import tempting_prompts, train_bandit
from trref.tokens.cispo import cispo
from trref.tokens.dapo import dapo_over_batch

plt = use_style()
LOSSES = {
    "clip 0.2, 0.28 (DAPO)": (dapo_over_batch, {}),
    "weight up to 1.28 (CISPO)": (cispo, {"clip_high": 0.28}),
    "weight up to 5 (CISPO)": (cispo, {}),
    "no clip": (dapo_over_batch, {"clip_low": 1e9, "clip_high": 1e9}),
}
figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
ratio = np.linspace(0.05, 7, 400)
for axis, sign, title in zip(axes, (1.0, -1.0), ("a good token", "a bad token"), strict=False):
    for (name, (loss, hyper)), style in zip(LOSSES.items(), ("-", "-", "--", ":"), strict=True):
        d = np.log(ratio)[:, None]
        gradient = loss(d, np.zeros_like(d), np.full(400, sign), np.ones_like(d), **hyper)[1]
        axis.plot(ratio, -400 * gradient[:, 0], style, label=name)
    axis.set(xlabel="ratio", ylabel="coefficient of the log-probability", title=title)
axes[0].legend(fontsize=7)

# %%
# A rare right answer
# -------------------
# Sixteen prompts, a table of 64 answers each; on eight of them the right answer starts at 0.01. Thirty-two answers a
# prompt, four steps on each batch. We follow the probability of the right answer on the eight hard prompts.

SEEDS, ITERATIONS, AFTER = range(5), 30, 10
curves = {name: [] for name in LOSSES}
for seed in SEEDS:
    start, right, _ = tempting_prompts(seed)
    for name, (loss, hyper) in LOSSES.items():
        run = train_bandit(loss, start, right, seed=seed, hyper=hyper, answers=32, iterations=ITERATIONS, epochs=4)
        curves[name].append((run.probabilities * right).sum(2)[:, 8:].mean(1))
for name, runs in curves.items():
    spread(axes[2], range(ITERATIONS + 1), runs, name)
axes[2].set(xlabel="batch", ylabel="right answer on hard prompts", title="rare answers")

reached = {name: np.array(runs)[:, AFTER] for name, runs in curves.items()}
print(f"right answer on hard prompts after {AFTER} batches", {n: np.round(v, 2) for n, v in reached.items()})
clip, tight, wide, free = reached.values()
assert (tight > clip + 0.3).all(), "in every seed the rare answers grow much faster than under the clip"
assert (wide > clip + 0.3).all()
assert (free > tight - 0.05).all(), "but without any clip they grow no more slowly: it is the clip that costs"

# %%
# No trust region
# ---------------
# One batch of 500 draws, 20 answers of which one is right and starts at 0.02, and many steps on that batch. How often
# can its probability multiply? The clip brakes hard. The cap makes growth slower than without, and stops nothing.

p = np.r_[0.02, np.full(19, 0.98 / 19)]
start, right = np.log(p)[None], np.eye(20)[:1]
STEPS = (5, 20, 80)
growth = {name: np.zeros((3, len(STEPS))) for name in LOSSES}
for name, (loss, hyper) in LOSSES.items():
    for seed in range(3):
        for k, epochs in enumerate(STEPS):
            run = train_bandit(
                loss, start, right, seed=seed, hyper=hyper, answers=500, iterations=1, epochs=epochs, lr=0.5
            )
            growth[name][seed, k] = (run.probabilities[-1, 0] / p).max()
figure, axis = plt.subplots()
for (name, values), colour in zip(growth.items(), COLOURS, strict=False):
    axis.plot(STEPS, values.mean(0), "o-", label=name, color=colour)
    axis.fill_between(STEPS, values.min(0), values.max(0), color=colour, alpha=0.2)
axis.set(xlabel="steps on one batch", ylabel="largest ratio", title="A cap on the speed", xscale="log", yscale="log")
axis.legend(fontsize=8)
for name, values in growth.items():
    print(f"{name:28s} largest ratio after {STEPS} steps: {np.round(values.mean(0), 1)}")
clip, tight, wide, free = (values[:, -1] for values in growth.values())
assert (clip < 3).all(), "the clip holds it"
assert (tight > 20).all() and (wide > 20).all(), "CISPO's bounds do not"
assert (growth["weight up to 1.28 (CISPO)"][:, 1] < growth["no clip"][:, 1]).all(), "they only make it slower"

# %%
# .. claim:: Rare, decisive tokens go on learning, so that training is faster than under a clip (DAPO).
#     :experiment: a table of answers, eight hard prompts, four steps a batch, five seeds; then many steps on one batch
#     :controls: DAPO's clip; no clip at all
#     :shown: in part: rare right answers grow much faster than under the clip in every seed, and no faster than
#         without any clip. The cap stops no ratio; that it makes large models stable is not tried
