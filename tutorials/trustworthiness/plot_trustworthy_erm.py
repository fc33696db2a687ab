"""
Three switches against one shortcut
===================================

A strong feature that is right in 95 of 100 training samples, and a weak one that is always as good as it looks. Worst
data, worst samples, worst groups: all three are the same objective with another switch. Which of them removes the
shortcut, and does one make it worse?
"""

# %%
# The task
# --------
# Labels have a weak core feature and a strong nuisance, aligned with the label in 95 % of the training samples and in
# half of the test samples (:func:`trref.problems.domains.spurious_groups`): four groups of label and nuisance, two of
# them rare. A linear classifier is trained with each switch. *Predict before you run*: is a classifier that resists
# perturbations of its input one that uses the core feature more, or less?

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.problems.domains import spurious_groups
from trref.trustworthiness.causal_ladder import flipped, intervention_weights
from trref.trustworthiness.robust_reweighting import (
    balanced_weights,
    chi_square_ball,
    cvar,
    effective_size,
    group_weights,
    kl_ball,
)
from trref.trustworthiness.trustworthy_erm import master_objective

plt = use_style()
SEEDS, STEPS, LR = 5, 120, 1.0
MOVABLE = np.array([1.0] * 5 + [0.0])  # all but the constant


def train(X, labels, weights=None, group=None, **switch):
    """Gradient descent; with groups given, their weights are stepped beside it."""
    theta, q = np.zeros(6), np.full(4, 0.25)
    for _ in range(STEPS):
        if group is not None:
            losses = np.logaddexp(0, -(2 * labels - 1) * (X @ theta))
            each = np.array([losses[group == g].mean() for g in range(4)])
            q = group_weights(q, each, lr=0.05)
            weights = q[group] / np.bincount(group)[group]
        theta = theta - LR * master_objective(theta, X, labels, weights, MOVABLE, **switch)[1]
    return theta


def both(train_set, effect):
    """The training set, and every sample as it would be with the other nuisance."""
    other = flipped(train_set.X, (train_set.group % 2).astype(float), effect)
    return np.concatenate([train_set.X, other]), np.concatenate([train_set.labels, train_set.labels])


def measure(theta, test):
    right = (test.X @ theta > 0) == test.labels
    worst = min(right[test.group == g].mean() for g in range(4))
    return right.mean(), worst, abs(theta[1]) / abs(theta[0])


NAMES = (
    "plain",
    "worst data",
    "worst share",
    "ball of weights",
    "balanced",
    "P(y)P(s)/P(y,s)",
    "worst group",
    "flipped",
)
rows = []
for seed in range(SEEDS):
    rng = np.random.default_rng(seed)
    data, test = spurious_groups(rng, 600), spurious_groups(rng, 4000, aligned=0.5)
    X, y = data.X, data.labels.astype(float)
    weights = intervention_weights(data.labels, data.group % 2)
    X_both, y_both = both(data, np.array([0, 4.0, 0, 0, 0, 0]))  # nuisances are at -2 and 2
    thetas = (
        train(X, y),
        train(X, y, rho=0.5),
        train(X, y, reweighting="cvar", level=0.1),
        train(X, y, reweighting="kl_ball", radius=0.5),
        train(X, y, balanced_weights(data.group, groups=4)),
        train(X, y, weights),
        train(X, y, group=data.group),
        train(X_both, y_both.astype(float)),
    )
    rows.append([measure(theta, test) for theta in thetas])
table = np.array(rows)
mean, worst, ratio = table.mean(0).T
for name, m, w, r in zip(NAMES, mean, worst, ratio, strict=True):
    print(f"{name:16s} mean {m:.3f}, worst group {w:.3f}, nuisance over core {r:.2f}")
print(f"balanced weights are worth {effective_size(weights):.0f} of {len(weights)} samples")

losses = np.random.default_rng(0).exponential(1, 200)
levels = np.geomspace(0.005, 0.95, 40)
radii = np.geomspace(1e-3, 5, 40)
figure, axes = plt.subplots(1, 2, figsize=(10, 4), width_ratios=(1.5, 1))
places = np.arange(len(NAMES))
axes[0].barh(places - 0.2, mean, 0.4, color=COLOURS[0], label="mean")
axes[0].barh(places + 0.2, worst, 0.4, color=COLOURS[5], label="worst group")
axes[0].set_yticks(places, NAMES)
axes[0].invert_yaxis()
axes[0].set(xlabel="test accuracy", xlim=(0, 1), title="One objective, eight switches")
axes[0].legend()
for name, f in (("divergence", kl_ball), ("squared deviation", chi_square_ball)):
    axes[1].plot(radii, [f(losses, radius=r)[0] for r in radii], label=name)
axes[1].plot(np.log(1 / levels), [cvar(losses, level=a)[0] for a in levels], label="worst share, log 1/α")
small = losses.mean() + np.sqrt(2 * radii * losses.var())
axes[1].plot(radii, np.minimum(small, losses.max()), "--", color=COLOURS[-1], label="mean + √(2ρ Var)")
axes[1].set(xscale="log", xlabel="radius", ylabel="worst mean loss", title="One vector of losses")
axes[1].legend()

# %%
# Who knows the groups removes the shortcut: by balancing, by an intervention on the weights, by the worst group, by
# samples with the other nuisance. Weights that only see losses help less, because the largest losses are noise as
# often as they are of the rare groups. And resistance to perturbations makes the shortcut *worse* than plain training:
# of two features the one with the larger margin survives an attack, and that is the nuisance. Three switches of one
# objective, with opposite effects on the same fault.

plain, data_, share, ball, *informed = table[:, :, 1].T
assert all((one > plain + 0.3).all() for one in informed), "groups remove the shortcut"
assert (abs(table[:, 4:, 2]) < 0.5 * table[:, :1, 2]).all(), "and the weight of the nuisance"
assert (data_ < plain).all() and (table[:, 1, 2] > table[:, 0, 2]).all(), "worst data make it worse"
assert max(share.mean(), ball.mean()) < min(one.mean() for one in informed) - 0.2, "losses alone help less"
for f, setting in ((cvar, {"level": 0.2}), (kl_ball, {"radius": 0.5}), (chi_square_ball, {"radius": 0.5})):
    assert losses.mean() < f(losses, **setting)[0] < losses.max()

# %%
# .. claim:: Methods of trustworthy learning that were developed apart share one objective with plain ERM, whose
#     shortcomings they repair.
#     :experiment: a linear classifier with a shortcut, eight switches of one function, five draws
#     :controls: plain ERM; switches that see perturbations, losses or groups
#     :shown: yes that they share it; not that each repairs: without the groups little is won, and resistance loses
#
# Let 99 % of the nuisances be aligned. Which of the informed four suffers first, and what does ``effective_size`` say?
# Set ``rho`` on the nuisance alone: what does an adversary do who knows the shortcut?
