"""
Cheap steps within a trust region
=================================

The Cauchy point costs one product with the matrix, the dogleg one linear system, the exact step several. How much of
the best decrease does each give?
"""

# %%
# Their paths
# -----------

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.optimization.trust_region_steps import cauchy_point, dogleg, model_value, subspace_step
from trref.optimization.trust_region_subproblem import eigen_step
from trref.problems.convex import spd_matrix

plt = use_style()
steps = {"Cauchy point": cauchy_point, "dogleg": dogleg, "subspace": subspace_step, "exact": eigen_step}
B, g = np.array([[6.0, 2.0], [2.0, 1.0]]), np.array([1.0, 0.9])
X, Y = np.meshgrid(np.linspace(-1.4, 1.4, 201), np.linspace(-3.2, 0.6, 201))
P = np.stack([X, Y], -1)
figure, axis = plt.subplots(figsize=(6.0, 5.0))
axis.contour(X, Y, P @ g + ((P @ B) * P).sum(-1) / 2, 25, colors="#8c8c8c", linewidths=0.5)
radii = np.linspace(0.01, 3.0, 200)
for (name, f), colour in zip(steps.items(), COLOURS, strict=False):
    if name != "subspace":  # in two dimensions it is exact
        path = np.array([f(g, B, radius=r).p for r in radii])
        axis.plot(*path.T, color=colour, label=name, linewidth=2.2)
axis.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
axis.legend()

# %%
# Their decrease
# --------------
# Random convex models in 20 dimensions, condition number about 10³, at radii from a hundredth of the Newton step's
# length to the whole.

fractions, problems = np.logspace(-2, 0, 15), 40
share = {name: np.zeros((problems, len(fractions))) for name in steps}
for i in range(problems):
    rng = np.random.default_rng(i)
    B, g = spd_matrix(rng, np.exp(rng.uniform(-3.5, 3.5, 20))), rng.standard_normal(20)
    length = np.linalg.norm(np.linalg.solve(B, g))
    for j, fraction in enumerate(fractions):
        values = {name: model_value(g, B, f(g, B, radius=fraction * length).p)[0] for name, f in steps.items()}
        for name, value in values.items():
            share[name][i, j] = value / values["exact"]
figure, axis = plt.subplots()
for (name, values), colour in zip(share.items(), COLOURS, strict=False):
    axis.semilogx(fractions, values.mean(0), color=colour, label=name)
    axis.fill_between(fractions, *np.quantile(values, (0.1, 0.9), axis=0), color=colour, alpha=0.2, linewidth=0)
axis.set(xlabel="radius, relative to the Newton step", ylabel="share of the best decrease", ylim=(0, 1.05))
axis.legend()

# %%
# What the figures show
# ---------------------

for better, worse in (("exact", "subspace"), ("subspace", "dogleg"), ("dogleg", "Cauchy point")):
    assert (share[better] >= share[worse] - 1e-10).all(), f"{better} is never worse than {worse}"
means = {name: values.mean(0) for name, values in share.items()}
for name, values in means.items():
    print(f"{name:13s} at 1 %, 10 % and 100 % of the Newton step: {values[0]:.2f} {values[7]:.2f} {values[-1]:.2f}")
assert means["Cauchy point"][-1] < 0.5, "with a large radius the Cauchy point gives away more than half of the decrease"
assert means["dogleg"][-1] > 1 - 1e-9, "where the dogleg is the Newton step"
assert means["subspace"].min() > 0.5, "the plane always holds most of it"

# %%
# .. claim:: Each step is at least as good as the cheaper one before it: Cauchy point, dogleg, two-dimensional
#     subspace, exact.
#     :experiment: 40 random convex models in 20 dimensions, 15 radii each
#     :controls: the exact step
#     :shown: yes: in every problem. The plane keeps more than half of the best decrease on average at every radius,
#         the Cauchy point less than half where the radius is large
