r"""MaTS: models are merged by conjugate gradients on the sum of their tasks' quadratics.

Fine-tuning one network on tasks :math:`m = 1, \dots, K` gives a layer :math:`W_m` for each
(:math:`d_{\text{in}} \times d_{\text{out}}`, the layer maps a row :math:`x` to :math:`xW_m`). Many rules for merging
them into one layer minimise a sum of quadratics around them. Each has a matrix :math:`C_m` that says which directions
matter to its task:

.. math::
    :label: mats-objective

    J(W) = \tfrac12 \sum_m \langle W - W_m,\; C_m(W - W_m) \rangle, \qquad
    \nabla J(W) = \sum_m C_m(W - W_m) .

The identity gives the average of the layers. The inputs' second moments :math:`G_m = \frac1n X_m^\top X_m` give
RegMean. With those of the gradients by the layer's outputs, :math:`D_m = \frac1n \sum_i \delta_i \delta_i^\top`,
the matrix is a Kronecker approximation of the Fisher information:

.. math::
    :label: mats-kronecker

    C_m V = G_m V D_m , \qquad \text{RegMean: } D_m = I .

A layer of one column has any matrix at all, :math:`G_m`. All that lies off the diagonals of :math:`G_m` and
:math:`D_m` can first be scaled by a factor :math:`\lambda \le 1`:

.. math::
    :label: mats-off-diagonal

    G_m \leftarrow \lambda G_m + (1 - \lambda) \operatorname{diag} G_m .

The minimum is the solution of one linear system. A sum of Kronecker products is none, so there is no inverse to write
down, but a product with it costs two products of matrices a task, and that is all that conjugate gradients need:

.. math::
    :label: mats-system

    \sum_m C_m W = \sum_m C_m W_m .

Start and number of iterations are settings of the method: the paper stops after 100 iterations or 10, and starts from
the average, from the network before fine-tuning or from task arithmetic, :math:`W_0 + 0.3 \sum_m (W_m - W_0)`. The
system always has a solution. Directions that matter to no task (:math:`\sum_m C_m V = 0`) stay as they are in the
start; a task whose matrices are 0 is left out, and if all are 0 the start is the result.

Diagonal matrices have a closed form, diagonal Fisher merging, with :math:`F_m` the mean squares of the gradients'
entries, each at least a small floor:

.. math::
    :label: mats-diagonal

    \theta = \frac{\sum_m F_m \odot \theta_m}{\sum_m F_m} .

And the last layer of a classifier has its exact Fisher information, as a product, with
:math:`P = \mathrm{softmax}(XW)` and :math:`U = XV`:

.. math::
    :label: mats-softmax

    V \mapsto \tfrac1n X^\top \big( P \odot U - P \odot (P \odot U) \mathbf 1 \mathbf 1^\top \big) .

For least squares the merge is exact: if each :math:`W_m` fits its task and :math:`C_m = X_m^\top X_m`, not divided by
the number of rows, the solution fits all rows pooled.

**Where implementations differ.** Frameworks store layers transposed. The authors' code turns the fine-tuned layers
round, but not the network before fine-tuning where that is the start: conjugate gradients then begin with its entries
in the wrong places, which few iterations, or directions that matter to no task, do not repair. Their diagonal merge
weighs two tasks by a factor and 1 less that factor, and the factor is 1 by default, so that the second task is ignored.

**Provenance.** Confirmed in the authors' code: systems, products, starts, numbers of iterations, the scaling and the
floor. The exact Fisher product and the statement on least squares were derived here.

Tam, Bansal and Raffel, *Merging by Matching Models in Task Subspaces*, 2023, arXiv:2312.04339.
"""

import math
import warnings
from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.cg import cg
from trref.krylov.terms import norm
from trref.nn.heads import log_softmax
from trref.signature import (
    B,
    D,
    Fraction,
    K,
    N,
    NonNegative,
    OpenFraction,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

__all__ = [
    "MergeResult",
    "diagonal_merge",
    "mats",
    "merge_objective",
    "softmax_fisher_product",
]


class MergeResult(NamedTuple):
    """The merged layer, and the norm of the system's residual at the start and after each iteration."""

    x: Real[D, N]
    residual_norms: list[float]
    iterations: int
    converged: bool


def _symmetric(input_gram, output_gram=None, **_):
    """Gram matrices that are not symmetric."""

    def holds(gram):
        bound = max(1e-6, math.sqrt(float(xp.finfo(gram.dtype).eps)))
        return abs(gram - gram.swapaxes(1, 2)).max() <= bound * abs(gram).max()

    grams = {"input_gram": input_gram, "output_gram": output_gram}
    return [
        (lambda gram=gram: holds(gram), f"{name} must be symmetric")
        for name, gram in grams.items()
        if gram is not None
    ]


@checked(also=_symmetric)
def mats(
    layers: Real[K, D, N],
    input_gram: Real[K, D, D],
    output_gram: Real[K, N, N] | None = None,
    *,
    x0: Real[D, N] | None = None,
    off_diagonal: Fraction = 1.0,
    rtol: OpenFraction = 1e-5,
    max_iter: PositiveInt = 100,
) -> MergeResult:
    """Merge the layers of several tasks by conjugate gradients.

    Parameters
    ----------
    layers
        The layer of each task, inputs first.
    input_gram
        Second moments of each task's inputs to the layer: G.
    output_gram
        Second moments of each task's gradients by the layer's outputs: D; the identity if None, which is RegMean.
    x0
        Start; the average of the layers if None.
    off_diagonal
        Factor of what lies off the diagonals: λ.
    rtol
        Of the residual to the right-hand side, or to the first residual if that side is 0.

    Raises
    ------
    ValueError
        The curvature along a search direction is negative: the matrices are not positive semi-definite.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or rounding keeps the true residual above the target.
    """
    _, D, N = layers.shape
    G, H = (_shrunk(gram, off_diagonal) for gram in (input_gram, output_gram))

    def product(v):
        return _curved(v.reshape(1, D, N), G, H).sum(0).ravel()

    # eq. mats-system
    b = _curved(layers, G, H).sum(0).ravel()
    start = (layers.mean(0) if x0 is None else x0).ravel()
    r = b - product(start)
    norms = [norm(r)]
    target = rtol * (norm(b) or norms[0])
    if norms[0] <= target:
        return MergeResult(start.reshape(D, N).copy(), norms, 0, True)

    step, norms = _solve(product, r, target / norms[0], max_iter)
    x = start + step
    norms[-1] = norm(b - product(x))
    iterations, converged = len(norms) - 1, norms[-1] <= target
    if not converged:
        message = f"mats stopped after {iterations} iterations at a residual of {norms[-1]:.2e}, above {target:.2e}"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return MergeResult(x.reshape(D, N), norms, iterations, converged)


def _solve(product, r, rtol, max_iter):
    """Conjugate gradients from 0: the way from the start to the solution has the iterates of the way itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", validate.ConvergenceWarning)
            step = cg.unchecked(product, r, rtol=rtol, max_iter=max_iter)
    except ValueError as error:
        message = "input_gram and output_gram must be positive semi-definite"
        raise ValueError(f"{message}: {error}") from None
    return step.x, step.residual_norms


def _shrunk(gram, off_diagonal):
    """What lies off the diagonal, scaled; symmetric to the last digit."""
    if gram is None:
        return None
    gram = (gram + gram.swapaxes(1, 2)) / 2
    eye = xp.eye(gram.shape[-1], dtype=gram.dtype)
    return gram * (off_diagonal + (1 - off_diagonal) * eye)  # eq. mats-off-diagonal


def _curved(V, input_gram, output_gram):
    """Each task's matrix, times its V."""
    # eq. mats-kronecker
    GV = input_gram @ V
    return GV if output_gram is None else GV @ output_gram


@checked(also=_symmetric)
def merge_objective(
    x: Real[D, N],
    layers: Real[K, D, N],
    input_gram: Real[K, D, D],
    output_gram: Real[K, N, N] | None = None,
) -> tuple[Scalar, Real[D, N]]:
    """Sum of the tasks' quadratics around their layers.

    Parameters
    ----------
    x
        A merged layer.
    """
    # eq. mats-objective
    difference = x - layers
    curved = _curved(difference, input_gram, output_gram)
    return (difference * curved).sum() / 2, curved.sum(0)


@checked
def diagonal_merge(
    thetas: Real[K, P], fisher: NonNegative[K, P], *, floor: PositiveFloat = 1e-8
) -> Real[P]:
    """Diagonal Fisher merging.

    Parameters
    ----------
    thetas
        The parameters of each task, flat.
    fisher
        Mean squares of the gradient's entries, each task's at its parameters.
    floor
        The least of them.
    """
    F = xp.maximum(fisher, floor)
    return (F * thetas).sum(0) / F.sum(0)  # eq. mats-diagonal


@checked
def softmax_fisher_product(W: Real[D, N], X: Real[B, D], V: Real[D, N]) -> Real[D, N]:
    """The Fisher information of a classifier's last layer, times V.

    Parameters
    ----------
    W
        The layer.
    X
        Its inputs, a row a sample.
    V
        What is multiplied.
    """
    # eq. mats-softmax
    p = xp.exp(log_softmax(X @ W))
    pU = p * (X @ V)
    return X.T @ (pU - p * pU.sum(1, keepdims=True)) / len(X)
