"""
One step length for exact, approximate and no curvature
=======================================================

A Newton step needs the Hessian, or a matrix that stands for it. How much is lost if that is a wrong one? One number,
found by doubling and halving, makes the best of each.
"""

# %%
# A smooth maximum
# ----------------
# Thirty affine functions of five unknowns, from far away. The Hessian is that with weighted rows (Gauss-Newton) less
# the product of the gradient with itself: far away that is a large error, near the minimum none.
# *Predict before you run*: which of the curvatures will need a falling step length near the minimum?

import warnings

import numpy as np

from trref.experiments.figures import use_style
from trref.optimization.gradient_normalized_smoothness import gns_minimize, smoothness
from trref.problems.residuals import Curvature, LogSumExp, PowerResiduals
from trref.validate import ConvergenceWarning

plt = use_style()
SEEDS, KINDS = range(5), {"hessian": "exact", "gauss_newton": "weighted Gauss-Newton", "none": "none"}


def descend(problem, kind, x0, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # without curvature it is slow
        return gns_minimize(problem, Curvature(problem, kind), x0, **settings)


def smooth_maximum(seed):
    rng = np.random.default_rng(seed)
    problem = LogSumExp(rng.standard_normal((30, 5)), rng.standard_normal(30), 0.7)
    x0 = 5 * rng.standard_normal(5)
    return problem, {k: descend(problem, k, x0, gtol=1e-9, max_iter=400) for k in KINDS}, rng


problems, runs, rngs = zip(*map(smooth_maximum, SEEDS), strict=True)

# %%
# Is the length that the search finds of the size of the largest one that theory allows? Along twenty directions that
# can be looked at; the search may go beyond it, as the test asks for a decrease only.

problem, rng = problems[0], rngs[0]
for kind in KINDS:
    x = 0.3 * rng.standard_normal(5)
    H = Curvature(problem, kind)(x)
    radius = smoothness(problem, x, H, rng.standard_normal((20, 5)), radii=4, steps=25)
    found = descend(problem, kind, x, gtol=1e-30, max_iter=1, gamma=float(radius))
    print(f"{KINDS[kind]}: smoothness {float(radius):.3f}, a step of it is {'taken' if found.gammas else 'refused'}")

# %%
# Residuals to the fourth power
# -----------------------------
# Rosenbrock's residuals u, and the function ‖u‖⁴/4: not convex, and flat at its minimum. Gauss-Newton leaves out second
# derivatives of the residuals.

starts = [np.array([-1.2, 1.0]), *(1.5 * np.random.default_rng(seed).standard_normal(2) for seed in range(4))]
valley = [{k: descend(PowerResiduals(4.0), k, x0, gtol=1e-9, max_iter=300) for k in list(KINDS)[1:]} for x0 in starts]

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
for number, (kind, name) in enumerate(KINDS.items()):
    for k, run in enumerate(runs):
        label, colour = None if k else name, f"C{number}"
        axes[0].semilogy(run[kind].gradient_norms[:60], color=colour, label=label)
        axes[1].semilogy(run[kind].gammas[:60], color=colour, label=label)
for number, kind in enumerate(list(KINDS)[1:], 1):
    for run in valley:
        axes[2].semilogy(run[kind].values, color=f"C{number}")
axes[0].set(xlabel="steps taken", ylabel="gradient norm", title="smooth maximum")
axes[1].set(xlabel="steps taken", ylabel=r"$\gamma$", title="the length that is found")
axes[2].set(xlabel="steps taken", ylabel="value", title="fourth power of residuals")
axes[0].legend()

# %%
# What the figure shows
# ---------------------
# With exact curvature the length grows without bound and convergence is superlinear. With Gauss-Newton it stays where
# it is for long, as far away the matrix is wrong by the size of the gradient's square: that costs as many steps as no
# curvature at all would. Near the minimum the error is gone, and so is the difference from exact curvature. Without
# curvature the length must fall in proportion to the gradient: the method is then gradient descent, with a step that it
# finds by itself. In the valley of the fourth power Gauss-Newton steps reach the minimum, at a linear rate; plain ones
# do not get far.


def last_steps(run):
    """Steps from a gradient of 0.1 on."""
    return sum(norm < 0.1 for norm in run.gradient_norms[:-1])


for kind, name in KINDS.items():
    counts = [(len(run[kind].gammas), last_steps(run[kind])) for run in runs]
    print(f"{name}: steps, and those from a gradient of 0.1 on {counts}")
for kind in list(KINDS)[1:]:
    print(f"valley, {KINDS[kind]}: values {[f'{run[kind].values[-1]:.1e}' for run in valley]}")

# %%
# .. claim:: One search for the length serves exact and approximate curvature alike, and Gauss-Newton steps converge at
#         nearly the rate of exact ones where their error vanishes with the gradient.
#     :experiment: log-sum-exp of 30 functions, 5 starts; the fourth power of Rosenbrock's residuals, 5 starts
#     :controls: no curvature, that is gradient descent with the same search
#     :shown: in part: near the minimum; from far away Gauss-Newton needs two to six times as many steps as exact
#         curvature, and no fewer than none in some runs
#
# Double the smoothing mu of the maximum: does Gauss-Newton come nearer to exact curvature, or not? Think of the size
# of what it leaves out, then try. And start with a length of a million: how many trials does that cost?

for run in runs:
    exact, weighted, none = (run[kind] for kind in KINDS)
    assert exact.converged and weighted.converged and none.converged
    assert last_steps(weighted) <= last_steps(exact) + 4, "near the minimum Gauss-Newton is as good as exact"
    assert last_steps(none) > 3 * last_steps(weighted), "and no curvature is not"
    assert len(weighted.gammas) > 2 * len(exact.gammas), "from far away it is not as good"
    for found in (exact, weighted):
        assert found.gradient_norms[-1] < 1e-2 * found.gradient_norms[-2], "superlinear in the end"
    assert exact.gammas[-1] > exact.gammas[0] and weighted.gammas[-1] > weighted.gammas[0], "longer and longer steps"
    assert none.gammas[-1] < 1e-3 * max(none.gammas), "without curvature they must become short"
    later = [np.array(v[20 : len(none.gammas)]) for v in (none.gammas, none.gradient_norms)]
    assert np.ptp(np.log10(later[0] / later[1])) < 2, "in proportion to the gradient"
    for found in run.values():
        assert (np.diff(found.values) <= 1e-13 * abs(found.values[0])).all(), "the value never rises"
assert all(run["gauss_newton"].values[-1] < 1e-9 for run in valley)
assert all(run["gauss_newton"].values[-1] < 1e-3 * run["none"].values[-1] for run in valley)
