"""
Lanczos: ghosts, and traces without eigenvalues
===============================================

In exact arithmetic the Lanczos recurrence never finds one eigenvalue twice. In floating point it does, as soon as it
has found it once.
"""

# %%
# Ghosts
# ------
# One eigenvalue far from the others. Each column of points are the Ritz values after so many steps.

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.krylov.lanczos import lanczos, lanczos_quadrature, tridiagonal
from trref.problems.convex import DenseOperator, spd_matrix, spectrum
from trref.problems.spectral import Logarithm

plt = use_style()
n, steps = 100, 60
A = DenseOperator(np.diag(np.concatenate([np.linspace(0.0, 1.0, n - 2), [1.6, 2.2]])))
v = np.random.default_rng(0).standard_normal(n)
figure, axes = plt.subplots(1, 2, sharey=True)
copies, lost = {}, {}
for axis, (label, passes) in zip(axes, {"plain recurrence": 0, "reorthogonalised": 2}.items(), strict=True):
    result = lanczos(A, v, steps=steps, reorthogonalise=passes)
    T = tridiagonal(result)
    for k in range(1, steps + 1):
        theta = np.linalg.eigvalsh(T[:k, :k])
        axis.plot(np.full(k, k), theta, ".", markersize=2.5, color=COLOURS[0])
    copies[label] = [int((abs(np.linalg.eigvalsh(T) - w) < 1e-6).sum()) for w in (1.6, 2.2)]
    lost[label] = abs(result.basis.T @ result.basis - np.eye(steps)).max()
    axis.set(xlabel="step", title=label)
axes[0].set_ylabel("Ritz values")
print("copies of the two isolated eigenvalues:", copies)

# %%
# A determinant from products with vectors
# ----------------------------------------
# ``log det A = tr log A``, estimated from 20 random sign vectors with Gauss rules of more and more nodes, for ten
# draws of the probes. The rule converges within a few nodes; what stays is the noise of the probes.

A = spd_matrix(np.random.default_rng(1), spectrum(200, 100.0))
exact = np.linalg.slogdet(A)[1]
nodes, seeds, M = (1, 2, 3, 4, 6, 8, 12, 16, 24), 10, 20
quadrature_error, estimates = [], []
for k in nodes:
    values = np.zeros((seeds, M))
    reference = np.zeros((seeds, M))
    for seed in range(seeds):
        probes = np.random.default_rng(seed).choice((-1.0, 1.0), (M, 200))
        if k == nodes[0]:
            w, Q = np.linalg.eigh(A)
        reference[seed] = ((probes @ Q) ** 2) @ np.log(w)
        values[seed] = [lanczos_quadrature(DenseOperator(A), p, Logarithm(), steps=k) for p in probes]
    estimates.append(values.mean(1))
    quadrature_error.append(abs(values - reference).mean() / abs(exact))
estimates = np.array(estimates)
standard_error = values.std(1, ddof=1) / np.sqrt(M)
figure, (left, right) = plt.subplots(1, 2)
left.semilogy(nodes, quadrature_error, "o-")
left.set(xlabel="nodes of the Gauss rule", ylabel="error of the rule, relative")
right.plot(nodes, estimates, color=COLOURS[0], alpha=0.5, linewidth=1)
right.axhline(exact, color=COLOURS[1], linestyle="--", label="log det A")
right.set(xlabel="nodes of the Gauss rule", ylabel="estimate of the trace")
right.legend()

# %%
# What the figures show
# ---------------------

assert min(copies["plain recurrence"]) >= 2, "each isolated eigenvalue was found more than once"
assert copies["reorthogonalised"] == [1, 1], "and once with reorthogonalisation"
assert lost["reorthogonalised"] < 1e-12, "which keeps the basis orthogonal"
assert lost["plain recurrence"] > 0.5, "the basis has lost its orthogonality altogether"
print("error of the rule:", [f"{e:.1e}" for e in quadrature_error])
rate = ((np.sqrt(100.0) - 1) / (np.sqrt(100.0) + 1)) ** 2
for k, error in zip(nodes, quadrature_error, strict=True):
    assert error <= quadrature_error[0] * rate ** (k - 1), "at least as fast as the condition number promises"
inside = abs(estimates[-1] - exact) < 2.5 * standard_error
print(f"{inside.sum()} of {seeds} estimates within 2.5 standard errors of {exact:.2f}")
assert inside.mean() >= 0.8, "the estimates scatter around the truth as their standard errors say"

# %%
# .. claim:: Without reorthogonalisation Lanczos finds eigenvalues more than once; its Gauss rules give traces of
#     functions from products alone.
#     :experiment: a diagonal matrix with two isolated eigenvalues, 60 steps; log det of a matrix of 200 rows, 20
#         probes, ten draws
#     :controls: two passes of reorthogonalisation; the determinant; the rate that the condition number promises
#     :shown: yes: ghosts appear and the basis loses its orthogonality; the rule converges at least at the promised
#         rate, and the noise of the probes remains
