"""
What augmentation buys, and what an open demand for invariance adds
===================================================================

A critic should not care where in the image things are. It can be trained on shifted images, on several shifts at once,
or be asked for small slopes along shifts. Which of these lowers the variance over shifts, and which the error?
"""

# %%
# Shifted patterns
# ----------------
# Blobs on a canvas of 8 × 8, whose value is a function of their shape and not of their place. 150 training images, a
# network with one hidden layer, 400 steps of Adam. Shifts of the training images come from one table, computed once.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.optimizers import adam
from trref.policy.rl_augmentation import averaged_target, implicit_regularisation, tangent_prop_loss, target_variance
from trref.problems.tangent_critic import TangentCritic

plt = use_style()
SHIFTS = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
STEPS, IMAGES, SEEDS = 400, 150, range(3)
critic = TangentCritic((64, 32, 1))


def move(images, shift):
    """Images shifted by whole pixels, their edges repeated."""
    padded = np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)), mode="edge")
    r, c = shift
    return padded[:, 1 + r : 9 + r, 1 + c : 9 + c].reshape(-1, 64)


def patterns(rng, number):
    """Two blobs a given distance apart, anywhere; the value is a function of distance and height."""
    grid = np.stack(np.mgrid[:8, :8], -1).reshape(-1, 2)
    place, angle = rng.uniform(2, 5, (number, 1, 2)), rng.uniform(0, 2 * np.pi, number)
    distance, height = rng.uniform(1, 3, number), rng.uniform(0.5, 1.0, number)
    other = place + (distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))[:, None]
    X = sum(np.exp(-((grid - at) ** 2).sum(2) / 1.5) for at in (place, other)) * height[:, None]
    return X, np.sin(2 * distance) + height


def train(seed, views, weight):
    """Error on new images, and variance of the prediction over their shifts."""
    rng = np.random.default_rng(seed)
    X, y = patterns(rng, IMAGES)
    X_test, y_test = patterns(np.random.default_rng([seed, 1]), 400)
    table = np.stack([move(X, shift) for shift in SHIFTS])
    theta = np.concatenate([rng.standard_normal(64 * 32) / 8, np.zeros(32), rng.standard_normal(32) / 6, np.zeros(1)])
    state, rows = adam.init([theta]), np.arange(IMAGES)
    for _ in range(STEPS):
        gradient = np.zeros_like(theta)
        for _ in range(max(views, 1)):
            x = table[rng.integers(0, 9, IMAGES), rows] if views else X
            q, cache = critic.value(theta, x)
            gradient = gradient + critic.gradient(cache, 2 * (q - y) / IMAGES) / max(views, 1)
        if weight:
            tangent = table[rng.choice([1, 3, 5, 7]), rows] - X
            gradient = gradient + weight * tangent_prop_loss(theta, critic, X, tangent, np.ones(IMAGES))[1]
        (theta,), state = adam.update([theta], [gradient], state, lr=3e-3)
    q = np.stack([critic.value(theta, move(X_test, shift))[0] for shift in SHIFTS])
    split = implicit_regularisation(q, y_test)
    return ((q[4] - y_test) ** 2).mean(), float(split.variance)


methods = {
    "none": (0, 0.0),
    "one shift": (1, 0.0),
    "two shifts": (2, 0.0),
    "two + tangent 0.1": (2, 0.1),
    "two + tangent 1": (2, 1.0),
}
found = {name: np.array([train(seed, *how) for seed in SEEDS]) for name, how in methods.items()}

# %%
# Averaging the target
# --------------------
# The variance of a target that is averaged over K shifts falls as 1/K: on a log-log plot, a slope of -1.

rng, shifts = np.random.default_rng(0), (1, 2, 4, 8, 16, 32)
values = rng.standard_normal((4000, 32, 8)) + 2 * rng.standard_normal((1, 1, 8))
spreads = []
for K in shifts:
    targets = [averaged_target(np.zeros(8), v[:K], v[:K] + 1.0, np.zeros(8), discount=0.99) for v in values]
    spreads.append(np.var(targets, axis=0))
spreads = np.array(spreads)
estimate = target_variance(values[0], discount=0.99).mean()

figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
for axis, column, label in ((axes[0], 0, "error on new images"), (axes[1], 1, "variance over shifts")):
    for i, name in enumerate(methods):
        axis.plot([i] * len(SEEDS), found[name][:, column], "o", color=f"C{i}")
    axis.set_xticks(range(len(methods)), methods, rotation=30, ha="right", fontsize=8)
    axis.set(ylabel=label, yscale="log")
spread(axes[2], shifts, spreads.T, "seen")
axes[2].plot(shifts, spreads[0].mean() / np.array(shifts), ":", color="0.5", label="slope -1")
axes[2].set(xlabel="shifts in the target, K", ylabel="variance of the target", xscale="log", yscale="log")
axes[2].legend()

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: Averaging targets and losses over transformations, and asking for invariance with tangent prop, lowers
#         variances, and makes critics better.
#     :experiment: regression on shifted patterns, 150 images, 400 steps; 3 seeds; targets averaged over up to 32 shifts
#     :controls: no augmentation; one and two shifts; tangent prop with two weights
#     :shown: in part: shifts lower variance and error, a second one the error again; tangent prop lowers the variance
#         further in every seed, and not the error, which it raises. The variance of the target falls as 1/K. There is
#         no reinforcement learning here
#
# Exercises
# ---------
# 1. Derive :eq:`rl-augmentation-implicit`, and say which of the two terms one shift an image can lower.
# 2. Use tangents of half a pixel, by bilinear interpolation. Does tangent prop cost less error then?
# 3. Put the shifts into the target alone, and into the loss alone. Which one lowers the variance of the prediction?

for name in methods:
    print(name, "error", found[name][:, 0].round(4), "variance", found[name][:, 1].round(4))
error, variance = ({name: values[:, k] for name, values in found.items()} for k in (0, 1))
assert (variance["one shift"] < variance["none"] / 3).all() and (error["one shift"] < error["none"]).all()
assert (error["two shifts"] < error["one shift"]).all(), "a second shift lowers the error"
assert (variance["two + tangent 0.1"] < variance["two shifts"]).all(), "tangent prop lowers the variance further"
assert (variance["two + tangent 1"] < variance["two + tangent 0.1"]).all(), "the more, the larger its weight"
assert (error["two + tangent 0.1"] > error["two shifts"]).all(), "and not the error, against the claim"
slope = np.polyfit(np.log(shifts), np.log(spreads.mean(1)), 1)[0]
print("slope", slope, "estimate from one draw of 32", estimate, "seen", spreads[-1].mean())
assert abs(slope + 1) < 0.05, "the variance of the target falls as 1/K"
assert abs(estimate / spreads[-1].mean() - 1) < 0.3, "and can be told from the values of one draw"
