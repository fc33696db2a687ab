"""Gradient checks, and the contracts that every catalogued function keeps.

`check_gradient` compares a gradient written by hand with differences of the function; `check_record` runs all
contracts of a record. Third parties can use both on their own code.
"""

import concurrent.futures
import dataclasses
import inspect
import itertools
import math
import time
import typing
import warnings

import numpy as np

from trref import backend, catalog, strict, validate
from trref.signature import Input

__all__ = [
    "CONTRACTS",
    "Case",
    "Outcome",
    "agrees_with_numpy",
    "as_dtype",
    "cases",
    "check_gradient",
    "check_method",
    "check_methods",
    "check_record",
    "complex_step",
    "contracts_of",
    "convert",
    "flatten",
    "nearby",
    "run",
]

STEPS = (2.0**-9, 2.0**-13, 2.0**-17, 2.0**-21)
EPS = float(np.finfo(float).eps)
# what each contract allows, relative to the largest entry
SLOPE, TAYLOR = 1e-6, 1.9  # of gradients
STOPPED = 1e-4
SINGLE = 2e-4
EQUAL = 1e-9  # a declared limit; what differs by more is a deviation
PUSHED, ADJOINT = 1e-7, 1e-8
PROJECTED = 1e-12
BRUTE_FORCE = 1e-10
DEVICE = 1e-10  # a real one; the strict device agrees bitwise
SETUP_SYNCS = 10  # of a solver, beside three an iteration
SHAPE_PARAMETERS = ("dtype", "draws", "dims")  # these have no neutral value that a probe could avoid
DOMAINS = {"prob": (0.0, 1.0), "positive": (0.0, math.inf), "nonnegative": (0.0, math.inf)}


class ContractError(AssertionError):
    """A contract does not hold; the message says which case showed it."""


def _require(condition, message):
    if not condition:
        raise ContractError(message)


# --------------------------------------------------------------------------------------------------- gradient check


def check_gradient(value, point, gradient, *, rng, noise=0.0, domain=(-math.inf, math.inf)):
    """Check a gradient against differences of the function, kinks included; at most 200 evaluations.

    Along two unit directions and three random ±1 directions the slope is compared with fourth-order differences:
    central, left and right. Where the three agree at some step the function is smooth there and the gradient must
    equal them. Where they agree at no step there is a kink, and the slope must lie between left and right. At last
    the remainder of the first-order Taylor polynomial must fall with a slope of at least 1.9.

    Parameters
    ----------
    value : callable
        ``value(x) -> float`` for float64 host arrays of the shape of `point`.
    point, gradient : ndarray
        float64, of one shape.
    rng : numpy.random.Generator
        Draws the directions.
    noise : float
        Absolute error of `value` beyond rounding, for functions with an inner iteration.
    domain : tuple of float
        Where the entries of `x` must stay; directions are shortened near its ends.

    Raises
    ------
    ContractError
        With the direction, the slope that the gradient gives, and the differences.
    """
    point, gradient = np.asarray(point, float), np.asarray(gradient, float)
    _require(gradient.shape == point.shape, f"gradient has shape {gradient.shape}, the point {point.shape}")
    _require(np.isfinite(gradient).all(), "gradient is not finite")
    room = np.clip(np.minimum(point - domain[0], domain[1] - point) / (8 * STEPS[0]), 0, 1)
    at_point = float(value(point))
    rounding = 4 * EPS * (abs(at_point) + float((abs(gradient) * (1 + abs(point))).sum()))
    error = noise + max(rounding, 4 * _noise(value, point, at_point, room, rng))

    kinks = False
    for direction in _directions(point, gradient, rng):
        kinks |= _check_slope(value, point, gradient, direction * room, at_point, error)
    if not kinks:
        _check_taylor(value, point, gradient, room, at_point, error, rng)


def _noise(value, point, at_point, room, rng):
    """Estimate the rounding error of the function from second differences at a step too short to bend it."""
    estimates = []
    # ±1 alone would not do: a function of differences does not feel a shift of everything
    for direction in (rng.choice((-1.0, 1.0), size=point.shape), rng.standard_normal(point.shape)):
        step = 2.0**-40 * direction * room
        values = [float(value(point + k * step)) if k else at_point for k in range(-3, 4)]
        estimates.append(float(np.sqrt(np.mean(np.diff(values, 2) ** 2) / 6)))
    return max(estimates)


def _directions(point, gradient, rng):
    largest = int(abs(gradient).argmax())
    for i in dict.fromkeys((largest, int(rng.integers(point.size)))):
        unit = np.zeros(point.size)
        unit[i] = 1.0
        yield unit.reshape(point.shape)
    for _ in range(3):
        yield rng.choice((-1.0, 1.0), size=point.shape)


def _check_slope(value, point, gradient, direction, at_point, error):
    """Compare one slope; return whether a kink was met."""
    slope = float((gradient * direction).sum())
    scale = max(abs(slope), float(np.sqrt(((gradient * direction) ** 2).sum())))
    for h in STEPS:
        f = {k: float(value(point + k * h * direction)) for k in (-4, -3, -2, -1, 1, 2, 3, 4)}
        left = (25 * at_point - 48 * f[-1] + 36 * f[-2] - 16 * f[-3] + 3 * f[-4]) / (12 * h)
        right = -(25 * at_point - 48 * f[1] + 36 * f[2] - 16 * f[3] + 3 * f[4]) / (12 * h)
        central = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
        _require(math.isfinite(left + right), "the function is not finite next to the point")
        # values near the point may be larger than at it, and so may their rounding
        rounding = max(error, 4 * EPS * max(map(abs, f.values())))
        allowed = SLOPE * max(scale, abs(central)) + 11 * rounding / h
        low, high = min(left, right), max(left, right)
        if max(high, central) - min(low, central) <= allowed:
            _require(
                abs(slope - central) <= 2 * allowed,
                f"wrong gradient: slope {slope:.9g} along a direction where differences give {central:.9g}"
                f" (allowed {2 * allowed:.1e})",
            )
            return False
    _require(
        low - allowed <= slope <= high + allowed,
        f"wrong gradient at a kink: slope {slope:.9g}, but left and right derivatives are {left:.9g} and {right:.9g}",
    )
    return True


def _check_taylor(value, point, gradient, room, at_point, error, rng):
    """Three tries, because a kink may lie a little further along one direction."""
    slopes = []
    for _ in range(3):
        direction = rng.choice((-1.0, 1.0), size=point.shape) * room / math.sqrt(point.size)
        slope = float((gradient * direction).sum())
        steps = [2.0**-3 * STEPS[0] * 8 * 4.0**-k for k in range(9)]
        remainders = [(s, abs(float(value(point + s * direction)) - at_point - s * slope)) for s in steps]
        above = [(s, r) for s, r in remainders if r > 100 * error][-3:]
        if len(above) < 3:
            return
        slopes.append(np.polyfit(*np.log(np.array(above)).T, 1)[0])
        if slopes[-1] >= TAYLOR:
            return
    raise ContractError(f"wrong gradient: the Taylor remainder falls with slopes {[f'{s:.2f}' for s in slopes]}")


def complex_step(value, point, direction, *, step=1e-30):
    """Return the derivative of an analytic function along a direction, free of cancellation.

    A tool, not a contract: ``abs``, norms and many special functions are not analytic in this sense.
    """
    return float(np.imag(value(np.asarray(point) + 1j * step * np.asarray(direction))) / step)


# ------------------------------------------------------------------------------------------------------------ cases


@dataclasses.dataclass(frozen=True)
class Case:
    """Inputs (host arrays) and hyper-parameters, with a label that a person can read."""

    label: str
    inputs: dict
    hyper: dict
    setting: str


def cases(record, *, sizes=(4, 8, 64), seeds=(0, 1), edges=True):
    """Yield the cases of a record: examples at several sizes and seeds, and the edge cases, under every setting.

    Samplers and whole algorithms draw for themselves: one size and seed is enough.
    """
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        sizes, seeds = sizes[:1], seeds[:1]
    for setting, hyper in record.settings.items():
        for size, seed in itertools.product(sizes, seeds):
            example = _example(record, size, seed)
            yield Case(f"{setting}, size {size}, seed {seed}", example, dict(hyper), setting)
        if edges:
            for name, make in record.edges.items():
                with backend.use_backend("numpy"):
                    edge = make()
                yield Case(f"{setting}, edge {name!r}", edge, dict(hyper), setting)


def _example(record, size, seed=0):
    with backend.use_backend("numpy"):
        return record.example(np.random.default_rng([size, seed]), size)


def convert(value, change):
    """Apply `change` to every array within arrays, callables (frozen dataclasses), lists, tuples and dicts."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: convert(getattr(value, f.name), change) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(convert(v, change) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(convert(v, change) for v in value)
    if isinstance(value, dict):
        return {k: convert(v, change) for k, v in value.items()}
    return value


def _read_only(array):
    array = np.array(array)
    array.setflags(write=False)
    return array


def as_dtype(dtype):
    """Return the change, for `convert`, of floating arrays to a dtype; other arrays stay."""
    return lambda a: np.asarray(a, dtype) if a.dtype.kind == "f" else a


def to_device(value):
    """Move every array within `value` to the active backend."""
    return convert(value, lambda a: backend.xp.asarray(np.array(a)))


def flatten(value, name="result"):
    """Return ``[(name, array or number), …]`` for everything numerical within a result; device arrays come home."""
    if isinstance(value, bool | str) or value is None:
        return []
    if hasattr(value, "dtype") or isinstance(value, int | float):
        return [(name, backend.to_host(value) if hasattr(value, "dtype") else np.asarray(value))]
    if dataclasses.is_dataclass(value):
        parts = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif hasattr(value, "_fields"):
        parts = list(zip(value._fields, value, strict=True))
    elif isinstance(value, dict):
        parts = list(value.items())
    elif hasattr(value, "toarray"):
        return [(name, backend.to_host(value.toarray()))]
    else:
        parts = list(enumerate(value))
    return [item for key, part in parts for item in flatten(part, f"{name}.{key}")]


def run(record, inputs, hyper=None, *, seed=0):
    """Call a function of any record type on a dict of inputs of the active backend; update rules run all steps."""
    hyper = hyper or {}
    if isinstance(record, catalog.UpdateRule):
        params, state = inputs["params"], record.init(inputs["params"])
        for grads in inputs["gradients"]:
            params, state = record.f(params, grads, state, **hyper)
        return params, state
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        return record.f(np.random.default_rng(seed), **inputs, **hyper)
    return record(inputs, hyper)


def _close(actual, expected, tolerance):
    """Return whether arrays agree to `tolerance`, relative to the largest entry expected."""
    if actual.shape != expected.shape:
        return False
    scale = float(abs(expected).max()) if expected.size else 0.0
    return bool((abs(actual - expected) <= tolerance * max(scale, 1e-300)).all())


# -------------------------------------------------------------------------------------------------------- contracts


def record_is_complete(record):
    """Docstring, examples that fit their specification, and a probe without neutral values."""
    doc = inspect.getdoc(record.f) or ""
    for section in ("Parameters", "Returns", "Raises"):
        _require(f"{section}\n---" in doc, f"the docstring has no section {section}")
    for name in getattr(record.f, "undocumented", ()):
        raise ContractError(f"neither the glossary nor the docstring says what {name} is")
    if record.hyper_parameters:
        _require("probe" in record.settings, "settings have no 'probe'")
        probe = record.settings["probe"]
        for name, default in record.hyper_parameters.items():
            if name in SHAPE_PARAMETERS:
                continue
            if default is inspect.Parameter.empty or default is not None:
                _require(name in probe, f"the probe leaves {name} at its default")
                neutral = probe[name] == default or (type(probe[name]) is not bool and probe[name] in (0, 1))
                _require(not neutral, f"the probe's {name} is neutral")
    if isinstance(record, catalog.UpdateRule):
        return
    for case in cases(record):
        _require(list(case.inputs) == list(record.inputs), f"{case.label}: inputs are {list(case.inputs)}")
        with backend.use_backend("numpy"):
            validate.inputs(record.inputs, *case.inputs.values())
    if not isinstance(record, catalog.Sampler):
        longest = max((s for a in _arrays(_example(record, 64)) for s in a.shape), default=64)
        _require(longest >= 64, "the example of size 64 holds no array of that length")


def _rng(*seed):
    return np.random.default_rng(seed or 0)


def _arrays(inputs):
    found = []
    convert(inputs, lambda a: found.append(a) or a)
    return [a for a in found if a.ndim]


def pure(record):
    """Inputs unchanged, results share no memory with them, the same call gives the same result, all of it finite."""
    for case in cases(record, seeds=(0,)):
        inputs = convert(case.inputs, _read_only)
        before = [(n, a.copy()) for n, a in flatten(_plain(inputs))]
        first, second = run(record, inputs, case.hyper), run(record, inputs, case.hyper)
        for (name, a), (_, b) in zip(before, flatten(_plain(inputs)), strict=True):
            _require(np.array_equal(a, b), f"{case.label}: input {name} was changed")
        for (name, a), (_, b) in zip(flatten(first), flatten(second), strict=True):
            _require(np.array_equal(a, b), f"{case.label}: {name} differs between two equal calls")
            _require(np.isfinite(a).all(), f"{case.label}: {name} is not finite")
            for source in _arrays(inputs):
                _require(not np.shares_memory(a, source), f"{case.label}: {name} shares memory with an input")


def _plain(value):
    """Dataclasses as dicts, so that their fields are seen."""
    return {k: v for k, v in value.items() if not callable(v) or dataclasses.is_dataclass(v)}


def _result_note(record):
    return inspect.get_annotations(inspect.unwrap(record.f)).get("return")


def returns(record):
    """The result has the types, shapes and kinds that the signature promises."""
    for case in cases(record, seeds=(0,)):
        sizes = {}
        if not isinstance(record, catalog.UpdateRule):
            sizes = validate.inputs(record.inputs, *case.inputs.values())
        _promised(run(record, case.inputs, case.hyper), _result_note(record), sizes, f"{case.label}: the result")


def _promised(value, note, sizes, what):
    """Hold a result to its annotation; lengths that it names first are added to the sizes."""
    if isinstance(note, Input) and note.kind == "arrays":
        _require(isinstance(value, list) and all(hasattr(a, "dtype") for a in value), f"{what} is no list of arrays")
    elif isinstance(note, Input):
        dtypes = "iu" if note.kind == "index" else "f"
        _require(hasattr(value, "dtype") and value.dtype.kind in dtypes, f"{what} has another dtype than {note}")
        fits = (validate._fits(value.shape, option, sizes) for option in validate.parse_shape(note.shape))
        found = next((f for f in fits if f is not None), None)
        _require(found is not None, f"{what} has shape {value.shape}, not that of {note} with {sizes}")
        sizes.update(found)
        test, needed = validate.KINDS[note.kind]
        _require(bool(test(value)), f"{what} {needed}")
    elif typing.get_origin(note) in (tuple, list) or hasattr(note, "_fields"):
        fields = getattr(note, "__annotations__", None) or dict(enumerate(typing.get_args(note)))
        _require(isinstance(value, typing.get_origin(note) or note), f"{what} is a {type(value).__name__}")
        if typing.get_origin(note) is list:
            fields = dict.fromkeys(range(len(value)), typing.get_args(note)[0])
        for part, (name, inner) in zip(value, fields.items(), strict=True):
            _promised(part, inner, sizes, f"{what}, {name}")
    else:
        _require(type(value) is note, f"{what} is a {type(value).__name__}, not {note}")


def gradient(record):
    """The gradient equals the derivative of the value, with the stopped quantities held constant."""
    for number, case in enumerate(cases(record)):
        inputs = convert(case.inputs, as_dtype(np.float64))
        frozen = {k: catalog.call(f, inputs, case.hyper) for k, f in record.stopped.items()}
        value, grad = record(inputs, case.hyper)
        parts = [grad] if isinstance(record.wrt, str) else [getattr(grad, name) for name in record.wrt]
        _require(np.ndim(value) == 0, f"{case.label}: the value has shape {np.shape(value)}")
        held = record(inputs, {**case.hyper, **frozen})
        _require(held[0] == value, f"{case.label}: passing the stopped quantities changes the value")
        for name, part in zip(record.wrt_names, parts, strict=True):

            def at(x, name=name, inputs=inputs, case=case, frozen=frozen):
                return record({**inputs, name: x}, {**case.hyper, **frozen})[0]

            try:
                check_gradient(
                    at,
                    inputs[name],
                    part,
                    rng=_rng(number),
                    noise=record.tolerance * abs(float(value)),
                    domain=DOMAINS.get(record.inputs[name].kind, (-math.inf, math.inf)),
                )
            except ContractError as error:
                raise ContractError(f"{case.label}, {name}: {error}") from None


def stop_gradients(record):
    """Each stopped quantity matters: without holding it constant the derivative is another one."""
    for keyword, compute in record.stopped.items():
        differs = False
        for case in cases(record, sizes=(4, 8), edges=False):
            inputs = case.inputs
            others = {k: catalog.call(f, inputs, case.hyper) for k, f in record.stopped.items() if k != keyword}
            frozen = {**others, keyword: catalog.call(compute, inputs, case.hyper)}
            for name in record.wrt_names:
                direction = _rng(7).choice((-1.0, 1.0), size=inputs[name].shape)
                slopes = []
                for fixed in (frozen, others):
                    ahead, behind = (
                        float(record({**inputs, name: inputs[name] + h * direction}, {**case.hyper, **fixed})[0])
                        for h in (1e-5, -1e-5)
                    )
                    slopes.append((ahead - behind) / 2e-5)
                differs |= abs(slopes[0] - slopes[1]) > STOPPED * max(abs(slopes[0]), abs(slopes[1]))
        _require(differs, f"holding {keyword} constant changes no derivative: it is not a stop-gradient")


def float32(record):
    """float32 in, float32 out, and the result of float64 at the rounded inputs to 2e-4."""
    for number, case in enumerate(cases(record, seeds=(0,))):
        single = convert(case.inputs, as_dtype(np.float32))
        rounded = convert(single, as_dtype(np.float64))
        in_single = {"dtype": "float32"} if "dtype" in record.hyper_parameters else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", validate.ConvergenceWarning)
            got = flatten(_compared(run(record, single, {**case.hyper, **in_single})))
        wanted = flatten(_compared(run(record, rounded, case.hyper)))
        for (name, a), (_, b) in zip(got, wanted, strict=True):
            if b.dtype.kind != "f":
                continue
            if b.ndim or not isinstance(record, catalog.Solver):
                _require(a.dtype == np.float32, f"{case.label}: {name} is {a.dtype} for float32 inputs")
            if not _close(a, b, SINGLE):
                around = nearby(record, rounded, precision=2.0**-24, seed=number)
                hull = np.array([dict(flatten(_compared(run(record, x, case.hyper))))[name] for x in around])
                slack = SINGLE * float(abs(b).max())
                inside = (a >= hull.min(0) - slack) & (a <= hull.max(0) + slack)
                worst = float(abs(a - b).max() / max(float(abs(b).max()), 1e-300))
                _require(inside.all(), f"{case.label}: {name} in float32 is off by {worst:.1e} (relative)")


def _compared(result):
    """What two precisions or variants must agree on: of a solver the solution, not the history."""
    return {"solution": result[0]} if hasattr(result, "iterations") else result


def nearby(record, inputs, *, precision=2.0**-53, seed=0):
    """Yield the inputs moved by ±64 units in the last place, in opposite pairs: at a kink their results differ.

    Parameters
    ----------
    record : Record
    inputs : dict
        Of host arrays; those of kind real, log_prob and positive are moved.
    precision : float
        The unit, relative: 2⁻⁵³ for float64, 2⁻²⁴ for float32.
    seed : int

    Yields
    ------
    dict
    """
    movable = [name for name in inputs if record.inputs[name].kind in ("real", "log_prob", "positive")]
    for draw, sign in itertools.product(range(4), (1.0, -1.0)):
        rng = _rng(seed, draw)

        def shift(a, rng=rng, sign=sign):
            step = sign * 64 * precision * abs(a)
            return np.asarray(a + step * rng.choice((-1.0, 1.0), a.shape)) if a.dtype.kind == "f" else a

        yield {**inputs, **{name: convert(inputs[name], shift) for name in movable}}


def batch_of_one(record):
    """The smallest batch works and gives finite numbers."""
    example = _example(record, 1)
    for setting, hyper in record.settings.items():
        for name, array in flatten(run(record, example, dict(hyper))):
            _require(np.isfinite(array).all(), f"{setting}: {name} is not finite for a batch of one")


def strict_device(record):
    """On the strict device: the same bits, and no synchronisation that grows with the size."""
    for setting, hyper in record.settings.items():
        counts = []
        for size in (4, 8):
            example = _example(record, size)
            expected = run(record, example, dict(hyper))
            with backend.use_backend("strict"):
                device = to_device(example)
                calls = _Count(record)
                with strict.synchronisations() as count:
                    result = run(calls.record, device, dict(hyper))
                counts.append(count())
                actual = flatten(result)
            for (name, a), (_, b) in zip(actual, flatten(expected), strict=True):
                _require(np.array_equal(a, b), f"{setting}, size {size}: {name} differs from NumPy's")
            if isinstance(record, catalog.Solver) and not record.random:
                allowed = 3 * (result.iterations + getattr(result, "inner_iterations", 0)) + SETUP_SYNCS
                _require(counts[-1] <= allowed, f"{setting}: {counts[-1]} synchronisations, {allowed} allowed")
        if isinstance(record, catalog.Objective | catalog.Transform | catalog.UpdateRule):
            each = [c / calls.number for c in counts]
            _require(counts[0] == counts[1], f"{setting}: synchronisations grow with the size: {counts}")
            _require(each[0] <= 1, f"{setting}: {each[0]:g} synchronisations a call")


class _Count:
    """How many calls of the function one run makes."""

    def __init__(self, record):
        self.record = record
        example = _example(record, 4)
        self.number = len(example["gradients"]) if isinstance(record, catalog.UpdateRule) else 1


def bad_input(record):
    """Wrong shapes, dtypes, places and values give an error that names an argument."""
    if isinstance(record, catalog.UpdateRule):
        return _bad_update(record)
    example = _example(record, 4)
    for name, spec in record.inputs.items():
        value = example.get(name)
        if spec.kind == "callable":
            _expect(record, {**example, name: "not callable"}, TypeError, f"{name}, a string")
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
            _expect(record, {**example, name: value.astype(np.int64)}, TypeError, f"{name}, integers")
            spoiled = {"NaN": math.nan, "infinity": math.inf}
            spoiled |= {"prob": {"1.5": 1.5, "-0.5": -0.5}, "mask": {"0.5": 0.5}}.get(spec.kind, {})
            spoiled |= {"positive": {"-1": -1.0, "0": 0.0}, "nonnegative": {"-1": -1.0}}.get(spec.kind, {})
            for what, entry in spoiled.items():
                bad = np.array(value)
                bad.flat[-1] = entry
                _expect(record, {**example, name: bad}, ValueError, f"{name}, an entry {what}")
        with backend.use_backend("strict"):
            device = to_device(example)
            _expect(record, {**device, name: np.array(value)}, TypeError, f"{name}, a host array on a device")
        _expect(record, {**example, name: value.tolist()}, TypeError, f"{name}, a list")
    for name, compute in getattr(record, "stopped", {}).items():
        _bad_stopped(record, example, name, catalog.call(compute, example, record.settings["default"]))


def _bad_stopped(record, example, name, value):
    """A quantity that is passed to be held constant is checked like an input."""
    spoiled = np.array(value, dtype=float)
    spoiled.flat[-1] = math.nan
    for what, bad in {"one dimension more": np.array(value)[None], "an entry NaN": spoiled}.items():
        try:
            record(example, {**record.settings["default"], name: bad})
        except (ValueError, TypeError) as error:
            _require(name in str(error), f"{name}, {what}: the message does not name it: {error}")
        else:
            raise ContractError(f"{name}, {what}: accepted")


def _bad_update(record):
    example = _example(record, 4)
    params, grads, init = example["params"], example["gradients"][0], record.init
    hyper = dict(record.settings["default"])
    spoiled = [np.array(g) for g in grads]
    spoiled[-1].flat[-1] = math.nan
    wrong = {
        "a list too short": (grads[:-1], ValueError),
        "wrong shapes": ([g[None] for g in grads], ValueError),
        "integers": ([g.astype(int) for g in grads], TypeError),
        "NaN": (spoiled, ValueError),
        "no list": (None, TypeError),
    }
    for what, (bad, expected) in wrong.items():
        try:
            record.f(params, bad, init(params), **hyper)
        except expected as error:
            _require("grads" in str(error), f"grads, {what}: the message names no argument: {error}")
        else:
            raise ContractError(f"grads, {what}: accepted")


def _fits_specification(record, inputs):
    try:
        validate.inputs(record.inputs, *inputs.values())
    except (TypeError, ValueError):
        return False
    return True


def _expect(record, inputs, expected, what):
    kinds = expected.__args__ if hasattr(expected, "__args__") else (expected,)
    try:
        run(record, inputs, dict(record.settings["default"]))
    except kinds as error:
        named = any(name in str(error) for name in record.inputs)
        _require(named, f"{what}: the message names no argument: {error}")
    except Exception as error:
        raise ContractError(f"{what}: {type(error).__name__}: {error}") from error
    else:
        raise ContractError(f"{what}: accepted")


def limits(record):
    """Each declared limit holds, in value and gradient."""
    for limit in record.limits:
        other = catalog.find(limit.to)
        for case in cases(record, seeds=(0,)):
            if case.setting != "default":
                continue
            there = limit.where(case.inputs) if limit.where else case.inputs
            both = zip((record, other), there if isinstance(there, tuple) else (there, there), strict=True)
            ours, theirs = ({k: inputs[k] for k in r.inputs if k in inputs} for r, inputs in both)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", validate.ConvergenceWarning)  # of iterates on their way
                actual = flatten(_compared(run(record, ours, {**case.hyper, **limit.hyper})))
                expected = flatten(_compared(run(other, theirs, dict(limit.to_hyper))))
            # a loss that cancels to 0 is compared on the scale of its gradient
            largest = max(float(abs(b).max(initial=0.0)) for _, b in expected)
            # the value comes first
            for (name, a), (_, b) in list(zip(actual, expected, strict=True))[limit.gradient_only :]:
                if isinstance(there, tuple) and a.size == b.size:
                    a = a.reshape(b.shape)
                same = _close(a, b, EQUAL) or (a.shape == b.shape and abs(a - b).max(initial=0.0) <= 1e-12 * largest)
                _require(same, f"{case.label}: not {limit.to} under {dict(limit.hyper)}: {name} differs")


def deviations(record):
    """Each deviation runs on every example and differs from the reference somewhere."""
    for deviation in record.deviations:
        differs = False
        for case in cases(record):
            hyper = {k: v for k, v in case.hyper.items() if k in inspect.signature(deviation.f).parameters}
            other = run(dataclasses.replace(record, f=deviation.f, settings={"default": {}}), case.inputs, hyper)
            reference = run(record, case.inputs, case.hyper)
            pairs = zip(flatten(_compared(other)), flatten(_compared(reference)), strict=True)
            differs |= not all(_close(a, b, EQUAL) for (_, a), (_, b) in pairs)
        _require(differs, f"the deviation {deviation.name!r} never differs from the reference")


def derivatives(record):
    """A transform's jvp equals differences; its vjp is the adjoint of its jvp; a transform may have neither."""
    if not (record.jvp or record.vjp):
        return
    for number, case in enumerate(cases(record)):
        inputs, rng = case.inputs, _rng(number)
        x = inputs[record.wrt]
        tangent = rng.standard_normal(x.shape)
        ahead, behind, ahead2, behind2 = (
            record({**inputs, record.wrt: x + h * tangent}, case.hyper) for h in (1e-3, -1e-3, 2e-3, -2e-3)
        )
        difference = (8 * (ahead - behind) - (ahead2 - behind2)) / 12e-3
        if record.jvp:
            pushed = record.jvp(**inputs, tangent=tangent, **case.hyper)
            _require(_close(pushed, difference, PUSHED), f"{case.label}: jvp differs from differences")
        if record.vjp:
            cotangent = rng.standard_normal(difference.shape)
            pulled = record.vjp(**inputs, cotangent=cotangent, **case.hyper)
            _require(pulled.shape == x.shape, f"{case.label}: vjp has shape {pulled.shape}")
            a, b = float((cotangent * difference).sum()), float((pulled * tangent).sum())
            scale = float(np.linalg.norm(cotangent) * np.linalg.norm(difference))
            _require(abs(a - b) <= ADJOINT * scale, f"{case.label}: vjp is not the adjoint: {a:.12g} against {b:.12g}")


def projection(record):
    """Idempotent and feasible where the record says so."""
    for case in cases(record):
        result = record(case.inputs, case.hyper)
        if record.idempotent:
            again = record({**case.inputs, record.wrt: result}, case.hyper)
            _require(_close(again, result, PROJECTED), f"{case.label}: not idempotent")
        if record.feasible:
            off = record.feasible(result, **case.inputs)
            _require(float(off) <= PROJECTED, f"{case.label}: infeasible by {float(off):.1e}")


def certificate(record):
    """The solver converges, reports honestly, and its certificate is within the stated tolerances."""
    for case in cases(record):
        result = run(record, case.inputs, case.hyper)
        for field in ("iterations", "converged"):
            _require(hasattr(result, field), f"the result has no field {field!r}")
        _require(type(result.converged) is bool, f"converged is a {type(result.converged).__name__}")
        _require(type(result.iterations) is int, f"iterations is a {type(result.iterations).__name__}")
        histories = [v for v in result if isinstance(v, list)]
        _require(histories, "the result holds no history")
        _require(all(type(x) is float for h in histories for x in h), "a history must hold host floats")
        _require(result.converged, f"{case.label}: not converged after {result.iterations} iterations")
        figures = record.certificate(result, **case.inputs, **case.hyper)
        _require(set(figures) == set(record.tolerances), f"the certificate gives {set(figures)}")
        for name, figure in figures.items():
            _require(
                float(figure) <= record.tolerances[name],
                f"{case.label}: {name} is {float(figure):.2e}, {record.tolerances[name]:.0e} allowed",
            )


def brute_force(record):
    """The estimator equals brute force or the closed form."""
    for case in cases(record, sizes=(4, 8)):
        expected = np.asarray(record.brute_force(**case.inputs, **case.hyper))
        actual = np.asarray(record(case.inputs, case.hyper))
        _require(_close(actual, expected, BRUTE_FORCE), f"{case.label}: differs from brute force")


def sampling(record):
    """Same seed same draws, another seed others, and the moments within their stated confidence."""
    for setting, hyper in record.settings.items():
        example = _example(record, 64)
        first, again, other = (run(record, example, dict(hyper), seed=s) for s in (0, 0, 1))
        _require(np.array_equal(first, again), f"{setting}: the same seed gives other draws")
        _require(not np.array_equal(first, other), f"{setting}: another seed gives the same draws")
        for name, (seen, expected, allowance) in record.moments(first, **example, **hyper).items():
            _require(
                abs(seen - expected) <= allowance,
                f"{setting}: {name} is {seen:.4g}, expected {expected:.4g} within {allowance:.2g}",
            )


def agrees_with_numpy(record, on):
    """On another backend: NumPy's numbers to 1e-10, histories and counts aside."""
    for case in cases(record, sizes=(4, 64), seeds=(0,)):
        with backend.use_backend("numpy"):
            expected = flatten(_compared(run(record, case.inputs, case.hyper)))
        with backend.use_backend(on):
            actual = flatten(_compared(run(record, to_device(case.inputs), case.hyper)))
        for (name, a), (_, b) in zip(actual, expected, strict=True):
            _require(_close(a, b, DEVICE), f"{case.label}: {name} on {on} differs from NumPy's")


EVERYWHERE = (record_is_complete, returns, pure, float32, batch_of_one, strict_device, bad_input, limits, deviations)
CONTRACTS = {
    catalog.Objective: (gradient, stop_gradients),
    catalog.Transform: (derivatives, projection),
    catalog.Solver: (certificate,),
    catalog.UpdateRule: (),
    catalog.Estimator: (brute_force,),
    catalog.Sampler: (sampling,),
}


def contracts_of(record):
    """Return the contracts that apply to a record, as functions of the record."""
    own = CONTRACTS[type(record)]
    skipped = ({limits} if not record.limits else set()) | ({deviations} if not record.deviations else set())
    skipped |= {returns} if _result_note(record) is None else set()
    skipped |= {stop_gradients} if not getattr(record, "stopped", None) else set()
    return tuple(c for c in (*EVERYWHERE, *own) if c not in skipped)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one contract gave for one function; `error` is None where it holds."""

    function: str
    contract: str
    error: str | None
    seconds: float


def check_method(family, slug, on="numpy"):
    """Run all contracts of a method's functions; return a list of `Outcome`."""
    return [outcome for record in catalog.method(family, slug).functions for outcome in check_record(record, on=on)]


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
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        pending = [pool.submit(check_method, m.family, m.slug, on) for m in methods]
        for method, future in zip(methods, pending, strict=True):
            yield method, future.result()


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
