"""Where the examples of preference losses come from."""

from trref.backend import xp
from trref.catalog.record import Interface

__all__ = ["COMPARISON_TABLE", "PREFERENCE_PAIR"]


def _pair_example(rng, size):
    """Answers of 1 to 40 tokens; the policy is near the reference, or nats away from it."""
    chosen_length, rejected_length = rng.integers(1, 41, (2, size)).astype(float)
    per_token, spread = rng.uniform(0.2, 2.5, (2, size)), rng.choice((0.05, 1.0, 6.0))
    ref_chosen, ref_rejected = -per_token * [chosen_length, rejected_length]
    moved = spread * rng.standard_normal((2, size))
    return {
        "chosen_log_prob": xp.minimum(ref_chosen + moved[0], -0.05 * chosen_length),
        "rejected_log_prob": xp.minimum(
            ref_rejected + moved[1], -0.05 * rejected_length
        ),
        "ref_chosen_log_prob": ref_chosen,
        "ref_rejected_log_prob": ref_rejected,
        "chosen_length": chosen_length,
        "rejected_length": rejected_length,
    }


def _pairs(chosen, rejected, ref_chosen, ref_rejected, lengths=(7.0, 3.0)):
    columns = [
        xp.array(x, dtype=float) for x in (chosen, rejected, ref_chosen, ref_rejected)
    ]
    return {
        "chosen_log_prob": columns[0],
        "rejected_log_prob": columns[1],
        "ref_chosen_log_prob": columns[2],
        "ref_rejected_log_prob": columns[3],
        "chosen_length": xp.full_like(columns[0], lengths[0]),
        "rejected_length": xp.full_like(columns[0], lengths[1]),
    }


PREFERENCE_PAIR = Interface(
    "preference_pair",
    example=_pair_example,
    edges={
        "the policy is the reference": lambda: _pairs(
            [-12.0, -3.5], [-4.0, -9.0], [-12.0, -3.5], [-4.0, -9.0]
        ),
        "equal answers": lambda: _pairs(
            [-6.0, -2.5], [-6.0, -2.5], [-7.0, -1.5], [-7.0, -1.5], (4.0, 4.0)
        ),
        "all log-probabilities are equal": lambda: _pairs(*[[-5.0, -5.0, -5.0]] * 4),
        "won and lost by four hundred nats": lambda: _pairs(
            [-1.5, -401.5],
            [-401.5, -1.5],
            [-201.5, -201.5],
            [-201.5, -201.5],
            (300.0, 200.0),
        ),
        "answers of one token": lambda: _pairs(
            [-0.5, -2.0], [-1.5, -0.25], [-0.75, -1.0], [-1.0, -0.5], (1.0, 1.0)
        ),
        "a long answer against one token": lambda: _pairs(
            [-300.0, -0.7], [-1.3, -290.0], [-301.0, -0.9], [-1.0, -288.0], (200.0, 1.0)
        ),
        "one pair": lambda: _pairs([-8.0], [-9.0], [-8.5], [-8.75]),
    },
)
"""Sequence log-probabilities (B) of pairs, by the policy and a reference, and lengths in tokens; gradients by the
policy's two."""


def _table_example(rng, size):
    skill = rng.choice((0.3, 2.0)) * rng.standard_normal(size)
    preference = 1 / (
        1 + xp.exp(skill[None, :] - skill[:, None] - rng.standard_normal((size, size)))
    )
    preference = xp.tril(preference, -1)
    preference = preference + xp.triu(1 - preference.T, 1) + 0.5 * xp.eye(size)
    weight = rng.exponential(1.0, (size, size)) * (rng.random((size, size)) < 0.7)
    return {
        "logits": rng.standard_normal(size),
        "ref_logits": rng.standard_normal(size),
        "preference": preference,
        "pair_weight": weight,
        "base_prob": rng.dirichlet(xp.full(size, 0.5)),
        "reward": 2 * rng.standard_normal(size),
    }


def _table(logits, ref_logits, preference, weight, base=None):
    K = len(logits)
    return {
        "logits": xp.array(logits),
        "ref_logits": xp.array(ref_logits),
        "preference": xp.array(preference),
        "pair_weight": xp.array(weight),
        "base_prob": xp.full(K, 1 / K) if base is None else xp.array(base),
        "reward": xp.array(ref_logits) - 0.5,
    }


COMPARISON_TABLE = Interface(
    "comparison_table",
    example=_table_example,
    edges={
        "ties throughout": lambda: _table(
            [0.3, -0.2, 0.1], [0.0, 0.5, 0.2], [[0.5] * 3] * 3, [[1.0] * 3] * 3
        ),
        "certain preferences": lambda: _table(
            [0.3, -0.2],
            [0.0, 0.5],
            [[0.5, 1.0], [0.0, 0.5]],
            [[0.0, 0.5], [0.5, 0.0]],
            [1.0, 0.0],
        ),
        "one answer": lambda: _table([0.3], [-0.2], [[0.5]], [[1.0]]),
        "no pair is compared": lambda: _table(
            [0.3, -0.2], [0.0, 0.5], [[0.5, 0.7], [0.3, 0.5]], [[0.0, 0.0], [0.0, 0.0]]
        ),
        "answers that are all but impossible": lambda: _table(
            [0.0, -40.0, 3.0],
            [30.0, 0.0, -30.0],
            [[0.5, 0.9, 0.4], [0.1, 0.5, 0.8], [0.6, 0.2, 0.5]],
            [[0.2] * 3] * 3,
        ),
    },
)
"""One prompt with K answers: logits, the reference's, how often the row's answer beats the column's, weights."""

WITHOUT_TOKENS = {
    f"no tokens, {kind}": {f"{kind}_length": 1e-6} for kind in ("chosen", "rejected")
}
"""What `trref.preferences.terms.counted` refuses."""
