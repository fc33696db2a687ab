"""
When clipping a gradient pays
=============================

A clip throws information away. It should cost something where the noise of the gradients is harmless, and pay where
single gradients are wild. How much of either, and what does it do to the place where training ends?
"""

# %%
# Noise with heavy tails, and noise without
# -----------------------------------------
# A quadratic in ten dimensions with curvatures from 0.1 to 1, sixty runs in three groups, 250 steps from a normal
# start. The noise of each entry is half a Student t with 1.5 degrees of freedom, which has no variance, or half a
# normal, the control. Each run is a tensor of its own here, so that the clip of each tensor is one clip a run.

import numpy as np

from trref.experiments.figures import use_style
from trref.optimizers.gradient_clipping import clip_value, init, update

plt = use_style()
curvature = np.geomspace(0.1, 1, 10)
rates, runs, steps, groups = (0.02, 0.06, 0.2), 60, 250, 3
kinds = {"no clip": None, "by norm": "each", "by value": "value"}


def final_loss(kind, lr, heavy):
    """Loss of each run at the end; all kinds and rates see the same start and the same noise."""
    rng = np.random.default_rng(0)
    x = list(3 * rng.standard_normal((runs, 10)))
    state = init(x)
    for _ in range(steps):
        noise = rng.standard_t(1.5, (runs, 10)) if heavy else rng.standard_normal((runs, 10))
        gradient = curvature * np.stack(x) + 0.5 * noise
        if kind is None:
            x = list(np.stack(x) - lr * gradient)
        else:
            x, state = update(x, list(gradient), state, lr=lr, threshold=1.0, kind=kind)
    return 0.5 * (curvature * np.stack(x) ** 2).sum(1)


found = {
    (heavy, name): np.stack([final_loss(kind, lr, heavy) for lr in rates])
    for heavy in (True, False)
    for name, kind in kinds.items()
}

figure, axes = plt.subplots(1, 3, figsize=(10, 3.3))
for axis, heavy in zip(axes, (True, False), strict=False):
    for name in kinds:
        low, middle, high = np.quantile(found[heavy, name], [0.1, 0.5, 0.9], axis=1)
        axis.errorbar(rates, middle, (middle - low, high - middle), marker="o", markersize=3, capsize=2, label=name)
    axis.set(xlabel="rate", ylabel="final loss: median, 10 to 90 %", xscale="log", yscale="log")
    axis.set_xticks(rates, [str(rate) for rate in rates])
    axis.set_xticks([], minor=True)
    axis.set_title("heavy tails" if heavy else "normal noise", fontsize=9)
axes[0].legend(fontsize=7)

# %%
# A clip moves the place of rest
# ------------------------------
# Noise that is skewed pulls the mean of clipped gradients away from the mean of the gradients. In one dimension, with
# the gradient x + e - 1 and an exponential e, descent comes to rest at 0. Clipped by value it rests where the mean of
# the clipped gradients is zero, found here by bisection on 4,000 quantiles of e.

e = -np.log(1 - (np.arange(4000) + 0.5) / 4000)


def rest(threshold):
    low, high = -1.0, 1.0
    for _ in range(40):
        x = (low + high) / 2
        if clip_value(x + e - 1, threshold=threshold).mean() < 0:
            low = x
        else:
            high = x
    return x


thresholds = np.geomspace(0.02, 8, 25)
places = np.array([rest(float(c)) for c in thresholds])
axes[2].plot(thresholds, places, label="where it rests")
axes[2].axhline(1 - np.log(2), linestyle=":", label="where half the noise pulls either way")
axes[2].set(xlabel="threshold", ylabel="x", xscale="log")
axes[2].set_title("skewed noise", fontsize=9)
axes[2].legend(fontsize=7)

# %%
# What the figures show
# ---------------------
# With heavy tails the best rate with a clip ends at a fraction of the loss of the best rate without one, and the worst
# tenth of the runs gains most. With normal noise the clip costs: by norm it is slower at the small rates, by value it
# costs little, and nothing beats no clip at its best rate. What a clip by norm wants is a larger rate. The place of
# rest moves from the mean towards the median as the threshold falls.

best = {}
for key, loss in found.items():
    medians = np.median(loss.reshape(len(rates), groups, -1), axis=2)
    choice = np.median(loss, axis=1).argmin()
    best[key] = medians[choice], np.quantile(loss[choice], 0.9)
    print("heavy" if key[0] else "normal", key[1], rates[choice], best[key][0].round(3), best[key][1].round(3))
for name in ("by norm", "by value"):
    assert (best[True, name][0] < 0.5 * best[True, "no clip"][0]).all(), "heavy tails: half the loss and less"
    assert best[True, name][1] < 0.3 * best[True, "no clip"][1], "and more is gained in the worst tenth"
    assert (best[False, name][0] > 0.95 * best[False, "no clip"][0]).all(), "normal noise: nothing is gained"
slow = np.median(found[False, "by norm"], axis=1) / np.median(found[False, "no clip"], axis=1)
assert slow[0] > 2 and slow[2] < 1, "by norm: slower at the smallest rate, quieter at the largest"
assert abs(places[0] - (1 - np.log(2))) < 0.01 and abs(places[-1]) < 0.01 and (np.diff(places) < 0).all()

# %%
# .. claim:: Clipping gradients makes training stable where single gradients are too long.
#     :experiment: SGD on a quadratic with noise of heavy tails, three rates, sixty runs in three groups
#     :controls: no clip at its best rate; normal noise; skewed noise for the bias
#     :shown: yes: half the loss and less in every group; with normal noise nothing is gained, and with skewed noise
#         the place of rest moves. Recurrent networks, the paper's case, are in the tutorial on gradients through time
#
# Exercises
# ---------
# 1. Give the thresholds 0.3 and 3 a try. Which rate does each want?
# 2. Divide each gradient by its norm always. What is lost near the minimum?
# 3. Put Adam behind the clip. Does it still matter?
