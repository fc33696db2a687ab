"""
A trust region without a constraint
===================================

With several samples of one state, a trust region in total variation is a linear program over ratios. Aggregational
policy censoring clips each ratio by what the others leave of the budget, and claims to have the same solution without
any constraint. We draw the objective and put the claim to the test.
"""

# %%
# Along a ray
# -----------
# Six answers to one prompt. All deviations of the ratios from 1 grow together. Within the budget nothing is clipped; a
# little beyond, answers that still have room are pulled back; far beyond, all are switched off.

import numpy as np
from scipy.optimize import linprog

from trref.experiments.figures import COLOURS, use_style
from trref.tokens.fiberpo_censoring import apc, penalised_radius, trpo_radius, tv_trpo_sample

plt = use_style()
figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.7))
A, state, radius = np.array([1.6, 0.5, 0.2, -0.4, -0.7, -1.2]), np.zeros(6, int), 0.2
direction = np.array([0.9, 0.1, 0.05, -0.1, -0.25, -0.7])
scale = np.linspace(0, 1.4, 281)
ratios = 1 + scale[:, None] * direction
values = np.array([-apc(r, A, state, radius=radius)[0] for r in ratios])
used = scale * abs(direction).mean() / radius
axes[0].plot(used, values, label="APC")
axes[0].plot(used, ratios @ A / 6, color=COLOURS[-1], linestyle=":", label="without clip")
axes[0].axvline(1, color=COLOURS[1], linewidth=1)
axes[0].set(xlabel="deviation, in budgets", ylabel="J", title="pass, roll back, off", ylim=(-0.02, 0.3))
axes[0].legend()
inside = used <= 1
assert np.allclose(values[inside], (ratios @ A / 6)[inside]) and values.argmax() == inside.sum() - 1
assert abs(values[-1] - A.mean()) < 1e-12, "far beyond: every ratio counts as 1"

# %%
# Two samples
# -----------
# The objective over both ratios, for advantages 1 and -1. Ratios of a policy lie on the line; there the best point is
# the solution of the linear program. Off the line there are better ones.

side = np.linspace(0.4, 1.6, 241)
pair, both = np.array([1.0, -1.0]), np.zeros(2, int)
J = np.array([[-apc(np.array([a, b]), pair, both, radius=radius)[0] for a in side] for b in side])
image = axes[1].pcolormesh(side, side, J, shading="auto", rasterized=True)
figure.colorbar(image, ax=axes[1], label="J")
axes[1].plot(side, 2 - side, color="white", linestyle="--", label="sum kept")
best = tv_trpo_sample(pair, both, radius=radius)
axes[1].plot(*best, "*", color=COLOURS[1], markersize=12, label="linear program")
axes[1].set(xlabel="ratio of the good sample", ylabel="ratio of the bad sample", title="two samples of a state")
axes[1].legend(fontsize=8, loc="upper right")
axes[1].grid(False)
on_line = np.array([-apc(np.array([a, 2 - a]), pair, both, radius=radius)[0] for a in side])
assert abs(side[on_line.argmax()] - best[0]) < 0.006 and abs(on_line.max() - radius) < 0.006

# %%
# Two hundred problems
# --------------------
# Random states, advantages that sum to 0, budgets. For each we solve the linear program and draw ratios that keep the
# sums, and others that don't, from well within to far outside the budget; among the latter is the point that raises the
# best sample by the whole budget and lowers none.

margins = {"sum kept": [], "sum not kept": []}
for seed in range(200):
    rng = np.random.default_rng(seed)
    n, budget = int(rng.integers(2, 7)), float(rng.choice((0.05, 0.2, 0.35)))
    A, state = rng.standard_normal(n), np.zeros(n, int)
    A -= A.mean()
    matrix = np.concatenate([np.ones((1, 2 * n)), np.hstack([-np.eye(n), np.eye(n)])])
    oracle = linprog(
        np.concatenate([-A, A]),
        A_ub=matrix,
        b_ub=np.append(n * budget, np.ones(n)),
        A_eq=np.append(np.ones(n), -np.ones(n))[None],
        b_eq=[0.0],
    )
    solution = tv_trpo_sample(A, state, radius=budget)
    at_solution = -float(apc(solution, A, state, radius=budget)[0])
    assert abs(at_solution + oracle.fun / n) < 1e-9, "the solution by sorting is that of the program"
    for kept in margins:
        alone = 1 + n * budget * (np.arange(n) == A.argmax())  # the whole budget for the best sample, taken from none
        best = -float(apc(alone, A, state, radius=budget)[0]) if "not" in kept else -np.inf
        for size in (0.3, 1.0, 3.0):
            for _ in range(30):
                u = size * budget * rng.standard_normal(n)
                u = u - u.mean() if "not" not in kept else u
                if u.min() > -1:
                    best = max(best, -float(apc(1 + u, A, state, radius=budget)[0]))
        margins[kept].append((best - at_solution) / at_solution)
bins = np.linspace(-1, 0.6, 41)
for name, margin in margins.items():
    axes[2].hist(margin, bins, alpha=0.6, label=f"{name}: best {max(margin):+.2f}")
axes[2].axvline(0, color=COLOURS[-1], linestyle=":")
axes[2].set(
    xlabel="best of 90 draws, relative to the solution", ylabel="problems", title="the theorem, and what it needs"
)
axes[2].legend(fontsize=8)
assert max(margins["sum kept"]) <= 1e-12, "never beaten by ratios that keep the sum"
beaten = np.mean(np.array(margins["sum not kept"]) > 1e-9)
print(f"ratios that don't keep the sum beat the solution in {beaten:.0%} of the problems")
assert beaten > 0.3

# %%
# The radius
# ----------
# What budget would the penalised form of TRPO choose? One proportional to 1 minus the discount: for undiscounted tasks,
# as language models have them, the theory allows no step at all.

for discount in (0.9, 0.99, 0.999, 0.9999):
    print(f"discount {discount}: largest radius {trpo_radius(discount):.2e}, of the last problem", end=" ")
    print(f"{float(penalised_radius(A, state, discount=discount)):.2e}")
    assert float(penalised_radius(A, state, discount=discount)) <= trpo_radius(discount)
assert trpo_radius(0.9999) < 2e-5

# %%
# .. claim:: An unconstrained clip has the same solution as a trust region in total variation on samples.
#     :experiment: 200 random problems with two to six samples of a state, 90 draws each
#     :controls: the linear program; ratios that don't keep the sum
#     :shown: yes, among ratios that keep the sum; without that condition the clip can be beaten
