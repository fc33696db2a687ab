"""A policy network improved on one fixed batch, step after step: how far does an objective let it go?

For spo, bpo and fixpo: ratios, divergence, and the gain that is known exactly.
"""

from typing import Any, NamedTuple

import numpy as np

from trref.backend import xp
from trref.experiments.training import train
from trref.nn.heads import log_softmax
from trref.problems.policies import CategoricalPolicy

__all__ = ["Batch", "Curves", "improve", "one_batch", "surrogate_slope"]


class Batch(NamedTuple):
    """A policy, its first parameters theta and logits (N, K); states (N, D), and actions (N,) drawn from it.

    The advantage (N, K) of all actions has mean 0 under the first policy in every row.
    """

    policy: CategoricalPolicy
    theta: Any
    states: Any
    actions: Any
    advantage: Any
    logits: Any


class Curves(NamedTuple):
    """One number a step and one at the end, (steps + 1,).

    Largest and mean distance of the ratio from 1 on the batch, mean KL(old‖new), the mean of ratio times advantage,
    and the exact gain, mean of ``Σ_a (new - old) advantage``; last the parameters.
    """

    largest: Any
    mean: Any
    kl: Any
    surrogate: Any
    gain: Any
    theta: Any


def one_batch(seed, *, states=512, features=8, actions=6, hidden=(64, 64)):
    """Draw a batch: Gaussian states, a random network as policy, and another as advantage, of mean square 1."""
    rng = np.random.default_rng(seed)
    policy = CategoricalPolicy((features, *hidden, actions))
    theta, judge = policy.init(rng), policy.init(rng, scale=2.0)
    X = xp.asarray(rng.standard_normal((states, features)))
    logits = policy(theta, X)
    drawn, worth = policy.sample(rng, logits), policy(judge, X)
    worth = worth - (xp.exp(log_softmax(logits)) * worth).sum(1, keepdims=True)
    return Batch(
        policy, theta, X, drawn, worth / xp.sqrt((worth * worth).mean()), logits
    )


def surrogate_slope(objective, **hyper):
    """Return the ``slope`` of `improve` for an objective ``(log_prob, old_log_prob, advantage, **hyper)``."""

    def slope(batch, z):
        log_prob, d_log_prob = batch.policy.log_prob(z, batch.actions)
        old, _ = batch.policy.log_prob(batch.logits, batch.actions)
        taken = xp.take_along_axis(batch.advantage, batch.actions[:, None], 1)[:, 0]
        value, gradient = objective(log_prob, old, taken, **hyper)
        return value, gradient[:, None] * d_log_prob

    return slope


def improve(batch, slope, *, steps=400, lr=1e-3, **options):
    """Train on the whole batch.

    Parameters
    ----------
    batch : Batch
    slope : callable
        ``slope(batch, z) -> (loss, derivative by the logits z (N, K))``: of `surrogate_slope`, or any other.
    steps : int
    lr : float
    **options
        Of `trref.experiments.training.train`.

    Returns
    -------
    Curves
    """
    old, rows = log_softmax(batch.logits), []

    def measure(z):
        log_p = log_softmax(z)
        ratio = xp.exp(xp.take_along_axis(log_p - old, batch.actions[:, None], 1)[:, 0])
        taken = xp.take_along_axis(batch.advantage, batch.actions[:, None], 1)[:, 0]
        kl = (xp.exp(old) * (old - log_p)).sum(1).mean()
        gain = ((xp.exp(log_p) - xp.exp(old)) * batch.advantage).sum(1).mean()
        rows.append(
            [
                float(v)
                for v in (
                    abs(ratio - 1).max(),
                    abs(ratio - 1).mean(),
                    kl,
                    (ratio * taken).mean(),
                    gain,
                )
            ]
        )

    def gradient(theta, rng):
        z, cache = batch.policy.forward(theta, batch.states)
        measure(z)
        value, d_z = slope(batch, z)
        return value, batch.policy.vjp(cache, d_z)

    run = train(gradient, batch.theta, None, steps=steps, lr=lr, **options)
    measure(batch.policy(run.theta, batch.states))
    return Curves(*np.array(rows).T, run.theta)
