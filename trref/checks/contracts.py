"""The contracts that every catalogued function keeps, and their runners."""

import concurrent.futures
import dataclasses
import inspect
import math
import multiprocessing
import os
import threading
import time
import typing
import warnings

import numpy as np
from numpy.linalg import norm

from trref import backend, catalog, docstring, strict, validate
from trref.checks.cases import (
    arrays_of,
    as_dtype,
    cases,
    close,
    compared,
    convert,
    essence,
    example_of,
    flatten,
    generator,
    nearby,
    read_only,
    run,
    special_cases,
    to_device,
)
from trref.checks.gradient import (
    EPS,
    ContractError,
    check_gradient,
    differences,
    require,
    room,
    rounding_error,
)
from trref.signature import Input

__all__ = [
    "ADJOINT",
    "BRUTE_FORCE",
    "CONTRACTS",
    "DEVICE",
    "EQUAL",
    "EVERYWHERE",
    "PROJECTED",
    "PUSHED",
    "SINGLE",
    "STOPPED",
    "Outcome",
    "agrees_with_numpy",
    "bad_input",
    "batch_of_one",
    "brute_force",
    "certificate",
    "check_method",
    "check_methods",
    "check_record",
    "contracts_of",
    "derivatives",
    "deviations",
    "failures",
    "float32",
    "gradient",
    "lengths",
    "limits",
    "projection",
    "pure",
    "record_is_complete",
    "refused",
    "remains",
    "returns",
    "sampling",
    "shapes",
    "stop_gradients",
    "strict_device",
]

# what each contract allows, relative to the largest entry
STOPPED = 1e-4
SINGLE = 2e-4
EQUAL = 1e-9  # a declared limit; what differs by more is a deviation
PUSHED, ADJOINT = 5e-8, 1e-11
PROJECTED = 1e-12
BRUTE_FORCE = 1e-10
DEVICE = 1e-10  # a real one; the strict device agrees bitwise
SETUP_SYNCS = 10  # of a solver, beside three an iteration
# what has no neutral value that a probe could avoid
SHAPE_PARAMETERS = ("dtype", "draws", "dims")
REAL_LINE = (-math.inf, math.inf)
DOMAINS = {
    "prob": (0.0, 1.0),
    "positive": (0.0, math.inf),
    "nonnegative": (0.0, math.inf),
}
OUTSIDE = {  # entries that a kind refuses
    "prob": (1.5, -0.5),
    "simplex": (1.5, -0.5),
    "mask": (0.5,),
    "positive": (-1.0, 0.0),
    "nonnegative": (-1.0,),
}


def record_is_complete(record):
    """Docstring, examples that fit their specification, and a probe without neutral values."""
    doc = inspect.getdoc(record.f) or ""
    for section in ("Parameters", "Returns", "Raises"):
        require(f"{section}\n---" in doc, f"the docstring has no section {section}")
    for name in getattr(record.f, "undocumented", ()):
        raise ContractError(
            f"neither the glossary nor the docstring says what {name} is, or no argument has that name"
        )
    if isinstance(record, catalog.Objective):
        wanted = f"ith respect to {docstring.listed(record.wrt_names)}"
        require(
            not hasattr(record.f, "unchecked") or wanted in " ".join(doc.split()),
            f"the docstring does not say 'W{wanted}'",
        )
    if record.hyper_parameters:
        require("probe" in record.settings, "settings have no 'probe'")
        probe = record.settings["probe"]
        for name, default in record.hyper_parameters.items():
            if name in SHAPE_PARAMETERS:
                continue
            if default is inspect.Parameter.empty or default is not None:
                require(name in probe, f"the probe leaves {name} at its default")
                neutral = probe[name] == default or (
                    type(probe[name]) is not bool and probe[name] in (0, 1)
                )
                require(not neutral, f"the probe's {name} is neutral")
    if isinstance(record, catalog.UpdateRule):
        return
    for case in cases(record):
        require(
            list(case.inputs) == list(record.inputs),
            f"{case.label}: the example gives {list(case.inputs)}, the function takes {list(record.inputs)}; "
            "an Interface gives each function what it names",
        )
        with backend.use_backend("numpy"):
            validate.inputs(record.inputs, case.inputs)
    if not isinstance(record, catalog.Sampler):
        size = max(record.sizes)
        longest = max(
            (s for a in arrays_of(example_of(record, size)) for s in a.shape),
            default=size,
        )
        require(
            longest >= size, f"the example of size {size} holds no array of that length"
        )


def pure(record):
    """Inputs unchanged, results share no memory with them, the same call gives the same result, all of it finite."""
    for case in cases(record, seeds=record.seeds[:1]):
        inputs = convert(case.inputs, read_only)
        before = [(n, a.copy()) for n, a in flatten(_plain(inputs))]
        first, second = run(record, inputs, case.hyper), run(record, inputs, case.hyper)
        require(
            not _holds_none(first), f"{case.label}: the result is None, or a part of it"
        )
        for (name, a), (_, b) in zip(before, flatten(_plain(inputs)), strict=True):
            require(np.array_equal(a, b), f"{case.label}: input {name} was changed")
        for (name, a), (_, b) in zip(flatten(first), flatten(second), strict=True):
            require(
                np.array_equal(a, b),
                f"{case.label}: {name} differs between two equal calls",
            )
            require(np.isfinite(a).all(), f"{case.label}: {name} is not finite")
            for source in arrays_of(inputs):
                require(
                    not np.shares_memory(a, source),
                    f"{case.label}: {name} shares memory with an input",
                )


def _holds_none(value):
    if isinstance(value, dict):
        value = tuple(value.values())
    return value is None or (
        isinstance(value, list | tuple) and any(map(_holds_none, value))
    )


def shapes(record):
    """The shape of a result follows from the shapes of the inputs, not from their values."""
    for setting, hyper in record.settings.items():
        for size in record.sizes[:2]:
            first, *others = (example_of(record, size, seed) for seed in range(20))
            wanted = _shapes(first)
            for other in [other for other in others if _shapes(other) == wanted][:1]:
                ours, theirs = (
                    _shapes(_fixed(run(record, inputs, dict(hyper))))
                    for inputs in (first, other)
                )
                require(
                    ours == theirs,
                    f"{setting}, size {size}: inputs of equal shapes give {ours} and {theirs}",
                )


def _shapes(value):
    return [
        (name, array.shape)
        for name, array in flatten(_plain(value) if isinstance(value, dict) else value)
    ]


def _fixed(result):
    """A solver's result without its histories."""
    if hasattr(result, "iterations"):
        return {
            n: v
            for n, v in zip(result._fields, result, strict=True)
            if not isinstance(v, list)
        }
    return result


def _plain(value):
    """Dataclasses as dicts, so that their fields are seen."""
    return {
        k: v for k, v in value.items() if not callable(v) or dataclasses.is_dataclass(v)
    }


def lengths(record):
    """Each named length of the inputs takes several values, so that a formula with 1/D is not one with a constant."""
    seen = {}
    for case in cases(record):
        for name, length in validate.inputs(record.inputs, case.inputs).items():
            seen.setdefault(name, set()).add(length)
    for name, values in seen.items():
        require(
            len(values) > 1,
            f"in all cases {name} is {values}: let the examples vary it",
        )


def _result_note(record):
    return inspect.get_annotations(inspect.unwrap(record.f)).get("return")


def returns(record):
    """The result has the types, shapes and kinds that the signature promises."""
    for case in cases(record, seeds=record.seeds[:1]):
        sizes = {}
        if not isinstance(record, catalog.UpdateRule):
            sizes = validate.inputs(record.inputs, case.inputs)
        _promised(
            run(record, case.inputs, case.hyper),
            _result_note(record),
            sizes,
            f"{case.label}: the result",
        )


def _promised(value, note, sizes, what):
    """Hold a result to its annotation; lengths that it names first are added to the sizes."""
    if isinstance(note, Input) and note.kind == "arrays":
        require(
            isinstance(value, list) and all(hasattr(a, "dtype") for a in value),
            f"{what} is no list of arrays",
        )
    elif isinstance(note, Input):
        dtypes = "iu" if note.kind == "index" else "f"
        require(
            hasattr(value, "dtype") and value.dtype.kind in dtypes,
            f"{what} has another dtype than {note}",
        )
        fits = (
            validate.fits(value.shape, option, sizes)
            for option in validate.parse_shape(note.shape)
        )
        found = next((f for f in fits if f is not None), None)
        require(
            found is not None,
            f"{what} has shape {value.shape}, not that of {note} with {sizes}",
        )
        sizes.update(found)
        test, needed = validate.KINDS[note.kind]
        require(bool(test(value)), f"{what} {needed}")
    elif typing.get_origin(note) in (tuple, list) or hasattr(note, "_fields"):
        fields = getattr(note, "__annotations__", None) or dict(
            enumerate(typing.get_args(note))
        )
        require(
            isinstance(value, typing.get_origin(note) or note),
            f"{what} is a {type(value).__name__}",
        )
        if typing.get_origin(note) is list:
            fields = dict.fromkeys(range(len(value)), typing.get_args(note)[0])
        for part, (name, inner) in zip(value, fields.items(), strict=True):
            _promised(part, inner, sizes, f"{what}, {name}")
    else:
        require(type(value) is note, f"{what} is a {type(value).__name__}, not {note}")


def gradient(record):
    """The gradient equals the derivative of the value, with the stopped quantities held constant."""
    for case in cases(record):
        inputs = convert(case.inputs, as_dtype(np.float64))
        frozen = {
            k: catalog.call(f, inputs, case.hyper) for k, f in record.stopped.items()
        }
        value, grad = record(inputs, case.hyper)
        parts = (
            [grad]
            if isinstance(record.wrt, str)
            else [getattr(grad, name) for name in record.wrt]
        )
        require(
            np.ndim(value) == 0, f"{case.label}: the value has shape {np.shape(value)}"
        )
        held = record(inputs, {**case.hyper, **frozen})
        require(
            held[0] == value,
            f"{case.label}: passing the stopped quantities changes the value",
        )
        for name, part in zip(record.wrt_names, parts, strict=True):

            def at(x, name=name, inputs=inputs, case=case, frozen=frozen):
                x = np.asarray(x)  # a scalar stays an array
                return record({**inputs, name: x}, {**case.hyper, **frozen})[0]

            try:
                check_gradient(
                    at,
                    inputs[name],
                    part,
                    rng=generator(case.label),
                    noise=record.tolerance * abs(float(value)),
                    domain=DOMAINS.get(record.inputs[name].kind, REAL_LINE),
                )
            except ContractError as error:
                raise ContractError(f"{case.label}, {name}: {error}") from None


def stop_gradients(record):
    """Each stopped quantity matters: without holding it constant the derivative is another one."""
    for keyword, compute in record.stopped.items():
        differs = False
        for case in cases(record, sizes=record.sizes[:2], edges=False):
            inputs = case.inputs
            others = {
                k: catalog.call(f, inputs, case.hyper)
                for k, f in record.stopped.items()
                if k != keyword
            }
            frozen = {**others, keyword: catalog.call(compute, inputs, case.hyper)}
            for name in record.wrt_names:
                direction = generator(7).choice((-1.0, 1.0), size=inputs[name].shape)
                slopes = []
                for fixed in (frozen, others):
                    ahead, behind = (
                        float(
                            record(
                                {**inputs, name: inputs[name] + h * direction},
                                {**case.hyper, **fixed},
                            )[0]
                        )
                        for h in (1e-5, -1e-5)
                    )
                    slopes.append((ahead - behind) / 2e-5)
                differs |= abs(slopes[0] - slopes[1]) > STOPPED * max(
                    abs(slopes[0]), abs(slopes[1])
                )
        require(
            differs,
            f"holding {keyword} constant changes no derivative: it is not a stop-gradient",
        )


def float32(record):
    """float32 in, float32 out, and the result of float64 at the rounded inputs to 2e-4."""
    for number, case in enumerate(cases(record, seeds=record.seeds[:1])):
        single = convert(case.inputs, as_dtype(np.float32))
        rounded = convert(single, as_dtype(np.float64))
        in_single = {"dtype": "float32"} if "dtype" in record.hyper_parameters else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", validate.ConvergenceWarning)
            got = flatten(compared(run(record, single, {**case.hyper, **in_single})))
        wanted = flatten(compared(run(record, rounded, case.hyper)))
        for (name, a), (_, b) in zip(got, wanted, strict=True):
            if b.dtype.kind != "f":
                continue
            if b.ndim or not isinstance(record, catalog.Solver):
                require(
                    a.dtype == np.float32,
                    f"{case.label}: {name} is {a.dtype} for float32 inputs",
                )
            if not close(a, b, SINGLE):
                around = nearby(record, rounded, precision=2.0**-24, seed=number)
                hull = np.array(
                    [
                        dict(flatten(compared(run(record, x, case.hyper))))[name]
                        for x in around
                    ]
                )
                slack = SINGLE * float(abs(b).max())
                inside = (a >= hull.min(0) - slack) & (a <= hull.max(0) + slack)
                worst = float(abs(a - b).max() / max(float(abs(b).max()), 1e-300))
                require(
                    inside.all(),
                    f"{case.label}: {name} in float32 is off by {worst:.1e} (relative)",
                )


def batch_of_one(record):
    """The smallest batch works and gives finite numbers."""
    example = example_of(record, 1)
    for setting, hyper in record.settings.items():
        for name, array in flatten(run(record, example, dict(hyper))):
            require(
                np.isfinite(array).all(),
                f"{setting}: {name} is not finite for a batch of one",
            )


def strict_device(record):
    """On the strict device: the same bits, and no synchronisation that grows with the size."""
    for setting, hyper in record.settings.items():
        counts = []
        for size in record.sizes[:2]:
            example = example_of(record, size)
            calls = (
                len(example["gradients"])
                if isinstance(record, catalog.UpdateRule)
                else 1
            )
            expected = run(record, example, dict(hyper))
            with backend.use_backend("strict"):
                device = to_device(example)
                with strict.synchronisations() as count:
                    result = run(record, device, dict(hyper))
                counts.append(count())
                actual = flatten(result)
            for (name, a), (_, b) in zip(actual, flatten(expected), strict=True):
                require(
                    np.array_equal(a, b),
                    f"{setting}, size {size}: {name} differs from NumPy's",
                )
            if isinstance(record, catalog.Solver) and not record.random:
                allowed = (
                    3 * (result.iterations + getattr(result, "inner_iterations", 0))
                    + SETUP_SYNCS
                )
                require(
                    counts[-1] <= allowed,
                    f"{setting}: {counts[-1]} synchronisations, {allowed} allowed",
                )
        if isinstance(
            record, catalog.Objective | catalog.Transform | catalog.UpdateRule
        ):
            require(
                counts[0] == counts[1],
                f"{setting}: synchronisations grow with the size: {counts}",
            )
            require(
                counts[0] <= calls,
                f"{setting}: {counts[0] / calls:g} synchronisations a call",
            )


def bad_input(record):
    """Wrong shapes, dtypes, places and values give an error that names an argument."""
    if isinstance(record, catalog.UpdateRule):
        return _bad_update(record)
    example = example_of(record, record.sizes[0])
    for name, spec in record.inputs.items():
        value = example.get(name)
        if spec.kind == "callable":
            _expect(
                record,
                {**example, name: "not callable"},
                TypeError,
                f"{name}, a string",
            )
            if spec.methods != ("__call__",):
                _expect(
                    record,
                    {**example, name: lambda *_: None},
                    TypeError,
                    f"{name}, a function without methods",
                )
            continue
        if value is None:
            continue
        wrong = {
            "one dimension more": value[None],
            "empty": value[:0] if value.ndim else np.zeros(0, value.dtype),
        }
        if value.ndim:
            wrong["one entry more"] = np.concatenate([value, value[:1]])
            wrong["one dimension less"] = value[0]
        for what, bad in wrong.items():
            inputs = {**example, name: bad}
            if not _fits_specification(record, inputs):
                _expect(record, inputs, ValueError | TypeError, f"{name}, {what}")
        if spec.kind != "index":
            _expect(
                record,
                {**example, name: value.astype(np.int64)},
                TypeError,
                f"{name}, integers",
            )
            for entry in (math.nan, math.inf, *OUTSIDE.get(spec.kind, ())):
                bad = np.array(value)
                bad.flat[-1] = entry
                _expect(
                    record,
                    {**example, name: bad},
                    ValueError,
                    f"{name}, an entry {entry}",
                )
        with backend.use_backend("strict"):
            device = to_device(example)
            _expect(
                record,
                {**device, name: np.array(value)},
                TypeError,
                f"{name}, a host array on a device",
            )
        _expect(record, {**example, name: value.tolist()}, TypeError, f"{name}, a list")
    for name, compute in getattr(record, "stopped", {}).items():
        _bad_stopped(
            record,
            example,
            name,
            catalog.call(compute, example, record.settings["default"]),
        )


def _bad_stopped(record, example, name, value):
    """A quantity that is passed to be held constant is checked like an input."""
    for what, bad in {
        "one dimension more": np.array(value)[None],
        "an entry NaN": _with_nan(value),
    }.items():
        try:
            record(example, {**record.settings["default"], name: bad})
        except (ValueError, TypeError) as error:
            require(
                name in str(error),
                f"{name}, {what}: the message does not name it: {error}",
            )
        else:
            raise ContractError(f"{name}, {what}: accepted")


def _bad_update(record):
    example, hyper = (
        example_of(record, record.sizes[0]),
        dict(record.settings["default"]),
    )
    params, grads, init = example["params"], example["gradients"][0], record.init
    step = record.at_step(example, 0)
    wrong = {
        "a list too short": ("grads", grads[:-1], ValueError),
        "wrong shapes": ("grads", [g[None] for g in grads], ValueError),
        "integers": ("grads", [g.astype(int) for g in grads], TypeError),
        "NaN": ("grads", _with_nan(grads), ValueError),
        "no list": ("grads", None, TypeError),
    }
    wrong |= {
        f"NaN in {name}": (name, _with_nan(value), ValueError)
        for name, value in step.items()
    }
    for what, (name, bad, expected) in wrong.items():
        given = {
            "params": params,
            "grads": grads,
            "state": init(params),
            **step,
            name: bad,
        }
        try:
            record.f(
                given.pop("params"),
                given.pop("grads"),
                given.pop("state"),
                **given,
                **hyper,
            )
        except expected as error:
            require(
                name in str(error),
                f"{name}, {what}: the message does not name it: {error}",
            )
        else:
            raise ContractError(f"{name}, {what}: accepted")


def _with_nan(value):
    """The same numbers with NaN as the last one."""
    if isinstance(value, list):
        return [*value[:-1], _with_nan(value[-1])]
    spoiled = np.array(value, float)
    spoiled.flat[-1] = math.nan
    return spoiled if hasattr(value, "dtype") else float(spoiled)


def _fits_specification(record, inputs):
    try:
        validate.inputs(record.inputs, inputs)
    except (TypeError, ValueError):
        return False
    return True


def _expect(record, inputs, expected, what, hyper=None):
    kinds = expected.__args__ if hasattr(expected, "__args__") else (expected,)
    try:
        run(
            record, inputs, dict(record.settings["default"]) if hyper is None else hyper
        )
    except kinds as error:
        named = any(
            name in str(error) for name in (*record.inputs, *record.hyper_parameters)
        )
        require(named, f"{what}: the message names no argument: {error}")
    except Exception as error:
        raise ContractError(f"{what}: {type(error).__name__}: {error}") from error
    else:
        raise ContractError(f"{what}: accepted")


def refused(record):
    """What the record says is refused gives an error that names an argument; where `also` checks, it says what is."""
    require(
        record.refused or not getattr(record.f, "also", None),
        "its signature has cross-checks (`also`): name in `refused` an input that breaks each of their rules",
    )
    for case in special_cases(record, record.refused):
        _expect(record, case.inputs, ValueError | TypeError, case.label, case.hyper)


def limits(record):
    """Each declared limit holds, in value and gradient."""
    for limit in record.limits:
        other = catalog.find(limit.to)
        for case in cases(record, seeds=record.seeds[:1]):
            if case.setting != "default":
                continue
            there = limit.where(case.inputs) if limit.where else case.inputs
            both = zip(
                (record, other),
                there if isinstance(there, tuple) else (there, there),
                strict=True,
            )
            ours, theirs = (
                {k: inputs[k] for k in r.inputs if k in inputs} for r, inputs in both
            )
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", validate.ConvergenceWarning
                )  # of iterates on their way
                actual = flatten(
                    _at_limit(
                        limit, record, run(record, ours, {**case.hyper, **limit.hyper})
                    )
                )
                expected = flatten(
                    _at_limit(limit, other, run(other, theirs, dict(limit.to_hyper)))
                )
            factor = limit.factor(ours) if callable(limit.factor) else limit.factor
            expected = [(name, factor * b) for name, b in expected]
            # a loss that cancels to 0 is compared on the scale of its gradient
            largest = max(float(abs(b).max(initial=0.0)) for _, b in expected)
            # the value comes first
            for (name, a), (_, b) in list(zip(actual, expected, strict=True))[
                limit.gradient_only :
            ]:
                if isinstance(there, tuple) and a.size == b.size:
                    a = a.reshape(b.shape)
                same = close(a, b, EQUAL) or (
                    a.shape == b.shape
                    and abs(a - b).max(initial=0.0) <= 1e-12 * largest
                )
                require(
                    same,
                    f"{case.label}: not {limit.to} under {dict(limit.hyper)}: {name} differs",
                )


def _at_limit(limit, record, result):
    return (
        getattr(result, limit.part)
        if hasattr(result, limit.part or "")
        else essence(record, result)
    )


def deviations(record):
    """Each deviation runs on every example and differs from the reference somewhere."""
    for deviation in record.deviations:
        taken = inspect.signature(deviation.f).parameters
        # inputs come by their names anyway, but of the settings only what is named
        hides = [
            p.name
            for p in taken.values()
            if p.kind is p.VAR_KEYWORD and p.name != "inputs"
        ]
        require(
            not hides,
            f"the deviation {deviation.name!r} takes **{''.join(hides)}: name the keywords",
        )
        differs = False
        for case in cases(record):
            hyper = {k: v for k, v in case.hyper.items() if k in taken}
            other = run(
                dataclasses.replace(record, f=deviation.f, settings={"default": {}}),
                case.inputs,
                hyper,
            )
            reference = run(record, case.inputs, case.hyper)
            pairs = zip(
                flatten(essence(record, other)),
                flatten(essence(record, reference)),
                strict=True,
            )
            differs |= not all(close(a, b, EQUAL) for (_, a), (_, b) in pairs)
        require(
            differs,
            f"the deviation {deviation.name!r} never differs from the reference by more than {EQUAL:g}, relative to "
            "the part of the result: is it one, and does an edge show it?",
        )


def derivatives(record):
    """A transform's jvp equals differences; its vjp is the adjoint of its jvp; a transform may have neither.

    At a kink the derivative lies between left and right ones, as a gradient does.
    """
    if not (record.jvp or record.vjp):
        return
    for case in cases(record):
        inputs, hyper, rng = case.inputs, case.hyper, generator(case.label)
        x, at = (
            inputs[record.wrt],
            lambda y, case=case: record({**case.inputs, record.wrt: y}, case.hyper),
        )
        near = room(x, DOMAINS.get(record.inputs[record.wrt].kind, REAL_LINE))
        tangent, result = rng.standard_normal(x.shape) * near, at(x)
        size = float(abs(result).max())
        error = record.tolerance * size + 4 * max(
            EPS * size, rounding_error(at, x, result, near, rng)
        )
        low, high, allowed = differences(
            at, x, tangent, result, error=error, tolerance=PUSHED
        )
        if record.jvp:
            pushed = record.jvp(**inputs, tangent=tangent, **hyper)
            require(
                pushed.shape == result.shape,
                f"{case.label}: jvp has shape {pushed.shape}",
            )
            between = (low - allowed <= pushed) & (pushed <= high + allowed)
            require(between.all(), f"{case.label}: jvp differs from differences")
            low, high, allowed = pushed, pushed, 0 * allowed
        if record.vjp:
            cotangent = rng.standard_normal(result.shape)
            pulled = record.vjp(**inputs, cotangent=cotangent, **hyper)
            require(
                pulled.shape == x.shape, f"{case.label}: vjp has shape {pulled.shape}"
            )
            there, ends = (
                float((pulled * tangent).sum()),
                (cotangent * low, cotangent * high),
            )
            slack = float(
                ADJOINT * norm(cotangent) * norm(high)
                + (abs(cotangent) * allowed).sum()
            )
            least, most = float(np.minimum(*ends).sum()), float(np.maximum(*ends).sum())
            require(
                least - slack <= there <= most + slack,
                f"{case.label}: vjp is not the adjoint: {there:.12g} against {least:.12g}",
            )


def projection(record):
    """Idempotent and feasible where the record says so."""
    for case in cases(record):
        result = record(case.inputs, case.hyper)
        if record.idempotent:
            again = record({**case.inputs, record.wrt: result}, case.hyper)
            require(close(again, result, PROJECTED), f"{case.label}: not idempotent")
        if record.feasible:
            off = record.feasible(result, **case.inputs)
            require(
                float(off) <= PROJECTED, f"{case.label}: infeasible by {float(off):.1e}"
            )


def certificate(record):
    """The solver converges, reports honestly, and its certificate is within the stated tolerances."""
    for case in cases(record):
        result = run(record, case.inputs, case.hyper)
        for field in ("iterations", "converged"):
            require(hasattr(result, field), f"the result has no field {field!r}")
        require(
            type(result.converged) is bool,
            f"converged is a {type(result.converged).__name__}",
        )
        require(
            type(result.iterations) is int,
            f"iterations is a {type(result.iterations).__name__}",
        )
        histories = [v for v in result if isinstance(v, list)]
        require(histories, "the result holds no history")
        require(
            all(type(x) is float for h in histories for x in h),
            "a history must hold host floats",
        )
        require(
            result.converged,
            f"{case.label}: not converged after {result.iterations} iterations",
        )
        figures = record.certificate(result, **case.inputs, **case.hyper)
        require(
            set(figures) == set(record.tolerances),
            f"the certificate gives {set(figures)}",
        )
        for name, figure in figures.items():
            require(
                float(figure) <= record.tolerances[name],
                f"{case.label}: {name} is {float(figure):.2e}, {record.tolerances[name]:.0e} allowed",
            )


def failures(record):
    """Where it cannot converge, a solver warns and says so, and what it returns is still good."""
    known = bool(record.failures) != record.direct
    require(
        known,
        "name cases that end in converged=False (failures), or say that there are none (direct)",
    )
    for case in special_cases(record, record.failures):
        name, inputs, hyper = case.label, convert(case.inputs, read_only), case.hyper
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = run(record, inputs, hyper)
        require(result.converged is False, f"{name}: converged is {result.converged}")
        warned = any(
            issubclass(w.category, validate.ConvergenceWarning) for w in caught
        )
        require(warned, f"{name}: no ConvergenceWarning")
        for part, array in flatten(result):
            require(np.isfinite(array).all(), f"{name}: {part} is not finite")
        for figure, (value, bound) in remains(record, result, inputs, hyper).items():
            require(
                float(value) <= bound,
                f"{name}: {figure} is {float(value):.3e}, {bound:.1e} allowed",
            )
        with backend.use_backend("strict"), warnings.catch_warnings():
            warnings.simplefilter("ignore", validate.ConvergenceWarning)
            there = flatten(run(record, to_device(inputs), hyper))
        for (part, a), (_, b) in zip(there, flatten(result), strict=True):
            require(
                np.array_equal(a, b), f"{name}: {part} differs on the strict device"
            )


def remains(record, result, inputs, hyper):
    """What holds of a solver's result that has not converged: ``{name: (figure, bound)}``."""
    if record.remains:
        return record.remains(result, **inputs, **hyper)
    figures = record.certificate(result, **inputs, **hyper)
    return {name: (figure, record.tolerances[name]) for name, figure in figures.items()}


def brute_force(record):
    """The estimator equals brute force or the closed form, part by part."""
    for case in cases(record, sizes=record.sizes[:2]):
        expected, found = (
            record.brute_force(**case.inputs, **case.hyper),
            flatten(record(case.inputs, case.hyper)),
        )
        each = [expected] if len(found) == 1 else list(expected)
        require(
            len(found) == len(each),
            f"{case.label}: {len(found)} parts, but {len(each)} by brute force",
        )
        for (name, a), b in zip(found, each, strict=True):
            require(
                close(a, np.asarray(b), BRUTE_FORCE),
                f"{case.label}: {name} differs from brute force",
            )


def sampling(record):
    """Same seed same draws, another seed others, and the moments within their stated confidence."""
    for setting, hyper in record.settings.items():
        example = example_of(record, record.sizes[-1])
        first, again, other = (
            run(record, example, dict(hyper), seed=s) for s in (0, 0, 1)
        )
        require(
            np.array_equal(first, again), f"{setting}: the same seed gives other draws"
        )
        require(
            not np.array_equal(first, other),
            f"{setting}: another seed gives the same draws",
        )
        for name, (seen, expected, allowance) in record.moments(
            first, **example, **hyper
        ).items():
            require(
                abs(seen - expected) <= allowance,
                f"{setting}: {name} is {seen:.4g}, expected {expected:.4g} within {allowance:.2g}",
            )


def agrees_with_numpy(record, on):
    """On another backend: NumPy's numbers to 1e-10, histories and counts aside."""
    for case in cases(
        record, sizes=(record.sizes[0], record.sizes[-1]), seeds=record.seeds[:1]
    ):
        with backend.use_backend("numpy"):
            expected = flatten(compared(run(record, case.inputs, case.hyper)))
        with backend.use_backend(on):
            actual = flatten(compared(run(record, to_device(case.inputs), case.hyper)))
        for (name, a), (_, b) in zip(actual, expected, strict=True):
            require(
                close(a, b, DEVICE),
                f"{case.label}: {name} on {on} differs from NumPy's",
            )


EVERYWHERE = (
    record_is_complete,
    returns,
    lengths,
    pure,
    shapes,
    float32,
    batch_of_one,
    strict_device,
    bad_input,
    refused,
    limits,
    deviations,
)
CONTRACTS = {
    catalog.Objective: (gradient, stop_gradients),
    catalog.Transform: (derivatives, projection),
    catalog.Solver: (certificate, failures),
    catalog.UpdateRule: (),
    catalog.Estimator: (brute_force,),
    catalog.Sampler: (sampling,),
}


def contracts_of(record):
    """Return the contracts that apply to a record, as functions of the record."""
    drawn = isinstance(record, catalog.Sampler) or getattr(record, "random", False)
    applies = {
        lengths: not isinstance(record, catalog.UpdateRule),
        shapes: not drawn,
        failures: not drawn,
        refused: record.refused or getattr(record.f, "also", None),
        limits: record.limits,
        deviations: record.deviations,
        returns: _result_note(record) is not None,
        stop_gradients: getattr(record, "stopped", None),
    }
    own = CONTRACTS[type(record)]
    return tuple(c for c in (*EVERYWHERE, *own) if applies.get(c, True))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one contract gave for one function; `error` is None where it holds."""

    function: str
    contract: str
    error: str | None
    seconds: float


def check_method(family, slug, on="numpy"):
    """Run all contracts of a method's functions; return a list of `Outcome`."""
    return [
        outcome
        for record in catalog.method(family, slug).functions
        for outcome in check_record(record, on=on)
    ]


def check_methods(methods, *, on="numpy", jobs=None):
    """Yield ``(method, outcomes)`` for each method in turn, computed by several processes.

    Parameters
    ----------
    methods : sequence of Method
    on : str
        A backend, as for `check_record`.
    jobs : int, optional
        Number of processes; as many as there are cores by default.
    """
    with concurrent.futures.ProcessPoolExecutor(
        jobs, initializer=_end_with_the_command
    ) as pool:
        pending = [pool.submit(check_method, m.family, m.slug, on) for m in methods]
        for method, future in zip(methods, pending, strict=True):
            yield method, future.result()


def _end_with_the_command():
    """A process of the pool ends when the one that it works for does, however that ends."""
    command = multiprocessing.parent_process()

    def wait():
        command.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def check_record(record, *, on="numpy"):
    """Run the contracts of a record; return a list of `Outcome`.

    Parameters
    ----------
    record : Record
    on : str
        ``"numpy"``: all contracts. Another backend: the one that its results there are NumPy's.
    """
    outcomes = []
    held = [(c.__name__, c) for c in contracts_of(record)]
    if on != "numpy":
        held = [("agrees_with_numpy", lambda record: agrees_with_numpy(record, on))]
    for name, contract in held:
        start, error = time.perf_counter(), None
        try:
            with backend.use_backend("numpy"):
                contract(record)
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
        outcomes.append(Outcome(record.name, name, error, time.perf_counter() - start))
    return outcomes
