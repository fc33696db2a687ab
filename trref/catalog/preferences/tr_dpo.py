"""What is known of `trref.preferences.tr_dpo`."""

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Transform
from trref.catalog.preferences.interfaces import COMPARISON_TABLE
from trref.preferences.tr_dpo import reference_path, soft_update


def _parameters(rng, size):
    ref_theta = rng.standard_normal(size)
    return {
        "ref_theta": ref_theta,
        "theta": ref_theta + rng.choice((0.05, 1.5)) * rng.standard_normal(size),
    }


def weights_exchanged(ref_theta, theta, *, alpha=0.6):
    return soft_update(theta, ref_theta, alpha=alpha)


def _stretch_by_stretch(ref_logits, reward, *, beta=0.05, alpha=0.6, updates=3):
    """Each stretch ends at the reference tilted by the reward; the logits are averaged, then."""
    for _ in range(updates):
        tilted = ref_logits + reward / beta
        ref_logits = (1 - alpha) * ref_logits + alpha * tilted
    return ref_logits - np.logaddexp.reduce(ref_logits)


METHOD = Method(
    key="gorbatovski2024learn",
    provenance={"confirmed": ("update",), "partly": ("path",)},
    functions=(
        Transform(
            f=soft_update,
            example=_parameters,
            edges={
                "the policy is the reference": lambda: {
                    "ref_theta": xp.array([1.5, -2.0]),
                    "theta": xp.array([1.5, -2.0]),
                },
                "one parameter": lambda: {
                    "ref_theta": xp.array([1.5]),
                    "theta": xp.array([0.25]),
                },
            },
            wrt="theta",
            settings={
                "default": {},
                "hard": {"alpha": 1.0},
                "none": {"alpha": 0.0},
                "probe": {"alpha": 0.35},
            },
            deviations=(
                Deviation(
                    "weights exchanged",
                    weights_exchanged,
                    seen_in="torch.optim.swa_utils.get_ema_avg_fn, by its argument decay",
                    computes="the weight is the old parameters', as in moving averages",
                    documented=True,
                ),
            ),
        ),
        Estimator(
            f=reference_path,
            interface=COMPARISON_TABLE,
            settings={
                "default": {},
                "hard": {"alpha": 1.0},
                "probe": {"beta": 0.35, "alpha": 0.3, "updates": 5},
            },
            brute_force=_stretch_by_stretch,
        ),
    ),
)
