"""
Krylov solvers against their definition
=======================================

The k-th iterate of a Krylov solver is, by definition, the best vector of a space. Short recurrences reach it without
keeping the space; in floating point they reach it only while they stay orthogonal.
"""

# %%
# Two spectra
# -----------
# Evenly spaced eigenvalues, and eigenvalues that crowd at zero with a few far away. The definition is evaluated with
# all vectors kept, orthogonalised twice.

import warnings

import numpy as np

from trref.experiments.figures import use_style
from trref.krylov.cg import cg
from trref.krylov.krylov_solvers import galerkin
from trref.problems.convex import DenseOperator, spd_matrix
from trref.validate import ConvergenceWarning

plt = use_style()
warnings.simplefilter("ignore", ConvergenceWarning)  # we stop early on purpose
n, seeds, steps = 48, 5, range(2, 97, 2)
places = np.arange(n) / (n - 1)
spectra = {
    "evenly spaced": 1 + 99 * places,
    "crowded at one end": 0.1 + 99.9 * places * 0.8 ** np.arange(n)[::-1],
}


def energy_errors(A, b, iterates):
    exact = np.linalg.solve(A, b)
    return [np.sqrt(max((x - exact) @ A @ (x - exact), 0) / (b @ exact)) for x in iterates]


errors = {name: {"definition": [], "conjugate gradients": []} for name in spectra}
for name, eigenvalues in spectra.items():
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        A, b = spd_matrix(rng, eigenvalues), rng.standard_normal(n)
        operator = DenseOperator(A)
        best = [galerkin(operator, b, steps=min(k, n)) for k in steps if k <= n]
        found = [cg(operator, b, rtol=1e-15, max_iter=k).x for k in steps]
        errors[name]["definition"].append(energy_errors(A, b, best))
        errors[name]["conjugate gradients"].append(energy_errors(A, b, found))

figure, axes = plt.subplots(1, 2, sharey=True)
for axis, (name, both) in zip(axes, errors.items(), strict=True):
    for label, runs in both.items():
        runs = np.array(runs)
        (line,) = axis.semilogy(steps[: runs.shape[1]], np.median(runs, 0), label=label)
        axis.fill_between(
            steps[: runs.shape[1]], runs.min(0), runs.max(0), alpha=0.2, color=line.get_color(), linewidth=0
        )
    axis.set(title=name, xlabel="products with the matrix")
axes[0].set_ylabel("error in the A-norm, relative")
axes[0].legend()

# %%
# What the figure shows
# ---------------------


def steps_to(run, level):
    """The first number of steps after which the error is below the level and stays there."""
    above = np.flatnonzero(~(np.array(run) < level))
    return steps[above[-1] + 1] if len(above) else steps[0]


needed = {
    name: {label: np.array([steps_to(run, 1e-8) for run in runs]) for label, runs in both.items()}
    for name, both in errors.items()
}
for name, counts in needed.items():
    print(name, {label: count.tolist() for label, count in counts.items()})
even, crowded = needed["evenly spaced"], needed["crowded at one end"]
assert (even["conjugate gradients"] == even["definition"]).all(), "three vectors are as good as all of them"
assert (crowded["conjugate gradients"] > 1.4 * crowded["definition"]).all(), "here the lost orthogonality costs steps"
assert (crowded["definition"] <= n).all() and (crowded["conjugate gradients"] > n).all(), (
    "more than there are unknowns, which in exact arithmetic are always enough"
)
for both in errors.values():
    for label, runs in both.items():
        assert np.array(runs)[:, -1].max() < 1e-10, f"{label}: late, not lost"

# %%
# .. claim:: Conjugate gradients give the best vector of the Krylov space with three vectors in memory, as long as
#     rounding leaves these orthogonal; after that they are late, but not lost.
#     :experiment: 48 unknowns, evenly spaced eigenvalues and eigenvalues that crowd at one end; five matrices and
#         right-hand sides each; steps to an error of 1e-8 in the A-norm
#     :controls: the best vector of the space by its definition, with all vectors kept
#     :shown: yes: equal numbers of steps with even eigenvalues; more than 1.4 times as many, and more than there are
#         unknowns, with crowded ones, every time
