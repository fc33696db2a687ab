"""The signatures that linear solvers in the old form share."""

import dataclasses

from trref.catalog import Input
from trref.catalog.krylov import interfaces as shared
from trref.catalog.krylov.interfaces import TOLERANCES, relative_residual

__all__ = ["GENERAL_SOLVER", "SPD_SOLVER", "SYMMETRIC_SOLVER", "TOLERANCES", "relative_residual"]

INPUTS = {
    "matvec": Input("", "callable"),
    "b": Input("N"),
    "x0": Input("N", optional=True),
    "preconditioner": Input("", "callable", optional=True),
}
SPD_SOLVER, SYMMETRIC_SOLVER, GENERAL_SOLVER = (
    dataclasses.replace(interface, inputs=INPUTS)
    for interface in (shared.SPD_SOLVER, shared.SYMMETRIC_SOLVER, shared.GENERAL_SOLVER)
)
