"""Policies over sequences of T tokens with a row of logits a state, where the state is all that a prefix leaves.

`full_tree` has a state for every prefix, `gold_path` two a position (on a given path, or off it), `positions` one.
theta is the table of logits (S, V), row by row, for a student and for its teacher alike. How often each state is
visited is known exactly, and with it every expectation over sequences that is a sum over tokens.

For trb and tropd (a teacher that knows a path, a student that must find it), erpd (independent tokens), trapo and rlad
(exact masses of sequences).
"""

import dataclasses
from typing import Any

import numpy as np

from trref.backend import xp
from trref.nn.heads import categorical_kl, log_softmax, one_hot

__all__ = ["TokenTree", "full_tree", "gold_path", "gold_teacher", "positions"]


@dataclasses.dataclass(frozen=True)
class TokenTree:
    """States 0 … S-1, of which 0 is the empty prefix; token v leads from s to ``children[s, v]``.

    Parameters
    ----------
    children : integer array (S, V)
        After the last token the entry is of no effect.
    length : int
        T.
    """

    children: Any
    length: int

    @property
    def size(self):
        """Length of theta, S V."""
        return self.children.shape[0] * self.children.shape[1]

    def table(self, theta):
        """View theta as the table (S, V)."""
        if theta.shape != (self.size,):
            raise ValueError(
                f"theta must have shape ({self.size},), not {tuple(theta.shape)}"
            )
        return theta.reshape(self.children.shape)

    def states(self, tokens):
        """Return the state before each token, (B, T), of sequences (B, T)."""
        state, states = xp.zeros_like(tokens[:, 0]), []
        for t in range(tokens.shape[1]):
            states.append(state)
            state = self.children[state, tokens[:, t]]
        return xp.stack(states, 1)

    def logits(self, theta, tokens):
        """Return the logits (B, T, V) before each token."""
        return self.table(theta)[self.states(tokens)]

    def log_prob(self, theta, tokens):
        """Return the log-probability (B, T) of each token."""
        return xp.take_along_axis(
            log_softmax(self.logits(theta, tokens)), tokens[..., None], 2
        )[..., 0]

    def logits_vjp(self, tokens, cotangent):
        """Return the gradient (P,) of ``sum(cotangent * logits)``, cotangent (B, T, V)."""
        S, V = self.children.shape
        rows = one_hot(self.states(tokens).ravel(), S, cotangent.dtype)
        return (rows.T @ cotangent.reshape(-1, V)).ravel()

    def log_prob_vjp(self, theta, tokens, cotangent):
        """Return the gradient (P,) of ``sum(cotangent * log_prob)``, cotangent (B, T)."""
        logits = self.logits(theta, tokens)
        e = one_hot(tokens, self.children.shape[1], logits.dtype)
        return self.logits_vjp(
            tokens, cotangent[..., None] * (e - xp.exp(log_softmax(logits)))
        )

    def sample(self, rng, theta, draws, *, mix=None):
        """Draw sequences.

        Parameters
        ----------
        rng : numpy.random.Generator
            Uniform numbers are drawn on the host.
        theta : array (P,)
        draws : int
        mix : callable, optional
            ``mix(logits (B, V), states (B)) -> logits (B, V)`` to sample from instead, such as a blend with the rows
            ``tree.table(teacher)[states]``.

        Returns
        -------
        tokens : integer array (B, T)
        log_prob : array (B, T)
            Under what was sampled from.
        """
        u, table = (
            xp.asarray(rng.random((draws, self.length)), dtype=theta.dtype),
            self.table(theta),
        )
        state, tokens, log_probs = xp.zeros(draws, dtype=self.children.dtype), [], []
        for t in range(self.length):
            log_p = log_softmax(
                table[state] if mix is None else mix(table[state], state)
            )
            token = (xp.cumsum(xp.exp(log_p), axis=1)[:, :-1] < u[:, t : t + 1]).sum(1)
            tokens.append(token)
            log_probs.append(xp.take_along_axis(log_p, token[:, None], 1)[:, 0])
            state = self.children[state, token]
        return xp.stack(tokens, 1), xp.stack(log_probs, 1)

    def reach(self, theta):
        """Return how often each state is visited in a sequence, on average, (S,); the sum is T."""
        p, S = xp.exp(log_softmax(self.table(theta))), len(self.children)
        now = (xp.arange(S) == 0).astype(theta.dtype)
        onward = one_hot(self.children.ravel(), S, theta.dtype)
        total = xp.zeros_like(now)
        for _ in range(self.length):
            total = total + now
            now = (now[:, None] * p).ravel() @ onward
        return total

    def kl(self, theta, other):
        """Return KL(theta‖other) between the laws of whole sequences: the sum over states of reach times KL of rows."""
        return (
            self.reach(theta) * categorical_kl(self.table(theta), self.table(other))[0]
        ).sum()


def full_tree(vocabulary, length):
    """Return the tree of all prefixes: ``(V^T - 1)/(V - 1)`` states, in order of length and then of the tokens (host).

    A state of the last level has itself as its children, which no sequence reaches.
    """
    sizes = [vocabulary**t for t in range(length)]
    starts = np.cumsum([0, *sizes])
    children = np.tile(np.arange(starts[-1])[:, None], (1, vocabulary))
    for t in range(length - 1):
        children[starts[t] : starts[t + 1]] = starts[t + 1] + np.arange(
            sizes[t + 1]
        ).reshape(-1, vocabulary)
    return TokenTree(children, length)


def gold_path(gold, vocabulary):
    """Return the states (on the path, at position t): t, and (off it, at position t): T + t (host).

    Parameters
    ----------
    gold : sequence of int
        The T tokens of the path.
    vocabulary : int
        V.
    """
    T = len(gold)
    after = np.minimum(np.arange(T) + 1, T - 1)
    children = np.concatenate([np.tile((T + after)[:, None], (1, vocabulary))] * 2)
    children[np.arange(T), list(gold)] = after
    return TokenTree(children, T)


def gold_teacher(gold, vocabulary, *, confidence=0.9):
    """Return the theta of a teacher that knows the path: `confidence` on its token, uniform off it (host)."""
    T = len(gold)
    p = np.full((2 * T, vocabulary), 1 / vocabulary)
    p[:T] = (1 - confidence) / (vocabulary - 1)
    p[np.arange(T), list(gold)] = confidence
    return np.log(p).ravel()


def positions(vocabulary, length):
    """Return the states of independent tokens: one a position (host)."""
    after = np.minimum(np.arange(length) + 1, length - 1)
    return TokenTree(np.tile(after[:, None], (1, vocabulary)), length)
