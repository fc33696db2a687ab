"""An exercise as a notebook, with nbgrader's tags: points, visible and hidden tests, texts that a person grades."""

import json

from trref import catalog
from trref.courses import starter
from trref.courses.exercise import STAGES, questions
from trref.courses.plain import prose
from trref.courses.worked import test_code

__all__ = ["notebook", "text"]

HIDDEN = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
INSTALL = """# Run this once, if `import trref` fails below.
import importlib.util

if importlib.util.find_spec("trref") is None:
    %pip install --quiet trref"""


def notebook(exercise):
    """Return the notebook of an exercise as JSON's values, of format 4.5."""
    stem = exercise.stem.replace("_", "-")
    cells = [
        _text(f"{stem}-page", starter.introduction(exercise, markdown=True)),
        _code(f"{stem}-install", INSTALL),
    ]
    solution = starter.code(exercise).rstrip()
    cells.append(
        _code(f"{stem}-solution", solution, _rules(f"{stem}-solution", solution=True))
    )
    points = exercise.worth
    visible = "The worked example, which you can follow by hand:"
    cells.append(_text(f"{stem}-worked-text", visible))
    cells.append(
        _code(
            f"{stem}-worked",
            test_code(exercise, imported=False).rstrip(),
            _rules(f"{stem}-worked", grade=True),
        )
    )
    for stage in STAGES:
        if stage in points:
            name = f"{stem}-{stage}"
            cells.append(
                _code(
                    name,
                    _hidden(exercise, stage),
                    _rules(name, grade=True, points=points[stage]),
                )
            )
    for number, question in enumerate(questions(exercise.record), start=1):
        name = f"{stem}-question-{number}"
        cells.append(_text(f"{name}-text", f"**Question {number}.** {prose(question)}"))
        cells.append(
            _text(
                name, "*Your answer*", _rules(name, grade=True, solution=True, points=1)
            )
        )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def text(exercise):
    """Return the notebook as the text of its file."""
    return json.dumps(notebook(exercise), indent=1, ensure_ascii=False) + "\n"


def _hidden(exercise, stage):
    record, f = exercise.record, exercise.function
    framework = (
        f', framework="{exercise.framework}"' if exercise.framework != "numpy" else ""
    )
    call = f'assert_solved("{exercise.name}", {f}, level={exercise.level}{framework}, stage="{stage}")'
    what = {
        "value": "the value",
        "gradient": "the gradient",
        "hard": "the hard cases",
        "errors": "the errors",
    }[stage]
    if isinstance(record, catalog.Solver) and stage == "gradient":
        what = "the iterates"
    lines = [
        f"# Tests of {what}.",
        HIDDEN[0],
        "from trref.courses import assert_solved",
        "",
        call,
        HIDDEN[1],
    ]
    return "\n".join(lines)


def _rules(name, *, grade=False, solution=False, points=0):
    """nbgrader's metadata of a cell."""
    rules = {
        "grade": grade,
        "grade_id": name,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
    }
    return {
        "nbgrader": {**rules, "task": False, **({"points": points} if grade else {})}
    }


def _text(name, source, metadata=None):
    return _cell("markdown", name, source, metadata or {})


def _code(name, source, metadata=None):
    return {
        **_cell("code", name, source, metadata or {}),
        "execution_count": None,
        "outputs": [],
    }


def _cell(kind, name, source, metadata):
    return {
        "cell_type": kind,
        "id": name[:64],
        "metadata": metadata,
        "source": source.splitlines(keepends=True),
    }
