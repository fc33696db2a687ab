"""
A language that can be taken out again
======================================

A network reads digits in two languages: as they are, and with their pixels permuted. The second one is to be removable.
A share of its images is not labelled as such. Does the knowledge collect in the reserved units, or does the unlabelled
share teach it to everybody?
"""

# %%
# Three ways to treat what is known
# ---------------------------------
# 18 of 60 hidden units are reserved. A quarter of the plain digits is known to be harmless; of the permuted ones a
# share is not known to be what they are, and trains everything, like the rest of the plain digits. Known permuted
# digits are left out (filtering), routed to the reserved units, or move their block alone (SGTM). All ways see the same
# batches.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.gradients.selective_gradient_masking import ablate, block, masked_objective, routed_objective
from trref.nn import mlp
from trref.problems.digits import digits
from trref.problems.splits import permuted_pixels

plt = use_style()
seeds, steps, batch, lr, hidden = range(2), 1800, 32, 0.2, 60
shares = (0.05, 0.2, 0.5)
data = digits(train=1000)
reserved = (np.arange(hidden) < 18).astype(float)
sizes = (64, hidden, 10)
own = block(reserved, inputs=64, classes=10)
languages = permuted_pixels(np.random.default_rng(5), data.X_train, 2)
tests = permuted_pixels(np.random.default_rng(5), data.X_test, 2)


def accuracy(theta, X):
    """Share of the test digits that are read in this language."""
    return (mlp.forward(theta, X, sizes)[0].argmax(1) == data.y_test).mean()


def forget_gradient(way, theta, X, y):
    """What a batch moves that is known to be of the second language."""
    if way == "filtering":
        return 0.0
    if way == "routing":
        return routed_objective.unchecked(theta, X, y, reserved)[1]
    return masked_objective.unchecked(theta, X, y, reserved, mode="forget")[1]


def run(way, share, seed):
    """Accuracy in both languages before, and after the block is set to 0."""
    rng = np.random.default_rng(seed)
    theta = mlp.init(rng, sizes)
    hidden_rows = rng.permutation(1000) < 1000 * share  # permuted images that nobody labelled
    known = rng.permutation(1000) < 250
    for _ in range(steps):
        language, rows = int(rng.random() < 0.5), rng.integers(0, 1000, batch)
        marked = hidden_rows if language else ~known
        mode = "default" if rng.random() < marked.mean() else ("forget" if language else "retain")
        pool = np.flatnonzero(marked if mode == "default" else ~marked)
        rows = pool[rows % len(pool)]
        X, y = languages[language][rows], data.y_train[rows]
        if mode == "forget":
            g = forget_gradient(way, theta, X, y)
        else:
            g = masked_objective.unchecked(theta, X, y, reserved, mode=mode)[1]
        theta = theta - lr * g
    after = ablate(theta, own)
    return [accuracy(point, X) for point in (theta, after) for X in tests]


ways = ("filtering", "routing", "SGTM")
runs = {way: np.array([[run(way, share, seed) for share in shares] for seed in seeds]) for way in ways}

# %%
# After the block is gone
# -----------------------

figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.5), sharey=True)
for axis, column, title in zip(axes, (3, 2), ("permuted digits, to be forgotten", "plain digits"), strict=True):
    for way in ways:
        spread(axis, shares, runs[way][..., column].tolist(), way, marker="o")
    axis.set(title=title, xlabel="share that is not labelled", ylim=(0, 1))
axes[0].set(ylabel="test accuracy after ablation")
axes[0].legend()

# %%
# What the figure shows
# ---------------------
# Where a twentieth of the second language slips through, filtering has taught most of it to the network, and there is
# no block to take out. Under SGTM the reserved units know it, and with them it goes: down to little more than guessing.
# Routing is in between, at every share and in both seeds. The more is not labelled, the more of it stays. Plain digits
# are read as well afterwards as before, and before the ablation both languages are read.

forgotten = {way: values[..., 3] for way, values in runs.items()}
for way in ways:
    before, other, kept, gone = np.moveaxis(runs[way].mean(0), 1, 0).round(2)
    print(f"{way}: plain {before}, permuted {other}; after ablation {kept} and {gone}")
assert (forgotten["SGTM"] < forgotten["routing"] - 0.05).all(), "SGTM forgets more than routing, at every share, twice"
assert (forgotten["routing"] < forgotten["filtering"] - 0.1).all(), "and routing more than filtering"
assert (forgotten["SGTM"][:, 0] < 0.25).all(), "nearly all is gone where a twentieth was not labelled"
assert (np.diff(forgotten["SGTM"], axis=1) > 0).all(), "the more is not labelled, the more stays"
assert min(values[..., 2].min() for values in runs.values()) > 0.9, "the plain digits are kept"
assert runs["SGTM"][..., 1].min() > 0.9, "and before the ablation the second language was known"

# %%
# .. claim:: Knowledge that collects in reserved parameters can be removed even if many of its samples are not labelled.
#     :experiment: a small network on digits as they are and with permuted pixels, of which 5, 20 or 50 % are not
#         labelled; two seeds
#     :controls: leaving out the labelled samples (filtering), and gradient routing
#     :shown: yes: after ablation SGTM reads fewer permuted digits than routing, and routing fewer than filtering, at
#         every share and in both seeds, while plain digits are kept
#
# **Exercises.** (1) Train with momentum, and mask the gradients alone: what becomes of the plain digits? (2) Give the
# second language labels of its own (10 to 19). What does the network lose with the block? (3) Train the output's bias
# anew after the ablation (`calibrate`): how much of what was removed comes back?
