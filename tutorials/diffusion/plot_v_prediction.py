"""
What to predict: noise, data or the velocity between
====================================================

At a given point the three say the same. A model that is not perfect says them with errors, and to turn one into another
divides these by what is left of the signal, or of the noise. The velocity is the one that never divides.
"""

# %%
# One regression, three targets
# -----------------------------
# A least-squares model, linear in bumps times polynomials of the angle, sees a mixture on a line at all levels at once.
# It is fitted to the noise, to the data and to the velocity, and each prediction is turned into the other two.

import numpy as np

from trref.diffusion.v_prediction import min_snr_weight, velocity_target
from trref.experiments.figures import spread, use_style
from trref.problems.mixtures import GaussianMixture

plt = use_style()
mixture = GaussianMixture(np.array([0.6, 0.4]), np.array([[1.0], [-0.8]]), np.array([[[0.04]], [[0.09]]]))
seeds, centres, held_out = range(5), np.linspace(-3, 3, 13), 1500
levels = np.array([0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])


def features(x, alpha_bar):
    angle = np.arccos(np.sqrt(alpha_bar))
    bumps = np.column_stack([np.exp(-((x - centres) ** 2) / 0.5), x, np.ones(len(x))])
    return (bumps[:, :, None] * angle[:, None, None] ** np.arange(4)).reshape(len(x), -1)


def mixed(rng, alpha_bar):
    data, noise = mixture.sample(rng, len(alpha_bar)), rng.standard_normal((len(alpha_bar), 1))
    return np.sqrt(alpha_bar)[:, None] * data + np.sqrt(1 - alpha_bar)[:, None] * noise, data, noise


def errors(seed, kind, weights):
    """Squared errors of the data and of the noise beyond those of the exact posterior, at each level."""
    rng = np.random.default_rng(seed)
    alpha_bar = np.cos(rng.uniform(0.02, np.pi / 2 - 0.02, 6000)) ** 2
    x, data, noise = mixed(rng, alpha_bar)
    target = {"noise": noise, "data": data, "velocity": velocity_target(data, noise, alpha_bar)}[kind]
    F, root = features(x, alpha_bar), np.sqrt(weights(alpha_bar))[:, None]
    fitted = np.linalg.lstsq(root * F, root * target, rcond=1e-10)[0]
    rows = []
    for level in levels:
        a, s = np.sqrt(level), np.sqrt(1 - level)
        x, *_ = mixed(rng, np.full(held_out, level))
        true = (x + s**2 * mixture.noised(a, s).score(x)) / a
        out = features(x, np.full(held_out, level)) @ fitted
        guess = {"noise": (x - s * out) / a, "data": out, "velocity": a * x - s * out}[kind]
        rows.append((((guess - true) ** 2).mean(), (a / s) ** 2 * ((guess - true) ** 2).mean()))
    return rows


even = {kind: np.array([errors(s, kind, np.ones_like) for s in seeds]) for kind in ("noise", "data", "velocity")}
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6))
snr = levels / (1 - levels)
for kind, values in even.items():
    for axis, k in zip(axes[:2], (0, 1), strict=True):
        spread(axis, snr, values[:, :, k].tolist(), kind, marker="o")
    print(f"{kind:9s} data", values.mean(0)[:, 0].round(5), "noise", values.mean(0)[:, 1].round(5))
for axis, what in zip(axes[:2], ("data", "noise"), strict=True):
    axis.set(xlabel="signal to noise", ylabel=f"squared error of the {what}", xscale="log", yscale="log")
axes[0].legend(fontsize="small")

# %%
# The weights that make them one
# ------------------------------
# Min-SNR's weight on a squared error of the velocity, and two that public code has used in its place.

ratio = np.geomspace(1e-3, 1e3, 200)
alpha_bar = ratio / (1 + ratio)
right = min_snr_weight(alpha_bar)
wrong = np.minimum(ratio + 1, 5) / (ratio + 1)
for label, weight in (
    ("min(SNR, 5)/(SNR + 1)", right),
    ("min(SNR + 1, 5)/(SNR + 1)", wrong),
    ("1", np.ones_like(right)),
):
    axes[2].plot(ratio, weight * (1 + ratio), label=label)
axes[2].set(xlabel="signal to noise", ylabel="weight on an error of the data", xscale="log", yscale="log")
axes[2].legend(fontsize="small")

# %%
# What the figure shows
# ---------------------
# Where there is little signal, errors of a predicted noise are divided by it: the data are missed by hundreds of times
# as much as by the other two. Where there is little noise, the noise that a prediction of the data implies is missed
# by far. The velocity is near the better of the two at both ends. Its weight of 1 is one of SNR + 1 on the data, which
# Min-SNR caps at large ratios and lowers at small ones; the minimum of SNR + 1 caps it as well, and does not lower it.
#
# Exercises
# ---------
# 1. Show that the three weights of :eq:`v-prediction-weights` are one loss. Why are the three fits above still
#    different models?
# 2. Fit the velocity with the weight of Min-SNR, and with the one that takes the minimum of SNR + 1. At which levels do
#    the errors differ?
# 3. What does the model of the velocity say at pure noise, where its target is minus the data?

noise, data, velocity = even.values()
assert (noise[:, 0, 0] > 20 * velocity[:, 0, 0]).all(), "little signal: predicted noise misses the data, in every seed"
assert (data[:, -1, 1] > 10 * velocity[:, -1, 1]).all(), "little noise: predicted data miss the noise, in every seed"
best = np.minimum(noise, data)[:, [0, -1]].mean(0)
assert (velocity[:, [0, -1]].mean(0) < 5 * best).all(), "at both ends the velocity is near the better one"
small = ratio < 0.01
assert (right[small] < 0.011).all() and (wrong[small] > 0.9).all(), "the two weights differ where there is no signal"

# %%
# .. claim:: Predicting the velocity is stable at all levels, where predicting noise or data fails at one end.
#     :experiment: least squares on bumps times powers of the angle, a mixture on a line, 6,000 examples at random
#         levels, errors beyond the exact posterior at seven; five seeds
#     :controls: the same regression on the noise and on the data
#     :shown: yes: with little signal predicted noise misses the data more than twenty times as far, with little noise
#         predicted data miss the noise more than ten times as far, in every seed
