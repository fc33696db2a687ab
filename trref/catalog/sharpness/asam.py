"""What is known of `trref.sharpness.asam`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.sharpness.interfaces import PERTURBED_GRADIENT
from trref.sharpness.asam import perturbed_gradient, worst_perturbation


def _without_offset(loss_and_grad, theta, *, rho=0.5, perturbation=None):
    if perturbation is None:
        g = loss_and_grad(theta)[1]
        Tg = abs(theta) * g
        perturbation = rho * theta * theta * g / (xp.sqrt((Tg * Tg).sum()) + 1e-12)
    return loss_and_grad(theta + perturbation)


def _scaled_once(loss_and_grad, theta, *, rho=0.5, perturbation=None):
    if perturbation is None:
        Tg = abs(theta) * loss_and_grad(theta)[1]
        perturbation = rho * Tg / (xp.sqrt((Tg * Tg).sum()) + 1e-12)
    return loss_and_grad(theta + perturbation)


ASAM_SCALED_ONCE = Deviation(
    "scaled once",
    _scaled_once,
    seen_in="several re-implementations of davda54/sam, with abs(p) * p.grad where it has p**2 * p.grad",
    computes="|w| g in the place of w² g: a step of the right length in another direction",
)
ASAM_WITHOUT_OFFSET = Deviation(
    "no offset",
    _without_offset,
    seen_in="davda54/sam sam.py with adaptive=True",
    computes="the scale |w| alone, and 1e-12 added to the norm: weights of zero never move",
)


def _weights_of_size_one(inputs):
    """all weights are 1 or -1"""
    return {**inputs, "theta": xp.where(inputs["theta"] < 0, -1.0, 1.0)}


METHOD = Method(
    key="kwon2021asam",
    provenance="confirmed",
    functions=(
        Objective(
            f=perturbed_gradient,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            stopped={"perturbation": worst_perturbation},
            settings={"default": {}, "probe": {"rho": 0.3, "offset": 0.2}},
            limits=(
                Limit(
                    to="sam.perturbed_gradient",
                    hyper={"rho": 0.2, "offset": 0.0},
                    to_hyper={"rho": 0.2},
                    where=_weights_of_size_one,
                ),
                Limit(
                    to="sam.perturbed_gradient",
                    hyper={"rho": 0.0},
                    to_hyper={"rho": 0.0},
                ),
            ),
            deviations=(ASAM_WITHOUT_OFFSET, ASAM_SCALED_ONCE),
        ),
    ),
)
