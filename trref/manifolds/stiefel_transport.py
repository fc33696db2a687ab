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

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Transform
from trref.manifolds.interfaces import ALONG_STEP, TRANSPORT, off_tangent
from trref.manifolds.stiefel import (
    checked_qr_factors,
    project,
    qr_differential,
    retract_qr,
    retract_qr_vjp,
    tangent_part,
)
from trref.manifolds.stiefel_retraction import (
    cayley,
    checked_polar_factors,
    polar_differential,
    retract_cayley,
    retract_polar,
    retract_polar_vjp,
)

__all__ = [
    "scaled_transport",
    "transport",
    "transport_cayley",
    "transport_cayley_vjp",
    "transport_polar",
    "transport_polar_vjp",
    "transport_qr",
    "transport_qr_vjp",
    "transport_vjp",
]


def transport(x, y, z):
    """Carry the tangent vector z from x to y by projection.

    Parameters
    ----------
    x, y : arrays (…, n, p)
        Orthonormal columns: where z is tangent, and where the result is.
    z : array of the same shape

    Returns
    -------
    array of the same shape
        Tangent at y.

    Raises
    ------
    ValueError
        `x` or `y` off the manifold, shapes that differ, values that are not finite.
    """
    validate.inputs(TRANSPORT.inputs, x, y, z)
    return tangent_part(y, z)  # eq. stiefel-transport-projection


def transport_vjp(x, y, z, cotangent):
    """The projection is self-adjoint."""
    return project(y, cotangent)


def transport_qr(x, step, z):
    """Carry the tangent vector z from x along `step` by the differential of the QR retraction.

    Parameters
    ----------
    x : array (…, n, p)
        Orthonormal columns.
    step, z : arrays of the same shape
        Tangent at x.

    Returns
    -------
    array of the same shape
        Tangent at ``retract_qr(x, step)``.

    Raises
    ------
    ValueError
        `x` off the manifold, shapes that differ, values that are not finite, x + step rank deficient.
    """
    _, flags = validate.deferred(ALONG_STEP.inputs, x, step, z)
    Y, R = checked_qr_factors(x + step, flags, "step must leave x + step of full rank")
    return qr_differential(Y, R, z)  # eq. stiefel-transport-qr


def transport_qr_vjp(x, step, z, cotangent):
    """Adjoint of the transport, which is linear in z."""
    return retract_qr_vjp(x, step, cotangent)


def transport_polar(x, step, z):
    """Carry the tangent vector z from x along `step` by the differential of the polar retraction.

    Parameters
    ----------
    x : array (…, n, p)
        Orthonormal columns.
    step, z : arrays of the same shape
        Tangent at x.

    Returns
    -------
    array of the same shape
        Tangent at ``retract_polar(x, step)``.

    Raises
    ------
    ValueError
        `x` off the manifold, shapes that differ, values that are not finite, x + step rank deficient.
    """
    _, flags = validate.deferred(ALONG_STEP.inputs, x, step, z)
    Y, s, Vt = checked_polar_factors(x + step, flags, "step must leave x + step of full rank")
    return polar_differential(Y, s, Vt, z)  # eq. stiefel-transport-polar


def transport_polar_vjp(x, step, z, cotangent):
    """Adjoint of the transport, which is linear in z."""
    return retract_polar_vjp(x, step, cotangent)


def transport_cayley(x, step, z):
    """Carry the tangent vector z from x along `step` by the orthogonal matrix of the Cayley retraction.

    Parameters
    ----------
    x : array (…, n, p)
        Orthonormal columns.
    step, z : arrays of the same shape
        Tangent at x.

    Returns
    -------
    array of the same shape
        Tangent at ``retract_cayley(x, step)``, as long as z.

    Raises
    ------
    ValueError
        `x` off the manifold, shapes that differ, values that are not finite.
    """
    validate.inputs(ALONG_STEP.inputs, x, step, z)
    return cayley(x, step, z)  # eq. stiefel-transport-cayley


def transport_cayley_vjp(x, step, z, cotangent):
    """The adjoint of an orthogonal matrix is its inverse, the transform of the opposite step."""
    return cayley(x, -step, cotangent)


DIFFERENTIALS = {"qr": transport_qr, "polar": transport_polar}


def scaled_transport(x, step, z, *, retraction="qr"):
    """Carry z along `step` by the differential of a retraction, shortened where that lengthened it.

    Parameters
    ----------
    x : array (…, n, p)
        Orthonormal columns.
    step, z : arrays of the same shape
        Tangent at x.
    retraction : str
        ``"qr"`` or ``"polar"``.

    Returns
    -------
    array of the same shape
        Tangent at the end of the retraction, no longer than z in the Euclidean norm.

    Raises
    ------
    ValueError
        `x` off the manifold, shapes that differ, values that are not finite, x + step rank deficient, an unknown
        `retraction`.
    """
    validate.choice(tuple(DIFFERENTIALS), retraction=retraction)
    return shortened(DIFFERENTIALS[retraction](x, step, z), z)


def shortened(moved, z):
    """Return `moved`, no longer than z; unchecked."""
    # eq. stiefel-transport-scaled
    before, after = (xp.sqrt((v * v).sum((-2, -1), keepdims=True)) for v in (z, moved))
    return xp.where(after > before, before / xp.where(after > before, after, 1), 1).astype(z.dtype) * moved


def _ends_tangent(retract):
    return lambda result, x, step, z: off_tangent(retract(x, step), result, z)


def _staying(inputs):
    """a step that ends where it starts"""
    return {**inputs, "y": inputs["x"]}


METHOD = Method(
    key="absil2008optimization",
    provenance={"confirmed": ("projection",), "partly": ("qr", "polar", "cayley", "scaled")},
    functions=(
        Transform(
            f=transport,
            interface=TRANSPORT,
            wrt="z",
            jvp=lambda x, y, z, tangent: transport(x, y, tangent),
            vjp=transport_vjp,
            idempotent=True,
            feasible=lambda result, x, y, z: off_tangent(y, result, z),
            limits=(Limit("stiefel.project", {}, where=_staying),),
        ),
        Transform(
            f=transport_qr,
            interface=ALONG_STEP,
            wrt="z",
            jvp=lambda x, step, z, tangent: transport_qr(x, step, tangent),
            vjp=transport_qr_vjp,
            feasible=_ends_tangent(retract_qr),
        ),
        Transform(
            f=transport_polar,
            interface=ALONG_STEP,
            wrt="z",
            jvp=lambda x, step, z, tangent: transport_polar(x, step, tangent),
            vjp=transport_polar_vjp,
            feasible=_ends_tangent(retract_polar),
        ),
        Transform(
            f=transport_cayley,
            interface=ALONG_STEP,
            wrt="z",
            jvp=lambda x, step, z, tangent: transport_cayley(x, step, tangent),
            vjp=transport_cayley_vjp,
            feasible=_ends_tangent(retract_cayley),
        ),
        Transform(
            f=scaled_transport,
            interface=ALONG_STEP,
            settings={"default": {}, "probe": {"retraction": "polar"}},
            wrt="z",
        ),
    ),
)
