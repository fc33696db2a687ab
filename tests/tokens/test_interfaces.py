"""The shared signatures: one seed is one batch, whatever further inputs a function has."""

import numpy as np
import pytest

from trref import validate
from trref.tokens.interfaces import FULL_DISTRIBUTION, GROUP_REWARD, TOKEN_OBJECTIVE, full_distribution, token_objective

EXTRA = ("ref_log_prob", "behavior_log_prob", "version", "group", "reward", "answer", "domain", "actions")
VARIANTS = {
    "all": token_objective(*EXTRA, "entropy", "divergence"),
    "answers": token_objective("group", advantage="B"),
    "tokens": token_objective(advantage="B T"),
    "penalty": token_objective("ref_log_prob", without=("old_log_prob", "advantage")),
    "full": full_distribution("ref_logits", "group", "reward"),
}


@pytest.mark.parametrize("interface", [TOKEN_OBJECTIVE, FULL_DISTRIBUTION, GROUP_REWARD, *VARIANTS.values()])
def test_examples_and_edges_fit(interface):
    for size in (1, 2, 5, 64):
        for seed in range(10):
            example = interface.example(np.random.default_rng([size, seed]), size)
            assert list(example) == list(interface.inputs)
            validate.inputs(interface.inputs, *example.values())
    for make in interface.edges.values():
        validate.inputs(interface.inputs, *make().values())


@pytest.mark.parametrize("name", ["all", "answers", "tokens", "penalty"])
def test_variants_share_their_draws(name):
    """So that functions with different further inputs can be compared on one batch."""
    for seed in range(5):
        plain = TOKEN_OBJECTIVE.example(np.random.default_rng([8, seed]), 8)
        other = VARIANTS[name].example(np.random.default_rng([8, seed]), 8)
        for key in {"log_prob", "old_log_prob", "mask"} & set(other):
            assert np.array_equal(plain[key], other[key])


def test_examples_are_what_they_claim():
    """All spreads, advantages of answers and of tokens, rewards that agree with the sign of the advantage."""
    examples = [VARIANTS["all"].example(np.random.default_rng([64, s]), 64) for s in range(12)]
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


def test_unknown_names():
    with pytest.raises(ValueError, match="no further inputs"):
        token_objective("reference")
    with pytest.raises(ValueError, match="advantage must be"):
        token_objective(advantage="T")
