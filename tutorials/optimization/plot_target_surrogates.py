"""
Many steps of the model for one gradient of the loss
====================================================

The gradient of a loss by a model's outputs can be dear: a simulator computes it, or a person. Once it is there, a bound
of the loss can be minimised with the model alone. How many gradients does that save?
"""

# %%
# Odd and even digits
# -------------------
# Logistic regression on images whose pixels are strongly correlated. All rows in each round, and the step length 1/L of
# the outputs: the loss cannot rise. *Predict before you run*: after one gradient, how far can a hundred steps of the
# model go, and what holds them back?

import numpy as np

from trref.experiments.figures import use_style
from trref.optimization.target_surrogates import decaying_eta, linear_minimiser, sso
from trref.problems.digits import digits
from trref.problems.networks import ClassifierLoss
from trref.problems.target_losses import BinaryTargets

plt = use_style()
data = digits()
SEEDS, ROUNDS, STEPS, PART, BATCH = range(3), 24, (1, 4, 16), 300, 30
LBFGS = {"method": "lbfgs", "memory": 5}


def task(seed):
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data.X_train))[:PART]
    odd = (data.y_train[rows] + (rng.random(PART) < 0.15)) % 2  # some labels are wrong, so that noise remains
    return ClassifierLoss(data.X_train[rows] * 4, data.y_train[rows], (64, 1)), BinaryTargets(odd[:, None] * 1.0)


def losses(network, loss, path):
    return np.array([float(loss(network.logits(theta))[0]) for theta in path])


def full_batches(seed):
    """The loss after each gradient: of the method with m steps, of its limit, and of gradient descent at its best."""
    network, loss = task(seed)
    start, etas = np.zeros(65), np.full(ROUNDS, 4.0 * PART)
    X = np.c_[network.X, np.ones(PART)]
    curves = {f"m = {m}": losses(network, loss, sso(network, loss, start, etas, steps=m, **LBFGS)) for m in STEPS}
    path = [np.zeros((65, 1))]
    for _ in range(ROUNDS):
        path.append(linear_minimiser(X, path[-1], loss(X @ path[-1])[1], eta=4.0 * PART))
    curves["m = ∞"] = np.array([float(loss(X @ theta)[0]) for theta in path])
    longest = 4 * PART / np.linalg.norm(X, 2) ** 2
    plain = [
        losses(network, loss, sso(network, loss, start, etas, steps=1, lr=c * longest, method="gradient"))
        for c in (1, 2, 4)
    ]
    curves["gradient descent"] = min(plain, key=lambda values: values[-1])
    return curves


full = [full_batches(seed) for seed in SEEDS]

# %%
# Small batches
# -------------
# Thirty rows a round. The surrogate holds the outputs of these rows only, and many steps fit them ever better.


def batches(seed):
    network, loss = task(seed)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, PART, (4 * ROUNDS, BATCH))
    constant = np.full(len(rows), 4.0 * BATCH)
    falling = decaying_eta(np.arange(len(rows)) + 1.0, eta=4.0 * BATCH)
    runs = {"m = 1": (1, constant), "m = 16": (16, constant), "m = 16, falling": (16, falling)}
    return {
        name: losses(network, loss, sso(network, loss, np.zeros(65), etas, rows, steps=m, **LBFGS)[::4])
        for name, (m, etas) in runs.items()
    }


small = [batches(seed) for seed in SEEDS]

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True)
for axis, curves, unit in ((axes[0], full, 1), (axes[1], small, 4)):
    for number, name in enumerate(curves[0]):
        for k, run in enumerate(curves):
            axis.semilogy(unit * np.arange(len(run[name])), run[name], color=f"C{number}", label=None if k else name)
    axis.legend()
axes[0].set(xlabel="gradients of the loss, all rows", ylabel="mean loss")
axes[1].set(xlabel="gradients of the loss, 30 rows")

# %%
# What the figure shows
# ---------------------
# With all rows the loss falls in each round, and the more steps, the more for each gradient: sixteen of them are near
# the exact minimum, where the correlations of the pixels no longer matter, and after five gradients they are below what
# gradient descent has after all of them. With small batches many steps of constant length fit thirty rows, wrong labels
# included, and forget the others: the loss goes up. With falling lengths they are better than one step.

for name in full[0]:
    print(f"{name}: after 24 gradients {np.round([run[name][-1] for run in full], 4)}")
for name in small[0]:
    print(f"batches, {name}: after 96 {np.round([run[name][-10:].mean() for run in small], 4)}")

# %%
# .. claim:: Many steps on the surrogate for one gradient reach a lower loss with fewer gradients, and with all rows the
#         loss never rises.
#     :experiment: odd and even digits, logistic regression, 300 images, 3 seeds, 24 rounds of all rows
#     :controls: one step; gradient descent with the best of three step lengths; the exact minimum; batches of 30
#     :shown: yes with all rows, in each seed; with small batches only if the step length falls
#
# The surrogate's length is 1/L here. Take ten times as much: does the loss still fall? And search for it with
# `armijo_eta` in each round: how long does it get near the end, and why?

for run in full:
    for name, values in run.items():
        assert name == "gradient descent" or (np.diff(values) < 1e-12).all(), "the loss never rises"
    ends = [run[name][-1] for name in ("m = ∞", "m = 16", "m = 4", "m = 1", "gradient descent")]
    assert ends == sorted(ends), "more steps, less loss"
    assert run["m = 16"][5] < run["gradient descent"][-1], "five gradients are worth more than 24 of gradient descent"
for run in small:
    means = {name: values[-10:].mean() for name, values in run.items()}
    assert means["m = 16"] > means["m = 1"], "with small batches, many steps of constant length fit noise"
    assert means["m = 16, falling"] < means["m = 1"], "and many steps of falling length are better than one"
