"""The smallest failing input: few entries along every length, short numbers, and a large error."""

import dataclasses

import numpy as np

from trref import catalog
from trref.conformance import trials
from trref.validate import parse_shape

__all__ = ["shrink"]


def shrink(record, failures, ask, examples, tries=200):
    """Look for a failing input that fits on a screen.

    Parameters
    ----------
    record : Record
    failures : sequence of Failure
    ask : callable
        ``ask(trial) -> Answer``.
    examples : callable
        ``examples(setting) -> trials`` of a few small examples.
    tries : int
        How many more inputs may be asked for.

    Returns
    -------
    Failure or None
    """
    kinds = catalog.Objective | catalog.Transform | catalog.Estimator
    failing = [f for f in failures if not f.trial.single]
    if not isinstance(record, kinds) or not failing:
        return None
    best = min(failing, key=_size)
    for trial in examples(best.trial.setting):
        tries -= 1
        failure = trials.judge(record, trial, ask(trial))
        if failure and not failure.error and _size(failure) < _size(best):
            best = failure
    again = True
    while again:
        again = False
        for inputs in [*_shorter(record, best.trial), *_simpler(best.trial)]:
            tries -= 1
            if tries < 0:
                return best
            if failure := _still_fails(record, ask, best, inputs):
                best, again = failure, True
                break
    return best


def _size(failure):
    """How large the input is; of equal ones that with the largest error comes first."""
    return failure.trial.entries, -failure.distance


def _shorter(record, trial):
    """Yield the inputs without the last, or the first, entry along one of the named lengths."""
    axes = {}
    for name, spec in record.inputs.items():
        array = trial.inputs.get(name)
        if isinstance(array, np.ndarray):
            shapes = [s for s in parse_shape(spec.shape) if len(s) == array.ndim]
            for axis, (length, _) in enumerate(shapes[0] if shapes else ()):
                if length and length != "...":
                    axes.setdefault(length, []).append((name, axis))
    for places in axes.values():
        size = min(trial.inputs[name].shape[axis] for name, axis in places)
        for kept in (range(size - 1), range(1, size)) if size > 1 else ():
            inputs = dict(trial.inputs)
            for name, axis in places:
                extra = range(
                    size, inputs[name].shape[axis]
                )  # of lengths such as T + 1
                inputs[name] = np.take(inputs[name], [*kept, *extra], axis)
            yield inputs


def _simpler(trial):
    """Yield the inputs with shorter numbers in one of the arrays, the shortest first."""
    for name, array in trial.inputs.items():
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            for digits in (0, 1, 2, 3):
                rounded = np.round(array, digits) + 0.0
                if np.array_equal(rounded, array):
                    break
                yield {**trial.inputs, name: rounded}


def _still_fails(record, ask, failure, inputs):
    try:
        expected = trials.reference(record, inputs, failure.trial.hyper)
    except (ValueError, TypeError, IndexError):
        return None
    trial = dataclasses.replace(failure.trial, inputs=inputs, expected=expected)
    again = trials.judge(record, trial, ask(trial))
    return again if again and bool(again.error) == bool(failure.error) else None
