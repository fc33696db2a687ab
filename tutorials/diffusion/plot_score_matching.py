"""
Learning a score from noise alone
=================================

Nobody shows the model a score. It is asked which noise was added to the data, a question that has no exact answer; and
yet its best guess is the score. On a Gaussian mixture we can see how close a regression comes.
"""

# %%
# Predicting the noise by least squares
# -------------------------------------
# The model is linear in 150 bumps around points of the plane, fitted to the noise in N examples. For squared errors the
# gradient vanishes at the solution of a linear system, so nothing depends on an optimiser.

import numpy as np

from trref.diffusion.score_matching import convert_prediction, noise_matching
from trref.experiments.figures import COLOURS, spread, use_style
from trref.problems.mixtures import three_components

plt = use_style()
mixture, seeds, sizes = three_components(), range(5), (500, 2000, 8000, 32000)
centres, held_out = np.random.default_rng(100).uniform(-2.5, 2.5, (150, 2)), 4000


def bumps(x):
    square = ((x[:, None] - centres) ** 2).sum(-1)
    return np.column_stack([np.exp(-square / 0.5), x, np.ones(len(x))])


def noisy(rng, sigma, n):
    alpha, noise = np.sqrt(1 - sigma**2), rng.standard_normal((n, 2))
    return alpha * mixture.sample(rng, n) + sigma * noise, noise


def fit(seed, sigma, n):
    """Loss and error of the score (times sigma²) on fresh examples; the loss of the true score; and a coefficient."""
    rng = np.random.default_rng([seed, n])
    x, noise = noisy(rng, sigma, n)
    B = bumps(x)
    weights = np.linalg.solve(B.T @ B + 1e-3 * np.eye(B.shape[1]), B.T @ noise)
    x, noise = noisy(rng, sigma, held_out)
    predicted, one = bumps(x) @ weights, np.ones(held_out)
    score = mixture.noised(np.sqrt(1 - sigma**2), sigma).score(x)
    learned = convert_prediction(predicted, x, given="noise", wanted="score", alpha=np.sqrt(1 - sigma**2), sigma=sigma)
    error = sigma**2 * ((learned - score) ** 2).sum(1).mean()
    return noise_matching(predicted, noise, one)[0], error, noise_matching(-sigma * score, noise, one)[0]


sigma = 0.4
by_size = np.array([[fit(seed, sigma, n) for n in sizes] for seed in seeds])
levels = (0.15, 0.25, 0.4, 0.6, 0.8, 0.95)
by_level = np.array([[fit(seed, s, 8000) for s in levels] for seed in seeds])
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for axis, x, values in ((axes[0], sizes, by_size), (axes[1], levels, by_level)):
    spread(axis, x, values[:, :, 0].tolist(), "loss", marker="o")
    spread(axis, x, values[:, :, 2].tolist(), "loss of the true score", marker="^", color=COLOURS[2])
    spread(axis, x, values[:, :, 1].tolist(), "error of the score", marker="s", color=COLOURS[1])
    axis.set_yscale("log")
axes[0].set(xlabel=f"examples (noise level {sigma})", ylabel="mean squared error of the noise", xscale="log")
axes[1].set(xlabel="noise level sigma (8000 examples)")
axes[0].legend()

# %%
# What the figure shows
# ---------------------
# The loss cannot fall below that of the true score, which is most of it: noise that nobody can predict. What can fall
# is the rest, the error of the score, and it falls with the number of examples. A loss curve that has gone flat says
# little about the score. At small noise levels the score is steep, and hardest to learn.

for n, values in zip(sizes, np.moveaxis(by_size, 1, 0), strict=True):
    print(f"{n:6d} examples: loss {values[:, 0].mean():.4f}, of it error of the score {values[:, 1].mean():.4f}")
loss, error, floor = np.moveaxis(by_size, 2, 0)
excess = abs(loss - floor - error)
print(f"loss minus that of the true score, minus the error of the score: {excess.max():.4f} at most")
assert (excess < 0.1).all(), "the loss is the error of the score plus a constant, up to sampling"
assert (error[:, -1] < 0.1 * error[:, 0]).all(), "more examples, a better score, in every seed"
assert (error[:, -1] < 0.05 * floor[:, -1]).all(), "although nearly all of the loss remains"
assert (by_level[:, 0, 1] > 3 * by_level[:, -1, 1]).all(), "small noise levels are the hardest"

# %%
# .. claim:: Predicting the noise by least squares learns the score of the noisy data.
#     :experiment: regression on bumps, 500 to 32,000 examples of a mixture of three Gaussians, six noise levels, five
#         seeds
#     :controls: the true score, and its own loss
#     :shown: yes: the error of the score falls more than tenfold in every seed, while nearly all of the loss remains
