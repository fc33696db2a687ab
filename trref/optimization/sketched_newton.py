r"""Sketched Newton steps: a linear system solved a random equation at a time, as far as a descent direction needs.

To solve :math:`\Gamma \Delta = b`, the Newton system of `trref.optimization.exact_merit` with K equations, combine a
few equations by a sketch S and go to the nearest point that solves those:

.. math::
    :label: sketched-newton-sketch

    \Delta \leftarrow \Delta - \Gamma^\top S (S^\top \Gamma \Gamma^\top S)^\dagger S^\top (\Gamma \Delta - b) .

That is a projection: the error is orthogonal to the step, and never grows. With one equation, drawn uniformly, it is
Kaczmarz' method,

.. math::
    :label: sketched-newton-kaczmarz

    \Delta \leftarrow \Delta - \frac{\Gamma_i \Delta - b_i}{\| \Gamma_i \|^2}\, \Gamma_i^\top ,

and with one combination of all, with :math:`s \sim N(0, I)`, the Gaussian vector sketch

.. math::
    :label: sketched-newton-gaussian

    \Delta \leftarrow \Delta - \frac{s^\top (\Gamma \Delta - b)}{\| \Gamma^\top s \|^2}\, \Gamma^\top s .

Kaczmarz' method converges at a linear rate in expectation. From 0, with D the diagonal of the norms of the rows,

.. math::
    :label: sketched-newton-rate

    \mathbb E \| \Delta_j - \Delta^* \|^2 \le
    \Big( 1 - \frac{\sigma_{\min}^2(D^{-1} \Gamma)}{K} \Big)^j \| \Delta^* \|^2 .

How exact must :math:`\Delta` be? Two numbers bound the inverse and the blocks of :math:`\Gamma`,

.. math::
    :label: sketched-newton-bounds

    \Psi = \frac{20 \max(\|B\|_F^2, 1)}{\min(\xi_G, 1) \min(\xi, 1)}, \qquad
    \Upsilon = \max(\|G\|_F, \|\nabla^2_{xx} L\|_F, 1), \qquad \xi_G = \lambda_{\min}(G G^\top) ,

and a direction with a residual of

.. math::
    :label: sketched-newton-accuracy

    \| \Gamma \Delta - b \| \le \frac{\vartheta\, \delta\, \| b \|}{\| \Gamma \|_F \Psi}

is within :math:`\delta` of the exact one in the sense that descent needs.

===================  ============
:math:`\xi`          `shift`
:math:`\delta`       `accuracy`
:math:`\vartheta`    `forcing`
===================  ============

**Where implementations differ.** No deviation is known: the norms of matrices are Frobenius norms in the authors' code,
too.

**Provenance.** Steps and constants are confirmed in the authors' code (IlgeeHong/AdaSketch-Newton, Kaczmarz and
Gaussian vectors); the rate for uniform rows is derived here, from that for rows of equal norms.

Hong, Na, Mahoney and Kolar, *Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative
Sketching*, 2023, arXiv:2305.18379.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.optimization.terms import independent
from trref.signature import (
    T1,
    D,
    Index,
    K,
    M,
    N,
    OpenFraction,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)


class Bounds(NamedTuple):
    """Of the inverse of the system's matrix, and of its blocks."""

    psi: Scalar
    upsilon: Scalar


@checked
def sketch_step(
    matrix: Real[K, K], right: Real[K], delta: Real[K], sketch: Real[K, D]
) -> Real[K]:
    """The nearest point that solves the combined equations.

    Parameters
    ----------
    matrix
        Of the system.
    right
        Its right-hand side.
    delta
        Where the step begins.
    sketch
        A combination of equations a column.
    """
    rows = sketch.T @ matrix
    error = rows @ delta - sketch.T @ right
    loose = 10 * len(rows) * float(xp.finfo(rows.dtype).eps)
    # eq. sketched-newton-sketch
    return delta - rows.T @ (linalg.pinv(rows @ rows.T, rcond=loose) @ error)


def _rows(matrix, **_):
    """An equation without unknowns."""
    return [(lambda: (abs(matrix).max(1) > 0).all(), "matrix must have no row of 0")]


def _numbered(matrix, order, **_):
    """An equation that there is not, or one without unknowns."""
    return [validate.labels(order, len(matrix), "order"), *_rows(matrix)]


@checked(also=_numbered)
def kaczmarz_steps(
    matrix: Real[K, K], right: Real[K], delta: Real[K], order: Index[T]
) -> Real[T1, K]:
    """All points of Kaczmarz' method, the start first.

    Parameters
    ----------
    order
        The equation of each step, drawn uniformly.
    """
    squares, points = (matrix * matrix).sum(1), [delta]
    for i in order.tolist():
        row, delta = matrix[i], points[-1]
        # eq. sketched-newton-kaczmarz
        points.append(delta - (row @ delta - right[i]) / squares[i] * row)
    return xp.stack(points)


def _combined(matrix, vectors, **_):
    """Vectors that combine the equations to one without unknowns."""
    seen = lambda: (abs(vectors @ matrix).max(1) > 0).all()  # noqa: E731
    return [(seen, "vectors must combine the equations to others than 0 = 0")]


@checked(also=_combined)
def gaussian_steps(
    matrix: Real[K, K], right: Real[K], delta: Real[K], vectors: Real[T, K]
) -> Real[T1, K]:
    """All points of the Gaussian vector sketch, the start first.

    Parameters
    ----------
    vectors
        Standard normal, one a step.
    """
    points = [delta]
    for s in vectors:
        row, delta = s @ matrix, points[-1]
        # eq. sketched-newton-gaussian
        points.append(delta - (row @ delta - s @ right) / (row @ row) * row)
    return xp.stack(points)


@checked(also=_rows)
def kaczmarz_rate(matrix: Real[K, K]) -> Scalar:
    """The factor by which the expected squared error falls, at least, in a step."""
    norms = xp.sqrt((matrix * matrix).sum(1))
    # eq. sketched-newton-rate
    least = linalg.svd(matrix / norms[:, None], compute_uv=False)[-1]
    return 1 - least * least / len(matrix)


@checked(also=independent)
def inner_bounds(
    curvature: Real[N, N],
    hessian: Real[N, N],
    jacobian: Real[M, N],
    *,
    shift: PositiveFloat = 0.1,
) -> Bounds:
    """The two constants of the accuracy.

    Parameters
    ----------
    curvature
        The modified Hessian.
    hessian
        Of the Lagrangian.
    jacobian
        Of the constraints.
    shift
        That of `trref.optimization.exact_merit.modified_hessian`.
    """
    size, bend = (jacobian * jacobian).sum(), (hessian * hessian).sum()
    least = linalg.eigvalsh(jacobian @ jacobian.T)[0]
    least = xp.maximum(least, float(xp.finfo(size.dtype).eps))  # the bound stays finite
    # eq. sketched-newton-bounds
    psi = 20 * xp.maximum((curvature * curvature).sum(), 1)
    psi = psi / (xp.minimum(least, 1) * min(shift, 1.0))
    return Bounds(psi, xp.sqrt(xp.maximum(xp.maximum(size, bend), 1)))


@checked
def largest_residual(
    matrix: Real[K, K],
    right: Real[K],
    psi: Scalar,
    *,
    accuracy: OpenFraction = 0.1,
    forcing: PositiveFloat = 1.0,
) -> Scalar:
    """The residual at which the inner solver stops.

    Parameters
    ----------
    psi
        Of `inner_bounds`.
    accuracy
        How exact the direction is to be.
    forcing
        Less of it is more exact; towards 0 from step to step, convergence is superlinear.
    """
    size = xp.sqrt((matrix * matrix).sum())
    # eq. sketched-newton-accuracy
    return forcing * accuracy * xp.sqrt(right @ right) / (size * psi)
