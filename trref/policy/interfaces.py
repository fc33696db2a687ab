"""The signature that policy surrogates in the old form share."""

import dataclasses

from trref.catalog import Input
from trref.catalog.policy import interfaces

__all__ = ["SURROGATE"]

SURROGATE = dataclasses.replace(
    interfaces.SURROGATE,
    inputs={"log_prob": Input("N", "log_prob"), "old_log_prob": Input("N", "log_prob"), "advantage": Input("N")},
)
