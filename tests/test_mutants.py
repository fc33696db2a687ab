"""Mutants: the reviewed list of harmless ones is current, and `tools/mutate.py` kills what it should."""

import json
import pathlib
import sys

import pytest

from trref import catalog

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
REVIEWED = json.loads((ROOT / "tools" / "equivalent_mutants.json").read_text(encoding="utf-8"))


def test_every_excuse_has_a_reason_and_a_function():
    assert set(REVIEWED) <= {record.name for record in catalog.records()}
    assert all(REVIEWED.values())
    assert all(reason.strip() for texts in REVIEWED.values() for reason in texts.values())


@pytest.mark.parametrize("name", sorted(REVIEWED))
def test_no_excuse_is_stale(name):
    import mutate

    made = set(mutate.texts(catalog.find(name)))
    stale = [text for text in REVIEWED[name] if text not in made]
    assert not stale, f"no mutant of {name} reads so any more: {stale}"


@pytest.mark.parametrize("name", ["ppo.clipped_surrogate", "gae.gae"])
def test_no_mutant_survives(name):
    import mutate

    _, number, alive = mutate.survivors(name)
    assert number > 20 and not alive


def test_a_function_is_no_mutant_of_itself():
    import mutate

    record = catalog.find("adam.update")
    judge = mutate.Judge(record)
    assert not judge.killed(record.f)


def test_what_cannot_reach_a_solution_is_not_changed():
    import mutate

    made = [text for text in mutate.texts(catalog.find("cg.cg")) if not text.startswith("finish:")]
    assert any("alpha" in text for text in made)
    assert not any("converged" in text or "message" in text for text in made)
