"""Brute force, an edge, and the place of a limit, for `trref.tokens.bandpo`."""

import math

from trref.backend import xp

__all__ = ["ROUNDED", "band_by_bisection", "of_one_probability"]

ROUNDED = {"log_prob": [[0.0, -0.0625]], "old_log_prob": [[0.125, 0.0625]], "advantage": [-1.0], "mask": [[1.0, 1.0]]}


def band_by_bisection(old_log_prob, *, delta=0.05, ball="forward_kl", cap=100.0):
    f = {
        "forward_kl": lambda u: u - 1 - math.log(u) if u else math.inf,
        "total_variation": lambda u: abs(u - 1) / 2,
        "pearson": lambda u: (u - 1) ** 2,
    }[ball]

    def bound(p, rest, start, end):
        """The last ratio between 1 and an end whose smallest divergence is at most delta."""
        for _ in range(200):
            r = (start + end) / 2
            inside = p * f(r) + rest * f(max(rest + p * (1 - r), 0) / rest) <= delta
            start, end = (r, end) if inside else (start, r)
        return start

    p = [max(math.exp(min(x, 0)), 1e-20) for x in old_log_prob.ravel().tolist()]
    rest = [max(-math.expm1(min(x, 0)), 1e-20) for x in old_log_prob.ravel().tolist()]
    bounds = [
        [bound(*both, 1.0, 0.0) for both in zip(p, rest, strict=True)],
        [min(bound(*both, 1.0, 1 + both[1] / both[0]), cap) for both in zip(p, rest, strict=True)],
    ]
    return xp.array(bounds).reshape(2, *old_log_prob.shape)


def of_one_probability(inputs):
    """all tokens had the probability 1/4"""
    d = inputs["log_prob"] - inputs["old_log_prob"]
    old = xp.full_like(d, math.log(0.25))
    return {**inputs, "log_prob": old + d, "old_log_prob": old}
