"""What is known of `trref.manifolds.stiefel_transport`."""

from trref.catalog import Limit, Method, Transform
from trref.catalog.manifolds.interfaces import (
    ALONG_STEP,
    LOST_RANK,
    TRANSPORT,
    off_tangent,
)
from trref.manifolds.stiefel import retract_qr
from trref.manifolds.stiefel_retraction import retract_cayley, retract_polar
from trref.manifolds.stiefel_transport import (
    scaled_transport,
    transport,
    transport_cayley,
    transport_cayley_vjp,
    transport_polar,
    transport_polar_vjp,
    transport_qr,
    transport_qr_vjp,
    transport_vjp,
)


def _ends_tangent(retract):
    return lambda result, x, step, z: off_tangent(retract(x, step), result, z)


def _staying(inputs):
    """a step that ends where it starts"""
    return {**inputs, "y": inputs["x"]}


def _along(make):
    (given, hyper) = make()
    return {"x": given["x"], "step": given["z"], "z": given["z"]}, hyper


_LOST_RANK = {name: lambda make=make: _along(make) for name, make in LOST_RANK.items()}


METHOD = Method(
    key="absil2008optimization",
    provenance={
        "confirmed": ("projection",),
        "partly": ("qr", "polar", "cayley", "scaled"),
    },
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
            refused=_LOST_RANK,
        ),
        Transform(
            f=transport_polar,
            interface=ALONG_STEP,
            wrt="z",
            jvp=lambda x, step, z, tangent: transport_polar(x, step, tangent),
            vjp=transport_polar_vjp,
            feasible=_ends_tangent(retract_polar),
            refused=_LOST_RANK,
        ),
        Transform(
            f=transport_cayley,
            interface=ALONG_STEP,
            wrt="z",
            jvp=lambda x, step, z, tangent: transport_cayley(x, step, tangent),
            vjp=transport_cayley_vjp,
            feasible=_ends_tangent(retract_cayley),
            refused={
                "a step that is too long": {"step": lambda step: 1e13 * step},
            },
        ),
        Transform(
            f=scaled_transport,
            interface=ALONG_STEP,
            settings={"default": {}, "probe": {"retraction": "polar"}},
            wrt="z",
            refused=_LOST_RANK,
        ),
    ),
)
