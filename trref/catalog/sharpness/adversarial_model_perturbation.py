"""What is known of `trref.sharpness.adversarial_model_perturbation`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.sharpness.interfaces import PERTURBED_GRADIENT
from trref.nn import mlp
from trref.sharpness.adversarial_model_perturbation import (
    perturbed_gradient,
    worst_perturbation,
)


def _length(v):
    return xp.sqrt((v * v).sum())


def _tensors(loss_and_grad, theta):
    """The slices of theta that hold a network's weights and biases; all of it where there is no network."""
    sizes, start, slices = getattr(loss_and_grad, "sizes", None), 0, []
    for part in mlp.unpack(theta, sizes) if sizes else [(theta,)]:
        for tensor in part:
            slices.append(slice(start, start + tensor.size))
            start += tensor.size
    return slices


def _ball_per_tensor(
    loss_and_grad, theta, *, rho=0.5, inner_lr=1.0, steps=1, perturbation=None
):
    moved = xp.zeros_like(theta)
    for _ in range(steps):
        moved = moved + inner_lr * loss_and_grad(theta + moved)[1]
        for part in _tensors(loss_and_grad, theta):
            shrink = rho / (_length(moved[part]) + 1e-12)
            moved[part] = moved[part] * xp.minimum(shrink, 1)
    if perturbation is None:
        perturbation = moved
    return loss_and_grad(theta + perturbation)


def _clipped(
    loss_and_grad, theta, *, rho=0.5, inner_lr=1.0, steps=1, perturbation=None
):
    def clipped(theta):
        loss, g = loss_and_grad(theta)
        return loss, g * xp.minimum(50 / (_length(g) + 1e-6), 1)

    how = {"rho": rho, "inner_lr": inner_lr, "steps": steps}
    return perturbed_gradient(clipped, theta, perturbation=perturbation, **how)


METHOD = Method(
    key="zheng2020regularizing",
    provenance={"confirmed": ("ascent", "gradient"), "partly": ("loss",)},
    functions=(
        Objective(
            f=perturbed_gradient,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            stopped={"perturbation": worst_perturbation},
            settings={
                "default": {},
                "three steps": {"steps": 3},
                "short steps": {"inner_lr": 0.01},
                "probe": {"rho": 0.3, "inner_lr": 0.2, "steps": 2},
            },
            limits=(
                Limit(
                    to="sam.perturbed_gradient",
                    hyper={"rho": 0.3, "inner_lr": 1e14},
                    to_hyper={"rho": 0.3},
                ),
                Limit(
                    to="sam.perturbed_gradient",
                    hyper={"rho": 0.0},
                    to_hyper={"rho": 0.0},
                ),
                Limit(
                    to="sam.perturbed_gradient",
                    hyper={"inner_lr": 0.0},
                    to_hyper={"rho": 0.0},
                ),
            ),
            deviations=(
                Deviation(
                    "a ball for each tensor",
                    _ball_per_tensor,
                    seen_in="hiyouga/AMP-Regularizer amp.py (5ab39fb)",
                    computes="each parameter tensor is put into a ball of its own",
                ),
                Deviation(
                    "clipped gradients",
                    _clipped,
                    seen_in="hiyouga/AMP-Regularizer main.py (5ab39fb)",
                    computes="gradients clipped to norm 50 within each evaluation, those of the ascent, too",
                ),
            ),
        ),
    ),
)
