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
:math:`R_X(0) = X` fails.

**Provenance.** Confirmed: textbook formulas, compared with pymanopt and with differences; the adjoint is derived here.

Edelman, Arias and Smith, *The Geometry of Algorithms with Orthogonality Constraints*, 1998, arXiv:physics/9806030;
Absil, Mahony and Sepulchre, *Optimization Algorithms on Matrix Manifolds*, 2008.
"""

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Input, Method, Transform

__all__ = ["project", "project_vjp", "retract_qr", "retract_qr_jvp", "retract_qr_vjp"]

SHAPE = "... N P"
INPUTS = {"x": Input(SHAPE, "orthonormal"), "z": Input(SHAPE)}


def sym(A):
    """Symmetric part of (…, p, p)."""
    return (A + A.mT) / 2


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
    validate.inputs(INPUTS, x, z)
    return z - x @ sym(x.mT @ z)  # eq. stiefel-project


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
    return _factor(x, z)[0]


def _factor(x, z):
    """Return Y and R with Y R = x + z and a positive diagonal of R."""
    _, flags = validate.deferred(INPUTS, x, z)
    Q, R = linalg.qr(x + z)
    diagonal = xp.diagonal(R, axis1=-2, axis2=-1)
    smallest = x.shape[-2] * float(xp.finfo(x.dtype).eps)
    full_rank = lambda: (abs(diagonal).min(-1) > smallest * abs(diagonal).max(-1)).all()  # noqa: E731
    validate.require(*flags, (full_rank, "z must leave x + z of full rank"))
    signs = xp.where(diagonal < 0, -1, 1).astype(x.dtype)
    return Q * signs[..., None, :], R * signs[..., :, None]  # eq. stiefel-qr


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
    Y, R = _factor(x, z)
    # eq. stiefel-qr-jvp
    B = linalg.solve(R.mT, tangent.mT).mT
    C = Y.mT @ B
    rho = xp.tril(C, -1) - xp.tril(C, -1).mT
    return Y @ (rho - C) + B


def retract_qr_vjp(x, z, cotangent):
    """Adjoint of `retract_qr_jvp`: the derivative of ``sum(cotangent * retract_qr(x, z))`` by z."""
    Y, R = _factor(x, z)
    # eq. stiefel-qr-vjp
    M = Y.mT @ cotangent
    B = Y @ (xp.tril(M - M.mT, -1) - M) + cotangent
    return linalg.solve(R, B.mT).mT


def _orthonormality(result, x, z):
    return float(abs(result.mT @ result - xp.eye(x.shape[-1])).max())


def _tangency(result, x, z):
    return float(abs(sym(x.mT @ result)).max()) / max(float(abs(z).max()), 1.0)


def _example(rng, size):
    p = min(size, int(rng.integers(1, 5)))
    x = linalg.qr(rng.standard_normal((size, p)))[0]
    z = rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal((size, p))
    return {"x": x, "z": z - x @ sym(x.T @ z)}


def _any_step(rng, size):
    example = _example(rng, size)
    return {"x": example["x"], "z": example["z"] + 0.1 * rng.standard_normal(example["z"].shape)}


def _batch():
    x = xp.stack([xp.eye(4)[:, :2], xp.eye(4)[:, 2:]])
    return {"x": x, "z": xp.arange(16.0).reshape(2, 4, 2) / 10}


EDGES = {
    "no step": lambda: {"x": xp.eye(5)[:, :2], "z": xp.zeros((5, 2))},
    "square": lambda: {"x": xp.eye(3), "z": xp.array([[0.0, -0.4, 0.1], [0.4, 0.0, 0.2], [-0.1, -0.2, 0.0]])},
    "sphere": lambda: {"x": xp.eye(4)[:, :1], "z": xp.array([[0.0], [0.3], [-0.2], [0.9]])},
    "negative entries on the diagonal": lambda: {"x": -xp.eye(4)[:, :2], "z": xp.ones((4, 2)) / 8},
    "a batch": _batch,
}

METHOD = Method(
    title="The Geometry of Algorithms with Orthogonality Constraints",
    key="edelman1998geometry",
    arxiv="physics/9806030",
    provenance="confirmed",
    functions=(
        Transform(
            f=project,
            inputs=INPUTS,
            example=_any_step,
            edges=EDGES,
            wrt="z",
            jvp=lambda x, z, tangent: project(x, tangent),
            vjp=project_vjp,
            idempotent=True,
            feasible=_tangency,
        ),
        Transform(
            f=retract_qr,
            inputs=INPUTS,
            example=_example,
            edges=EDGES,
            wrt="z",
            jvp=retract_qr_jvp,
            vjp=retract_qr_vjp,
            feasible=_orthonormality,
        ),
    ),
)
