"""
Where the steps lie, and what a little churn repairs
====================================================

With a few dozen calls of the model, the places of the noise levels matter more than the rule between them. And noise
that is added and taken away again does nothing for an exact model; it does something for a wrong one.
"""

# %%
# Calls of the model, and the root of the noise
# ---------------------------------------------
# Two Gaussians on a line, an exact denoiser. The distance of each end point from where the flow leads is measured
# against 400 of Heun's steps; Heun's rule calls twice a step.

import numpy as np

from trref.diffusion.edm_heun import churned_path, karras_levels
from trref.experiments.diffusion import energy_distance
from trref.experiments.figures import spread, use_style
from trref.problems.mixtures import GaussianMixture, MixtureDenoiser

plt = use_style()
mixture = GaussianMixture(np.array([0.6, 0.4]), np.array([[1.0], [-0.8]]), np.array([[[0.04]], [[0.09]]]))
model, seeds, calls = MixtureDenoiser(mixture, "ve"), range(5), (8, 12, 20, 40)


def levels(count, rho=7.0):
    return np.append(karras_levels(np.linspace(0, 1, count), smallest=0.02, largest=20.0, rho=rho), 0.0)


def run(x, count, rule, rho=7.0):
    return churned_path(model, x, np.zeros((count, *x.shape)), levels(count, rho), rule=rule)


starts = [20 * np.random.default_rng(seed).standard_normal((300, 1)) for seed in seeds]
ends = [run(x, 400, "heun") for x in starts]


def miss(x, end, *how):
    return np.sqrt(((run(x, *how) - end) ** 2).mean())


figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.6))
by_calls = {}
for rule in ("euler", "heun"):
    counts = [n if rule == "euler" else n // 2 for n in calls]
    by_calls[rule] = np.array([[miss(x, e, n, rule) for n in counts] for x, e in zip(starts, ends, strict=True)])
    spread(left, calls, by_calls[rule].tolist(), rule, marker="o")
    print(rule, by_calls[rule].mean(0).round(3))
left.set(xlabel="calls of the model", ylabel="distance from the end of the flow", yscale="log")
left.legend()
roots = (1.0, 2.0, 3.0, 5.0, 7.0, 20.0)
by_root = np.array([[miss(x, e, 10, "heun", rho) for rho in roots] for x, e in zip(starts, ends, strict=True)])
spread(middle, roots, by_root.tolist(), "Heun, 10 steps", marker="o")
middle.set(xlabel="root rho of the grid", yscale="log")
middle.legend()
print("roots", by_root.mean(0).round(3))

# %%
# Churn under a wrong denoiser
# ----------------------------
# A denoiser that says too little of the noise at the middle levels: a fifth of it is left. Churn between these levels
# adds noise and takes it away again, with 40 steps of Heun's rule; the distance is that of samples from data.


class Wrong:
    def __call__(self, x, t):
        exact = model(x, t)
        return exact + 0.2 * (x - exact) * ((t > 0.4) & (t < 0.8))[:, None]


churns, draws, distances = (0.0, 2.0, 5.0, 10.0, 16.0), 800, {}
for name, denoiser in (("exact", model), ("wrong", Wrong())):
    rows = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 5])
        data, x = mixture.sample(rng, draws), 20 * rng.standard_normal((draws, 1))
        z = rng.standard_normal((40, draws, 1))
        rows.append([energy_distance(churned_path(denoiser, x, z, levels(40), churn=c), data) for c in churns])
    distances[name] = np.array(rows)
    spread(right, churns, rows, f"{name} denoiser", marker="o")
    print(name, distances[name].mean(0).round(4))
right.set(xlabel="churn", ylabel="energy distance to the data")
right.legend()

# %%
# What the figure shows
# ---------------------
# Below twenty calls Heun's rule loses to Euler's, above it wins. The grid decides more: equal steps in the noise itself
# miss ten times as far as equal steps in its seventh root, and roots from 5 to 20 are alike. The exact denoiser needs
# no churn. With the wrong one the samples come closer to the data, the more noise is added and removed: what an
# earlier step has got wrong is partly drawn anew.
#
# Exercises
# ---------
# 1. Show that the flow of data that are one point is a straight line in :math:`\sigma`, and that no grid can miss it.
# 2. Where the last step is taken by Heun's rule to a level of 0.002 in place of 0, what is left of the noise?
# 3. Let the wrong denoiser be wrong below level 0.1 only. From where to where does churn have to reach to help?
# 4. Ask the model before the churn, as a deviation on record does. What becomes of the variance of the samples?

euler, heun = by_calls["euler"], by_calls["heun"]
assert (heun[:, :2] > 1.5 * euler[:, :2]).all(), "few calls: Euler's rule, in every seed"
assert (heun[:, 3] < 0.8 * euler[:, 3]).all(), "many: Heun's"
assert (by_root[:, 0] > 5 * by_root[:, 4]).all(), "a linear grid is far worse than that of the seventh root"
assert (by_root[:, 3:].max(1) < 1.5 * by_root[:, 3:].min(1)).all(), "large roots are alike"
wrong, exact = distances["wrong"], distances["exact"]
assert (wrong[:, 4] < wrong[:, 0]).all() and wrong[:, 4].mean() < wrong[:, 0].mean() / 2, "churn repairs a wrong model"
assert abs(exact[:, 4] - exact[:, 0]).max() < 0.01, "and does nothing to an exact one"

# %%
# .. claim:: Heun's rule on a grid of the seventh root needs fewer calls of the model, and churn corrects errors.
#     :experiment: two Gaussians on a line with an exact denoiser, 8 to 40 calls, six grids; churn of 0 to 16 in 40
#         steps, with the exact and a wrong denoiser; five seeds
#     :controls: Euler's rule at the same calls; other roots; no churn; the exact denoiser
#     :shown: yes, beyond twenty calls: with 8 and 12 Euler's rule is closer. The grid of the seventh root is far
#         better than a linear one and no better than other large roots; churn more than halves the distance of a wrong
#         denoiser's samples, in every seed less
