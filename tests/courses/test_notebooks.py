"""Notebooks of exercises: executed with a right and a wrong solution, and graded by nbgrader."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.courses.test_judge import PPO
from trref import catalog, cli
from trref.courses.exercise import Exercise
from trref.courses.notebooks import notebook

nbformat = pytest.importorskip("nbformat")
EXERCISE = Exercise("ppo.clipped_surrogate", 2)


def solved(source):
    """The exercise's notebook with a solution in its cell."""
    found = notebook(EXERCISE)
    cell = next(
        c for c in found["cells"] if c["metadata"].get("nbgrader", {}).get("solution") and c["cell_type"] == "code"
    )
    cell["source"] = source
    return read(found)


def read(found):
    return nbformat.reads(json.dumps(found), as_version=4)


def executed(source):
    from nbclient import NotebookClient

    NotebookClient(solved(source), timeout=120, kernel_name="python3").execute()


def test_the_notebooks_of_a_few_kinds_are_valid():
    for name in ("ppo.total_objective", "cg.cg", "stiefel.retract_qr", "adam.update", "gae.gae"):
        for level in (1, 3):
            found = notebook(Exercise(name, level))
            nbformat.validate(read(found))
            rules = [c["metadata"]["nbgrader"] for c in found["cells"] if c["metadata"]]
            assert len({r["grade_id"] for r in rules}) == len(rules)
            assert sum(r.get("points", 0) for r in rules) == sum(Exercise(name, level).worth.values()) + 2
            for cell in found["cells"]:
                if cell["cell_type"] == "code" and "%pip" not in "".join(cell["source"]):
                    compile("".join(cell["source"]), cell["id"], "exec")


def test_a_right_solution_runs_through_and_a_wrong_one_does_not():
    from nbclient.exceptions import CellExecutionError

    executed(PPO)
    with pytest.raises(CellExecutionError, match="AssertionError"):
        executed(PPO.replace("np.minimum", "np.maximum"))
    with pytest.raises(CellExecutionError, match="NotImplementedError"):
        executed("def clipped_surrogate(*a, **k):\n    raise NotImplementedError\n")


def test_the_command_writes_notebooks(tmp_path):
    assert cli.main(["exercise", "gae.gae", "--notebook", "-o", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gae.ipynb").read_text(encoding="utf-8"))
    text = "".join(found["cells"][0]["source"])
    assert "$$" in text and "gae-residual" in text and ":math:" not in text


@pytest.fixture
def shell():
    ipython = pytest.importorskip("IPython.core.interactiveshell")
    found = ipython.InteractiveShell()
    found.run_line_magic("load_ext", "trref")
    yield found
    ipython.InteractiveShell.clear_instance()


def test_the_magics_verify_a_cell(shell):
    found = shell.run_cell_magic("verify", "ppo.clipped_surrogate --level 2", PPO)
    assert "PASSED" in repr(found) and "passed" in found._repr_html_()
    wrong = shell.run_cell_magic("verify", "ppo.clipped_surrogate --level 2", PPO.replace("np.minimum", "np.maximum"))
    assert "FAILED" in repr(wrong) and "the maximum" in wrong._repr_html_()
    plain = shell.run_cell_magic("verify", "ppo.clipped_surrogate", PPO)
    assert plain.status == "conforms"
    for line in ("", "no.such", "cg.cg --level 7"):
        with pytest.raises(ValueError):
            shell.run_cell_magic("verify", line, PPO)
    with pytest.raises(ValueError, match="no function"):
        shell.run_cell_magic("verify", "cg.cg", "x = 1")


def test_the_magics_write_a_starter(shell, monkeypatch):
    written = []
    monkeypatch.setattr(shell, "set_next_input", lambda text, **_: written.append(text))
    shell.run_line_magic("exercise", "cg.cg --level 3")
    assert written[0].startswith("%%verify cg.cg --level 3\n") and "NotImplementedError" in written[0]


def test_nbgrader_grades_it(tmp_path):
    """One run of ``nbgrader autograde``: points for the value, none for a gradient that is missing."""
    pytest.importorskip("nbgrader")
    source, release = tmp_path / "source" / "week3", tmp_path / "submitted" / "ada" / "week3"
    source.mkdir(parents=True)
    release.mkdir(parents=True)
    name = f"{EXERCISE.stem}.ipynb"
    nbformat.write(read(notebook(EXERCISE)), source / name)
    nbformat.write(solved(PPO.replace("np.where(u <= c, u, 0)", "np.where(u <= c, r, 0)")), release / name)
    environment = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"JUPYTER_CONFIG_DIR": str(tmp_path / "jupyter"), "IPYTHONDIR": str(tmp_path / "ipython")}
    steps = (
        "from nbgrader.apps import NbGraderAPI\nfrom traitlets.config import Config\n"
        f"api = NbGraderAPI(config=Config({{'CourseDirectory': {{'root': {str(tmp_path)!r}, 'course_id': 'x'}}}}))\n"
        "for done in (api.generate_assignment('week3'), api.autograde('week3', 'ada')):\n"
        "    assert done['success'], done\n"
    )
    command = [sys.executable, "-c", steps]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    handed = (tmp_path / "release" / "week3" / name).read_text(encoding="utf-8")
    assert "HIDDEN TESTS" not in handed and "assert_solved" not in handed and "NotImplementedError" in handed
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        graded = book.find_submission_notebook(EXERCISE.stem, "week3", "ada")
        scores = {g.name: g.auto_score for g in graded.grades}
    stem = EXERCISE.stem.replace("_", "-")
    assert scores[f"{stem}-value"] == 4 and scores[f"{stem}-gradient"] == 0
    assert catalog.find(EXERCISE.name).deviations  # of which its first question speaks
