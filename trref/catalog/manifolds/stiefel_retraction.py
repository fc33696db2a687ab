"""What is known of `trref.manifolds.stiefel_retraction`."""

from trref.backend import linalg, xp
from trref.catalog import Deviation, Method, Transform
from trref.catalog.manifolds.interfaces import (
    LOST_RANK,
    MATRIX,
    NO_FRAME,
    STEP,
    off_manifold,
)
from trref.manifolds.stiefel_retraction import (
    nearest_frame,
    nearest_frame_jvp,
    nearest_frame_vjp,
    retract_cayley,
    retract_cayley_jvp,
    retract_cayley_vjp,
    retract_polar,
    retract_polar_jvp,
    retract_polar_vjp,
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


METHOD = Method(
    key="absil2012projection",
    provenance={
        "confirmed": ("nearest", "polar"),
        "partly": ("nearest-jvp", "cayley", "low-rank"),
        "reconstructed": ("nearest-vjp", "cayley-jvp", "cayley-vjp"),
    },
    functions=(
        Transform(
            f=nearest_frame,
            interface=MATRIX,
            wrt="y",
            jvp=nearest_frame_jvp,
            vjp=nearest_frame_vjp,
            idempotent=True,
            feasible=off_manifold,
            refused=NO_FRAME,
        ),
        Transform(
            f=retract_polar,
            interface=STEP,
            wrt="z",
            jvp=retract_polar_jvp,
            vjp=retract_polar_vjp,
            feasible=off_manifold,
            refused=LOST_RANK,
        ),
        Transform(
            f=retract_cayley,
            interface=STEP,
            wrt="z",
            jvp=retract_cayley_jvp,
            vjp=retract_cayley_vjp,
            feasible=off_manifold,
            deviations=(CAYLEY_WITHOUT_HALF_PROJECTION,),
            refused={
                "a step that is too long": {"z": lambda z: 1e13 * z},
            },
        ),
    ),
)
