"""Judge a submission by the stages of its exercise: value, gradient, hard cases, errors."""

import dataclasses
import functools
import pathlib
import tempfile
import time

import numpy as np

from trref import backend, catalog, checks
from trref.conformance import trials
from trref.conformance.load import LoadError
from trref.conformance.refusals import refusals
from trref.conformance.worker import InProcess, Request
from trref.courses import bugs
from trref.courses.asked import asked_trials, group_of
from trref.courses.children import MEMORY, GuardedChild
from trref.courses.exercise import derivative_of, stages
from trref.courses.explained import feedback
from trref.courses.guarded import FORBIDDEN, Asked
from trref.courses.submissions import not_started, suspicions, violations
from trref.courses.where import where

__all__ = ["Limits", "Result", "judge", "judge_function"]

MOST_LOSSES = 2  # calls that do not come back
NOT_STARTED = "raised NotImplementedError"
LATE = "was not asked: too many calls did not come back in time"
NAMES = {
    "value": "value",
    "gradient": "gradient",
    "hard": "hard cases",
    "errors": "errors",
}


DRAWS = 3  # generators
PLAIN = type("Plain", (), {})()  # a record of no type: all parts are compared


@dataclasses.dataclass(frozen=True)
class Limits:
    """Seconds a call and a submission, bytes, and seconds that may be spent on explanations."""

    call: float = 5.0
    total: float = 60.0
    memory: int = MEMORY
    explain: float = 2.0

    @property
    def loading(self):
        return min(self.total, max(5.0, 4 * self.call))


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a submission to one exercise. Everything is text and numbers, for JSON.

    Parameters
    ----------
    status : str
        ``"passed"``, ``"failed"``, ``"not started"``, ``"missing"``, ``"not allowed"``, ``"could not run"``.
    score, of : float
    stages : dict
        Stage -> ``{"score", "of", "cases", "failed", "groups", "first"}``; `groups` are settings or named cases, with
        how many are right, of how many.
    first : str
        What failed first: a stage and a part.
    where : str
    hints : list of str
        Three, from a nudge to an answer.
    worked : dict
        The smallest failing case: its inputs, expected and found, and the terms on the way.
    """

    exercise: str
    level: int
    status: str
    score: float = 0.0
    of: float = 0.0
    stages: dict = dataclasses.field(default_factory=dict)
    first: str = ""
    where: str = ""
    hints: list = dataclasses.field(default_factory=list)
    worked: dict = dataclasses.field(default_factory=dict)
    notes: list = dataclasses.field(default_factory=list)
    violations: list = dataclasses.field(default_factory=list)
    suspicions: list = dataclasses.field(default_factory=list)

    def as_dict(self):
        return dataclasses.asdict(self)


def judge(exercise, source, *, limits=None, seeds=(0, 1), file="submission.py"):
    """Judge the source of a submission in guarded children; return a `Result`.

    Parameters
    ----------
    exercise : Exercise
    source : str or None
        None where there is none.
    limits : Limits, optional
    seeds : tuple of int
        Of the examples.
    file : str
        Its name, for messages.
    """
    limits, worth = limits or Limits(), sum(exercise.worth.values())
    base = functools.partial(Result, exercise.name, exercise.level, of=worth)
    if source is None:
        return base("missing", notes=["there is no file"])
    broken, looked = violations(source), suspicions(source)
    if broken:
        return base("not allowed", violations=broken, suspicions=looked, notes=broken)
    if not_started(source, exercise.function) or (
        exercise.bug and not bugs.changed_lines(exercise, source)
    ):
        return base("not started", notes=["the body is as it was handed out"])
    with tempfile.TemporaryDirectory(prefix="trref-") as folder:
        path = pathlib.Path(folder) / pathlib.Path(file).with_suffix(".py").name
        path.write_text(source, encoding="utf-8")
        options = _options(exercise)

        def runner(function):
            return GuardedChild(
                f"{path}:{function}",
                options,
                limit=limits.call,
                loading=limits.loading,
                memory=limits.memory,
            )

        result = _Judge(exercise, runner, limits, seeds).result()
    if (
        exercise.bug
        and result.status == "passed"
        and (lines := bugs.changed_lines(exercise, source)) > bugs.MOST_LINES
    ):
        text = f"it conforms, but {lines} lines are new: one mistake takes {bugs.MOST_LINES} at most"
        result = dataclasses.replace(
            result, status="failed", score=0.0, first="rewritten", notes=[text]
        )
    notes = [note.replace(folder, "").replace("/private", "") for note in result.notes]
    return dataclasses.replace(result, suspicions=looked, notes=notes)


def judge_function(exercise, functions, *, limits=None, seeds=(0, 1)):
    """Judge function objects in this process, as in a notebook.

    Parameters
    ----------
    exercise : Exercise
    functions : mapping of str to callable
        The exercise's function by name, and its derivative where one is asked for.
    """

    def runner(name):
        if name not in functions:
            raise LoadError(f"there is no function {name}")
        return InProcess(functions[name], _options(exercise))

    return _Judge(exercise, runner, limits or Limits(), seeds).result()


def _options(exercise):
    return Asked(
        framework=exercise.framework,
        by_hand=exercise.by_hand and exercise.framework != "numpy",
    )


class _Tally:
    """How a stage goes: by group, a setting or a named case, how many are right of how many."""

    def __init__(self):
        self.groups, self.outcomes, self.failures, self.extra = {}, [], [], []

    def add(self, group, failure, trial=None):
        right, count = self.groups.get(group, (0, 0))
        self.groups[group] = (right + (failure is None), count + 1)
        if trial is not None:
            self.outcomes.append((trial, failure is not None))
        if isinstance(failure, trials.Failure):
            self.failures.append(failure)
        elif failure:
            self.extra.append(f"{group}: {failure}")

    @property
    def first(self):
        if self.failures:
            return str(self.failures[0])
        return self.extra[0] if self.extra else ""

    def summary(self, record, worth):
        """Marks are shared by the groups: one that is wholly right has its share."""
        whole = sum(right == count for right, count in self.groups.values())
        share = whole / len(self.groups) if self.groups else 1.0
        cases = sum(count for _, count in self.groups.values())
        return {
            "score": round(worth * share, 4),
            "of": worth,
            "cases": cases,
            "failed": cases - sum(right for right, _ in self.groups.values()),
            "groups": {name: list(pair) for name, pair in self.groups.items()},
            "first": self.first,
            "where": self.where(record),
        }

    def where(self, record):
        """Where its failures lie; empty where there are none."""
        untaken = [
            f.error for f in self.failures if (f.error or "").startswith("takes no ")
        ]
        if untaken:
            return f"wherever it is given what it does not take: it {untaken[0]}"
        if self.outcomes and (self.failures or not self.extra):
            return where(record, self.outcomes)
        return f"at {self.extra[0]}" if self.extra else ""


class _Judge:
    """Asks for the cases of every stage, and keeps what feedback needs."""

    def __init__(self, exercise, make, limits, seeds):
        self.exercise, self.record = exercise, exercise.record
        self.make, self.limits, self.seeds = make, limits, seeds
        self.tallies = {stage: _Tally() for stage in stages(exercise)}
        self.lost, self.notes, self.answered, self.ends = 0, [], [], 0.0
        self.runner, self.traces = None, False

    def result(self):
        worth = self.exercise.worth
        done = functools.partial(
            Result, self.exercise.name, self.exercise.level, of=sum(worth.values())
        )
        self.ends = time.monotonic() + self.limits.total
        try:
            self.runner = self.make(self.exercise.function)
            self.described, self.traces = (
                self.runner.setup(),
                isinstance(self.runner, GuardedChild),
            )
        except Exception as error:  # whatever it is, it is the submission's
            text = str(error)
            if FORBIDDEN in text:
                return done("not allowed", violations=[text], notes=[text])
            return done("could not run", notes=[text], first="could not be loaded")
        try:
            if missing := self._missing():
                text = f"takes no {', '.join(missing)}"
                return done("could not run", notes=[text], first=text)
            self._ask_all()
            found = {
                stage: tally.summary(self.record, worth[stage])
                for stage, tally in self.tallies.items()
            }
            broken = [n for n in self._errors() if FORBIDDEN in n]
            if broken:
                return done("not allowed", violations=broken[:1], notes=broken[:1])
            if self._not_started():
                return done("not started", notes=["it raises NotImplementedError"])
            score = round(sum(s["score"] for s in found.values()), 4)
            result = done(
                "passed",
                score=score,
                stages=found,
                notes=list(dict.fromkeys(self.notes)),
            )
            if not any(s["failed"] for s in found.values()):
                return result
            return dataclasses.replace(result, status="failed", **feedback(self))
        finally:
            self.runner.close()

    def _missing(self):
        """Inputs that must be taken, and are not."""
        own = (
            ("params", "grads")
            if isinstance(self.record, catalog.UpdateRule)
            else tuple(self.record.inputs)
        )
        optional = [
            n for n in own if n in self.record.inputs and self.record.inputs[n].optional
        ]
        untaken = [n for n in own if not self.described.accepts(n)]
        if untaken and all(n in optional for n in untaken):
            self.notes.append(f"takes no {', '.join(untaken)}")
            return []
        return untaken

    # ---- asking

    def _ask_all(self):
        if isinstance(self.record, catalog.Sampler) or getattr(
            self.record, "random", False
        ):
            self._ask_draws()
        else:
            every = asked_trials(
                self.exercise.name, self.exercise.level, tuple(self.seeds)
            )
            for stage in ("value", "gradient", "hard"):
                for trial in every[stage]:
                    if stage == "value" or stage in self.tallies:
                        self._one(stage, trial)
            if "gradient" in self.tallies and self._derivative_by_hand():
                self._ask_derivative(every["value"])
        if "errors" in self.tallies:
            self._ask_errors()

    def call(self, request_or_trial, runner=None):
        """The answer; None where no more is asked."""
        runner = runner or self.runner
        if self.lost >= MOST_LOSSES or time.monotonic() > self.ends:
            return None
        if isinstance(request_or_trial, Request):
            answer = runner.call(request_or_trial)
        else:
            answer = trials.ask(runner, self.record, request_or_trial)
        self.lost += answer.lost
        if answer.printed:
            self.notes.append("prints while it computes")
        return answer

    def _one(self, stage, trial):
        group = group_of(trial, stage)
        if untaken := self._untaken(trial):
            failure = trials.Failure(
                trial, "error", error=f"takes no {', '.join(untaken)}"
            )
            return self._count(stage, group, trial, failure, failure)
        answer = self.call(trial)
        if answer is None:
            late = trials.Failure(
                trial,
                "lost",
                error=LATE,
            )
            return self._count(stage, group, trial, late, late)
        value, gradient = self._judged(stage, trial, answer)
        if answer.parts and not trial.single and not trial.iterate:
            self.answered.append((trial, answer))
        return self._count(stage, group, trial, value, gradient)

    def _count(self, stage, group, trial, value, gradient):
        objective = isinstance(self.record, catalog.Objective)
        autograd = (
            isinstance(self.record, catalog.Transform)
            and not self._derivative_by_hand()
        )
        if stage == "value":
            if "value" in self.tallies:
                self.tallies["value"].add(group, value, trial)
            if "gradient" in self.tallies and (objective or autograd):
                self.tallies["gradient"].add(group, gradient, trial)
        else:
            self.tallies[stage].add(group, value or gradient, trial)

    def _judged(self, stage, trial, answer):
        """The failure of the value, and that of the gradient (or derivative); None where they are right."""
        record = self.record
        if isinstance(record, catalog.Objective):
            return self._judged_objective(trial, answer)
        failure = trials.judge(record, trial, answer)
        if (
            isinstance(record, catalog.Transform)
            and answer.parts
            and failure
            and failure.part == "vjp"
        ):
            return None, failure
        return failure, failure if answer.error else None

    def _judged_objective(self, trial, answer):
        record, parts = self.record, answer.parts
        if not parts or answer.changed or "value" not in parts:
            failure = trials.judge(record, trial, answer)
            return failure, failure
        only = dataclasses.replace(answer, parts={"value": parts["value"]})
        value = None if record.value_free else trials.judge(record, trial, only)
        if "gradient" not in self.tallies:
            return value, None
        names = [f"gradient by {n}" for n in record.wrt_names]
        if missing := [n for n in names if n not in parts]:
            text = f"gives a value and no {missing[0]}; level {self.exercise.level} asks for both"
            return value, trials.Failure(trial, missing[0], error=text)
        right = {"value": trial.expected["value"], **{n: parts[n] for n in names}}
        return value, trials.judge(
            record, trial, dataclasses.replace(answer, parts=right)
        )

    def _untaken(self, trial):
        given = [n for n, value in trial.inputs.items() if value is not None]
        if isinstance(self.record, catalog.UpdateRule):
            given = []
        own = self.record.hyper_parameters
        given += [k for k, v in trial.hyper.items() if v != own.get(k)]
        return [n for n in given if not self.described.accepts(n)]

    def _derivative_by_hand(self):
        by_hand = self.exercise.by_hand and isinstance(self.record, catalog.Transform)
        return by_hand and derivative_of(self.record)

    def _ask_derivative(self, every):
        """The derivative is another function of the same file; the first one's child rests meanwhile."""
        derivative, tally = derivative_of(self.record), self.tallies["gradient"]
        self.runner.close()
        second = self.make(derivative.name)
        try:
            second.setup()
            for trial in every:
                tally.add(
                    trial.setting, self._derivative(second, derivative, trial), trial
                )
        except LoadError as error:
            tally.add(derivative.name, str(error))
        finally:
            second.close()

    def _derivative(self, second, derivative, trial):
        wrt, last = self.record.wrt, derivative.last
        like = trial.inputs[wrt] if last == "tangent" else trial.expected["result"]
        direction = np.random.default_rng(like.size).standard_normal(like.shape)
        with backend.use_backend("numpy"):
            wanted = derivative.f(**trial.inputs, **{last: direction}, **trial.hyper)
        request = Request(
            "estimator", {**trial.inputs, last: direction}, {"hyper": trial.hyper}
        )
        answer = self.call(request, second)
        again = dataclasses.replace(trial, expected={"derivative": np.asarray(wanted)})
        if answer is None:
            return trials.Failure(again, "lost", error=LATE)
        if answer.parts and "result" in answer.parts:
            answer = dataclasses.replace(
                answer, parts={"derivative": answer.parts["result"]}
            )
        return trials.judge(PLAIN, again, answer)

    def _ask_draws(self):
        """Draws have the moments that they should, and the same generator gives the same ones.

        Moments are random: a case is right where they are within the allowance for two of three generators.
        """
        for case in checks.cases(self.record):
            failures = [self._drawn(case, seed) for seed in range(DRAWS)]
            wrong = [f for f in failures if f]
            self.tallies["value"].add(
                case.label, wrong[0] if 2 * len(wrong) > DRAWS else None
            )

    def _drawn(self, case, seed):
        answers = []
        for _ in range(2):
            inputs = {"rng": np.random.default_rng(seed), **case.inputs}
            answer = self.call(Request("estimator", inputs, {"hyper": case.hyper}))
            if answer is None or answer.error:
                return LATE if answer is None else answer.error
            answers.append(answer.parts.get("result"))
        draws, again = answers
        if draws is None or not np.array_equal(draws, again):
            return "the same generator does not give the same draws"
        try:
            with backend.use_backend("numpy"):
                moments = self.record.moments(draws, **case.inputs, **case.hyper)
        except Exception as error:
            return f"its draws have no moments ({type(error).__name__}); their shape is {draws.shape}"
        for name, (observed, expected, allowance) in moments.items():
            if not abs(observed - expected) <= allowance:
                return f"{name} is {observed:.4g}, expected {expected:.4g} within {allowance:.2g}"
        return None

    def _ask_errors(self):
        tally, like = self.tallies["errors"], None
        if not isinstance(self.record, catalog.Sampler):
            like = asked_trials(
                self.exercise.name, self.exercise.level, tuple(self.seeds)
            )["value"][0]
        for argument, what, inputs, hyper in refusals(self.exercise.name):
            group = f"{argument}: {what}" if argument else what
            if isinstance(self.record, catalog.Sampler):
                request = Request(
                    "estimator",
                    {"rng": np.random.default_rng(0), **inputs},
                    {"hyper": hyper},
                )
            else:
                request = trials.request(
                    self.record, dataclasses.replace(like, inputs=inputs, hyper=hyper)
                )
            answer = self.call(request)
            tally.add(group, self._refused(answer, argument))

    def _refused(self, answer, argument):
        if answer is None:
            return LATE
        if not answer.error:
            return "was accepted; a ValueError was expected"
        names = (
            [argument]
            if argument
            else [*self.record.inputs, *self.record.hyper_parameters]
        )
        if argument == "grads":
            names.append("gradients")
        if not answer.error.startswith(("raised ValueError", "raised TypeError")):
            return f"{answer.error}; a ValueError was expected"
        if not any(name in answer.error for name in names):
            return f"the message names no argument: {answer.error}"
        return None

    # ---- what is said

    def _errors(self):
        for tally in self.tallies.values():
            yield from (f.error for f in tally.failures if f.error)
            yield from tally.extra

    def _not_started(self):
        tallies = [
            t for stage, t in self.tallies.items() if stage in ("value", "gradient")
        ]
        errors = [f.error or "" for t in tallies for f in t.failures]
        cases = sum(count for t in tallies for _, count in t.groups.values())
        return (
            cases
            and len(errors) == cases
            and all(e.startswith(NOT_STARTED) for e in errors)
        )
