"""
The gap that one step opens
===========================

A step uses the data on which the training loss is measured. How much of what it gains there is worth nothing on new
data, and is there any difference between many steps on all of it and one step on each part?
"""

# %%
# One step
# --------
# Logistic regression with 17 weights, a population of 2,000 points, training sets of 20. *Predict before you run*: at
# which point of a training run does a step open the larger gap, at the start, where the loss is large, or later?
#
# Along a run on fresh data, at each of its points θ, we draw 250 training sets, take one step on each, and compare the
# growth of the gap with :math:`\eta\, \mathrm{tr}\, C / N` (:eq:`sgd-generalization-gap`).

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.problems.samples import LogisticSamples, QuadraticSamples
from trref.theory.sgd_generalization import gap_growth, sgd_minus_gd

plt = use_style()
SEEDS, N = range(5), 20


def measured_growth(population, theta, rng, *, lr, sets):
    """Mean growth of test minus training loss by one step, over training sets, and its standard error."""
    start = population.each(theta)[0]
    growth = []
    for _ in range(sets):
        rows = rng.integers(0, len(population), N)
        moved = theta - lr * population.on(rows)(theta)[1]
        change = population.each(moved)[0] - start
        growth.append(change.mean() - change[rows].mean())
    return np.mean(growth), np.std(growth) / np.sqrt(sets)


def one_run(seed, lr=0.02):
    """Stated and measured growth at eight points of a run on fresh data."""
    rng = np.random.default_rng(seed)
    X = np.append(rng.standard_normal((2000, 16)), np.ones((2000, 1)), 1)
    y = np.where(rng.random(2000) < 1 / (1 + np.exp(-2 * X[:, 0] - X[:, 1])), 1.0, -1.0)
    population, theta, rows = LogisticSamples(X, y), rng.standard_normal(17), []
    for _ in range(8):
        gradients = population.each(theta)[1]
        rows.append(
            (gap_growth(gradients, lr=lr, train_size=N), *measured_growth(population, theta, rng, lr=lr, sets=250))
        )
        for _ in range(4):
            theta = theta - 0.5 * population(theta)[1]
    return np.array(rows)


runs = [one_run(seed) for seed in SEEDS]
figure, axes = plt.subplots(1, 2)
for run, colour in zip(runs, COLOURS, strict=False):
    axes[0].errorbar(1e3 * run[:, 0], 1e3 * run[:, 1], 1e3 * run[:, 2], fmt="o", color=colour)
limits = [0, 1e3 * max(run[:, 1].max() for run in runs)]
axes[0].plot(limits, limits, "--", color=COLOURS[-1])
axes[0].set(xlabel="stated growth · 1000", ylabel="measured growth · 1000", title="one step")

# %%
# Several steps
# -------------
# Quadratic losses with a curvature and a slope of each sample's own, 8 samples a training set, 20,000 training sets,
# and both methods on the same ones: T steps on all 8, or one step on each of T parts. The figure has the difference of
# the test losses, over :math:`\eta^2`, with the stated line (:eq:`sgd-generalization-test-loss`). The control has the
# same curvature for all samples: there the variance is the same everywhere.

SIZE, SETS, THETA = 8, 20_000, np.array([1.0, -0.5])
COUNTS = (1, 2, 4, 8)


def draw(rng, shape, common):
    """Curvatures and slopes: a sample of large curvature has a small slope."""
    a = 1 + (0 if common else 0.8) * rng.uniform(-1, 1, shape)
    return a, 1.0 - 0.5 * a + 0.3 * rng.standard_normal(shape)


def ends(a, b, T, lr):
    """Where T steps of gradient descent end, and an epoch of SGD with T parts."""
    gd = sgd = np.broadcast_to(THETA, (len(a), 2))
    for part in np.split(np.arange(SIZE), T):
        gd = gd - lr * (a * gd[:, None] - b).mean(1)
        sgd = sgd - lr * (a[:, part] * sgd[:, None] - b[:, part]).mean(1)
    return gd, sgd


def difference(seed, T, *, common, lr=0.01):
    """Test loss of SGD minus that of gradient descent, over lr²: stated, measured, standard error."""
    rng = np.random.default_rng(seed)
    pool = QuadraticSamples(*draw(rng, (200_000, 2), common))
    gd, sgd = ends(*draw(rng, (SETS, SIZE, 2), common), T, lr)
    a, b = pool.a.mean(0), pool.b.mean(0)
    paired = ((a * sgd**2 / 2 - b * sgd) - (a * gd**2 / 2 - b * gd)).sum(1) / lr**2
    stated = sgd_minus_gd(pool, THETA, lr=1.0, train_size=SIZE, steps=T).test_loss
    return stated, paired.mean(), paired.std() / np.sqrt(SETS)


tables = {
    common: np.array([[difference(seed, T, common=common) for T in COUNTS] for seed in SEEDS])
    for common in (False, True)
}
for common, colour in ((False, COLOURS[0]), (True, COLOURS[1])):
    table = tables[common]
    label = "one curvature" if common else "own curvatures"
    axes[1].errorbar(COUNTS, table[..., 1].mean(0), table[..., 1].std(0), fmt="o", color=colour, label=label)
    axes[1].plot(COUNTS, table[..., 0].mean(0), "--", color=colour)
axes[1].set(xlabel="steps T", ylabel=r"SGD minus GD, test loss / $\eta^2$", title="an epoch")
axes[1].legend()

# %%
# On the left all points lie on the diagonal: whatever the model does, a step opens the gap by the variance of the
# gradients. That is largest at the start, while the points that are still wrong pull in all directions. On the right
# SGD does better than gradient descent, as :math:`T(T-1)` says, with a shortfall at T = 8 that is of the next order in
# :math:`\eta T`; where the variance does not change there is no difference.

for run in runs:
    z = (run[:, 1] - run[:, 0]) / run[:, 2]
    print("ratio of measured to stated growth", np.round(run[:, 1] / run[:, 0], 2))
    assert abs(run[:, 1].sum() / run[:, 0].sum() - 1) < 0.1 and (abs(z) < 4).all(), "the gap grows as stated"
    assert run[0, 1] > 1.5 * run[-1, 1], "most at the start"
own, control = tables[False], tables[True]
print("own curvatures, stated and measured:\n", np.round(own.mean(0)[:, :2], 3))
assert (own[:, 1:, 1] < -4 * own[:, 1:, 2]).all(), "SGD does better in every seed, at every T above 1"
assert (abs(own[:, 1:3, 1] / own[:, 1:3, 0] - 1) < 0.2).all(), "as much as stated, while η T is small"
assert (abs(control[:, :, 1]) < 4 * control[:, :, 2] + 1e-12).all(), "no difference where the variance does not change"

# %%
# .. claim:: A step opens the gap between test and training loss by the variance of the gradients; SGD differs from
#     gradient descent by the derivative of that variance.
#     :experiment: logistic regression, 17 weights, training sets of 20; quadratic losses, 20,000 training sets of 8;
#         five seeds of each
#     :controls: quadratic losses of one curvature, whose variance is the same everywhere
#     :shown: yes, for fresh data at each point; the second effect is of the order of the squared rate, and on losses of
#         order 1 as small as that
#
# Change `lr` in `difference` to 0.05: which T departs from the line first? Change the slope of `draw` from
# ``1.0 - 0.5 * a`` to ``1.0 + 0.5 * a``, and explain the sign that you see.
