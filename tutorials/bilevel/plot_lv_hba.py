"""
Two levels under one constraint
===============================

The upper level moves x, the lower level answers with y, and one constraint binds both. The answer has a kink where the
constraint begins to bind, and its derivative would need second derivatives and an active set. Do single steps from
first derivatives find the solution, and what do they cost beside a loop within a loop?
"""

# %%
# One unknown each
# ----------------
# The upper level wants x = y = 2; the lower level wants y = 2x, under x + y ≤ 3. *Predict before you run*: where do
# they meet, and what is the multiplier of the constraint there?

import warnings

import numpy as np

from trref.bilevel.lv_hba import level_step, lv_hba, saddle_step
from trref.bilevel.prox_lagrangian import saddle_point, value_at_saddle
from trref.experiments.figures import COLOURS, use_style
from trref.problems.bilevel import BalancedBilevel, CoupledBilevel
from trref.validate import ConvergenceWarning

plt = use_style()
problem = CoupledBilevel()
RATES = {"lr": 0.2, "multiplier_lr": 0.3}


def path(start, steps, *, radius=10.0):
    """Levels, z, and the gap f - v with the saddle point solved, along the iteration written out."""
    x, z = np.array([start]), np.array([0.0])
    x, y = problem.project(x, np.array([0.0]))
    saddle, rows = (y, z), []
    for k in range(steps):
        saddle = saddle_step(problem, x, y, z, *saddle, inner_lr=0.3, radius=radius)
        x, y, z = level_step(problem, x, y, z, *saddle, c=(k + 1) ** 0.3, radius=radius, **RATES)
        rows.append((float(x[0]), float(y[0]), float(z[0])))
    exact = saddle_point(problem, x, y, z, radius=radius, rtol=1e-12)
    gap = problem.lower(x, y)[0] - value_at_saddle(problem, x, y, z, *exact[:2])[0]
    return np.array(rows), float(gap)


starts = (-1.0, 0.0, 0.8, 2.5)
paths = {start: path(start, 800) for start in starts}
for start, (rows, gap) in paths.items():
    print(f"from {start:+.1f}: x, y, z = {rows[-1].round(3)}, f - v = {gap:.1e}")
boxed, boxed_gap = path(0.0, 800, radius=1.0)
print(f"multipliers up to 1 only: x, y, z = {boxed[-1].round(3)}")

# %%
# A loop within a loop
# --------------------
# The control solves the lower level to 1e-8 twice for each step of the upper one, with a tenth of the upper level added
# and without, and takes the difference (`trref.bilevel.bilevel_penalty`, on a plane). The task is the paper's toy: 10
# entries, one equality over all of them, lower solutions that are not unique. Counted are gradients of the lower level.

n, target = 10, -0.3
balanced = BalancedBilevel()


def error_of(x):
    return float(np.linalg.norm(x - target) / np.linalg.norm(target * np.ones(n)))


def single_loop(steps, gamma):
    """Error of x, and gradients of the lower level: two an iteration."""
    rates = {"lr": 0.03, "multiplier_lr": 0.03} if gamma > 1 else {"lr": 0.1, "multiplier_lr": 0.1}
    rates["inner_lr"] = 0.05 if gamma > 1 else 0.1
    gammas = {"gamma1": gamma, "gamma2": gamma}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = np.zeros(n), np.zeros(2 * n), np.zeros(1)
        fit = lv_hba(balanced, *start, gtol=1e-9, max_iter=steps, **rates, **gammas)
    return 2 * steps, error_of(fit.x)


def double_loop(steps, *, sigma=0.1, lr=0.1):
    """The penalty of two solved lower levels, on the plane of sum 0: gradient steps from where the last ended."""
    x, counted, errors = np.zeros(n), 0, []
    levels = [np.zeros(2 * n), np.zeros(2 * n)]
    for _ in range(steps):
        for k, weight in enumerate((sigma, 0.0)):
            y = levels[k]
            for _ in range(2000):
                slope = weight * balanced.upper(x, y)[2] + balanced.lower(x, y)[2]
                slope -= slope.mean()
                offset = (x.sum() + y.sum()) / (2 * n)
                new = y - offset - slope
                counted += 1
                done = np.linalg.norm(new - y) < 1e-8 * sigma
                y = new
                if done:
                    break
            levels[k] = y
        with_upper, without = levels
        # the constraint's multiplier is the mean slope that the projection took away
        forces = []
        for y, weight in ((with_upper, sigma), (without, 0.0)):
            multiplier = -(weight * balanced.upper(x, y)[2] + balanced.lower(x, y)[2]).mean()
            forces.append(balanced.lower(x, y)[1] + multiplier)
        x = x - lr * (balanced.upper(x, with_upper)[1] + (forces[0] - forces[1]) / sigma)
        errors.append((counted, error_of(x)))
    return errors


single = {gamma: [single_loop(steps, gamma) for steps in (30, 100, 300, 1000, 3000)] for gamma in (1.0, 10.0)}
double = double_loop(60)
for gamma, rows in single.items():
    for cost, error in rows:
        print(f"single steps, gamma {gamma:g}: {cost} gradients, relative error of x {error:.3f}")
for cost, error in double[::12]:
    print(f"loop within a loop: {cost} gradients, relative error of x {error:.3f}")

# %%
figure, axes = plt.subplots(1, 2)
grid = np.linspace(-1.2, 2.6, 200)
levels_x, levels_y = np.meshgrid(grid, np.linspace(-2.5, 3.0, 200))
F = ((levels_x - 2) ** 2 + (levels_y - 2) ** 2) / 2
axes[0].contour(levels_x, levels_y, F, levels=[0.1, 0.25, 1, 2, 4, 8], colors=COLOURS[-1], linewidths=0.6)
axes[0].plot(grid, problem.solution(grid), "--", color=COLOURS[1], label="the lower level's answer")
for start, (rows, _) in paths.items():
    axes[0].plot(rows[:, 0], rows[:, 1], "-", color=COLOURS[0], label="steps" if start == starts[0] else None)
axes[0].plot(1.5, 1.5, "o", color=COLOURS[2], label="solution")
axes[0].set(xlabel="x", ylabel="y", ylim=(-2.5, 3.0))
axes[0].legend(loc="lower right")
for (gamma, rows), style in zip(single.items(), ("o-", "s--"), strict=True):
    axes[1].plot(*zip(*rows, strict=True), style, color=COLOURS[0], label=f"single steps, gamma {gamma:g}")
axes[1].plot(*zip(*double, strict=True), "-", color=COLOURS[1], label="a loop within a loop")
axes[1].set(xscale="log", yscale="log", xlabel="gradients of the lower level", ylabel="relative error of x")
axes[1].legend()

# %%
for rows, gap in paths.values():
    assert abs(rows[-1] - 1.5).max() < 0.02 and gap < 1e-5, "from everywhere, with the multiplier"
assert boxed[-1, 0] < 1.4, "a box that is too small for the multiplier gives another answer"
for rows in single.values():
    assert rows[-1][1] < 0.1, "the toy's solution, to a few percent"
slow = [error for _, error in single[1.0]]
assert slow == sorted(slow, reverse=True) and slow[-1] > slow[-2] / 2, (
    "a slow tail: three times the steps, not half the error"
)
assert double[-1][1] < 0.03 < min(slow), "solved lower levels are nearer here"
assert double[-1][0] < single[1.0][-1][0], "and for fewer gradients"

# %%
# .. claim:: Bilevel problems with coupled constraints are solved by single steps from first derivatives, without
#     Hessians and inner loops.
#     :experiment: one unknown each, from four starts; ten entries under one equality, up to 3000 steps
#     :controls: the known solutions; a box that is too small for the multiplier; a loop within a loop that solves the
#         lower level each time
#     :shown: in part: levels and multiplier are found from all starts, to 1 % in 800 steps, where steps are ten times
#         the paper's. That it is cheaper than a loop within a loop is not shown: on the toy the weight of the penalty
#         grows so slowly that the error falls by less than half in three times the steps.
#
# Double `multiplier_lr` and `inner_lr` until the toy diverges, with 10 and with 40 entries: how does the largest step
# depend on the norm of the constraint's Jacobian? Then let the weight grow with exponent 0.49: who moves now?
