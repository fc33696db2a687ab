"""
A walk that never arrives, and its average
==========================================

A direction is hidden in a noisy tensor so weakly that the gradient, at a random point, hardly shows it. Langevin
dynamics with a weak drift never comes near. What does the average of its path know?
"""

# %%
# One path
# --------
# A symmetric tensor in 24 dimensions, the direction's third power at :math:`2.5\, d^{3/4}` and noise. *Predict before
# you run*: the last point, the average of 30,000 points, and the partial trace, which is what smoothing the loss over
# the sphere finds: in which order do their overlaps with the direction come?

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.problems.sphere_models import SingleIndex, TensorPCA, hermite
from trref.statistics.langevin_averaging import average_direction, averages, run, tensor_drift, top_direction

plt = use_style()
SEEDS, D, STEPS = range(5), 24, 30_000
DIRECTION = np.eye(D)[0]


def overlaps(path):
    """Of the points, and of the average so far, with the direction."""
    so_far = np.cumsum(path, 0)
    return path @ DIRECTION, (so_far @ DIRECTION) / np.linalg.norm(so_far, axis=1)


def tensor_path(seed, drift_weight, steps=STEPS):
    """The model and a path of one seed."""
    rng = np.random.default_rng(seed)
    model = TensorPCA.draw(rng, DIRECTION, 2.5 * D**0.75)
    start = rng.standard_normal(D)
    return model, run(rng, model, start, step_size=0.2 / D, drift_weight=drift_weight, steps=steps)


results = []
for seed in SEEDS:
    model, path = tensor_path(seed, 0.2)
    points, means = overlaps(path)
    smoothed = average_direction(tensor_drift(model.tensor))
    along = smoothed @ average_direction(path.mean(0))
    results.append((np.abs(points).mean(), points[-1], means[-1], smoothed @ DIRECTION, along))
    if seed == 0:
        figure, axes = plt.subplots(1, 2)
        time = np.arange(1, STEPS + 1)
        axes[0].semilogx(time, points, color=COLOURS[-1], lw=0.5, label="points")
        axes[0].semilogx(time, means, color=COLOURS[0], label="average")
        axes[0].axhline(smoothed @ DIRECTION, ls="--", color=COLOURS[1], label="partial trace")
        axes[0].set(xlabel="steps", ylabel="overlap with the direction", ylim=(-1, 1))
        axes[0].legend()
results = np.array(results)
print("mean size over the points, last point, average, partial trace, average with partial trace")
print(results.round(2))
weak = np.array([overlaps(tensor_path(seed, 0.01, 6000)[1])[1][-1] for seed in SEEDS])
print("average of a drift of 0.01:", weak.round(2))

# %%
# Odd and even
# ------------
# One index, :math:`y = h(x_1)`: for the third Hermite polynomial the loss is odd in the direction, and the average
# finds it. For the fourth it is even: the average is 0 but for noise, and the top eigenvector of the second moment
# finds it.


def index_path(seed, degree, drift_weight, *, d=16, points=6000, steps=8000):
    """Overlaps of the average and of the top eigenvector."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((points, d))
    y = hermite(X[:, 0], degree)[0]
    whole = SingleIndex(X, y, degree)

    def minibatch(theta):
        rows = rng.integers(0, points, 64)
        return SingleIndex(X[rows], y[rows], degree)(theta)

    assert whole.X.shape == (points, d)
    mean, second = averages(
        run(rng, minibatch, rng.standard_normal(d), step_size=0.2 / d, drift_weight=drift_weight, steps=steps)
    )
    return abs(mean[0]) / np.linalg.norm(mean), abs(top_direction(second)[0])


table = {degree: np.array([index_path(seed, degree, 10.0) for seed in SEEDS]) for degree in (3, 4)}
for degree, rows in table.items():
    print(f"degree {degree}: average and top eigenvector", rows.round(2).tolist())
for shift, rows in enumerate(table.values()):
    axes[1].plot(
        np.full(len(rows), shift - 0.1), rows[:, 0], "o", color=COLOURS[0], label="average" if not shift else None
    )
    axes[1].plot(
        np.full(len(rows), shift + 0.1), rows[:, 1], "s", color=COLOURS[2], label="eigenvector" if not shift else None
    )
axes[1].set(xlim=(-0.5, 1.5), ylim=(0, 1.05), ylabel="overlap, without its sign")
axes[1].set_xticks([0, 1], ["third degree", "fourth degree"])
axes[1].legend()

# %%
# The points of the path wander about the equator, and their average is about as close as the partial trace, to which
# it is parallel but for noise. With a drift that is too weak for the time the average is noise. Parity decides which
# average counts.

assert (results[:, 2] > results[:, 0] + 0.1).all(), "the average is nearer than the points"
assert abs(results[:, 2] - results[:, 3]).max() < 0.3, "about as near as the partial trace"
assert (results[:, 4] > 0.8).all(), "along the partial trace"
assert abs(weak).mean() < 0.5 * results[:, 2].mean(), "a weaker drift needs more time"
assert (table[3][:, 0] > 0.7).all() and (table[4][:, 1] > 0.7).all()
assert table[4][:, 0].mean() < 0.6 * table[4][:, 1].mean(), "the average of an even loss is noise"

# %%
# .. claim:: The average of weak Langevin dynamics finds a hidden direction where its points do not.
#     :experiment: a tensor in 24 dimensions, 30,000 steps; one index in 16 dimensions, degrees 3 and 4, 8,000 steps on
#         minibatches; 5 seeds each
#     :controls: the last point, the partial trace, a weaker drift, the other average
#     :shown: yes at this size; how the numbers of samples and of steps grow with the dimension is not tried
#
# Raise the drift's weight in `tensor_path` to 2: does the path still stay at the equator? Replace `average_direction`
# by `top_direction` for the tensor, and explain what you see.
