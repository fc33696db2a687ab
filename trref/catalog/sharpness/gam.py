"""What is known of `trref.sharpness.gam`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.sharpness.interfaces import PERTURBED_GRADIENT
from trref.sharpness.gam import (
    four_displacements,
    gam,
    gam_accelerated,
    gradient_norm,
    gradient_overlap,
    steep_displacement,
)


def _without_beta(
    loss_and_grad,
    theta,
    *,
    rho=0.2,
    inner_rho=0.02,
    alpha=0.6,
    beta=0.5,
    gamma=0.03,
    displacements=None,
    overlap=None,
):
    if displacements is None:
        displacements = four_displacements(
            loss_and_grad, theta, rho=rho, inner_rho=inner_rho
        )
    points = [theta, *(theta + e for e in displacements)]
    L, g = zip(*map(loss_and_grad, points), strict=True)
    ahead = [alpha * x[1] + (1 - alpha) * x[3] for x in (L, g)]
    behind = [x[0] + (1 - beta) * x[2] for x in (L, g)]
    if overlap is None:
        size = (ahead[1] * ahead[1]).sum()
        overlap = (behind[1] * ahead[1]).sum() / xp.where(size > 0, size, 1)
    loss, h = (
        a - gamma * (b - overlap * a) for a, b in zip(ahead, behind, strict=True)
    )
    return loss, h


PLAIN = {"to": "sam.perturbed_gradient", "to_hyper": {"rho": 0.0}}

METHOD = Method(
    key="zhang2023gradient",
    provenance={
        "confirmed": ("displacements", "accelerated"),
        "partly": ("flatness", "norm-gradient", "displacement", "gradient"),
    },
    functions=(
        Objective(f=gradient_norm, interface=PERTURBED_GRADIENT, wrt="theta"),
        Objective(
            f=gam,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            stopped={"displacement": steep_displacement},
            settings={"default": {}, "probe": {"rho": 0.07, "alpha": 0.3}},
            limits=(
                Limit(**PLAIN, hyper={"alpha": 0.0}),
                Limit(**PLAIN, hyper={"rho": 0.0}),
            ),
        ),
        Objective(
            f=gam_accelerated,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            stopped={"displacements": four_displacements, "overlap": gradient_overlap},
            settings={
                "default": {},
                "probe": {
                    "rho": 0.15,
                    "inner_rho": 0.1,
                    "alpha": 0.3,
                    "beta": 0.7,
                    "gamma": 0.4,
                },
            },
            limits=(
                Limit(
                    to="sam.perturbed_gradient",
                    hyper={"alpha": 1.0, "gamma": 0.0, "inner_rho": 0.3},
                    to_hyper={"rho": 0.3},
                ),
            ),
            deviations=(
                Deviation(
                    "no beta on the first gradient",
                    _without_beta,
                    seen_in="xxgege/GAM gam/gam.py (3b5c7eb), gradient_decompose",
                    computes="g_0 + (1 - beta) g_2 in the place of beta g_0 + (1 - beta) g_2",
                ),
            ),
        ),
    ),
)
