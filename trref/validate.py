"""Shape, dtype and range checks with messages that name the argument and what it needed.

`trref.signature.checked` calls them at every call of a method.

Shapes and dtypes are checked on the host. The values (finite, within the range of their kind) of all arrays together
cost one synchronisation of a device; only when something is wrong does the search for the culprit cost more.
"""

import functools
import math
import re
import typing

import numpy

from trref import backend
from trref.backend import xp

__all__ = [
    "KINDS",
    "LOG_PROB_BOUND",
    "LOG_RATIO_BOUND",
    "ConvergenceWarning",
    "Row",
    "array",
    "choice",
    "compiled",
    "deferred",
    "each",
    "finite_on_the_host",
    "fits",
    "inputs",
    "integer",
    "interval",
    "labels",
    "lists",
    "loss_and_grad",
    "parse_shape",
    "provides",
    "require",
    "returned",
    "rows",
]

LOG_RATIO_BOUND = 30.0
"""Two log-probabilities of one action that differ by more than this (a ratio of 1e13) are not a valid pair."""

LOG_PROB_BOUND = 50.0
"""Larger log-probabilities are refused: of tokens they are at most 0, and of no sensible density beyond exp's range."""

LARGEST = {8: 1e100, 4: 1e15}
"""Largest norm of an array, by the bytes of its dtype: products of a few such arrays do not overflow."""


class ConvergenceWarning(UserWarning):
    """An iteration stopped at its limit; the result says ``converged=False``."""


# The tests are reductions that make no array and are false of NaN: they are a good part of the time of a short method.


def _moderate(x):
    return xp.vdot(x, x) <= LARGEST[x.dtype.itemsize] ** 2


def _between(low, x, high):
    return (x.min() >= low) & (x.max() <= high)


def _orthonormal(x):
    gram = xp.swapaxes(x, -1, -2) @ x
    tolerance = max(1e-6, math.sqrt(xp.finfo(x.dtype).eps))
    return _between(-tolerance, gram - xp.eye(x.shape[-1], dtype=x.dtype), tolerance)


def _simplex(x):
    return (x.min() >= 0) & _between(1 - 1e-5, x.sum(-1), 1 + 1e-5)


# kind -> (test on the device, what the argument needed)
KINDS = {
    "real": (_moderate, "must be finite, with a norm of at most 1e100 (float32: 1e15)"),
    "log_prob": (
        lambda x: (x.max() <= LOG_PROB_BOUND) & _moderate(x),
        "must be finite and at most 50, with a norm of at most 1e100 (float32: 1e15)",
    ),
    "prob": (lambda x: _between(0, x, 1), "must lie in [0, 1]"),
    "simplex": (
        _simplex,
        "must be non-negative, with sums of 1 along the last axis, to 1e-5",
    ),
    "mask": (lambda x: ((x == 0) | (x == 1)).all(), "must hold only 0 and 1"),
    "positive": (
        lambda x: (x.min() > 0) & _moderate(x),
        "must be positive and finite, with a norm of at most 1e100",
    ),
    "nonnegative": (
        lambda x: (x.min() >= 0) & _moderate(x),
        "must be non-negative and finite, with a norm of at most 1e100",
    ),
    "index": (lambda x: x.min() >= 0, "must hold non-negative integers"),
    "orthonormal": (
        _orthonormal,
        "must have orthonormal columns, to 1e-6 (float32: 3e-4)",
    ),
}


@functools.cache
def parse_shape(shape):
    """``"B | B T+1"`` -> (((("B", 0),), (("B", 0), ("T", 1)))): names with offsets; a number is a fixed length.

    One word of an option may be ``...``: any number of axes, the same for all inputs.
    """
    return tuple(
        tuple(_dimension(word) for word in option.split())
        for option in shape.split("|")
    )


def _dimension(word):
    if word == "...":
        return word, 0
    match = re.fullmatch(r"([A-Za-z]\w*)?([+-]?\d+)?", word)
    if not match or not word:
        raise ValueError(f"not a dimension: {word!r}")
    return match[1], int(match[2] or 0)


def fits(actual, option, sizes):
    """Match a shape with one option of `parse_shape`; return the sizes, those newly found among them, or None."""
    found = dict(sizes)
    if ("...", 0) in option:
        start, count = option.index(("...", 0)), len(actual) - len(option) + 1
        if (
            count < 0
            or found.setdefault("...", actual[start : start + count])
            != actual[start : start + count]
        ):
            return None
        actual = actual[:start] + actual[start + count :]
        option = option[:start] + option[start + 1 :]
    if len(actual) != len(option):
        return None
    for length, (name, offset) in zip(actual, option, strict=True):
        if length != (found.setdefault(name, length - offset) if name else 0) + offset:
            return None
    return found


def _describe(shape, sizes):
    text = " or ".join(f"({', '.join(o.split())})" for o in shape.split("|"))
    names = [
        n for n in dict.fromkeys(re.findall(r"[A-Za-z]\w*|\.\.\.", shape)) if n in sizes
    ]
    return text + (
        " with " + ", ".join(f"{n} = {sizes[n]}" for n in names) if names else ""
    )


def array(name, value, *, integer=False):
    """Require an array of the active backend, floating (float32 or float64) or, for ``integer=True``, of integers.

    Subclasses of arrays (matrices, masked arrays) are refused: their arithmetic is another one.
    """
    current = backend.active()
    if type(value) is not current.array_type:
        raise TypeError(
            f"{name} must be a {current.name} array, not {type(value).__module__}.{type(value).__name__}"
        )
    if integer and value.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an array of integers, not {value.dtype}")
    if not integer and value.dtype.char not in "fd":
        raise TypeError(f"{name} must be a float64 or float32 array, not {value.dtype}")


def inputs(specs, values):
    """Check named values against their specifications; see `deferred` for errors.

    Returns
    -------
    dict of str to int
        The length that each letter of the shapes stands for.
    """
    sizes, flags = deferred(compiled(specs), values)
    require(*flags)
    return sizes


class Row(typing.NamedTuple):
    """What `deferred` asks of one input."""

    name: str
    kind: str
    optional: bool
    shapes: tuple
    shape: str
    methods: tuple[str, ...]
    other: "Row | None"


def compiled(specs):
    """Return the rows for `deferred` of named specifications (`trref.signature.Input`)."""
    return tuple(
        Row(
            name,
            spec.kind,
            spec.optional,
            parse_shape(spec.shape),
            spec.shape,
            spec.methods,
            compiled({name: spec.other})[0] if spec.other else None,
        )
        for name, spec in specs.items()
    )


def deferred(rows, given):
    """Check shapes and dtypes now; return what is still to be asked of the values, for `require`.

    Parameters
    ----------
    rows : sequence of Row
        From `compiled`.
    given : mapping of str to array, callable or None
        The inputs. None stands for an optional input that was not given.

    Returns
    -------
    sizes : dict of str to int
        The length that each letter of the shapes stands for.
    flags : list of (callable, str)
        Tests on the device and the message when one fails.

    Raises
    ------
    TypeError
        Not an array of the active backend, the wrong kind of dtype, dtypes that differ between real inputs, or a
        callable that lacks a method.
    ValueError
        Wrong or empty shapes; values that are not finite or outside the range of their kind; two log-probabilities
        further apart than `LOG_RATIO_BOUND`.
    """
    sizes, real, first, flags = {}, None, None, []
    for row in rows:
        name, kind, value = row.name, row.kind, given[row.name]
        if value is None and row.optional:
            continue
        if kind == "callable":
            provides(name, value, *row.methods)
            continue
        if (
            row.other
            and hasattr(value, "dtype")
            and (kind == "index") != (value.dtype.kind in "iu")
        ):
            row, kind = row.other, row.other.kind
        array(name, value, integer=kind == "index")
        if kind != "index":
            if real is None:
                real = name, value.dtype
            elif value.dtype != real[1]:
                raise TypeError(
                    f"{name} is {value.dtype}, but {real[0]} is {real[1]}: give all one dtype"
                )
        shape = value.shape
        for option in row.shapes:
            if (found := fits(shape, option, sizes)) is not None:
                sizes = found
                break
        else:
            raise ValueError(
                f"{name} must have shape {_describe(row.shape, sizes)}, not {tuple(shape)}"
            )
        if 0 in shape:
            raise ValueError(f"{name} is empty: its shape is {tuple(shape)}")
        if kind == "log_prob" and first and shape == first[1].shape:
            test, needed = (
                _near(first[1]),
                f"must be finite and within {LOG_RATIO_BOUND:g} of {first[0]}",
            )
        else:
            test, needed = KINDS[kind]
        flags.append((functools.partial(test, value), f"{name} {needed}"))
        if kind == "log_prob" and not first:
            first = name, value
    return sizes, flags


def provides(name, value, *methods):
    """Require an object that can be called, or that has all of the methods named."""
    lacking = [m for m in methods if not callable(getattr(value, m, None))]
    if lacking == ["__call__"] == list(methods):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    if lacking:
        wanted = ", ".join(f"{m}()" if m != "__call__" else "a call" for m in lacking)
        raise TypeError(f"{name} must have {wanted}; a {type(value).__name__} has not")


def _near(other):
    return lambda x: _between(-LOG_RATIO_BOUND, x - other, LOG_RATIO_BOUND)


def require(*flags):
    """Raise ``ValueError(message)`` for the first ``(flag, message)`` whose flag, called, is a false device boolean."""
    if not flags:
        return
    # an infinity or a zero among the inputs may meet another one before the checks have named it
    with numpy.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if bool(functools.reduce(lambda a, b: a & b, [flag() for flag, _ in flags])):
            return
        for flag, message in flags:
            if not bool(flag()):
                raise ValueError(message)


def lists(named, *moments):
    """Check lists of arrays like the first one now; return what is still to be asked of the values, for `require`.

    Parameters
    ----------
    named : mapping of str to list of arrays
    *moments : list of arrays
        Those of a state, whose values are not asked.
    """
    for name, arrays in named.items():
        if not isinstance(arrays, list | tuple) or not arrays:
            raise TypeError(f"{name} must be a non-empty list of arrays")
        for i, value in enumerate(arrays):
            array(f"{name}[{i}]", value)
            if 0 in value.shape:
                raise ValueError(
                    f"{name}[{i}] is empty: its shape is {tuple(value.shape)}"
                )
    first, *others = named
    params = named[first]
    for name, arrays in [
        *((n, named[n]) for n in others),
        *((f"state ({i})", m) for i, m in enumerate(moments)),
    ]:
        if len(arrays) != len(params):
            raise ValueError(
                f"{name} must hold {len(params)} arrays, as {first} does, not {len(arrays)}"
            )
        for i, (value, param) in enumerate(zip(arrays, params, strict=True)):
            if value.shape != param.shape:
                raise ValueError(
                    f"{name}[{i}] must have shape {tuple(param.shape)}, not {tuple(value.shape)}"
                )
            if value.dtype != param.dtype:
                raise TypeError(
                    f"{name}[{i}] is {value.dtype}, but {first}[{i}] is {param.dtype}"
                )
    return [
        (lambda value=value: _moderate(value), f"{name}[{i}] {KINDS['real'][1]}")
        for name, arrays in named.items()
        for i, value in enumerate(arrays)
    ]


@functools.cache
def _bounds(interval):
    match = re.fullmatch(r"([\[(])\s*(\S+)\s*,\s*(\S+)\s*([\])])", interval)
    if not match:
        raise ValueError(f"not an interval: {interval!r}")
    return match[1] == "[", float(match[2]), float(match[3]), match[4] == "]"


def interval(interval, **numbers):
    """Require host numbers within an interval such as ``"(0, inf)"`` or ``"[0, 1]"``.

    Raises
    ------
    TypeError
        Not a Python or NumPy real number.
    ValueError
        NaN, or outside the interval.
    """
    closed_low, low, high, closed_high = _bounds(interval)
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(
            value, int | float | numpy.integer | numpy.floating
        ):
            raise TypeError(
                f"{name} must be a number in {interval}, not {type(value).__name__}"
            )
        above = value >= low if closed_low else value > low
        below = value <= high if closed_high else value < high
        if not (above and below):
            raise ValueError(f"{name} must lie in {interval}, not {value!r}")
        if abs(value) > LARGEST[4]:
            raise ValueError(
                f"{name} must lie in {interval} and be no larger than {LARGEST[4]:g}, not {value!r}"
            )


def integer(interval_, **numbers):
    """Require host integers within an interval such as ``"[1, inf)"``."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | numpy.integer):
            raise TypeError(
                f"{name} must be an integer in {interval_}, not {type(value).__name__}"
            )
    interval(interval_, **numbers)


def loss_and_grad(function, theta, name="loss_and_grad", *, finite=False):
    """Call ``function(theta) -> (loss, gradient)`` and require a scalar, and a gradient like theta (shape, dtype).

    With `finite`, values that are not finite are refused where looking costs no synchronisation: on the host.
    """
    result = function(theta)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name} must return a tuple (loss, gradient), not {type(result).__name__}"
        )
    loss, gradient = result
    if not hasattr(loss, "shape") and not isinstance(loss, int | float):
        raise TypeError(f"{name} must return a scalar loss, not {type(loss).__name__}")
    if getattr(loss, "shape", ()) != ():
        raise ValueError(
            f"{name} must return a scalar loss, not one of shape {tuple(loss.shape)}"
        )
    array(f"the gradient that {name} returns", gradient)
    if gradient.shape != theta.shape:
        raise ValueError(
            f"{name} must return a gradient of shape {tuple(theta.shape)}, not {tuple(gradient.shape)}"
        )
    if gradient.dtype != theta.dtype:
        raise TypeError(
            f"{name} returns a {gradient.dtype} gradient at a {theta.dtype} point: give it data of one dtype"
        )
    if finite:
        finite_on_the_host(name, loss, gradient)
    return loss, gradient


def rows(function, x, name="score_and_grad"):
    """Call ``function(x (N, D)) -> (values (N), gradients (N, D))`` and require both, finite as in `loss_and_grad`."""
    result = function(x)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name} must return a tuple (values, gradients), not {type(result).__name__}"
        )
    for what, value, shape in zip(
        ("values", "gradients"), result, (x.shape[:1], x.shape), strict=True
    ):
        array(f"the {what} that {name} returns", value)
        if value.shape != shape:
            raise ValueError(
                f"{name} must return {what} of shape {tuple(shape)}, not {tuple(value.shape)}"
            )
        if value.dtype != x.dtype:
            raise TypeError(
                f"{name} returns {value.dtype} {what} at {x.dtype} points: give it data of one dtype"
            )
        finite_on_the_host(name, value)
    return result


def each(samples, theta, N=None, name="samples"):
    """Call ``samples.each(theta) -> (losses (N), gradients (N, P))`` and require both, finite as in `loss_and_grad`.

    Without N, as many as there are losses.
    """
    result = samples.each(theta)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name}.each must return a tuple (losses, gradients), not {type(result).__name__}"
        )
    array(f"the losses that {name}.each returns", result[0])
    N = result[0].size if N is None else N
    shapes = ((N,), (N, len(theta)))
    for what, value, shape in zip(("losses", "gradients"), result, shapes, strict=True):
        array(f"the {what} that {name}.each returns", value)
        if value.shape != shape:
            raise ValueError(
                f"{name}.each must return {what} of shape {shape}, not {tuple(value.shape)}"
            )
        if value.dtype != theta.dtype:
            raise TypeError(
                f"{name}.each returns {value.dtype} {what} at {theta.dtype} parameters: give it data of one dtype"
            )
        finite_on_the_host(f"{name}.each", value)
    return result


def finite_on_the_host(name, *values):
    """Require finite values of a callable where looking costs no synchronisation: on the host."""
    if backend.backend_name() == "numpy":
        if not all(numpy.isfinite(value).all() for value in values):
            raise ValueError(f"{name} must return finite values")


def returned(name, value, shape, *, finite=False):
    """Require an array of this shape of the callable of this name, with finite values as in `loss_and_grad`."""
    array(f"the result of {name}", value)
    if value.shape != shape:
        raise ValueError(
            f"{name} must return an array of shape {tuple(shape)}, not {tuple(value.shape)}"
        )
    if finite:
        finite_on_the_host(name, value)
    return value


def labels(labels, K, name="labels"):
    """What is still to be asked of labels (non-negative integers), for `require`: all are less than K."""
    return lambda: labels.max() < K, f"{name} must be less than {K}"


def moderate_spread(**arguments):
    """Log standard deviations beyond ±15."""
    return [
        (lambda x=x: (abs(x) <= 15).all(), f"{name} must lie within 15 of 0")
        for name, x in arguments.items()
        if name.endswith(("log_std", "log_stds"))
    ]


def choice(options, **names):
    """Require each of the values to be one of `options`."""
    for name, value in names.items():
        if value not in options:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, options))}, not {value!r}"
            )
