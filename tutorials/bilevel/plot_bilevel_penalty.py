"""
Tuning penalties without second derivatives
===========================================

How strong should the ridge penalty of each feature be? The held-out loss knows, but its slope goes through the solution
of another problem. Can first derivatives alone find it?
"""

# %%
# How near
# --------
# A little of the upper loss in the lower one, :math:`\sigma` of it, and the slope :eq:`bilevel-penalty-gradient` needs
# no Hessian. On quadratics all is known in closed form, for a lower level with one solution and with many.
# *Predict before you run*: ten times less :math:`\sigma`, how much less error?

import warnings

import numpy as np

from trref.bilevel.bilevel_penalty import descend, hypergradient, lower_steps, penalty_objective
from trref.experiments.figures import COLOURS, use_style
from trref.problems.bilevel import RidgePenalties, quadratic_bilevel
from trref.validate import ConvergenceWarning

plt = use_style()
SIGMAS, SEEDS = np.array([1.0, 0.1, 0.01, 0.001]), range(5)


def errors(rank, seed):
    """Distance of the penalty's gradient from the true one, at minimisers in closed form."""
    rng = np.random.default_rng(seed)
    problem, x = quadratic_bilevel(rng, rank=rank), rng.standard_normal(3)
    z, found = problem.solution(x), []
    for sigma in SIGMAS:
        H = problem.H + sigma * np.eye(4)
        y = np.linalg.solve(H, problem.B @ x + problem.c + sigma * problem.y_goal)
        gradient = penalty_objective(problem, x, y, z, sigma=sigma)[1]
        found.append(np.linalg.norm(gradient - hypergradient(problem, x, z)))
    return found


table = {rank: np.array([errors(rank, seed) for seed in SEEDS]) for rank in (4, 2)}

# %%
# Ridge penalties
# ---------------
# Six features of which two count, 20 samples to train on and 20 held out. Controls: descent by the exact gradient, and
# one penalty for all features from a grid of 25.


def ridge(seed):
    rng = np.random.default_rng(seed)
    A, A_valid = rng.standard_normal((2, 20, 6))
    truth = np.array([2.0, -1.5, 0, 0, 0, 0])
    return RidgePenalties(A, A @ truth + rng.standard_normal(20), A_valid, A_valid @ truth + rng.standard_normal(20))


def held_out(problem, x):
    return float(problem.upper(x, problem.solution(x))[0])


STEPS, START, LR = 100, np.full(6, -2.0), 1.0


def exact_descent(problem):
    x, path = START.copy(), []
    for _ in range(STEPS):
        path.append(held_out(problem, x))
        x = x - LR * hypergradient(problem, x, problem.solution(x))
    return x, path


def penalty_descent(problem, sigma, steps=40):
    """As many outer steps, of one gradient of each loss a step of the lower levels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a number of steps is given here
        y0 = lower_steps(problem, START, np.zeros(6), sigma=0.0, steps=200, inner_lr=0.1)
        return descend(problem, START, y0, sigma=sigma, lr=LR, inner_lr=0.1, steps=steps, gtol=1e-9, max_iter=STEPS).x


grid = np.linspace(-6, 2, 25)
rows = []
for seed in SEEDS:
    problem = ridge(seed)
    exact, path = exact_descent(problem)
    rows.append(
        [
            held_out(problem, START),
            min(held_out(problem, np.full(6, p)) for p in grid),
            held_out(problem, exact),
            held_out(problem, penalty_descent(problem, 0.1)),
            held_out(problem, penalty_descent(problem, 0.01)),
        ]
    )
rows, names = np.array(rows), ["start", "grid", "exact", "0.1", "0.01"]
for name, column in zip(names, rows.T, strict=True):
    print(f"{name}: held-out loss {column.round(3)}")

figure, axes = plt.subplots(1, 2)
for (rank, values), colour in zip(table.items(), COLOURS, strict=False):
    axes[0].loglog(SIGMAS, values.T, "o", color=colour, alpha=0.4)
    axes[0].loglog(SIGMAS, np.exp(np.log(values).mean(0)), color=colour, label="one solution" if rank == 4 else "many")
axes[0].loglog(SIGMAS, SIGMAS, "--", color=COLOURS[-1], label="slope 1")
axes[0].set(xlabel=r"$\sigma$", ylabel="error of the gradient")
axes[0].legend()
for column, colour in zip(rows, COLOURS * 2, strict=False):
    axes[1].plot(names, column, "o-", color=colour, alpha=0.6)
axes[1].set(xlabel="penalties found by (numbers: σ)", ylabel="held-out loss")

# %%
# The error falls with the first power of :math:`\sigma`, also where the lower level has many solutions and its Hessian
# no inverse. The penalties that it finds are as good as those of exact descent, and better than one for all features.

for values in table.values():
    slopes = np.log10(values[:, 1] / values[:, 3]) / 2
    assert (abs(slopes - 1) < 0.15).all(), "first order"
start, one, exact, rough, fine = rows.T
assert (fine < one).all() and (exact < one).all(), "a penalty for each feature"
assert (abs(fine - exact) <= 0.02 * exact).all(), "as good as with second derivatives"
assert (abs(fine - exact) <= abs(rough - exact)).all(), "nearer with a smaller sigma"

# %%
# .. claim:: The gradient of the penalised problem needs first derivatives alone and is within O(σ) of the true one,
#     also where the lower level has many solutions.
#     :experiment: five random quadratics of full rank and of half of it; ridge penalties of six features, five seeds
#     :controls: the gradient by second derivatives, and one penalty from a grid
#     :shown: yes; the paper itself reports no experiments
#
# The lower levels take 40 steps each. With 2 of them, at which σ does the error of the lower level, divided by σ, spoil
# the gradient? Try σ = 1e-4.
