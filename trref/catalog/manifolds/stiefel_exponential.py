"""What is known of `trref.manifolds.stiefel_exponential`."""

from trref.catalog import Method, Transform
from trref.catalog.manifolds.interfaces import STEP, off_manifold
from trref.manifolds.stiefel_exponential import exponential

METHOD = Method(
    key="edelman1998geometry",
    provenance={
        "confirmed": ("canonical", "skew", "split", "polar"),
        "partly": ("euclidean",),
    },
    functions=(
        Transform(
            f=exponential,
            interface=STEP,
            wrt="z",
            settings={"default": {}, "probe": {"metric": "canonical"}},
            feasible=off_manifold,
            refused={
                "a step that is too long": {"z": lambda z: 1e13 * z},
            },
        ),
    ),
)
