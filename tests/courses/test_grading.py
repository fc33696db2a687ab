"""A planted class: thirty students, five exercises, graded exactly as planned, twice, and on a cluster."""

import csv
import functools
import json
import shutil

import pytest

from tests.courses.test_judge import ADAM, CG, COSTLY, NOT_ALLOWED, PPO, QR, SLIPS
from trref import cli
from trref.courses import grading, handout
from trref.courses.assignment import Assignment, load, parse, save
from trref.courses.exercise import Exercise
from trref.courses.judge import Limits

QUICK = Limits(call=4.0, explain=0.0)
GAE = """
import numpy as np


def gae(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    A, last = np.zeros_like(reward), 0.0
    for t in range(len(reward))[::-1]:
        delta = reward[t] + gamma * (1 - terminated[t]) * next_value[t] - value[t]
        last = delta + gamma * lam * (1 - np.maximum(terminated[t], truncated[t])) * last
        A[t] = last
    return A
"""
EXERCISES = tuple(
    parse(text) for text in ("ppo.clipped_surrogate", "gae.gae:1", "cg.cg", "stiefel.retract_qr", "adam.update")
)
RIGHT = dict(zip((e.stem for e in EXERCISES), (PPO, GAE, CG, QR, ADAM), strict=True))
FULL = {e.stem: sum(e.worth.values()) for e in EXERCISES}
PPO_, GAE_, CG_, QR_, ADAM_ = RIGHT


def planned():
    """Student -> (files, what is not full marks: stem -> (status, score))."""
    every = {}

    def add(name, changes, wanted):
        every[name] = {**RIGHT, **changes}, wanted

    for i in range(5):
        add(f"right {i}", {}, {})
    add("only ppo", {s: None for s in RIGHT if s != PPO_}, {s: ("missing", 0.0) for s in RIGHT if s != PPO_})
    add("nothing", dict.fromkeys(RIGHT), {s: ("missing", 0.0) for s in RIGHT})
    untouched = {e.stem: handout.files(e)[f"{e.stem}.py"] for e in EXERCISES}
    add("not started", untouched, {s: ("not started", 0.0) for s in RIGHT})
    marks = {"max for min": 3.0, "no gradient outside, on both sides": 4.0, "no ratio in the gradient": 4.0}
    marks |= {"the gradient's sign": 4.0, "a known deviation": 0.0, "a constant factor": 0.0}
    for slip, score in marks.items():
        add(slip, {PPO_: SLIPS[slip][0]}, {PPO_: ("failed", score)})
    alone = PPO.replace(", -np.where(u <= c, u, 0) / n", "")
    add("value alone", {PPO_: alone}, {PPO_: ("failed", 4.0)})
    cut = GAE.replace("(1 - np.maximum(terminated[t], truncated[t]))", "(1 - terminated[t])")
    # with lambda = 0, one of five settings, nothing is carried over a truncation
    add("across a truncation", {GAE_: cut}, {GAE_: ("failed", 0.8)})
    plain = (
        CG.replace("*, x0=None, preconditioner=None, rtol", "rtol").replace("x0 is None", "True").replace("x0.", "b.")
    )
    add("no start", {CG_: plain.replace("preconditioner or ", "")}, {CG_: ("failed", 0.0)})
    add("r r for r z", {CG_: CG.replace("(r @ z) / rz * p", "(r @ r) / rz * p")}, {CG_: ("failed", 0.0)})
    add("no signs", {QR_: QR.replace("return q * np", "return q; np")}, {QR_: ("failed", 3.0)})
    add("half a derivative", {QR_: QR.replace(" + A - q @ B", "")}, {QR_: ("failed", 4.0)})
    add("no derivative", {QR_: QR.partition("\n\n\ndef retract_qr_jvp")[0] + "\n"}, {QR_: ("failed", 4.0)})
    add("no correction", {ADAM_: ADAM.replace("a / (1 - beta1**t)", "a")}, {ADAM_: ("failed", 0.8)})
    for how in ("imports", "climbs frames", "forks", "imports in disguise"):
        add(how, {PPO_: NOT_ALLOWED[how]}, {PPO_: ("not allowed", 0.0)})
    for how in ("loops", "exits", "takes all memory"):
        add(how, {PPO_: COSTLY[how]}, {PPO_: ("failed", 0.0)})
    add("cannot be read", {PPO_: COSTLY["cannot be read"]}, {PPO_: ("could not run", 0.0)})
    return every


PLANNED = planned()


@pytest.fixture
def handed_in(tmp_path):
    root = tmp_path / "handed in"
    for student, (files, _) in PLANNED.items():
        (root / student).mkdir(parents=True)
        for stem, source in files.items():
            if source is not None:
                (root / student / f"{stem}.py").write_text(source, encoding="utf-8")
    return root


def graded(assignment, folder, out, **options):
    return grading.grade(assignment, folder, out, limits=QUICK, **options)


def as_planned(grades):
    wrong = {}
    for student, (_, wanted) in PLANNED.items():
        for stem, full in FULL.items():
            found = grades["students"][student]["exercises"][stem]
            state = found["status"], found["score"]
            if state != wanted.get(stem, ("passed", full)):
                wrong[student, stem] = state, wanted.get(stem), found["first"], found["notes"]
    return wrong


def marks(grades):
    """Status and points by stage; words may tell of one and the same end in two ways."""
    return {
        (student, stem): (r["status"], r["score"], {k: s["groups"] for k, s in r["stages"].items()})
        for student, grade in grades["students"].items()
        for stem, r in grade["exercises"].items()
    }


def test_thirty_students_are_graded_as_planned_twice(handed_in, tmp_path):
    assert len(PLANNED) == 30
    assignment = Assignment("Week 3", EXERCISES)
    first = graded(assignment, handed_in, tmp_path / "a", jobs=2)
    assert not as_planned(first)
    second = graded(assignment, handed_in, tmp_path / "b")
    assert (tmp_path / "a" / "grades.csv").read_bytes() == (tmp_path / "b" / "grades.csv").read_bytes()
    assert marks(first) == marks(second)
    with open(tmp_path / "a" / "grades.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30 and rows[0].keys() >= {"student", "score", "of", "cg", "cg status"}
    assert sum(float(r["score"]) == sum(FULL.values()) for r in rows) == 5
    for student in PLANNED:
        own = json.loads((tmp_path / "a" / student / "results.json").read_text(encoding="utf-8"))
        assert own["score"] == first["students"][student]["score"]
        assert own["score"] == pytest.approx(sum(t["score"] for t in own["tests"]))
        page = (tmp_path / "a" / student / "feedback.html").read_text(encoding="utf-8")
        assert "xp." not in page and "# eq." not in page  # no line of the reference
    view = (tmp_path / "a" / "class.html").read_text(encoding="utf-8")
    assert "what failed first" in view and "not allowed" in view


def test_on_a_cluster_of_two_workers(handed_in, tmp_path):
    distributed = pytest.importorskip("distributed")
    few = ("right 0", "max for min", "imports in disguise", "no correction", "exits")
    for student in set(PLANNED) - set(few):
        shutil.rmtree(handed_in / student)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        found = graded(
            Assignment("Week 3", EXERCISES),
            handed_in,
            tmp_path / "cluster",
            backend="dask",
            scheduler=cluster.scheduler_address,
        )
    here = graded(Assignment("Week 3", EXERCISES), handed_in, tmp_path / "here")
    assert marks(found) == marks(here) and set(found["students"]) == set(few)


def small(tmp_path, source=PPO, student="ada", **options):
    folder = tmp_path / "in" / student
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ppo_clipped_surrogate.py").write_text(source, encoding="utf-8")
    assignment = Assignment("One", EXERCISES[:1], **options)
    return functools.partial(graded, assignment, tmp_path / "in", tmp_path / "out")


def counted(monkeypatch):
    calls, judge = [], grading.judge
    monkeypatch.setattr(grading, "judge", lambda *a, **k: calls.append(1) or judge(*a, **k))
    return calls


def test_grading_is_resumed_and_a_fix_of_the_reference_grades_again(tmp_path, monkeypatch):
    calls, run = counted(monkeypatch), small(tmp_path)
    first = run(backend="threading")
    assert run(backend="threading") == first and len(calls) == 1
    run(backend="threading", again=True)
    monkeypatch.setattr(grading, "_reference", lambda name: "another release of the reference")
    assert run(backend="threading") == first and len(calls) == 3


def test_hints_come_one_a_try(tmp_path):
    wrong = PPO.replace("np.minimum", "np.maximum")
    for number in range(1, 5):
        small(tmp_path, f"{wrong}# try {number}\n")(backend="threading")
        page = (tmp_path / "out" / "ada" / "feedback.html").read_text(encoding="utf-8")
        shown = min(number, 3)
        assert f"Hint {shown}." in page and f"Hint {shown + 1}." not in page


def test_the_mark_counts_the_last_of_the_attempts(tmp_path):
    wrong = PPO.replace("np.minimum", "np.maximum")
    for source, score in ((wrong, 3.0), (wrong + "\n", 3.0), (PPO, 3.0)):
        grades = small(tmp_path, source, attempts=2)(backend="threading")
        assert grades["students"]["ada"]["score"] == score
    assert small(tmp_path, PPO)(backend="threading")["students"]["ada"]["score"] == 7.0


def test_a_notebook_is_a_submission_without_its_magics_and_checks(tmp_path):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "text"},
        {"cell_type": "code", "metadata": {}, "source": "%pip install trref\n!ls\n%load_ext trref"},
        {"cell_type": "code", "metadata": {"nbgrader": {"locked": True}}, "source": "import trref"},
        {"cell_type": "code", "metadata": {}, "source": ["%%verify ppo.clipped_surrogate\n", PPO]},
        {"cell_type": "code", "metadata": {}, "source": "%%bash\nrm -rf nothing"},
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    (tmp_path / "in" / "bob.ipynb").write_text("no notebook", encoding="utf-8")
    grades = graded(Assignment("One", EXERCISES[:1]), tmp_path / "in", tmp_path / "out", backend="threading")
    assert grades["students"]["ada"]["score"] == 7.0
    assert grades["students"]["bob"]["exercises"][PPO_]["status"] == "missing"
    assert "cannot be read" in grades["students"]["bob"]["exercises"][PPO_]["notes"][0]


def test_assignments_are_made_from_flags_and_are_the_same_again(tmp_path, capsys):
    flags = ["--exercise", "gae:3", "--exercise", "cg.cg", "--points", "value=5,gradient=5", "--seed", "7"]
    for place in ("a", "b"):
        file = str(tmp_path / f"{place}.json")
        assert cli.main(["assign", file, *flags, "--attempts", "3", "-o", str(tmp_path / place)]) == 0
    texts = [
        sorted((p.relative_to(tmp_path / d), p.read_bytes()) for p in (tmp_path / d).rglob("*") if p.is_file())
        for d in "ab"
    ]
    assert texts[0] == texts[1] and (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert {str(p) for p, _ in texts[0]} >= {"student/gae.py", "student/test_cg.py", "teacher/assignment.json"}
    assignment = load(tmp_path / "a.json")
    assert assignment.attempts == 3 and assignment.seeds("ada") == (14, 15) == assignment.seeds("bob")
    assert assignment.of == 5 + 5 + 5
    assert cli.main(["assign", str(tmp_path / "a.json"), *flags]) == 2  # not written over
    for wrong in ("no.such", "gae:9", "gae:2:fortran", "gae:x"):
        assert cli.main(["assign", str(tmp_path / "c.json"), "--exercise", wrong]) == 2
    assert not (tmp_path / "c.json").exists()
    capsys.readouterr()


def test_other_examples_a_student_and_another_release(tmp_path):
    assignment = Assignment("One", EXERCISES[:1], seed=3, per_student=True)
    assert assignment.seeds("ada") != assignment.seeds("bob") and assignment.seeds("ada") == assignment.seeds("ada")
    save(Assignment("One", EXERCISES[:1], release="0.0.1"), tmp_path / "old.json")
    with pytest.raises(ValueError, match="release"):
        load(tmp_path / "old.json")
    assert load(tmp_path / "old.json", any_release=True).release == "0.0.1"
    with pytest.raises(ValueError, match="twice"):
        Assignment("Two", (Exercise("cg.cg", 1), Exercise("cg.cg", 2)))


def test_the_command_grades(tmp_path, capsys):
    small(tmp_path)
    save(Assignment("One", EXERCISES[:1]), tmp_path / "one.json")
    arguments = ["grade", str(tmp_path / "in"), "--assignment", str(tmp_path / "one.json"), "-o", str(tmp_path / "g")]
    assert cli.main([*arguments, "--backend", "threading"]) == 0
    assert "7.00 of 7" in capsys.readouterr().out
    assert cli.main(["grade", str(tmp_path / "nowhere"), *arguments[2:]]) == 2
    (tmp_path / "one.json").write_text("{", encoding="utf-8")
    assert cli.main(arguments) == 2 and "no assignment" in capsys.readouterr().err
