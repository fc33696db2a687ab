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

    log_policies: Any
    returns: Any
    divergences: Any


def iterate(mdp, improve, *, steps, log_policy=None):
    """Improve a policy step by step, with everything known exactly.

    Parameters
    ----------
    mdp : trref.problems.mdp.TabularMDP
    improve : callable
        ``improve(log_policy (S, A), evaluation, k) -> logits (S, A)``: the next policy's, normalised or not, from the
        `trref.problems.mdp.Evaluation` of the last one.
    steps : int
        K.
    log_policy : array (S, A), optional
        The first policy's; the uniform one if not given.

    Returns
    -------
    Iteration
    """
    log_policy = log_softmax(
        xp.zeros_like(mdp.reward) if log_policy is None else log_policy
    )
    policies, divergences, evaluation = [log_policy], [], mdp(xp.exp(log_policy))
    returns = [float(evaluation.expected_return)]
    for k in range(steps):
        following = log_softmax(improve(log_policy, evaluation, k))
        kl = (xp.exp(log_policy) * (log_policy - following)).sum(1)
        divergences.append(
            float((evaluation.visits * kl).sum() / evaluation.visits.sum())
        )
        log_policy, evaluation = following, mdp(xp.exp(following))
        policies.append(log_policy)
        returns.append(float(evaluation.expected_return))
    return Iteration(xp.stack(policies), np.array(returns), np.array(divergences))
