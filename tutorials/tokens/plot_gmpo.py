"""
One outlier in an answer: GRPO, GSPO and GMPO
=============================================

A single token whose ratio has exploded can rule a whole answer. The three objectives differ in what the outlier does to
itself, and in what it does to the others.
"""

# %%
# Thirty-two tokens, one outlier
# ------------------------------
# Log-ratios of deviation 0.05, and one token whose log-ratio D goes from 0 to 3. For a good and a bad answer: the
# coefficient of the outlier, and that of an ordinary token, relative to what they are on-policy. Mean and range of five
# seeds.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.tokens.gmpo import gmpo
from trref.tokens.grpo import grpo
from trref.tokens.gspo import gspo

plt = use_style()
T, SEEDS, D = 32, range(5), np.linspace(0, 3, 31)
LOSSES = {"GRPO, clip 0.2": (grpo, {}), "GSPO, clip 4e-4": (gspo, {}), "GMPO, logs 0.4": (gmpo, {})}
figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True)
found = {}
for column, A in enumerate((1.0, -1.0)):
    for name, (loss, hyper) in LOSSES.items():
        outlier, ordinary = np.zeros((2, len(SEEDS), len(D)))
        for seed in SEEDS:
            noise = 0.05 * np.random.default_rng(seed).standard_normal(T)
            for k, value in enumerate(D):
                d = noise.copy()
                d[0] = value
                gradient = loss(d[None], np.zeros((1, T)), np.array([A]), np.ones((1, T)), **hyper)[1][0]
                outlier[seed, k], ordinary[seed, k] = -T * A * gradient[0], np.median(-T * A * gradient[1:])
        found[name, A] = outlier, ordinary
        spread(axes[0, column], D, outlier.tolist(), name)
        spread(axes[1, column], D, ordinary.tolist(), name)
    axes[0, column].set(title=f"{'a good' if A > 0 else 'a bad'} answer", ylabel="coefficient of the outlier")
    axes[1, column].set(xlabel="log-ratio of the outlier", ylabel="of an ordinary token")
axes[0, 1].set(yscale="log")
axes[0, 0].legend(fontsize=8)

# %%
# For a good answer all three silence the outlier; GSPO silences the other 31 tokens with it. For a bad one GRPO lets
# the outlier's coefficient grow as :math:`e^D`, the geometric means as :math:`e^{D/32}`.

last = {key: (outlier[:, -1], ordinary[:, -1]) for key, (outlier, ordinary) in found.items()}
for (name, A), (outlier, ordinary) in last.items():
    print(f"{name:16s} advantage {A:+.0f}: outlier {outlier.mean():6.2f}, ordinary token {ordinary.mean():5.2f}")
assert all(not last[name, 1.0][0].any() for name in LOSSES), "nobody follows a good outlier further"
assert not last["GSPO, clip 4e-4", 1.0][1].any(), "with GSPO the whole answer falls silent"
assert (last["GMPO, logs 0.4", 1.0][1] > 0.95).all() and (last["GRPO, clip 0.2", 1.0][1] > 0.9).all()
assert (last["GRPO, clip 0.2", -1.0][0] > 15).all(), "a bad outlier rules GRPO"
assert (last["GMPO, logs 0.4", -1.0][0] < 1.2).all(), "and not GMPO"

# %%
# How steady is the step?
# -----------------------
# Heavy-tailed log-ratios (Student's t with 2 degrees of freedom, scaled by 0.1), 64 answers of 32 tokens, standardised
# advantages. The right coefficients are the on-policy ones, as if the ratios were pure noise between two programs. The
# relative error of the gradient in 20 batches; GMPO without a clip is the control that shows what clipping adds.

errors = {name: [] for name in (*LOSSES, "geometric mean, no clip", "arithmetic mean, no clip")}
settings = LOSSES | {
    "geometric mean, no clip": (gmpo, {"clip_low": 1e3, "clip_high": 1e3}),
    "arithmetic mean, no clip": (grpo, {"clip": 1e9}),
}
for seed in range(20):
    rng = np.random.default_rng(seed)
    d, advantage = np.clip(0.1 * rng.standard_t(2, (64, T)), -5, 5), rng.standard_normal(64)
    right = grpo(0 * d, 0 * d, advantage, np.ones_like(d))[1]
    for name, (loss, hyper) in settings.items():
        gradient = loss(d, 0 * d, advantage, np.ones_like(d), **hyper)[1]
        errors[name].append(np.linalg.norm(gradient - right) / np.linalg.norm(right))
figure, axis = plt.subplots()
axis.boxplot(list(errors.values()), orientation="horizontal", tick_labels=list(errors))
axis.set(xlabel="relative error of the gradient", xscale="log")
medians = {name: float(np.median(values)) for name, values in errors.items()}
print("median error", {name: round(value, 3) for name, value in medians.items()})
assert max(errors["GMPO, logs 0.4"]) < min(errors["GRPO, clip 0.2"]), "in every batch nearer than GRPO"
assert max(errors["GMPO, logs 0.4"]) < min(errors["GSPO, clip 4e-4"]), "and nearer than GSPO with its narrow clip"
print("what the clip costs:", round(medians["GMPO, logs 0.4"] / medians["geometric mean, no clip"], 2))

# %%
# .. claim:: The geometric mean is insensitive to outliers among the ratios, and makes updates steadier than GRPO's.
#     :experiment: one answer with an outlier, five seeds; heavy-tailed noise in the ratios of 64 answers, 20 batches
#     :controls: GRPO; GSPO; both means without a clip
#     :shown: yes, for the gradient under noise: nearer to the on-policy one than GRPO's and GSPO's in every batch. If
#         the ratios are noise, the clip adds error, and the mean alone is better still. Nothing is trained
