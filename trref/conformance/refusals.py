"""Calls that must be refused, and whether an implementation does."""

import dataclasses
import functools
import math
import warnings

import numpy as np

from trref import backend, catalog, checks
from trref.checks.cases import example_of
from trref.conformance import trials

__all__ = ["MOST_LOSSES", "Refusal", "ask_refusals", "refusals"]

MOST_LOSSES = 3  # calls that do not come back


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A call that must be refused: what is wrong with it, and the error that it met, None where it was accepted."""

    what: str
    error: str | None
    lost: bool = False

    @property
    def accepted(self):
        return self.error is None


def ask_refusals(record, runner, described, like, fixed):
    """Ask what must be refused, as in the trial `like` otherwise; what the implementation has no argument for is left
    out, and so are constants that are fixed.
    """
    found, usual = [], {**record.hyper_parameters, **record.settings["default"]}
    for argument, what, inputs, hyper in refusals(record.name):
        changed = {k: v for k, v in hyper.items() if usual.get(k) != v}
        if any(k in fixed or not described.accepts(k) for k in changed):
            continue
        if argument in inputs and not described.accepts(argument):
            continue
        trial = dataclasses.replace(
            like, inputs=inputs, hyper={**like.hyper, **changed}
        )
        answer = runner.call(trials.request(record, trial))
        text = f"{argument}: {what}" if argument else what
        found.append(Refusal(text, answer.error, answer.lost))
        if sum(refusal.lost for refusal in found) >= MOST_LOSSES:
            break
    return tuple(found)


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
