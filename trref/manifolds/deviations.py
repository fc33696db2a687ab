"""What public code computes in the place of the equations: small runnable variants."""

from trref.backend import linalg, xp
from trref.catalog import Deviation

__all__ = [
    "CANONICAL_GRADIENT_AS_PROJECTION",
    "CAYLEY_WITHOUT_HALF_PROJECTION",
    "QR_WITHOUT_SIGNS",
]


def _canonical_gradient_as_projection(x, z):
    return z - x @ z.mT @ x


CANONICAL_GRADIENT_AS_PROJECTION = Deviation(
    "the canonical gradient as projection",
    _canonical_gradient_as_projection,
    seen_in="geoopt manifolds/stiefel.py, CanonicalStiefel._proju",
    computes="Z - X Zᵀ X, which is ξ + X Xᵀ ξ for a tangent vector ξ: not idempotent",
)


def _qr_without_signs(x, z):
    return linalg.qr(x + z)[0]


QR_WITHOUT_SIGNS = Deviation(
    "the orthogonal factor with LAPACK's signs",
    _qr_without_signs,
    seen_in="a common slip in re-implementations; pymanopt and geoopt fix the signs",
    computes="columns whose signs depend on the Householder reflections: the retraction of 0 is not x",
)


def _cayley_without_half_projection(x, z):
    W = z @ x.mT - x @ z.mT
    one = xp.eye(x.shape[-2], dtype=x.dtype)
    return linalg.solve(one - W / 2, x + W @ x / 2)


CAYLEY_WITHOUT_HALF_PROJECTION = Deviation(
    "the Cayley transform of ξXᵀ - Xξᵀ",
    _cayley_without_half_projection,
    seen_in="geoopt manifolds/stiefel.py, CanonicalStiefel._amat and _retr",
    computes="W X = ξ + X Xᵀ ξ instead of ξ: rotations within the span go twice as fast, no retraction of first order",
)
