"""Exercises, assignments and grading, from the records of the catalogue alone.

=================== ==============================================================================
`Exercise`          a function to write: its level, its framework, its points
`assert_solved`     what a notebook's test cells ask
`assert_worked`     the visible example, where no literal test can be written
`judge`             the marks of a submission, stage by stage
=================== ==============================================================================
"""

import importlib

__all__ = ["Exercise", "assert_solved", "assert_worked", "judge"]

PLACES = {
    "Exercise": "exercise",
    "assert_solved": "solved",
    "assert_worked": "solved",
    "judge": "judge",
}


def __getattr__(name):
    if name in PLACES:
        return getattr(importlib.import_module(f"trref.courses.{PLACES[name]}"), name)
    raise AttributeError(f"module 'trref.courses' has no attribute {name!r}")
