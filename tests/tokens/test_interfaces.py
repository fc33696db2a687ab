"""The shared examples: every argument is what its kind says, one seed is one batch, and batches are what they claim."""

import numpy as np
import pytest

from trref import catalog, validate
from trref.catalog.tokens.interfaces import FULL_DISTRIBUTION, GROUP_REWARD, TOKEN_OBJECTIVE, with_edges
from trref.signature import B, Index, LogProb, Mask, NonNegative, Real, T, V

ANSWERS = {"group": Index[B], "reward": Mask[B], "answer": Index[B], "domain": Index[B]}
TOKENS = {
    "log_prob": LogProb[B, T],
    "old_log_prob": LogProb[B, T],
    "advantage": Real[B] | Real[B, T],
    "mask": Mask[B, T],
    "ref_log_prob": LogProb[B, T],
    "behavior_log_prob": LogProb[B, T],
    "version": Index[B, T],
    **ANSWERS,
    "actions": Index[B, T],
    "entropy": NonNegative[B, T],
    "divergence": NonNegative[B, T],
}
FULL = {
    "logits": Real[B, T, V],
    "old_logits": Real[B, T, V],
    "ref_logits": Real[B, T, V],
    **{name: TOKENS[name] for name in ("actions", "advantage", "mask", "version", *ANSWERS)},
}
SHARED = [
    (TOKEN_OBJECTIVE, TOKENS),
    (FULL_DISTRIBUTION, FULL),
    (GROUP_REWARD, {"reward": Real[B], "group": Index[B]}),
]


@pytest.mark.parametrize(("interface", "specs"), SHARED, ids=lambda x: getattr(x, "name", ""))
def test_examples_and_edges_fit(interface, specs):
    examples = [
        interface.example(np.random.default_rng([size, seed]), size) for size in (1, 2, 5, 64) for seed in range(10)
    ]
    for batch in [*examples, *(make() for make in interface.edges.values())]:
        assert batch.keys() == specs.keys()
        validate.inputs(specs, batch)


@pytest.mark.parametrize("shape", ["B", "B T"])
def test_advantages_come_in_the_shape_that_is_declared(shape):
    spec = Real[B] if shape == "B" else Real[B, T]
    for batch in [TOKEN_OBJECTIVE.example(np.random.default_rng(seed), 8) for seed in range(10)]:
        (advantage,) = TOKEN_OBJECTIVE.of(batch, {"advantage": spec}).values()
        assert advantage.ndim == len(shape.split())
        first = batch["advantage"].reshape(8, -1)[:, 0]
        assert np.array_equal(advantage if shape == "B" else advantage[:, 0], first)


def test_functions_share_their_draws():
    """So that functions with different further inputs can be compared on one batch."""
    names = {"log_prob", "old_log_prob", "mask", "group"}
    whole = TOKEN_OBJECTIVE.example(np.random.default_rng([8, 0]), 8)
    records = [r for m in catalog.methods() if m.family == "tokens" for r in m.functions]
    seen = [r for r in records if r.interface is TOKEN_OBJECTIVE]
    for record in seen:
        batch = record.example(np.random.default_rng([8, 0]), 8)
        assert all(np.array_equal(batch[n], whole[n]) for n in names & batch.keys())
    assert len(seen) > 30


def test_examples_are_what_they_claim():
    """All spreads, advantages of answers and of tokens, rewards that agree with the sign of the advantage."""
    examples = [TOKEN_OBJECTIVE.example(np.random.default_rng([64, s]), 64) for s in range(12)]
    spreads = []
    for e in examples:
        inside = e["mask"] == 1
        spreads.append((e["log_prob"] - e["old_log_prob"])[inside].std())
        A = e["advantage"] if e["advantage"].ndim == 2 else e["advantage"][:, None] + 0 * e["mask"]
        right = (e["reward"][:, None] == 1) & inside
        assert (A[right] >= 0).all() and (A[inside & ~right] <= 0).all() and A[inside].any()
        assert (e["log_prob"] <= 0).all() and e["mask"][:, 0].all() and (np.diff(e["mask"]) <= 0).all()
    assert min(spreads) < 0.1 and 0.2 < np.median(spreads) < 0.6 and max(spreads) > 0.8
    assert {e["advantage"].ndim for e in examples} == {1, 2}


def test_some_of_the_hard_cases():
    some = with_edges(TOKEN_OBJECTIVE, "on-policy", **{"my own": dict})
    assert list(some.edges) == ["on-policy", "my own"] and some.example is TOKEN_OBJECTIVE.example
    with pytest.raises(KeyError):
        with_edges(TOKEN_OBJECTIVE, "no such case")
