"""
Walking to another digit without losing confidence
==================================================

An attack changes little in the image and much in the answer. The opposite is possible, too: to change much in the image
and nothing in the answer. How far can one walk from a 3 towards a 7 and still be a 3, with full confidence?
"""

# %%
# Two networks
# ------------
# One is trained on digits as they are, one on attacked ones. 40 pairs of a source, which the network gets right, and a
# target of another class.

import numpy as np

from trref.adversarial.level_set_traversal import (
    distances,
    path_width,
    segment_confidence,
    traverse,
    triangle_confidence,
)
from trref.adversarial.pgd import pgd
from trref.experiments.classifiers import digits_task, train
from trref.experiments.figures import use_style
from trref.problems.rows import RowLoss

plt = use_style()
seeds = range(3)
task = digits_task(points=600, sizes=(64, 64, 10))
X, y = task.X_test, task.y_test


def rows(theta, labels):
    return RowLoss(theta, labels, task.loss.sizes, task.loss.activation)


def attacked(loss, theta, rng):
    start = loss.X + 0.2 * rng.uniform(-1, 1, loss.X.shape)
    moved = pgd(rows(theta, loss.labels), loss.X, np.clip(start, 0, 1), radius=0.2, lr=0.07, steps=4)
    return loss.at(moved)(theta)


def walks(theta, seed):
    rng = np.random.default_rng(seed)
    confidence = np.exp(-rows(theta, y)(X)[0])
    sure = np.flatnonzero(confidence > 0.6)
    source = rng.permutation(sure)[:40]
    targets = [np.array([rng.choice(np.flatnonzero(y != y[i])) for i in source]) for _ in range(2)]
    loss = rows(theta, y[source])
    x = X[source]
    ends = [traverse(loss, x, X[t], lr=0.05, correction=0.01, steps=200) for t in targets]
    first, second = (w.path[-1] for w in ends)
    naive = segment_confidence(loss, x, X[targets[0]])
    along = segment_confidence(loss, x, first)
    over = triangle_confidence(loss, x, first, second)
    before, after = distances(x, X[targets[0]])[0], distances(first, X[targets[0]])[0]
    aside = path_width(loss, first, first - x, rng.standard_normal((60, 40, 64)), radius=1.0)
    figures = {
        "distance before": before.mean(),
        "distance after": after.mean(),
        "confidence before": ends[0].confidence[0].mean(),
        "confidence after": ends[0].confidence[-1].mean(),
        "lowest on the segment": along.lowest.mean(),
        "lowest on the way to the target": naive.lowest.mean(),
        "share of the triangle": over.share.mean(),
        "5 % quantile beside the end": aside.low.mean(),
    }
    return figures, (x, X[targets[0]], ends[0])


thetas = {
    "plain": [train(task, seed=s, epochs=25, lr=2e-3).theta for s in seeds],
    "attacked": [train(task, seed=s, gradient=attacked, epochs=25, lr=2e-3).theta for s in seeds],
}
runs = {name: [walks(theta, s) for s, theta in enumerate(each)] for name, each in thetas.items()}

# %%
# What a walk looks like
# ----------------------

figure, axes = plt.subplots(2, 6, figsize=(9, 3.2))
for line, name in zip(axes, runs, strict=True):
    x, target, walk = runs[name][0][1]
    shown = [walk.path[k, 0] for k in (0, 10, 30, 80, 200)] + [target[0]]
    for axis, picture, title in zip(line, shown, ("source", "10", "30", "80", "200 steps", "target"), strict=True):
        axis.imshow(picture.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set(title=title, xticks=[], yticks=[], xlabel="column", ylabel=f"row, {name}")

figure, axis = plt.subplots()
for name, color in zip(runs, ("C0", "C3"), strict=True):
    _, target, walk = runs[name][0][1]
    steps = [np.sqrt(((p - target) ** 2).mean(1)).mean() for p in walk.path]
    axis.plot(steps, walk.confidence.mean(1), color=color, label=f"{name}, walk")
axis.set(xlabel="distance to the target, root mean square of a pixel", ylabel="confidence in the source's class")
axis.invert_xaxis()
axis.set(ylim=(0, 1.05))
axis.legend()

# %%
# What the figures show
# ---------------------
# A quarter of the way to the target can be walked without any loss of confidence, which even rises with the correction;
# the segment from the source and the triangle of two walks are as confident throughout, and so is what lies beside the
# end. Straight towards the target confidence is lost nearly entirely. The network that was trained on attacked digits
# is as blind. With 64 pixels the end does not look like the target, as it does for large images: a single direction of
# 64 is a good part of the way, one of many thousand is not.

table = {name: {k: np.array([r[0][k] for r in each]) for k in each[0][0]} for name, each in runs.items()}
for name, figures in table.items():
    for key, values in figures.items():
        print(f"{name:9} {key:32} {values.mean():.3f} ± {values.std():.3f}")
for name, f in table.items():
    assert (f["distance after"] < 0.82 * f["distance before"]).all(), f"{name}: a fifth of the way, in every seed"
    assert (f["confidence after"] > f["confidence before"]).all(), f"{name}: without loss of confidence"
    assert (f["lowest on the segment"] > f["confidence before"] - 0.05).all(), f"{name}: the segment is confident"
    assert (f["lowest on the way to the target"] < 0.1).all(), f"{name}: the way to the target is not"
    assert (f["share of the triangle"] > 0.95).all(), f"{name}: nor is anything lost within the triangle"
    assert (f["distance after"] > 0.5 * f["distance before"]).all(), f"{name}: the end is no target"

# %%
# **Exercises.** (1) Walk without the correction: how does the loss of confidence depend on the step? (2) For a linear
# logit, how near to the target does the walk come? (3) Why does a walk on a saturated softmax go straight?
#
# .. claim:: Vision models have large connected sets of equal confidence that reach to images of other classes, and the
#         segments to them are confident, too; models trained on attacks more so.
#     :experiment: a network of one hidden layer on digits, plain and trained on attacks; 40 pairs of source and target,
#         200 steps, three seeds
#     :controls: the straight way to the target; points beside the end
#     :shown: in part: walks, segments and triangles keep their confidence, in every seed and in both networks; the ends
#         do not look like the target in 64 dimensions
