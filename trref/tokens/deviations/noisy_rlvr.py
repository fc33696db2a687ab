"""What public code computes in the place of the equations of `trref.tokens.noisy_rlvr`."""

from trref.backend import xp
from trref.catalog import Deviation

__all__ = ["STANDARDISED_AFTER_CORRECTION"]


def _standardised_after_correction(reward, group, rho0, rho1, *, correction="backward"):
    s = (reward - rho0) / (1 - rho0 - rho1) if correction == "backward" else reward - (1 - rho1)
    same = (group[:, None] == group[None, :]).astype(reward.dtype)
    count = same.sum(1)
    centred = s - same @ s / count
    std = xp.sqrt(same @ centred**2 / xp.maximum(count - 1, 1))
    return centred / (std + 1e-4)


STANDARDISED_AFTER_CORRECTION = Deviation(
    "standardised within the group after the correction",
    _standardised_after_correction,
    seen_in="GRPO's advantage of corrected rewards; a public note on the paper's fourth version warns of it",
    computes="advantages without scale or level, in which no correction of a group's rates is left",
)
