"""
GMRES, and what a restart costs
===============================

GMRES keeps every vector that it has made. Restarts bound the memory, and may ruin the convergence.
"""

# %%
# Convection and diffusion
# ------------------------
# ``-Δu + c·∇u`` on a square: the stronger the wind, the less symmetric the matrix.

import warnings

import numpy as np

from trref.experiments.figures import use_style
from trref.krylov.gmres import gmres
from trref.problems.convex import DenseOperator, PoissonOperator
from trref.validate import ConvergenceWarning

plt = use_style()
warnings.simplefilter("ignore", ConvergenceWarning)
grid = 20
n = grid * grid
diffusion = np.stack([PoissonOperator(grid)(e) for e in np.eye(n)])


def convection(wind):
    """The matrix with upwind differences along the first axis."""
    one_way = np.kron(np.eye(grid) - np.eye(grid, k=-1), np.eye(grid))
    return diffusion + wind * one_way


b = np.ones(n)
restarts = (5, 10, 20, None)
results = {}
figure, axes = plt.subplots(1, 2, sharey=True)
for axis, wind in zip(axes, (0.2, 4.0), strict=True):
    A = DenseOperator(convection(wind))
    for restart in restarts:
        result = gmres(A, b, rtol=1e-8, restart=restart, max_iter=600)
        results[wind, restart] = result
        label = "never" if restart is None else f"every {restart}"
        axis.semilogy(np.array(result.residual_norms) / np.linalg.norm(b), label=f"{label}: {result.iterations}")
    axis.set(xlabel="products with A", title=f"wind {wind}")
    axis.legend(title="restart", fontsize=8)
axes[0].set_ylabel("residual norm, relative")

# %%
# A matrix on which every restart is fatal
# ----------------------------------------
# The cyclic shift is orthogonal, as well conditioned as can be; full GMRES makes no progress until the last step.

m = 30
shift, right = DenseOperator(np.roll(np.eye(m), 1, 0)), np.eye(m)[0]
full, restarted = gmres(shift, right), gmres(shift, right, restart=m - 1)
figure, axis = plt.subplots()
axis.plot(full.residual_norms, "o-", markersize=3, label="never restarted")
axis.plot(restarted.residual_norms, "x", label=f"restarted after {m - 1}")
axis.set(xlabel="products with the cyclic shift", ylabel="residual norm")
axis.legend()

# %%
# A preconditioner on the right
# -----------------------------

scales = np.exp(np.random.default_rng(0).uniform(-3, 3, n))
badly_scaled = DenseOperator(scales[:, None] * convection(1.0))
jacobi = DenseOperator(np.diag(1 / np.diag(badly_scaled.A)))
plain = gmres(badly_scaled, b, rtol=1e-6, max_iter=300)
helped = gmres(badly_scaled, b, rtol=1e-6, max_iter=300, preconditioner=jacobi)

# %%
# What the figures show
# ---------------------

for wind in (0.2, 4.0):
    counts = [results[wind, restart].iterations for restart in restarts]
    print(f"wind {wind}: products until 1e-8, restarts every 5, 10, 20, never: {counts}")
    assert results[wind, None].converged and counts[-1] == min(counts), "the full method needs the fewest products"
for restart in restarts:
    result = results[0.2, restart]
    assert (np.diff(result.residual_norms) <= 1e-9 * result.residual_norms[0]).all(), "no residual ever rises"
assert results[0.2, 5].iterations > 2 * results[0.2, None].iterations, (
    "restarts are dear on the nearly symmetric matrix"
)
assert results[4.0, 5].iterations < results[4.0, 20].iterations, "with strong wind it pays to restart sooner"
assert full.converged and full.iterations == m, "the cyclic shift: done after as many steps as it has rows"
assert full.residual_norms[m - 1] > 0.99, "and nothing is gained before the last"
assert not restarted.converged and min(restarted.residual_norms) > 0.99, "one step before the end all work is lost"
print(f"badly scaled: {plain.iterations} products without and {helped.iterations} with the diagonal preconditioner")
assert helped.converged and helped.iterations < plain.iterations / 2, "the preconditioner halves the work"

# %%
# .. claim:: GMRES has the smallest residual of its Krylov space and ends after as many steps as there are rows;
#     restarts give up both.
#     :experiment: convection and diffusion on 400 points with weak and strong wind; the cyclic shift of 30 entries;
#         no randomness
#     :controls: restarts after 5, 10, 20 and 29 products; no preconditioner
#     :shown: yes: no restarted run needs fewer products, and on the shift every restart is fatal; it may pay to
#         restart sooner: with strong wind every 5 products are better than every 20
