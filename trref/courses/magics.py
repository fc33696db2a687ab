"""``%load_ext trref``: ``%%verify NAME`` judges the function of a cell, ``%exercise NAME`` writes a starter cell."""

import argparse
import contextlib
import inspect
import shlex

from trref import catalog
from trref.courses import report, starter
from trref.courses.exercise import Exercise
from trref.courses.judge import Limits, judge_function
from trref.courses.solved import functions_beside

__all__ = ["Shown", "load"]


class Shown:
    """A verdict that a notebook shows as text, and as a page's section."""

    def __init__(self, result):
        self.result = result

    def __repr__(self):
        return report.as_text(self.result)

    def _repr_html_(self):
        return report.as_html(self.result, len(self.result["hints"]))


def _options(line, name):
    parser = argparse.ArgumentParser(
        prog=f"%{name}", exit_on_error=False, add_help=False
    )
    parser.add_argument("name")
    parser.add_argument("--level", type=int)
    parser.add_argument(
        "--framework", default="numpy", choices=("numpy", "torch", "jax")
    )
    with contextlib.redirect_stderr(None):
        try:
            return parser.parse_args(shlex.split(line))
        except (argparse.ArgumentError, SystemExit) as error:
            usage = f"%{name} NAME [--level 1|2|3] [--framework numpy|torch|jax]"
            raise ValueError(f"expected {usage}, found {line!r}") from error


def load(shell):
    """Register the magics with IPython."""

    def verify(line, cell):
        """Run the cell, then compare its function with the catalogue's, as an exercise or as `trref verify` does."""
        options = _options(line, "verify")
        record, before = catalog.find(options.name), dict(shell.user_ns)
        shell.run_cell(cell).raise_error()
        new = {
            n: v
            for n, v in shell.user_ns.items()
            if inspect.isfunction(v) and before.get(n) is not v
        }
        function = new.get(record.f.__name__) or next(reversed(new.values()), None)
        if function is None:
            raise ValueError("the cell defines no function")
        if options.level is None:
            from trref.conformance import Options
            from trref.conformance import verify as compare

            return compare(record.name, function, Options(framework=options.framework))
        exercise = Exercise(record.name, options.level, options.framework)
        functions = {**functions_beside(function), exercise.function: function}
        return Shown(judge_function(exercise, functions, limits=Limits()).as_dict())

    def exercise(line):
        """Write the starter of an exercise into the next cell."""
        options = _options(line, "exercise")
        wanted = Exercise(options.name, options.level or 2, options.framework)
        framework = (
            f" --framework {wanted.framework}" if wanted.framework != "numpy" else ""
        )
        head = f"%%verify {wanted.name} --level {wanted.level}{framework}"
        shell.set_next_input(f"{head}\n{starter.code(wanted)}")

    shell.register_magic_function(verify, "cell", "verify")
    shell.register_magic_function(exercise, "line", "exercise")
