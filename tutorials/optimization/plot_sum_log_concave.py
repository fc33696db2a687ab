"""
A checkerboard of two linear decisions
======================================

Two classes in opposite corners: no line tells them apart. The parity of two linear decisions does, and its loss, though
not convex, has tangents that can be trusted. Does descent find the checkerboard?
"""

# %%
# A tangent from elsewhere
# ------------------------
# A mixture of two Gaussians: minus its log is a curve with two valleys. The tangent at one point lies above it
# somewhere. The cross-tangent, with the posterior weights of the point that it is compared with, plus a divergence,
# never does. *Predict before you run*: where do the two tangents touch?

import numpy as np

from trref.experiments.figures import use_style
from trref.optimization.checkered import checkoid_loss
from trref.optimization.sum_log_concave import convexity_gap, posterior, slc_loss
from trref.problems.samples import QuadraticSamples

plt = use_style()
STARTS, STEPS = range(20), 400
valleys = QuadraticSamples(np.ones((2, 1)), np.array([[2.5], [-2.5]]))  # (x ∓ 2.5)²/2, up to a constant
here, line = np.array([1.2]), np.linspace(-4.5, 4.5, 181)[:, None]
curve = np.array([slc_loss(valleys, x)[0] for x in line])
value, slope = slc_loss(valleys, here)
gaps = np.array([convexity_gap(valleys, here, x, posterior(valleys, x)) for x in line])
tangent = value + slope[0] * (line[:, 0] - here[0])

# %%
# Four corners
# ------------
# Two hundred points around the corners of a square, opposite ones of one class. Checkered regression with two decisions
# from 20 random starts, by gradient descent with momentum; logistic regression is the same with one decision.


def corners(rng, count):
    signs = rng.choice([-1.0, 1.0], (count, 2))
    X = signs + np.sqrt(0.2) * rng.standard_normal((count, 2))
    return np.c_[X, np.ones(count)], (signs.prod(1) < 0) * 1.0


def trained(X, labels, decisions, seed, steps=STEPS):
    W = 0.5 * np.random.default_rng(seed).standard_normal((X.shape[1], decisions))
    velocity = 0 * W
    for _ in range(steps):
        velocity = 0.9 * velocity - 0.5 * X.T @ checkoid_loss(X @ W, labels)[1]
        W = W + velocity
    return W, float(checkoid_loss(X @ W, labels)[0])


def accuracy(W, X, labels):
    return (((X @ W / 2).clip(-30, 30)).prod(1) < 0).astype(float) == labels


rng = np.random.default_rng(0)
(X, labels), (X_new, labels_new) = corners(rng, 200), corners(rng, 4000)
bayes = ((X_new[:, :2].prod(1) < 0) == labels_new).mean()
found = {m: [trained(X, labels, m, seed) for seed in STARTS] for m in (1, 2)}
scores = {m: np.array([accuracy(W, X_new, labels_new).mean() for W, _ in runs]) for m, runs in found.items()}
print(f"right on new points: the best rule {bayes:.3f}, one decision {scores[1].round(3).max():.3f} at best")
print(f"two decisions, from each start: {np.sort(scores[2]).round(3).tolist()}")

# %%
# Rock, paper, scissors
# ---------------------
# Who beats whom, from the difference of two indicators. A score for each, the model of Bradley and Terry, is one
# decision, and cannot do it. Three decisions without a constant are odd in the difference, as they must be.

pairs = [(0, 1), (1, 2), (2, 0)]
games = np.array([np.eye(3)[i] - np.eye(3)[j] for i, j in pairs + [(j, i) for i, j in pairs]])
won = np.r_[np.ones(3), np.zeros(3)]
rounds = {m: np.array([trained(games, won, m, seed)[1] for seed in STARTS]) for m in (1, 3)}
print(f"rock, paper, scissors: one decision {rounds[1].max():.3f}, three {np.sort(rounds[3]).round(3).tolist()}")

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
axes[0].plot(line, curve, label="F")
axes[0].plot(line, tangent, label="tangent")
axes[0].plot(line, curve - gaps, label="cross-tangent and divergence")
axes[0].plot(here, value, "o", color="0.5")
axes[0].set(xlabel=r"$\eta$", ylabel="loss", ylim=(-4, 9))
axes[0].legend()
best = found[2][int(np.argmin([loss for _, loss in found[2]]))][0]
side = np.linspace(-2.5, 2.5, 80)
grid = np.stack([*np.meshgrid(side, side), np.ones((80, 80))], -1)
p = (1 - np.tanh(grid @ best / 2).prod(-1)) / 2
axes[1].contourf(side, side, p, levels=np.linspace(0, 1, 11), alpha=0.6)
axes[1].scatter(*X[:, :2].T, c=labels, s=10, edgecolors="0.5", linewidths=0.4)
axes[1].set(xlabel=r"$x_1$", ylabel=r"$x_2$", title="probability of the second class")
axes[2].plot(np.sort([loss for _, loss in found[2]]), "o-", label="corners, two decisions")
axes[2].plot(np.sort(rounds[3]), "s-", label="games, three decisions")
axes[2].axhline(np.log(2), color="0.5", linewidth=1, label="log 2")
axes[2].set(xlabel="start, sorted", ylabel="loss after training")
axes[2].legend()

# %%
# What the figure shows
# ---------------------
# The tangent is above the loss in the other valley; the cross-tangent with its divergence is below it everywhere, and
# touches at the point. Two decisions find the checkerboard from most starts and are then nearly as good as the best
# rule; from some they stay in a local minimum, as convexity seen from elsewhere does not say where to look from. One
# decision is no better than a coin. Rock, paper, scissors is learned from all starts, with one decision from none.

assert (tangent > curve + 0.1).any() and (gaps >= -1e-12).all() and gaps[np.argmin(abs(line[:, 0] - 1.2))] < 1e-12
success = {"corners": (scores[2] > bayes - 0.02).mean(), "games": (rounds[3] < 0.1).mean()}
print(f"share of the starts that succeed: {success}")

# %%
# .. claim:: Sum-log-concave losses have a convexity inequality with the cross-gradient, and checkered regression learns
#         what logistic regression cannot.
#     :experiment: a mixture of two parts; points in four corners and rock, paper, scissors, 20 starts each
#     :controls: the ordinary tangent; one decision, which is logistic regression; the best rule
#     :shown: yes; in the corners descent does not succeed from all starts
#
# Start from weights of 0: where does descent go, and why? And give the corners four decisions: are there more starts
# from which it fails, or fewer?

assert scores[1].max() < 0.62 and abs(rounds[1] - np.log(2)).max() < 1e-3, "one decision learns nothing"
assert success["corners"] >= 0.5 and success["games"] >= 0.5, "most starts succeed"
