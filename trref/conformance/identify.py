"""Which catalogued function is it? All functions, settings and deviations of an interface, ranked by agreement."""

import dataclasses
import functools
import inspect
import itertools
import math
import statistics

import numpy as np

from trref import backend, catalog
from trref.conformance import hypotheses, trials
from trref.conformance.circumstances import FEWEST, exemptions
from trref.conformance.load import LoadError, Options, parameter
from trref.conformance.worker import Child, InProcess

__all__ = ["Candidate", "Identification", "Match", "candidates", "identify"]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A function under one of its settings, or a known deviation of it."""

    record: catalog.Record
    hyper: dict
    text: str
    deviation: catalog.Deviation | None = None

    def parts(self, inputs):
        """The parts of its result for host inputs."""
        return trials.reference(*self.runnable(inputs))

    def runnable(self, inputs):
        """Return a record, its inputs among the given ones, and the hyper-parameters to run it with."""
        if self.deviation is None:
            return self.record, self.own(inputs), self.hyper
        variant = dataclasses.replace(
            self.record,
            f=self.deviation.f,
            settings={"default": {}},
            limits=(),
            deviations=(),
        )
        keywords = inspect.signature(self.deviation.f).parameters
        hyper = {k: v for k, v in self.hyper.items() if k in keywords}
        return variant, self.own(inputs), hyper

    def takes(self, inputs):
        """Whether everything that it needs is there."""
        needed = (n for n, spec in self.record.inputs.items() if not spec.optional)
        return all(name in inputs for name in needed)

    def attempt(self, inputs):
        """The parts of its result; None where an input is missing or it refuses the case."""
        if not self.takes(inputs):
            return None
        try:
            with np.errstate(all="ignore"):  # not all are made for these inputs
                return self.parts(inputs)
        except (ValueError, TypeError, ArithmeticError, IndexError):
            return None

    def own(self, inputs):
        return {name: inputs[name] for name in self.record.inputs if name in inputs}


@dataclasses.dataclass(frozen=True)
class Match:
    """How well a candidate agrees: on how many of the cases, and on which it parts.

    `loosely` counts the cases that agree to single precision; `relation` is what holds in
    all cases where the two are not equal, such as a factor; `exempt` names the
    circumstances in which alone they differ.
    """

    candidate: Candidate
    agreed: int
    loosely: int
    cases: int
    error: float
    parts_on: tuple[str, ...]
    relation: str | None = None
    exempt: tuple[str, ...] = ()

    @property
    def exact(self):
        return self.agreed == self.cases > 0

    def __str__(self):
        text = f"{self.candidate.text}: {self.agreed} of {self.cases} cases"
        if self.relation:
            return f"{text}, but all with {self.relation}"
        if self.exempt:
            return f"{text}, all but those with {' or '.join(self.exempt)}"
        if not self.exact:
            if self.loosely > self.agreed:
                text += f" ({self.loosely} to {trials.SINGLE:g})"
            some = "; ".join(self.parts_on[:3])
            text += f", median relative error {self.error:.1e}; parts on: {some}"
        return text


@dataclasses.dataclass(frozen=True)
class Identification:
    """All matches, the best first."""

    interface: str
    matches: tuple[Match, ...]
    compared: str

    @property
    def exact(self):
        return tuple(m for m in self.matches if m.exact)

    @property
    def status(self):
        """As a verdict's: whether there is an exact match."""
        return "conforms" if self.exact else "deviates"

    def __str__(self):
        head = "EXACT, 100 % of the cases" if self.exact else "NO EXACT MATCH"
        if not self.exact and self.matches[0].exempt:
            head = "EXACT BUT FOR UNUSUAL CASES"
        lines = [f"{head} (interface {self.interface}; compared: {self.compared})"]
        if self.exact:
            lines += [f"  {m}" for m in self.exact]
            if len(self.exact) > 1:
                lines.append("  (these agree with each other on every case)")
        lines += [
            f"  {'next' if self.exact else 'nearest'}: {m}"
            for m in self.matches
            if not m.exact
        ][:3]
        return "\n".join(lines)

    def as_dict(self):
        """Return everything as what JSON can hold."""
        return {
            "interface": self.interface,
            "compared": self.compared,
            "matches": [
                {
                    "name": m.candidate.record.name,
                    "text": m.candidate.text,
                    "agreed": m.agreed,
                    "loosely": m.loosely,
                    "cases": m.cases,
                    "relation": m.relation,
                    "error": m.error if math.isfinite(m.error) else None,
                    "parts_on": list(m.parts_on),
                }
                for m in self.matches
            ],
        }


def candidates(interface, *, probes=False, constants=None):
    """Return every function, setting and deviation whose interface has this name.

    Parameters
    ----------
    interface : str
        Such as ``"surrogate"``; interfaces with further inputs are named ``"token_objective with group"`` and count
        as the same.
    probes : bool
        Also the settings named ``"probe"``.
    constants : dict, optional
        Hyper-parameters of all that have them; settings that say otherwise are left out.

    Raises
    ------
    ValueError
        No function has such an interface; the message lists those there are.
    """
    records = [
        r
        for r in catalog.records()
        if r.interface and _base(r.interface.name) == interface
    ]
    records = [
        r
        for r in records
        if isinstance(r, catalog.Objective | catalog.Transform | catalog.Estimator)
    ]
    if not records:
        known = sorted(
            {_base(r.interface.name) for r in catalog.records() if r.interface}
        )
        raise ValueError(
            f"no function has the interface {interface!r}; there are {', '.join(known)}"
        )
    found, constants = [], constants or {}
    for record in records:
        fixed = {k: v for k, v in constants.items() if k in record.hyper_parameters}
        for setting, hyper in record.settings.items():
            if setting == "probe" and not probes:
                continue
            if setting == "default" or not fixed.keys() & hyper.keys():
                named = f" [{setting}]" if setting != "default" else ""
                hyper = {**hyper, **fixed}
                found.append(Candidate(record, hyper, f"{record.name}{named}"))
        for deviation in record.deviations:
            text = f"{record.name}, deviation '{deviation.name}' ({deviation.seen_in})"
            hyper = {**record.settings["default"], **fixed}
            found.append(Candidate(record, hyper, text, deviation))
    return found


def _base(name):
    return name.split(" ")[0]


SIZES, SEEDS = (4, 8, 16), (0, 1, 2)


@functools.cache
def inputs_of(interface):
    """Return ``((label, inputs), …)``: each with everything that any of the interface's candidates needs."""
    records = {c.record.name: c.record for c in candidates(interface)}
    found = {}
    with backend.use_backend("numpy"):
        for name, record in records.items():
            for size, seed in itertools.product(SIZES, SEEDS):
                example = record.example(np.random.default_rng([size, seed]), size)
                _join(found, f"size {size}, seed {seed}", example, name)
            for edge, make in record.edges.items():
                _join(found, f"edge {edge!r}", make(), name)
    return tuple(found.items())


def _join(found, label, inputs, owner):
    """Add inputs to those of the same label, unless those are others by these names."""
    have = found.get(label, {})
    if not all(_equal(have[n], v) for n, v in inputs.items() if n in have):
        label = f"{label} of {owner}"
    found.setdefault(label, {}).update(inputs)


def _equal(a, b):
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return type(a) is type(b)


@functools.cache
def results_of(interface):
    """Return for each candidate a dict of what it gives for the inputs, by label; None where it does not take them."""
    return tuple(
        {label: c.attempt(inputs) for label, inputs in inputs_of(interface)}
        for c in candidates(interface)
    )


def identify(implementation, interface, options=None, *, limit=10.0, progress=None):
    """Rank the catalogued functions of an interface by their agreement with an implementation.

    Parameters
    ----------
    implementation : callable or str
        As for `verify`. Its own defaults count; ``options.constants`` are passed.
    interface : str
    options : Options, optional
    limit : float
        Seconds a call.
    progress : callable, optional
        Called with (done, all) after each candidate.

    Returns
    -------
    Identification

    Raises
    ------
    ValueError
        No such interface.
    LoadError
        The implementation cannot be loaded, or fails in every case.
    """
    options = options or Options()
    constants = {**options.constants, **options.reference}
    chosen = candidates(interface, constants=constants)
    known = {k for c in chosen for k in c.record.hyper_parameters}
    if unknown := set(options.reference) - known:
        raise LoadError(
            f"no function of the interface has a constant {unknown.pop()!r}"
        )
    make = Child if isinstance(implementation, str) else InProcess
    timed = {"limit": limit} if make is Child else {}
    runner, lost = make(implementation, options, **timed), 0
    try:
        described = runner.setup()
        for name in options.constants:
            if not described.accepts(name):
                takes = ", ".join(described.parameters)
                raise LoadError(f"the implementation takes no {name}; it takes {takes}")
        # an objective is asked for value and gradient, other records for their result
        by_kind = {_kind(c.record): c.record for c in chosen}
        answers = {}
        for label, inputs in inputs_of(interface):
            passed = {k: v for k, v in inputs.items() if described.accepts(k)}
            given = {
                p for k in (*passed, *options.constants) for p in described.theirs(k)
            }
            if not set(described.required) <= given | set(
                map(parameter, options.theirs)
            ):
                continue  # an edge case of another variant of the interface
            asked = {kind: _ask(runner, r, passed) for kind, r in by_kind.items()}
            answers[label] = (inputs, asked)
            lost += sum(answer.lost for answer in asked.values())
            if lost >= MOST_LOSSES:
                raise LoadError(next(a.error for a in asked.values() if a.lost))
    finally:
        runner.close()
    given = [answer for _, asked in answers.values() for answer in asked.values()]
    if not given:
        constants = [n for n in described.required if n in known]
        hint = "rename with --map OURS=THEIRS"
        if constants:
            hint = f"set {', '.join(constants)} with --set NAME=VALUE"
        wants = ", ".join(described.required)
        raise LoadError(f"no case of {interface} gives all of {wants} ({hint})")
    if all(answer.error for answer in given):
        raise LoadError(f"the implementation fails in every case: {given[0].error}")
    results = results_of(interface)
    if constants:
        every = inputs_of(interface)
        results = [
            {label: c.attempt(inputs) for label, inputs in every} for c in chosen
        ]
    matches = []
    for candidate, expected in zip(chosen, results, strict=True):
        matches.append(_match(candidate, expected, answers))
        if progress:
            progress(len(matches), len(chosen))
    matches.sort(key=_order)
    expected = dict(zip(map(id, chosen), results, strict=True))
    if not matches[0].exact:
        for candidate in _with_its_constants(chosen, described, constants):
            own = {label: candidate.attempt(x) for label, (x, _) in answers.items()}
            expected[id(candidate)] = own
            matches.append(_match(candidate, own, answers))
        matches.sort(key=_order)
    if not matches[0].exact:
        for i, match in enumerate(matches):
            own, near = expected[id(match.candidate)], i < NEAREST
            relation = _relation(match.candidate, own, answers, near)
            exempt = _exempt(match, answers) if near else ()
            matches[i] = dataclasses.replace(match, relation=relation, exempt=exempt)
        matches.sort(key=_order)
    best = _kind(matches[0].candidate.record)
    parts = {p for _, asked in answers.values() for p in asked[best].parts or ()}
    compared = sorted({part.split(" by ")[0] for part in parts})
    return Identification(interface, tuple(matches), " and ".join(compared))


def _with_its_constants(chosen, described, fixed):
    """Yield the candidates whose constants the implementation has by name, at its defaults."""
    for candidate in chosen:
        own, texts = candidate.record.hyper_parameters, []
        for name in own.keys() - fixed.keys():
            (*_, place) = described.theirs(name)
            value, usual = described.defaults.get(place), own[name]
            # no counts: a large one would keep the reference busy
            right = type(value) is type(usual) is float and math.isfinite(value)
            if right and value != candidate.hyper.get(name, usual):
                texts.append((name, value))
        if texts:
            given = ", ".join(f"{name} = {value}" for name, value in sorted(texts))
            yield dataclasses.replace(
                candidate,
                hyper={**candidate.hyper, **dict(texts)},
                text=f"{candidate.text} with its {given}",
            )


MOST_LOSSES = 3  # calls that do not come back
NEAREST = 8  # candidates of which other constants and exceptions are looked for


def _order(match):
    deviates, many = bool(match.candidate.deviation), len(match.candidate.record.inputs)
    fits = bool(match.relation or match.exempt)
    return not match.exact, not fits, -match.agreed, match.error, deviates, many


def _exempt(match, answers):
    """The circumstances in which a candidate parts from the answers, if it does nowhere else."""
    if match.cases - len(match.parts_on) < FEWEST:
        return ()
    failures, record = [], match.candidate.record
    for label in match.parts_on:
        trial = trials.Trial(label, "default", answers[label][0], {}, {})
        failures.append(trials.Failure(trial, "value", error="another value"))
    found = exemptions(record, failures, match.cases - len(failures))
    return tuple(e.text for e in found)


def _relation(candidate, expected, answers, constants):
    """A relation between a candidate's results and the answers that holds in every case, or None.

    `constants` says whether other constants are tried, too.
    """
    answered, parts = [], []
    for label, (inputs, asked) in answers.items():
        answer = asked[_kind(candidate.record)]
        if expected[label] is None or not answer.parts:
            return None
        own, hyper = candidate.own(inputs), candidate.hyper
        trial = trials.Trial(label, "default", own, hyper, expected[label])
        answered.append((trial, answer))
        parts.append(expected[label])
    relation = hypotheses.related(candidate.record, answered, parts)
    if relation or candidate.deviation or not constants:
        return relation
    return hypotheses.constant(candidate.record, answered)


def _kind(record):
    """Records of one kind are asked the same."""
    return type(record), getattr(record, "wrt", None)


def _ask(runner, record, passed):
    trial = trials.Trial("", "default", passed, {}, {"result": np.zeros(())})
    if isinstance(record, catalog.Transform):
        record = dataclasses.replace(record, vjp=None)
    return runner.call(trials.request(record, trial))


def _match(candidate, expected, answers):
    errors = {}
    for label, (inputs, asked) in answers.items():
        answer = asked[_kind(candidate.record)]
        error = _distance(candidate, inputs, expected[label], answer)
        if error is not None:
            errors[label] = error
    return Match(
        candidate,
        sum(error <= trials.DOUBLE for error in errors.values()),
        sum(error <= trials.SINGLE for error in errors.values()),
        len(errors),
        statistics.median(errors.values() or [float("inf")]),
        tuple(label for label, error in errors.items() if error > trials.DOUBLE),
    )


def _distance(candidate, inputs, parts, answer):
    """The largest relative difference of value and gradient; 0 within the gradient's hull at a kink.

    None where the candidate does not take the case, and the implementation refuses it, too.
    """
    worst = 0.0
    if parts is None:
        return None if answer.error else float("inf")
    if answer.error:
        return float("inf")
    for name, found in trials.align(answer.parts, parts).items():
        if name not in parts or parts[name].shape != found.shape:
            return float("inf")
        scale = trials.scale(parts, name)
        difference = float(abs(found - parts[name]).max(initial=0.0)) / scale
        kink = name.startswith("gradient") and candidate.deviation is None
        # what differs already is no match, whatever the gradient may be at a kink
        if kink and worst <= trials.DOUBLE < difference:
            own, hyper = candidate.own(inputs), candidate.hyper
            trial, record = (
                trials.Trial("", "default", own, hyper, parts),
                candidate.record,
            )
            if trials.inside_hull(record, trial, name, found, trials.DOUBLE * scale):
                difference = 0.0
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return worst


def equal_candidates(interface):
    """Group the candidates that agree on every case: what `identify` cannot and need not tell apart."""
    groups, given = [], dict(inputs_of(interface))
    for candidate, results in zip(
        candidates(interface), results_of(interface), strict=True
    ):
        for group in groups:
            other, first = group[0]
            common = [
                label
                for label, inputs in given.items()
                if candidate.takes(inputs) and other.takes(inputs)
            ]
            # no case that both take tells nothing
            if common and all(_same(results[label], first[label]) for label in common):
                group.append((candidate, results))
                break
        else:
            groups.append([(candidate, results)])
    return [[candidate for candidate, _ in group] for group in groups]


def _same(a, b):
    if a is None or b is None:
        return a is b
    a = trials.align(a, b)
    return a.keys() == b.keys() and all(
        a[k].shape == b[k].shape and trials.close(a[k], b, k) for k in a
    )
