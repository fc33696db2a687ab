"""What is known of `trref.manifolds.stiefel_gradient`."""

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Transform
from trref.catalog.manifolds.interfaces import ALONG_STEP, ANY_STEP, off_tangent
from trref.manifolds.stiefel import sym, tangent_part
from trref.manifolds.stiefel_gradient import (
    inner,
    riemannian_gradient,
    riemannian_hessian,
)


def _inner_by_matrices(x, u, v, *, metric="euclidean"):
    weight = xp.eye(x.shape[-2]) - (x @ x.mT / 2 if metric == "canonical" else 0)
    return xp.trace(u.mT @ weight @ v, axis1=-2, axis2=-1)


def riemannian_gradient_vjp(x, gradient, cotangent, *, metric="euclidean"):
    """Both maps are linear in the Euclidean gradient and self-adjoint: each is its own jvp and vjp."""
    return riemannian_gradient(x, cotangent, metric=metric)


def riemannian_hessian_jvp(x, direction, gradient, hessian_vector, tangent):
    """Differential by `direction` with `hessian_vector` held constant: the curvature of the manifold alone."""
    return -tangent_part(x, tangent @ sym(x.mT @ gradient))


def riemannian_hessian_vjp(x, direction, gradient, hessian_vector, cotangent):
    """Adjoint of `riemannian_hessian_jvp`."""
    return -tangent_part(x, cotangent) @ sym(x.mT @ gradient)


def _renamed(interface, *names):
    """Examples and edges of an interface under other names of the inputs."""
    rename = lambda made: dict(zip(names, made.values(), strict=True))  # noqa: E731
    edges = {
        label: (lambda edge=edge: rename(edge()))
        for label, edge in interface.edges.items()
    }
    return {
        "example": lambda rng, size: rename(interface.example(rng, size)),
        "edges": edges,
    }


def _with_hessian_vector(make):
    """A direction, a gradient that is not tangent, and some Hessian's product with the direction."""

    def made(*args):
        x, direction, z = make(*args).values()
        return {
            "x": x,
            "direction": direction,
            "gradient": z + x / 2,
            "hessian_vector": 2 * direction - z,
        }

    return made


def _as_any_matrix(inputs):
    """the gradient as any matrix"""
    return {**inputs, "z": inputs["gradient"]}


def _flat(inputs):
    """no Euclidean gradient"""
    return {
        **inputs,
        "gradient": xp.zeros_like(inputs["gradient"]),
        "z": inputs["hessian_vector"],
    }


BOTH_METRICS = {"default": {}, "probe": {"metric": "canonical"}}


METHOD = Method(
    key="edelman1998geometry",
    provenance="confirmed",
    functions=(
        Estimator(
            f=inner,
            **_renamed(ALONG_STEP, "x", "u", "v"),
            settings=BOTH_METRICS,
            brute_force=_inner_by_matrices,
        ),
        Transform(
            f=riemannian_gradient,
            **_renamed(ANY_STEP, "x", "gradient"),
            settings=BOTH_METRICS,
            wrt="gradient",
            jvp=lambda x, gradient, tangent, metric="euclidean": riemannian_gradient(
                x, tangent, metric=metric
            ),
            vjp=riemannian_gradient_vjp,
            feasible=lambda result, x, gradient: off_tangent(x, result, gradient),
            limits=(Limit("stiefel.project", {}, where=_as_any_matrix),),
        ),
        Transform(
            f=riemannian_hessian,
            example=_with_hessian_vector(ALONG_STEP.example),
            edges={
                label: _with_hessian_vector(edge)
                for label, edge in ALONG_STEP.edges.items()
            },
            wrt="direction",
            jvp=riemannian_hessian_jvp,
            vjp=riemannian_hessian_vjp,
            feasible=lambda result, x, direction, gradient, hessian_vector: off_tangent(
                x, result, hessian_vector
            ),
            limits=(Limit("stiefel.project", {}, where=_flat),),
        ),
    ),
)
