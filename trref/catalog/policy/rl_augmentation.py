"""What is known of `trref.policy.rl_augmentation`."""

from trref.backend import xp
from trref.catalog import Estimator, Method, Objective
from trref.policy.rl_augmentation import (
    Split,
    actor_divergence,
    averaged_target,
    critic_loss,
    implicit_regularisation,
    loss_variance,
    tangent_prop_loss,
    target_variance,
)
from trref.problems.tangent_critic import TangentCritic


def _next(rng, size):
    K = int(rng.integers(2, 5))
    return {
        "reward": rng.standard_normal(size),
        "next_value1": 3 * rng.standard_normal((K, size)),
        "next_value2": 3 * rng.standard_normal((K, size)),
        "terminated": (rng.random(size) < 0.3).astype(float),
    }


def _target_by_loops(reward, next_value1, next_value2, terminated, *, discount=0.99):
    found = []
    for n in range(len(reward)):
        each = [
            min(float(a[n]), float(b[n]))
            for a, b in zip(next_value1, next_value2, strict=True)
        ]
        onward = 0.0 if terminated[n] else discount * sum(each) / len(each)
        found.append(float(reward[n]) + onward)
    return found


def _variance_by_pairs(next_value, *, discount=0.99):
    """Half the mean squared difference of two values, over K."""
    K, columns = len(next_value), next_value.T.tolist()
    pairs = max(K * (K - 1), 1)
    return [
        discount**2 * sum((a - b) ** 2 for a in c for b in c) / 2 / pairs / K
        for c in columns
    ]


def _loss_variance_by_columns(losses):
    columns = losses.T.tolist()
    means = [sum(c) / len(c) for c in columns]
    total = sum(means) / len(means)
    between = sum((m - total) ** 2 for m in means) / len(means)
    within = sum(
        sum((x - m) ** 2 for x in c) / len(c)
        for c, m in zip(columns, means, strict=True)
    ) / len(means)
    return (between + within / len(columns[0])) / len(means)


def _views(rng, size):
    M = int(rng.integers(1, 4))
    return {
        "q1": rng.standard_normal((M, size)),
        "q2": rng.standard_normal((M, size)),
        "target": rng.standard_normal(size),
    }


def _split_by_columns(q, target):
    columns = q.T.tolist()
    means = [sum(c) / len(c) for c in columns]
    error = sum((m - float(y)) ** 2 for m, y in zip(means, target, strict=True))
    spread = sum(
        sum((x - m) ** 2 for x in c) / len(c)
        for c, m in zip(columns, means, strict=True)
    )
    return Split(error / len(means), spread / len(means))


def _one(views):
    return {"q": views["q1"], "target": views["target"]}


def _images(rng, size):
    D = int(rng.integers(2, 5))
    critic = TangentCritic((D, 3, 1)) if rng.random() < 0.7 else TangentCritic((D, 1))
    return {
        "theta": 0.7 * rng.standard_normal(critic.size),
        "critic": critic,
        "x": rng.standard_normal((size, D)),
        "tangent": rng.standard_normal((size, D)),
        "counts": (rng.random(size) < 0.6).astype(float),
    }


def _image(tangent, counts):
    critic = TangentCritic((2, 2, 1))
    return {
        "theta": xp.linspace(-0.75, 0.9, critic.size),
        "critic": critic,
        "x": xp.array([[0.5, -1.0], [0.25, 2.0]]),
        "tangent": xp.array(tangent),
        "counts": xp.array(counts),
    }


def _actors(rng, size):
    D = int(rng.integers(1, 4))
    first = rng.standard_normal((size, D))
    return {"mean": first + 0.2 * rng.standard_normal((size, D)), "first_mean": first}


METHOD = Method(
    key="hu2024revisiting",
    provenance={
        "confirmed": ("target", "critic", "tangent", "actor"),
        "reconstructed": ("target-variance", "loss-variance", "implicit"),
    },
    functions=(
        Objective(
            f=critic_loss,
            example=_views,
            edges={
                "one view of one state": lambda: {
                    "q1": xp.array([[1.0]]),
                    "q2": xp.array([[0.5]]),
                    "target": xp.array([1.0]),
                }
            },
            wrt=("q1", "q2"),
        ),
        Objective(
            f=tangent_prop_loss,
            example=_images,
            edges={
                "no tangent": lambda: _image([[0.0, 0.0], [0.0, 0.0]], [1.0, 1.0]),
                "the other critic is smaller": lambda: _image(
                    [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]
                ),
                "one each": lambda: _image([[1.0, -0.5], [0.25, 1.0]], [1.0, 0.0]),
            },
            wrt="theta",
        ),
        Objective(
            f=actor_divergence,
            example=_actors,
            edges={
                "equal views": lambda: {
                    "mean": xp.array([[0.5], [1.0]]),
                    "first_mean": xp.array([[0.5], [1.0]]),
                }
            },
            wrt="mean",
            settings={"default": {}, "probe": {"std": 0.35}},
        ),
        Estimator(
            f=averaged_target,
            example=_next,
            edges={
                "one transformation, equal critics": lambda: {
                    "reward": xp.array([0.5, 1.0]),
                    "next_value1": xp.array([[2.0, 1.0]]),
                    "next_value2": xp.array([[2.0, 1.0]]),
                    "terminated": xp.array([0.0, 1.0]),
                }
            },
            settings={"default": {}, "probe": {"discount": 0.7}},
            brute_force=_target_by_loops,
        ),
        Estimator(
            f=target_variance,
            example=lambda rng, size: {"next_value": _next(rng, size)["next_value1"]},
            edges={
                "one transformation": lambda: {"next_value": xp.array([[2.0, 1.0]])},
                "two transformations": lambda: {
                    "next_value": xp.array([[2.0, 1.0], [0.5, 3.0]])
                },
                "equal values": lambda: {"next_value": xp.ones((3, 2))},
            },
            settings={"default": {}, "probe": {"discount": 0.7}},
            brute_force=_variance_by_pairs,
        ),
        Estimator(
            f=loss_variance,
            example=lambda rng, size: {"losses": _views(rng, size)["q1"] ** 2},
            edges={"all equal": lambda: {"losses": xp.ones((2, 3))}},
            brute_force=_loss_variance_by_columns,
        ),
        Estimator(
            f=implicit_regularisation,
            example=lambda rng, size: _one(_views(rng, size)),
            edges={
                "one view": lambda: {
                    "q": xp.array([[1.0, 2.0]]),
                    "target": xp.array([0.5, 2.0]),
                }
            },
            brute_force=_split_by_columns,
        ),
    ),
)
