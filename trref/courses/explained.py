"""What a student is told: where the failures lie, the smallest of them worked through, and three hints."""

import dataclasses
import functools
import warnings

import numpy as np

from trref import catalog
from trref.conformance import hypotheses, shrink, trials
from trref.conformance.worker import Answer, Request
from trref.courses import slips
from trref.courses.exercise import STAGES, own_labels
from trref.courses.terms import of_reference

__all__ = ["NAMES", "feedback"]

NAMES = {
    "value": "value",
    "gradient": "gradient",
    "hard": "hard cases",
    "errors": "errors",
}
TRIES = 60  # inputs, in the search for a smaller one


def feedback(judged):
    """Return the fields of a `trref.courses.judge.Result` that say what is wrong.

    Parameters
    ----------
    judged : object
        With `exercise`, `record`, `limits`, `tallies`, `answered`, `lost`, and ``call(trial or request)``.
    """
    stage = next(s for s in STAGES if s in judged.tallies and judged.tallies[s].first)
    tally = judged.tallies[stage]
    lies = tally.where(judged.record)
    failure = _first(tally)
    part, worked = stage, {}
    if failure:
        part = failure.error.partition(";")[0][:60] if failure.error else failure.part
        worked = _worked(judged, failure, _smaller(judged, failure))
    elif tally.extra:
        part = tally.extra[0].partition(": ")[0]
    hints = [
        f"Look at the {NAMES[stage]}: it fails {lies}.",
        _second(judged.record, worked),
    ]
    hints.append(_explained(judged) or _as_it_is(worked))
    return {
        "first": f"{NAMES[stage]}: {part}",
        "where": lies,
        "hints": hints,
        "worked": worked,
    }


def _first(tally):
    """The failure to be shown: in a number, with few entries, and far off; iterates where there is nothing else."""
    failures = [f for f in tally.failures if not f.trial.iterate] or tally.failures
    return min(
        failures,
        key=lambda f: (bool(f.error), f.trial.entries, -f.distance),
        default=None,
    )


def _smaller(judged, failure):
    """A smaller input that fails as well, where there is one."""
    record, trial = judged.record, failure.trial
    own = (
        trials.reference(record, trial.inputs, trial.hyper).keys()
        == trial.expected.keys()
    )
    if (
        failure.error
        or trial.iterate
        or judged.lost
        or judged.limits.explain <= 0
        or not own
    ):
        return failure

    def ask(trial):
        answer = judged.call(trial)
        return Answer(error="was not asked", lost=True) if answer is None else answer

    return (
        shrink.shrink(
            record, [failure], ask, functools.partial(_small, record), tries=TRIES
        )
        or failure
    )


def _small(record, setting):
    chosen = {setting: record.settings[setting]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield from trials.trials(
                record, chosen, {}, seeds=(0, 1), sizes=(1, 2, 3), single=False
            )
        except (ValueError, TypeError, IndexError):
            return


def _worked(judged, failure, smallest):
    """The smallest case, with its terms, and under which name the submission holds each in a case of several rows."""
    trial = smallest.trial
    found = {
        "case": trial.label,
        "inputs": {
            n: _text(v) for n, v in trial.inputs.items() if isinstance(v, np.ndarray)
        },
        "hyper": {k: repr(v) for k, v in trial.hyper.items()},
        "part": smallest.part,
        "error": smallest.error or "",
        "expected": "" if smallest.error else _text(smallest.expected),
        "found": "" if smallest.error else _text(smallest.found),
        "terms": [],
        "traced": False,
    }
    if smallest.part == "derivative" or (
        smallest.error and "NaN" not in smallest.error
    ):
        return found
    ours = of_reference(judged.record, trial.inputs, trial.hyper)
    theirs = _held(judged, failure.trial)
    told = {
        name: value
        for name, _, value in of_reference(
            judged.record, failure.trial.inputs, failure.trial.hyper
        )
    }
    for name, label, value in ours:
        place = _place(told[name], theirs) if theirs and name in told else ""
        found["terms"].append([name, label, _text(value), place])
    found["traced"] = bool(theirs)
    return found


def _held(judged, trial):
    """What the names in the submission's functions hold in a case, but for its arguments."""
    request = trials.request(judged.record, trial)
    arguments = {"kind": request.kind, "arguments": request.arguments}
    answer = (
        judged.call(Request("terms", request.inputs, arguments))
        if judged.traces
        else None
    )
    parts = (answer.parts or {}) if answer is not None else {}
    return {
        n: value
        for n, value in parts.items()
        if n not in trial.inputs and n not in trial.hyper
    }


def _place(ours, theirs):
    """The name of the submission's that holds a term, or its negative; empty where none does."""
    for sign, mark in ((1, ""), (-1, "-")):
        for name, other in theirs.items():
            if (
                ours.size == other.size
                and ours.size
                and _same(ours.ravel(), sign * other.ravel())
            ):
                return mark + name
    return ""


def _same(a, b):
    return bool(
        np.allclose(a, b, rtol=1e-9, atol=1e-12 * (1 + abs(a).max()), equal_nan=True)
    )


def _second(record, worked):
    """At which term to look."""
    missing = (
        next((t for t in worked.get("terms", ()) if not t[3]), None)
        if worked.get("traced")
        else None
    )
    if missing:
        at = f" (equation {missing[1]})" if missing[1] else ""
        return f"The first term of ours that your function never holds is {missing[0]}{at}."
    if labels := ", ".join(own_labels(record)):
        return f"Compare your lines with equation {labels}, one by one, on the smallest failing case."
    return "Compute the smallest failing case by hand, and print what your function has after each line."


def _explained(judged):
    """What the answers are instead, in words: a known deviation, a slip, or an explanation of `verify`."""
    record, seconds, answered = judged.record, judged.limits.explain, []
    if seconds <= 0:
        return ""
    for trial, answer in judged.answered:
        parts = answer.parts
        if isinstance(record, catalog.Objective) and "gradient" not in judged.tallies:
            parts = {"value": parts["value"]}
        if isinstance(record, catalog.Solver):
            parts = {n: a for n, a in parts.items() if n == "solution"}
        answered.append((trial, dataclasses.replace(answer, parts=parts)))
    if not answered:
        return ""
    for deviation in record.deviations:
        if all(_computes(record, deviation, *pair) for pair in answered):
            return f"It computes '{deviation.name}': {deviation.computes}."
    if text := slips.name_slip(record, answered, seconds=seconds):
        return f"The answers are those of a function in which {text}."
    found = hypotheses.explain(record, answered, rounding=False, seconds=seconds)
    if not found:
        return ""
    plain = found[0].text.startswith(("computes", "ignores", "takes"))
    return (
        f"It {found[0].text}."
        if plain
        else f"It is the published function, but for this: {found[0].text}."
    )


def _computes(record, deviation, trial, answer):
    try:
        with slips.limited(2.0):
            found = slips.asked(record, deviation.f, trial)
    except (slips.TooSlow, Exception):
        return False
    parts = found.parts or {}
    same = [n for n in answer.parts if n in parts]
    alike = (
        answer.parts[n].shape == parts[n].shape
        and trials.close(answer.parts[n], parts, n)
        for n in same
    )
    return bool(same) and all(alike)


def _as_it_is(worked):
    if worked.get("error"):
        subject = "" if worked["error"].startswith("it ") else "it "
        return f"In the case '{worked['case']}' {subject}{worked['error']}."
    if worked:
        part, found, expected = worked["part"], worked["found"], worked["expected"]
        return f"In the case '{worked['case']}' {part} is {found}, expected {expected}."
    return "See below what failed first in each stage."


def _text(array):
    array = np.asarray(array)
    if array.size > 60:
        return f"array {array.shape}"
    return " ".join(
        np.array2string(array, separator=", ", precision=6, suppress_small=True).split()
    )
