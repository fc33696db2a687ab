"""
Where smoothing a ratio is more than a step size
================================================

PSPO's gradient is that of the plain ratio, scaled. Two relatives are not: the product of an answer's smoothed ratios,
and a smoothed ratio under a clip. We draw what each does to the gradient.
"""

# %%
# Products
# --------
# An answer of 8 tokens whose log-ratios are random. Each token's share of the gradient is the same under the plain
# product, whatever it did; under the smoothed product it grows with the token's own ratio. How large the product gets,
# and how much it varies from answer to answer, is what smoothing reduces.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import train
from trref.tokens.grpo import grpo
from trref.tokens.pspo import pspo, pspo_clipped, pspo_sequence

plt = use_style()
T, ANSWERS, SEEDS = 8, 400, range(6)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.8)
deviation = {alpha: [] for alpha in ALPHAS}
for seed in SEEDS:
    d = 0.5 * np.random.default_rng(seed).standard_normal((ANSWERS, T))
    d -= 0.125  # so that the mean ratio of a token is 1
    for alpha, colour in zip(ALPHAS, COLOURS, strict=False):
        gradient = -ANSWERS * pspo_sequence(d, 0 * d, np.ones(ANSWERS), np.ones((ANSWERS, T)), alpha=alpha)[1]
        products = [-pspo_sequence(row[None], 0 * row[None], np.ones(1), np.ones((1, T)), alpha=alpha)[0] for row in d]
        deviation[alpha].append(np.std(products))
        if seed == 0:
            share = T * gradient / gradient.sum(1, keepdims=True)
            axes[0].plot(np.exp(d).ravel()[:800], share.ravel()[:800], ".", markersize=3, color=colour,
                         label=f"alpha {alpha}")  # fmt: skip
axes[0].set(xlabel="ratio of the token", ylabel="share of the answer's gradient, times 8", xlim=(0, 4), ylim=(0, 3))
axes[0].legend(fontsize=8)
spread(axes[1], ALPHAS, np.array([deviation[a] for a in ALPHAS]).T.tolist(), "products of 8 tokens")
fine = np.linspace(0, 0.9, 91)
theory = np.sqrt((1 + (1 - fine) ** 2 * np.expm1(0.25)) ** T - 1)  # of independent tokens with lognormal ratios
axes[1].plot(fine, theory, "--", color=COLOURS[1], label="expected")
axes[1].plot(fine, theory[0] * (1 - fine), ":", color=COLOURS[-1], label="of a mere step size")
axes[1].set(xlabel="alpha", ylabel="standard deviation of the ratio", title="six draws of 400 answers")
axes[1].legend()
for alpha in ALPHAS[1:]:
    assert abs(np.mean(deviation[alpha]) / theory[round(100 * alpha)] - 1) < 0.2, (
        "the spread is what the theory says, to a fifth"
    )
assert (theory[1:] < theory[0] * (1 - fine[1:])).all(), "smoothing reduces it by more than the factor 1 - alpha"

# %%
# A clip of the smoothed ratio
# ----------------------------
# The same corners as a clip of the plain ratio, further out.

ratio, one = np.linspace(0.3, 1.9, 400), np.ones((1, 1))
figure, axis = plt.subplots()
for alpha, colour in zip((0.0, 0.1, 0.3, 0.5), COLOURS, strict=False):
    value = [-pspo_clipped(np.log(r) * one, 0 * one, np.ones(1), one, alpha=alpha)[0] for r in ratio]
    axis.plot(ratio, value, color=colour, label=f"alpha {alpha}")
    axis.axvline(1 + 0.2 / (1 - alpha), color=colour, linestyle=":", linewidth=1)
axis.set(xlabel="ratio of the token", ylabel="token term", title="advantage 1, clip 0.2 of the smoothed ratio")
axis.legend()

# %%
# Training
# --------
# Both on the token task, with Adam, against the clip and PSPO.

figure, axis = plt.subplots()
RUNS = {
    "clip 0.2": (grpo, {}),
    "PSPO": (pspo, {}),
    "smoothed, then clipped, alpha 0.5": (pspo_clipped, {"alpha": 0.5}),
    "clip 0.4": (grpo, {"clip": 0.4}),
    "smoothed product, alpha 0.8": (pspo_sequence, {"alpha": 0.8}),
    "plain product": (pspo_sequence, {"alpha": 0.0}),
}
curves = {}
for name, (objective, hyper) in RUNS.items():
    runs = [train(objective, seed=s, hyper=hyper, iterations=30).success for s in SEEDS]
    curves[name] = np.array(runs)
    spread(axis, range(30), runs, name)
    print(f"{name:36s} {curves[name][:, -1].mean():.3f} ± {curves[name][:, -1].std(ddof=1) / 6**0.5:.3f}")
axis.set(xlabel="iteration", ylabel="probability of success", title="token task, six seeds")
axis.legend(fontsize=8)
gap = abs(curves["smoothed, then clipped, alpha 0.5"] - curves["clip 0.4"]).max()
print(f"smoothed and clipped at 0.2, against clipped at 0.4: {gap:.1e}")

# %%
# The clip of a smoothed ratio at 0.2 and :math:`\alpha = 0.5` is the run of the clip at 0.4. Smoothing the
# product changes the direction, but at the distances that two epochs a batch reach it matters little.

assert gap < 1e-3, "smoothed at 0.5 and clipped at 0.2 is clipped at 0.4"
difference = curves["smoothed product, alpha 0.8"][:, -1] - curves["plain product"][:, -1]
print(f"smoothed product minus plain product {difference.mean():+.3f} ± {difference.std(ddof=1) / 6**0.5:.3f}")
assert abs(difference.mean()) < 0.1, "smoothing the product hardly matters here"

# %%
# .. claim:: Smoothed ratios of answers, and smoothed ratios under a clip: extensions of PSPO, claimed by no paper.
#     :experiment: the gradient's shares and the product's spread over six draws, and the token task over 6 seeds
#     :controls: the plain product; a clip as much wider
#     :shown: yes: a product's spread falls by more than the factor 1 - alpha; the clipped one is a wider clip
