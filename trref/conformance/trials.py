"""What an implementation is asked, and how its answer is judged. Everything comes from the catalogue's record."""

import dataclasses
import inspect
import itertools
import warnings

import numpy as np

from trref import backend, catalog, checks, validate
from trref.conformance.load import solver_parts
from trref.conformance.worker import Request

__all__ = [
    "DOUBLE",
    "SINGLE",
    "Failure",
    "Trial",
    "align",
    "ask",
    "certified",
    "close",
    "completed",
    "frees_value",
    "hull",
    "inside_hull",
    "judge",
    "reference",
    "request",
    "scale",
    "tolerance",
    "trials",
]

DOUBLE, SINGLE = 1e-9, 2e-4
SHARES = (
    1e-3,
    0.1,
)  # of the result's largest part, in double and single precision: what a smaller part is relative to
FLOORS = (
    1e-5,
    1e-3,
)  # a result below counts as of this size: terms of size 1 may cancel and leave only rounding
STEPS = 50
LEAST_BYTES, MARGIN = (
    1 << 20,
    64,
)  # an answer may have so many bytes, and so many times those of the reference's
ITERATES = (1, 2, 5)


@dataclasses.dataclass(frozen=True)
class Trial:
    """Inputs and hyper-parameters, and the parts that the reference gives for them.

    Parameters
    ----------
    label, setting : str
    inputs : dict
        What the implementation gets; in float32 where `single`.
    hyper : dict
        Of the setting, defaults included.
    expected : dict
        Parts by name. In single precision: the float64 result at the rounded inputs.
    single : bool
    iterate : bool
        A solver stopped after a few iterations, on the way to its solution.
    solved : NamedTuple, optional
        The whole result of a solver that was not stopped.
    withheld : collection of str
        Hyper-parameters that the implementation is not given.
    """

    label: str
    setting: str
    inputs: dict
    hyper: dict
    expected: dict
    single: bool = False
    iterate: bool = False
    solved: tuple | None = None
    withheld: tuple = ()

    @property
    def entries(self):
        """How many numbers the inputs have."""
        arrays = [a for a in self.inputs.values() if isinstance(a, np.ndarray)]
        return sum(a.size for a in arrays)

    @property
    def double_inputs(self):
        return checks.convert(self.inputs, checks.as_dtype(np.float64))


@dataclasses.dataclass(frozen=True)
class Failure:
    """One trial that differs: which part, expected and found; or what went wrong instead.

    Without an answer the part is ``"error"``, or ``"lost"`` where the call did not come back.
    """

    trial: Trial
    part: str
    expected: object = None
    found: object = None
    error: str | None = None

    def __str__(self):
        if self.error:
            return f"{self.trial.label}: {self.error}"
        entry = self.worst
        at = f"[{', '.join(map(str, entry))}]" if entry else ""
        return f"{self.trial.label}: {self.part}{at} is {self.found[entry]:.10g}, expected {self.expected[entry]:.10g}"

    @property
    def distance(self):
        """The largest error, relative to what differences of the part are relative to."""
        if self.error:
            return 0.0
        parts, single = self.trial.expected, self.trial.single
        error = float(np.nanmax(abs(self.found - self.expected)))
        return error / scale(parts, self.part, single)

    @property
    def worst(self):
        """The index of the entry that is furthest off."""
        return tuple(
            int(i)
            for i in np.unravel_index(
                np.nanargmax(abs(self.found - self.expected)), self.found.shape
            )
        )


def reference(record, inputs, hyper):
    """Return the parts of the reference's result for host inputs in float64."""
    if isinstance(record, catalog.UpdateRule):
        with backend.use_backend("numpy"):
            return _path(record, inputs, hyper)
    result = _result(record, inputs, hyper)
    if isinstance(record, catalog.Objective):
        several = result[1] if not isinstance(record.wrt, str) else (result[1],)
        gradients = [
            getattr(several, n, several[i]) for i, n in enumerate(record.wrt_names)
        ]
        named = {
            f"gradient by {n}": np.asarray(g)
            for n, g in zip(record.wrt_names, gradients, strict=True)
        }
        return {"value": np.asarray(result[0]), **named}
    if isinstance(record, catalog.Solver):
        return solver_parts(result)
    return dict(checks.flatten(result))


def _result(record, inputs, hyper):
    with backend.use_backend("numpy"), warnings.catch_warnings():
        warnings.simplefilter("ignore", validate.ConvergenceWarning)
        return checks.run(record, inputs, hyper)


def _path(record, inputs, hyper):
    params, state, path = inputs["params"], record.init(inputs["params"]), []
    for k, grads in enumerate(inputs["gradients"]):
        more = record.at_step(inputs, k)
        params, state = record.f(params, grads, state, **more, **hyper)
        path.append(params)
    return {
        f"params[{i}] by step": np.stack([step[i] for step in path])
        for i in range(len(params))
    }


def trials(
    record,
    settings,
    constants,
    *,
    withheld=(),
    without=(),
    seeds=(0, 1),
    sizes=(4, 8, 64),
    single=True,
):
    """Yield the trials of a record under some of its settings.

    Parameters
    ----------
    record : Record
    settings : mapping of str to mapping
    constants : dict
        Hyper-parameters that are the same in every trial.
    withheld : collection of str
        Those that the implementation is not given.
    without : collection of str
        Optional inputs that are left out, because the implementation does not take them.
    seeds, sizes : sequences of int
    single : bool
        Also in float32.
    """
    missing = (None, inspect.Parameter.empty)
    defaults = {k: v for k, v in record.hyper_parameters.items() if v not in missing}
    for setting, own in settings.items():
        alone = dataclasses.replace(record, settings={"default": own})
        for case in checks.cases(alone, sizes=sizes, seeds=seeds):
            inputs = {n: v for n, v in case.inputs.items() if n not in without}
            if isinstance(record, catalog.UpdateRule):
                inputs = _lengthen(record, inputs)
            hyper = {**defaults, **case.hyper, **constants}
            label = case.label.replace("default", setting, 1)
            trial = Trial(label, setting, inputs, hyper, {}, withheld=withheld)
            yield from _variants(record, trial, single)
    for case in checks.special_cases(record, getattr(record, "failures", {})):
        inputs = {n: v for n, v in case.inputs.items() if n not in without}
        hyper = {**defaults, **case.hyper, **constants}
        label = f"default, without an end: {case.label}"
        trial = Trial(label, "default", inputs, hyper, {}, withheld=withheld)
        yield from _variants(record, trial, single)


def _variants(record, trial, single):
    """Yield a trial with the reference's parts, and what is asked beside it: float32, or iterates."""
    inputs, hyper, replace = trial.inputs, trial.hyper, dataclasses.replace
    if isinstance(record, catalog.Solver):
        solved = _result(record, inputs, hyper)
        yield replace(trial, expected=solver_parts(solved), solved=solved)
    else:
        yield replace(trial, expected=reference(record, inputs, hyper))
        if single:
            rounded = checks.convert(inputs, checks.as_dtype(np.float32))
            again = checks.convert(rounded, checks.as_dtype(np.float64))
            expected = reference(record, again, hyper)
            label = f"{trial.label}, float32"
            yield replace(
                trial, label=label, inputs=rounded, expected=expected, single=True
            )
    if _has_iterates(record) and "size" in trial.label:
        for k in ITERATES:
            limited = {**hyper, "max_iter": k}
            expected = reference(record, inputs, limited)
            label = f"{trial.label}, iterate {k}"
            yield replace(
                trial, label=label, hyper=limited, expected=expected, iterate=True
            )


def _has_iterates(record):
    return (
        isinstance(record, catalog.Solver)
        and record.prescribed
        and "max_iter" in record.hyper_parameters
    )


def _lengthen(record, inputs):
    """Repeat the gradients, each time rescaled and reversed, until there are at least 50 steps; other data as it is."""
    gradients, rng = list(inputs["gradients"]), np.random.default_rng(50)
    while len(gradients) < STEPS:
        scale = rng.choice((0.3, 1.0, 2.0))
        gradients += [
            [scale * (g + g.std() * rng.standard_normal(g.shape)) for g in grads]
            for grads in gradients[::-1]
        ]
    steps = max(STEPS, len(inputs["gradients"]))
    names = record.step_inputs.values()
    more = {n: list(itertools.islice(itertools.cycle(inputs[n]), steps)) for n in names}
    return {**inputs, **more, "gradients": gradients[:steps]}


def request(record, trial):
    """Return what to ask the implementation for a trial."""
    hyper = {k: v for k, v in trial.hyper.items() if k not in trial.withheld}
    arguments, kind = {"hyper": hyper}, type(record).__name__.lower()
    if isinstance(record, catalog.Objective):
        arguments["wrt"] = record.wrt_names
    if isinstance(record, catalog.UpdateRule):
        arguments["step_inputs"] = dict(record.step_inputs)
    if isinstance(record, catalog.Transform):
        cotangent = _cotangent(trial.expected["result"]).astype(
            np.float32 if trial.single else float
        )
        arguments |= {"wrt": record.wrt, "cotangent": cotangent if record.vjp else None}
    most = MARGIN * sum(np.asarray(a).nbytes for a in trial.expected.values())
    return Request(
        "update" if kind == "updaterule" else kind,
        trial.inputs,
        arguments,
        LEAST_BYTES + most,
    )


def completed(record, trial, answer):
    """Return the trial with the derivative that the answer gives, where it is a transform's."""
    if "vjp" not in (answer.parts or ()):
        return trial
    expected = {**trial.expected, "vjp": _vjp(record, trial, trial.double_inputs)}
    return dataclasses.replace(trial, expected=expected)


def _vjp(record, trial, inputs):
    with backend.use_backend("numpy"):
        cotangent = _cotangent(trial.expected["result"])
        return record.vjp(**inputs, cotangent=cotangent, **trial.hyper)


def _cotangent(result):
    return np.random.default_rng(result.size).standard_normal(result.shape)


def judge(record, trial, answer):
    """Return a `Failure`, or None where the answer is the reference's."""
    if answer.error:
        return Failure(trial, "lost" if answer.lost else "error", error=answer.error)
    if answer.changed:
        return Failure(
            trial,
            "inputs",
            error=f"changed its input {', '.join(answer.changed)} in place",
        )
    trial = completed(record, trial, answer)
    expected = trial.expected
    first = next(iter(expected))
    if first not in answer.parts:
        return Failure(
            trial,
            first,
            error=f"gave {', '.join(answer.parts) or 'nothing'}, expected {first}",
        )
    if isinstance(record, catalog.Solver) and not trial.iterate:
        return _judge_solution(record, trial, answer)
    gradient_alone = frees_value(record, answer)
    for part in expected:
        if part == "value" and gradient_alone:
            continue
        if part in answer.parts and (
            failure := _differs(record, trial, expected, part, answer.parts[part])
        ):
            if not _as_good(record, trial, failure):
                return failure
    return None


def _as_good(record, trial, failure):
    """Whether another result than ours is a maximiser, too."""
    measure = getattr(record, "maximises", None)
    if measure is None or failure.error:
        return False
    tolerance = SINGLE if trial.single else DOUBLE
    best, _ = measure(failure.expected, **trial.double_inputs, **trial.hyper)
    found, violation = measure(failure.found, **trial.double_inputs, **trial.hyper)
    return violation <= tolerance and found >= best - tolerance * max(1.0, abs(best))


def frees_value(record, answer):
    """Whether the answer's gradient is all that counts: the paper gives nothing else."""
    given = any(name.startswith("gradient") for name in answer.parts or ())
    return getattr(record, "value_free", False) and given


def _differs(record, trial, expected, part, found):
    wanted = expected[part]
    if found.shape != wanted.shape:
        return Failure(
            trial,
            part,
            error=f"{part} has shape {found.shape}, expected {wanted.shape}",
        )
    if found.dtype.kind not in "fiub":
        return Failure(trial, part, error=f"{part} is of dtype {found.dtype}")
    found, wanted = found.astype(float), wanted.astype(float)
    if np.isnan(found).any():
        return Failure(trial, part, error=f"{part} is NaN")
    allowed = tolerance(expected, part, trial.single)
    if (abs(found - wanted) <= allowed).all():
        return None
    if part.startswith(("gradient", "result", "vjp")) and inside_hull(
        record, trial, part, found, allowed
    ):
        return None
    return Failure(trial, part, wanted, found)


def scale(parts, part, single=False):
    """Return what differences of a part are relative to: its largest entry, or a share of the whole result's.

    A sum of terms may cancel; what rounding leaves then is relative to the terms, and the gradient shows their size.
    The fields of a solver are no terms of each other.
    """
    largest = {
        name: float(abs(np.asarray(a, float)).max(initial=0.0))
        for name, a in parts.items()
    }
    whole = 0.0 if "solution" in parts else max(largest.values())
    return max(largest[part], SHARES[single] * whole, FLOORS[single])


def tolerance(parts, part, single=False):
    """Return the absolute difference allowed in a part of a result."""
    return (SINGLE if single else DOUBLE) * scale(parts, part, single)


def ask(runner, record, trial):
    """Return a runner's answer to a trial, its parts under the expected names."""
    answer = runner.call(request(record, trial))
    return (
        answer
        if answer.parts is None
        else dataclasses.replace(answer, parts=align(answer.parts, trial.expected))
    )


def align(parts, expected):
    """Return the parts under the expected names, where a plain tuple came for a named one or the other way round."""
    numbered = [
        name.rpartition(".")[2].isdecimal()
        for names in (parts, expected)
        for name in names
    ]
    if (
        parts.keys() == expected.keys()
        or len(parts) != len(expected)
        or not any(numbered)
        or all(numbered)
    ):
        return parts
    return dict(zip(expected, parts.values(), strict=True))


def close(found, parts, part):
    """Return whether an array agrees with a part of a result in double precision."""
    return bool((abs(found - parts[part]) <= tolerance(parts, part)).all())


def inside_hull(record, trial, part, found, allowed):
    """Return whether a part lies within the reference's own range at a kink."""
    low, high = hull(record, trial, part)
    return bool(((found >= low - allowed) & (found <= high + allowed)).all())


def hull(record, trial, part):
    """Return the smallest and largest reference over perturbations of ±64 units in the last place of the inputs."""
    around, wanted = [trial.expected[part]], trial.expected[part]
    precision = 2.0 ** (-24 if trial.single else -53)
    for moved in checks.nearby(record, trial.double_inputs, precision=precision):
        try:
            if part == "vjp":
                around.append(_vjp(record, trial, moved))
            else:
                around.append(reference(record, moved, trial.hyper).get(part, wanted))
        except ValueError:
            continue  # no input of the function any more, such as a matrix that is symmetric no longer
    return np.min(around, 0), np.max(around, 0)


def _judge_solution(record, trial, answer):
    """A solution is judged by the solver's certificate, together with what the result says beside it."""
    with backend.use_backend("numpy"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, parts = trial.solved, dict(answer.parts)
        if (
            record.complete
            and list(parts) == ["solution"]
            and parts["solution"].shape == np.shape(ours[0])
        ):
            parts |= record.complete(parts["solution"], **trial.inputs, **trial.hyper)
        theirs, failure = _in_the_place_of(ours, trial, parts)
        if failure:
            return failure
        if not ours.converged and not theirs.converged:
            return _judge_failure(record, trial, parts, theirs)
        try:
            figures = record.certificate(theirs, **trial.inputs, **trial.hyper)
        except (ValueError, IndexError) as error:
            return Failure(
                trial, "solution", error=f"the certificate cannot be computed: {error}"
            )
    for name, figure in figures.items():
        if not float(figure) <= record.tolerances[name] * 1.001:
            message = (
                f"{name} is {float(figure):.3e}, {record.tolerances[name]:.1e} allowed"
            )
            return Failure(trial, "solution", error=f"the certificate fails: {message}")
    if record.agreement is not None:
        wanted, found = (
            np.asarray(result[0], dtype=float) for result in (ours, theirs)
        )
        if not (
            abs(found - wanted)
            <= record.agreement * scale({"solution": wanted}, "solution")
        ).all():
            return Failure(trial, "solution", wanted, found)
    return None


def _judge_failure(record, trial, parts, theirs):
    """What the record says remains where the solver cannot converge; as far as it can be seen."""

    def figures(result):
        return checks.remains(record, result, trial.inputs, trial.hyper)

    found = figures(theirs)
    for name in theirs._fields[1:]:
        if name not in parts:  # ours stands in its place: what hangs on it says nothing
            other = figures(theirs._replace(**{name: _spoiled(getattr(theirs, name))}))
            found = {k: v for k, v in found.items() if other.get(k) == v}
    for name, (figure, bound) in found.items():
        if not float(figure) <= bound + 1e-9 * max(1.0, abs(bound)):
            message = f"{name} is {float(figure):.3e}, {bound:.1e} allowed"
            return Failure(
                trial, "solution", error=f"it cannot converge, and {message}"
            )
    return None


def certified(record, trial):
    """Return the names of what a solver's verdict hangs on: the solution, what its certificate
    reads, and whether it says that it has converged.
    """
    ours, names = trial.solved, {"solution", "converged"}

    def figures(result):
        with backend.use_backend("numpy"), np.errstate(all="ignore"):
            try:
                found = record.certificate(result, **trial.inputs, **trial.hyper)
            except (ValueError, IndexError, ArithmeticError, TypeError):
                return None
        return {name: float(figure) for name, figure in found.items()}

    right = figures(ours)
    for name in ours._fields[1:]:
        changed = ours._replace(**{name: _spoiled(getattr(ours, name))})
        if name not in names and figures(changed) != right:
            names.add(name)
    return names


def _spoiled(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [_spoiled(v) for v in value] + [1.0]
    return value if isinstance(value, str) else 1.5 * value + 1


def _in_the_place_of(ours, trial, parts):
    """Put the implementation's parts into the reference's result, by name; return the result and a failure or None."""
    first, *others = ours._fields
    given = {first: parts["solution"]} | {
        name: parts[name] for name in others if name in parts
    }
    for name, found in given.items():
        wanted = getattr(ours, name)
        if isinstance(wanted, list | str):
            given[name] = found.tolist() if isinstance(wanted, list) else wanted
        elif found.shape != np.shape(wanted):
            part = "the solution" if name == first else name
            return None, Failure(
                trial,
                part,
                error=f"{part} has shape {found.shape}, expected {np.shape(wanted)}",
            )
        elif isinstance(wanted, bool | int | float):
            given[name] = type(wanted)(found)
    theirs = ours._replace(**given)
    if ours.converged and not theirs.converged:
        return None, Failure(
            trial, "converged", error="it reports converged = False, expected True"
        )
    return theirs, None
