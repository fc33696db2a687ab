"""The signatures that token objectives in the old form share.

B responses to a few prompts, padded to T tokens. ``mask`` is 1 on the tokens of a response; where it is 0, the other
arrays may hold any valid number, and neither the value nor the gradient depends on it. ``log_prob`` is differentiated,
everything else is data. Further inputs have these names, here and in no other form:

===================== ======= =====================================================================
``ref_log_prob``      (B T)   log-probabilities under the reference policy
``behavior_log_prob`` (B T)   under the policy that sampled, where that is not the old one
``version``           (B T)   the version (0, 1, …) of the policy that sampled the token
``group``             (B)     the prompt that the response answers: any non-negative numbers
``reward``            (B)     0 or 1
``answer``            (B)     the final answer, as a number: equal answers have equal numbers
``domain``            (B)     the domain of the prompt, as a number
``actions``           (B T)   the tokens
``entropy``           (B T)   entropy of the policy before the token
``divergence``        (B T)   divergence of the policy from the old one before the token
``ref_logits``        (B T V) for full-distribution objectives
===================== ======= =====================================================================
"""

import dataclasses
import functools

from trref.backend import xp
from trref.catalog import Input, Interface
from trref.catalog.tokens import interfaces as shared
from trref.catalog.tokens.interfaces import FULL_EDGES, TOKEN_EDGES, full_example, token_example

__all__ = ["FULL_DISTRIBUTION", "GROUP_REWARD", "TOKEN_OBJECTIVE", "full_distribution", "token_objective"]

TOKEN_INPUTS = {
    "log_prob": Input("B T", "log_prob"),
    "old_log_prob": Input("B T", "log_prob"),
    "advantage": Input("B | B T"),
    "mask": Input("B T", "mask"),
}
FULL_INPUTS = {
    "logits": Input("B T V"),
    "old_logits": Input("B T V"),
    "actions": Input("B T", "index"),
    "advantage": Input("B | B T"),
    "mask": Input("B T", "mask"),
}
EXTRA = {
    "ref_log_prob": Input("B T", "log_prob"),
    "behavior_log_prob": Input("B T", "log_prob"),
    "version": Input("B T", "index"),
    "group": Input("B", "index"),
    "reward": Input("B", "mask"),
    "answer": Input("B", "index"),
    "domain": Input("B", "index"),
    "actions": Input("B T", "index"),
    "entropy": Input("B T", "nonnegative"),
    "divergence": Input("B T", "nonnegative"),
    "ref_logits": Input("B T V"),
}


def _name(base, extra, advantage, without):
    """Interfaces of one base name have compatible examples: advantages of one fixed shape are another base."""
    base = {"B": "answer_", "B T": "each_"}.get(advantage, "") + base
    return base + (f" with {', '.join(extra)}" if extra else "") + (f" without {', '.join(without)}" if without else "")


def _interface(name, inputs, example, edges, extra, advantage, without=()):
    if advantage not in ("B", "B T", "B | B T"):
        raise ValueError(f'advantage must be "B", "B T" or "B | B T", not {advantage!r}')
    if unknown := set(extra) - set(EXTRA):
        raise ValueError(f"no further inputs {sorted(unknown)}")
    inputs = {n: Input(advantage) if n == "advantage" else i for n, i in inputs.items() if n not in without}
    inputs |= {n: EXTRA[n] for n in extra}

    def make(rng, size):
        per_token = {"B": False, "B T": True}.get(advantage, rng.random() < 0.3)
        return _select(example(rng, size, per_token))

    def _select(batch):
        if advantage == "B T" and batch["advantage"].ndim == 1:
            batch["advantage"] = batch["advantage"][:, None] + xp.zeros_like(batch["mask"])
        return {n: batch[n] for n in inputs}

    named = {label: lambda edge=edge: _select(edge()) for label, edge in edges.items()}
    return Interface(_name(name, extra, advantage, without), inputs=inputs, example=make, edges=named)


@functools.cache
def token_objective(*extra, advantage="B | B T", without=()):
    """Return the interface of a token objective with the further inputs `extra`, after the four of all.

    Parameters
    ----------
    *extra : str
        Names of the table above, in the order of the function's arguments.
    advantage : str
        ``"B"`` for objectives of whole responses.
    without : tuple of str
        Which of the four the function does not need.

    Returns
    -------
    Interface
        ``f(log_prob, old_log_prob, advantage, mask, *extra, *, …) -> (loss, d loss / d log_prob)``.
    """
    return _interface("token_objective", TOKEN_INPUTS, token_example, TOKEN_EDGES, extra, advantage, without)


@functools.cache
def full_distribution(*extra, advantage="B | B T", without=()):
    """Return the interface of an objective of the whole distribution; parameters as in `token_objective`.

    Returns
    -------
    Interface
        ``f(logits, old_logits, actions, advantage, mask, *extra, *, …) -> (loss, d loss / d logits)``.
    """
    return _interface("full_distribution", FULL_INPUTS, full_example, FULL_EDGES, extra, advantage, without)


TOKEN_OBJECTIVE = token_objective()
FULL_DISTRIBUTION = full_distribution()
GROUP_REWARD = dataclasses.replace(shared.GROUP_REWARD, inputs={"reward": Input("B"), "group": Input("B", "index")})
