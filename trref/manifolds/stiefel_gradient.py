r"""Gradient and Hessian on the Stiefel manifold: two metrics, the Riemannian gradient in each, and the Hessian.

Two metrics are in use on the frames :math:`X \in \mathrm{St}(n,p)`: the Euclidean one of the surrounding space,

.. math::
    :label: stiefel-gradient-euclidean-metric

    \langle \xi, \zeta \rangle_e = \mathrm{tr}\, \xi^\top \zeta ,

and the canonical one. A tangent vector :math:`\xi = X\Omega + X_\perp K` has a skew :math:`\Omega`, so the Euclidean
metric counts each rotation within the span twice; the canonical metric counts it once:

.. math::
    :label: stiefel-gradient-canonical-metric

    \langle \xi, \zeta \rangle_c = \mathrm{tr}\, \xi^\top (I - \tfrac12 XX^\top) \zeta
    = \tfrac12 \mathrm{tr}\, \Omega_\xi^\top \Omega_\zeta + \mathrm{tr}\, K_\xi^\top K_\zeta

The Riemannian gradient is the tangent vector with
:math:`\langle \mathrm{grad} f, \xi \rangle = \mathrm{tr}\, G^\top \xi` for all tangent :math:`\xi`, where :math:`G`
is the Euclidean gradient:

.. math::
    :label: stiefel-gradient-euclidean

    \mathrm{grad}_e f = G - X\,\mathrm{sym}(X^\top G)

.. math::
    :label: stiefel-gradient-canonical

    \mathrm{grad}_c f = G - X G^\top X = \mathrm{grad}_e f + X\,\mathrm{skew}(X^\top G)

Second derivatives along the manifold see its curvature too. In the Euclidean metric

.. math::
    :label: stiefel-gradient-hessian

    \mathrm{Hess} f[\xi] = P_X\big( \nabla^2 f[\xi] - \xi\,\mathrm{sym}(X^\top G) \big) .

**Where implementations differ.** The choice of the metric is often silent. The canonical gradient together with
Euclidean inner products is the gradient of no metric: slopes come out wrong, and directions are not conjugate.

**Provenance.** Confirmed: the metrics and gradients in pymanopt and geoopt, the Hessian as pymanopt's Weingarten map.

Edelman, Arias and Smith, *The Geometry of Algorithms with Orthogonality Constraints*, 1998, arXiv:physics/9806030.
"""

from trref.manifolds.stiefel import sym, tangent_part
from trref.manifolds.terms import Metric
from trref.signature import Lead, N, Orthonormal, P, Real, checked


@checked
def inner(
    x: Orthonormal[Lead, N, P],
    u: Real[Lead, N, P],
    v: Real[Lead, N, P],
    *,
    metric: Metric = "euclidean",
) -> Real[Lead]:
    """Inner product of two tangent vectors at x.

    Parameters
    ----------
    x
        A frame.
    u, v
        Tangent vectors there.
    """
    euclidean = (u * v).sum((-2, -1))  # eq. stiefel-gradient-euclidean-metric
    if metric == "euclidean":
        return euclidean
    # eq. stiefel-gradient-canonical-metric
    return euclidean - ((x.mT @ u) * (x.mT @ v)).sum((-2, -1)) / 2


@checked
def riemannian_gradient(
    x: Orthonormal[Lead, N, P],
    gradient: Real[Lead, N, P],
    *,
    metric: Metric = "euclidean",
) -> Real[Lead, N, P]:
    """Turn a Euclidean gradient into the Riemannian one, tangent at x."""
    if metric == "euclidean":
        return tangent_part(x, gradient)  # eq. stiefel-gradient-euclidean
    return gradient - x @ (gradient.mT @ x)  # eq. stiefel-gradient-canonical


@checked
def riemannian_hessian(
    x: Orthonormal[Lead, N, P],
    direction: Real[Lead, N, P],
    gradient: Real[Lead, N, P],
    hessian_vector: Real[Lead, N, P],
) -> Real[Lead, N, P]:
    """Riemannian Hessian along a tangent vector, in the Euclidean metric; the result is tangent at x.

    Parameters
    ----------
    direction
        Tangent at x.
    gradient, hessian_vector
        The Euclidean gradient, and the Euclidean Hessian applied to `direction`.
    """
    # eq. stiefel-gradient-hessian
    return tangent_part(x, hessian_vector - direction @ sym(x.mT @ gradient))
