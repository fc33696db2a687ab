"""
How sparse is the Hessian, and what does a solve cost?
======================================================

Newton's method on the dual of entropic transport needs the solution of a linear system. Near a vertex of the transport
polytope almost all of the matrix can be dropped. What is left is sparse, but is it easy?
"""

# %%
# What is dropped
# ---------------
# A random assignment of 200 points after twenty Sinkhorn sweeps. The solid lines give the share of the plan's mass that
# is lost if only the largest entries are kept; a smooth problem on a line is the contrast.

import warnings

import numpy as np

from trref.catalog.transport.sinkhorn_newton_sparse_hessian import dense_matrix
from trref.experiments.figures import COLOURS, spread, use_style
from trref.krylov.cg import cg
from trref.problems.convex import DenseOperator
from trref.transport.sinkhorn import sinkhorn_scaling
from trref.transport.sinkhorn_newton_sparse_hessian import dropped_mass, newton_direction
from trref.validate import ConvergenceWarning

plt = use_style()
warnings.simplefilter("ignore", ConvergenceWarning)  # the sweeps are stopped early on purpose
n, uniform = 200, np.full(200, 1 / 200)


def after_sweeps(cost, a, b, eta):
    return sinkhorn_scaling(cost, a, b, reg=1 / eta, tol=1e-14, max_iter=20).plan


def random_plan(seed, eta):
    return after_sweeps(np.random.default_rng(seed).random((n, n)), uniform, uniform, eta)


s = np.linspace(0, 1, n)
bumps = [np.exp(-((s - m) ** 2) / 0.02) + 0.01 for m in (0.3, 0.6)]
smooth = after_sweeps((s[:, None] - s) ** 2, *(p / p.sum() for p in bumps), 1200)
budgets = [1, 2, 4, 8, 16, 32]
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6))
lost = {}
for eta, colour in zip((300, 600, 1200), COLOURS, strict=False):
    lost[eta] = [[float(dropped_mass(random_plan(k, eta), keep=c / n)) / 2 for c in budgets] for k in range(5)]
    spread(axes[0], budgets, lost[eta], f"assignment, eta = {eta}", color=colour)
of_smooth = [float(dropped_mass(smooth, keep=c / n)) / 2 for c in budgets]
axes[0].plot(budgets, of_smooth, color=COLOURS[5], linestyle="--", label="smooth, eta = 1200")
axes[0].set(xlabel="entries kept per row", ylabel="mass dropped", xscale="log", yscale="log", ylim=(1e-20, 2))
axes[0].legend()

# %%
# What a solve costs
# ------------------
# Conjugate gradients on the whole matrix with its diagonal as preconditioner, as in the paper, against the system for
# one block with the diagonal of that: the same direction from fewer iterations.

counts = {"whole matrix": {}, "one block": {}}
for eta in (100, 200, 400, 800, 1600):
    for name in counts:
        counts[name][eta] = []
    for seed in range(5):
        plan = random_plan(seed, eta)
        M, q = dense_matrix(plan, 8 / n), np.concatenate([uniform - plan.sum(1), uniform - plan.sum(0)])
        whole = cg(DenseOperator(M), q, preconditioner=DenseOperator(np.diag(1 / np.diag(M))), rtol=1e-8, max_iter=5000)
        block = newton_direction(plan, uniform, uniform, keep=8 / n, rtol=1e-8)
        ours = np.concatenate([block.df, block.dg])
        assert np.linalg.norm(q - M @ ours) <= 1e-5 * np.linalg.norm(q), "both solve the same system"
        counts["whole matrix"][eta].append(whole.iterations)
        counts["one block"][eta].append(block.iterations)
for (name, by_eta), colour in zip(counts.items(), COLOURS, strict=False):
    spread(axes[1], list(by_eta), list(zip(*by_eta.values(), strict=True)), name, color=colour, marker="o")
axes[1].set(xlabel="eta", ylabel="conjugate-gradient iterations", xscale="log", yscale="log")
axes[1].legend()

# %%
# What the figures show
# ---------------------

print(
    "dropped with 8 a row:", {eta: f"{np.mean(v, 0)[3]:.1e}" for eta, v in lost.items()}, f"smooth {of_smooth[3]:.1e}"
)
print("iterations:", counts)
assert all(run[3] < 0.01 for run in lost[1200]), (
    "eight entries a row hold all but a hundredth of the mass at eta = 1200"
)
assert np.mean(lost[1200], 0)[3] < np.mean(lost[300], 0)[3] / 5, "the larger eta, the sparser"
assert of_smooth[3] > 0.05, "but a smooth plan is not sparse"
for eta in (400, 800, 1600):
    assert max(counts["one block"][eta]) < min(counts["whole matrix"][eta]) / 3, "and eliminating one block pays"
assert min(counts["whole matrix"][1600]) > 5 * max(counts["whole matrix"][100]), "solves get harder as eta grows"

# %%
# .. claim:: After a few sweeps the Hessian of the dual is nearly sparse, so that a Newton step costs about as much as
#     a sweep.
#     :experiment: random assignments of 200 points after twenty sweeps, five seeds, eta 100 to 1600; one smooth
#         problem
#     :controls: the smooth problem; the whole matrix with the paper's preconditioner against the system of one block
#     :shown: in part: eight entries a row hold all but a hundredth of the mass of assignments at eta = 1200, but not
#         of a smooth plan; and the larger eta, the more iterations a solve takes
