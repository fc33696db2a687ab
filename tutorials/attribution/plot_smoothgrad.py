"""
Maps of what a network looks at, with the noise averaged out
============================================================

The gradient of a class's score by the pixels is a map of what matters. For a network with kinks it jumps from one side
of a kink to the other. Does the mean over noisy copies of the image make it steadier, and how many copies does that
take?
"""

# %%
# Along a line
# ------------
# From one digit to another, the derivative of one score by three pixels: as it is, and as the mean over 200 copies.

import numpy as np

from trref.attribution.smoothgrad import blurred_score, smooth_gradient
from trref.experiments.classifiers import digits_task, train
from trref.experiments.figures import spread, use_style
from trref.nn import flat
from trref.problems.rows import RowScore

plt = use_style()
seeds = range(3)
nets = {"one hidden layer": (64, 64, 10), "four hidden layers": (64, 32, 32, 32, 32, 10)}
tasks = {name: digits_task(points=500, sizes=sizes) for name, sizes in nets.items()}
thetas = {name: [train(task, seed=s, epochs=25, lr=3e-3).theta for s in seeds] for name, task in tasks.items()}
X = tasks["one hidden layer"].X_test[:40]


def score(name, seed, x):
    """The logit of the class that the network sees in each row."""
    loss, theta = tasks[name].loss, thetas[name][seed]
    return RowScore(theta, loss.predict(theta, x), loss.sizes, loss.activation)


def maps(name, seed, x, level, copies, rng):
    return smooth_gradient(score(name, seed, X), x, rng.standard_normal((copies, *x.shape)), level=level)


deep, share = "four hidden layers", np.linspace(0, 1, 200)
line = X[0] + share[:, None] * (X[1] - X[0])
fixed = RowScore(thetas[deep][0], np.full(200, tasks[deep].y_test[0]), nets[deep], tasks[deep].loss.activation)
same = np.repeat(np.random.default_rng(0).standard_normal((200, 1, 64)), 200, 1)
traces = {"gradient": fixed(line)[1], "SmoothGrad": smooth_gradient(fixed, line, same)}
pixels = np.argsort(traces["gradient"].std(0))[-3:]
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), sharey=True)
for axis, (name, trace) in zip(axes, traces.items(), strict=True):
    axis.plot(share, trace[:, pixels])
    axis.set(title=name, xlabel="way from one digit to the other")
axes[0].set(ylabel="derivative by three pixels")
largest = {name: abs(np.diff(trace, axis=0)).max() for name, trace in traces.items()}

# %%
# How many copies
# ---------------
# For one hidden layer the mean over all possible copies is known. The error of n of them, relative to it:

counts, errors = (1, 4, 16, 64, 256), []
for seed in seeds:
    W, b, V, _ = flat.split(thetas["one hidden layer"][seed], [(64, 64), (64,), (64, 10), (10,)])
    rng = np.random.default_rng(seed)
    labels = score("one hidden layer", seed, X).labels
    exact = np.stack(
        [
            blurred_score(W.T.copy(), b.copy(), V[:, c].copy(), x, sigma=0.15 * float(np.ptp(x)))[1]
            for x, c in zip(X, labels, strict=True)
        ]
    )
    means = [maps("one hidden layer", seed, X, 0.15, n, rng) for n in counts]
    errors.append([np.linalg.norm(mean - exact) / np.linalg.norm(exact) for mean in means])
figure, axis = plt.subplots()
spread(axis, counts, errors, "error of n copies", marker="o")
axis.plot(counts, np.mean(errors, 0)[0] / np.sqrt(counts), "k:", lw=1, label="slope -1/2")
axis.set(xscale="log", yscale="log", xlabel="copies n", ylabel="relative error")
axis.legend()

# %%
# Is the map steadier?
# --------------------
# Two images that differ by noise nobody sees (0.05 of the range) should have one map. The cosine of their maps, with
# noise of its own for each: with 50 copies, and with a single one, which is noise without the mean.

levels, cosines, variation = (0.0, 0.05, 0.1, 0.2, 0.3), {}, {}


def cosine(a, b):
    return ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean()


def roughness(m):
    """Differences of neighbours, relative to the entries."""
    m = m.reshape(-1, 8, 8)
    return float((abs(np.diff(m, axis=1)).sum() + abs(np.diff(m, axis=2)).sum()) / abs(m).sum())


for name in nets:
    for copies in (50, 1):
        values, rough = [], []
        for seed in seeds:
            rng = np.random.default_rng([seed, copies])
            moved = X + 0.05 * rng.standard_normal(X.shape)
            pairs = [[maps(name, seed, x, level, copies, rng) for x in (X, moved)] for level in levels]
            values.append([cosine(*pair) for pair in pairs])
            rough.append([roughness(pair[0]) for pair in pairs])
        cosines[name, copies], variation[name, copies] = np.array(values), np.array(rough)
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), sharey=True)
for axis, name in zip(axes, nets, strict=True):
    for copies in (50, 1):
        spread(axis, levels, cosines[name, copies].tolist(), f"n = {copies}", marker="o")
    axis.set(title=name, xlabel="level of the noise")
axes[0].set(ylabel="cosine of the maps of two like images")
axes[0].legend()

figure, axes = plt.subplots(1, 5, figsize=(8.5, 2.0))
axes[0].imshow(X[0].reshape(8, 8), cmap="gray_r")
axes[0].set(title="digit")
for axis, level in zip(axes[1:], levels[:1] + levels[2:], strict=True):
    shown = maps(deep, 0, X, level, 50, np.random.default_rng(1))[0].reshape(8, 8)
    axis.imshow(shown, cmap="RdBu", vmin=-abs(shown).max(), vmax=abs(shown).max())
    axis.set(title=f"level {level:g}")
for axis in axes:
    axis.set(xlabel="column", ylabel="row", xticks=[], yticks=[])

# %%
# What the figures show
# ---------------------
# The mean has no jumps, its error falls like one over the root of the number of copies, and two like images have maps
# that are more alike, in every seed and more so in the deep network. It is the mean that does it: a single noisy copy
# makes maps less alike. A map that looks cleaner is not to be seen with networks and images this small: neighbouring
# pixels differ as much as before.

slopes = [np.polyfit(np.log(counts), np.log(off), 1)[0] for off in errors]
print("largest jump along the line:", {name: f"{jump:.3f}" for name, jump in largest.items()})
print("slopes:", np.round(slopes, 3), "error of 64 copies:", np.round([off[3] for off in errors], 3))
for (name, copies), values in cosines.items():
    rough = variation[name, copies].mean(0).round(2).tolist()
    print(f"{name}, n = {copies}: cosines {values.mean(0).round(3).tolist()}, roughness {rough}")
assert largest["SmoothGrad"] < largest["gradient"] / 10, "no jumps are left"
assert np.allclose(slopes, -0.5, atol=0.06), "the error falls like one over the root of n"
for name in nets:
    plain, usual = cosines[name, 50][:, 0], cosines[name, 50][:, [2, 3]]
    assert (1 - usual < 0.7 * (1 - plain[:, None])).all(), "maps of like images are more alike, in every seed"
    assert (cosines[name, 1][:, [2, 3]] < plain[:, None]).all(), "a single noisy copy makes them less alike"
    rough = variation[name, 50]
    assert abs(rough / rough[:, :1] - 1).max() < 0.05, "neighbours differ as much as before"

# %%
# .. claim:: The mean gradient of noisy copies is a sharper and more coherent map than the gradient.
#     :experiment: two small networks on digits; one derivative along a line, the error against the exact mean, maps of
#         40 images and of the same with a little noise, and how rough maps are; three seeds
#     :controls: the gradient itself; a single noisy copy in place of the mean
#     :shown: in part: maps do not jump and are steadier in every seed, with 50 copies and not with one; cleaner to the
#         eye they are not, in networks of this size
