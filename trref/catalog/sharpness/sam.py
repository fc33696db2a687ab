"""What is known of `trref.sharpness.sam`."""

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.sharpness.interfaces import PERTURBED_GRADIENT
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss, random_classifier
from trref.sharpness.sam import (
    perturbed_gradient,
    share_gradient,
    share_perturbations,
    sharpness,
    worst_perturbation,
)


def _classifier(rng, size):
    loss = random_classifier(rng, points=max(3, size), hidden=max(2, size // 8))
    return {"loss_and_grad": loss, "theta": mlp.init(rng, loss.sizes)}


def _batch_of(points):
    """Three features, the first always 0, and two classes."""
    X = xp.sin(xp.arange(3.0 * points)).reshape(points, 3) * xp.array([0.0, 1.0, 1.0])
    loss = ClassifierLoss(X, xp.arange(points) % 2, (3, 2, 2))
    return {"loss_and_grad": loss, "theta": xp.cos(xp.arange(14.0))}


def _sharpness_by_hand(loss_and_grad, theta, *, rho=0.05, p=2.0, steps=1):
    """Along the direction in the unit ball of the p-norm that has the largest product with the gradient."""
    point = theta
    for _ in range(steps):
        g = loss_and_grad(point)[1]
        direction = xp.sign(g) if p == "inf" else xp.sign(g) * abs(g) ** (1 / (p - 1))
        length = (
            abs(direction).max()
            if p == "inf"
            else (abs(direction) ** p).sum() ** (1 / p)
        )
        point = theta + rho * direction / (float(length) or 1.0)
    return loss_and_grad(point)[0] - loss_and_grad(theta)[0]


METHOD = Method(
    key="foret2020sharpness",
    provenance={
        "confirmed": ("perturbation", "gradient"),
        "partly": ("general-norm", "shares", "sharpness"),
    },
    functions=(
        Objective(
            f=perturbed_gradient,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            stopped={"perturbation": worst_perturbation},
            settings={
                "default": {},
                "a wider ball": {"rho": 0.3},
                "largest entry": {"p": "inf"},
                "probe": {"rho": 0.3, "p": 3.0},
            },
        ),
        Objective(
            f=share_gradient,
            example=_classifier,
            edges={
                "a last share of one": lambda: _batch_of(9),
                "less than a share": lambda: _batch_of(2),
            },
            wrt="theta",
            stopped={"perturbations": share_perturbations},
            settings={
                "default": {"share": 3},
                "largest entry": {"share": 3, "p": "inf"},
                "probe": {"rho": 0.3, "share": 5, "p": 3.0},
            },
            limits=(
                Limit(to="sam.perturbed_gradient", hyper={"share": 1000}),
                Limit(
                    to="sam.perturbed_gradient",
                    hyper={"rho": 0.0},
                    to_hyper={"rho": 0.0},
                ),
            ),
        ),
        Estimator(
            f=sharpness,
            interface=PERTURBED_GRADIENT,
            settings={
                "default": {},
                "largest entry": {"p": "inf"},
                "probe": {"rho": 0.3, "p": 3.0, "steps": 3},
            },
            brute_force=_sharpness_by_hand,
        ),
    ),
)
