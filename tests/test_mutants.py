"""Mutants: the reviewed list of harmless ones is current, and `tools/mutate.py` kills what it should."""

import ast
import pathlib
import sys
import textwrap

import pytest

from trref import catalog
from trref.checks import mutants

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import mutate  # noqa: E402

REVIEWED = mutate.excuses()


def _texts(name):
    """The texts of the mutants of a catalogued function, or of another function, named by its place."""
    return mutants.texts(name) if name.count(".") > 1 else [m.text for m in mutants.mutants(catalog.find(name))]


def test_every_excuse_has_a_reason_and_stands_in_the_file_of_its_module():
    for file in mutate.EQUIVALENT.glob("*.json"):
        found = mutate.excuses(file.stem)
        assert found and {name.rpartition(".")[0] for name in found} == {file.stem}
        assert all(reason.strip() for texts in found.values() for reason in texts.values())


@pytest.mark.parametrize("name", sorted(REVIEWED))
def test_no_excuse_is_stale(name):
    made = set(_texts(name))
    stale = [text for text in REVIEWED[name] if text not in made]
    assert not stale, f"no mutant of {name} reads so any more: {stale}"


@pytest.mark.parametrize("name", ["ppo.clipped_surrogate", "gae.gae"])
def test_no_mutant_survives(name):
    number, alive = mutate.survivors(name)
    assert number > 20 and not alive


def test_a_function_is_no_mutant_of_itself():
    record = catalog.find("adam.update")
    judge = mutate.Judge(record)
    assert not judge.killed(record.f)


def test_what_cannot_reach_a_solution_is_not_changed():
    made = [text for text in _texts("cg.cg") if not text.startswith("finish:")]
    assert any("alpha" in text for text in made)
    assert not any("converged" in text or "message" in text for text in made)


def _changed(source):
    (function,) = ast.parse(textwrap.dedent(source)).body
    return {text.partition("  ->  ")[2] for text, *_ in mutants.changed(function)}


def test_every_kind_of_change():
    assert _changed("def f(A, b):\n    return A.T @ b[::-1]") == {
        "return b[::-1] @ A.T",
        "return A @ b[::-1]",
        "return A.T @ b[:]",
        "return A.T @ b[::-2]",
    }
    assert _changed("def f(x, low):\n    return low <= x < 2") == {
        "return low >= x < 2",
        "return low <= x > 2",
        "return low <= x < 3",
    }
    assert _changed("def f(x, y):\n    x -= y\n    return x") == {"x += y"}
    assert "return xp.maximum(x, 0).mean(1)" in _changed("def f(x):\n    return xp.maximum(x, 0).sum(1)")


def test_a_signature_is_no_place():
    source = "def f(\n    x: Real[2, N + 1],\n    *,\n    clip: float = 0.2 * 3,\n) -> Real[N - 1]:\n    return x"
    assert not _changed(source)
    assert not _changed("def f(x):\n    def g(y, z=2 * 3):\n        return y\n    return g(x)")


def test_calls_are_followed_into_other_modules_and_stop_at_other_records():
    places = {m.function for m in mutants.mutants(catalog.find("lens.lens"))}
    assert {"tokens.lens.lens", "tokens.terms.clip_surrogate", "tokens.terms.seq_mean"} <= places
    assert "tokens.lens.lens_advantage" not in places


def test_branches_of_a_shared_function_that_a_caller_does_not_take_are_not_its_own():
    record = catalog.find("pspo.pspo")
    judge, shared = mutate.Judge(record), {}
    for mutant in mutants.mutants(record):
        if mutant.reached:
            shared.setdefault(mutant.statement, []).append(mutant)
    taken = {statement: judge.killed(some[0].reached()) for statement, some in shared.items()}
    assert set(taken.values()) == {True, False}
    assert not any(judge.killed(m.make()) for statement, some in shared.items() if not taken[statement] for m in some)


def test_a_product_of_vectors_has_nothing_to_exchange():
    (swapped,) = (m for m in mutants.mutants(catalog.find("cg.cg")) if m.text.endswith("curvature = float(Ap @ p)"))
    judge = mutate.Judge(catalog.find("cg.cg"))
    assert not judge.killed(swapped.make()) and not judge.killed(swapped.vectors())


def test_the_trial_that_a_reference_fails_is_named(monkeypatch):
    record = catalog.find("ppo.clip_fraction")
    monkeypatch.setattr(mutate.Judge, "_failure", lambda self, function, trial: f"{trial.label}: differs")
    with pytest.raises(RuntimeError, match=r"ppo.clip_fraction does not conform to itself: default, size 4, seed 0"):
        mutate.Judge(record)


def test_cheap_trials_come_first():
    costs = [seconds for seconds, _ in mutate.Judge(catalog.find("cg.cg")).trials]
    assert costs == sorted(costs)
