"""Horn programs: all sets of facts, all trees, monotone and idempotent closures, orders of rules, broken proofs."""

import itertools

import numpy as np
import pytest

from trref.trustworthiness.horn import cheapest, closure, trace, verify


def _program(rng, facts=8, rules=9, width=2):
    heads = rng.integers(2, facts, rules)
    return rng.integers(0, facts, (rules, width)), heads, (np.arange(facts) < 2).astype(float)


def _least_closed_superset(bodies, heads, premises):
    """The intersection of all sets of facts that hold the premises and are closed."""
    N, least = len(premises), set(range(len(premises)))
    for bits in itertools.product((False, True), repeat=N):
        facts = {n for n in range(N) if bits[n]}
        closed = all(h in facts or not set(b) <= facts for b, h in zip(bodies.tolist(), heads.tolist(), strict=True))
        if closed and {n for n in range(N) if premises[n]} <= facts:
            least &= facts
    return least


@pytest.mark.parametrize("seed", range(8))
def test_closure_is_the_least_closed_set(seed):
    program = _program(np.random.default_rng(seed))
    result = closure(*program)
    assert set(np.flatnonzero(result.derivable)) == _least_closed_superset(*program)
    assert (cheapest(*program).derivable == result.derivable).all()


def _smallest_tree(target, bodies, heads, premises, above=()):
    """Over all trees whose branches repeat no fact."""
    if premises[target]:
        return 0
    sizes = [
        1 + sum(_smallest_tree(b, bodies, heads, premises, (*above, target)) for b in set(body))
        for body, head in zip(bodies.tolist(), heads.tolist(), strict=True)
        if head == target and not set(body) & {target, *above}
    ]
    return min(sizes, default=np.inf)


@pytest.mark.parametrize("seed", range(12))
def test_costs_are_of_all_trees(seed):
    program = _program(np.random.default_rng(seed), facts=7, rules=8)
    best = cheapest(*program)
    every = np.array([_smallest_tree(n, *program) for n in range(7)])
    assert (np.isfinite(every) == (best.derivable > 0)).all()
    assert (best.cost == np.where(np.isfinite(every), every, 0)).all()


@pytest.mark.parametrize("seed", range(12))
def test_proofs_prove(seed):
    """From the premises that it reaches and its own rules; nothing else is needed, and the order of costs is a text."""
    rng = np.random.default_rng(seed)
    bodies, heads, premises = program = _program(rng, 25, 40)
    best = cheapest(*program)
    proofs = trace(*program, np.arange(25))
    assert (proofs.rules.sum(1) <= best.cost).all()
    assert (proofs.rules.sum(1) == (proofs.facts * (1 - premises)).sum(1)).all(), "a derivation a fact"
    for target in np.flatnonzero(best.derivable * (1 - premises)):
        used = np.flatnonzero(proofs.rules[target])
        assert closure(bodies[used], heads[used], premises * proofs.facts[target]).derivable[target]
        lines = used[np.argsort(best.cost[heads[used]], kind="stable")]
        assert verify(*program, lines, heads[lines]).all()
        assert heads[lines[-1]] == target
        if len(lines) > 1:  # without its first line the last one fails, since each fact is derived once and needed
            assert not verify(*program, lines[1:], heads[lines[1:]])[-1]
    assert proofs.facts[best.derivable == 0].sum() == 0


@pytest.mark.parametrize("seed", range(6))
def test_closures(seed):
    """Monotone, idempotent, whatever the order of the rules."""
    rng = np.random.default_rng(seed)
    bodies, heads, premises = _program(rng, 20, 30)
    result = closure(bodies, heads, premises)
    more = np.maximum(premises, rng.random(20) < 0.2)
    assert (closure(bodies, heads, more).derivable >= result.derivable).all()
    again = closure(bodies, heads, result.derivable)
    assert (again.derivable == result.derivable).all() and again.rounds.max() == 0
    order = rng.permutation(30)
    for a, b in zip(result, closure(bodies[order], heads[order], premises), strict=True):
        assert (a == b).all()
    assert (cheapest(bodies[order], heads[order], premises).cost == cheapest(bodies, heads, premises).cost).all()


def test_a_lemma_is_paid_twice_and_said_once():
    """Each fact from the two before it: costs grow like Fibonacci's numbers, proofs by a line."""
    bodies, heads = np.array([[n, n + 1] for n in range(8)]), np.arange(2, 10)
    premises = (np.arange(10) < 2).astype(float)
    assert cheapest(bodies, heads, premises).cost.tolist() == [0, 0, 1, 2, 4, 7, 12, 20, 33, 54]
    assert trace(bodies, heads, premises, np.arange(10)).rules.sum(1).tolist() == [0, 0, *range(1, 9)]


def test_cheap_trees_may_be_long_proofs():
    """Five lines that say lemmas once make a tree of nine; a chain of six is the cheaper tree, and the longer proof."""
    bodies = np.array([[0, 0], [1, 1], [2, 2], [3, 1], [4, 3], [0, 0], [6, 6], [7, 7], [8, 8], [9, 9], [10, 10]])
    heads = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 5])
    premises = (np.arange(11) < 1).astype(float)
    assert cheapest(bodies[:5], heads[:5], premises).cost[5] == 9
    assert trace(bodies[:5], heads[:5], premises, np.array([5])).rules.sum() == 5
    assert cheapest(bodies, heads, premises).cost[5] == 6
    assert trace(bodies, heads, premises, np.array([5])).rules.sum() == 6


def test_false_lines():
    bodies, heads = np.array([[0, 0], [1, 1], [2, 2]]), np.array([1, 2, 3])
    premises = np.array([1.0, 0, 0, 0])
    assert verify(bodies, heads, premises, np.array([0, 1, 2]), np.array([1, 2, 3])).tolist() == [1, 1, 1]
    assert verify(bodies, heads, premises, np.array([1, 0, 2]), np.array([2, 1, 3])).tolist() == [0, 1, 0]
    assert verify(bodies, heads, premises, np.array([0, 1, 2]), np.array([1, 3, 3])).tolist() == [1, 0, 0]


def test_what_is_refused():
    bodies, heads, premises = np.array([[0]]), np.array([1]), np.array([1.0, 0])
    with pytest.raises(ValueError, match="bodies must be less than 2"):
        closure(np.array([[2]]), heads, premises)
    with pytest.raises(ValueError, match="heads must be less than 2"):
        cheapest(bodies, np.array([2]), premises)
    with pytest.raises(ValueError, match="targets must be less than 2"):
        trace(bodies, heads, premises, np.array([2]))
    with pytest.raises(ValueError, match="lines must be less than 1"):
        verify(bodies, heads, premises, np.array([1]), np.array([1]))
    with pytest.raises(ValueError, match="claims must be less than 2"):
        verify(bodies, heads, premises, np.array([0]), np.array([2]))
