"""
What regularisation buys and costs
==================================

Entropy makes optimal transport a matter of matrix products. How blurred is the plan, and how many sweeps does it take,
as the regularisation shrinks?
"""

# %%
# Two mixtures on a line
# ----------------------
# Two hundred points each. The thin line is the plan without entropy: on a line, the sorted one. Its mass lies on a
# curve; entropy spreads it by about the square root of the regularisation.

import math

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.transport import trace
from trref.transport.sinkhorn import round_to_feasible, sinkhorn_log, sinkhorn_scaling

plt = use_style()
s = np.linspace(0, 1, 200)


def mixture(*bumps):
    density = sum(w * np.exp(-((s - m) ** 2) / (2 * d**2)) for w, m, d in bumps) + 1e-3
    return density / density.sum()


a, b = mixture((1.0, 0.2, 0.05), (0.8, 0.55, 0.07)), mixture((0.6, 0.4, 0.04), (1.0, 0.8, 0.06))
cost = (s[:, None] - s) ** 2
sorted_plan = np.interp(np.cumsum(a) - a / 2, np.cumsum(b), s)


def sorted_cost(a, b):
    """The best cost on a line: quantiles go to quantiles."""
    A, B = np.cumsum(a), np.cumsum(b)
    levels = np.sort(np.concatenate([A, B]))
    x, z = (s[np.minimum(np.searchsorted(Q, levels - 1e-12), 199)] for Q in (A, B))
    return float(np.diff(levels, prepend=0.0) @ (x - z) ** 2)


best = sorted_cost(a, b)
figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.3), sharey=True)
excess = {}
for axis, eta in zip(axes, (10, 100, 1000), strict=True):
    plan = sinkhorn_log(cost, a, b, reg=1 / eta, tol=1e-6, max_iter=3000).plan
    excess[eta] = float((cost * round_to_feasible(plan, a, b)).sum()) - best
    axis.imshow(plan.T**0.5, origin="lower", extent=(0, 1, 0, 1), cmap="cividis", aspect="equal")
    axis.plot(s, sorted_plan, color=COLOURS[5], linewidth=1)
    axis.set(xlabel="from", title=f"eta = 1 / reg = {eta}")
    axis.grid(False)
axes[0].set_ylabel("to")

# %%
# Sweeps against regularisation
# -----------------------------
# The marginal error falls geometrically, and the slope flattens as eta grows. Where the cost is rough there is more to
# sort out: random assignments (uniform costs) against the smooth problem above, five seeds.

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
stops = [1, 3, 10, 30, 100, 200, 400, 700, 1000]
at_100, at_end = {}, {}
for eta, colour in zip((75, 150, 300, 600), COLOURS, strict=False):
    runs = []
    for seed in range(5):
        problem = np.random.default_rng(seed).random((200, 200)), np.full(200, 1 / 200), np.full(200, 1 / 200)
        result = trace(sinkhorn_scaling, *problem, stops=stops, repeat=1, reg=1 / eta, tol=1e-16)
        runs.append([math.log10(e) for e in result.errors])
    at_100[eta], at_end[eta] = ([10 ** run[k] for run in runs] for k in (4, -1))
    spread(axes[0], stops, runs, f"eta = {eta}", color=colour)
    smooth = trace(sinkhorn_scaling, cost, a, b, stops=stops, repeat=1, reg=1 / eta, tol=1e-16)
    axes[1].plot(smooth.iterations, [math.log10(e) for e in smooth.errors], color=colour)
axes[0].set(xlabel="sweep", ylabel="log10 marginal error", title="random assignment, n = 200")
axes[1].set(xlabel="sweep", title="two mixtures on a line")
axes[0].legend()

# %%
# What the figures show
# ---------------------

print("cost above the best plan:", {eta: f"{e:.1e}" for eta, e in excess.items()})
print("marginal error after 1000 sweeps:", {eta: [f"{e:.0e}" for e in errors] for eta, errors in at_end.items()})
for eta, e in excess.items():
    assert 0 <= e <= (math.log(200) + math.log(200)) / eta, "the entropy costs at most its range over eta"
assert excess[1000] < excess[100] / 3 < excess[10] / 9, "and less and less"
for seed in range(5):
    errors = [at_100[eta][seed] for eta in (75, 150, 300, 600)]
    assert errors == sorted(errors), "the smaller the regularisation, the slower"
assert max(at_end[300]) < 1e-9 and min(at_end[600]) > 1e-6, "after 1000 sweeps eta = 300 is done, and 600 nowhere near"

# %%
# .. claim:: Entropy costs at most its range over eta, and as the regularisation shrinks Sinkhorn needs more and more
#     sweeps.
#     :experiment: two mixtures on a line (200 points, eta 10 to 1000); random assignments of 200 points, five seeds,
#         eta 75 to 600
#     :controls: the sorted plan, which is the best one on a line
#     :shown: yes: in every seed the smaller the regularisation, the slower; at eta = 600 a thousand sweeps do not
#         reach 1e-6
