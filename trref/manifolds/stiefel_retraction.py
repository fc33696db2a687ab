r"""Retractions to the Stiefel manifold: the nearest frame, polar and Cayley, with their differentials.

The frame nearest to a matrix of full rank is its polar factor, from the thin singular value decomposition:

.. math::
    :label: stiefel-retraction-nearest

    \mathcal P(Z) = UV^\top, \qquad Z = U \Sigma V^\top .

With :math:`Y = \mathcal P(Z)` and :math:`S = V \Sigma V^\top`, so that :math:`Z = YS`, its differential is

.. math::
    :label: stiefel-retraction-nearest-jvp

    \mathrm D\mathcal P(Z)[\zeta] = Y L + (I - YY^\top)\, \zeta S^{-1}, \qquad
    S L + L S = Y^\top \zeta - \zeta^\top Y ,

a Sylvester equation that the eigenvectors of :math:`S` solve entry by entry: :math:`(V^\top L V)_{ij} =
(V^\top (Y^\top \zeta - \zeta^\top Y) V)_{ij} / (\sigma_i + \sigma_j)`. Solving it is self-adjoint, so the adjoint
for a cotangent :math:`G` is, with :math:`M = Y^\top G`,

.. math::
    :label: stiefel-retraction-nearest-vjp

    \mathrm D\mathcal P(Z)^*[G] = Y K + (G - YM) S^{-1}, \qquad S K + K S = M - M^\top .

The polar retraction projects the step back to the manifold. It is of second order for the Euclidean metric:

.. math::
    :label: stiefel-retraction-polar

    R_X(\xi) = \mathcal P(X + \xi) = (X + \xi)(I + \xi^\top\xi)^{-1/2} \quad \text{for tangent } \xi .

The Cayley retraction turns the whole frame by an orthogonal matrix, and is of second order for the canonical metric:

.. math::
    :label: stiefel-retraction-cayley

    R_X(\xi) = (I - \tfrac12 W)^{-1} (I + \tfrac12 W) X, \qquad
    W = P_\circ \xi X^\top - X \xi^\top P_\circ, \quad P_\circ = I - \tfrac12 XX^\top .

:math:`W` is skew with :math:`WX = \xi`, and of rank :math:`2p`. In an orthonormal basis :math:`Q` of the columns of
:math:`X` and :math:`\xi` it is a small skew matrix :math:`M`, whose Hermitian multiple is :math:`iM = V\Lambda V^*`:

.. math::
    :label: stiefel-retraction-low-rank

    W = QMQ^\top, \quad M = HG^\top - GH^\top, \quad G = Q^\top X, \; H = Q^\top P_\circ \xi, \qquad
    (I - \tfrac12 W)^{-1} (I + \tfrac12 W) = I + Q \big( V e^{-i\Theta} V^* - I \big) Q^\top, \quad
    \Theta = 2 \arctan \tfrac12 \Lambda .

A unitary :math:`V` keeps the frame orthonormal however long the step. (The inverse of a :math:`2p \times 2p` matrix
that is no orthogonal one, :math:`I + U (I - \tfrac12 V^\top U)^{-1} V^\top` for :math:`W = UV^\top`, is quicker, and
off by :math:`\epsilon \|\xi\|^2`.) The angles are known to :math:`\epsilon \|\xi\|`, so steps beyond 1e10 are
refused.

Differentiating :math:`(I - \frac12 W) Y = (I + \frac12 W) X` gives, with :math:`W_\zeta` made from a direction,

.. math::
    :label: stiefel-retraction-cayley-jvp

    \mathrm D R_X(\xi)[\zeta] = (I - \tfrac12 W)^{-1}\, W_\zeta\, \tfrac12 (X + Y)

and the adjoint, with :math:`H = (I + \frac12 W)^{-1} G` and :math:`N = \frac12 (X + Y)`,

.. math::
    :label: stiefel-retraction-cayley-vjp

    \mathrm D R_X(\xi)^*[G] = P_\circ \big( H N^\top - N H^\top \big) X .

**Where implementations differ.** geoopt's Cayley transform leaves out :math:`P_\circ`; then
:math:`WX = \xi + XX^\top\xi`, and rotations within the span go twice as fast. For a step that is not tangent,
:math:`(X + \xi)(I + \xi^\top\xi)^{-1/2}` has no orthonormal columns; the singular values do not care.

**Provenance.** The nearest frame and the polar retraction are confirmed (pymanopt). The Cayley transform is textbook
(Wen and Yin) from memory; orders, differentials and adjoints are derived and compared with differences.

Absil and Malick, *Projection-like Retractions on Matrix Manifolds*, 2012; Wen and Yin, *A Feasible Method for
Optimization with Orthogonality Constraints*, 2013.
"""

from trref.backend import linalg, xp
from trref.manifolds.stiefel import full_rank
from trref.manifolds.stiefel_exponential import turn
from trref.manifolds.terms import angles_known, span
from trref.signature import Lead, N, Orthonormal, P, Real, checked


def polar_factors(Z):
    """Return Y, the singular values and Vᵀ with Z = Y V diag(s) Vᵀ; unchecked."""
    U, s, Vt = linalg.svd(Z, full_matrices=False)
    return U @ Vt, s, Vt  # eq. stiefel-retraction-nearest


def polar_of_full_rank(Z, message):
    """The pair for `trref.validate.require` that Z (..., n, p) has full column rank."""
    finite = lambda: xp.where(xp.isfinite(Z), Z, 0)  # noqa: E731  (others are named)
    values = lambda: linalg.svd(finite(), compute_uv=False)  # noqa: E731
    return [(lambda: full_rank(values(), Z.shape[-2]), message)]


def _tall(y, **_):
    """A matrix y with fewer rows than columns, or without full column rank."""
    if y.shape[-1] > y.shape[-2]:
        shape = tuple(y.shape)
        raise ValueError(f"y must have at least as many rows as columns, not {shape}")
    return polar_of_full_rank(y, "y must have full column rank")


@checked(also=_tall)
def nearest_frame(y: Real[Lead, N, P]) -> Orthonormal[Lead, N, P]:
    """Return the frame nearest to a matrix of full rank, its polar factor.

    Parameters
    ----------
    y
        A matrix of full column rank, n ≥ p.
    """
    return polar_factors(y)[0]


@checked(also=_tall)
def nearest_frame_jvp(
    y: Real[Lead, N, P], tangent: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Differential of `nearest_frame` along `tangent`.

    Parameters
    ----------
    tangent
        Any matrix.
    """
    return polar_differential(*polar_factors(y), tangent)


@checked(also=_tall)
def nearest_frame_vjp(
    y: Real[Lead, N, P], cotangent: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Adjoint of `nearest_frame_jvp`.

    Parameters
    ----------
    cotangent
        Any matrix.
    """
    return polar_adjoint(*polar_factors(y), cotangent)


def _sylvester(s, Vt, C):
    """Solve S L + L S = C for S = V diag(s) Vᵀ."""
    return Vt.mT @ ((Vt @ C @ Vt.mT) / (s[..., :, None] + s[..., None, :])) @ Vt


def polar_differential(Y, s, Vt, z):
    """Differential of the polar factor along z, from `polar_factors`; unchecked."""
    # eq. stiefel-retraction-nearest-jvp
    C = Y.mT @ z
    L = _sylvester(s, Vt, C - C.mT)
    return Y @ L + (z - Y @ C) @ (Vt.mT / s[..., None, :]) @ Vt


def polar_adjoint(Y, s, Vt, G):
    """Adjoint of `polar_differential`; unchecked."""
    # eq. stiefel-retraction-nearest-vjp
    M = Y.mT @ G
    K = _sylvester(s, Vt, M - M.mT)
    return Y @ K + (G - Y @ M) @ (Vt.mT / s[..., None, :]) @ Vt


def _leaves_full_rank(x, z, **_):
    """A z that leaves x + z without full rank; after a tangent vector it always has."""
    return polar_of_full_rank(x + z, "z must leave x + z of full rank")


@checked(also=_leaves_full_rank)
def retract_polar(
    x: Orthonormal[Lead, N, P], z: Real[Lead, N, P]
) -> Orthonormal[Lead, N, P]:
    """Retract the step z from x by the frame nearest to x + z.

    Parameters
    ----------
    x
        A frame.
    z
        A tangent vector, or any step that leaves x + z of full rank.
    """
    return polar_factors(x + z)[0]  # eq. stiefel-retraction-polar


@checked(also=_leaves_full_rank)
def retract_polar_jvp(
    x: Orthonormal[Lead, N, P], z: Real[Lead, N, P], tangent: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Differential of `retract_polar` at z along a tangent; also a vector transport."""
    return polar_differential(*polar_factors(x + z), tangent)


@checked(also=_leaves_full_rank)
def retract_polar_vjp(
    x: Orthonormal[Lead, N, P], z: Real[Lead, N, P], cotangent: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Adjoint of `retract_polar_jvp`."""
    return polar_adjoint(*polar_factors(x + z), cotangent)


def _without_half(x, z):
    return z - x @ (x.mT @ z) / 2


def cayley(x, z, v):
    """Turn v (…, n, q) by the Cayley transform of the step z from x; unchecked."""
    # eq. stiefel-retraction-cayley, stiefel-retraction-low-rank
    Q, G = span(x, z)
    H = Q.mT @ _without_half(x, z)
    C = turn(H @ G.mT - G @ H.mT, lambda size: 2 * xp.arctan(size / 2))
    inside = Q.mT @ v
    return v + Q @ (C @ inside - inside)


def cayley_differential(x, z, y, tangent):
    """Differential at z of the Cayley retraction y along a tangent; unchecked."""
    # eq. stiefel-retraction-cayley-jvp
    middle, half = (x + y) / 2, _without_half(x, tangent)
    moved = half @ (x.mT @ middle) - x @ (half.mT @ middle)
    return (moved + cayley(x, z, moved)) / 2


@checked(also=angles_known)
def retract_cayley(
    x: Orthonormal[Lead, N, P], z: Real[Lead, N, P]
) -> Orthonormal[Lead, N, P]:
    """Retract the step z from x by the Cayley transform; the symmetric part of xᵀ z is ignored."""
    return cayley(x, z, x)


@checked(also=angles_known)
def retract_cayley_jvp(
    x: Orthonormal[Lead, N, P], z: Real[Lead, N, P], tangent: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Differential of `retract_cayley` at z along a tangent."""
    return cayley_differential(x, z, cayley(x, z, x), tangent)


@checked(also=angles_known)
def retract_cayley_vjp(
    x: Orthonormal[Lead, N, P], z: Real[Lead, N, P], cotangent: Real[Lead, N, P]
) -> Real[Lead, N, P]:
    """Adjoint of `retract_cayley_jvp`."""
    # eq. stiefel-retraction-cayley-vjp
    middle = (x + cayley(x, z, x)) / 2
    H = (cotangent + cayley(x, -z, cotangent)) / 2
    return _without_half(x, H @ (middle.mT @ x) - middle @ (H.mT @ x))
