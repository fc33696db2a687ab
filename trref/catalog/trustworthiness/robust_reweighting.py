"""What is known of `trref.trustworthiness.robust_reweighting`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.trustworthiness.robust_reweighting import (
    balanced_weights,
    chi_square_ball,
    cvar,
    effective_size,
    group_weights,
    kl_ball,
    kl_penalty,
)


def _losses(rng, size):
    """Skewed losses at a distance of each other, with weights that are unlike."""
    losses = rng.permutation(size + 2) / (size + 2) + 0.2 * rng.random(size + 2) / (
        size + 2
    )
    weights = 0.2 + rng.random(size + 2)
    return {
        "losses": rng.choice((0.1, 1.0, 20.0)) * losses**2,
        "weights": weights / weights.sum(),
    }


def _given(losses, weights=None):
    losses = xp.array(losses)
    return {
        "losses": losses,
        "weights": None if weights is None else xp.array(weights),
    }


LOSSES = Interface(
    "losses",
    example=_losses,
    edges={
        "equal losses": lambda: _given([1.5, 1.5, 1.5]),
        "equal weights": lambda: _given([0.3, 2.0, 1.1, 0.1, 0.7, 0.2]),
        "the worst has no weight": lambda: _given(
            [0.3, 9.0, 1.1, 0.5], [0.4, 0.0, 0.2, 0.4]
        ),
        "negative losses": lambda: _given([-3.0, -1.0, -2.0, -1.25]),
        "tiny losses": lambda: _given([1e-25, 4e-25, 2e-25]),
        "one sample": lambda: _given([0.7]),
        "two, the worse one rare": lambda: _given([0.0, 1.0], [0.99, 0.01]),
    },
)
"""``f(losses (N), weights (N) or None, …)``."""


def _whole_samples(losses, weights, *, level=0.1):
    """Samples count one each."""
    count = max(int(level * len(losses)), 1)
    order = xp.argsort(-losses, kind="stable")
    rank = xp.argsort(order, kind="stable")
    q = (rank < count).astype(losses.dtype) / count
    return q @ losses, q


def _groups(rng, size):
    weights = 0.1 + rng.random(size + 1)
    return {
        "weights": weights / weights.sum(),
        "losses": rng.choice((0.3, 3.0)) * rng.random(size + 1),
    }


def _multiplied(weights, losses, *, lr=0.1):
    products = [
        w * math.exp(lr * (x - max(losses)))
        for w, x in zip(weights.tolist(), losses.tolist(), strict=True)
    ]
    return xp.array(products) / math.fsum(products)


def _members(rng, size):
    group = xp.concatenate([xp.arange(3), rng.integers(0, 3, size)])
    return {"group": rng.permutation(group)}


def _one_by_one(group, *, groups, dtype="float64"):
    members = group.tolist()
    return xp.array([1 / (groups * members.count(g)) for g in members], dtype=dtype)


SHARED = {"interface": LOSSES, "wrt": "losses", "sizes": (4, 16)}

METHOD = Method(
    key="liu2023towards",
    provenance="reconstructed",
    functions=(
        Objective(
            f=cvar,
            settings={
                "default": {},
                "a half": {"level": 0.5},
                "all: the mean": {"level": 1.0},
                "probe": {"level": 0.37},
            },
            deviations=(
                Deviation(
                    "whole samples",
                    _whole_samples,
                    seen_in="nnU-Net, training/loss/robust_ce_loss.py: TopKLoss",
                    computes="the mean of the int(level n) largest losses (of one, here, where that is 0)",
                ),
            ),
            **SHARED,
        ),
        Objective(
            f=kl_penalty,
            settings={
                "default": {},
                "nearly the maximum": {"kl_weight": 0.01},
                "nearly the mean": {"kl_weight": 100.0},
                "probe": {"kl_weight": 0.4},
            },
            **SHARED,
        ),
        Objective(
            f=kl_ball,
            settings={
                "default": {},
                "a large ball": {"radius": 9.0},
                "probe": {"radius": 0.4},
            },
            limits=(
                Limit(
                    "robust_reweighting.chi_square_ball",
                    {"radius": 9.0},
                    {"radius": 200.0},
                ),
            ),
            **SHARED,
        ),
        Objective(
            f=chi_square_ball,
            settings={
                "default": {},
                "a small ball": {"radius": 0.01},
                "a large ball": {"radius": 200.0},
                "probe": {"radius": 0.6},
            },
            **SHARED,
        ),
        Estimator(
            f=group_weights,
            example=_groups,
            edges={
                "equal losses": lambda: {
                    "weights": xp.array([0.25, 0.75]),
                    "losses": xp.ones(2),
                },
                "one group": lambda: {
                    "weights": xp.ones(1),
                    "losses": xp.array([3.0]),
                },
                "a group without weight": lambda: {
                    "weights": xp.array([0.0, 0.5, 0.5]),
                    "losses": xp.array([2.0, 1.0, 0.5]),
                },
            },
            settings={"default": {}, "probe": {"lr": 0.7}},
            brute_force=_multiplied,
        ),
        Estimator(
            f=balanced_weights,
            example=_members,
            edges={
                "one of each": lambda: {"group": xp.array([2, 0, 1])},
                "two to one": lambda: {"group": xp.array([0, 1, 0, 1, 2, 0])},
            },
            settings={"default": {"groups": 3}, "probe": {"groups": 3}},
            brute_force=_one_by_one,
            refused={
                "a group that there is not": {"group": 99},
                "a group without members": {"group": 0},
            },
        ),
        Estimator(
            f=effective_size,
            example=lambda rng, size: {
                "weights": rng.choice((1e-3, 1.0, 40.0)) * rng.random(size)
            },
            edges={
                "equal": lambda: {"weights": xp.array([0.2, 0.2, 0.2])},
                "one counts": lambda: {"weights": xp.array([0.0, 3.0, 0.0])},
                "one": lambda: {"weights": xp.array([0.5])},
                "too small to square in float32": lambda: {
                    "weights": xp.array([1e-30, 2e-30, 0.0])
                },
            },
            brute_force=lambda weights: (
                (math.fsum(weights.tolist()) / math.hypot(*weights.tolist())) ** 2
            ),
            refused={
                "weights that are all 0": {"weights": 0},
            },
        ),
    ),
)
