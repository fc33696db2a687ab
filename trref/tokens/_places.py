"""Special inputs at which one token objective becomes another: the `where` of their limits."""

from trref.backend import xp

__all__ = [
    "OVER_ANSWERS",
    "OVER_TOKENS",
    "equal_lengths",
    "fresh",
    "of_one_token",
    "of_three_tokens",
    "on_policy",
    "one_advantage",
]

OVER_ANSWERS, OVER_TOKENS = {"aggregation": "seq_mean"}, {"aggregation": "token_mean"}
"""The averages of REINFORCE that are those of GRPO and of DAPO over the batch."""


def on_policy(inputs):
    """the policies are equal"""
    return {**inputs, "log_prob": inputs["old_log_prob"]}


def one_advantage(inputs):
    """each answer has one advantage"""
    advantage = inputs["advantage"]
    return {**inputs, "advantage": advantage[:, 0] if advantage.ndim == 2 else advantage}


def fresh(inputs):
    """the policies are equal, and each answer has one advantage"""
    return one_advantage(on_policy(inputs))


def of_one_token(inputs):
    """answers have one token"""
    return _of_tokens(inputs, 1)


def of_three_tokens(inputs):
    """answers have three tokens"""
    return _of_tokens(inputs, 3)


def _of_tokens(inputs, number):
    """The first tokens of each answer, none of them masked; those of a shorter batch are repeated."""
    columns = xp.arange(number) % inputs["mask"].shape[1]
    first = {name: value[:, columns] if value.ndim == 2 else value for name, value in inputs.items()}
    return {**first, "mask": xp.ones_like(first["mask"])}


def equal_lengths(inputs):
    """all answers are equally long"""
    return {**inputs, "mask": xp.ones_like(inputs["mask"])}
