"""
How sure a denoiser is
======================

A denoiser answers with one point, the mean of all data that could have been meant. How far these lie apart, and in
which directions, is the next derivative of the score.
"""

# %%
# Ellipses of what could have been
# --------------------------------
# Noisy points at one level. For each the data are drawn from their posterior by weighing many data points by the
# Gaussian of the noise, which uses no score at all.

import numpy as np

from trref.diffusion.score_matching import convert_prediction
from trref.diffusion.tweedie import posterior_covariance
from trref.experiments.figures import COLOURS, spread, use_style
from trref.problems.mixtures import three_components

plt = use_style()
mixture, seeds = three_components(), range(5)


def predicted(x, alpha, sigma):
    """Posterior means and covariances by the score and its derivative."""
    noised = mixture.noised(alpha, sigma)
    means = convert_prediction(noised.score(x), x, given="score", wanted="data", alpha=alpha, sigma=sigma)
    return means, posterior_covariance(noised.score_jacobian(x), alpha=alpha, sigma=sigma)


def weighed(x, data, alpha, sigma):
    """Posterior means and covariances by weights of many data points."""
    log_weight = -((x[:, None] - alpha * data) ** 2).sum(-1) / (2 * sigma**2)
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    means = weight @ data
    second = np.einsum("nm,mi,mj->nij", weight, data, data)
    return means, second - means[:, :, None] * means[:, None]


sigma = 0.6
alpha = np.sqrt(1 - sigma**2)
rng = np.random.default_rng(0)
data = mixture.sample(rng, 1500)
points = np.array([[0.9, 0.3], [0.1, 0.6], [-0.4, -0.2], [0.3, -1.2]])
means, covariances = predicted(points, alpha, sigma)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
left.plot(*data.T, ".", markersize=2, color="#8c8c8c", alpha=0.5)
circle = np.stack([np.cos(np.linspace(0, 2 * np.pi, 100)), np.sin(np.linspace(0, 2 * np.pi, 100))])
for i, (x, mean, covariance) in enumerate(zip(points, means, covariances, strict=True)):
    ellipse = mean[:, None] + 2 * np.linalg.cholesky(covariance) @ circle
    left.plot(*ellipse, color=COLOURS[i], label="two deviations" if i == 0 else None)
    left.plot(*np.stack([x, mean]).T, ":", color=COLOURS[i])
    left.plot(*x, "x", color=COLOURS[i], label="noisy point" if i == 0 else None)
left.set(xlabel="x₁", ylabel="x₂", aspect="equal")
left.legend(fontsize="small")

# %%
# Against simpler answers
# -----------------------
# The error of the covariance at fresh noisy points, relative to the weighed one: by the derivative of the score, with
# one variance for all points (the mean, as Analytic-DPM has it), and with that of standard normal data,
# :math:`\sigma^2/(\alpha^2+\sigma^2)`, as :math:`\Pi`-GDM assumes it.

levels = (0.2, 0.35, 0.5, 0.7, 0.85, 0.97)
errors = {"derivative of the score": [], "one variance for all": [], "standard normal data": []}
for seed in seeds:
    rng, rows = np.random.default_rng(seed), {name: [] for name in errors}
    many = mixture.sample(rng, 20_000)
    for sigma in levels:
        alpha = np.sqrt(1 - sigma**2)
        x = mixture.noised(alpha, sigma).sample(rng, 60)
        _, true = weighed(x, many, alpha, sigma)
        _, ours = predicted(x, alpha, sigma)
        one = np.trace(ours.mean(0)) / 2 * np.eye(2)
        guesses = (ours, one + 0 * true, sigma**2 * np.eye(2) + 0 * true)
        for name, guess in zip(errors, guesses, strict=True):
            rows[name].append(np.sqrt(((guess - true) ** 2).sum() / (true**2).sum()))
    for name, row in rows.items():
        errors[name].append(row)
for name, values in errors.items():
    spread(right, levels, values, name, marker="o")
    print(f"{name:24s}", np.mean(values, 0).round(3))
right.set(xlabel="noise level", ylabel="relative error of the covariance", yscale="log")
right.legend(fontsize="small")

# %%
# What the figure shows
# ---------------------
# Near a mode the ellipse has the shape of that mode, between two it points from the one to the other: the denoiser's
# answer there is in a place where no data are. The derivative of the score agrees with the weighed posterior as far as
# twenty thousand data points allow. Neither one variance for all nor that of standard normal data comes near it at any
# level: even where nearly all is noise and every posterior is the data's own law, that law is not round.
#
# Exercises
# ---------
# 1. Differentiate :math:`\log p(x) = \log\int N(x; \alpha x_0, \sigma^2)\,p(x_0)\,\mathrm dx_0` twice to find
#    :eq:`tweedie-covariance`.
# 2. What are both sides of :eq:`tweedie-jacobian` for data that are one Gaussian, and why do they not depend on x?
# 3. Average the covariance over noisy points. What is left of the data's covariance, by the law of total variance?

exact, one, normal = (np.array(values) for values in errors.values())
assert (exact < 0.15).all(), "the derivative of the score is the covariance, up to sampling"
assert (exact < one / 3).all() and (exact < normal / 3).all(), "simpler answers are at least three times as far"

# %%
# .. claim:: The covariance of the data given a noisy point is the Hessian of the log-density, scaled and shifted.
#     :experiment: a mixture of three Gaussians in the plane, six noise levels, sixty points each, five seeds
#     :controls: posteriors weighed from 20,000 data points without any score; one variance for all points; the variance
#         of standard normal data
#     :shown: yes: the error is that of the weighing, in every seed and at every level, and the simpler answers are at
#         least three times as far from it
