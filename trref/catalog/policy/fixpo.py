"""What is known of `trref.policy.fixpo`."""

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method, Solver
from trref.policy.fixpo import MultiplierLoss, fixup_phase, multiplier_loss, violated
from trref.problems.policies import CategoricalPolicy, LinearSoftmaxPolicy


def _divergences(rng, size):
    return {
        "kl_weight": xp.array(float(rng.choice((0.1, 1.0, 20.0)))),
        "kl": float(rng.choice((0.02, 0.5))) * rng.exponential(1.0, size),
    }


def _divergence(kl_weight, kl):
    return {"kl_weight": xp.array(kl_weight), "kl": xp.array(kl)}


DIVERGENCES = Interface(
    "divergences",
    example=_divergences,
    edges={
        "no weight": lambda: _divergence(0.0, [0.25, 1.0]),
        "on the bound": lambda: _divergence(2.0, [0.5, 0.125]),
        "just outside": lambda: _divergence(2.0, [0.25, 0.5000001]),
        "no divergence": lambda: _divergence(1.0, [0.0]),
        "outside on average alone": lambda: _divergence(1.0, [0.48, 0.49, 0.625]),
    },
)


def _loss_of_the_weight(kl_weight, kl, *, radius=0.5, margin=2.0, statistic="max"):
    far = sorted(kl.tolist())
    worst = far[-1] if statistic == "max" else sum(far) / len(far)
    loss = float(kl_weight) * radius - float(kl_weight) * margin * worst
    return MultiplierLoss(loss, radius - margin * worst)


def _violated_by_counting(kl, *, radius=0.5, statistic="max"):
    far = kl.tolist()
    broken = (
        any(d > radius for d in far)
        if statistic == "max"
        else sum(far) > radius * len(far)
    )
    return float(broken)


def _outside(rng, size):
    policy = (
        CategoricalPolicy((3, 5, 3))
        if rng.random() < 0.7
        else LinearSoftmaxPolicy(3, 4)
    )
    old = 0.5 * rng.standard_normal(policy.size)
    states = rng.standard_normal((size, 3))
    return {
        "policy": policy,
        "theta": old + float(rng.choice((0.1, 0.8))) * rng.standard_normal(policy.size),
        "states": states,
        "old_outputs": policy(old, states),
    }


def _at(theta, old, states):
    policy, states = LinearSoftmaxPolicy(2, 2), xp.array(states)
    return {
        "policy": policy,
        "theta": xp.array(theta),
        "states": states,
        "old_outputs": policy(xp.array(old), states),
    }


EDGES = {
    "inside at once": lambda: _at(
        [0.1, 0.0, 0.0, 0.2], [0.0, 0.0, 0.0, 0.0], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    ),
    "the same policy": lambda: _at(
        [0.1, 0.0, 0.0, 0.2], [0.1, 0.0, 0.0, 0.2], [[1.0, 0.5]]
    ),
    "one state, far outside": lambda: _at(
        [3.0, 0.0, 0.0, 1.0], [-1.0, 0.0, 0.0, 0.0], [[1.0, 0.5]]
    ),
    "one state outside of five": lambda: _at(
        [2.5, 0.0, 0.0, 0.2],
        [0.0, 0.0, 0.0, 0.0],
        [[0.1, 0.0], [0.0, 0.5], [0.2, 0.1], [1.0, 0.0], [0.0, 0.0]],
    ),
}


def _guarantee(
    result, policy, theta, states, old_outputs, *, radius=0.5, batch=1024, **_
):
    """The largest divergence over its bound, computed afresh of the whole batch, and what is reported of it."""
    kl = policy.kl(old_outputs, policy(result.theta, states))[0]
    parts = [kl[start : start + batch].max() for start in range(0, len(kl), batch)]
    seen = result.largest[-len(parts) :] if len(result.largest) >= len(parts) else []
    # the last pass is clean; it may have begun at any minibatch
    misread = abs(max(seen, default=xp.inf) - float(max(parts)))
    return {
        "largest divergence over its bound": float(kl.max()) / radius,
        "largest divergence misread": misread,
        "updates miscounted": abs(
            result.updates - sum(d > radius for d in result.largest)
        ),
        "minibatches miscounted": abs(result.iterations - len(result.largest)),
        "negative weight": max(0.0, -float(result.kl_weight)),
    }


def _of_the_best(result, policy, theta, states, old_outputs, **how):
    figures = _guarantee(result, policy, theta, states, old_outputs, **how)
    counted = ("updates miscounted", "minibatches miscounted", "negative weight")
    return {name: (figures[name], 0.0) for name in counted}


METHOD = Method(
    key="zentner2023guaranteed",
    provenance="confirmed",
    functions=(
        Estimator(
            f=multiplier_loss,
            interface=DIVERGENCES,
            brute_force=_loss_of_the_weight,
            settings={
                "default": {},
                "mean": {"statistic": "mean"},
                "probe": {"radius": 0.2, "margin": 3.0, "statistic": "mean"},
            },
        ),
        Estimator(
            f=violated,
            interface=DIVERGENCES,
            settings={
                "default": {},
                "mean": {"statistic": "mean"},
                "probe": {"radius": 0.05, "statistic": "mean"},
            },
            brute_force=_violated_by_counting,
        ),
        Solver(
            f=fixup_phase,
            example=_outside,
            edges=EDGES,
            sizes=(4, 8, 16),
            settings={
                "default": {},
                "in parts": {"batch": 2, "radius": 0.1},
                "a weight of 0 at first": {"kl_weight": 0.0, "lr": 0.01},
                "probe": {
                    "kl_weight": 0.3,
                    "radius": 0.2,
                    "margin": 3.0,
                    "batch": 3,
                    "lr": 0.02,
                    "kl_weight_lr": 0.05,
                    "max_iter": 2000,
                },
            },
            certificate=_guarantee,
            tolerances={
                "largest divergence over its bound": 1.0,
                "largest divergence misread": 1e-12,
                "updates miscounted": 0.0,
                "minibatches miscounted": 0.0,
                "negative weight": 0.0,
            },
            failures={
                "too few minibatches": lambda: (
                    EDGES["one state, far outside"](),
                    {"max_iter": 5},
                ),
            },
            remains=_of_the_best,
            refused={
                "outputs of another width": {
                    "old_outputs": lambda old_outputs: old_outputs[:, :-1]
                },
            },
        ),
    ),
)
