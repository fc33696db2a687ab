"""What is known of `trref.domains.pgrad`."""

import dataclasses

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method
from trref.catalog.domains.interfaces import DOMAIN_LOSSES
from trref.domains.fish import inner_trajectory
from trref.domains.pgrad import (
    parallel_trajectory,
    pgrad_step,
    principal_gradient,
    spectrum,
)


def _example(rng, size):
    """Paths that go on along some directions, and less along each further one, about a point that is far from 0."""
    T, P = int(rng.integers(1, 6)), size
    frame = xp.linalg.qr(rng.standard_normal((P, P)))[0][:T]
    way = xp.linalg.qr(rng.standard_normal((T + 1, T + 1)))[0][:, : len(frame)]
    lengths = rng.choice((0.05, 1.0, 20.0)) * 0.6 ** xp.arange(len(frame))
    return {"trajectory": rng.standard_normal(P) + (way * lengths) @ frame}


def _path(*rows):
    return lambda: {"trajectory": xp.array(rows)}


PATHS = {
    "one step": _path([1.0, 2.0, -1.0], [0.5, 2.5, -1.5]),
    "straight": _path([0.0, 1.0, 2.0], [1.0, 3.0, 1.0], [3.0, 7.0, -1.0]),
    "nowhere": _path([1.0, -2.0], [1.0, -2.0], [1.0, -2.0]),
    "there and back": _path([0.0, 1.0], [3.0, 1.0], [0.0, 1.0]),
    "in one dimension": _path([2.0], [1.0], [-1.5], [-1.0]),
    "more points than dimensions": _path(
        [0.0, 0.0], [2.0, 0.1], [4.0, -0.4], [5.0, 1.0], [9.0, 0.0]
    ),
    "one point": _path([3.0, -1.0]),
    "tiny": _path([1e-90, 0.0, 2e-90], [3e-90, 1e-90, 1e-90], [9e-90, -1e-90, 0.0]),
    "along and across": _path([0.0, 0.0], [3.0, 1.0], [6.0, -1.0], [9.0, 0.0]),
}


def _by_gram(trajectory):
    """Eigenvalues and vectors of the covariance of the parameters, with all its d rows and columns."""
    T1, d = trajectory.shape
    cov = xp.cov(trajectory.T, bias=True).reshape(d, d) * T1 / max(d - 1, 1)
    values, vectors = xp.linalg.eigh(cov)
    return values[::-1], vectors.T[::-1]


def _values(trajectory):
    values = xp.maximum(_by_gram(trajectory)[0], 0)[: len(trajectory)]
    return xp.concatenate([values, xp.zeros(len(trajectory) - len(values))])


def _sum_of_components(trajectory, *, components=4):
    unit = abs(trajectory - trajectory[0]).max() or 1.0
    trajectory = trajectory / unit
    values, vectors = _by_gram(trajectory)
    delta, total = trajectory[0] - trajectory[-1], 0 * trajectory[0]
    kept = min(components, *trajectory.shape)
    for value, v in zip(values[:kept], vectors[:kept], strict=True):
        total += value * (v if v @ delta > 0 else -v)
    length = xp.sqrt((values[:kept] ** 2).sum()) or 1.0
    return unit * xp.linalg.norm(delta) * total / length


def _loop(losses_and_grads, theta, order, *, lr):
    rows = [theta]
    for k in order.tolist():
        rows.append(theta - lr * losses_and_grads.on(slice(k, k + 1))(theta)[1][0])
    return xp.stack(rows)


def _step(
    losses_and_grads,
    theta,
    order,
    *,
    inner_lr,
    lr=0.1,
    weight_decay=0.0,
    components=4,
):
    path = inner_trajectory(losses_and_grads, theta, order, lr=inner_lr)
    g = _sum_of_components(path, components=components)
    return (1 - lr * weight_decay) * theta - lr * g


def _one_step(inputs):
    """the trajectory is one step"""
    return {**inputs, "order": inputs["order"][:1]}


STEPS = dataclasses.replace(
    DOMAIN_LOSSES,
    edges={
        **DOMAIN_LOSSES.edges,
        "several passes": lambda: {
            **DOMAIN_LOSSES.edges["identical domains"](),
            "order": xp.array([2, 0, 1, 1, 2, 0]),
        },
    },
)

NO_SUCH_DOMAIN = {
    "a domain that there is not": {"order": 99},
}


METHOD = Method(
    key="wang2023pgrad",
    provenance="confirmed",
    functions=(
        Estimator(f=spectrum, example=_example, edges=PATHS, brute_force=_values),
        Estimator(
            f=principal_gradient,
            example=_example,
            edges=PATHS,
            settings={
                "default": {},
                "the first alone": {"components": 1},
                "probe": {"components": 2},
            },
            brute_force=_sum_of_components,
        ),
        Estimator(
            f=parallel_trajectory,
            interface=DOMAIN_LOSSES,
            settings={"default": {"lr": 0.1}, "probe": {"lr": 0.4}},
            brute_force=_loop,
            refused=NO_SUCH_DOMAIN,
        ),
        Estimator(
            f=pgrad_step,
            interface=STEPS,
            settings={
                "default": {"inner_lr": 0.1},
                "probe": {
                    "inner_lr": 0.4,
                    "lr": 0.3,
                    "weight_decay": 0.02,
                    "components": 2,
                },
            },
            brute_force=_step,
            limits=(
                Limit(
                    to="fish.fish_step",
                    hyper={"inner_lr": 0.3, "lr": 0.7},
                    to_hyper={"lr": 0.3, "meta": 0.7},
                    where=_one_step,
                ),
            ),
            refused=NO_SUCH_DOMAIN,
        ),
    ),
)
