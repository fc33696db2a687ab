"""
Weights that follow the speed of learning
=========================================

Two tasks share parameters; the loss of one is a hundred times the other's. GradNorm learns weights that bring their
gradients to comparable norms. Is that more than dividing each loss by its first value?
"""

# %%
# Two regressions that share their weights
# ----------------------------------------
# One vector of parameters has to serve two regressions, whose targets agree in part; the second loss has a scale of
# 100. *Predict before you run*: with equal weights, which task is solved at the cost of the other?

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.gradients.gradnorm import renormalised, weight_objective

plt = use_style()
SEEDS, STEPS, SCALES = range(5), 200, np.array([1.0, 100.0])


def problem(seed):
    """Inputs, and targets of two tasks, whose best weights have a cosine of about 0.5."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((2, 60, 10))
    truth = rng.standard_normal((2, 10)) + rng.standard_normal(10)
    return X, np.einsum("tnp,tp->tn", X, truth)


def losses_and_gradients(theta, X, y):
    """Of both tasks, scales included."""
    off = X @ theta - y
    return SCALES * (off**2).mean(1) / 2, SCALES[:, None] * np.einsum("tn,tnp->tp", off, X) / off.shape[1]


def run(seed, way, *, lr=0.1, weight_lr=0.05, alpha=0.0):
    """Losses relative to the first, and weights, at each step."""
    X, y = problem(seed)
    theta, weights, path = np.zeros(10), np.ones(2), []
    first, _ = losses_and_gradients(theta, X, y)
    for _ in range(STEPS):
        now, G = losses_and_gradients(theta, X, y)
        norms = np.linalg.norm(G, axis=1)
        path.append((*(now / first), *weights))
        if way == "GradNorm":
            _, slope = weight_objective(weights, norms, now, first, alpha=alpha)
            weights = renormalised(np.maximum(weights - weight_lr * slope / norms.mean(), 1e-4))
        elif way == "divided by the first":
            weights = renormalised(1 / first)
        theta = theta - lr * (weights @ G) / (weights @ SCALES) * 2
    return np.array(path)


ways = ("equal weights", "divided by the first", "GradNorm")
runs = {way: np.array([run(seed, way) for seed in SEEDS]) for way in ways}
figure, axes = plt.subplots(1, 2)
for way in ways:
    spread(axes[0], range(STEPS), runs[way][:, :, :2].max(2).tolist(), way)
spread(axes[1], range(STEPS), runs["GradNorm"][:, :, 3].tolist(), "weight of the large task")
axes[0].set(xlabel="steps", ylabel="loss of the worse task, relative to the first", yscale="log")
axes[1].set(xlabel="steps", ylabel="weight", yscale="log")
axes[0].legend()
axes[1].legend()
for way in ways:
    print(f"{way}: relative losses at the end", runs[way][:, -1, :2].round(3).tolist())

# %%
# With equal weights the large loss takes all, and the small task stays where it is or gets worse. GradNorm moves the
# weight to the small task within some tens of steps and ends at a compromise. So does the control that divides by the
# first loss, at once and with no further parameter: on this problem there is nothing to follow.

end = {way: runs[way][:, -1, :2].max(1) for way in ways}
assert (end["GradNorm"] < 0.8 * end["equal weights"]).all(), "the worse task is better off"
assert (runs["GradNorm"][:, -1, 3] < 0.2).all(), "the large loss has a small weight"
assert (end["divided by the first"] < 0.8 * end["equal weights"]).all(), "so it is by the control"
assert end["divided by the first"].mean() < 1.1 * end["GradNorm"].mean(), "at least as much"

# %%
# .. claim:: Weights that follow the norms of the gradients balance tasks of different scales.
#     :experiment: two regressions on ten shared weights, scales of 1 and 100, 5 seeds, 200 steps
#     :controls: equal weights; each loss divided by its first value
#     :shown: in part: balanced, and far better than equal weights; dividing by the first value does as well here
#
# **Exercises.** (1) Give the second task noise that cannot be fitted, and set alpha to 1.5: who gets the weight now?
# (2) Let the target follow the weights in the derivative: what do both weights do?
