"""
How much noise to put back
==========================

A step of DDPM ends with fresh noise, and there are two standard answers to how much. Each is right for one kind of
data. With an exact denoiser one can see what both do to all others, and when it matters.
"""

# %%
# Two variances, two widths of data
# ---------------------------------
# Gaussian data on a line, of standard deviation 1 or 0.1, exact denoisers, DDPM's linear schedule of 1000 levels, and
# steps of equal strides from the noisiest level. The standard deviation of the samples should be that of the data.

import itertools

import numpy as np

from trref.diffusion.ddpm import ancestral_step
from trref.diffusion.score_models import ddim_step
from trref.experiments.figures import spread, use_style
from trref.problems.mixtures import ddpm_schedule

plt = use_style()
schedule, counts, seeds = ddpm_schedule(), (5, 10, 20, 50, 100, 200), range(5)


def widths(seed, kind, data, count, draws=4000):
    """The standard deviation of samples, relative to the data's."""
    rng = np.random.default_rng([seed, count])
    x = rng.standard_normal((draws, 1))
    levels = [*(float(schedule[round(1000 - 1000 * i / count) - 1]) for i in range(count)), 1.0]
    for now, then in itertools.pairwise(levels):
        noise = x * np.sqrt(1 - now) / (now * data**2 + 1 - now)
        given = {"alpha_bar": now, "next_alpha_bar": then}
        if kind == "DDIM":
            x = ddim_step(x, noise, 0 * x, **given)
        else:
            x = ancestral_step(x, noise, rng.standard_normal(x.shape), variance=kind, **given)
    return x.std() / data


figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
ratios = {}
for axis, data in zip(axes, (1.0, 0.1), strict=True):
    for kind in ("small", "large", "DDIM"):
        runs = [[widths(seed, kind, data, count) for count in counts] for seed in seeds]
        ratios[kind, data] = np.array(runs)
        spread(axis, counts, runs, kind, marker="o")
        print(f"{kind:6s} data {data}:", ratios[kind, data].mean(0).round(3))
    axis.axhline(1, color="#8c8c8c", linestyle=":")
    axis.set(xlabel="steps", title=f"data of deviation {data:g}")
    axis.set_xscale("log")
    axis.set_xticks(counts, map(str, counts))
    axis.minorticks_off()
axes[0].set_ylabel("deviation of samples, relative to the data's")
axes[1].legend()

# %%
# What the figure shows
# ---------------------
# With few steps the smaller variance leaves samples of too little spread, whatever the data are: it is exact for a
# single point only, and these are none. The larger is exact for data of deviation 1, up to the last step, in which no
# noise is put back; for narrow data it is too small with few steps and a little too large with more. With 200 steps
# both are near wide data, and narrow ones still lack an eighth of their spread with the smaller. DDIM, which puts no
# noise back, is in between.
#
# Exercises
# ---------
# 1. Which deviation does the last step leave, from 10 steps and data of deviation 1? Compare with the left panel.
# 2. Let each entry have the variance that minimises :eq:`ddpm-variational`, which can be computed here. What do the
#    curves look like?
# 3. On the full grid of 1000 levels, at which step is the ratio of the variances 0.9?

assert (ratios["small", 1.0][:, :2] < 0.8).all() and (ratios["small", 0.1][:, :2] < 0.4).all(), "too little spread"
assert (ratios["small", 0.1] < ratios["large", 0.1]).all(), "the larger variance spreads more, in every seed"
assert (abs(ratios["large", 1.0] - 1) < abs(ratios["small", 1.0] - 1))[:, :3].all(), "and is nearer for wide data"
assert (abs(ratios["small", 1.0][:, -1] - 1) < 0.05).all() and (abs(ratios["large", 1.0][:, -1] - 1) < 0.05).all()
assert ratios["large", 0.1][:, 3].min() > 1, "narrow data: a little too wide with fifty steps"

# %%
# .. claim:: The two standard variances of DDPM give similar samples.
#     :experiment: Gaussian data on a line of deviation 1 and 0.1, exact denoisers, 5 to 200 of 1000 levels, 4000
#         samples, five seeds
#     :controls: DDIM on the same grids; the deviation of the data
#     :shown: in part: with 200 steps both are near wide data; with 5 to 20 both have too little spread, the smaller
#         variance far more, and for narrow data still with 200. Likelihoods and images are not shown
