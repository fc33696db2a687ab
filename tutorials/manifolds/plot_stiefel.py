"""
Principal components by walking on frames
=========================================

The orthonormal frames with the largest variance :math:`\\mathrm{tr}(X^\\top C X)` span the principal subspace. We find
it for the handwritten digits with nothing but the tangent projection and the QR retraction, and compare with the
eigendecomposition.
"""

# %%
# Riemannian gradient descent
# ---------------------------

import itertools

import numpy as np

from trref.experiments.figures import use_style
from trref.manifolds.stiefel import project, retract_qr
from trref.problems.digits import digits

plt = use_style()
X = digits().X_train
C = np.cov(X.T)
p = 5
weights = np.arange(p, 0, -1.0)  # Brockett's weights make the frame itself unique, not only its span
eigenvalues, vectors = np.linalg.eigh(C)
best = -0.5 * (eigenvalues[::-1][:p] * weights).sum()


def descend(step, iterations=1500):
    x = np.linalg.qr(np.random.default_rng(0).standard_normal((64, p)))[0]
    gaps, norms = [], []
    for _ in range(iterations):
        euclidean = -C @ x * weights
        riemannian = project(x, euclidean)
        gaps.append(-0.5 * np.trace(x.T @ C @ x * weights) - best)
        norms.append(np.linalg.norm(riemannian))
        x = retract_qr(x, -step * riemannian)
    return x, gaps, norms


x, gaps, norms = descend(0.4)
figure, axes = plt.subplots(1, 2)
axes[0].semilogy(np.maximum(gaps, 1e-16))
axes[0].set(xlabel="iteration", ylabel="gap to the eigendecomposition")
axes[1].semilogy(norms)
axes[1].set(xlabel="iteration", ylabel="norm of the Riemannian gradient")

# %%
# The components as images
# ------------------------

figure, axes = plt.subplots(2, p, figsize=(7, 3))
for i in range(p):
    theirs = vectors[:, -1 - i]
    for axis, v in zip(axes[:, i], (x[:, i], theirs * np.sign(theirs @ x[:, i])), strict=True):
        axis.imshow(v.reshape(8, 8), cmap="PuOr", vmin=-0.35, vmax=0.35)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
axes[0, 0].set_ylabel("on the manifold")
axes[1, 0].set_ylabel("eigh")

# %%
# What the figures show
# ---------------------

angles = abs((x * vectors[:, ::-1][:, :p]).sum(0))
print("cosines with the eigenvectors:", angles.round(6))
assert np.allclose(x.T @ x, np.eye(p), atol=1e-13), "1500 retractions later the frame is orthonormal to rounding"
assert gaps[-1] < 1e-6 * abs(best), "the variance is that of the eigendecomposition to a millionth"
assert all(b <= a + 1e-12 for a, b in itertools.pairwise(gaps)), "and no step loses any"
assert angles.min() > 0.999, "and its columns are the eigenvectors"

# %%
# .. claim:: Descent along the projected gradient with a retraction finds principal components and never leaves the
#     manifold.
#     :experiment: five components of the digits (64 dimensions), 1500 steps from one random frame
#     :controls: the eigendecomposition
#     :shown: yes: the same columns, and the frame orthonormal to rounding
