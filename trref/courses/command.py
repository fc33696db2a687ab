"""The commands exercise, assign and grade, and verify with a level: their arguments, and what they print."""

import json
import pathlib
import sys

__all__ = ["add_commands", "verify_at_level"]

DONE, NOT_RIGHT, COULD_NOT_RUN = 0, 1, 2
STATUS = {"passed": DONE, "failed": NOT_RIGHT, "not allowed": NOT_RIGHT}


def add_commands(commands):
    """Add the commands to those of ``trref``."""
    command = commands.add_parser(
        "exercise", help="write starter files from the catalogue"
    )
    add = command.add_argument
    add("names", nargs="+", metavar="NAME", help="such as ppo.clipped_surrogate")
    add("-o", "--out", default=".", metavar="DIR", help="where the files go")
    _exercise_arguments(add)
    add("--notebook", action="store_true", help="a notebook in the place of a file")
    add(
        "--find-the-bug",
        action="store_true",
        help="a complete implementation with one mistake",
    )
    add(
        "--difficulty",
        default="medium",
        choices=("easy", "medium", "hard"),
        help="of the mistake",
    )
    add("--seed", type=int, default=0, help="of the mistake")
    add("--check", metavar="FILE", help="has this file the mistake repaired?")
    command.set_defaults(run=_exercise)


def _exercise_arguments(add):
    add("--framework", default="numpy", choices=("numpy", "torch", "jax"))
    add(
        "--level",
        type=int,
        default=2,
        choices=(1, 2, 3),
        help="1: the value; 2: the gradient; 3: hard cases, errors",
    )


def _could_not_run(error):
    print(f"COULD NOT RUN: {error}", file=sys.stderr)
    return COULD_NOT_RUN


def _exercise(options):
    from trref.courses import starter
    from trref.courses.exercise import Exercise

    try:
        for name in options.names:
            exercise = Exercise(name, options.level, options.framework)
            for path in starter.write(exercise, pathlib.Path(options.out)):
                print(path)
    except (ValueError, OSError) as error:
        return _could_not_run(error)
    return DONE


def verify_at_level(options):
    """``trref verify NAME FILE:FUNCTION --level K``: the stages of an exercise, as `grade` asks them."""
    from trref.courses import report
    from trref.courses.exercise import Exercise
    from trref.courses.judge import judge

    place, _, function = options.implementation.rpartition(":")
    framework = "numpy" if options.framework == "auto" else options.framework
    try:
        exercise = Exercise(options.name, options.level, framework)
        source = pathlib.Path(place or options.implementation).read_text(
            encoding="utf-8"
        )
    except (ValueError, OSError) as error:
        return _could_not_run(error)
    if function != exercise.function:
        return _could_not_run(
            f"the function is called {exercise.function}, not {function!r}"
        )
    result = judge(exercise, source, file=pathlib.Path(place).name).as_dict()
    print(report.as_text(result))
    if options.json:
        pathlib.Path(options.json).write_text(
            json.dumps(result, indent=1), encoding="utf-8"
        )
    return STATUS.get(result["status"], COULD_NOT_RUN)
