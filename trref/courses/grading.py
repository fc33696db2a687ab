"""Grade the submissions of a class: in parallel, resumable, the same marks on every machine."""

import contextlib
import csv
import functools
import hashlib
import importlib
import inspect
import io
import json
import pathlib

import trref
from trref.courses import report
from trref.courses.exercise import Exercise
from trref.courses.judge import Limits, Result, judge
from trref.courses.submissions import Submission, find, students

__all__ = ["BACKENDS", "grade", "grade_task", "gradescope"]

BACKENDS = ("loky", "threading", "dask", "ray", "spark")
REGISTERED = {
    "ray": ("ray.util.joblib", "register_ray"),
    "spark": ("joblibspark", "register_spark"),
}
RESULTS, HISTORY = ".results", ".history.json"


def grade(
    assignment,
    folder,
    out,
    *,
    jobs=1,
    backend="loky",
    scheduler=None,
    limits=None,
    again=False,
    progress=None,
):
    """Grade every submission in a folder; write marks and feedback; return the grades.

    Parameters
    ----------
    assignment : Assignment
    folder : path
        A folder (or a file, or a notebook) a student.
    out : path
        Where ``grades.csv``, ``grades.json``, ``class.html`` and a folder a student are written. What has been graded
        there before is not graded again, unless the submission, the exercise or the reference has changed.
    jobs : int
    backend : str
        Of joblib: loky on this machine; dask, ray or spark on a cluster.
    scheduler : str, optional
        The address of Dask's.
    limits : Limits, optional
    again : bool
        Grade everything anew.
    progress : callable, optional
        ``progress(iterable, total) -> iterable``.

    Returns
    -------
    dict
    """
    out = pathlib.Path(out)
    (out / RESULTS).mkdir(parents=True, exist_ok=True)
    found = {
        student: {e.stem: find(student, place, e) for e in assignment.exercises}
        for student, place in students(folder).items()
    }
    limits = limits or Limits()
    tries = _tries(assignment, found, out, limits)
    keys = {
        (s, e.stem): tries[s, e.stem][-1] for s in found for e in assignment.exercises
    }
    tasks = _tasks(assignment, found, keys, limits)
    if not again:
        tasks = {
            key: task
            for key, task in tasks.items()
            if not (out / RESULTS / f"{key}.json").exists()
        }
    for key, result in _done(list(tasks.items()), jobs, backend, scheduler, progress):
        _write(out / RESULTS / f"{key}.json", json.dumps(result, indent=1))
    grades = _grades(assignment, found, tries, out)
    _write_all(assignment, grades, out)
    return grades


# ------------------------------------------------------------------------------------------------- what is to be done


def _key(exercise, submission, seeds, limits):
    """What the result hangs on: the source, the exercise, the examples, the limits, and the reference as it is."""
    parts = [
        submission.source or "",
        submission.problem,
        exercise.as_dict(),
        seeds,
        _reference(exercise.name),
    ]
    parts += [limits.call, limits.total, limits.memory]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@functools.cache
def _reference(name):
    """A digest of the reference and its record: a fix there is a reason to grade again."""
    record = Exercise(name).record
    module = inspect.getmodule(inspect.unwrap(record.f))
    known = importlib.import_module(
        f"trref.catalog.{record.family}.{record.method_name}"
    )
    texts = [pathlib.Path(m.__file__).read_bytes() for m in (module, known)]
    return hashlib.sha256(b"\0".join([trref.__version__.encode(), *texts])).hexdigest()


def _tries(assignment, found, out, limits):
    """Return (student, stem) -> the keys of the tries so far, the one that counts last; note a new one."""
    path, tries = out / HISTORY, {}
    history = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for student, each in found.items():
        for exercise in assignment.exercises:
            submission, own = (
                each[exercise.stem],
                history.setdefault(student, {}).setdefault(exercise.stem, []),
            )
            digest = hashlib.sha256((submission.source or "").encode()).hexdigest()[:16]
            if not own or own[-1][0] != digest:
                own.append([digest, submission.source])
            counted = [text for _, text in own if text is not None] or [None]
            counted = counted[: assignment.attempts or None]
            seeds = assignment.seeds(student)
            tries[student, exercise.stem] = [
                _key(
                    exercise,
                    Submission(
                        student,
                        text,
                        problem=submission.problem if text is None else "",
                    ),
                    seeds,
                    limits,
                )
                for text in counted
            ]
            each[exercise.stem] = Submission(
                student, counted[-1], submission.file, submission.problem
            )
    _write(path, json.dumps(history))
    return tries


def _tasks(assignment, found, keys, limits):
    """Return key -> what a worker needs, by exercise: equal submissions are graded once."""
    tasks = {}
    for exercise in assignment.exercises:
        for student, each in found.items():
            submission = each[exercise.stem]
            tasks[keys[student, exercise.stem]] = {
                "exercise": exercise.as_dict(),
                "source": submission.source,
                "file": pathlib.Path(submission.file or "submission.py").name,
                "problem": submission.problem,
                "seeds": assignment.seeds(student),
                "limits": limits,
            }
    return tasks


def grade_task(key, task):
    """Grade one submission, wherever this runs; return its key and its result."""
    exercise = Exercise(**task["exercise"])
    try:
        result = judge(
            exercise,
            task["source"],
            limits=task["limits"],
            seeds=tuple(task["seeds"]),
            file=task["file"],
        )
    except (
        Exception
    ) as error:  # ours: the class is graded all the same, and the teacher sees it
        text = f"an error of trref itself, please report it: {type(error).__name__}: {error}"
        result = Result(
            exercise.name,
            exercise.level,
            "could not run",
            of=sum(exercise.worth.values()),
            notes=[text],
        )
    found = result.as_dict()
    if task["source"] is None and task["problem"]:
        found["notes"] = [task["problem"]]
    return key, found


def _done(tasks, jobs, backend, scheduler, progress):
    """Yield (key, result) as they come."""
    if not tasks:
        return
    import joblib

    with (
        _cluster(backend, scheduler),
        joblib.parallel_config(backend=backend, n_jobs=jobs),
    ):
        calls = (joblib.delayed(grade_task)(key, task) for key, task in tasks)
        results = joblib.Parallel(return_as="generator_unordered")(calls)
        yield from progress(results, len(tasks)) if progress else results


@contextlib.contextmanager
def _cluster(backend, scheduler):
    """What joblib needs before it can use a cluster: Dask's client, or the registration of Ray or Spark."""
    if backend == "dask":
        from distributed import Client

        with Client(scheduler) if scheduler else Client():
            yield
        return
    if backend in REGISTERED:
        module, register = REGISTERED[backend]
        getattr(importlib.import_module(module), register)()
    yield


# ------------------------------------------------------------------------------------------------------ what is written


def _write(path, text):
    """Write whole or not at all: a grading that is ended goes on where it was."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _grades(assignment, found, tries, out):
    people = {}
    for student in sorted(found):
        results = {}
        for exercise in assignment.exercises:
            keys = tries[student, exercise.stem]
            result = json.loads(
                (out / RESULTS / f"{keys[-1]}.json").read_text(encoding="utf-8")
            )
            results[exercise.stem] = {
                **result,
                "attempt": len(keys),
                "file": found[student][exercise.stem].file,
            }
        score = round(sum(r["score"] for r in results.values()), 4)
        people[student] = {"score": score, "of": assignment.of, "exercises": results}
    return {
        "title": assignment.title,
        "release": assignment.release,
        "of": assignment.of,
        "students": people,
    }


def _write_all(assignment, grades, out):
    _write(out / "grades.json", json.dumps(grades, indent=1, ensure_ascii=False) + "\n")
    _write(out / "grades.csv", _csv(assignment, grades))
    _write(
        out / "class.html",
        report.page(f"{grades['title']}: the class", class_view(assignment, grades)),
    )
    for student, grade in grades["students"].items():
        folder = out / student
        folder.mkdir(exist_ok=True)
        body = [f"<p><b>{grade['score']:g}</b> of {grade['of']:g} points.</p>"]
        body += [report.as_html(r, r["attempt"]) for r in grade["exercises"].values()]
        _write(
            folder / "feedback.html",
            report.page(f"{grades['title']}: {student}", "\n".join(body)),
        )
        _write(folder / "results.json", json.dumps(gradescope(grade), indent=1) + "\n")


def _csv(assignment, grades):
    file, stems = io.StringIO(), [e.stem for e in assignment.exercises]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["student", "score", "of", *(x for s in stems for x in (s, f"{s} status"))]
    )
    for student, grade in grades["students"].items():
        results = grade["exercises"]
        cells = [
            x for s in stems for x in (f"{results[s]['score']:g}", results[s]["status"])
        ]
        writer.writerow(
            [_cell(student), f"{grade['score']:g}", f"{grade['of']:g}", *cells]
        )
    return file.getvalue()


def _cell(text):
    """No name is a formula to a spreadsheet."""
    return f"'{text}" if text[:1] in "=+-@" else text


def gradescope(grade):
    """Return one student's grade as Gradescope's ``results.json``."""
    tests = []
    for stem, result in grade["exercises"].items():
        stages = result["stages"] or {
            result["status"]: {"score": result["score"], "of": result["of"]}
        }
        for stage, found in stages.items():
            tests.append(
                {
                    "name": f"{stem}: {stage}",
                    "score": found["score"],
                    "max_score": found["of"],
                }
            )
        tests[-1]["output"] = report.as_text(result, result["attempt"])
    return {"score": grade["score"], "tests": tests, "stdout_visibility": "hidden"}


def class_view(assignment, grades):
    """What failed first, exercise by exercise, and everybody's points."""
    people, lines = grades["students"], []
    for exercise in assignment.exercises:
        results = [p["exercises"][exercise.stem] for p in people.values()]
        counts = {}
        for r in results:
            what = r["first"] if r["status"] == "failed" else r["status"]
            counts[what] = counts.get(what, 0) + 1
        mean = sum(r["score"] for r in results) / len(results)
        lines.append(
            f"<h2>{report.escape(exercise.name)}, level {exercise.level}: mean {mean:.2f} of {results[0]['of']:g}</h2>"
        )
        rows = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        lines.append(report.bars(rows, len(results)))
    lines.append(
        "<h2>Points</h2>"
        + report.points_table([e.stem for e in assignment.exercises], people)
    )
    return "\n".join(lines)
