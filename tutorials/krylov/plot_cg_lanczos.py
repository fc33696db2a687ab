"""
The error of conjugate gradients, from its own coefficients
===========================================================

The residual can be seen and the error cannot. But the step lengths of the next few iterations tell the error of this
one.
"""

# %%
# A lower bound that hugs the error
# ---------------------------------
# Five right-hand sides for each matrix; the figure shows the last one.

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.krylov.cg_lanczos import cg_coefficients, error_estimate, tridiagonal_from_cg
from trref.problems.convex import DenseOperator, PoissonOperator, spd_matrix, spectrum

plt = use_style()


def errors(matvec, b, exact, steps):
    """The A-norm of the error of the iterates 0 to steps, one after the other."""
    energy = lambda x: np.sqrt((x - exact) @ matvec(x - exact))  # noqa: E731
    return np.array([energy(0 * b)] + [energy(cg_coefficients(matvec, b, steps=k).x) for k in range(1, steps + 1)])


grid = 24
operator = PoissonOperator(grid)
dense = np.stack([operator(e) for e in np.eye(grid * grid)])
geometric = spd_matrix(np.random.default_rng(0), spectrum(150, 1e4))
problems = {
    "Poisson, 24 x 24": (operator, dense, 50),
    "geometric spectrum, condition 10⁴": (DenseOperator(geometric), geometric, 90),
}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6))
shares, bounded = {}, []
for axis, (name, (matvec, matrix, steps)) in zip(axes, problems.items(), strict=True):
    for seed in range(5):
        b = np.random.default_rng(seed).standard_normal(len(matrix))
        true = errors(matvec, b, np.linalg.solve(matrix, b), steps)[:-1]
        result = cg_coefficients(matvec, b, steps=steps)
        alpha, rz = np.array(result.alpha), np.array(result.rz)
        estimates = {delay: np.sqrt(error_estimate(alpha, rz, delay=delay)) for delay in (1, 5, 20)}
        for delay, estimate in estimates.items():
            bounded.append((estimate <= true * (1 + 1e-8)).all())
            shares.setdefault((name, delay), []).append(np.median((estimate / true)[: steps - delay]))
    axis.semilogy(true, color=COLOURS[0], label="error in the A-norm")
    axis.semilogy(np.sqrt(rz), color="#8c8c8c", linestyle=":", label="residual norm")
    for (delay, estimate), colour in zip(estimates.items(), COLOURS[1:], strict=False):
        axis.semilogy(estimate, color=colour, linestyle="--", linewidth=1.3, label=f"estimate, delay {delay}")
    axis.set(xlabel="iteration", title=name)
axes[0].set_ylabel("error")
axes[0].legend(fontsize=8)

# %%
# The same coefficients are a Lanczos matrix
# ------------------------------------------
# Its eigenvalues find the ends of the spectrum first, and with them the condition number.

matrix = spd_matrix(np.random.default_rng(2), np.concatenate([[1e-3, 1e-2], np.linspace(0.2, 1.0, 76), [2.0, 4.0]]))
result = cg_coefficients(DenseOperator(matrix), np.random.default_rng(3).standard_normal(80), steps=40)
T = tridiagonal_from_cg(np.array(result.alpha), np.array(result.beta))
conditions = []
figure, axis = plt.subplots()
for k in range(1, result.iterations + 1):
    theta = np.linalg.eigvalsh(T[:k, :k])
    conditions.append(theta[-1] / theta[0])
    axis.semilogy(np.full(k, k), theta, ".", markersize=3, color=COLOURS[0])
for w in (1e-3, 1e-2, 2.0, 4.0):
    axis.axhline(w, color=COLOURS[1], linewidth=0.8)
axis.set(xlabel="iteration", ylabel="Ritz values (lines: isolated eigenvalues)")

# %%
# What the figures show
# ---------------------

assert all(bounded), "never above the true error"
for (name, delay), share in shares.items():
    print(f"{name}, delay {delay}: in the median the estimate is {min(share):.2f} to {max(share):.2f} of the error")
easy, hard = problems
assert min(shares[easy, 5]) > 0.85, "with a delay of 5 the estimate hugs the error of Poisson's equation from below"
# where 5 steps do not reduce the error by much, as with the geometric spectrum, no more than half of it is seen
assert max(shares[hard, 5]) < 0.6 < 0.8 < min(shares[hard, 20]), "there the delay must be longer"
for name in problems:
    assert max(shares[name, 1]) < min(shares[name, 5]) and max(shares[name, 5]) < min(shares[name, 20]), (
        "a longer delay is always closer"
    )
print(
    f"condition number {4e3:.0f}, from the Ritz values after 20 and 40 steps {conditions[19]:.0f}, {conditions[39]:.0f}"
)
assert abs(conditions[-1] / 4e3 - 1) < 1e-2, "the Ritz values tell the condition number"

# %%
# .. claim:: The step lengths of the next few iterations give a lower bound of the error of conjugate gradients that
#     hugs it.
#     :experiment: Poisson's equation on 24 x 24 points, and a geometric spectrum of condition 10,000; five
#         right-hand sides each
#     :controls: the true error; the residual norm; delays of 1, 5 and 20 iterations
#     :shown: in part: never above the error. With a delay of 5 it is nine tenths of the error for Poisson's equation,
#         but half of it for the geometric spectrum, which needs 20
