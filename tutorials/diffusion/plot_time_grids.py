"""
Where a sampler starts and where it lands
=========================================

A model knows a thousand levels, a sampler visits ten of them. Which ones, and whether the first is noise alone, moves
the mean of what comes out: on images, their brightness.
"""

# %%
# Three grids, two schedules
# --------------------------
# Data around 2 with a deviation of 0.1, the exact estimate of the data, DDIM from standard normal noise. With the
# schedule as it is, and with its last level moved to no signal at all, where the estimate is the mean of the data.

import numpy as np

from trref.diffusion.score_models import renoise
from trref.diffusion.time_grids import sampling_levels, zero_terminal_snr
from trref.experiments.figures import spread, use_style

plt = use_style()
schedule = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)  # that of Stable Diffusion
schedules = {"as it is": schedule, "no signal at the end": zero_terminal_snr(schedule)}
centre, width, seeds = 2.0, 0.1, range(5)
grids = {
    "leading": {"spacing": "leading", "offset": 1},
    "trailing": {"spacing": "trailing"},
    "linspace": {"spacing": "linspace"},
}


def sample(x, now, then):
    """DDIM with the exact estimate of the data; a level of 0 is taken as 1e-12."""
    for a, b in zip(np.maximum(now, 1e-12), then, strict=True):
        gain = np.sqrt(a) * width**2 / (a * width**2 + 1 - a)
        data = centre + gain * (x - np.sqrt(a) * centre)
        noise = (x - np.sqrt(a) * data) / np.sqrt(1 - a)
        x = renoise(data, noise, 0 * x, alpha_bar=float(a), next_alpha_bar=float(b))
    return x


counts, results = (5, 10, 20, 50), {}
for which, levels in schedules.items():
    for name, grid in grids.items():
        rows = []
        for seed in seeds:
            x = np.random.default_rng(seed).standard_normal((20000, 1))
            rows.append([sample(x, *sampling_levels(levels, steps=n, **grid)[1:]) for n in counts])
        results[which, name] = np.array([[(x.mean() - centre, x.std() / width) for x in row] for row in rows])
        print(f"{which:22s}{name:10s}", results[which, name][:, 1].mean(0).round(4))
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for (which, name), values in results.items():
    style = "-" if which == "as it is" else "--"
    for axis, k in zip(axes, (0, 1), strict=True):
        runs = abs(values[:, :, 0]) if k == 0 else values[:, :, 1]
        spread(axis, counts, runs.tolist(), f"{name}, {which}", marker="o", linestyle=style)
axes[0].set(xlabel="steps", ylabel="distance of the mean from the data's", yscale="log")
axes[1].set(xlabel="steps", ylabel="deviation, relative to the data's")
axes[1].legend(fontsize="x-small")
for axis in axes:
    axis.set_xscale("log")
    axis.set_xticks(counts, map(str, counts))
    axis.minorticks_off()

# %%
# The step that lands elsewhere
# -----------------------------
# diffusers' DDIM goes to the index a stride below, whatever the grid is: with linspace, from 999 to 899, while the
# model is called at 888 next.

stride = []
for seed in seeds:
    levels = sampling_levels(schedule, steps=10, spacing="linspace")
    below = levels.indices - 100
    then = np.where(below >= 0, schedule[below], 1.0)
    x = sample(np.random.default_rng(seed).standard_normal((20000, 1)), levels.alpha_bar, then)
    stride.append((x.mean() - centre, x.std() / width))
print("a stride below:", np.mean(stride, 0).round(3))

# %%
# What the figure shows
# ---------------------
# The mean is off where the start is: the sampler begins in noise without signal at a level that has some, and more of
# it on the leading grid, whose first level lies a stride below the noisiest. With a schedule that ends in noise,
# trailing and linspace grids start right, and their mean is that of the data to a thousandth; the leading grid still
# starts below, though the less so the more steps there are. The deviation is another matter: it is too small with few
# steps on every grid, least on the leading one, whose last step is short. A step that lands at another level than the
# next call of the model leaves noise in the sample.
#
# Exercises
# ---------
# 1. Compute the bias of the mean from the signal of the first level, for data of any centre, and compare.
# 2. Start from the true law of the noisiest level in place of pure noise. On which grids is the mean still off?
# 3. For which numbers of steps up to 64 does ``np.arange(64, 0, -64 / steps)`` have an entry too many, and why?

bias = {key: abs(values[:, :, 0]) for key, values in results.items()}
for n, steps in enumerate(counts):
    plain = [bias["as it is", name][:, n] for name in ("trailing", "linspace", "leading")]
    assert (plain[0] < plain[1]).all() and (plain[1] < plain[2]).all(), f"{steps} steps: the same order in every seed"
for name in ("trailing", "linspace"):
    mended = bias["no signal at the end", name]
    assert (mended < 0.002).all() and (mended < bias["as it is", name] / 5).all(), "a start in noise mends the mean"
assert (bias["no signal at the end", "leading"][:, 0] > 0.01).all(), "but not of a grid that does not start there"
assert all((values[:, :, 1] < 0.85).all() for values in results.values()), "few steps: too little spread on all grids"
stride = np.array(stride)
assert (stride[:, 1] > 1.2).all() and (abs(stride[:, 0]) > 0.04).all(), "landing elsewhere leaves noise, and a bias"

# %%
# .. claim:: Schedules that end with some signal, and grids that do not start at the end, bias the mean of samples; zero
#     terminal SNR with trailing steps mends it.
#     :experiment: data around 2 on a line, exact estimates, DDIM of 5 to 50 steps from pure noise, Stable Diffusion's
#         schedule, 20,000 samples, five seeds
#     :controls: leading, trailing and linspace grids, each with and without signal at the end
#     :shown: yes, for the mean: it is off by up to 0.02 of 2, and by less than 0.002 once the schedule ends in noise
#         and the grid starts there, in every seed. The deviation is not mended: it is that of few steps. Nothing is
#         shown of images
