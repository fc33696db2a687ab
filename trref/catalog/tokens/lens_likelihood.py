"""What is known of `trref.tokens.lens_likelihood`."""

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.nn.heads import log_softmax
from trref.tokens.lens_likelihood import difficulty, mle_loss, value_function


def _difficulty_by_loop(correct):
    return [1 / sum(row) for row in correct.tolist()]


def _correct(rng, size):
    return {
        "correct": 0.98 * rng.random((size, 5)) * (rng.random((size, 5)) < 0.6) + 0.01
    }


def _labelled(rng, size):
    log_prob = -rng.exponential(2.0, size) - 0.05
    room = 1 + rng.exponential(float(rng.choice((0.3, 2.0))), size)
    return {
        "log_prob": log_prob,
        "reward": (rng.random(size) < 0.5).astype(float),
        "difficulty": xp.exp(log_prob) * (0.1 + room),
    }


def _enumerated(rng, size):
    logits = float(rng.choice((0.3, 1.0, 3.0))) * rng.standard_normal((size, 5))
    most = xp.exp(log_softmax(logits)).max(1)
    return {
        "logits": logits,
        "right": (rng.random((size, 5)) < 0.4).astype(float),
        "difficulty": most * (1.1 + rng.random(size)),
    }


def _labels(log_prob, reward, difficulty):
    return {
        n: xp.array(v)
        for n, v in (
            ("log_prob", log_prob),
            ("reward", reward),
            ("difficulty", difficulty),
        )
    }


def _table(right, D):
    logits = xp.array([[0.5, -0.25, 1.0], [0.0, 2.0, -1.0]])
    return {
        "logits": logits,
        "right": xp.array(right, dtype=float),
        "difficulty": xp.array(D),
    }


def _as_rewards(inputs):
    """REINFORCE's advantage is the calibrated reward"""
    log_prob, reward, pi = (
        inputs["log_prob"],
        inputs["reward"],
        xp.exp(inputs["log_prob"]),
    )
    calibrated = xp.where(
        reward == 1, 1.0, -pi / xp.where(reward == 1, 1.0, inputs["difficulty"] - pi)
    )
    return inputs, {
        "log_prob": log_prob[:, None],
        "advantage": calibrated,
        "mask": xp.ones_like(log_prob)[:, None],
    }


METHOD = Method(
    key="feng2025lens",
    provenance="confirmed",
    functions=(
        Estimator(
            f=difficulty,
            example=_correct,
            edges={
                "one answer": lambda: {"correct": xp.array([[0.5], [1.0]])},
                "hardly possible": lambda: {"correct": xp.array([[1e-9, 0.0, 0.0]])},
            },
            brute_force=_difficulty_by_loop,
            refused={
                "a question that nothing answers": {"correct": 0},
            },
        ),
        Objective(
            f=mle_loss,
            example=_labelled,
            edges={
                "all right": lambda: _labels([-1.0, -0.5], [1.0, 1.0], [0.1, 2.0]),
                "all wrong": lambda: _labels(
                    [-1.0, -0.5, -9.0], [0.0, 0.0, 0.0], [0.4, 2.0, 1e-3]
                ),
                "certain": lambda: _labels([0.0, 0.0], [1.0, 0.0], [1.0, 1.5]),
                "one answer": lambda: _labels([-2.0], [0.0], [0.3]),
            },
            wrt="log_prob",
            limits=(
                Limit("reinforce.reinforce", {}, where=_as_rewards, gradient_only=True),
            ),
            refused={
                "a difficulty that is too small": {"reward": 0, "difficulty": 1e-9},
            },
        ),
        Objective(
            f=value_function,
            example=_enumerated,
            edges={
                "all right": lambda: _table([[1, 1, 1], [1, 1, 1]], [0.3, 1.0]),
                "all wrong": lambda: _table([[0, 0, 0], [0, 0, 0]], [0.7, 1.0]),
                "easy and hard": lambda: _table([[1, 0, 0], [0, 1, 0]], [0.6, 50.0]),
            },
            wrt="logits",
            refused={
                "a difficulty that is too small": {"right": 0, "difficulty": 1e-9},
            },
        ),
    ),
)
