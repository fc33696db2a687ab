"""
Moving all directions alike
===========================

A linear layer whose inputs differ in size by a factor of a hundred: the gradient is dominated by a few directions. Muon
makes the singular values of its momentum equal. When does that pay?
"""

# %%
# The residual of a linear layer
# ------------------------------
# The squared norm of A (X - C) for a 16 × 16 matrix A whose singular values span a factor κ, with random singular
# vectors, so that no coordinate stands out. Each rule at the best of four rates, which fall linearly to zero; five
# starts.

import numpy as np

from trref.experiments.descent import race
from trref.experiments.figures import spread, use_style
from trref.optimizers import adam, muon, sgd
from trref.problems.matrices import MatrixQuadratic

plt = use_style()
steps, seeds = 200, range(5)
rules = {
    "Muon": (muon, {}),
    "Muon, exact factor": (muon, {"factor": "svd"}),
    "Adam": (adam, {}),
    "momentum": (sgd, {"momentum": 0.95}),
}


def layer(condition):
    rng = np.random.default_rng(0)
    P, V = (np.linalg.qr(rng.standard_normal((16, 16)))[0] for _ in range(2))
    A = (P * np.geomspace(1, 1 / condition, 16)) @ V.T
    return MatrixQuadratic(A, np.eye(12), A @ rng.standard_normal((16, 12)))


best = {
    condition: race(
        layer(condition),
        lambda rng: rng.standard_normal((16, 12)),
        rules,
        rates=(0.03, 0.1, 0.3, 1.0),
        seeds=seeds,
        steps=steps,
        schedule=lambda k: 1 - k / steps,
    )
    for condition in (1, 100)
}
figure, axes = plt.subplots(1, 2, sharey=True)
for axis, (condition, results) in zip(axes, best.items(), strict=True):
    for name, result in results.items():
        spread(axis, range(steps + 1), [np.maximum(t.losses, 1e-10) for t in result.traces], name)
    axis.set(xlabel="step", yscale="log", title=f"κ = {condition}")
axes[0].set_ylabel("loss")
axes[0].legend()
ends = {
    (condition, name): np.array([t.losses[-1] for t in result.traces])
    for condition, results in best.items()
    for name, result in results.items()
}
for (condition, name), end in ends.items():
    print(f"κ = {condition:<4} {name:19} rate {best[condition][name].lr:<5g} losses at the end {end}")

# %%
# What the figure shows
# ---------------------
# With κ = 100 Muon is far ahead, and the exact factor as well: it is not an accident of the iteration. With κ = 1 all
# directions are alike, and there is nothing to gain.

for other in ("Adam", "momentum"):
    for name in ("Muon", "Muon, exact factor"):
        assert (ends[100, name] < 0.1 * ends[100, other].min()).all(), "where directions differ, in every start"
assert np.median(ends[1, "Adam"]) < np.median(ends[1, "Muon"]), "where they do not, Adam is better"

# %%
# .. claim:: Orthogonalised momentum trains matrices faster than Adam and SGD.
#     :experiment: the residual of a linear layer with inputs of like and unlike size, five starts, 200 steps
#     :controls: Adam and heavy ball at their own best rates; Muon with the exact polar factor; a well conditioned layer
#     :shown: in part: where directions differ a hundredfold, by a factor of ten and more in every start; where they do
#         not, Adam is better. Large networks are not compared
