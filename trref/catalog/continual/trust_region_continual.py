"""What is known of `trref.continual.trust_region_continual`."""

import dataclasses

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
)
from trref.continual.trust_region_continual import (
    RankOne,
    fisher_diagonal,
    fisher_rank_one,
    meta_objective,
    objective,
    old_task_gradient,
    penalty,
    rank_one_penalty,
)
from trref.nn import mlp
from trref.problems.convex import Quadratic, logistic
from trref.problems.networks import random_classifier


def _gradients(rng, size):
    """Of samples with a direction in common, or none."""
    P = int(rng.integers(1, 6))
    share = rng.choice((0.0, 1.0, 10.0))
    return {
        "gradients": share * rng.standard_normal(P) + rng.standard_normal((size, P))
    }


def _rows(*rows):
    return lambda: {"gradients": xp.array(rows)}


SAMPLES = {
    "one sample": _rows([3.0, -4.0]),
    "no mean": _rows([1.0, 2.0], [-1.0, -2.0]),
    "in one dimension": _rows([2.0], [0.5], [-1.0]),
    "all equal": _rows([1.0, 2.0, 2.0], [1.0, 2.0, 2.0]),
    "short, with zeros": _rows([0.0, 0.25], [0.0, 0.125]),
}


def _matrix(gradients):
    return sum(xp.outer(g, g) for g in gradients) / len(gradients)


def _along(gradients, *, scale="nearest"):
    F, mean = _matrix(gradients), gradients.mean(0)
    length = xp.linalg.norm(mean)
    u = mean / length if length > 0 else mean
    return RankOne(u, xp.asarray(xp.trace(F) if scale == "trace" else u @ F @ u))


def _history(rng, P):
    T = int(rng.integers(1, 4))
    return {
        "anchors": rng.standard_normal((T, P)),
        "fishers": rng.exponential(1.0, (T, P)) * rng.choice((0.0, 1.0, 10.0), (T, 1)),
        "directions": rng.standard_normal((T, P)) / P**0.5,
        "scales": rng.exponential(2.0, T),
    }


def _one_of_each(arguments):
    first = {"anchor": arguments["anchors"][0], "fisher": arguments["fishers"][0]}
    return {**arguments, **first}


def _example(rng, size):
    """Tasks of one kind, on points of their own."""
    if rng.random() < 0.5:
        losses = [logistic(rng, points=size + 2, dims=size) for _ in range(3)]
        theta = rng.standard_normal(size)
    else:
        losses = [random_classifier(rng, points=size, hidden=2) for _ in range(3)]
        theta = mlp.init(rng, losses[0].sizes)
    names = dict(zip(("current", "replay", "train"), losses, strict=True))
    history = _history(rng, len(theta))
    return _one_of_each({**names, "test": losses[1], "theta": theta, **history})


def _parabolas(theta, anchors):
    """Quadratic tasks whose curvatures are 2 and ½, about 1, 0 and other places."""
    P = len(theta)
    A = xp.diag(xp.array([2.0, 0.5, 1.0][:P]))
    anchors = xp.array(anchors)
    history = {
        "anchors": anchors,
        "fishers": 1 + anchors**2,
        "directions": xp.zeros_like(anchors) + 0.5,
        "scales": xp.arange(1.0, len(anchors) + 1),
    }
    losses = [Quadratic(A * k, xp.arange(1.0, P + 1) - k) for k in (1.0, 2.0, 0.5)]
    names = dict(zip(("current", "replay", "train"), losses, strict=True))
    return _one_of_each(
        {**names, "test": losses[1], "theta": xp.array(theta), **history}
    )


TASKS = Interface(
    "old and new tasks",
    example=_example,
    edges={
        "at the only anchor": lambda: _parabolas([0.5, -1.0], [[0.5, -1.0]]),
        "in one dimension": lambda: _parabolas([2.0], [[1.0], [-1.0]]),
        "far from three anchors": lambda: _parabolas(
            [5.0, 0.0, -5.0], [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 2.0, 0.0]]
        ),
    },
)


HELD = dataclasses.replace(
    TASKS,
    name="old optima",
    example=lambda rng, size: {
        "theta": rng.standard_normal(size),
        **_history(rng, size),
    },
)


def _descent(replay, theta, anchor, fisher, *, beta=1.0, weight):
    return beta * replay(theta)[1] + weight * xp.diag(fisher) @ (theta - anchor)


def _at_theta(train, test, theta, *, inner_lr):
    value, _ = meta_objective(train, test, theta, inner_lr=inner_lr)
    g = test(theta)[1]
    return value, g - inner_lr * train.hessian_product(theta, g)


def _first_order(train, test, theta, *, inner_lr):
    return test(theta - inner_lr * train(theta)[1])


def _of_the_test(inputs):
    """the loss after a step of length 0"""
    return inputs, {"loss_and_grad": inputs["test"], "theta": inputs["theta"]}


def _of_the_new(inputs):
    """the new task alone"""
    return inputs, {"loss_and_grad": inputs["current"], "theta": inputs["theta"]}


PLAIN = {"to": "sam.perturbed_gradient", "to_hyper": {"rho": 0.0}}

METHOD = Method(
    key="wang2026trust",
    provenance={
        "confirmed": (
            "objective",
            "fisher",
            "rank-one",
            "rank-one-penalty",
            "old-task",
        ),
        "partly": ("meta",),
    },
    functions=(
        Estimator(
            f=fisher_diagonal,
            example=_gradients,
            edges=SAMPLES,
            brute_force=lambda gradients: xp.diag(_matrix(gradients)).copy(),
        ),
        Estimator(
            f=fisher_rank_one,
            example=_gradients,
            edges=SAMPLES,
            settings={
                "default": {},
                "as large as the matrix": {"scale": "trace"},
                "probe": {"scale": "trace"},
            },
            brute_force=_along,
        ),
        Objective(
            f=penalty,
            interface=HELD,
            wrt="theta",
            settings={"default": {"weight": 0.1}, "probe": {"weight": 3.0}},
        ),
        Objective(
            f=rank_one_penalty,
            interface=HELD,
            wrt="theta",
            settings={"default": {"weight": 0.1}, "probe": {"weight": 3.0}},
        ),
        Estimator(
            f=old_task_gradient,
            interface=TASKS,
            settings={
                "default": {"weight": 0.5},
                "without replay": {"weight": 0.5, "beta": 0.0},
                "probe": {"weight": 3.0, "beta": 0.3},
            },
            brute_force=_descent,
        ),
        Objective(
            f=objective,
            interface=TASKS,
            wrt="theta",
            settings={
                "default": {"weight": 0.5},
                "replay": {"weight": 0.0},
                "consolidation": {"weight": 2.0, "beta": 0.0},
                "probe": {"weight": 3.0, "beta": 0.3},
            },
            limits=(
                Limit(**PLAIN, hyper={"weight": 0.0, "beta": 0.0}, where=_of_the_new),
            ),
        ),
        Objective(
            f=meta_objective,
            interface=TASKS,
            wrt="theta",
            settings={
                "default": {"inner_lr": 0.1},
                "no step": {"inner_lr": 0.0},
                "probe": {"inner_lr": 0.4},
            },
            limits=(Limit(**PLAIN, hyper={"inner_lr": 0.0}, where=_of_the_test),),
            deviations=(
                Deviation(
                    "test gradient before the step",
                    _at_theta,
                    seen_in="arXiv:2602.02417, the expansion around an old optimum",
                    computes="the Hessian's factor on the test gradient at theta, not after the step",
                    documented=True,
                ),
                Deviation(
                    "first order",
                    _first_order,
                    seen_in="learnables/learn2learn, MAML with first_order=True",
                    computes="the test gradient after the step, without the Hessian's factor",
                    documented=True,
                ),
            ),
        ),
    ),
)
