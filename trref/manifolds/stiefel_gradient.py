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

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Limit, Method, Transform
from trref.manifolds.interfaces import ALONG_STEP, ANY_STEP, off_tangent
from trref.manifolds.stiefel import sym, tangent_part

__all__ = ["METRICS", "inner", "riemannian_gradient", "riemannian_hessian"]

METRICS = ("euclidean", "canonical")
"""The names of the two metrics."""

FRAME, ANY = Input("... N P", "orthonormal"), Input("... N P")
INNER = {"x": FRAME, "u": ANY, "v": ANY}
GRADIENT = {"x": FRAME, "gradient": ANY}
HESSIAN = {"x": FRAME, "direction": ANY, "gradient": ANY, "hessian_vector": ANY}


def inner(x, u, v, *, metric="euclidean"):
    """Inner product of two tangent vectors at x.

    Parameters
    ----------
    x : array (…, n, p)
        Orthonormal columns.
    u, v : arrays of the same shape
    metric : str
        ``"euclidean"`` or ``"canonical"``.

    Returns
    -------
    array (…)

    Raises
    ------
    ValueError
        `x` off the manifold, shapes that differ, values that are not finite, an unknown `metric`.
    """
    validate.inputs(INNER, x, u, v)
    validate.choice(METRICS, metric=metric)
    euclidean = (u * v).sum((-2, -1))  # eq. stiefel-gradient-euclidean-metric
    if metric == "euclidean":
        return euclidean
    return euclidean - ((x.mT @ u) * (x.mT @ v)).sum((-2, -1)) / 2  # eq. stiefel-gradient-canonical-metric


def _inner_by_matrices(x, u, v, *, metric="euclidean"):
    weight = xp.eye(x.shape[-2]) - (x @ x.mT / 2 if metric == "canonical" else 0)
    return xp.trace(u.mT @ weight @ v, axis1=-2, axis2=-1)


def riemannian_gradient(x, gradient, *, metric="euclidean"):
    """Turn a Euclidean gradient into the Riemannian one.

    Parameters
    ----------
    x : array (…, n, p)
        Orthonormal columns.
    gradient : array of the same shape
        The Euclidean gradient.
    metric : str
        ``"euclidean"`` or ``"canonical"``.

    Returns
    -------
    array of the same shape
        Tangent at x.

    Raises
    ------
    ValueError
        `x` off the manifold, shapes that differ, values that are not finite, an unknown `metric`.
    """
    validate.inputs(GRADIENT, x, gradient)
    validate.choice(METRICS, metric=metric)
    if metric == "euclidean":
        return tangent_part(x, gradient)  # eq. stiefel-gradient-euclidean
    return gradient - x @ (gradient.mT @ x)  # eq. stiefel-gradient-canonical


def riemannian_gradient_vjp(x, gradient, cotangent, *, metric="euclidean"):
    """Both maps are linear in the Euclidean gradient and self-adjoint: each is its own jvp and vjp."""
    return riemannian_gradient(x, cotangent, metric=metric)


def riemannian_hessian(x, direction, gradient, hessian_vector):
    """Riemannian Hessian along a tangent vector, in the Euclidean metric.

    Parameters
    ----------
    x : array (…, n, p)
        Orthonormal columns.
    direction : array of the same shape
        Tangent at x.
    gradient, hessian_vector : arrays of the same shape
        The Euclidean gradient, and the Euclidean Hessian applied to `direction`.

    Returns
    -------
    array of the same shape
        Tangent at x.

    Raises
    ------
    ValueError
        `x` off the manifold, shapes that differ, values that are not finite.
    """
    validate.inputs(HESSIAN, x, direction, gradient, hessian_vector)
    return tangent_part(x, hessian_vector - direction @ sym(x.mT @ gradient))  # eq. stiefel-gradient-hessian


def riemannian_hessian_jvp(x, direction, gradient, hessian_vector, tangent):
    """Differential by `direction` with `hessian_vector` held constant: the curvature of the manifold alone."""
    return -tangent_part(x, tangent @ sym(x.mT @ gradient))


def riemannian_hessian_vjp(x, direction, gradient, hessian_vector, cotangent):
    """Adjoint of `riemannian_hessian_jvp`."""
    return -tangent_part(x, cotangent) @ sym(x.mT @ gradient)


def _renamed(interface, *names):
    """Examples and edges of an interface under other names of the inputs."""
    rename = lambda made: dict(zip(names, made.values(), strict=True))  # noqa: E731
    edges = {label: (lambda edge=edge: rename(edge())) for label, edge in interface.edges.items()}
    return {"example": lambda rng, size: rename(interface.example(rng, size)), "edges": edges}


def _with_hessian_vector(make):
    """A direction, a gradient that is not tangent, and some Hessian's product with the direction."""

    def made(*args):
        x, direction, z = make(*args).values()
        return {"x": x, "direction": direction, "gradient": z + x / 2, "hessian_vector": 2 * direction - z}

    return made


def _as_any_matrix(inputs):
    """the gradient as any matrix"""
    return {**inputs, "z": inputs["gradient"]}


def _flat(inputs):
    """no Euclidean gradient"""
    return {**inputs, "gradient": xp.zeros_like(inputs["gradient"]), "z": inputs["hessian_vector"]}


BOTH_METRICS = {"default": {}, "probe": {"metric": "canonical"}}
METHOD = Method(
    key="edelman1998geometry",
    provenance="confirmed",
    functions=(
        Estimator(
            f=inner,
            inputs=INNER,
            **_renamed(ALONG_STEP, "x", "u", "v"),
            settings=BOTH_METRICS,
            brute_force=_inner_by_matrices,
        ),
        Transform(
            f=riemannian_gradient,
            inputs=GRADIENT,
            **_renamed(ANY_STEP, "x", "gradient"),
            settings=BOTH_METRICS,
            wrt="gradient",
            jvp=lambda x, gradient, tangent, metric="euclidean": riemannian_gradient(x, tangent, metric=metric),
            vjp=riemannian_gradient_vjp,
            feasible=lambda result, x, gradient: off_tangent(x, result, gradient),
            limits=(Limit("stiefel.project", {}, where=_as_any_matrix),),
        ),
        Transform(
            f=riemannian_hessian,
            inputs=HESSIAN,
            example=_with_hessian_vector(ALONG_STEP.example),
            edges={label: _with_hessian_vector(edge) for label, edge in ALONG_STEP.edges.items()},
            wrt="direction",
            jvp=riemannian_hessian_jvp,
            vjp=riemannian_hessian_vjp,
            feasible=lambda result, x, direction, gradient, hessian_vector: off_tangent(x, result, hessian_vector),
            limits=(Limit("stiefel.project", {}, where=_flat),),
        ),
    ),
)
