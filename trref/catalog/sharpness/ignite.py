"""What is known of `trref.sharpness.ignite`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.catalog.sharpness.places import a_quadratic
from trref.nn import mlp
from trref.problems.convex import Quadratic
from trref.problems.networks import MeanOutput, RegressionLoss
from trref.sharpness.ignite import (
    multiplier_step,
    output_perturbation,
    output_sharpness,
    penalised_fit,
    penalised_fit_exact,
)


def _example(rng, size):
    D, H = int(rng.integers(2, 5)), max(3, size // 4)
    X, sizes = rng.standard_normal((size, D)), (D, H, 1)
    y = X[:, :1] - X[:, 1:2] ** 2 + 0.1 * rng.standard_normal((size, 1))
    return {
        "loss_and_grad": RegressionLoss(X, y, sizes),
        "mean_output": MeanOutput(X, sizes),
        "theta": rng.choice((0.5, 1.0, 2.0)) * mlp.init(rng, sizes),
        "multiplier": rng.uniform(0.0, 0.1, ()),
    }


def _linear():
    X = xp.array([[1.0, 0.5], [-0.3, 2.0], [0.2, -1.0]])
    return {
        "loss_and_grad": RegressionLoss(X, xp.ones((3, 1)), (2, 1)),
        "mean_output": MeanOutput(X, (2, 1)),
        "theta": xp.array([0.3, -0.4, 0.1]),
        "multiplier": xp.array(0.02),
    }


def _quadratics(*theta):
    n = len(theta)
    return {
        "loss_and_grad": Quadratic(xp.eye(n), xp.ones(n)),
        "mean_output": Quadratic(xp.diag(1.0 + xp.arange(n)), xp.zeros(n)),
        "theta": xp.array(theta),
        "multiplier": xp.array(1e-5),
    }


FITS = Interface(
    "fits",
    example=_example,
    edges={
        "linear in the weights": _linear,
        "one parameter": lambda: _quadratics(1.5),
        "a slope along one axis": lambda: _quadratics(0.2, 0.0),
        "no slope of the output": lambda: _quadratics(0.0, 0.0),
    },
)


def _sum_of_squares(mean_output, theta, *, rho=0.05):
    return rho * math.sqrt(math.fsum(x * x for x in mean_output(theta)[1].tolist()))


def _multiplier(mean_output, theta, multiplier, *, lr=1e-3, rho=0.05, threshold=0.1):
    sharpness = _sum_of_squares(mean_output, theta, rho=rho)
    return max(0.0, float(multiplier) + lr * sharpness - lr * threshold)


def _unprojected(mean_output, theta, multiplier, *, lr=1e-3, rho=0.05, threshold=0.1):
    return multiplier + lr * (output_sharpness(mean_output, theta, rho=rho) - threshold)


def _a_quadratic_output(inputs):
    """the mean output is quadratic"""
    output = a_quadratic({"theta": inputs["theta"]})["loss_and_grad"]
    return {**inputs, "mean_output": output}


PLAIN = {"to": "sam.perturbed_gradient", "to_hyper": {"rho": 0.0}}

METHOD = Method(
    key="dao2024incorporating",
    provenance={
        "confirmed": ("mean-output", "difference"),
        "partly": ("sharpness", "lagrangian", "multiplier"),
    },
    functions=(
        Estimator(
            f=output_sharpness,
            interface=FITS,
            settings={"default": {}, "probe": {"rho": 0.2}},
            brute_force=_sum_of_squares,
        ),
        Objective(
            f=penalised_fit,
            interface=FITS,
            wrt="theta",
            stopped={"perturbation": output_perturbation},
            settings={
                "default": {},
                "probe": {
                    "penalty_weight": 0.7,
                    "rho": 0.3,
                    "inner_rho": 0.1,
                    "threshold": 0.2,
                },
            },
            limits=(
                Limit(**PLAIN, hyper={"penalty_weight": 0.0}),
                Limit(
                    to="ignite.penalised_fit_exact",
                    hyper={"penalty_weight": 0.7, "rho": 0.3},
                    to_hyper={"penalty_weight": 0.7, "rho": 0.3},
                    where=_a_quadratic_output,
                    gradient_only=True,
                ),
            ),
        ),
        Objective(
            f=penalised_fit_exact,
            interface=FITS,
            wrt="theta",
            settings={
                "default": {},
                "probe": {"penalty_weight": 0.7, "rho": 0.3, "threshold": 0.2},
            },
            limits=(Limit(**PLAIN, hyper={"penalty_weight": 0.0}),),
        ),
        Estimator(
            f=multiplier_step,
            interface=FITS,
            settings={
                "default": {},
                "probe": {"lr": 0.3, "rho": 0.2, "threshold": 0.4},
            },
            brute_force=_multiplier,
            deviations=(
                Deviation(
                    "not kept from below 0",
                    _unprojected,
                    seen_in="cuong-dm/IGNITE, the gradient_ascent_IGNITE trainer",
                    computes="the step without the maximum: the multiplier may become negative",
                ),
            ),
        ),
    ),
)
