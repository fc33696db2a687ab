r"""Vector transport on the Stiefel manifold: carrying tangent vectors along a step.

Conjugate gradients add directions of different tangent spaces, so an old direction :math:`\zeta \in T_X` must be
carried to :math:`Y = R_X(\xi)` first. The simplest way forgets what is not tangent there:

.. math::
    :label: stiefel-transport-projection

    \mathcal T(\zeta) = P_Y(\zeta) .

It needs the end point alone and never lengthens a vector. The differential of the retraction belongs to the theory of
Fletcher-Reeves methods. Of the QR retraction, with :math:`X + \xi = YR` and :math:`B = \zeta R^{-1}`, it is

.. math::
    :label: stiefel-transport-qr

    \mathcal T(\zeta) = Y\rho + (I - YY^\top) B, \qquad
    \rho = \mathrm{tril}(Y^\top B, -1) - \mathrm{tril}(Y^\top B, -1)^\top ,

and of the polar retraction, with :math:`S = (I + \xi^\top\xi)^{1/2}`,

.. math::
    :label: stiefel-transport-polar

    \mathcal T(\zeta) = YL + (I - YY^\top) \zeta S^{-1}, \qquad SL + LS = Y^\top \zeta - \zeta^\top Y .

The Cayley retraction turns the whole space by an orthogonal matrix. Turning the vector too keeps all inner products,
in both metrics:

.. math::
    :label: stiefel-transport-cayley

    \mathcal T(\zeta) = (I - \tfrac12 W)^{-1} (I + \tfrac12 W)\, \zeta .

A differential may lengthen vectors, which breaks the convergence proof of Fletcher-Reeves. Scaling repairs that:

.. math::
    :label: stiefel-transport-scaled

    \mathcal T^s(\zeta) = \min\Big\{ 1, \frac{\|\zeta\|}{\|\mathcal T(\zeta)\|} \Big\}\, \mathcal T(\zeta) .

**Where implementations differ.** pymanopt and geoopt's Euclidean manifold know the projection only; geoopt's canonical
manifold turns by a Cayley transform that leaves out a factor (see :mod:`trref.manifolds.stiefel_retraction`). Scaling
makes the transport non-linear in :math:`\zeta`.

**Provenance.** The projection is confirmed (pymanopt, geoopt); the others are textbook from memory (Absil, Mahony and
Sepulchre; Sato and Iwai), compared with differences of the retractions.

Absil, Mahony and Sepulchre, *Optimization Algorithms on Matrix Manifolds*, 2008; Sato and Iwai, *A New, Globally
Convergent Riemannian Conjugate Gradient Method*, 2015, arXiv:1302.0125.
"""

from typing import Literal

from trref.backend import xp
from trref.manifolds.stiefel import (
    project,
    qr_differential,
    qr_factors,
    qr_of_full_rank,
    retract_qr_vjp,
    tangent_part,
)
from trref.manifolds.stiefel_retraction import (
    cayley,
    polar_differential,
    polar_factors,
    polar_of_full_rank,
    retract_polar_vjp,
)
from trref.manifolds.terms import angles_known
from trref.signature import Lead, N, Orthonormal, P, Real, checked


@checked
def transport(
    x: Orthonormal[Lead, N, P], y: Orthonormal[Lead, N, P], z: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Carry the tangent vector z from x to y by projection.

    Parameters
    ----------
    x, y
        Frames: where z is tangent, and where the result is.
    z
        Tangent at x.
    """
    return tangent_part(y, z)  # eq. stiefel-transport-projection


def transport_vjp(x, y, z, cotangent):
    """The projection is self-adjoint."""
    return project(y, cotangent)


MESSAGE = "step must leave x + step of full rank"


def _qr_rank(x, step, **_):
    """A step that leaves x + step without full rank."""
    return qr_of_full_rank(x + step, MESSAGE)


def _polar_rank(x, step, **_):
    """A step that leaves x + step without full rank."""
    return polar_of_full_rank(x + step, MESSAGE)


@checked(also=_qr_rank)
def transport_qr(
    x: Orthonormal[Lead, N, P], step: Real[Lead, N, P], z: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Carry the tangent vector z from x along a step by the differential of the QR retraction."""
    return qr_differential(*qr_factors(x + step), z)  # eq. stiefel-transport-qr


def transport_qr_vjp(x, step, z, cotangent):
    """Adjoint of the transport, which is linear in z."""
    return retract_qr_vjp(x, step, cotangent)


@checked(also=_polar_rank)
def transport_polar(
    x: Orthonormal[Lead, N, P], step: Real[Lead, N, P], z: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Carry the tangent vector z from x along a step by the differential of the polar retraction."""
    return polar_differential(
        *polar_factors(x + step), z
    )  # eq. stiefel-transport-polar


def transport_polar_vjp(x, step, z, cotangent):
    """Adjoint of the transport, which is linear in z."""
    return retract_polar_vjp(x, step, cotangent)


@checked(also=angles_known)
def transport_cayley(
    x: Orthonormal[Lead, N, P], step: Real[Lead, N, P], z: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Carry the tangent vector z from x along a step by the orthogonal matrix of the Cayley retraction.

    The result is tangent at the end of the retraction, and as long as z.
    """
    return cayley(x, step, z)  # eq. stiefel-transport-cayley


def transport_cayley_vjp(x, step, z, cotangent):
    """The adjoint of an orthogonal matrix is its inverse, the transform of the opposite step."""
    return cayley(x, -step, cotangent)


def _rank(x, step, retraction, **_):
    """A step that leaves x + step without full rank."""
    return (_qr_rank if retraction == "qr" else _polar_rank)(x, step)


@checked(also=_rank)
def scaled_transport(
    x: Orthonormal[Lead, N, P],
    step: Real[Lead, N, P],
    z: Real[Lead, N, P],
    *,
    retraction: Literal["qr", "polar"] = "qr",
) -> Real[Lead, N, P]:
    """Carry z along a step by the differential of a retraction, shortened where that lengthened it.

    Parameters
    ----------
    retraction
        Whose differential it is.
    """
    differential = transport_qr if retraction == "qr" else transport_polar
    return shortened(differential.unchecked(x, step, z), z)


def shortened(moved, z):
    """Return `moved`, no longer than z; unchecked."""
    # eq. stiefel-transport-scaled
    before, after = (xp.sqrt((v * v).sum((-2, -1), keepdims=True)) for v in (z, moved))
    longer = after > before
    factor = xp.where(longer, before / xp.where(longer, after, 1), 1)
    return factor.astype(z.dtype) * moved
