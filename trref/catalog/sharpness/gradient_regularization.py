"""What is known of `trref.sharpness.gradient_regularization`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.sharpness.interfaces import PERTURBED_GRADIENT
from trref.catalog.sharpness.places import a_quadratic
from trref.problems.convex import Quadratic
from trref.sharpness.gradient_regularization import (
    ascent_direction,
    finite_difference_gradient,
    flooding,
    penalised_loss,
)


def _clipped(v):
    return v / xp.maximum(xp.sqrt((v * v).sum()), 1)


def _clipped_first(
    loss_and_grad,
    theta,
    *,
    penalty_weight=0.1,
    inner_lr=0.1,
    scheme="forward",
    ascent=None,
):
    def clipped(theta):
        loss, g = loss_and_grad(theta)
        return loss, _clipped(g)

    how = {"penalty_weight": penalty_weight, "inner_lr": inner_lr, "scheme": scheme}
    return finite_difference_gradient(clipped, theta, ascent=ascent, **how)


def _normalised(
    loss_and_grad,
    theta,
    *,
    penalty_weight=0.1,
    inner_lr=0.1,
    scheme="forward",
    ascent=None,
):
    g = loss_and_grad(theta)[1] if ascent is None else ascent
    size = xp.sqrt((g * g).sum())
    size = float(size) if size > 0 else 1.0
    how = {"penalty_weight": penalty_weight, "inner_lr": inner_lr / size}
    return finite_difference_gradient(
        loss_and_grad, theta, ascent=ascent, scheme=scheme, **how
    )


def _at_the_level():
    loss = Quadratic(xp.diag(xp.array([0.2, 1.0])), xp.zeros(2))
    return {"loss_and_grad": loss, "theta": xp.array([1.0, 0.0])}


PLAIN = {"to": "sam.perturbed_gradient", "to_hyper": {"rho": 0.0}}

METHOD = Method(
    key="karakida2022understanding",
    provenance={
        "confirmed": ("step",),
        "partly": ("objective", "differences", "flooding"),
    },
    functions=(
        Objective(
            f=penalised_loss,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            settings={"default": {}, "probe": {"penalty_weight": 0.03}},
            limits=(Limit(**PLAIN, hyper={"penalty_weight": 0.0}),),
        ),
        Objective(
            f=finite_difference_gradient,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            stopped={"ascent": ascent_direction},
            settings={
                "default": {},
                "backward": {"scheme": "backward"},
                "probe": {
                    "penalty_weight": 0.03,
                    "inner_lr": 0.05,
                    "scheme": "central",
                },
            },
            limits=(
                Limit(
                    to="adversarial_model_perturbation.perturbed_gradient",
                    hyper={"penalty_weight": 0.2, "inner_lr": 0.2},
                    to_hyper={"inner_lr": 0.2, "rho": 1e14},
                ),
                Limit(**PLAIN, hyper={"penalty_weight": 0.0}),
                *(
                    Limit(
                        to="gradient_regularization.penalised_loss",
                        hyper={"penalty_weight": 0.3, "scheme": scheme},
                        to_hyper={"penalty_weight": 0.3},
                        where=a_quadratic,
                        gradient_only=True,
                    )
                    for scheme in ("forward", "backward", "central")
                ),
            ),
            deviations=(
                Deviation(
                    "gradients clipped before their difference",
                    _clipped_first,
                    seen_in="JohannesAck/gradientregularization_trl BaseTrainerGradregDeepSpeed.py (bb734e7), "
                    "with its two norms set to 1",
                    computes="the difference of two gradients of norm at most 1",
                    documented=True,
                ),
                Deviation(
                    "a step of fixed length",
                    _normalised,
                    seen_in="a public trainer class that cites the paper; which one is not on record",
                    computes="the difference over a fixed length: the step divided by the gradient's norm",
                ),
            ),
        ),
        Objective(
            f=flooding,
            interface=PERTURBED_GRADIENT,
            edges={**PERTURBED_GRADIENT.edges, "at the level": _at_the_level},
            wrt="theta",
            settings={"default": {}, "probe": {"level": 0.7}},
            limits=(Limit(**PLAIN, hyper={"level": -100.0}),),
        ),
    ),
)
