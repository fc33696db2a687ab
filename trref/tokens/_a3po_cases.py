"""Brute force, and the places of limits, for `trref.tokens.a3po`."""

from trref.backend import xp

__all__ = ["all_equal", "around_the_sampling_policy", "proximal_by_loops", "sampled_by_the_old_policy"]


def proximal_by_loops(log_prob, behavior_log_prob, version, *, current_version, interpolation="loglinear"):
    v = current_version
    alpha = xp.array([[(v - 1 - b) / (v - b) if b < v else 0.0 for b in row] for row in version.tolist()])
    p, b = xp.exp(log_prob), xp.exp(behavior_log_prob)
    return {
        "loglinear": alpha * log_prob + (1 - alpha) * behavior_log_prob,
        "linear": xp.log(alpha * p + (1 - alpha) * b),
        "rollout": behavior_log_prob,
    }[interpolation]


def all_equal(inputs):
    """all policies are equal"""
    sampled = inputs["behavior_log_prob"]
    return {**inputs, "log_prob": sampled, "old_log_prob": sampled}


def sampled_by_the_old_policy(inputs):
    """the old policy sampled"""
    return {**inputs, "behavior_log_prob": inputs["old_log_prob"]}


def around_the_sampling_policy(inputs):
    """PPO's old policy is the sampling one"""
    return {**inputs, "old_log_prob": inputs["behavior_log_prob"]}
