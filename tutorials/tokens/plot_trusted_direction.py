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
# gradients of the proxy: 1 for the right class and 1.2 for class 0, whatever the input.

import numpy as np
from scipy.special import softmax

from trref.experiments.figures import spread, use_style
from trref.tokens.trusted_direction import explained_share, project_gradient, weighted_projection

plt = use_style()
V, D, N, SEEDS, STEPS = 12, 25, 240, range(6), 600


def run(kind, rank, seed):
    """True accuracy, rate of the shortcut among other classes, trusted share; every tenth step."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % V
    X = np.c_[rng.standard_normal((V, D - 1))[labels] + 1.2 * rng.standard_normal((N, D - 1)), np.ones(N)]
    right, W = np.eye(V)[labels], np.zeros((V, D))
    for _ in range(40):
        W -= 0.05 * (softmax(X @ W.T, 1) - right).T @ X / N
    delta = W if kind != "random" else rng.standard_normal((V, D))
    reward, path = right + 1.2 * np.eye(V)[0], []
    for step in range(STEPS):
        p = softmax(X @ W.T, 1)
        G = -(p * (reward - (p * reward).sum(1, keepdims=True))).T @ X / N
        if step % 10 == 0:
            others = labels > 0
            path.append([(p * right).sum(1).mean(), p[others, 0].mean(), float(explained_share(G, delta, rank=rank))])
        if kind == "weighted":
            G = weighted_projection(G, delta, rank=rank)
        elif kind != "none":
            G = project_gradient(G, delta, rank=rank, side="input" if kind == "input" else "output")
        W = W - 0.1 * G
    return np.array(path).T


KINDS = {"none": "no projection", "output": "trusted outputs", "weighted": "trusted, weighted",
         "input": "trusted inputs", "random": "random outputs"}  # fmt: skip
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
final = {}
for kind, label in KINDS.items():
    runs = np.array([run(kind, 2, seed) for seed in SEEDS])
    final[kind] = runs[:, :, -1]
    for axis, column in zip(axes, range(3), strict=True):
        spread(axis, range(0, STEPS, 10), runs[:, column].tolist(), label)
    print(f"{label:20s} hack rate {runs[:, 1, -1].mean():.2f}, accuracy {runs[:, 0, -1].mean():.2f}")
for axis, name in zip(axes, ("true accuracy", "rate of the shortcut", "trusted share of the gradient"), strict=True):
    axis.set(xlabel="step", ylabel=name)
axes[0].legend(fontsize=8)
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
# The projection delays the shortcut, and so does a random subspace: most of the effect is to have fewer directions to
# move in. The trusted one does somewhat better on both counts, accuracy and shortcut. With more directions hacking
# returns, for class 0 is a legitimate answer, too, and lies within the trusted span.

for kind in ("output", "weighted", "random"):
    assert final[kind][:, 1].mean() < 0.5 * final["none"][:, 1].mean()
assert final["output"][:, 0].mean() > final["random"][:, 0].mean()
assert hack["output"].mean() < hack["random"].mean()
assert hack["output"][:, -1].mean() > 3 * hack["output"][:, 1].mean(), "hacking returns with the rank"

# %%
# .. claim:: Gradients projected onto the directions of a clean warm-up mitigate reward hacking.
#     :experiment: softmax policy, 40 clean steps, 600 exact steps on the proxy, ranks 1 to 8, 6 seeds
#     :controls: no projection, input side, a random subspace of the same rank
#     :shown: in part: hacking is delayed at small ranks, by a random subspace nearly as much; it returns at 8
