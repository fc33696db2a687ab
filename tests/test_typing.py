"""What basedpyright makes of signatures: in method modules, and in calls, right and wrong ones."""

import collections
import json
import pathlib
import re
import runpy
import subprocess
import sys

import pytest

pytest.importorskip("basedpyright")

ROOT = pathlib.Path(__file__).resolve().parents[1]
CALLS = ROOT / "tests" / "typing"


def _modules():
    """The method modules whose functions say what they take."""
    families = [folder.name for folder in ROOT.glob("trref/catalog/*/") if folder.name.isidentifier()]
    modules = [path for name in sorted(families) for path in sorted(ROOT.glob(f"trref/{name}/*.py"))]
    return [path for path in modules if "from trref.signature import" in path.read_text(encoding="utf-8")]


def _found(*paths):
    """What basedpyright finds, each with its line, by file and in the order of lines."""
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson", *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(paths)
    return report["generalDiagnostics"]


def _lines(diagnostics):
    return [f"{d['file']}:{d['range']['start']['line'] + 1}: {d['message']}" for d in diagnostics]


def test_method_modules():
    modules = _modules()
    assert len(modules) > 10 and _lines(_found(*modules)) == []


def test_right_calls(capsys):
    assert _lines(_found(CALLS / "user_calls.py")) == []
    runpy.run_path(str(CALLS / "user_calls.py"))


def test_wrong_calls():
    path = CALLS / "wrong_calls.py"
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    marked = {number: set(re.findall(r"report\w+", line)) for number, line in lines if "  # report" in line}
    found = collections.defaultdict(set)
    for each in _found(path):
        found[each["range"]["start"]["line"] + 1].add(each["rule"])
    assert len(marked) > 10 and found == marked
