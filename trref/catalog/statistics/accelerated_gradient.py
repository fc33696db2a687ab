"""What is known of `trref.statistics.accelerated_gradient`."""

from trref.catalog import Method, Solver
from trref.catalog.statistics.interfaces import PENALISED
from trref.catalog.statistics.pieces import (
    figures,
)
from trref.statistics.accelerated_gradient import accelerated_gradient


def _certificate(result, loss_and_grad, x0, penalized=None, *, gtol=1e-6, **hyper):
    """The step to the solution at most doubles the gradient mapping, and raises no objective."""
    value, size = figures(result, loss_and_grad, x0, penalized, **hyper)
    scale = max(1.0, *map(abs, result.values))
    return {
        "gradient mapping over gtol": size / gtol,
        "reported residual over gtol": result.residuals[-1] / gtol,
        "rise in the last step": (value - result.values[-1]) / scale,
        "gap in the last step": (result.values[-1] - value) / scale,
    }


def _remains(result, loss_and_grad, x0, penalized=None, **hyper):
    """However early it ends, the last step raises no objective, and at most doubles the gradient mapping."""
    value, size = figures(result, loss_and_grad, x0, penalized, **hyper)
    return {
        "gradient mapping": (size, 2 * result.residuals[-1]),
        "rise in the last step": (value - result.values[-1], 1e-12),
    }


METHOD = Method(
    key="yang2025contributions",
    provenance={
        "confirmed": ("objective", "damping", "step", "restart"),
        "reconstructed": ("residual",),
    },
    functions=(
        Solver(
            f=accelerated_gradient,
            interface=PENALISED,
            settings={
                "default": {},
                "plain": {"acceleration": "plain"},
                "none": {"acceleration": "none"},
                "scad": {"penalty": "scad"},
                "l1": {"penalty": "l1"},
                "probe": {
                    "smoothness": 1.2,
                    "penalty": "scad",
                    "penalty_weight": 0.3,
                    "a": 3.1,
                    "gamma": 2.5,
                    "acceleration": "plain",
                    "gtol": 1e-5,
                    "max_iter": 4000,
                },
                "level early": {"penalty_weight": 0.3, "gamma": 1.1},
            },
            sizes=(4, 8),
            certificate=_certificate,
            tolerances={
                "gradient mapping over gtol": 2.0,
                "reported residual over gtol": 1.0,
                "rise in the last step": 1e-12,
                "gap in the last step": 1e-6,
            },
            failures={
                "three steps": lambda: (
                    PENALISED.of(
                        PENALISED.edges["from zero"](),
                        ("loss_and_grad", "x0", "penalized"),
                    ),
                    {"max_iter": 3},
                )
            },
            remains=_remains,
        ),
    ),
)
