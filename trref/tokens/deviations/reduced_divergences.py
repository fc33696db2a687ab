"""What public code computes in the place of the equations of `trref.tokens.reduced_divergences`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import token_mean
from trref.tokens.f_divergences import textbook_generator

__all__ = ["INSIDE_THE_LOGARITHM"]


def _inside_the_logarithm(log_prob, old_log_prob, mask, *, kind="total_variation"):
    p, q, eps, w = xp.exp(log_prob), xp.exp(old_log_prob), 1e-8, token_mean(mask)
    token, d_token = textbook_generator(log_prob - old_log_prob, kind)
    others, d_others = textbook_generator(xp.log((1 - p + eps) / (1 - q + eps)), kind)
    derivative = p * (d_token - d_others * (1 - q) / (1 - q + eps))
    return (w * (q * token + (1 - q) * others)).sum(), w * derivative


INSIDE_THE_LOGARITHM = Deviation(
    "1e-8 added to the probability of any other token",
    _inside_the_logarithm,
    seen_in="verl verl/trainer/ppo/core_algos.py, policy loss 'dppo_kl' (kind='forward_kl')",
    computes="log((1 - q + 1e-8) / (1 - p + 1e-8)) in the place of the logarithm of the quotient",
)
