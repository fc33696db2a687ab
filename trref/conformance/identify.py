"""Which catalogued function is it? All functions, settings and deviations of an interface, ranked by agreement."""

import dataclasses
import functools
import inspect
import itertools
import statistics

import numpy as np

from trref import backend, catalog
from trref.conformance import trials
from trref.conformance.load import LoadError, Options
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
            return self.record, self._own(inputs), self.hyper
        variant = dataclasses.replace(
            self.record,
            f=self.deviation.f,
            settings={"default": {}},
            limits=(),
            deviations=(),
        )
        keywords = inspect.signature(self.deviation.f).parameters
        hyper = {k: v for k, v in self.hyper.items() if k in keywords}
        return variant, self._own(inputs), hyper

    def attempt(self, inputs):
        """The parts of its result; None where an input is missing or the function refuses the case."""
        if any(
            name not in inputs
            for name, spec in self.record.inputs.items()
            if not spec.optional
        ):
            return None
        try:
            with np.errstate(
                all="ignore"
            ):  # not every candidate is made for these inputs
                return self.parts(inputs)
        except (ValueError, TypeError, ArithmeticError, IndexError):
            return None

    def _own(self, inputs):
        return {name: inputs[name] for name in self.record.inputs if name in inputs}


@dataclasses.dataclass(frozen=True)
class Match:
    """How well a candidate agrees: on how many of the cases, and on which it parts."""

    candidate: Candidate
    agreed: int
    cases: int
    error: float
    parts_on: tuple[str, ...]

    @property
    def exact(self):
        return self.agreed == self.cases > 0

    def __str__(self):
        text = f"{self.candidate.text}: {self.agreed} of {self.cases} cases"
        if not self.exact:
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
        lines = [
            f"{'EXACT' if self.exact else 'NO EXACT MATCH'} (interface {self.interface}; compared: {self.compared})"
        ]
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
                    "cases": m.cases,
                    "error": m.error,
                    "parts_on": list(m.parts_on),
                }
                for m in self.matches
            ],
        }


def candidates(interface, *, probes=False):
    """Return every function, setting and deviation whose interface has this name.

    Parameters
    ----------
    interface : str
        Such as ``"surrogate"``; interfaces with further inputs are named ``"token_objective with group"`` and count
        as the same.
    probes : bool
        Also the settings named ``"probe"``.

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
    found = []
    for record in records:
        for setting, hyper in record.settings.items():
            if setting != "probe" or probes:
                named = f" [{setting}]" if setting != "default" else ""
                found.append(Candidate(record, dict(hyper), f"{record.name}{named}"))
        for deviation in record.deviations:
            text = f"{record.name}, deviation '{deviation.name}' ({deviation.seen_in})"
            found.append(
                Candidate(record, dict(record.settings["default"]), text, deviation)
            )
    return found


def _base(name):
    return name.split(" ")[0]


SIZES, SEEDS = (4, 8, 16), (0, 1, 2)


@functools.cache
def inputs_of(interface):
    """Return ``((label, inputs), …)``: each with everything that any of the interface's candidates needs."""
    interfaces = {
        c.record.interface.name: c.record.interface for c in candidates(interface)
    }
    found = {}
    with backend.use_backend("numpy"):
        for shared in interfaces.values():
            for size, seed in itertools.product(SIZES, SEEDS):
                example = shared.example(np.random.default_rng([size, seed]), size)
                found.setdefault(f"size {size}, seed {seed}", {}).update(example)
            for name, make in shared.edges.items():
                found.setdefault(f"edge {name!r}", {}).update(make())
    return tuple(found.items())


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
    chosen = candidates(interface)
    runner = (
        Child(implementation, options, limit=limit)
        if isinstance(implementation, str)
        else InProcess(implementation, options)
    )
    try:
        described = runner.setup()
        # an objective is asked for value and gradient, other records for their result
        by_type = {type(c.record): c.record for c in chosen}
        answers = {}
        for label, inputs in inputs_of(interface):
            passed = {k: v for k, v in inputs.items() if described.accepts(k)}
            given = {place for k in passed for place in described.theirs(k)} | set(
                options.constants
            )
            if not set(described.required) <= given:
                continue  # an edge case of another variant of the interface
            answers[label] = (
                inputs,
                {
                    kind: _ask(runner, record, passed)
                    for kind, record in by_type.items()
                },
            )
    finally:
        runner.close()
    given = [answer for _, asked in answers.values() for answer in asked.values()]
    if not given:
        wants = ", ".join(described.required)
        raise LoadError(
            f"no case of the interface {interface} gives all of {wants} (rename with --map OURS=THEIRS)"
        )
    if all(answer.error for answer in given):
        raise LoadError(f"the implementation fails in every case: {given[0].error}")
    compared = sorted(
        {
            part.split(" by ")[0]
            for answer in given
            if answer.parts
            for part in answer.parts
        }
    )
    matches = []
    for candidate, expected in zip(chosen, results_of(interface), strict=True):
        matches.append(_match(candidate, expected, answers))
        if progress:
            progress(len(matches), len(chosen))
    matches.sort(
        key=lambda m: (
            -m.agreed,
            m.error,
            bool(m.candidate.deviation),
            len(m.candidate.record.inputs),
        )
    )
    return Identification(interface, tuple(matches), " and ".join(compared))


def _ask(runner, record, passed):
    trial = trials.Trial("", "default", passed, {}, {"result": np.zeros(())})
    if isinstance(record, catalog.Transform):
        record = dataclasses.replace(record, vjp=None)
    return runner.call(trials.request(record, trial))


def _match(candidate, expected, answers):
    agreed, errors, parts_on = 0, [], []
    for label, (inputs, asked) in answers.items():
        error = _distance(
            candidate, inputs, expected[label], asked[type(candidate.record)]
        )
        if error is None:
            continue
        errors.append(error)
        if error <= trials.DOUBLE:
            agreed += 1
        else:
            parts_on.append(label)
    return Match(
        candidate,
        agreed,
        len(errors),
        statistics.median(errors or [float("inf")]),
        tuple(parts_on),
    )


def _distance(candidate, inputs, parts, answer):
    """The largest relative difference of value and gradient; at a kink of the gradient, 0 within its hull.

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
        if (
            difference > trials.DOUBLE
            and name.startswith("gradient")
            and candidate.deviation is None
        ):
            trial = trials.Trial(
                "", "default", candidate._own(inputs), candidate.hyper, parts
            )
            if trials.inside_hull(
                candidate.record, trial, name, found, trials.DOUBLE * scale
            ):
                difference = 0.0
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return worst


def equal_candidates(interface):
    """Group the candidates that agree on every case: what `identify` cannot and need not tell apart."""
    groups = []
    for candidate, results in zip(
        candidates(interface), results_of(interface), strict=True
    ):
        for group in groups:
            if all(
                _same(results[label], first) for label, first in group[0][1].items()
            ):
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
