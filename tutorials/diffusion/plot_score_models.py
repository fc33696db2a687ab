"""
DDIM and DDPM with exact scores
===============================

On a Gaussian mixture the noise in a noisy sample can be predicted perfectly. What is left of the error of a sampler is
its discretisation, and nothing else.
"""

# %%
# From noise to data
# ------------------

import numpy as np

from trref.diffusion.score_models import ddim_sample
from trref.experiments.figures import use_style
from trref.problems.mixtures import MixtureNoise, three_components

plt = use_style()
mixture = three_components()
model = MixtureNoise(mixture)
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), sharex=True, sharey=True)
for axis, steps in zip(axes, (3, 10, 30, 100), strict=True):
    x = ddim_sample(np.random.default_rng(0), model, draws=800, steps=steps)
    axis.plot(*x.T, ".", markersize=2)
    axis.set(title=f"{steps} steps", xlabel="x₁", aspect="equal")
axes[0].set_ylabel("x₂")

# %%
# Distance to the data law
# ------------------------
# The energy distance :math:`2E|X-Y| - E|X-X'| - E|Y-Y'|` between samples and fresh data, for the deterministic sampler
# (eta 0) and for DDPM with the posterior variance (eta 1).


def mean_distance(a, b):
    return np.sqrt(((a[:, None] - b) ** 2).sum(-1)).mean()


def energy_distance(x, y):
    n = len(x)
    return 2 * mean_distance(x, y) - (mean_distance(x, x) + mean_distance(y, y)) * n / (n - 1)


draws, grid = 1500, (4, 8, 16, 32, 64, 128)
data = mixture.sample(np.random.default_rng(1), draws)
floor = np.mean([abs(energy_distance(mixture.sample(np.random.default_rng(s), draws), data)) for s in (2, 3, 4)])
curves = {}
for name, eta in (("DDIM (eta 0)", 0.0), ("DDPM (eta 1)", 1.0)):
    curves[name] = [
        energy_distance(ddim_sample(np.random.default_rng(5), model, draws=draws, steps=k, eta=eta), data) for k in grid
    ]
figure, axis = plt.subplots()
for name, values in curves.items():
    axis.loglog(grid, np.maximum(values, 1e-4), "o-", label=name)
axis.axhline(floor, linestyle=":", color="#8c8c8c", label="fresh data (sampling error)")
axis.set(xlabel="steps", ylabel="energy distance to the data")
axis.legend()

# %%
# What the figure shows
# ---------------------
# With few steps the deterministic sampler is closer; with many both meet the sampling error.

ddim, ddpm = curves["DDIM (eta 0)"], curves["DDPM (eta 1)"]
for k, a, b in zip(grid, ddim, ddpm, strict=True):
    print(f"{k:4d} steps: DDIM {a:.4f}, DDPM {b:.4f}")
assert all(a < b for a, b in zip(ddim[:3], ddpm[:3], strict=True)), "few steps: DDIM is closer"
assert ddim[-1] < 0.02 and ddpm[-1] < 0.02, "many steps: both are at the data"
