"""
Newton steps under constraints, an equation at a time
=====================================================

A step of Newton's method under constraints is a linear system that is not definite. If it is solved a random equation
at a time, when is the direction good enough?
"""

# %%
# Logistic regression on a sphere
# -------------------------------
# Sixty samples, eight weights of length 1, and two planes that they must lie in. The system has eleven equations.
# Its solution comes from a factorisation (exact), from equations drawn uniformly (Kaczmarz), or from random
# combinations of all (Gaussian vectors), of which a direction gets 20,000 at most.
# *Predict before you run*: how many random equations does one step take, if eleven exact ones are enough?

import warnings

import numpy as np

from trref.experiments.figures import use_style
from trref.optimization.augmented_lagrangian_sketching import als_minimize
from trref.problems.constrained import WithHessian, on_the_sphere
from trref.problems.convex import Logistic
from trref.problems.curvature import LogisticHessian
from trref.validate import ConvergenceWarning

plt = use_style()
N, PLANES, SEEDS, MOST = 8, 2, range(4), 20_000
K = N + PLANES + 1


def task(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((60, N)), rng.choice([-1.0, 1.0], 60)
    A = np.linalg.qr(rng.standard_normal((N, PLANES)))[0].T
    inside = 0.5 * rng.standard_normal(N) / np.sqrt(N)
    objective = WithHessian(Logistic(X, y), LogisticHessian(X, y))
    return objective, on_the_sphere(A, A @ inside), rng.standard_normal(N) / np.sqrt(N), rng


def run(problem, sketches, **settings):
    objective, constraints, x0 = problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return als_minimize(
            objective, constraints, x0, np.zeros(PLANES + 1), sketches, tol=1e-6, max_inner=MOST, **settings
        )


FORCING = (1.0, 1e6, 1e8)
runs, loose = [], []
for seed in SEEDS:
    *problem, rng = task(seed)
    rows = rng.integers(0, K, 50_000)
    solvers = {"exact": None, "Kaczmarz": rows, "Gaussian": rng.standard_normal((20_000, K))}
    runs.append({name: run(problem, sketches) for name, sketches in solvers.items()})
    looser = {forcing: run(problem, rows, forcing=forcing) for forcing in FORCING[1:]}
    loose.append({1.0: runs[-1]["Kaczmarz"], **looser})

# %%
# The bound on the residual is a chain of worst cases. `forcing` multiplies it: how much of it is needed?

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
for number, (name, found) in enumerate(runs[0].items()):
    axes[0].semilogy(found.residuals, "o-", color=f"C{number}", label=name, ms=7 - 2 * number)
    if found.inner_iterations > 100:
        axes[1].semilogy(range(1, found.iterations + 1), found.random_steps, "o-", color=f"C{number}", label=name)
axes[1].axhline(K, color="0.5", ls=":", label="equations")
for number, forcing in enumerate(FORCING):
    found = loose[0][forcing]
    work = np.cumsum([0, *found.random_steps])
    axes[2].semilogy(work, found.residuals, "o-", color=f"C{number}", label=rf"$\vartheta$ = {forcing:.0e}")
axes[0].set(xlabel="Newton steps", ylabel="KKT residual", title="three inner solvers")
axes[1].set(xlabel="Newton step", ylabel="random steps", title="work of a direction")
axes[2].set(xlabel="random steps", ylabel="KKT residual", title="a looser bound (Kaczmarz)")
for panel in axes:
    panel.legend(fontsize=7)

# %%
# What the figure shows
# ---------------------
# With the accuracy of the paper random directions are as good as exact ones: the same residuals to three digits, for
# thousands of random steps in each of Newton's. One run of the four has a system of condition 90 near its solution:
# there even 20,000 random steps do not reach that accuracy, and the method still arrives, but after more of Newton's
# steps than with exact directions. A bound that is a million times looser leaves the number of Newton steps as it is
# and needs a fraction of the work; a hundred million times looser, convergence is linear, with more Newton steps, and
# the least work of all. Whatever the accuracy, no direction is used before it has passed the descent test, unless its
# random steps are used up.

for name in runs[0]:
    counts = [(found[name].iterations, int(sum(found[name].random_steps))) for found in runs]
    print(f"{name}: Newton steps and random steps {counts}")
for forcing in FORCING:
    counts = [(found[forcing].iterations, int(sum(found[forcing].random_steps))) for found in loose]
    print(f"forcing {forcing:.0e}: {counts}")
print(
    "penalties at the end", [(found["Kaczmarz"].constraint_weight, found["Kaczmarz"].gradient_weight) for found in runs]
)

# %%
# .. claim:: Inexact directions from a random sketching solver, with an accuracy and penalties that adapt, converge to
#         solutions under constraints as exact ones do.
#     :experiment: logistic regression of 8 weights on a sphere and in 2 planes, Kaczmarz and Gaussian vectors, 4 runs
#     :controls: exact directions, and bounds on the residual that are looser by up to 1e8
#     :shown: yes, in as many Newton steps where the accuracy is reached (3 runs), and in more where it is not (1 run);
#         but the paper's accuracy is far more than is needed here, and with eleven unknowns nothing is saved over a
#         factorisation
#
# Give all constraints and the loss another scale, a hundred times larger: what becomes of the number of random steps,
# and which of the two constants of the accuracy is to blame? And which penalty do you expect to change first if the
# start has multipliers of 20?

enough = [all(max(one.random_steps) < MOST for one in found.values()) for found in runs]
assert sum(enough) == 3, "the accuracy is reached in three runs"
for found, reached in zip(runs, enough, strict=True):
    exact, *sketched = found.values()
    assert all(one.converged for one in found.values()), "every inner solver gets there"
    assert all(one.step_lengths[-1] == 1 for one in found.values()), "steps of length 1 in the end"
    assert all(np.mean(one.random_steps) > 100 * K for one in sketched), "thousands of random steps"
    if reached:
        assert all(one.iterations == exact.iterations for one in sketched), "directions as good as exact ones"
        assert all(np.allclose(one.residuals[:6], exact.residuals[:6], rtol=1e-3, atol=1e-7) for one in sketched)
    else:
        assert all(one.iterations > exact.iterations for one in sketched)
for found in loose:
    work = [sum(found[forcing].random_steps) for forcing in FORCING]
    assert all(one.converged for one in found.values())
    assert work[0] > work[1] > work[2], "less accuracy, less work"
    assert found[1e8].iterations > found[1.0].iterations, "and more Newton steps"
    late = np.array(found[1e8].residuals[-3:])
    assert (late[1:] / late[:-1] > 1e-2).all(), "linear convergence"
