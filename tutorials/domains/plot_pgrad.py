"""
What a trajectory keeps moving along
====================================

In each of four domains a feature gives the label away, another one in each. A trajectory passes through all domains:
how many directions does it have to speak of, and does following the leading ones find what holds in all domains?
"""

# %%
# The spectrum of a trajectory
# ----------------------------
# Three passes through four domains are twelve steps. In the control of the authors' repository every step starts at the
# same point, so that the points differ only by their domains' gradients.

import numpy as np

from trref.domains.fish import fish_step, inner_trajectory
from trref.domains.pgrad import parallel_trajectory, pgrad_step, spectrum
from trref.experiments.figures import spread, use_style
from trref.problems.domains import DomainLosses, shortcut_domains

plt = use_style()
seeds, S, passes, steps, inner, first_order = range(4), 4, 3, 200, 0.1, 0.1


def passes_through(rng):
    """An order for each pass."""
    return np.concatenate([rng.permutation(S) for _ in range(passes)])


def run(seed, way):
    """Ratio of weights, test accuracy, the spectra of trajectories, cosines of consecutive steps."""
    data, rng = shortcut_domains(np.random.default_rng(seed), domains=S), np.random.default_rng([seed, 1])
    losses = DomainLosses(data.features, data.labels)
    theta, spectra, moves = np.zeros(2 * data.features.shape[2]), [], []
    for step in range(steps):
        order = passes_through(rng)
        if step % 20 == 0:
            for walk in (inner_trajectory, parallel_trajectory):
                values = spectrum(walk(losses, theta, order, lr=inner))
                spectra.append(values[:-1] / values.sum())
        if way == "PGrad":
            new = pgrad_step(losses, theta, order, inner_lr=inner, lr=first_order / inner / passes)
        elif way == "Fish":
            new = fish_step(losses, theta, order, lr=inner, meta=first_order / inner / passes)
        else:
            new = theta - first_order * losses(theta)[1].sum(0)
        moves.append(new - theta)
        theta = new
    W = theta.reshape(-1, 2)
    w = W[:, 1] - W[:, 0]
    right = ((data.test_features @ W).argmax(1) == data.test_labels).mean()
    moves = np.array(moves) / np.linalg.norm(moves, axis=1, keepdims=True)
    return w[0] / w[1 : 1 + S].mean(), right, np.array(spectra), (moves[1:] * moves[:-1]).sum(1).mean()


ways = ("descent", "Fish", "PGrad")
runs = {way: [run(seed, way) for seed in seeds] for way in ways}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.5))
shares = {name: [each[2][k::2].mean(0) for each in runs["PGrad"]] for k, name in enumerate(("sequential", "parallel"))}
for name, values in shares.items():
    spread(axes[0], range(1, S * passes + 1), values, name, marker="o")
axes[0].set(xlabel="component", ylabel="share of the variance", yscale="log", ylim=(1e-8, 1))
axes[0].legend()
for k, way in enumerate(ways):
    axes[1].plot([k] * len(seeds), [each[0] for each in runs[way]], "o", label=way)
axes[1].set_xticks(range(len(ways)), ways)
axes[1].set(ylabel="weight of what is right, relative to shortcuts", ylim=(0, None))

# %%
# What the figures show
# ---------------------
# Of twelve components three hold nearly all of the variance, as many as there are ways in which four domains differ. In
# a sequence the first one holds more than in parallel steps, in every seed: that is the direction in which all of the
# steps go on. But what is learnt is the same: the ratio of weights under PGrad is that of Fish, and within a twentieth
# of plain descent on the mean loss, and so is the accuracy. The model is convex and the steps are short, and the
# leading component contains the largest gradients, common or not. Nor are PGrad's steps steadier: consecutive ones are
# nearly orthogonal, those of Fish are less so, those of descent on all rows agree.

ratio = {way: np.array([each[0] for each in runs[way]]) for way in ways}
right = {way: np.array([each[1] for each in runs[way]]) for way in ways}
cosine = {way: np.array([each[3] for each in runs[way]]) for way in ways}
for way in ways:
    print(
        f"{way}: ratio {ratio[way].round(2)}, accuracy {right[way].round(3)}, consecutive steps {cosine[way].round(2)}"
    )
first = {name: np.array(values)[:, 0] for name, values in shares.items()}
three = np.array(shares["sequential"])[:, :3].sum(1)
print("shares of the first component", {name: values.round(2).tolist() for name, values in first.items()})
assert (first["sequential"] > first["parallel"] + 0.05).all(), "a sequence has a leading direction, in every seed"
assert (three > 0.9).all(), "and three that matter"
assert (abs(ratio["PGrad"] / ratio["Fish"] - 1) < 0.02).all(), "what is learnt is what Fish learns"
assert (abs(ratio["PGrad"] / ratio["descent"] - 1) < 0.1).all(), "and what descent does"
assert abs(right["PGrad"] - right["descent"]).max() < 0.05, "with the same accuracy"
assert (cosine["PGrad"] < cosine["Fish"]).all(), "consecutive steps agree less than those of Fish"

# %%
# .. claim:: Principal components of a trajectory through the domains hold what domains share; following them
#     generalises better to a new domain.
#     :experiment: a linear classifier on four domains with a shortcut each, three passes a step, four seeds
#     :controls: gradient descent on the mean loss, Fish, and trajectories of parallel steps
#     :shown: in part: a sequence has a larger leading component than parallel steps, in every seed; weights and
#         accuracy are those of Fish and of descent, and consecutive steps do not agree more
#
# **Exercises.** (1) Follow the first component alone. Which weights change? (2) Lengthen the inner steps to 2, as in
# the tutorial of Fish. Does PGrad gain as Fish does? (3) Weigh by the square roots of the eigenvalues.
