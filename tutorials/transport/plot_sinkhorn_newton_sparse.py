"""
Twenty sweeps, then Newton
==========================

Sinkhorn stalls on random assignments with little regularisation. A few sparse Newton steps finish them. Is that a
matter of iterations only, or of time as well; and does it help everywhere?
"""

# %%
# Random assignments
# ------------------
# Costs uniform on [0, 1], n = 200 and eta = 1200, five seeds: marginal error by iteration (a sweep or a Newton step)
# and by time.

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.experiments.transport import trace
from trref.transport.sinkhorn import sinkhorn_scaling
from trref.transport.sinkhorn_newton_sparse import sinkhorn_newton_sparse

plt = use_style()
n, eta, uniform = 200, 1200, np.full(200, 1 / 200)
SOLVERS = {"Sinkhorn": sinkhorn_scaling, "Sinkhorn-Newton-Sparse": sinkhorn_newton_sparse}
stops = {
    "Sinkhorn": [1, 3, 10, 20, 50, 100, 300, 1000, 2000],
    "Sinkhorn-Newton-Sparse": [1, 3, 10, *range(20, 120, 3), 500],
}
traces = {name: [] for name in SOLVERS}
results = []
for seed in range(5):
    problem = np.random.default_rng(seed).random((n, n)), uniform, uniform
    for name, solve in SOLVERS.items():
        traces[name].append(trace(solve, *problem, stops=stops[name], repeat=2, reg=1 / eta, tol=1e-12))
    results.append(sinkhorn_newton_sparse(*problem, reg=1 / eta, tol=1e-12))
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.5))
for (name, runs), colour in zip(traces.items(), COLOURS, strict=False):
    for seed, run in enumerate(runs):
        label = None if seed else name
        axes[0].loglog(run.iterations, run.errors, color=colour, alpha=0.7, label=label)
        axes[1].loglog(run.seconds, run.errors, color=colour, alpha=0.7)
axes[0].set(xlabel="iteration", ylabel="marginal error")
axes[1].set(xlabel="seconds")
axes[0].legend(fontsize=8)

# %%
# Why it works: nearly all of the plan is nothing
# -----------------------------------------------

for result in results:
    entries = np.sort(result.plan.ravel())[::-1]
    axes[2].loglog(np.arange(1, n * n + 1) / n, np.maximum(entries * n, 1e-30), color=COLOURS[1], alpha=0.7)
axes[2].axvline(8, color="#8c8c8c", linestyle=":")
axes[2].set(xlabel="rank / n", ylabel="entry of the plan, times n")

# %%
# Where it does not help
# ----------------------
# Two bumps on a line with a squared distance as cost. The plan is a band: a budget of a few entries a row drops a tenth
# of its mass, and Newton steps with what is left go nowhere fast. A budget of a fifth of all entries works, but
# Sinkhorn alone is as fast.

s = np.linspace(0, 1, n)
bumps = [np.exp(-((s - m) ** 2) / 0.02) + 0.01 for m in (0.3, 0.6)]
line = (s[:, None] - s) ** 2, *(p / p.sum() for p in bumps)
figure, axis = plt.subplots()
smooth = {"Sinkhorn": trace(sinkhorn_scaling, *line, stops=stops["Sinkhorn"], reg=1 / eta, tol=1e-9)}
for budget in (8, 40):
    options = {"reg": 1 / eta, "tol": 1e-9, "keep": budget / n}
    smooth[f"{budget} entries a row"] = trace(
        sinkhorn_newton_sparse, *line, stops=[1, 3, 10, *range(20, 120, 10)], **options
    )
for name, run in smooth.items():
    axis.loglog(run.seconds, run.errors, marker=".", label=name)
axis.set(xlabel="seconds", ylabel="marginal error", title="two bumps on a line")
axis.legend()

# %%
# What the figures show
# ---------------------

for seed, (sweeps, newton) in enumerate(zip(*traces.values(), strict=True)):
    print(f"seed {seed}: Sinkhorn {sweeps.errors[-1]:.0e} after {sweeps.iterations[-1]} sweeps,", end=" ")
    print(
        f"{sweeps.seconds[-1]:.3f} s; Newton {newton.errors[-1]:.0e} after {newton.iterations[-1]} iterations,", end=" "
    )
    print(f"{newton.seconds[-1]:.3f} s, {results[seed].inner_iterations} of conjugate gradients")
    assert newton.errors[-1] <= 1e-12 and newton.iterations[-1] < 120, "Newton: to 1e-12 in a hundred iterations or so"
    assert sweeps.errors[-1] > 1e-6, "two thousand sweeps: not even to 1e-6"
    kept = np.sort(results[seed].plan.ravel())[::-1][: 8 * n].sum()
    assert kept > 1 - 1e-3, "because eight entries a row hold all but a thousandth of the mass"
for name, run in smooth.items():
    print(f"{name}: {run.errors[-1]:.0e} after {run.iterations[-1]} iterations, {run.seconds[-1]:.3f} s")
few, many = smooth["8 entries a row"], smooth["40 entries a row"]
assert few.errors[-1] > 1e-9, "smooth densities: a few entries a row do not do"
assert many.errors[-1] <= 1e-9, "a fifth of them does"
assert smooth["Sinkhorn"].errors[-1] <= 1e-9 and smooth["Sinkhorn"].iterations[-1] < 2000, "and Sinkhorn alone does"

# %%
# .. claim:: Twenty Sinkhorn sweeps and then sparse Newton steps converge orders of magnitude faster than Sinkhorn, in
#     iterations and in time.
#     :experiment: random assignments of 200 points at eta = 1200, five seeds; two bumps on a line
#     :controls: 2000 sweeps of Sinkhorn alone; budgets of 8 and of 40 entries a row on the smooth problem
#     :shown: in part: on random assignments 1e-12 within 120 iterations, where 2000 sweeps don't reach 1e-6; the
#         times of this page's run agree. On smooth densities a few entries a row fail, and Sinkhorn alone is as good
