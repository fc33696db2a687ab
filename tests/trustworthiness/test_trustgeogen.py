"""Problems of geometry and of random programs: every emitted line checked, premises deleted one by one, all proofs."""

import itertools

import numpy as np
import pytest

from trref.problems.geometry import ground, holds, random_scene
from trref.trustworthiness.horn import cheapest, closure, trace, verify
from trref.trustworthiness.trustgeogen import (
    alternative_solutions,
    backtracking_trace,
    bootstrap_premises,
    companions,
    sampled_problems,
)


def _scene(seed):
    scene = random_scene(np.random.default_rng(seed), 6)
    program = ground(scene.premises, scene.coordinates)
    return scene, program, (program.bodies, program.heads, program.premises)


SEEDS = (0, 6, 7, 10)  # with problems that pass the filters


@pytest.mark.parametrize("seed", SEEDS)
def test_solutions_of_problems(seed):
    """All lines are valid, their facts are true of the drawing, and the premises of the proof suffice."""
    scene, program, arrays = _scene(seed)
    bodies, heads, premises = arrays
    result = sampled_problems(*arrays)
    targets = np.flatnonzero(result.kept)
    assert len(targets)
    cost = cheapest(*arrays).cost
    proofs = trace(*arrays, targets)
    for target, facts, rules in zip(targets, *proofs, strict=True):
        lines = np.flatnonzero(rules)
        lines = lines[np.argsort(cost[heads[lines]], kind="stable")]
        assert len(lines) == result.steps[target] >= 5
        assert result.share[target] == (facts * premises).sum() / premises.sum() >= 0.5
        assert verify(*arrays, lines, heads[lines]).all()
        assert all(holds(program.facts[heads[r]], scene.coordinates) for r in lines)
        assert closure(bodies, heads, premises * facts).derivable[target], "idle premises are not needed"


def test_filters():
    """Without thresholds every derived fact is a problem; with both, fewer and fewer."""
    _, _, arrays = _scene(0)
    everything = sampled_problems(*arrays, min_steps=0, min_share=0.0)
    assert (everything.kept == closure(*arrays).derivable * (1 - arrays[2])).all()
    kept = [[sampled_problems(*arrays, min_steps=t, min_share=r).kept.sum() for t in (0, 2, 5, 9)] for r in (0, 0.5, 1)]
    assert (np.diff(kept, axis=0) <= 0).all() and (np.diff(kept, axis=1) <= 0).all()
    assert kept[0][0] > kept[1][2] > 0


def test_all_premises_of_one_proof_are_not_those_of_every_proof():
    """Fact 4 from both premises, or from one by a detour: without the other premise it still follows."""
    detour = np.array([[0, 1], [0, 0], [2, 2], [3, 3]]), np.array([4, 2, 3, 4])
    premises = np.array([1.0, 1, 0, 0, 0])
    assert sampled_problems(*detour, premises, min_steps=1, min_share=1.0).kept.tolist() == [0, 0, 0, 0, 1]
    assert closure(*detour, np.array([1.0, 0, 0, 0, 0])).derivable[4]


def _all_proofs(target, bodies, heads, premises):
    """Subsets of rules that derive the target, and of which none can be left out."""
    R, found = len(heads), []
    for size in range(1, R + 1):
        for rules in itertools.combinations(range(R), size):
            if any(set(proof) <= set(rules) for proof in found):
                continue
            if closure(bodies[list(rules)], heads[list(rules)], premises).derivable[target]:
                found.append(rules)
    return {frozenset(rules) for rules in found}


@pytest.mark.parametrize("seed", range(6))
def test_alternatives_are_among_all_proofs(seed):
    """And if there is a second proof at all, one is found."""
    rng = np.random.default_rng(seed)
    heads, premises = rng.integers(2, 7, 9), (np.arange(7) < 2).astype(float)
    bodies = np.minimum(rng.integers(0, 7, (9, 2)), heads[:, None] - 1)
    every = _all_proofs(6, bodies, heads, premises) if closure(bodies, heads, premises).derivable[6] else set()
    rows = alternative_solutions(bodies, heads, premises, target=6, count=9)
    found = [frozenset(np.flatnonzero(row).tolist()) for row in rows if row.any()]
    assert len(set(found)) == len(found) and set(found) <= every
    assert (len(found) > 1) == (len(every) > 1) and bool(found) == bool(every)
    assert (alternative_solutions(bodies, heads, premises, target=6, count=2) == rows[:2]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_traces_that_go_back(seed):
    """Every line is valid where it stands; without the retracted ones what is left is the proof."""
    _, program, arrays = _scene(seed)
    heads = program.heads
    went_back = 0
    for target in np.flatnonzero(sampled_problems(*arrays).kept)[:6]:
        result = backtracking_trace(*arrays, target=int(target))
        lines = np.argsort(np.where(result.place > 0, result.place, np.inf))[: int((result.place > 0).sum())]
        assert sorted(result.place[lines]) == list(range(1, len(lines) + 1))
        assert verify(*arrays, lines, heads[lines]).all() and heads[lines[-1]] == target
        kept = lines[result.retracted[lines] == 0]
        assert verify(*arrays, kept, heads[kept]).all()
        assert (np.sort(kept) == np.flatnonzero(trace(*arrays, np.array([target])).rules[0])).all()
        away = np.flatnonzero(result.retracted[lines])
        assert (np.diff(away) == 1).all(), "the lines to retract stand together"
        assert not len(away) or away[0] > 0, "after a shared line"
        went_back += len(away) > 0
    assert went_back


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_companions(seed):
    _, _, arrays = _scene(seed)
    bodies, heads, premises = arrays
    for target in np.flatnonzero(sampled_problems(*arrays).kept)[:4]:
        result = companions(*arrays, target=int(target))
        assert closure(bodies, heads, premises - result.idle).derivable[target]
        used = np.flatnonzero(result.unused == 0)
        assert closure(bodies[used], heads[used], premises).derivable[target]
        last = used[heads[used] == target]
        assert set(np.flatnonzero(result.intermediate)) == {b for b in bodies[last[0]].tolist() if not premises[b]}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_new_start(seed):
    """The closure stays; no proof gets longer, since a premise need not be proved."""
    _, _, (bodies, heads, premises) = _scene(seed)
    more = bootstrap_premises(bodies, heads, premises)
    before, after = (sampled_problems(bodies, heads, p) for p in (premises, more))
    assert (closure(bodies, heads, premises).derivable == closure(bodies, heads, more).derivable).all()
    assert more.sum() > premises.sum() and (more >= premises).all()
    assert after.steps[before.steps.argmax()] == 0 and after.steps.max() < before.steps.max()
    assert (cheapest(bodies, heads, more).cost <= cheapest(bodies, heads, premises).cost).all()


def test_what_is_refused():
    bodies, heads, premises = np.array([[0]]), np.array([1]), np.array([1.0, 0])
    with pytest.raises(ValueError, match="premises must have some fact"):
        sampled_problems(bodies, heads, np.zeros(2))
    for function in (alternative_solutions, backtracking_trace, companions):
        with pytest.raises(ValueError, match="target must be less than the 2 facts"):
            function(bodies, heads, premises, target=2)
