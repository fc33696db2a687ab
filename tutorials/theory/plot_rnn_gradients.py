"""
Walls and plateaus of a recurrent network
=========================================

Fifty steps of one number are enough for a loss with a wall in it. What does a clip do there, and what does a longer
memory need besides?
"""

# %%
# A wall
# ------
# One unit with the logistic function, :math:`x_t = w\, \sigma(x_{t-1}) + b`, and a loss of its state after 50 steps.
# *Predict before you run*: how large is the gradient on the wall, if on half of the plane it is below 0.04?

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.optimizers.gradient_clipping import clip_global
from trref.theory.rnn_gradients import errors, jacobian_norms, norm_bound, states, vanishing_penalty

plt = use_style()
STEPS, GOAL = 50, 0.7


def sigma(x):
    return 1 / (1 + np.exp(-x))


def loss_and_grad(w, b):
    """For arrays of weights and biases: the loss (σ(x₅₀) - 0.7)², and its derivatives, pushed forward."""
    x = np.full_like(w, 0.5)
    by_w = by_b = np.zeros_like(w)
    for _ in range(STEPS):
        y = sigma(x)
        slope = w * y * (1 - y)
        x, by_w, by_b = w * y + b, y + slope * by_w, 1 + slope * by_b
    y = sigma(x)
    outer = 2 * (y - GOAL) * y * (1 - y)
    return (y - GOAL) ** 2, outer * by_w, outer * by_b


w, b = np.meshgrid(np.linspace(3, 7, 400), np.linspace(-5, -1, 400))
surface, by_w, by_b = loss_and_grad(w, b)
slopes = np.hypot(by_w, by_b)
print(f"slopes: median {np.median(slopes):.4f}, largest {slopes.max():.1f}")


def descend(start, *, threshold=None, lr=0.02, steps=400):
    """Points of gradient descent, clipped or not."""
    path = [np.array(start)]
    for _ in range(steps):
        _, *gradient = loss_and_grad(*(np.array([c]) for c in path[-1]))
        gradient = np.concatenate(gradient)
        path.append(path[-1] - lr * (clip_global(gradient, threshold=threshold) if threshold else gradient))
    return np.array(path)


steep = np.argwhere(slopes > 20)
steep = steep[:: max(len(steep) // 5, 1)][:5]
starts = [(w[i, j], b[i, j]) for i, j in steep]
jumps = {
    name: np.array([np.linalg.norm(np.diff(descend(s, threshold=c, steps=1), axis=0), axis=1).max() for s in starts])
    for name, c in (("plain", None), ("clipped", 0.5))
}
print("first step from the wall, plain and clipped:", np.round(jumps["plain"], 2), np.round(jumps["clipped"], 3))
figure, axes = plt.subplots(1, 2)
axes[0].contourf(w, b, surface, levels=12)
for name, c, colour in (("plain", None, COLOURS[5]), ("clipped", 0.5, COLOURS[0])):
    path = descend(starts[0], threshold=c, steps=60)
    axes[0].plot(*path.T, ".-", color=colour, label=name, ms=4, lw=1)
axes[0].set(xlabel="w", ylabel="b", xlim=(3, 7), ylim=(-5, -1))
axes[0].legend()

# %%
# How far a derivative reaches
# ----------------------------
# Norms of the derivative of the last state by earlier ones, for 30 tanh units whose matrix has a largest singular value
# of 0.7, 1.3 or 2.5, and the bound (:eq:`rnn-gradients-bound`).

SEEDS, UNITS, LENGTH = range(5), 30, 40
tables = {}
for size, colour in ((0.7, COLOURS[0]), (1.3, COLOURS[1]), (2.5, COLOURS[2])):
    rows = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        W = rng.standard_normal((UNITS, UNITS))
        W *= size / np.linalg.norm(W, 2)
        x = states(W, np.eye(UNITS), np.zeros(UNITS), np.zeros(UNITS), 0.1 * rng.standard_normal((LENGTH, UNITS)))
        rows.append(jacobian_norms(W, x))
        assert (rows[-1] <= norm_bound(W, x) * (1 + 1e-12)).all(), "never above the bound"
    tables[size] = np.array(rows)
    axes[1].semilogy(range(1, LENGTH + 1), np.median(rows, 0), color=colour, label=f"‖W‖ = {size}")
    if size < 1:
        axes[1].semilogy(range(1, LENGTH + 1), norm_bound(W, x), "--", color=colour, label="bound")
axes[1].set(xlabel="steps back", ylabel="norm of the derivative", ylim=(1e-12, 1e3))
axes[1].legend()

# %%
# What the penalty does
# ---------------------
# The penalty of :eq:`rnn-gradients-penalty` alone, followed for 60 steps from the matrix of 0.7, errors coming in at
# the last step only: the error that arrives at the first step, over the one at the last.

reach = {}
for name, weight in (("without", 0.0), ("with", 0.05)):
    rows = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        W = rng.standard_normal((UNITS, UNITS))
        W *= 0.7 / np.linalg.norm(W, 2)
        u, slopes_in = 0.1 * rng.standard_normal((20, UNITS)), np.zeros((20, UNITS))
        slopes_in[-1] = rng.standard_normal(UNITS)
        for _ in range(60):
            x = states(W, np.eye(UNITS), np.zeros(UNITS), np.zeros(UNITS), u)
            delta = errors(W, x, slopes_in)
            gradient = vanishing_penalty(W, x, delta)[1]
            W = W - weight * clip_global(gradient.ravel(), threshold=5.0).reshape(W.shape)
        rows.append(np.linalg.norm(delta[0]) / np.linalg.norm(delta[-1]))
    reach[name] = np.array(rows)
    print(f"share of the error that goes back 19 steps, {name} the penalty:", np.array(rows))

# %%
# On the wall a plain step is thrown across the plane, a clipped one stays near it. Derivatives through a matrix of
# small norm vanish, as the bound says; above 1 nothing is said, and tanh may still shrink them. The penalty keeps the
# error alive over 19 steps. That a network then *learns* longer tasks is not tested here.

assert slopes.max() > 1000 * np.median(slopes), "a wall"
assert (jumps["plain"] > 10 * jumps["clipped"]).all() and (jumps["clipped"] <= 0.02 * 0.5 * (1 + 1e-12)).all()
assert (tables[0.7][:, -1] < 1e-6).all(), "vanishing"
assert (tables[2.5][:, -1] > 1e3 * tables[1.3][:, -1]).all()
assert (reach["without"] < 1e-6).all() and (reach["with"] > 0.1).all() and (reach["with"] < 10).all()

# %%
# .. claim:: A clip keeps descent near walls of the loss; a penalty keeps gradients from vanishing.
#     :experiment: a loss of one unit over 50 steps; 30 tanh units over 40 steps and 20, 5 seeds
#     :controls: descent without the clip, the same networks without the penalty
#     :shown: yes for both mechanisms; that longer tasks are learned with them is not tried at this scale
#
# Replace ``sigma`` by ``np.tanh``: what becomes of the wall? Change the form of the penalty to "squared" and find the
# weight that does the same.
