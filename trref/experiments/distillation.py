"""A student that learns from a teacher over sequences of tokens, on its own samples or on blended ones.

For trb, tropd, psft, rlad, trapo and erpd.
"""

import inspect
from typing import Any, NamedTuple

import numpy as np

from trref.backend import xp
from trref.catalog import call
from trref.experiments.training import train

__all__ = ["Distillation", "distil"]


class Distillation(NamedTuple):
    """The student's parameters; before each step the exact divergences of the laws of whole sequences, (steps,).

    KL(student‖teacher), and KL(student‖start).
    """

    theta: Any
    from_teacher: Any
    from_start: Any
    watched: list


def distil(
    objective,
    tree,
    teacher,
    theta,
    *,
    seed,
    draws,
    hyper=None,
    mix=None,
    reward=None,
    epochs=1,
    **options,
):
    """Train on sequences sampled anew in each round.

    Parameters
    ----------
    objective : callable
        A token objective. It gets those of these that its arguments name: ``log_prob``, ``old_log_prob`` (of what
        sampled), ``ref_log_prob`` (the start), ``teacher_log_prob``, ``logits``, ``old_logits`` (the student's at the
        start of the round), ``teacher_logits``, ``actions``, ``mask`` (all ones), ``group`` (all 0), ``reward`` and
        ``advantage`` (the reward less its mean). Its gradient is by the logits if it names them, else by the
        log-probabilities.
    tree : trref.problems.token_trees.TokenTree
    teacher, theta : array (P,)
    seed : int
    draws : int
        Sequences a round, B.
    hyper : mapping, optional
        Hyper-parameters of the objective.
    mix : callable, optional
        ``mix(round) -> None`` or the hook of ``tree.sample`` in that round (trb: a blend with the teacher).
    reward : callable, optional
        ``reward(tokens (B, T)) -> (B,)``.
    epochs : int
        Steps a round, on the same sequences.
    **options
        Of `trref.experiments.training.train`: ``steps``, ``lr``, ``rule``, ``every``, ``watch``, …

    Returns
    -------
    Distillation
    """
    start, divergences, data = theta, [], {}
    full = "logits" in inspect.signature(objective).parameters

    def gradient(theta, rng):
        round_, step = divmod(len(divergences), epochs)
        if step == 0:
            data.update(sequences(rng, round_, theta))
        divergences.append([float(tree.kl(theta, other)) for other in (teacher, start)])
        tokens = data["actions"]
        now = {
            "log_prob": tree.log_prob(theta, tokens),
            "logits": tree.logits(theta, tokens),
        }
        loss, slope = call(objective, data, now, hyper or {})
        pull = (
            tree.logits_vjp(tokens, slope)
            if full
            else tree.log_prob_vjp(theta, tokens, slope)
        )
        return loss, pull

    def sequences(rng, round_, theta):
        tokens, old = tree.sample(rng, theta, draws, mix=mix(round_) if mix else None)
        found = {"actions": tokens, "mask": xp.ones_like(old), "old_log_prob": old}
        found |= {
            "group": xp.zeros_like(tokens[:, 0]),
            "old_logits": tree.logits(theta, tokens),
        }
        found |= {
            "teacher_logits": tree.logits(teacher, tokens),
            "teacher_log_prob": tree.log_prob(teacher, tokens),
        }
        found["ref_log_prob"] = tree.log_prob(start, tokens)
        if reward:
            found["reward"] = reward(tokens)
            found["advantage"] = found["reward"] - found["reward"].mean()
        return found

    run = train(gradient, theta, np.random.default_rng(seed), **options)
    return Distillation(run.theta, *np.array(divergences).T, run.watched)
