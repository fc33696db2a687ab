"""
What momentum buys
==================

In a long valley gradient descent needs steps in proportion to the condition number. With momentum it is the root.
"""

# %%
# Steps to a millionth, against the condition number
# --------------------------------------------------
# Quadratics with eigenvalues from 1 down to 1/κ, spread evenly on a logarithmic scale, and five random starts. Each
# rule uses the constants that its own theory gives for this interval.

import math

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.optimizers.sgd import init, update

plt = use_style()
conditions, seeds = (10, 30, 100, 300, 1000), range(5)


def constants(condition):
    """Rate and momentum of each rule for eigenvalues in [1/κ, 1]."""
    root = math.sqrt(condition)
    return {
        "gradient descent": {"lr": 2 * condition / (condition + 1)},
        "heavy ball": {"lr": 4 * condition / (root + 1) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2},
        "Nesterov": {"lr": 1.0, "momentum": (root - 1) / (root + 1), "nesterov": True},
    }


def steps_to(hyper, condition, target=1e-6):
    """Steps until the gap to the minimum has shrunk by the target, one a seed; the seeds are columns."""
    curvature = np.geomspace(1.0, 1 / condition, 30)[:, None]
    x = [np.stack([np.random.default_rng(seed).standard_normal(30) for seed in seeds], 1)]
    start, state, found = (curvature * x[0] ** 2).sum(0), init(x), np.zeros(len(seeds))
    for step in range(1, 20000):
        x, state = update(x, [curvature * x[0]], state, **hyper)
        reached = (curvature * x[0] ** 2).sum(0) <= target * start
        found = np.where((found == 0) & reached, step, found)
        if found.all():
            return found
    raise AssertionError("a rule did not arrive")


counts = {
    name: np.array([steps_to(constants(kappa)[name], kappa) for kappa in conditions])
    for name in constants(conditions[0])
}
figure, axis = plt.subplots()
for name, runs in counts.items():
    spread(axis, conditions, runs.T.tolist(), name)
axis.set(xscale="log", yscale="log", xlabel="condition number", ylabel="steps to a millionth of the gap")
axis.legend()

# %%
# Slopes in the logarithms: near 1 for gradient descent, near one half with momentum.

slopes = {name: np.polyfit(np.log(conditions), np.log(runs), 1)[0] for name, runs in counts.items()}
for name, slope in slopes.items():
    print(f"{name:17} slope {slope.min():.2f} to {slope.max():.2f}, steps at κ = 1000: {counts[name][-1].astype(int)}")
assert (slopes["gradient descent"] > 0.8).all(), "gradient descent pays for the condition number itself"
assert (slopes["heavy ball"] < 0.65).all() and (slopes["Nesterov"] < 0.65).all(), "momentum pays for its root"
assert (counts["heavy ball"][-1] < counts["gradient descent"][-1] / 5).all()

# %%
# With noise in every gradient
# ----------------------------
# At a constant rate noise keeps the iterate moving, and momentum does not remove it: a sum of gradients makes the
# effective rate 1/(1 - μ) times as large. At rates that correspond, momentum ends at the same level.


def level(hyper, steps=4000, copies=200):
    """Mean square of x on x²/2 with unit noise, after a long time; an error bar over blocks of copies."""
    rng, x = np.random.default_rng(7), [np.zeros(copies)]
    state, seen = init(x), []
    for step in range(steps):
        x, state = update(x, [x[0] + rng.standard_normal(copies)], state, **hyper)
        if step >= steps // 2:
            seen.append(x[0] ** 2)
    blocks = np.mean(seen, 0).reshape(10, -1).mean(1)
    return blocks.mean(), blocks.std(ddof=1) / math.sqrt(10)


plain, fast, same = (level(h) for h in ({"lr": 0.02}, {"lr": 0.02, "momentum": 0.9}, {"lr": 0.002, "momentum": 0.9}))
for name, (mean, error) in {"plain": plain, "momentum 0.9": fast, "momentum 0.9, a tenth of the rate": same}.items():
    print(f"{name:34} mean square {mean:.4f} ± {error:.4f}")
assert fast[0] > 5 * plain[0], "at one rate, momentum is a ten times larger effective rate"
assert abs(same[0] / plain[0] - 1) < 0.15, "at corresponding rates, the level of noise is the same"

# %%
# .. claim:: Momentum needs steps in proportion to the root of the condition number.
#     :experiment: quadratics in 30 dimensions with condition numbers from 10 to 1000, five starts each
#     :controls: gradient descent with its best constant rate; corresponding rates under noise
#     :shown: yes: slopes near one half against near 1. Under noise it is a larger rate by another name
