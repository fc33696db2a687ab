"""Exact policy iteration of any kind on a finite decision process.

For mdpo (mirror steps), bpo (bounded ratios), counterpol (towards another return), trirl and spo.
"""

from typing import Any, NamedTuple

import numpy as np

from trref.backend import xp
from trref.nn.heads import log_softmax

__all__ = ["Iteration", "iterate"]


class Iteration(NamedTuple):
    """Log-probabilities of all policies (K + 1, S, A), their returns (K + 1,), and the steps between them (K,).

    A step's length is the mean KL(old‖new), weighted by how often the old policy visits a state.
    """

    log_action_probs: Any
    returns: Any
    divergences: Any


def iterate(mdp, improve, *, steps, log_action_prob=None):
    """Improve a policy step by step, with everything known exactly.

    Parameters
    ----------
    mdp : trref.problems.mdp.TabularMDP
    improve : callable
        ``improve(log_action_prob (S, A), evaluation, k) -> logits (S, A)``: the next policy's, normalised or not,
        from the `trref.problems.mdp.Evaluation` of the last one.
    steps : int
        K.
    log_action_prob : array (S, A), optional
        The first policy's; the uniform one if not given.

    Returns
    -------
    Iteration
    """
    log_action_prob = log_softmax(
        xp.zeros_like(mdp.reward) if log_action_prob is None else log_action_prob
    )
    policies, divergences, evaluation = (
        [log_action_prob],
        [],
        mdp(xp.exp(log_action_prob)),
    )
    returns = [float(evaluation.expected_return)]
    for k in range(steps):
        following = log_softmax(improve(log_action_prob, evaluation, k))
        kl = (xp.exp(log_action_prob) * (log_action_prob - following)).sum(1)
        divergences.append(
            float((evaluation.visits * kl).sum() / evaluation.visits.sum())
        )
        log_action_prob, evaluation = following, mdp(xp.exp(following))
        policies.append(log_action_prob)
        returns.append(float(evaluation.expected_return))
    return Iteration(xp.stack(policies), np.array(returns), np.array(divergences))
