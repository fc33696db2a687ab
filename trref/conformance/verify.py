"""Does an implementation compute the published equations, gradient included, and if not, what does it compute?"""

import dataclasses
import time

import numpy as np

from trref import catalog
from trref.checks import check_gradient
from trref.checks.contracts import DOMAINS
from trref.checks.gradient import ContractError
from trref.conformance import hypotheses, picture, rows, trials
from trref.conformance.circumstances import CIRCUMSTANCES, FEWEST, exemptions, unusual
from trref.conformance.load import LoadError, Options, parameter
from trref.conformance.refusals import MOST_LOSSES, ask_refusals
from trref.conformance.shrink import shrink
from trref.conformance.verdict import Verdict
from trref.conformance.worker import Answer, Child, InProcess

__all__ = ["Verdict", "verify"]

EXPLAINING = 20.0  # seconds


def verify(
    name,
    implementation,
    options=None,
    *,
    settings=None,
    assume=(),
    errors=False,
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
    settings : sequence of str, optional
        Only these; by default all, or the default alone where constants are given.
    assume : sequence of str
        Circumstances that do not come up where the implementation is used, so that what
        it does there does not count: of "nonempty", "groups", "tangent", "answers",
        "solvable", "ties".
    errors : bool
        Whether to ask for errors, too: inputs that the function refuses must not be
        accepted.
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
    record, options = catalog.find(name), options or Options()
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        raise ValueError(
            f"{record.name} draws for itself ({type(record).__name__});"
            " there is no case by case to compare"
        )
    if unknown := [name for name in assume if name not in CIRCUMSTANCES]:
        known = ", ".join(CIRCUMSTANCES)
        raise ValueError(f"nothing is called {unknown[0]!r}; there are {known}")
    runner, start = _runner(implementation, options, limit), time.perf_counter()
    try:
        described = runner.setup()
        _require_fit(record, described, options)
        asked = _Asked(record, described, options, settings)
        everything = asked.trials(seeds=seeds, sizes=sizes)
        notes = []
        for other in described.others:  # what its code names was only a guess
            if not trials.ask(runner, record, everything[0]).error:
                break
            changed = dataclasses.replace(options, framework=other)
            again = _runner(implementation, changed, limit)
            if trials.ask(again, record, everything[0]).error:
                again.close()
            else:
                notes += [f"called with {other}; with {described.framework} it fails"]
                runner.close()
                runner, described = again, again.setup()
        judged = _Judge(record, runner, described, notes)
        for number, trial in enumerate(everything, start=1):
            judged.add(trial)
            if progress:
                progress(number, len(everything))
            if judged.lost >= MOST_LOSSES:
                plural = "s" if judged.lost > 1 else ""
                judged.notes.append(
                    f"{judged.lost} call{plural} did not come back;"
                    " the other cases were not run"
                )
                break
        refused = ()
        if errors and judged.answered and judged.lost < MOST_LOSSES:
            fixed = {*asked.constants, *options.theirs}
            like = next(t for t in everything if not t.single)
            refused = ask_refusals(record, runner, described, like, fixed)
        agreed = judged.cases - len(judged.failures)
        exempt = exemptions(record, judged.failures, agreed, judged.ask)
        explanations, smallest = (), None
        if judged.failures and explain and judged.answered:
            explanations = tuple(_explanations(record, judged))
            if not judged.lost:
                smallest = shrink(record, judged.failures, judged.ask, asked.small)
        return Verdict(
            function=record.name,
            framework=described.framework,
            cases=judged.cases,
            failures=tuple(judged.failures),
            settings=tuple(asked.settings),
            skipped=asked.skipped,
            compared=", ".join(judged.compared) or "nothing",
            explanations=explanations,
            smallest=smallest,
            notes=tuple(dict.fromkeys(judged.notes)),
            seconds=time.perf_counter() - start,
            exemptions=exempt,
            assumed=tuple(assume),
            refusals=refused,
            picture=_picture(record, runner, everything, smallest),
        )
    finally:
        runner.close()


def _picture(record, runner, everything, smallest):
    """What draws both functions through the smallest failing input, or an example."""
    if not isinstance(runner, InProcess):
        return None
    trial = smallest.trial if smallest else everything[0]

    def draw():
        found = picture.slices(record, trial, lambda t: trials.ask(runner, record, t))
        shown = max(found, key=lambda s: s.difference, default=None)
        return picture.draw(shown) if shown else ""

    return draw


def _runner(implementation, options, limit):
    if isinstance(implementation, str):
        return Child(implementation, options, limit=limit)
    return InProcess(implementation, options)


class _Asked:
    """What an implementation is asked: under which settings, and with which constants."""

    def __init__(self, record, described, options, only):
        own = record.hyper_parameters
        fixed = {**options.constants, **options.reference}
        self.constants = {k: v for k, v in fixed.items() if k in own}
        self.record, self.withheld = record, tuple(options.reference)
        self.without = tuple(
            n
            for n, spec in record.inputs.items()
            if spec.optional and not described.accepts(n)
        )
        if unknown := [s for s in only or () if s not in record.settings]:
            known = ", ".join(record.settings)
            raise LoadError(f"no setting {', '.join(unknown)}; there are {known}")
        default = ["default"] if self.constants else list(record.settings)
        chosen = {s: record.settings[s] for s in only or default}
        self.settings = {
            s: h
            for s, h in chosen.items()
            if s == "default" or all(described.accepts(k) for k in h)
        }
        self.skipped = tuple(s for s in chosen if s not in self.settings)
        self.skipped += self.without
        # without max_iter, it cannot be stopped on its way
        self.iterates = described.accepts("max_iter") and "max_iter" not in fixed

    def trials(self, settings=None, **choice):
        """The trials, as `trref.conformance.trials.trials` gives them."""
        try:
            every = trials.trials(
                self.record,
                settings or self.settings,
                self.constants,
                withheld=self.withheld,
                without=self.without,
                **choice,
            )
            return [trial for trial in every if self._can_be_asked(trial)]
        except (TypeError, ValueError) as error:
            raise LoadError(
                f"{self.record.name} does not take that: {error}"
            ) from error

    def small(self, setting):
        """A few small trials under one of the settings, for a failing input to show."""
        chosen, few = {setting: self.settings[setting]}, {"seeds": (0, 1, 2)}
        return self.trials(chosen, sizes=(1, 2, 3), single=False, **few)

    def _can_be_asked(self, trial):
        """Whether the implementation takes the limit that ends an iteration early."""
        early = trial.hyper.get("max_iter") != self.record.hyper_parameters.get(
            "max_iter"
        )
        ends = trial.iterate or (trial.solved and not trial.solved.converged and early)
        return self.iterates or not ends


def _require_fit(record, described, options):
    """Raise LoadError where the arguments do not fit, or an option names none."""
    own = tuple(record.inputs)
    if isinstance(record, catalog.UpdateRule):
        own = ("params", "grads", *record.step_inputs)
    ours = (*own, *record.hyper_parameters, *getattr(record, "stopped", ()), "state")
    ours += ("mask",) * options.rows
    _require_options(record, described, options, ours)
    if described.framework in ("torch optimizer", "optax"):
        return
    optional = [n for n, spec in record.inputs.items() if spec.optional]
    missing = [n for n in own if n not in optional and not described.accepts(n)]
    given = {parameter(place) for n in ours for place in described.theirs(n)}
    given |= {*map(parameter, options.theirs), *options.constants}
    unfilled = [p for p in described.required if p not in given]
    if missing or unfilled:
        text = f"expected a function of {', '.join(own)};"
        text += f" found one of {', '.join(described.parameters)}"
        if missing:
            text += f"; nothing takes {', '.join(missing)}"
            text += " (rename with --map OURS=THEIRS)"
        if unfilled:
            text += f"; nothing fills {', '.join(unfilled)}"
            text += " (set it with --set NAME=VALUE)"
        raise LoadError(text)


def _require_options(record, described, options, ours):
    """Raise LoadError where a name, a constant or a way to call has no place."""
    if options.micro_batches and not isinstance(record, catalog.Objective):
        raise LoadError(f"{record.name} is no objective: --micro-batches has no place")
    if options.rows and not set(rows.FOLDED) <= set(record.inputs):
        needs = ", ".join(rows.FOLDED)
        raise LoadError(f"{record.name} does not take {needs}: --rows has no place")
    for name in options.names:
        if name not in ours:
            known = ", ".join(ours)
            raise LoadError(f"{record.name} has no argument {name!r}; it has {known}")
    for name in [*options.names, *options.constants]:
        if not described.accepts(name):
            places, known = described.theirs(name), ", ".join(described.parameters)
            raise LoadError(
                f"the implementation takes no {', '.join(places)}; it takes {known}"
            )
    for name in {**options.constants, **options.reference}:
        if name in record.inputs:
            raise LoadError(
                f"{name} is an input of {record.name}; every case has its own"
            )
    if unknown := [n for n in options.reference if n not in record.hyper_parameters]:
        known = ", ".join(record.hyper_parameters)
        raise LoadError(f"{record.name} has no constant {unknown[0]!r}; it has {known}")
    if not described.takes_any:
        if unknown := [
            n for n in options.theirs if parameter(n) not in described.parameters
        ]:
            known = ", ".join(described.parameters)
            raise LoadError(
                f"the implementation takes no {unknown[0]}; it takes {known}"
            )


class _Judge:
    """Asks, judges, and keeps what the explanation needs."""

    def __init__(self, record, runner, described, notes):
        self.record, self.runner, self.described = record, runner, described
        self.cases, self.lost, self.notes = 0, 0, notes
        self.failures, self.answered, self.certified = [], [], None
        self.iterates = []  # answers on the way to a solution
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
        trial = trials.completed(self.record, trial, answer)
        if answer.printed:
            self.notes.append(f"prints while it computes: {answer.printed[:60]!r}")
        failure = trials.judge(self.record, trial, answer)
        if failure is None and trials.frees_value(self.record, answer):
            found, wanted = answer.parts["value"], trial.expected["value"]
            if not np.allclose(found, wanted, rtol=1e-6, atol=1e-9):
                self.notes.append("its value is another; the gradient is what counts")
        for part in answer.parts or ():
            if part in self._compares(trial) and not part.startswith("gradient"):
                self.compared[part] = None
        if answer.parts and not trial.single:
            kept = self.iterates if trial.iterate else self.answered
            kept.append((trial, _first_part(self.record, answer)))
        if isinstance(self.record, catalog.Objective) and answer.parts:
            if any(n.startswith("gradient") for n in answer.parts):
                by_autograd = self.described.framework in ("torch", "jax")
                self.compared[
                    "gradient by autograd" if by_autograd else "gradient as returned"
                ] = None
            elif not trial.single and failure is None:
                failure = self._by_differences(trial)
        if failure:
            self.failures.append(failure)

    def _compares(self, trial):
        """The parts of an answer that the verdict hangs on."""
        if trial.solved is None:
            return trial.expected
        if self.certified is None:
            self.certified = trials.certified(self.record, trial)
        return self.certified

    def _by_differences(self, trial):
        """The implementation gives a value only: its differences must agree with the reference's gradient."""
        record = self.record
        frozen = {
            k: catalog.call(f, trial.inputs, trial.hyper)
            for k, f in record.stopped.items()
        }
        if not self.described.options.gradient:
            self.compared["no gradient (it was not asked for)"] = None
            return None
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
    """What fits all answers; else what fits all but those in unusual circumstances; else
    what fits those under the default setting, of several; else what fits the iterates on
    the way, where the solutions are right.
    """
    rounding = not any(
        f.error and not f.error.startswith("by differences") for f in judged.failures
    )
    circumstances = [unusual(record, trial) for trial, _ in judged.answered]
    zipped = zip(judged.answered, circumstances, strict=True)
    usual = [pair for pair, names in zipped if not names]
    default = [pair for pair in judged.answered if pair[0].setting == "default"]
    met = {n: CIRCUMSTANCES[n][0] for names in circumstances for n in names}
    attempts = (
        (judged.answered, ""),
        (usual, f" (but for {', '.join(met.values())}: another thing)"),
        (default, " (under the default setting; not under others)"),
        (judged.iterates, " (on the way to a solution)"),
    )
    ends, sizes = time.monotonic() + EXPLAINING, set()
    failed = {(f.trial.label, f.trial.setting) for f in judged.failures}
    for answered, note in attempts:
        size = (len(answered), answered is judged.iterates)
        if size in sizes or len(answered) < FEWEST:
            continue
        if not any((trial.label, trial.setting) in failed for trial, _ in answered):
            continue  # nothing to explain
        sizes.add(size)
        left = max(1.0, ends - time.monotonic())
        if found := hypotheses.explain(
            record, answered, rounding=rounding, seconds=left
        ):
            return [dataclasses.replace(e, text=e.text + note) for e in found]
    return []


def _first_part(record, answer):
    """Of a solver, hypotheses explain the solution; histories of right solvers may differ."""
    if not isinstance(record, catalog.Solver):
        return answer
    return dataclasses.replace(
        answer,
        parts={k: v for k, v in answer.parts.items() if k.startswith("solution")},
    )
