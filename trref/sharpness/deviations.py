"""What public code computes in the place of the papers' equations: small runnable variants."""

from trref.backend import xp
from trref.catalog import Deviation

__all__ = ["ASAM_WITHOUT_OFFSET"]


def _without_offset(loss_and_grad, theta, *, rho=0.5, perturbation=None):
    if perturbation is None:
        g = loss_and_grad(theta)[1]
        Tg = abs(theta) * g
        perturbation = rho * theta * theta * g / (xp.sqrt((Tg * Tg).sum()) + 1e-12)
    return loss_and_grad(theta + perturbation)


ASAM_WITHOUT_OFFSET = Deviation(
    "no offset",
    _without_offset,
    seen_in="davda54/sam sam.py with adaptive=True",
    computes="the scale |w| alone, and 1e-12 added to the norm: weights of zero never move",
)
