"""
MINRES where conjugate gradients must not go
============================================

Shift a positive definite matrix until some eigenvalues are negative. Conjugate gradients lose what they minimise;
MINRES keeps its guarantee.
"""

# %%
# Poisson's equation, shifted
# ---------------------------

import warnings

import numpy as np

from trref.experiments.figures import use_style
from trref.krylov.cg import cg
from trref.krylov.gmres import gmres
from trref.krylov.minres import minres
from trref.problems.convex import DenseOperator, PoissonOperator, spd_matrix, spectrum
from trref.validate import ConvergenceWarning

plt = use_style()
warnings.simplefilter("ignore", ConvergenceWarning)  # we stop early on purpose
grid = 20
n = grid * grid
dense = np.stack([PoissonOperator(grid)(e) for e in np.eye(n)])
b = np.random.default_rng(0).standard_normal(n)
figure, axis = plt.subplots()
histories, refused = {}, {}
for shift in (0.0, 0.05, 0.2, 0.5):
    A = DenseOperator(dense - shift * np.eye(n))
    negative = int((np.linalg.eigvalsh(A.A) < 0).sum())
    result = minres(A, b, rtol=1e-8)
    histories[shift] = np.array(result.residual_norms) / result.residual_norms[0]
    axis.semilogy(histories[shift], label=f"shift {shift}: {negative} negative eigenvalues")
    try:
        cg(A, b)
        refused[shift] = False
    except ValueError as error:
        refused[shift] = True
        print(f"shift {shift}: cg stops: {error}")
axis.set(xlabel="iteration", ylabel="residual norm, relative")
axis.legend()

# %%
# Where both work they minimise different things
# ----------------------------------------------

A = spd_matrix(np.random.default_rng(1), spectrum(120, 1e3))
b = np.random.default_rng(2).standard_normal(120)
exact, steps = np.linalg.solve(A, b), range(1, 61, 3)
residual = lambda x: np.linalg.norm(b - A @ x)  # noqa: E731
energy = lambda x: np.sqrt((x - exact) @ A @ (x - exact))  # noqa: E731
runs = {f.__name__: [f(DenseOperator(A), b, rtol=1e-15, max_iter=k).x for k in steps] for f in (cg, minres)}
figure, axes = plt.subplots(1, 2)
for name, iterates in runs.items():
    axes[0].semilogy(steps, [residual(x) for x in iterates], label=name)
    axes[1].semilogy(steps, [energy(x) for x in iterates], label=name)
axes[0].set(xlabel="iteration", ylabel="residual norm")
axes[1].set(xlabel="iteration", ylabel="error in the A-norm")
axes[0].legend()

# %%
# What the figures show
# ---------------------

assert refused == {0.0: False, 0.05: True, 0.2: True, 0.5: True}, "cg works for the definite one and refuses the others"
print("iterations:", {shift: len(history) - 1 for shift, history in histories.items()})
for history in histories.values():
    assert history[-1] <= 1e-8, "MINRES solves all of them"
    assert (np.diff(history) <= 1e-12).all(), "and its residual never rises"
counts = [len(history) for history in histories.values()]
assert counts == sorted(counts) and counts[-1] > 1.5 * counts[0], "though eigenvalues on both sides of zero cost more"
for ours, theirs in zip(runs["minres"], runs["cg"], strict=True):
    assert residual(ours) <= residual(theirs) * (1 + 1e-9), "MINRES has the smaller residual"
    assert energy(ours) >= energy(theirs) * (1 - 1e-9), "and conjugate gradients the smaller error in the A-norm"
indefinite, right = dense[:100, :100] - 0.5 * np.eye(100), np.random.default_rng(3).standard_normal(100)
short, long = (f(DenseOperator(indefinite), right, rtol=1e-15, max_iter=25).x for f in (minres, gmres))
print(f"MINRES and GMRES differ by {abs(short - long).max():.1e} after 25 steps")
assert np.allclose(short, long, atol=1e-8), "with three vectors in memory it does what GMRES does with all of them"

# %%
# .. claim:: MINRES minimises the residual for indefinite matrices too, with three vectors in memory.
#     :experiment: Poisson's equation on 400 points with four shifts; a positive definite and an indefinite matrix;
#         one right-hand side each
#     :controls: conjugate gradients, which stop at negative curvature; GMRES, which keeps all vectors
#     :shown: yes: all four are solved and no residual rises; after 25 steps its iterate is that of GMRES
