"""Which tutorials a build runs again."""

import json
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import _tutorials  # noqa: E402


def test_a_tutorial_depends_on_what_it_imports_and_on_what_that_imports():
    files = {str(p.relative_to(ROOT)) for p in _tutorials.needed(ROOT / "tutorials" / "tokens" / "plot_gspo.py")}
    assert {"trref/tokens/gspo.py", "trref/tokens/terms.py", "trref/signature.py", "trref/backend.py"} <= files
    assert "trref/krylov/cg.py" not in files


def test_a_tutorial_that_asks_the_catalogue_depends_on_everything(tmp_path):
    script = tmp_path / "plot_a.py"
    script.write_text("from trref import catalog\n")
    assert set(_tutorials.needed(script)) == set((ROOT / "trref").rglob("*.py"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two tutorials that have run, and whose states are set by the test."""
    monkeypatch.setattr(_tutorials, "PAGES", tmp_path / "pages")
    monkeypatch.setattr(_tutorials, "KEPT", tmp_path / "build" / "tutorials.json")
    (tmp_path / "pages" / "tokens").mkdir(parents=True)
    for name in "ab":
        (tmp_path / "pages" / "tokens" / f"plot_{name}.py.md5").write_text("")
    return tmp_path / "pages" / "tokens"


def test_what_has_changed_runs_again_and_nothing_else(folder, monkeypatch):
    before = {"tokens/plot_a": "1", "tokens/plot_b": "1"}
    _tutorials.keep(before)
    assert json.loads(_tutorials.KEPT.read_text()) == before
    monkeypatch.setattr(_tutorials, "states", lambda: {**before, "tokens/plot_b": "2"})
    _tutorials.prepare()
    assert (folder / "plot_a.py.md5").is_file() and not (folder / "plot_b.py.md5").exists()
    _tutorials.keep({**before, "tokens/plot_b": "2"})  # the second one failed: its state stays unknown
    assert json.loads(_tutorials.KEPT.read_text()) == before


@pytest.mark.parametrize("everything", [True, False])
def test_everything_runs_when_asked_and_where_a_script_is_gone(folder, monkeypatch, everything):
    _tutorials.keep({"tokens/plot_a": "1", "tokens/plot_b": "1"})
    monkeypatch.setattr(
        _tutorials, "states", lambda: dict.fromkeys(["tokens/plot_a", "tokens/plot_b"][: 1 + everything], "1")
    )
    _tutorials.prepare(everything)
    assert not folder.exists() and not _tutorials.KEPT.exists()
