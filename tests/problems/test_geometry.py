"""Scenes: rules against exact redraws, a wrong rule that is caught, grounding against all substitutions."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from trref.problems.geometry import RULES, Rule, extended, ground, holds, random_scene, spellings

ASS = Rule("angle, side, side", (("cong", "A", "C", "A", "D"), ("coll", "B", "C", "D")), ("cong", "B", "C", "B", "D"))


def _false(scene, rules, rng, redraws):
    program = ground(scene.premises, scene.coordinates, rules)
    drawings = [scene, *(scene.redrawn(rng) for _ in range(redraws))]
    return [f for f in program.facts if not all(holds(f, drawing.coordinates) for drawing in drawings)]


def test_rules_are_sound():
    """Every derived fact, exactly, in 20 redraws of each of 10 scenes."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert not _false(random_scene(rng, 6), RULES, rng, 20)


def test_a_wrong_rule_is_caught():
    """Two sides and an angle that is not between them."""
    rngs = [np.random.default_rng(seed) for seed in range(8)]
    caught = [bool(_false(random_scene(rng, 5), (*RULES, ASS), rng, 1)) for rng in rngs]
    assert sum(caught) >= 2


def test_floats_agree_with_fractions():
    """On facts that are true, and on spellings of points at random, few of which are."""
    rng = np.random.default_rng(3)
    scene = random_scene(rng, 6)
    floats = [tuple(map(float, point)) for point in scene.coordinates]
    facts = list(ground(scene.premises, scene.coordinates).facts)
    for name, count in {"para": 4, "perp": 4, "cong": 4, "coll": 3, "cyclic": 4, "midp": 3, "eqangle": 8}.items():
        drawn = [(name, *rng.integers(0, 6, count).tolist()) for _ in range(100)]
        facts += [fact for fact in drawn if spellings(fact)]
    exact = [holds(fact, scene.coordinates) for fact in facts]
    assert exact == [holds(fact, floats, 1e-9) for fact in facts]
    assert 0 < sum(exact) < len(exact)


def test_predicates_by_hand():
    square = [(Fraction(x), Fraction(y)) for x, y in ((0, 0), (2, 0), (2, 2), (0, 2), (1, 1), (4, 0))]
    true = [
        "para 0 1 2 3",
        "perp 0 1 1 2",
        "perp 0 2 1 3",
        "cong 0 2 1 3",
        "midp 4 0 2",
        "coll 0 4 2",
        "cyclic 0 1 2 3",
    ]
    true += ["eqangle 0 1 0 2 0 2 0 3", "eqangle 0 1 1 3 1 2 0 2"]
    false = ["para 0 1 0 2", "perp 0 1 2 3", "cong 0 1 0 2", "midp 1 0 2", "midp 0 1 5", "coll 0 1 2", "cyclic 0 1 2 4"]
    false += ["eqangle 0 1 0 2 0 1 1 3"]
    for texts, truth in ((true, True), (false, False)):
        for text in texts:
            name, *points = text.split()
            assert holds((name, *map(int, points)), square) is truth, text


@pytest.mark.parametrize("name", ["para", "perp", "cong", "eqangle", "midp", "coll", "cyclic"])
def test_spellings_say_the_same(name):
    count = {"midp": 3, "coll": 3, "eqangle": 8}.get(name, 4)
    points = tuple(range(count))
    every = spellings((name, *points))
    assert len(every) == {"midp": 2, "coll": 6, "cyclic": 24, "eqangle": 128}.get(name, 8)
    assert all(spellings(fact) == every for fact in every)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200 if count < 8 else 60):
        at = [(Fraction(int(x)), Fraction(int(y))) for x, y in rng.integers(-1, 2, (count, 2))]
        lines = all(at[i] != at[i + 1] for i in range(0, count - 1, 2))
        if lines if name == "eqangle" else len(set(at)) == count:
            truth = {holds(fact, at) for fact in every}
            assert len(truth) == 1
            seen |= truth
    assert seen == {True, False}


def test_facts_that_say_nothing():
    assert not spellings(("para", 0, 1, 1, 0)) and not spellings(("cong", 0, 0, 1, 2))
    assert not spellings(("eqangle", 0, 1, 2, 3, 0, 1, 2, 3)) and not spellings(("coll", 0, 1, 1))


def _substituted(scene, rules):
    """The naive fixed point: all points for all letters, every round."""
    facts = {min(spellings(fact)) for fact in scene.premises}
    points = range(len(scene.coordinates))
    while True:
        new = set()
        for rule in rules:
            letters = sorted({x for atom in (*rule.body, rule.head) for x in atom[1:]})
            for put in itertools.product(points, repeat=len(letters)):
                at = dict(zip(letters, put, strict=True))
                atoms = [spellings((n, *(at[x] for x in xs))) for n, *xs in (*rule.body, rule.head)]
                if all(atoms) and all(min(atom) in facts for atom in atoms[:-1]):
                    new.add(min(atoms[-1]))
        if new <= facts:
            return facts
        facts |= new


def test_grounding_by_substitution():
    rules = [rule for rule in RULES if not rule.guard and len({x for a in rule.body for x in a[1:]}) < 6]
    assert len(rules) > 6
    for seed in (0, 1, 5):
        scene = random_scene(np.random.default_rng(seed), 4)
        assert set(ground(scene.premises, scene.coordinates, rules).facts) == _substituted(scene, rules)


def test_order_of_rules_and_more_points():
    rng = np.random.default_rng(6)
    scene = random_scene(rng, 6)
    one, other = (ground(scene.premises, scene.coordinates, rules) for rules in (RULES, RULES[::-1]))
    assert set(one.facts) == set(other.facts) and len(one.heads) == len(other.heads)
    larger = extended(scene, rng)
    assert len(larger.coordinates) == 7 and larger.premises[: len(scene.premises)] == scene.premises
    assert set(one.facts) <= set(ground(larger.premises, larger.coordinates).facts)


def test_true_facts_beyond_the_rules():
    """The foot of a right triangle's height: equal angles by similar triangles, which no rule knows."""
    at = [(Fraction(0), Fraction(0)), (Fraction(4), Fraction(0)), (Fraction(0), Fraction(3))]
    at.append((Fraction(36, 25), Fraction(48, 25)))
    premises = [("perp", 0, 1, 0, 2), ("perp", 0, 3, 1, 2), ("coll", 1, 2, 3)]
    similar = ("eqangle", 0, 1, 1, 2, 0, 2, 0, 3)
    similar = similar if holds(similar, at) else ("eqangle", 0, 1, 1, 2, 0, 3, 0, 2)
    assert holds(similar, at)
    assert min(spellings(similar)) not in ground(premises, at).facts


def test_what_is_refused():
    with pytest.raises(ValueError, match="could not be extended"):
        extended(random_scene(np.random.default_rng(0), 4), np.random.default_rng(0), tries=0)
