"""A verifiable token task for a small autoregressive softmax policy.

Vocabulary: 0 ends the response, 1 … V-1 are symbols. A response to a prompt of level L is right (reward 1, else 0) when
its symbols are strictly increasing, there are exactly L of them, and the end token follows. Levels make prompts of
different difficulty: under the uniform policy level 1 succeeds in 6 % of the responses, level 4 in 0.1 %.

The policy is a table: ``logits = bigram[prompt, previous token] + position[prompt, t]``; all parameters in one flat
vector. Its probability of success is known exactly (`success_probability`), by dynamic programming.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from trref.backend import to_host, xp
from trref.nn.heads import log_softmax, one_hot

__all__ = ["Responses", "TokenTask"]


class Responses(NamedTuple):
    """Sampled responses: prompts (B,), tokens (B, T), mask (B, T; 1 up to and with the end token), log_prob (B, T)."""

    prompts: Any
    tokens: Any
    mask: Any
    log_prob: Any


@dataclasses.dataclass(frozen=True)
class TokenTask:
    """The task and its policy.

    Parameters
    ----------
    levels : tuple of int
        One level a prompt; each at most ``length - 1``.
    vocabulary : int
        V, the end token included.
    length : int
        T, the longest response.
    """

    levels: tuple[int, ...] = (1, 2, 2, 3, 3, 4)
    vocabulary: int = 16
    length: int = 6

    def __post_init__(self):
        if (
            not 1 <= min(self.levels)
            or max(self.levels) >= self.length
            or max(self.levels) >= self.vocabulary
        ):
            raise ValueError(
                "levels must lie between 1 and the smaller of length - 1 and vocabulary - 1"
            )

    @property
    def size(self):
        """Length of the parameter vector."""
        return len(self.levels) * (self.vocabulary + self.length) * self.vocabulary

    def _tables(self, theta):
        """Split theta into bigram (P, V, V) and position (P, T, V); row 0 of the bigrams follows the prompt itself."""
        P, V, T = len(self.levels), self.vocabulary, self.length
        if theta.shape != (self.size,):
            raise ValueError(
                f"theta must have shape ({self.size},), not {tuple(theta.shape)}"
            )
        return theta[: P * V * V].reshape(P, V, V), theta[P * V * V :].reshape(P, T, V)

    @staticmethod
    def _previous(tokens):
        return xp.concatenate([xp.zeros_like(tokens[:, :1]), tokens[:, :-1]], axis=1)

    def logits(self, theta, prompts, tokens):
        """Logits (B, T, V) before each token of given responses (teacher forcing)."""
        bigram, position = self._tables(theta)
        return bigram[prompts[:, None], self._previous(tokens)] + position[prompts]

    def log_prob(self, theta, prompts, tokens):
        """Log-probability (B, T) of each token."""
        log_p = log_softmax(self.logits(theta, prompts, tokens))
        return xp.take_along_axis(log_p, tokens[..., None], 2)[..., 0]

    def log_prob_vjp(self, theta, prompts, tokens, cotangent):
        """Gradient (P,) of ``sum(cotangent * log_prob)``; mask the cotangent, not the result."""
        logits = self.logits(theta, prompts, tokens)
        e = one_hot(tokens, self.vocabulary, logits.dtype)
        return self.logits_vjp(
            prompts, tokens, cotangent[..., None] * (e - xp.exp(log_softmax(logits)))
        )

    def logits_vjp(self, prompts, tokens, cotangent):
        """Gradient (P,) of ``sum(cotangent * logits)``, cotangent (B, T, V)."""
        P, V = len(self.levels), self.vocabulary
        prompt = one_hot(prompts, P, cotangent.dtype)
        previous = one_hot(self._previous(tokens), V, cotangent.dtype)
        rows = previous.transpose(0, 2, 1) @ cotangent
        bigram = prompt.T @ rows.reshape(len(rows), -1)
        position = prompt.T @ cotangent.reshape(len(cotangent), -1)
        return xp.concatenate([bigram.ravel(), position.ravel()])

    def next_logits(self, theta, prompts, tokens):
        """Logits (B, V) of the token after the given ones (B, t), t < T: what a teacher says to a student's prefix."""
        bigram, position = self._tables(theta)
        t = tokens.shape[1]
        previous = tokens[:, -1] if t else xp.zeros_like(prompts)
        return bigram[prompts, previous] + position[prompts, t]

    def sample(self, rng, theta, prompts, *, prefix=None, mix=None):
        """Sample a response to each prompt (B,); uniform numbers are drawn on the host, T a response.

        Parameters
        ----------
        rng : numpy.random.Generator
        theta : array (P,)
        prompts : integer array (B,)
        prefix : pair of arrays (B, T), optional
            Tokens, and 1 where they are given instead of sampled (trapo, tropd: the beginning of an expert's answer).
        mix : callable, optional
            ``mix(logits (B, V), prompts, tokens (B, t)) -> logits (B, V)`` to sample from instead (trb: a blend with
            the teacher).

        Returns
        -------
        Responses
            With the log-probabilities of what was sampled from.
        """
        u = xp.asarray(rng.random((len(prompts), self.length)))
        alive, tokens = (
            xp.ones(len(prompts), dtype=theta.dtype),
            xp.zeros((len(prompts), 0), dtype=prompts.dtype),
        )
        masks, log_probs = [], []
        for t in range(self.length):
            logits = self.next_logits(theta, prompts, tokens)
            log_p = log_softmax(logits if mix is None else mix(logits, prompts, tokens))
            below = xp.cumsum(xp.exp(log_p), axis=1)[:, :-1] < u[:, t : t + 1]
            token = (
                below.sum(1)
                if prefix is None
                else xp.where(prefix[1][:, t] == 1, prefix[0][:, t], below.sum(1))
            )
            token = xp.where(alive > 0, token, 0)
            tokens = xp.concatenate([tokens, token[:, None]], axis=1)
            masks.append(alive)
            log_probs.append(xp.take_along_axis(log_p, token[:, None], 1)[:, 0] * alive)
            alive = alive * (token > 0)
        return Responses(prompts, tokens, xp.stack(masks, 1), xp.stack(log_probs, 1))

    def expert(self, rng, prompts):
        """Draw a right response to each prompt (B,), uniformly: L of the symbols in increasing order, then the end.

        For trapo (prefixes of them), psft and rpo (imitation). The log-probabilities are None: an expert has none.
        """
        tokens, mask = np.zeros((2, len(prompts), self.length), dtype=int)
        for row, prompt in enumerate(to_host(prompts)):
            level = self.levels[prompt]
            tokens[row, :level] = np.sort(
                rng.choice(np.arange(1, self.vocabulary), level, replace=False)
            )
            mask[row, : level + 1] = 1
        return Responses(
            prompts, xp.asarray(tokens), xp.asarray(mask.astype(float)), None
        )

    def reward(self, responses):
        """Reward (B,): 1 for a right response, else 0."""
        tokens, mask = responses.tokens, responses.mask
        level = xp.asarray(np.array(self.levels))[responses.prompts]
        symbols = (tokens > 0).sum(1)
        ended = mask.sum(1) > symbols
        pairs = (tokens[:, 1:] > 0) & (tokens[:, :-1] > 0)
        increasing = xp.where(pairs, tokens[:, 1:] > tokens[:, :-1], True).all(1)
        return (ended & increasing & (symbols == level)).astype(mask.dtype)

    def success_probability(self, theta):
        """Exact probability (P,) of a right response to each prompt."""
        bigram, position = self._tables(theta)
        P, V = len(self.levels), self.vocabulary
        upward = xp.triu(xp.ones((V, V), dtype=theta.dtype), 1)
        # reach[p, v]: probability of strictly increasing symbols so far, the last of them v
        reach = xp.zeros((P, V), dtype=theta.dtype)
        reach[:, 0] = 1.0
        result = xp.zeros(P, dtype=theta.dtype)
        level = xp.asarray(np.array(self.levels))
        for t in range(self.length):
            p = xp.exp(log_softmax(bigram + position[:, t][:, None]))
            result += xp.where(level == t, (reach * p[:, :, 0]).sum(1), 0.0)
            reach = xp.einsum("pu,puv->pv", reach, p * upward)
        return result
