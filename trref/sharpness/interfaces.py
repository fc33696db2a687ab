"""The signature that sharpness-aware gradients in the old form share."""

import dataclasses

from trref.catalog import Input
from trref.catalog.sharpness import interfaces as shared

__all__ = ["PERTURBED_GRADIENT", "WITH_PERTURBATION"]

PERTURBED_GRADIENT = dataclasses.replace(
    shared.PERTURBED_GRADIENT, inputs={"loss_and_grad": Input("", "callable"), "theta": Input("P")}
)
WITH_PERTURBATION = {**PERTURBED_GRADIENT.inputs, "perturbation": Input("P", optional=True)}
