"""What is known of `trref.manifolds.stiefel`."""

from trref.backend import linalg
from trref.catalog import Deviation, Method, Transform
from trref.catalog.manifolds.interfaces import (
    ANY_STEP,
    LOST_RANK,
    STEP,
    off_manifold,
    off_tangent,
)
from trref.manifolds.stiefel import (
    project,
    project_vjp,
    retract_qr,
    retract_qr_jvp,
    retract_qr_vjp,
)


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
            deviations=(CANONICAL_GRADIENT_AS_PROJECTION,),
        ),
        Transform(
            f=retract_qr,
            interface=STEP,
            wrt="z",
            jvp=retract_qr_jvp,
            vjp=retract_qr_vjp,
            feasible=off_manifold,
            refused=LOST_RANK,
            deviations=(QR_WITHOUT_SIGNS,),
        ),
    ),
)
