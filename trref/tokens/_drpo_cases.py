"""Inputs at which members of `trref.tokens.drpo` are other functions."""

from trref.backend import xp

__all__ = ["certain_before", "equal_sizes", "moderate_ratios"]


def moderate_ratios(inputs):
    """ratios between 1/20 and 20"""
    moved = xp.clip(inputs["log_prob"] - inputs["old_log_prob"], -3, 3)
    return {**inputs, "log_prob": inputs["old_log_prob"] + moved}


def certain_before(inputs):
    """the old policy was certain of its tokens"""
    fall = -abs(inputs["log_prob"] - inputs["old_log_prob"])
    return {**inputs, "log_prob": fall, "old_log_prob": xp.zeros_like(fall)}


def equal_sizes(inputs):
    """advantages of size 0.8, six tokens an answer"""
    columns = xp.arange(6) % inputs["mask"].shape[1]
    log_prob, old_log_prob = (inputs[name][:, columns] for name in ("log_prob", "old_log_prob"))
    advantage = xp.where(inputs["advantage"] > 0, 0.8, -0.8)
    advantage = advantage[:, columns] if advantage.ndim == 2 else advantage
    mask = xp.ones_like(log_prob)
    return {"log_prob": log_prob, "old_log_prob": old_log_prob, "advantage": advantage, "mask": mask}
