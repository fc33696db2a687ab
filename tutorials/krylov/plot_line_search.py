"""
The strong Wolfe conditions in pictures
=======================================

A line search need not find the minimum along its line. It needs a step that is worth its price.
"""

# %%
# Which steps are good enough
# ---------------------------
# Rosenbrock's function along its gradient, and the steps that the conditions accept.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.krylov.line_search import strong_wolfe
from trref.problems.convex import Rosenbrock

plt = use_style()
loss, x = Rosenbrock(), np.array([-0.4, 0.9])
direction = -loss(x)[1] / np.linalg.norm(loss(x)[1])
value, slope = loss(x)[0], loss(x)[1] @ direction
t = np.linspace(0, 2.6, 1201)
values = np.array([loss(x + s * direction)[0] for s in t])
slopes = np.array([loss(x + s * direction)[1] @ direction for s in t])
figure, axis = plt.subplots()
axis.plot(t, values, color="#8c8c8c", label="f along the line")
accepted = {}
for level, (c2, colour) in enumerate(((0.9, COLOURS[4]), (0.4, COLOURS[2]), (0.1, COLOURS[5]))):
    good = (values <= value + 1e-4 * t * slope) & (abs(slopes) <= c2 * abs(slope))
    accepted[c2] = good.mean()
    axis.plot(t[good], np.full(good.sum(), -6.0 - 5 * level), "|", color=colour, label=f"accepted, c2 = {c2}")
for first, marker in ((0.05, "o"), (2.5, "s")):
    result = strong_wolfe(loss, x, direction, first_step=first, c2=0.1)
    axis.plot(
        result.step, result.value, marker, color=COLOURS[1], label=f"found from {first}: {result.iterations} trials"
    )
    assert result.converged, "both first trials end with an accepted step"
axis.set(xlabel="step t", ylabel="value", ylim=(-20, 90))
axis.legend(fontsize=8)

# %%
# What a careless first trial costs
# ---------------------------------
# The number of trials over first trials of any size, for 20 random points.

firsts = np.logspace(-6, 6, 25)
trials = {}
figure, axis = plt.subplots()
for c2 in (0.1, 0.9):
    runs = []
    for seed in range(20):
        start = np.random.default_rng(seed).standard_normal(5)
        g = loss(start)[1]
        found = [strong_wolfe(loss, start, -g / np.linalg.norm(g), first_step=f, c2=c2, max_iter=80) for f in firsts]
        assert all(r.converged for r in found), "a step is found from every first trial"
        runs.append([r.iterations for r in found])
    trials[c2] = np.array(runs)
    spread(axis, firsts, runs, label=f"c2 = {c2}")
axis.set(xscale="log", xlabel="first trial", ylabel="trials")
axis.legend()

# %%
# What the figures show
# ---------------------

assert accepted[0.1] < accepted[0.4] < accepted[0.9], "the tighter the curvature condition, the fewer steps pass"
means = {c2: counts.mean(0) for c2, counts in trials.items()}
best = {c2: mean.min() for c2, mean in means.items()}
for c2, mean in means.items():
    print(f"c2 = {c2}: {mean.min():.1f} trials on average from the best first step, {mean[0]:.1f} from 1e-6")
assert best[0.1] < 5 and best[0.9] < 3, "from a first trial of the right size a handful of trials is enough"
assert all(mean.max() < 40 for mean in means.values()), (
    "from one that is off by six orders, some tens: log2 of the error"
)
assert (means[0.9] <= means[0.1] + 1e-12).all(), "a loose condition never needs more"

# %%
# .. claim:: A step that meets the strong Wolfe conditions is found from any first trial, in a handful of trials from
#     a good one.
#     :experiment: Rosenbrock's function along its gradient at 20 random points in five dimensions, first trials of
#         1e-6 to 1e6
#     :controls: a loose and a tight curvature condition
#     :shown: yes: always found; from a good first trial in fewer than five trials on average, from the worst in fewer
#         than forty
