"""An assignment: exercises, points, attempts, a seed. The same seed gives the same assignment, on every machine."""

import dataclasses
import hashlib
import json
import pathlib

import trref
from trref.courses import bugs, handout, starter
from trref.courses.exercise import Exercise, asked, questions

__all__ = ["Assignment", "load", "parse", "save", "write_folders"]


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What is handed out and graded.

    Parameters
    ----------
    title : str
    exercises : tuple of Exercise
    seed : int
        Of the examples that submissions are asked, and of bugs.
    attempts : int
        The mark counts the last of so many different submissions; 0 for any number.
    per_student : bool
        Whether each student's submission is asked other examples.
    release : str
        The version of trref that grades it.
    notebook : bool
        Whether notebooks are handed out.
    """

    title: str
    exercises: tuple
    seed: int = 0
    attempts: int = 0
    per_student: bool = False
    release: str = trref.__version__
    notebook: bool = False

    def __post_init__(self):
        stems = [e.stem for e in self.exercises]
        if not stems:
            raise ValueError("an assignment has at least one exercise")
        if twice := {s for s in stems if stems.count(s) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))}: asked for twice")
        if not (
            isinstance(self.attempts, int)
            and self.attempts >= 0
            and isinstance(self.seed, int)
            and self.seed >= 0
        ):
            raise ValueError(
                "seed and attempts must be whole numbers that are not negative"
            )

    @property
    def of(self):
        return sum(sum(e.worth.values()) for e in self.exercises)

    def seeds(self, student):
        """The seeds of the examples that a student's submissions are asked."""
        first = self.seed
        if self.per_student:
            first = int(
                hashlib.sha256(f"{self.seed}:{student}".encode()).hexdigest()[:7], 16
            )
        return 2 * first, 2 * first + 1

    def as_dict(self):
        return {
            **dataclasses.asdict(self),
            "exercises": [e.as_dict() for e in self.exercises],
        }


def parse(text, points=None):
    """Return the `Exercise` that ``NAME[:LEVEL[:FRAMEWORK]]`` means."""
    name, *more = text.split(":")
    level, framework = (
        [*more, *("2", "numpy")[len(more) :]][:2] if len(more) < 3 else (None, None)
    )
    if level is None or not level.isdecimal():
        raise ValueError(f"expected NAME[:LEVEL[:FRAMEWORK]], found {text!r}")
    options = {"points": points} if points else {}
    return Exercise(name, int(level), framework, **options)


def save(assignment, path):
    """Write an assignment's file."""
    text = json.dumps(assignment.as_dict(), indent=1) + "\n"
    pathlib.Path(path).write_text(text, encoding="utf-8")


def load(path, *, any_release=False):
    """Read an assignment's file.

    Raises
    ------
    ValueError
        It cannot be read, or another release of trref is to grade it.
    """
    try:
        found = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        exercises = tuple(Exercise(**entry) for entry in found.pop("exercises"))
        assignment = Assignment(exercises=exercises, **found)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        json.JSONDecodeError,
        UnicodeDecodeError,
    ) as error:
        raise ValueError(f"{path} is no assignment: {error}") from error
    if assignment.release != trref.__version__ and not any_release:
        raise ValueError(
            f"{path} is for release {assignment.release}, this is {trref.__version__}:"
            " marks might differ (--any-release)"
        )
    return assignment


def write_folders(assignment, folder):
    """Write the student's folder and the teacher's; return the paths of all files."""
    folder = pathlib.Path(folder)
    student, teacher = folder / "student", folder / "teacher"
    texts = {"README.md": _handout(assignment)}
    keys = {
        "README.md": _key(assignment),
        "assignment.json": json.dumps(assignment.as_dict(), indent=1) + "\n",
    }
    for exercise in assignment.exercises:
        texts |= handout.files(exercise, notebook=assignment.notebook)
    return [*handout.put(student, texts), *handout.put(teacher, keys)]


def _handout(assignment):
    lines = [f"# {assignment.title}", "", f"{assignment.of:g} points."]
    if assignment.attempts:
        lines.append(
            f"The mark counts the last of your first {assignment.attempts} different submissions."
        )
    lines += ["Do not rename files or functions; do not import trref in them.", ""]
    for number, exercise in enumerate(assignment.exercises, start=1):
        lines += [
            f"## {number}. {exercise.name}, level {exercise.level} ({exercise.stem})",
            "",
        ]
        if exercise.bug:
            lines += [
                "One line is wrong: find it, repair it, and say why a training run hides it.",
                "",
            ]
            continue
        lines += [f"- {line}" for line in asked(exercise)]
        lines += ["", f"Check it: `{starter.command(exercise)}`", ""]
    return "\n".join(lines)


def _key(assignment):
    """What the teacher knows more: how to grade, and what may be discussed."""
    lines = [
        f"# {assignment.title}: for the teacher",
        "",
        f"Release {assignment.release}, seed {assignment.seed}.",
        "",
    ]
    lines += ["    trref grade SUBMISSIONS --assignment assignment.json", ""]
    for number, exercise in enumerate(assignment.exercises, start=1):
        lines += [f"## {number}. {exercise.name}", ""]
        if exercise.bug:
            found = bugs.of(exercise)
            lines += [
                f"- the mistake, shown by {100 * found.share:.0f} % of the cases: `{found.text}`",
                "",
            ]
            continue
        lines += [f"- question: {q}" for q in questions(exercise.record)]
        for deviation in exercise.record.deviations:
            choice = "; a documented choice" if deviation.documented else ""
            lines.append(
                f"- seen elsewhere: {deviation.name}: {deviation.computes} ({deviation.seen_in}{choice})"
            )
        lines.append("")
    return "\n".join(lines)
