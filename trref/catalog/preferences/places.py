"""Special inputs at which one loss of preferences becomes another: the `where` of their limits."""

from trref.backend import xp

__all__ = [
    "at_the_reference",
    "of_one_token",
    "of_one_token_without_reference",
    "reference_of_probability_one",
]


def reference_of_probability_one(inputs):
    """the reference gives both answers the same probability"""
    one = xp.zeros_like(inputs["chosen_log_prob"])
    return {**inputs, "ref_chosen_log_prob": one, "ref_rejected_log_prob": one}


def of_one_token(inputs):
    """answers have one token"""
    one = xp.ones_like(inputs["chosen_log_prob"])
    return {**inputs, "chosen_length": one, "rejected_length": one}


def of_one_token_without_reference(inputs):
    """answers have one token, and the reference gives both the same probability"""
    return reference_of_probability_one(of_one_token(inputs))


def at_the_reference(inputs):
    """the policy is the reference"""
    names = "chosen_log_prob", "rejected_log_prob"
    return {**inputs, **{name: inputs[f"ref_{name}"] for name in names}}
