r"""The Stiefel manifold: tangent projection and QR retraction.

The orthonormal frames :math:`\mathrm{St}(n,p) = \{X \in \mathbb R^{n\times p} : X^\top X = I\}`. One optimises over
them by moving in the tangent space :math:`\{\xi : X^\top\xi + \xi^\top X = 0\}` and retracting back. The nearest
tangent vector to an arbitrary :math:`Z` is

.. math::
    :label: stiefel-project

    P_X(Z) = Z - X\,\mathrm{sym}(X^\top Z), \qquad \mathrm{sym}(A) = \tfrac12 (A + A^\top),

and a retraction of first order is the orthogonal factor of :math:`X + \xi`,

.. math::
    :label: stiefel-qr

    R_X(\xi) = \mathrm{qf}(X + \xi), \qquad X + \xi = QR, \; R_{ii} > 0 .

Its differential, which also serves as a vector transport: with :math:`Y R = X + \xi`, :math:`B = \zeta R^{-1}`,
:math:`C = Y^\top B` and :math:`\rho = \mathrm{tril}(C, -1) - \mathrm{tril}(C, -1)^\top`,

.. math::
    :label: stiefel-qr-jvp

    \mathrm D R_X(\xi)[\zeta] = Y\rho + (I - YY^\top) B,

and its adjoint, with :math:`M = Y^\top G` for a cotangent :math:`G`,

.. math::
    :label: stiefel-qr-vjp

    \mathrm D R_X(\xi)^*[G] = \big( Y\,\mathrm{tril}(M - M^\top, -1) + G - YM \big) R^{-\top} .

**Where implementations differ.** LAPACK's QR has arbitrary signs; without fixing them the retraction jumps, and
:math:`R_X(0) = X` fails. geoopt's canonical manifold projects by :math:`Z - XZ^\top X`: that is a gradient (see
:mod:`trref.manifolds.stiefel_gradient`), but as a projection it doubles the rotation :math:`XX^\top\xi` of a tangent
vector.

**Provenance.** Confirmed: textbook formulas, read in pymanopt and geoopt too; the adjoint is derived here.

Edelman, Arias and Smith, *The Geometry of Algorithms with Orthogonality Constraints*, 1998, arXiv:physics/9806030;
Absil, Mahony and Sepulchre, *Optimization Algorithms on Matrix Manifolds*, 2008.
"""

from trref.backend import linalg, xp
from trref.signature import Lead, N, Orthonormal, P, Real, checked


def sym(A):
    """Symmetric part of (…, p, p)."""
    return (A + A.mT) / 2


def tangent_part(x, z):
    """`project` without checks, for loops."""
    return z - x @ sym(x.mT @ z)  # eq. stiefel-project


@checked
def project(x: Orthonormal[Lead, N, P], z: Real[Lead, N, P]) -> Real[Lead, N, P]:
    """Project z on the tangent space at x.

    Parameters
    ----------
    x
        A frame.
    z
        Any matrix of its shape.
    """
    return tangent_part(x, z)


def project_vjp(x, z, cotangent):
    """The projection is linear in z and self-adjoint: it is its own jvp and vjp."""
    return project(x, cotangent)


def qr_factors(A):
    """Return Y and R with Y R = A and a positive diagonal of R; unchecked."""
    Q, R = linalg.qr(A)
    signs = xp.where(xp.diagonal(R, axis1=-2, axis2=-1) < 0, -1, 1).astype(A.dtype)
    return Q * signs[..., None, :], R * signs[..., :, None]  # eq. stiefel-qr


def full_rank(values, n):
    """Whether the smallest of a factor's values (..., p) is above rounding."""
    size, smallest = abs(values), n * float(xp.finfo(values.dtype).eps)
    return (size.min(-1) > smallest * size.max(-1)).all()


def qr_of_full_rank(A, message):
    """The pair for `trref.validate.require` that A (..., n, p) has full column rank."""
    R = lambda: linalg.qr(A, mode="r")  # noqa: E731
    test = lambda: full_rank(xp.diagonal(R(), axis1=-2, axis2=-1), A.shape[-2])  # noqa: E731
    return [(test, message)]


def _leaves_full_rank(x, z, **_):
    """A z that leaves x + z without full rank; after a tangent vector it always has."""
    return qr_of_full_rank(x + z, "z must leave x + z of full rank")


@checked(also=_leaves_full_rank)
def retract_qr(
    x: Orthonormal[Lead, N, P], z: Real[Lead, N, P]
) -> Orthonormal[Lead, N, P]:
    """Retract the step z from x by the orthogonal factor of x + z.

    Parameters
    ----------
    z
        A tangent vector, or any step that leaves x + z of full rank.
    """
    return qr_factors(x + z)[0]


@checked(also=_leaves_full_rank)
def retract_qr_jvp(
    x: Orthonormal[Lead, N, P], z: Real[Lead, N, P], tangent: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Differential of the retraction at z along a tangent; also a vector transport.

    Parameters
    ----------
    tangent
        Any matrix; the result is tangent to the manifold at ``retract_qr(x, z)``.
    """
    return qr_differential(*qr_factors(x + z), tangent)


def qr_differential(Y, R, z):
    """Differential of the orthogonal factor of Y R along z; unchecked."""
    # eq. stiefel-qr-jvp
    B = linalg.solve(R.mT, z.mT).mT
    C = Y.mT @ B
    rho = xp.tril(C, -1) - xp.tril(C, -1).mT
    return Y @ (rho - C) + B


@checked(also=_leaves_full_rank)
def retract_qr_vjp(
    x: Orthonormal[Lead, N, P], z: Real[Lead, N, P], cotangent: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Adjoint of `retract_qr_jvp`: the derivative of ``sum(cotangent * retract_qr(x, z))`` by z.

    Parameters
    ----------
    cotangent
        Any matrix.
    """
    Y, R = qr_factors(x + z)
    # eq. stiefel-qr-vjp
    M = Y.mT @ cotangent
    B = Y @ (xp.tril(M - M.mT, -1) - M) + cotangent
    return linalg.solve(R, B.mT).mT
