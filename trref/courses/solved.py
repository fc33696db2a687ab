"""Asserts for notebooks and visible tests: the same judgement as in grading, in this process."""

import dataclasses
import inspect
import sys

from trref import backend, catalog, checks
from trref.conformance import Options, trials
from trref.conformance.worker import InProcess
from trref.courses.exercise import Exercise
from trref.courses.judge import judge_function
from trref.courses.worked import worked

__all__ = ["assert_solved", "assert_worked", "functions_beside"]


def functions_beside(function):
    """Return the functions of the namespace that a function was defined in, by name."""
    scope = getattr(inspect.unwrap(function), "__globals__", None) or vars(
        sys.modules[function.__module__]
    )
    found = {n: v for n, v in list(scope.items()) if inspect.isfunction(v)}
    return {**found, function.__name__: function}


def assert_solved(name, function, *, level=2, framework="numpy", stage=None):
    """Assert that a function solves an exercise, or one stage of it.

    Parameters
    ----------
    name : str
    function : callable
    level : {1, 2, 3}
    framework : {"numpy", "torch", "jax"}
    stage : {"value", "gradient", "hard", "errors"}, optional
        All of the level's by default.

    Raises
    ------
    AssertionError
        With what failed first, and where.
    """
    exercise = Exercise(name, level, framework)
    functions = {**functions_beside(function), exercise.function: function}
    result = judge_function(exercise, functions)
    if result.status in ("could not run", "not started", "not allowed"):
        raise AssertionError(f"{name}: {result.status}: {'; '.join(result.notes)}")
    chosen = [stage] if stage else list(result.stages)
    for each in chosen:
        found = result.stages.get(each)
        if found and found["failed"]:
            text = f"{found['failed']} of {found['cases']} cases differ, {found['where']}; {found['first']}"
            raise AssertionError(f"{name}, {each}: {text}")


def assert_worked(name, function, *, level=2, framework="numpy"):
    """Assert that a function gives the reference's result on the small example of `trref.courses.worked`.

    Raises
    ------
    AssertionError
    """
    record, example = catalog.find(name), worked(name)
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        return assert_solved(
            name, function, level=1, framework=framework, stage="value"
        )
    setting = {"default": record.settings["default"]}
    first = next(
        trials.trials(
            record, setting, {}, seeds=(0,), sizes=record.sizes[:1], single=False
        )
    )
    solved = None
    if isinstance(record, catalog.Solver):
        with backend.use_backend("numpy"):
            solved = checks.run(record, example.inputs, first.hyper)
    trial = dataclasses.replace(
        first, inputs=example.inputs, expected=example.expected, solved=solved
    )
    runner = InProcess(
        function,
        Options(framework=framework, gradient=level > 1 or framework != "numpy"),
    )
    if failure := trials.judge(record, trial, trials.ask(runner, record, trial)):
        raise AssertionError(str(failure))
