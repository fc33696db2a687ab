"""
What an average of the weights is worth
=======================================

At a constant rate, noise keeps the weights from coming to rest. Is a mean of the recent ones better, how long should it
reach back, and how much of the gain has a rate that falls to zero?
"""

# %%
# A noisy quadratic
# -----------------
# Twenty directions of curvature 0.01 to 1, gradient noise of variance 1/4, 2,000 steps from a normal start: a hundred
# runs for each of seven constant rates, in five groups. Beside the last weights: averages of four horizons, and the
# mean of all.

import numpy as np

from trref.experiments.figures import use_style
from trref.optimizers.weight_ema import blend, variance_left, warm_decays

plt = use_style()
curvature = np.geomspace(0.01, 1, 20)
rates = np.array([0.01, 0.02, 0.04, 0.08, 0.16, 0.4, 1.0])
decays = {"last weights": 0.0, "horizon 10": 0.9, "horizon 50": 0.98, "horizon 200": 0.995, "horizon 1000": 0.999}
runs, steps, groups = 100, 2000, 5


def excess(theta):
    """Mean excess loss of each group, (rates, groups)."""
    loss = 0.5 * (curvature * theta**2).sum(-1)
    return loss.reshape(len(rates), groups, -1).mean(-1)


rng = np.random.default_rng(0)
start = rng.standard_normal((1, runs, 20)).repeat(len(rates), 0)
theta, falling = start, start
averages = dict.fromkeys([*decays, "mean of all"], start.ravel())
for t in range(steps):
    noise = 0.5 * rng.standard_normal((1, runs, 20))
    theta = theta - rates[:, None, None] * (curvature * theta + noise)
    falling = falling - (1 - t / steps) * rates[:, None, None] * (curvature * falling + noise)
    now = {**decays, "mean of all": float(warm_decays(np.array([float(t)]), decay=1.0, warmup="power", power=1.0)[0])}
    averages = {name: blend(averages[name], theta.ravel(), decay=d) for name, d in now.items()}

found = {name: excess(average.reshape(theta.shape)) for name, average in averages.items()}
found["rate falls to 0"] = excess(falling)
best = {name: values[values.mean(1).argmin()] for name, values in found.items()}

# %%
# Correlated weights
# ------------------
# Of weights that are noise without memory, an average of horizon 10 leaves a nineteenth. Weights of a run are not such
# noise: in a direction of curvature h they are correlated by a = 1 - ηh. The law says what is left, and a simulation
# agrees.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4))
for name, values in found.items():
    left.plot(rates, values.mean(1), "--" if name == "rate falls to 0" else "-", marker="o", markersize=3, label=name)
left.set(xlabel="rate", ylabel="excess loss at the end", xscale="log", yscale="log")
left.legend(fontsize=6)

factors, seen = np.array([0.0, 0.5, 0.9, 0.99]), []
for a in factors:
    x = average = rng.standard_normal(3000)
    for _ in range(600):
        x = a * x + np.sqrt(1 - a * a) * rng.standard_normal(3000)
        average = blend(average, x, decay=0.9)
    seen.append(average.var())
law = np.array([variance_left(np.array([0.9]), correlation=float(a))[0] for a in factors])
grid = np.linspace(0, 0.999, 200)
right.plot(grid, [variance_left(np.array([0.9]), correlation=float(a))[0] for a in grid], label="law")
right.plot(factors, seen, "o", label="3,000 runs")
right.set(xlabel="correlation of the weights", ylabel="share of the variance left", yscale="log")
right.legend(fontsize=7)

# %%
# What the figures show
# ---------------------
# At a rate of 0.4 an average of horizon 200 halves the loss and more. With each at its best rate a sixth of the loss is
# what it gains: the last weights want a small rate, and a rate that falls to zero does better than both. Here the mean
# of all weights, which no network would like, is the best, because at its large rate the start is forgotten soon; a
# horizon of 1,000 still knows the start when the run ends, at any rate.

for name, values in best.items():
    rate = rates[found[name].mean(1).argmin()]
    print(f"{name:16} best rate {rate:4}, excess loss {values.mean():.3f}, groups {np.round(values, 3)}")
last, ema = best["last weights"], best["horizon 200"]
at_large = {name: values[rates == 0.4][0] for name, values in found.items()}
print("at 0.4:", {name: round(float(values.mean()), 3) for name, values in at_large.items()})
assert (at_large["horizon 200"] < 0.5 * at_large["last weights"]).all(), "at a large rate the gain is large"
assert (ema < 0.95 * last).all(), "at the best rate of each it is small, but there in every group"
assert (best["rate falls to 0"] < ema).all(), "a falling rate gains more"
assert (best["mean of all"] < best["rate falls to 0"]).all(), "and the mean of all weights still more"
assert (best["horizon 1000"] > last).all(), "an average that still knows the start is worse than none"
assert np.allclose(seen, law, rtol=0.12), "four standard errors, sqrt(2/3000) each, and a little"

# %%
# .. claim:: An average of the weights is better than the last ones.
#     :experiment: 2,000 steps on a noisy quadratic, seven rates, a hundred runs in five groups
#     :controls: the last weights, a rate that falls to zero and the mean of all, each at its best rate
#     :shown: in part: by more than half at one large rate, by a sixth with each at its best; a falling rate gains
#         more, and on a quadratic the mean of all more still. Networks are not compared
#
# Exercises
# ---------
# 1. At the rate 0.1, begin all averages at zero and do not correct them. For which horizon is the loss largest?
# 2. Take 200 steps in the place of 2,000. Which horizon is best now? Try TensorFlow's warm-up.
# 3. Update the average at every tenth step only. What must the decay be?
