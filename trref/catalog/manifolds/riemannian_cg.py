"""What is known of `trref.manifolds.riemannian_cg`."""

import math

from trref.backend import xp
from trref.catalog import Method, Solver
from trref.catalog.manifolds.interfaces import MINIMISER, off_manifold
from trref.manifolds.riemannian_cg import riemannian_cg
from trref.manifolds.stiefel import tangent_part
from trref.problems.frames import Brockett


def _stationarity(result, loss_and_grad, x0, *, gtol=1e-6, **_):
    """Certificate: a stationary frame, no worse than the start."""
    (loss, G), (start, G0) = loss_and_grad(result.x), loss_and_grad(x0)
    norm, scale = (
        float(xp.sqrt((v * v).sum())) for v in (tangent_part(result.x, G), G0)
    )
    return {
        "gradient over its target": norm / (gtol * scale) if scale else norm,
        "off the manifold": off_manifold(result.x),
        "loss above the start": (float(loss) - float(start))
        / max(abs(float(start)), 1e-300),
    }


def _descends(result, loss_and_grad, x0, **_):
    """However early it stops: a frame, no worse than the start, whose loss and gradient are those reported."""
    loss, G = loss_and_grad(result.x)
    g = tangent_part(result.x, G)
    norm, size = float(xp.sqrt((g * g).sum())), float(xp.sqrt((G * G).sum()))
    rounding = 1e-12 * max(map(abs, result.losses))
    return {
        "off the manifold": (off_manifold(result.x), 1e-12),
        "loss above the start": (float(loss) - float(loss_and_grad(x0)[0]), rounding),
        "loss misreported": (abs(float(loss) - result.losses[-1]), rounding),
        "norm misreported": (abs(norm - result.gradient_norms[-1]), 1e-12 * size),
    }


METHOD = Method(
    key="sato2015new",
    provenance={
        "confirmed": ("direction", "beta", "armijo", "restart"),
        "partly": ("trapezoid", "secant"),
    },
    functions=(
        Solver(
            f=riemannian_cg,
            prescribed=False,
            interface=MINIMISER,
            settings={
                "default": {},
                "to the last digits": {"gtol": 1e-10},
                "Fletcher-Reeves, scaled transport": {
                    "beta": "FR",
                    "transport": "scaled",
                },
                "Dai-Yuan": {
                    "beta": "DY",
                    "retraction": "polar",
                    "transport": "differential",
                },
                "probe": {
                    "beta": "HS",
                    "retraction": "cayley",
                    "transport": "cayley",
                    "restart": 0.2,
                    "gtol": 1e-5,
                    "max_iter": 700,
                },
            },
            certificate=_stationarity,
            failures={
                "two iterations": lambda: (
                    MINIMISER.edges["a weak function"](),
                    {"max_iter": 2},
                ),
                "a gradient below rounding is asked for": lambda: (
                    {
                        "loss_and_grad": Brockett(
                            xp.array(
                                [[2.0, 1.0, 0.3], [1.0, 3.0, 1.0], [0.3, 1.0, 5.0]]
                            ),
                            xp.array([1.0]),
                        ),
                        "x0": xp.eye(3)[:, :1],
                    },
                    {"gtol": 1e-30, "max_iter": 60},
                ),
            },
            remains=_descends,
            refused={
                "a loss that is not finite": lambda: (
                    {
                        "loss_and_grad": Brockett(
                            xp.full((2, 2), math.nan), xp.array([1.0])
                        ),
                        "x0": xp.eye(2)[:, :1],
                    },
                    {},
                ),
                "the isometry of another retraction": lambda: (
                    MINIMISER.edges["sphere"](),
                    {"transport": "cayley", "retraction": "qr"},
                ),
            },
            tolerances={
                "gradient over its target": 1.001,
                "off the manifold": 1e-12,
                "loss above the start": 1e-12,
            },
        ),
    ),
)
