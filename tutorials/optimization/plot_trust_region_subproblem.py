"""
The trust-region subproblem, exactly
====================================

A quadratic that need not be convex, on a ball: one of the few problems with several local minima that can be solved.
"""

# %%
# Solutions as the radius grows
# -----------------------------
# An indefinite model in the plane. The step starts along the negative gradient and bends into the direction of negative
# curvature; in the hard case (right), where the gradient has no component along that direction, it forks.

import types

import numpy as np

from trref.catalog.optimization.interfaces import optimality
from trref.experiments.figures import COLOURS, use_style
from trref.optimization.trust_region_subproblem import eigen_step, pencil_step

plt = use_style()
B = np.diag([-1.0, 2.0])
problems = {"g = (0.2, 1)": np.array([0.2, 1.0]), "hard case, g = (0, 1)": np.array([0.0, 1.0])}
X, Y = np.meshgrid(np.linspace(-2, 2, 201), np.linspace(-2, 2, 201))
figure, axes = plt.subplots(1, 2, figsize=(8.5, 4.0))
radii = np.linspace(0.02, 1.9, 120)
for axis, (name, g) in zip(axes, problems.items(), strict=True):
    model = g[0] * X + g[1] * Y + (B[0, 0] * X**2 + B[1, 1] * Y**2) / 2
    axis.contour(X, Y, model, 18, colors="#8c8c8c", linewidths=0.6)
    path = np.array([eigen_step(g, B, radius=r).p for r in radii])
    axis.plot(*path.T, color=COLOURS[0], linewidth=2.5)
    if "hard" in name:
        axis.plot(-path[:, 0], path[:, 1], color=COLOURS[0], linewidth=2.5, linestyle=":")
    for r in (0.5, 1.0, 1.5):
        angle = np.linspace(0, 2 * np.pi, 200)
        axis.plot(r * np.cos(angle), r * np.sin(angle), color=COLOURS[1], linewidth=0.8)
    axis.set(title=name, aspect="equal", xlim=(-2, 2), ylim=(-2, 2), xlabel="first coordinate")
axes[0].set_ylabel("second coordinate")

# %%
# Local minima on the circle that are not global
# ----------------------------------------------
# The condition that tells the global one is ``B + λI`` without negative eigenvalues.

g, angle = problems["g = (0.2, 1)"], np.linspace(-np.pi, np.pi, 2001)
circle = 1.5 * np.stack([np.cos(angle), np.sin(angle)], 1)
around = circle @ g + ((circle @ B) * circle).sum(1) / 2
minima = [i for i in range(1, 2000) if around[i] < min(around[i - 1], around[i + 1])]
figure, axis = plt.subplots()
axis.plot(angle, around)
for i in minima:
    multiplier = -(circle[i] @ (B @ circle[i] + g)) / 1.5**2
    smallest = np.linalg.eigvalsh(B)[0] + multiplier
    axis.plot(angle[i], around[i], "o", label=f"smallest eigenvalue of B + λI: {smallest:.2f}")
axis.set(xlabel="angle on the circle of radius 1.5", ylabel="model")
axis.legend()

# %%
# Towards the hard case
# ---------------------
# The component of g along the softest direction is 10⁻ᵏ. Solving for the multiplier loses the digits of
# ``λ + λ_1``; an unknown that is this difference does not.

rng = np.random.default_rng(0)
w = np.array([-2.0, -1.0, 0.5, 1.0, 2.0, 3.0])
errors = {name: np.zeros((17, 5)) for name in ("difference as unknown", "eigenvalue of twice the size", "Newton for λ")}


def newton(g, B, radius):
    """Newton's method for the length as a function of λ, from just right of -λ_1, without any safeguard."""
    multiplier = -np.linalg.eigvalsh(B)[0] + 1e-3
    for _ in range(60):
        try:
            p = -np.linalg.solve(B + multiplier * np.eye(len(g)), g)
            slope = -p @ np.linalg.solve(B + multiplier * np.eye(len(g)), p) / np.linalg.norm(p)
            multiplier -= (np.linalg.norm(p) - radius) / slope
        except np.linalg.LinAlgError:
            break
    return types.SimpleNamespace(p=p, multiplier=multiplier, multipliers=[multiplier])


for k in range(17):
    for seed in range(5):
        Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        g = Q @ np.concatenate([[10.0**-k], 0.3 * rng.standard_normal(5)])
        matrix = (Q * w) @ Q.T
        matrix = (matrix + matrix.T) / 2
        with np.errstate(all="ignore"):
            naive = newton(g, matrix, 2.0)
        answers = (eigen_step(g, matrix, radius=2.0), pencil_step(g, matrix, radius=2.0), naive)
        for name, answer in zip(errors, answers, strict=True):
            figures = optimality(answer, g, matrix, radius=2.0).values()
            errors[name][k, seed] = min(max(max(figures), 1e-17), 1.0) if np.isfinite(list(figures)).all() else 1.0
figure, axis = plt.subplots()
for (name, values), colour in zip(errors.items(), COLOURS, strict=False):
    axis.semilogy(np.median(values, 1), "o-", markersize=3, color=colour, label=name)
    axis.fill_between(range(17), values.min(1), values.max(1), color=colour, alpha=0.2, linewidth=0)
axis.set(xlabel="k", ylabel="violation of the conditions of optimality")
axis.legend(fontsize=8)

# %%
# What the figures show
# ---------------------

best = eigen_step(problems["g = (0.2, 1)"], B, radius=1.5)
lowest = problems["g = (0.2, 1)"] @ best.p + best.p @ B @ best.p / 2
assert len(minima) == 2 and abs(around[minima[0]] - around[minima[1]]) > 0.1, "two minima, and only one is global"
assert lowest <= around.min() <= lowest + 1e-4, "the exact step is that one"
assert errors["difference as unknown"].max() < 1e-14, "as accurate in the hard case as elsewhere"
assert 1e-14 < errors["eigenvalue of twice the size"].max() < 1e-4, "the eigenvalue problem loses some digits"
failed = (errors["Newton for λ"] > 1e-6).mean(1)
print("share of failures of the naive iteration, k = 0, …, 16:", failed.round(1).tolist())
assert failed[10:].mean() > 0.8, "and the naive Newton iteration fails altogether"

# %%
# .. claim:: The conditions of optimality single out the global solution of a problem with several local ones, also in
#     the hard case.
#     :experiment: one indefinite model in the plane; 85 problems in six dimensions on the way to the hard case, five
#         for each step
#     :controls: a brute-force search of the circle; the eigenvalue problem of twice the size; Newton's method without
#         safeguards
#     :shown: yes: conditions met to 1e-14 throughout with the difference as unknown; the eigenvalue problem loses
#         digits, the naive iteration fails
