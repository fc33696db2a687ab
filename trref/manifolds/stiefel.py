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

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Method, Transform
from trref.manifolds import deviations
from trref.manifolds.interfaces import ANY_STEP, STEP, off_manifold, off_tangent

__all__ = ["project", "project_vjp", "retract_qr", "retract_qr_jvp", "retract_qr_vjp"]


def sym(A):
    """Symmetric part of (…, p, p)."""
    return (A + A.mT) / 2


def tangent_part(x, z):
    """`project` without checks, for loops."""
    return z - x @ sym(x.mT @ z)  # eq. stiefel-project


def project(x, z):
    """Project z on the tangent space at x.

    Parameters
    ----------
    x : array (…, n, p)
        Orthonormal columns.
    z : array of the same shape

    Returns
    -------
    array of the same shape

    Raises
    ------
    ValueError
        `x` off the manifold, shapes that differ, values that are not finite.
    """
    validate.inputs(ANY_STEP.inputs, x, z)
    return tangent_part(x, z)


def project_vjp(x, z, cotangent):
    """The projection is linear in z and self-adjoint: it is its own jvp and vjp."""
    return project(x, cotangent)


def retract_qr(x, z):
    """Retract the step z from x by the orthogonal factor of x + z.

    Parameters
    ----------
    x : array (…, n, p)
        Orthonormal columns.
    z : array of the same shape
        A tangent vector, or any step that leaves x + z of full rank.

    Returns
    -------
    array of the same shape
        Orthonormal columns.

    Raises
    ------
    ValueError
        `x` off the manifold, shapes that differ, values that are not finite, x + z rank deficient.
    """
    return _checked_factors(x, z)[0]


def qr_factors(A):
    """Return Y and R with Y R = A and a positive diagonal of R; unchecked."""
    Q, R = linalg.qr(A)
    signs = xp.where(xp.diagonal(R, axis1=-2, axis2=-1) < 0, -1, 1).astype(A.dtype)
    return Q * signs[..., None, :], R * signs[..., :, None]  # eq. stiefel-qr


def full_rank(values, n):
    """Whether the smallest of a factor's values (..., p) is above rounding; asked of the device when called."""
    size, smallest = abs(values), n * float(xp.finfo(values.dtype).eps)
    return lambda: (size.min(-1) > smallest * size.max(-1)).all()


def checked_qr_factors(A, flags, needed):
    """`qr_factors` of A (..., n, p) of full rank, with the flags of `validate.deferred`."""
    Y, R = qr_factors(A)
    diagonal = xp.diagonal(R, axis1=-2, axis2=-1)
    validate.require(*flags, (full_rank(diagonal, A.shape[-2]), needed))
    return Y, R


def _checked_factors(x, z):
    _, flags = validate.deferred(STEP.inputs, x, z)
    return checked_qr_factors(x + z, flags, "z must leave x + z of full rank")


def retract_qr_jvp(x, z, tangent):
    """Differential of the retraction at z along a tangent; also a vector transport.

    Parameters
    ----------
    x, z : arrays
        As in `retract_qr`.
    tangent : array of the same shape

    Returns
    -------
    array of the same shape
        Tangent to the manifold at ``retract_qr(x, z)``.
    """
    return qr_differential(*_checked_factors(x, z), tangent)


def qr_differential(Y, R, z):
    """Differential of the orthogonal factor of Y R along z; unchecked."""
    # eq. stiefel-qr-jvp
    B = linalg.solve(R.mT, z.mT).mT
    C = Y.mT @ B
    rho = xp.tril(C, -1) - xp.tril(C, -1).mT
    return Y @ (rho - C) + B


def retract_qr_vjp(x, z, cotangent):
    """Adjoint of `retract_qr_jvp`: the derivative of ``sum(cotangent * retract_qr(x, z))`` by z."""
    Y, R = _checked_factors(x, z)
    # eq. stiefel-qr-vjp
    M = Y.mT @ cotangent
    B = Y @ (xp.tril(M - M.mT, -1) - M) + cotangent
    return linalg.solve(R, B.mT).mT


METHOD = Method(
    key="edelman1998geometry",
    provenance="confirmed",
    functions=(
        Transform(
            f=project,
            interface=ANY_STEP,
            wrt="z",
            jvp=lambda x, z, tangent: project(x, tangent),
            vjp=project_vjp,
            idempotent=True,
            feasible=lambda result, x, z: off_tangent(x, result, z),
            deviations=(deviations.CANONICAL_GRADIENT_AS_PROJECTION,),
        ),
        Transform(
            f=retract_qr,
            interface=STEP,
            wrt="z",
            jvp=retract_qr_jvp,
            vjp=retract_qr_vjp,
            feasible=off_manifold,
            deviations=(deviations.QR_WITHOUT_SIGNS,),
        ),
    ),
)
