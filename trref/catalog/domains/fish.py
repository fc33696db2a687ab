"""What is known of `trref.domains.fish`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.catalog.domains.interfaces import DOMAIN_LOSSES
from trref.domains.fish import (
    fish_step,
    idgm_objective,
    inner_trajectory,
)


def _alone(losses_and_grads, theta, order, *, lr):
    """Every step asks one domain, which knows of no other."""
    points = xp.empty((len(order) + 1, len(theta)))
    points[0] = theta
    for t, k in enumerate(order.tolist()):
        _, gradients = losses_and_grads.on(slice(k, k + 1))(points[t])
        points[t + 1] = points[t] - lr * gradients[0]
    return points


def _part_of_the_way(losses_and_grads, theta, order, *, lr, meta=0.5):
    end = _alone(losses_and_grads, theta, order, lr=lr)[-1]
    return (1 - meta) * theta + meta * end


def _share_of_each_step(losses_and_grads, theta, order, *, lr, meta=0.5):
    meta = meta / len(order)
    return fish_step(losses_and_grads, theta, order, lr=lr, meta=meta)


def _trajectory_in_own_order(losses_and_grads, theta, order, *, lr):
    return inner_trajectory(losses_and_grads, theta, xp.sort(order), lr=lr)


def _step_in_own_order(losses_and_grads, theta, order, *, lr, meta=0.5):
    return fish_step(losses_and_grads, theta, xp.sort(order), lr=lr, meta=meta)


def _own_order(f):
    return Deviation(
        "the same order always",
        f,
        seen_in="facebookresearch/DomainBed domainbed/algorithms.py (026d588), class Fish",
        computes="the domains of the batch in their own order, so that the order's part never averages out",
    )


NO_SUCH_DOMAIN = {
    "a domain that there is not": {"order": 99},
}


METHOD = Method(
    key="shi2021gradient",
    provenance={
        "confirmed": ("inner", "step"),
        "partly": ("objective",),
        "reconstructed": ("objective-gradient",),
    },
    functions=(
        Objective(
            f=idgm_objective,
            interface=DOMAIN_LOSSES,
            wrt="theta",
            settings={
                "default": {"gamma": 0.1},
                "the mean loss": {"gamma": 0.0},
                "probe": {"gamma": 0.7},
            },
        ),
        Estimator(
            f=inner_trajectory,
            interface=DOMAIN_LOSSES,
            settings={
                "default": {"lr": 0.1},
                "long steps": {"lr": 2.0},
                "probe": {"lr": 0.4},
            },
            brute_force=_alone,
            deviations=(_own_order(_trajectory_in_own_order),),
            refused=NO_SUCH_DOMAIN,
        ),
        Estimator(
            f=fish_step,
            interface=DOMAIN_LOSSES,
            settings={
                "default": {"lr": 0.1},
                "to the end": {"lr": 0.1, "meta": 1.0},
                "probe": {"lr": 0.4, "meta": 0.3},
            },
            brute_force=_part_of_the_way,
            deviations=(
                Deviation(
                    "share over steps",
                    _share_of_each_step,
                    seen_in="YugeTen/fish src/main.py (333efa2), train_fish",
                    computes="a share of the way that is divided by the number of inner steps",
                ),
                _own_order(_step_in_own_order),
            ),
            refused=NO_SUCH_DOMAIN,
        ),
    ),
)
