"""Special inputs at which one token objective becomes another: the `where` of their limits; and the limit of most."""

from trref.backend import xp
from trref.catalog import Limit

__all__ = [
    "OVER_ANSWERS",
    "OVER_TOKENS",
    "REINFORCE_OVER_ANSWERS",
    "REINFORCE_OVER_TOKENS",
    "at_the_reference",
    "equal_lengths",
    "fresh",
    "measured_by_the_token",
    "nothing_negative",
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


REINFORCE_OVER_ANSWERS, REINFORCE_OVER_TOKENS = (
    Limit("reinforce.reinforce", {}, average, where=on_policy, gradient_only=True)
    for average in (OVER_ANSWERS, OVER_TOKENS)
)
"""On-policy the gradient is that of REINFORCE, with GRPO's average or that over all tokens."""


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


def nothing_negative(inputs):
    """no advantage is negative"""
    return {**inputs, "advantage": abs(inputs["advantage"])}


def at_the_reference(inputs):
    """the policy is the reference"""
    return {**inputs, "ref_log_prob": inputs["log_prob"]}


def measured_by_the_token(inputs):
    """the divergence is the token's own change"""
    return {**inputs, "divergence": abs(xp.exp(inputs["log_prob"]) - xp.exp(inputs["old_log_prob"]))}
