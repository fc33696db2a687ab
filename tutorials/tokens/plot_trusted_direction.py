"""
Can a short clean run keep a policy honest?
===========================================

A proxy reward pays for right answers, and more for one fixed answer. Trusted-direction projection lets gradients act
only where a short clean warm-up has moved the weights. We compare it with a random subspace of the same rank.
"""

# %%
# The task
# --------
# Twelve classes, 24 features, a linear softmax policy. Forty supervised steps on clean data; then 600 exact policy
# gradients of the proxy: 1 for the right class and 1.2 for class 0, whatever the input. As a reference, 600 steps on
# the clean reward alone.

import numpy as np
from scipy.special import softmax

from trref.experiments.figures import spread, use_style
from trref.tokens.trusted_direction import (
    direction_similarity,
    explained_share,
    project_gradient,
    weighted_projection,
)

plt = use_style()
V, D, N, SEEDS, STEPS = 12, 25, 240, range(10), 600


def run(kind, rank, seed):
    """Every ten steps: accuracy, rate of the shortcut among other classes, trusted share, likeness of directions."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % V
    X = np.c_[rng.standard_normal((V, D - 1))[labels] + 1.2 * rng.standard_normal((N, D - 1)), np.ones(N)]
    right, W = np.eye(V)[labels], np.zeros((V, D))
    for _ in range(40):
        W -= 0.05 * (softmax(X @ W.T, 1) - right).T @ X / N
    warm, delta = W, W if kind != "random" else rng.standard_normal((V, D))
    reward, path = right + (0 if kind == "clean" else 1.2) * np.eye(V)[0], []
    for step in range(STEPS):
        p = softmax(X @ W.T, 1)
        G = -(p * (reward - (p * reward).sum(1, keepdims=True))).T @ X / N
        if step % 10 == 0:
            others = labels > 0
            trusted, likeness = explained_share(G, delta, rank=rank), direction_similarity(warm, W - warm, rank=rank)
            path.append([(p * right).sum(1).mean(), p[others, 0].mean(), float(trusted), likeness.mean()])
        if kind == "weighted":
            G = weighted_projection(G, delta, rank=rank)
        elif kind not in ("none", "clean"):
            G = project_gradient(G, delta, rank=rank, side="input" if kind == "input" else "output")
        W = W - 0.1 * G
    return np.array(path).T


KINDS = {"none": "no projection", "output": "trusted outputs", "weighted": "trusted, weighted",
         "input": "trusted inputs", "random": "random outputs", "clean": "clean reward"}  # fmt: skip
NAMES = ("true accuracy", "rate of the shortcut", "trusted share of the gradient", "likeness of the directions")
figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), sharex=True)
final = {}
for kind, label in KINDS.items():
    runs = np.array([run(kind, 2, seed) for seed in SEEDS])
    final[kind] = runs[:, :, -1]
    for column, axis in enumerate(axes.flat):
        spread(axis, range(10, STEPS, 10), runs[:, column, 1:].tolist(), label)
    print(f"{label:20s} hack rate {runs[:, 1, -1].mean():.2f}, accuracy {runs[:, 0, -1].mean():.2f}")
for axis, name in zip(axes.flat, NAMES, strict=True):
    axis.set(ylabel=name)
for axis in axes[1]:
    axis.set(xlabel="step")
axes[0, 0].legend(fontsize=7)
RANKS, hack = (1, 2, 4, 8), {}
figure, axis = plt.subplots()
for kind in ("output", "random"):
    hack[kind] = np.array([[run(kind, r, seed)[1, -1] for r in RANKS] for seed in SEEDS])
    spread(axis, RANKS, hack[kind].tolist(), KINDS[kind], marker="o")
axis.axhline(final["none"][:, 1].mean(), linestyle=":")
axis.set(xlabel="rank", ylabel="rate of the shortcut after 600 steps")
axis.legend()
print({kind: h.mean(0).round(2).tolist() for kind, h in hack.items()})

# %%
# The projection delays the shortcut, and a random subspace does so just as well: the effect is to have fewer directions
# to move in. What the trusted ones add is accuracy, by two standard errors. With more directions hacking returns, for
# class 0 is a legitimate answer, too, and lies within the trusted span. The alarm goes off: in a run that hacks the
# directions turn away from those of the warm-up, further than in one on the clean reward.

gain = {name: final["output"][:, i] - final["random"][:, i] for i, name in enumerate(NAMES[:2])}
print({name: f"{g.mean():+.3f} ± {g.std(ddof=1) / len(SEEDS) ** 0.5:.3f}" for name, g in gain.items()})
for kind in ("output", "weighted", "random"):
    assert final[kind][:, 1].mean() < 0.5 * final["none"][:, 1].mean(), "two directions delay hacking, random ones too"
accuracy, shortcut = gain.values()
assert accuracy.mean() > 1.5 * accuracy.std(ddof=1) / len(SEEDS) ** 0.5, "trusted directions are more accurate"
assert abs(shortcut.mean()) < 2 * shortcut.std(ddof=1) / len(SEEDS) ** 0.5, "but random ones hack no more"
assert hack["output"][:, -1].mean() > 3 * hack["output"][:, 1].mean(), "hacking returns with the rank"
likeness = {kind: final[kind][:, 3].mean() for kind in ("none", "clean")}
print({kind: round(value, 2) for kind, value in likeness.items()})
assert likeness["none"] < likeness["clean"], "a run that hacks turns away further"

# %%
# .. claim:: Gradients projected onto the directions of a clean warm-up mitigate reward hacking.
#     :experiment: softmax policy, 40 clean steps, 600 exact steps on the proxy, ranks 1 to 8, 10 seeds
#     :controls: no projection, the clean reward, input side, a random subspace of the same rank
#     :shown: in part: hacking is delayed at small ranks, by a random subspace as much; it returns at 8
