"""The cases of a record, and what is done to them: casts, moves, runs, comparisons."""

import dataclasses
import itertools
import types
import zlib

import numpy as np

from trref import backend, catalog

__all__ = [
    "Case",
    "as_dtype",
    "cases",
    "compared",
    "convert",
    "essence",
    "flatten",
    "nearby",
    "run",
    "special_cases",
    "to_device",
]


@dataclasses.dataclass(frozen=True)
class Case:
    """Inputs (host arrays) and hyper-parameters, with a label that a person can read."""

    label: str
    inputs: dict
    hyper: dict
    setting: str


def cases(record, *, sizes=None, seeds=None, edges=True):
    """Yield the cases of a record: examples at its sizes and seeds or at those given, and edges, under every setting.

    Samplers and whole algorithms draw for themselves: one size and seed is enough.
    """
    sizes = record.sizes if sizes is None else sizes
    seeds = record.seeds if seeds is None else seeds
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        sizes, seeds = sizes[:1], seeds[:1]
    for setting, hyper in record.settings.items():
        for size, seed in itertools.product(sizes, seeds):
            example = example_of(record, size, seed)
            yield Case(
                f"{setting}, size {size}, seed {seed}", example, dict(hyper), setting
            )
        if edges:
            for name, make in record.edges.items():
                with backend.use_backend("numpy"):
                    edge = make()
                yield Case(f"{setting}, edge {name!r}", edge, dict(hyper), setting)


def special_cases(record, named):
    """Yield the named cases of a record, its `failures` or what it has `refused`: each ``() -> (inputs, hyper)``, or a
    mapping of what is changed in the smallest example.
    """
    for name, case in named.items():
        with backend.use_backend("numpy"):
            inputs, hyper = case() if callable(case) else _changed(record, case)
        yield Case(name, inputs, {**record.settings["default"], **hyper}, "default")


def _changed(record, changes):
    """The smallest example and the keywords, changed: a number fills the array, a function is applied to it."""
    inputs = dict(example_of(record, record.sizes[0]))
    hyper = {k: v for k, v in changes.items() if k in record.hyper_parameters}
    for name in changes.keys() - hyper.keys():
        old, new = inputs.get(name), changes[name]
        if isinstance(new, types.FunctionType):
            inputs[name] = new(old)
        elif isinstance(old, np.ndarray) and isinstance(new, int | float):
            inputs[name] = np.full_like(old, new)
        else:
            inputs[name] = new
    return inputs, hyper


def example_of(record, size, seed=0):
    """The example of a record, of one size and seed, on the host."""
    with backend.use_backend("numpy"):
        return record.example(np.random.default_rng([size, seed]), size)


def convert(value, change):
    """Apply `change` to every array within arrays, callables (frozen dataclasses), lists, tuples and dicts."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: convert(getattr(value, f.name), change)
            for f in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **fields)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(convert(v, change) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(convert(v, change) for v in value)
    if isinstance(value, dict):
        return {k: convert(v, change) for k, v in value.items()}
    return value


def read_only(array):
    """A copy that cannot be written to."""
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
        return [
            (
                name,
                backend.to_host(value)
                if hasattr(value, "dtype")
                else np.asarray(value),
            )
        ]
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
        for k, grads in enumerate(inputs["gradients"]):
            params, state = record.f(
                params, grads, state, **record.at_step(inputs, k), **hyper
            )
        return params, state
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        return record.f(np.random.default_rng(seed), **inputs, **hyper)
    return record(inputs, hyper)


def close(actual, expected, tolerance):
    """Return whether arrays agree to `tolerance`, relative to the largest entry expected."""
    if actual.shape != expected.shape:
        return False
    scale = float(abs(expected).max()) if expected.size else 0.0
    return bool((abs(actual - expected) <= tolerance * max(scale, 1e-300)).all())


def compared(result):
    """What two precisions must agree on: of a solver the solution, not the history."""
    return {"solution": result[0]} if hasattr(result, "iterations") else result


def essence(record, result):
    """What a method and its limit or deviation can be compared in: of an update rule the parameters, not the state."""
    return (
        {"params": result[0]}
        if isinstance(record, catalog.UpdateRule)
        else compared(result)
    )


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
    movable = [
        name
        for name in inputs
        if record.inputs[name].kind in ("real", "log_prob", "positive")
    ]
    for draw, sign in itertools.product(range(4), (1.0, -1.0)):
        rng = generator(seed, draw)

        def shift(a, rng=rng, sign=sign):
            step = sign * 64 * precision * abs(a)
            return (
                np.asarray(a + step * rng.choice((-1.0, 1.0), a.shape))
                if a.dtype.kind == "f"
                else a
            )

        yield {**inputs, **{name: convert(inputs[name], shift) for name in movable}}


def arrays_of(inputs):
    """All arrays within inputs that have an axis."""
    found = []
    convert(inputs, lambda a: found.append(a) or a)
    return [a for a in found if a.ndim]


def generator(*seed):
    """A generator of random numbers from numbers and text; of 0 without any."""
    return np.random.default_rng(
        [zlib.crc32(s.encode()) if isinstance(s, str) else s for s in seed] or 0
    )
