"""What is known of `trref.statistics.proximal_cg`."""

import itertools

from trref.catalog import Estimator, Method, Solver
from trref.catalog.statistics.interfaces import PENALISED
from trref.catalog.statistics.pieces import (
    figures,
    mapping,
    objective_and_gradient,
)
from trref.statistics.proximal_cg import gradient_mapping, proximal_cg


def _certificate(result, loss_and_grad, x0, penalized=None, *, gtol=1e-6, **hyper):
    """The gradient mapping at the solution, what is reported there, and that no value rises."""
    value, size = figures(result, loss_and_grad, x0, penalized, **hyper)
    scale = max(1.0, *map(abs, result.values))
    return {
        "gradient mapping over gtol": size / gtol,
        "error of the reported residual, over gtol": abs(size - result.residuals[-1])
        / gtol,
        "error of the reported value": abs(value - result.values[-1]) / scale,
        "rise of the value": _rise(result) / scale,
    }


def _rise(result):
    steps = itertools.pairwise(result.values)
    return max((b - a for a, b in steps), default=0.0)


def _remains(result, loss_and_grad, x0, penalized=None, **hyper):
    """However early it ends: no value rises, and value and residual are reported as they are."""
    value, size = figures(result, loss_and_grad, x0, penalized, **hyper)
    return {
        "rise of the value": (_rise(result), 1e-12),
        "value misreported": (abs(value - result.values[-1]), 1e-12),
        "residual misreported": (abs(size - result.residuals[-1]), 1e-9),
    }


def _by_entries(
    loss_and_grad,
    theta,
    penalized=None,
    *,
    lr=0.1,
    penalty="mcp",
    penalty_weight=0.1,
    a=3.7,
    gamma=2.0,
):
    how = {"penalty": penalty, "penalty_weight": penalty_weight, "a": a, "gamma": gamma}
    gradient = objective_and_gradient(loss_and_grad, theta, penalized, **how)[1]
    return mapping(theta, gradient, penalized, lr, penalty_weight)


METHOD = Method(
    key="yang2025contributions",
    provenance="reconstructed",
    functions=(
        Estimator(
            f=gradient_mapping,
            interface=PENALISED,
            settings={
                "default": {},
                "scad": {"penalty": "scad"},
                "l1": {"penalty": "l1"},
                "probe": {
                    "lr": 0.4,
                    "penalty": "scad",
                    "penalty_weight": 0.3,
                    "a": 3.1,
                    "gamma": 2.5,
                },
                "level early": {"penalty_weight": 0.3, "gamma": 1.1},
            },
            sizes=(4, 8),
            brute_force=_by_entries,
        ),
        Solver(
            f=proximal_cg,
            interface=PENALISED,
            settings={
                "default": {},
                "scad": {"penalty": "scad"},
                "l1": {"penalty": "l1"},
                "probe": {
                    "smoothness": 1.2,
                    "penalty": "scad",
                    "penalty_weight": 0.3,
                    "a": 3.1,
                    "gamma": 2.5,
                    "decrease": 0.3,
                    "gtol": 1e-5,
                    "max_iter": 1500,
                },
                "strict": {"decrease": 0.5, "gtol": 0.01},
                "level early": {"penalty_weight": 0.3, "gamma": 1.1},
            },
            sizes=(4, 8),
            seeds=(0,),
            certificate=_certificate,
            tolerances={
                "gradient mapping over gtol": 1 + 1e-9,
                "error of the reported residual, over gtol": 1e-4,
                "error of the reported value": 1e-12,
                "rise of the value": 1e-12,
            },
            failures={
                "two steps": lambda: (
                    PENALISED.of(
                        PENALISED.edges["from zero"](),
                        ("loss_and_grad", "x0", "penalized"),
                    ),
                    {"max_iter": 2},
                )
            },
            remains=_remains,
        ),
    ),
)
