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
    add(
        "--deviation",
        metavar="NAME",
        help="a deviation on record in the place of a chance mistake",
    )
    add("--check", metavar="FILE", help="has this file the mistake repaired?")
    command.set_defaults(run=_exercise)

    command = commands.add_parser(
        "assign",
        help="make an assignment: its file, the student's folder, the teacher's",
    )
    add = command.add_argument
    add(
        "file",
        help="the assignment, JSON; written where exercises are named, read otherwise",
    )
    many = {"action": "append", "default": []}
    add(
        "--exercise",
        **many,
        metavar="NAME[:LEVEL[:FRAMEWORK]]",
        help="a function to write, such as gae.gae:3",
    )
    add("--bug", **many, metavar="NAME[:DIFFICULTY]", help="a mistake to find")
    add(
        "--points",
        default="",
        metavar="STAGE=N,…",
        help="of value, gradient, hard, errors (4, 3, 2, 1)",
    )
    add("--title", default="Assignment")
    add("--seed", type=int, default=0, help="of the examples and of the mistakes")
    add(
        "--attempts",
        type=int,
        default=0,
        help="how many submissions may count; 0: any number",
    )
    add("--per-student", action="store_true", help="ask everyone other examples")
    add("--notebook", action="store_true", help="hand out notebooks")
    add(
        "-o",
        "--out",
        metavar="DIR",
        help="where the two folders go; nowhere by default",
    )
    command.set_defaults(run=_assign)

    command = commands.add_parser("grade", help="grade a folder of submissions")
    add = command.add_argument
    add(
        "submissions",
        help="a folder with a folder a student, or with files or notebooks",
    )
    add("--assignment", required=True, metavar="FILE")
    add(
        "-o",
        "--out",
        default="grades",
        metavar="DIR",
        help="where marks and feedback go",
    )
    add("--jobs", type=int, default=1, help="how many at once")
    add(
        "--backend",
        default="loky",
        choices=("loky", "threading", "dask", "ray", "spark"),
        help="of joblib",
    )
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster")
    add("--limit", type=float, default=5.0, metavar="SECONDS", help="of one call")
    add(
        "--total", type=float, default=60.0, metavar="SECONDS", help="of one submission"
    )
    add("--memory", type=float, default=2.0, metavar="GB", help="of one submission")
    add(
        "--explain",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="spent on explaining one; 0: none",
    )
    add("--again", action="store_true", help="grade everything anew")
    add(
        "--any-release",
        action="store_true",
        help="also with another release of trref than the assignment's",
    )
    command.set_defaults(run=_grade)


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
    from trref.courses import handout
    from trref.courses.exercise import Exercise

    bug = None
    if options.find_the_bug:
        bug = {"difficulty": options.difficulty, "seed": options.seed}
        bug |= {"deviation": options.deviation} if options.deviation else {}
    try:
        for name in options.names:
            exercise = Exercise(
                name, 3 if bug else options.level, options.framework, bug=bug
            )
            if options.check:
                return _checked(exercise, options.check)
            for path in handout.write(
                exercise, pathlib.Path(options.out), notebook=options.notebook
            ):
                print(path)
    except (ValueError, OSError) as error:
        return _could_not_run(error)
    return DONE


def _checked(exercise, file, json_file=None):
    """Judge one file, print what a student reads, return the exit status."""
    from trref.courses import report
    from trref.courses.judge import judge

    path = pathlib.Path(file)
    result = judge(exercise, path.read_text(encoding="utf-8"), file=path.name).as_dict()
    print(report.as_text(result))
    if json_file:
        pathlib.Path(json_file).write_text(
            json.dumps(result, indent=1), encoding="utf-8"
        )
    return STATUS.get(result["status"], COULD_NOT_RUN)


def _assign(options):
    from trref.courses import assignment as assignments
    from trref.courses.exercise import Exercise

    try:
        path = pathlib.Path(options.file)
        points = {
            k: float(v)
            for k, _, v in (p.partition("=") for p in options.points.split(",") if p)
        }
        exercises = [assignments.parse(text, points) for text in options.exercise]
        for text in options.bug:
            name, _, difficulty = text.partition(":")
            bug = {"difficulty": difficulty or "medium", "seed": options.seed}
            exercises.append(Exercise(name, 3, bug=bug))
        if not exercises:
            assignment = assignments.load(path)
        elif path.exists():
            return _could_not_run(f"{path} is there already, and not written over")
        else:
            assignment = assignments.Assignment(
                options.title,
                tuple(exercises),
                seed=options.seed,
                attempts=options.attempts,
                per_student=options.per_student,
                notebook=options.notebook,
            )
            assignments.save(assignment, path)
            print(path)
        for written in (
            assignments.write_folders(assignment, options.out) if options.out else ()
        ):
            print(written)
    except (ValueError, OSError) as error:
        return _could_not_run(error)
    return DONE


def _grade(options):
    from trref.courses import assignment as assignments
    from trref.courses.grading import grade
    from trref.courses.judge import Limits

    try:
        assignment = assignments.load(
            options.assignment, any_release=options.any_release
        )
        limits = Limits(
            options.limit, options.total, int(options.memory * 2**30), options.explain
        )
        grades = grade(
            assignment,
            options.submissions,
            options.out,
            jobs=options.jobs,
            backend=options.backend,
            scheduler=options.scheduler,
            limits=limits,
            again=options.again,
            progress=_bar,
        )
    except ModuleNotFoundError as error:
        return _could_not_run(
            f"{error.name} is not installed; it comes with: pip install 'trref[courses]'"
        )
    except (ValueError, OSError) as error:
        return _could_not_run(error)
    for student, grade_ in grades["students"].items():
        states = ", ".join(
            f"{stem}: {r['status']}" for stem, r in grade_["exercises"].items()
        )
        print(f"{student:24} {grade_['score']:6.2f} of {grade_['of']:g}  {states}")
    print(
        f"{len(grades['students'])} students; {options.out}: grades.csv, grades.json, class.html, a folder a student"
    )
    return DONE


def _bar(results, total):
    """A progress bar on a terminal."""
    from tqdm import tqdm

    return tqdm(results, total=total, unit="submission", disable=None)


def verify_at_level(options):
    """``trref verify NAME FILE:FUNCTION --level K``: the stages of an exercise, as `grade` asks them."""
    from trref.courses.exercise import Exercise

    place, _, function = options.implementation.rpartition(":")
    framework = "numpy" if options.framework == "auto" else options.framework
    try:
        exercise = Exercise(options.name, options.level, framework)
        if function != exercise.function:
            return _could_not_run(
                f"the function is called {exercise.function}, not {function!r}"
            )
        return _checked(exercise, place, options.json)
    except (ValueError, OSError) as error:
        return _could_not_run(error)
