"""A policy over tokens as a callable of prefixes, for what samples token by token.

For trb (rollouts of a student, with the teacher asked at each token).
"""

import dataclasses
from typing import Any

from trref.backend import xp

__all__ = ["NextToken"]


@dataclasses.dataclass(frozen=True)
class NextToken:
    """``policy(tokens (N, t)) -> logits (N, V)`` of a table with a row of logits a state.

    Parameters
    ----------
    children : integer array (S, V)
        Token v leads from state s to ``children[s, v]``; the empty prefix is state 0.
    table : array (S, V)
        Logits of each state.
    """

    children: Any
    table: Any

    def __call__(self, tokens):
        """Return the logits after each prefix."""
        if tokens.ndim != 2:
            raise ValueError(f"tokens must have two axes, not {tokens.ndim}")
        state = xp.zeros(len(tokens), dtype=self.children.dtype)
        for t in range(tokens.shape[1]):
            state = self.children[state, tokens[:, t]]
        return self.table[state]
