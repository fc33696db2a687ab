"""What a submission is asked: the trials of each stage, and the calls that it must refuse."""

import functools
import math
import warnings

import numpy as np

from trref import backend, catalog, checks
from trref.checks.cases import example_of
from trref.conformance import trials

__all__ = ["asked_trials", "group_of", "refusals"]


@functools.lru_cache(maxsize=32)
def asked_trials(name, level, seeds):
    """Return the trials of a function that a level asks for, by stage: ordinary ones before hard ones."""
    record = catalog.find(name)
    found = {"value": [], "gradient": [], "hard": []}
    every = trials.trials(record, record.settings, {}, seeds=seeds, single=level > 2)
    for trial in every:
        if trial.iterate:
            found["gradient"].append(trial)
        elif trial.single or "size" not in trial.label:
            found["hard"].append(trial)
        else:
            found["value"].append(trial)
    return found


@functools.lru_cache(maxsize=64)
def refusals(name):
    """Return the calls that must be refused, ``(argument, what, inputs, hyper)``: those that the reference refuses."""
    record = catalog.find(name)
    hyper = dict(record.settings["default"])
    example, found = example_of(record, record.sizes[0]), []
    for argument, what, inputs, more in _spoiled(record, example):
        if _refuses(record, inputs, {**hyper, **more}, argument):
            found.append((argument, what, inputs, {**hyper, **more}))
    for case in checks.special_cases(record, record.refused):
        found.append((None, case.label, case.inputs, case.hyper))
    return found


def _spoiled(record, example):
    for name, spec in record.inputs.items():
        value = example.get(name)
        if not isinstance(value, np.ndarray):
            continue
        if value.ndim:
            yield (
                name,
                "one entry more",
                {**example, name: np.concatenate([value, value[:1]])},
                {},
            )
        yield name, "one axis more", {**example, name: value[None]}, {}
        for entry in (
            (math.nan, math.inf, *OUTSIDE.get(spec.kind, ()))
            if value.dtype.kind == "f"
            else ()
        ):
            bad = np.array(value)
            bad.flat[-1] = entry
            yield name, f"an entry {entry:g}", {**example, name: bad}, {}
    if isinstance(record, catalog.UpdateRule):
        first, *others = example["gradients"]
        yield (
            "grads",
            "a list too short",
            {**example, "gradients": [first[:-1], *others]},
            {},
        )
        yield (
            "grads",
            "another shape",
            {**example, "gradients": [[g[None] for g in first], *others]},
            {},
        )
    for keyword, default in record.hyper_parameters.items():
        if isinstance(default, float):
            yield keyword, "a value out of range", example, {keyword: -1.0}
            yield keyword, "NaN", example, {keyword: math.nan}


OUTSIDE = {
    "mask": (0.5,),
    "prob": (-0.1, 1.5),
    "positive": (-1.0, 0.0),
    "nonnegative": (-1.0,),
    "simplex": (-0.5,),
}


def _refuses(record, inputs, hyper, argument):
    try:
        with (
            backend.use_backend("numpy"),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
        ):
            warnings.simplefilter("ignore")
            checks.run(record, inputs, hyper)
    except ValueError as error:
        return argument in str(error)
    except Exception:
        return False
    return False


def group_of(trial, stage):
    """Return the name under which a trial counts: its setting, or its own."""
    if "size" in trial.label:
        return "float32" if stage == "hard" else trial.setting
    if "edge" in trial.label:
        return trial.label.split("edge ")[1].split("'")[1]
    return trial.label.rpartition(": ")[2]
