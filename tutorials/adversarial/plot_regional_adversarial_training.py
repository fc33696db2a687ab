"""
Training on all of an attack's way
==================================

Adversarial training keeps the end of each attack and throws away the way there. Do points from the whole region help,
do labels that soften with the distance, and which of the two is it?
"""

# %%
# Six ways to train
# -----------------
# Every batch is attacked by five steps of projected gradient ascent. SAT trains on the ends; the regions are the hulls
# of the whole path with the clean image, or of its second half. Labels are hard, or smoothed by the distance (up to
# 0.3), or all by the same (the control).

import numpy as np

from trref.adversarial.pgd import pgd, pgd_path
from trref.adversarial.regional_adversarial_training import (
    distance_share,
    hull_point,
    rat_objective,
    smoothed_labels,
)
from trref.experiments.attacks import robust_accuracy
from trref.experiments.classifiers import digits_task, train
from trref.experiments.figures import use_style
from trref.problems.rows import RowLoss

plt = use_style()
seeds, radius, steps = range(3), 0.2, 5
task = digits_task(points=500, sizes=(64, 64, 10))
WAYS = {  # corners of the region, and the smoothing
    "SAT": ("end", "none"),
    "SAT, smoothed by distance": ("end", "distance"),
    "SAT, all smoothed": ("end", "same"),
    "whole path": ("path", "none"),
    "whole path, smoothed by distance": ("path", "distance"),
    "second half, smoothed by distance": ("half", "distance"),
}


def rows(theta, labels):
    return RowLoss(theta, labels, task.loss.sizes, task.loss.activation)


def training(region, smoothing):
    def gradient(loss, theta, rng):
        x = loss.X
        start = x + radius * rng.uniform(-1, 1, x.shape)
        path = pgd_path(rows(theta, loss.labels), x, start, radius=radius, lr=radius / 3, steps=steps)
        corners = {"end": path[-1:], "half": path[steps // 2 + 1 :], "path": np.concatenate([x[None], path])}[region]
        points = hull_point(corners, rng.dirichlet(np.ones(len(corners)), len(x)))
        rho = distance_share(points, x, radius=radius)
        rho = {"none": 0 * rho, "distance": rho, "same": np.full(len(x), 0.8)}[smoothing]
        return rat_objective(loss.at(points), theta, smoothed_labels(rho, loss.labels, classes=10))

    return gradient


thetas = {
    name: [train(task, seed=s, gradient=training(*way), epochs=20, lr=2e-3).theta for s in seeds]
    for name, way in WAYS.items()
}

# %%
# Clean and attacked
# ------------------
# 20 steps from three random starts, on 200 test images.

X, y = task.X_test[:200], task.y_test[:200]
attack = lambda f, x, start: pgd(f, x, start, radius=radius, lr=radius / 8, steps=20)  # noqa: E731
result = {
    name: np.array(
        [
            [
                float((rows(t, y).logits(X).argmax(1) == y).mean()),
                robust_accuracy(rows(t, y), X, attack, radius=radius, restarts=3),
            ]
            for t in each
        ]
    )
    for name, each in thetas.items()
}
figure, axis = plt.subplots(figsize=(6.5, 4))
for name, values in result.items():
    mean, spread = values.mean(0), values.std(0)
    axis.errorbar(mean[0], mean[1], xerr=spread[0], yerr=spread[1], marker="o", label=name)
axis.set(xlabel="accuracy on clean images", ylabel="accuracy under attack")
axis.legend(fontsize=7)

# %%
# What the figure shows
# ---------------------
# The region moves along the line on which clean and attacked accuracy are bought with each other: with the whole path,
# points are nearer to the image, and the network is better on clean images and worse under attack, in every seed.
# Softer labels help under attack in each region. But smoothing all labels alike does as much as smoothing them by the
# distance. Nothing of this needs a region.

for name, values in result.items():
    print(f"{name:34} clean, attacked {values.mean(0).round(3).tolist()} ± {values.std(0).round(3).tolist()}")
clean, robust = ({name: values[:, k] for name, values in result.items()} for k in (0, 1))
assert (clean["whole path"] > clean["SAT"] + 0.02).all(), "the whole path is better on clean images, in every seed"
assert (robust["whole path"] < robust["SAT"] - 0.05).all(), "and worse under attack, in every seed"
for region in ("SAT", "whole path"):
    soft = robust[f"{region}, smoothed by distance"]
    assert soft.mean() > robust[region].mean() + 0.01, f"{region}: softer labels help under attack, on average"
alike = robust["SAT, all smoothed"].mean() - robust["SAT, smoothed by distance"].mean()
assert abs(alike) < 0.03, "smoothing all labels alike does as much"
half = robust["second half, smoothed by distance"].mean() - robust["SAT, smoothed by distance"].mean()
assert half < 0.02, "and the second half of the path adds nothing to the end"

# %%
# **Exercises.** (1) How far from the image is a point of the whole path on average, and how does that depend on the
# concentration of the weights? (2) Attack with a margin in the place of the cross-entropy: is what smoothing gains
# real? (3) Draw from the box in the place of the hull.
#
# .. claim:: Training on points of the region that an attack sweeps, with labels smoothed by the distance, is more
#         robust than training on its end.
#     :experiment: a small network on 500 digits, six combinations of region and labels, 20 steps of attack from three
#         starts, three seeds; region and smoothing are reconstructions
#     :controls: training on the ends with hard labels, and with all labels smoothed alike
#     :shown: no: the region moves along the line between clean and attacked accuracy, and what is gained under attack
#         is gained by soft labels, whatever they depend on
