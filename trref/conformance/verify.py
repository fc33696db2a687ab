"""Does an implementation compute the published equations, gradient included, and if not, what does it compute?"""

import collections
import dataclasses
import time

import numpy as np

from trref import catalog
from trref.checks import check_gradient
from trref.checks.contracts import DOMAINS
from trref.checks.gradient import ContractError
from trref.conformance import hypotheses, trials
from trref.conformance.load import LoadError, Options
from trref.conformance.worker import Answer, Child, InProcess

__all__ = ["Verdict", "verify"]

MOST_LOSSES = 3  # calls that do not come back


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes
    ----------
    function, framework : str
    cases : int
    failures : tuple of Failure
    settings, skipped : tuple of str
        Compared, and not compared for want of a keyword.
    compared : str
        Which parts of the results, and how the gradient was obtained.
    explanations : tuple of Explanation
        Hypotheses that fit all answers, the simplest first.
    smallest : Failure or None
        The smallest failing input that was found.
    notes : tuple of str
    seconds : float
    """

    function: str
    framework: str
    cases: int
    failures: tuple
    settings: tuple[str, ...]
    skipped: tuple[str, ...]
    compared: str
    explanations: tuple
    smallest: object
    notes: tuple[str, ...]
    seconds: float

    @property
    def status(self):
        """``"conforms"``, ``"deviates"``, or ``"could not run"``.

        The last where no case had an answer, or where a call did not come back and no answer differs.
        """
        unanswered = [f for f in self.failures if f.part in ("error", "lost")]
        if not self.failures and self.cases:
            return "conforms"
        if len(unanswered) == self.cases:
            return "could not run"
        lost = any(f.part == "lost" for f in unanswered)
        return (
            "could not run"
            if lost and len(unanswered) == len(self.failures)
            else "deviates"
        )

    @property
    def conforms(self):
        return self.status == "conforms"

    def __str__(self):
        lines = [f"{self.status.upper()}: {self.function} ({self.framework})"]
        lines.append(
            f"  {self.cases} cases in {self.seconds:.2f} s; settings {', '.join(self.settings)};"
            f" compared: {self.compared}"
        )
        if self.skipped:
            lines.append(
                f"  not compared, for want of the keyword: {', '.join(self.skipped)}"
            )
        lines += [f"  note: {note}" for note in self.notes]
        if not self.failures:
            return "\n".join(lines)
        if self.status == "could not run":
            reasons = collections.Counter(f.error for f in self.failures)
            lines += [f"  {len(self.failures)} of {self.cases} calls gave no answer"]
            return "\n".join(
                lines
                + [f"    {error} ({n} cases)" for error, n in reasons.most_common(3)]
            )
        lines.append(f"  {len(self.failures)} of {self.cases} cases differ")
        if self.explanations:
            lines += [f"  it {_verb(e)}" for e in self.explanations]
        else:
            lines.append("  no hypothesis explains all of them; they differ")
            lines += [f"    {line}" for line in self.groups()]
        lines += [f"    {failure}" for failure in self.failures[:2]]
        if self.smallest:
            lines.append("  smallest failing input:")
            lines += [f"    {line}" for line in _print_input(self.smallest)]
        return "\n".join(lines)

    def groups(self):
        """Say which groups of cases fail, and how many of each."""
        failed = collections.Counter(f.trial.setting for f in self.failures)
        parts = collections.Counter(f.part for f in self.failures)
        single = sum(f.trial.single for f in self.failures)
        edges = sorted(
            {
                f.trial.label.split("edge ")[1].split("'")[1]
                for f in self.failures
                if "edge" in f.trial.label
            }
        )
        lines = [f"in {part}: {n} cases" for part, n in parts.most_common()]
        lines += [f"under the setting {s}: {n} cases" for s, n in failed.most_common()]
        if single == len(self.failures):
            lines.append("in float32 only")
        if all("edge" in f.trial.label for f in self.failures):
            lines.append("in edge cases only: " + ", ".join(edges))
        return lines

    def as_dict(self):
        """Return everything as what JSON can hold."""
        return {
            "function": self.function,
            "framework": self.framework,
            "status": self.status,
            "conforms": self.conforms,
            "cases": self.cases,
            "failures": [_failure_dict(f) for f in self.failures],
            "settings": list(self.settings),
            "skipped": list(self.skipped),
            "compared": self.compared,
            "explanations": [dataclasses.asdict(e) for e in self.explanations],
            "smallest": _failure_dict(self.smallest) if self.smallest else None,
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def _verb(explanation):
    text = str(explanation)
    return (
        text
        if text.startswith(("computes", "ignores", "takes"))
        else f"is the published function, but for this: {text}"
    )


def _failure_dict(failure):
    return {
        "case": failure.trial.label,
        "setting": failure.trial.setting,
        "part": failure.part,
        "message": str(failure),
        "inputs": {
            k: v.tolist()
            for k, v in failure.trial.inputs.items()
            if isinstance(v, np.ndarray)
        },
    }


def _print_input(failure):
    trial = failure.trial
    with np.printoptions(precision=6, suppress=True, linewidth=100, threshold=40):
        lines = [
            f"{k} = {np.array2string(v, separator=', ')}".replace("\n", " ")
            for k, v in trial.inputs.items()
            if isinstance(v, np.ndarray)
        ]
        lines.append(
            f"({', '.join(f'{k} = {v}' for k, v in trial.hyper.items())})"
            if trial.hyper
            else ""
        )
        if failure.error:
            lines.append(failure.error)
        else:
            lines.append(
                f"expected {failure.part} {np.array2string(np.asarray(failure.expected), separator=', ')}"
            )
            lines.append(
                f"found    {failure.part} {np.array2string(np.asarray(failure.found), separator=', ')}"
            )
    return [line for line in lines if line]


def verify(
    name,
    implementation,
    options=None,
    *,
    limit=10.0,
    progress=None,
    explain=True,
    seeds=(0, 1),
    sizes=(4, 8, 64),
):
    """Compare an implementation with a catalogued function on all its cases.

    Parameters
    ----------
    name : str
        Of an Objective, Transform, Estimator, UpdateRule or Solver of the catalogue.
    implementation : callable or str
        A function, called in this process; or ``"file.py:function"``, called in a child process with a time limit. It
        gets arrays under the catalogue's argument names. Objectives return the value, or value and gradient; an update
        rule is ``update(params, grads, state, **hyper) -> (params, state)``, or a class with the protocol of
        torch.optim; the first state is ``init(params)`` where the function's module has such a function, else None. A
        solver returns its solution; what else its result names as the reference's does is compared, too.
    options : Options, optional
        Framework, renamed arguments, constants, sign.
    limit : float
        Seconds a call in a child process.
    progress : callable, optional
        Called with (done, all) after each case.
    explain : bool
        Whether to look for hypotheses and the smallest failing input.
    seeds, sizes : sequences of int
        Of the examples.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        No such function, or one of a type that cannot be compared.
    LoadError
        The implementation cannot be loaded, or does not fit the function's arguments.
    """
    record, options, start = (
        catalog.find(name),
        options or Options(),
        time.perf_counter(),
    )
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        raise ValueError(
            f"{record.name} draws for itself ({type(record).__name__}); there is no case by case to compare"
        )
    runner = (
        Child(implementation, options, limit=limit)
        if isinstance(implementation, str)
        else None
    )
    runner = runner or InProcess(implementation, options)
    try:
        described = runner.setup()
        _require_fit(record, described, options)
        constants = {
            k: v for k, v in options.constants.items() if k in record.hyper_parameters
        }
        settings = {"default": {}} if constants else record.settings
        usable = {
            s: h
            for s, h in settings.items()
            if s == "default" or all(described.accepts(k) for k in h)
        }
        judged = _Judge(record, runner, described)
        everything = list(
            trials.trials(record, usable, constants, seeds=seeds, sizes=sizes)
        )
        if (
            not described.accepts("max_iter") or "max_iter" in constants
        ):  # it cannot be stopped on its way
            everything = [trial for trial in everything if not trial.iterate]
        for number, trial in enumerate(everything, start=1):
            judged.add(trial)
            if progress:
                progress(number, len(everything))
            if judged.lost >= MOST_LOSSES:
                judged.notes.append(
                    f"{MOST_LOSSES} calls did not come back; the other cases were not run"
                )
                break
        explanations, smallest = (), None
        if judged.failures and explain and judged.answered:
            explanations = tuple(_explanations(record, judged))
            smallest = _shrink(record, judged, usable, constants)
        return Verdict(
            function=record.name,
            framework=described.framework,
            cases=judged.cases,
            failures=tuple(judged.failures),
            settings=tuple(usable),
            skipped=tuple(s for s in settings if s not in usable),
            compared=", ".join(judged.compared) or "nothing",
            explanations=explanations,
            smallest=smallest,
            notes=tuple(dict.fromkeys(judged.notes)),
            seconds=time.perf_counter() - start,
        )
    finally:
        runner.close()


def _require_fit(record, described, options):
    if described.framework == "torch optimizer":
        return
    own = (
        ("params", "grads")
        if isinstance(record, catalog.UpdateRule)
        else tuple(record.inputs)
    )
    optional = (
        [n for n in record.inputs if record.inputs[n].optional]
        if own == tuple(record.inputs)
        else []
    )
    missing = [n for n in own if n not in optional and not described.accepts(n)]
    ours = (*own, *record.hyper_parameters, "state")
    given = {
        place.partition("[")[0] for name in ours for place in described.theirs(name)
    }
    unfilled = [
        p for p in described.required if p not in given and p not in options.constants
    ]
    if missing or unfilled:
        text = f"expected a function of {', '.join(own)}; found one of {', '.join(described.parameters)}"
        if missing:
            text += (
                f"; nothing takes {', '.join(missing)} (rename with --map OURS=THEIRS)"
            )
        if unfilled:
            text += (
                f"; nothing fills {', '.join(unfilled)} (set it with --set NAME=VALUE)"
            )
        raise LoadError(text)


class _Judge:
    """Asks, judges, and keeps what the explanation needs."""

    def __init__(self, record, runner, described):
        self.record, self.runner, self.described = record, runner, described
        self.cases, self.lost, self.failures, self.answered, self.notes = (
            0,
            0,
            [],
            [],
            [],
        )
        self.compared = {}  # as an ordered set

    def ask(self, trial):
        if self.lost >= MOST_LOSSES:
            return Answer(error="was not asked again", lost=True)
        answer = trials.ask(self.runner, self.record, trial)
        self.lost += answer.lost
        return answer

    def add(self, trial):
        self.cases += 1
        answer = self.ask(trial)
        if answer.printed:
            self.notes.append(f"prints while it computes: {answer.printed[:60]!r}")
        failure = trials.judge(self.record, trial, answer)
        known = {*trial.expected, "vjp"}
        self.compared |= dict.fromkeys(
            p for p in answer.parts or () if p in known and not p.startswith("gradient")
        )
        if answer.parts and not (trial.single or trial.iterate):
            self.answered.append((trial, _first_part(self.record, answer)))
        if isinstance(self.record, catalog.Objective) and answer.parts:
            if any(n.startswith("gradient") for n in answer.parts):
                by_autograd = self.described.framework == "torch"
                self.compared[
                    "gradient by autograd" if by_autograd else "gradient as returned"
                ] = None
            elif not trial.single and failure is None:
                failure = self._by_differences(trial)
        if failure:
            self.failures.append(failure)

    def _by_differences(self, trial):
        """The implementation gives a value only: its differences must agree with the reference's gradient."""
        record = self.record
        frozen = {
            k: catalog.call(f, trial.inputs, trial.hyper)
            for k, f in record.stopped.items()
        }
        if not all(self.described.accepts(k) for k in frozen):
            self.compared["no gradient (a value alone cannot show a stop-gradient)"] = (
                None
            )
            return None
        self.compared["gradient by differences"], answers = None, []
        for name in record.wrt_names:

            def value(x, name=name):
                moved = dataclasses.replace(
                    trial,
                    inputs={**trial.inputs, name: x},
                    hyper={**trial.hyper, **frozen},
                )
                answers.append(self.ask(moved))
                found = (answers[-1].parts or {}).get("value")
                return (
                    float(found)
                    if found is not None and found.ndim == 0
                    else float("nan")
                )

            gradient = trial.expected[f"gradient by {name}"]
            domain = DOMAINS.get(record.inputs[name].kind, (-np.inf, np.inf))
            try:
                check_gradient(
                    value,
                    trial.inputs[name],
                    gradient,
                    rng=np.random.default_rng(0),
                    domain=domain,
                )
            except ContractError as error:
                if lost := [a.error for a in answers if a.lost]:
                    return trials.Failure(
                        trial, "lost", error=f"near this case: {lost[0]}"
                    )
                return trials.Failure(
                    trial, f"gradient by {name}", error=f"by differences: {error}"
                )
        return None


def _explanations(record, judged):
    """What fits all answers; or else what fits those under the default setting, if there are others."""
    found = hypotheses.explain(record, judged.answered)
    default = [
        (trial, answer)
        for trial, answer in judged.answered
        if trial.setting == "default"
    ]
    if found or len(default) == len(judged.answered):
        return found
    found = hypotheses.explain(record, default)
    return [
        dataclasses.replace(
            e, text=f"{e.text} (under the default setting; not under others)"
        )
        for e in found
    ]


def _first_part(record, answer):
    """Of a solver, hypotheses explain the solution; histories of right solvers may differ."""
    if not isinstance(record, catalog.Solver):
        return answer
    return dataclasses.replace(
        answer,
        parts={k: v for k, v in answer.parts.items() if k.startswith("solution")},
    )


def _shrink(record, judged, settings, constants, tries=150):
    """Look for a failing input that fits on a screen: small, with short numbers."""
    if (
        not isinstance(
            record, catalog.Objective | catalog.Transform | catalog.Estimator
        )
        or judged.lost
    ):
        return None
    failing = [f for f in judged.failures if not f.trial.single]
    if not failing:
        return None
    best = min(failing, key=_entries)
    setting = {"default": settings[best.trial.setting]}
    for trial in trials.trials(
        record, setting, constants, seeds=(0, 1, 2), sizes=(1, 2, 3), single=False
    ):
        tries -= 1
        failure = trials.judge(record, trial, judged.ask(trial))
        if failure and not failure.error and _entries(failure) < _entries(best):
            best = failure
    for name, array in best.trial.inputs.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            continue
        for candidate in _simpler(array):
            tries -= 1
            if tries < 0:
                return best
            if failure := _still_fails(record, judged, best, name, candidate):
                best = failure
                break
    return best


def _entries(failure):
    return sum(
        a.size for a in failure.trial.inputs.values() if isinstance(a, np.ndarray)
    )


def _simpler(array):
    """Shorter numbers, the shortest first."""
    return [np.round(array, digits) + 0.0 for digits in (0, 1, 2, 3)]


def _still_fails(record, judged, failure, name, candidate):
    inputs = {**failure.trial.inputs, name: candidate}
    try:
        expected = trials.reference(record, inputs, failure.trial.hyper)
    except (ValueError, TypeError):
        return None
    trial = dataclasses.replace(failure.trial, inputs=inputs, expected=expected)
    again = trials.judge(record, trial, judged.ask(trial))
    return again if again and bool(again.error) == bool(failure.error) else None
