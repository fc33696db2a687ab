"""Where the examples of sharpness-aware gradients come from."""

from trref.backend import xp
from trref.catalog.record import Interface
from trref.nn import mlp
from trref.problems.convex import Quadratic, Rosenbrock, logistic
from trref.problems.networks import random_classifier

__all__ = ["PERTURBED_GRADIENT"]


def _example(rng, size):
    if rng.random() < 0.5:
        loss = logistic(rng, points=size + 2, dims=size)
        return {"loss_and_grad": loss, "theta": rng.standard_normal(size)}
    loss = random_classifier(rng, points=size, hidden=max(2, size // 8))
    return {"loss_and_grad": loss, "theta": mlp.init(rng, loss.sizes)}


PERTURBED_GRADIENT = Interface(
    "perturbed_gradient",
    example=_example,
    edges={
        "one parameter": lambda: {
            "loss_and_grad": Quadratic(xp.array([[2.0]]), xp.array([1.0])),
            "theta": xp.array([1.5]),
        },
        "one coordinate at its minimum": lambda: {
            "loss_and_grad": Quadratic(
                xp.array([[2.0, 0.0], [0.0, 0.5]]), xp.array([1.0, 0.25])
            ),
            "theta": xp.array([0.6, 0.5]),
        },
        "at the minimum": lambda: {
            "loss_and_grad": Quadratic(xp.eye(2), xp.zeros(2)),
            "theta": xp.zeros(2),
        },
        "a curved valley": lambda: {
            "loss_and_grad": Rosenbrock(),
            "theta": xp.array([-1.2, 1.0, 0.3]),
        },
    },
)
"""``perturbed_gradient(loss_and_grad, theta (P), *, rho, …) -> (loss, gradient)`` at the perturbed point."""
