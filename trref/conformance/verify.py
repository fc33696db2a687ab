"""Does an implementation compute the published equations, gradient included?

Everything comes from the catalogue's record: cases, settings, reference values and gradients.
"""

import dataclasses
import time

import numpy as np

from trref import backend, catalog, checks
from trref.conformance.load import Implementation

__all__ = ["Failure", "Verdict", "verify"]

TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Failure:
    """One case that differs: what (value or gradient by an input), expected and found, or the error."""

    case: str
    what: str
    expected: object
    found: object
    error: str | None = None

    def __str__(self):
        if self.error:
            return f"{self.case}: {self.error}"
        worst = np.unravel_index(abs(self.found - self.expected).argmax(), self.expected.shape)
        at = f"[{', '.join(map(str, worst))}]" if worst else ""
        return f"{self.case}: {self.what}{at} is {self.found[worst]:.10g}, expected {self.expected[worst]:.10g}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What `verify` found."""

    function: str
    framework: str
    cases: int
    failures: tuple[Failure, ...]
    settings: tuple[str, ...]
    skipped: tuple[str, ...]
    gradient: str
    seconds: float

    @property
    def conforms(self):
        return not self.failures and self.cases > 0

    def __str__(self):
        lines = [f"{'CONFORMS' if self.conforms else 'DEVIATES'}: {self.function} ({self.framework})"]
        lines.append(
            f"  {self.cases} cases in {self.seconds:.2f} s; settings {', '.join(self.settings)}; {self.gradient}"
        )
        if self.skipped:
            lines.append(f"  not compared, for want of the keyword: {', '.join(self.skipped)}")
        if self.failures:
            lines.append(f"  {len(self.failures)} cases differ, the first of them:")
            lines += [f"    {failure}" for failure in self.failures[:3]]
        return "\n".join(lines)


def verify(name, function, *, framework="auto", names=None, constants=None, maximise=False):
    """Compare an implementation with a catalogued function on all its cases.

    Parameters
    ----------
    name : str
        Of an Objective, Transform or Estimator of the catalogue.
    function : callable
        It gets arrays under the catalogue's argument names. For an objective it returns the value, or value and
        gradient; a torch function returns the value.
    framework : {"auto", "numpy", "torch"}
    names : dict, optional
        Renames arguments: catalogue's name to the function's.
    constants : dict, optional
        Passed in every case. Where a constant is one of the catalogue's hyper-parameters, the reference gets it too,
        and only the default setting is compared.
    maximise : bool
        The implementation returns the quantity to maximise.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        No such function, or of a type that is not compared yet.
    """
    record = catalog.find(name)
    if not isinstance(record, catalog.Objective | catalog.Transform | catalog.Estimator):
        raise ValueError(f"{record.name} is a {type(record).__name__}; verify compares Objective, Transform, Estimator")
    constants = constants or {}
    implementation = Implementation(
        function, framework=framework, names=names, constants=constants, sign=-1.0 if maximise else 1.0
    )
    missing = [n for n, s in record.inputs.items() if not s.optional and not implementation.accepts(n)]
    if missing:
        raise ValueError(
            f"the implementation takes {implementation.parameters}, but {record.name} gives {list(record.inputs)}:"
            f" rename {', '.join(missing)}"
        )
    shared = {k: v for k, v in constants.items() if k in record.hyper_parameters}
    settings = {"default": {}} if shared else record.settings
    usable = {s: h for s, h in settings.items() if all(implementation.accepts(k) for k in h)}
    chosen = dataclasses.replace(record, settings=usable)
    wrt = record.wrt_names if isinstance(record, catalog.Objective) else ()

    start, failures, number, kinds = time.perf_counter(), [], 0, set()
    with backend.use_backend("numpy"):
        for case in checks.cases(chosen):
            number += 1
            failure, kind = _compare(record, implementation, case, shared, wrt)
            kinds.add(kind)
            if failure:
                failures.append(failure)
    return Verdict(
        function=record.name,
        framework=implementation.framework,
        cases=number,
        failures=tuple(failures),
        settings=tuple(usable),
        skipped=tuple(s for s in settings if s not in usable),
        gradient=", ".join(sorted(kinds - {None})) or "no gradient",
        seconds=time.perf_counter() - start,
    )


def _compare(record, implementation, case, shared, wrt):
    """Return a `Failure` or None, and how the gradient was obtained."""
    hyper = {**case.hyper, **shared}
    reference = checks.run(record, case.inputs, hyper)
    copies = checks.convert(case.inputs, np.copy)
    try:
        value, gradients = implementation(copies, _passed(record, hyper, shared), wrt)
    except Exception as error:
        return Failure(case.label, "error", None, None, f"raised {type(error).__name__}: {error}"), None
    if not wrt:
        expected = np.asarray(reference)
        return _differs(case, "result", expected, value, checks.hull_of, (record, case.inputs, hyper, "result")), None

    expected = np.asarray(reference[0])
    if failure := _differs(case, "value", expected, value):
        return failure, None
    if gradients is None:
        return _by_differences(record, implementation, case, reference, shared, hyper)
    kind = "gradient by autograd" if implementation.framework == "torch" else "gradient as returned"
    for name in wrt:
        expected = np.asarray(reference[1] if isinstance(record.wrt, str) else getattr(reference[1], name))
        part = "result.1" if isinstance(record.wrt, str) else f"result.1.{name}"
        what = f"gradient by {name}"
        if failure := _differs(
            case, what, expected, gradients[name], checks.hull_of, (record, case.inputs, hyper, part)
        ):
            return failure, kind
    return None, kind


def _passed(record, hyper, shared):
    """The hyper-parameters to pass: defaults included, so that an implementation's own defaults do not matter."""
    known = {k: v for k, v in record.hyper_parameters.items() if v is not None}
    return {k: v for k, v in {**known, **hyper}.items() if k not in shared}


def _differs(case, what, expected, found, hull=None, of=()):
    if found.shape != expected.shape:
        return Failure(case.label, what, None, None, f"{what} has shape {found.shape}, expected {expected.shape}")
    allowed = TOLERANCE * max(float(abs(expected).max()), 1e-12)
    if (abs(found - expected) <= allowed).all():
        return None
    if hull and np.isfinite(found).all():
        around = hull(*of)
        if ((found >= around.min(0) - allowed) & (found <= around.max(0) + allowed)).all():
            return None
    return Failure(case.label, what, expected, found)


def _by_differences(record, implementation, case, reference, shared, hyper):
    """The implementation gives no gradient: its differences must agree with the reference's."""
    kind = "gradient by differences"
    passed = _passed(record, hyper, shared)
    frozen = {k: catalog.call(f, case.inputs, hyper) for k, f in record.stopped.items() if implementation.accepts(k)}
    if set(frozen) != set(record.stopped):
        return None, "no gradient compared: a value alone cannot show a stop-gradient"
    for name in record.wrt_names:
        gradient = reference[1] if isinstance(record.wrt, str) else getattr(reference[1], name)

        def value(x, name=name):
            return float(implementation({**case.inputs, name: x}, {**passed, **frozen})[0])

        try:
            checks.check_gradient(value, case.inputs[name], gradient, rng=np.random.default_rng(0))
        except checks.ContractError as error:
            return Failure(case.label, f"gradient by {name}", None, None, f"gradient by {name}: {error}"), kind
    return None, kind
