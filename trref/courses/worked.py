"""The visible test of an exercise: a small example with its result, as code that can be read and run."""

import dataclasses
import functools
import re
import warnings

import numpy as np

from trref import backend, catalog, checks, validate
from trref.checks.cases import example_of
from trref.conformance import trials
from trref.courses.exercise import ambiguous, derivative_of
from trref.courses.terms import of_reference
from trref.signature import LENGTHS

__all__ = ["Worked", "literal", "test_code", "worked"]

LONGEST = 1500  # characters of the inputs
STEPS = 2  # of an update rule


@dataclasses.dataclass(frozen=True)
class Worked:
    """A small example: its inputs, what the reference gives, and the terms on the way, ``(name, label, array)``."""

    inputs: dict
    hyper: dict
    expected: dict
    terms: tuple


@functools.cache
def worked(name):
    """Return the small example of a function, with short numbers where these are valid."""
    record = catalog.find(name)
    inputs = _smallest(record)
    hyper = dict(record.settings["default"])
    expected = (
        {}
        if isinstance(record, catalog.Sampler)
        else trials.reference(record, inputs, hyper)
    )
    return Worked(inputs, hyper, expected, of_reference(record, inputs, hyper))


def _smallest(record):
    """The smallest example on which the function can be called, rounded as far as it may be."""
    for size in (3, 2, record.sizes[0]):
        try:
            inputs = example_of(record, size)
        except (ValueError, IndexError, TypeError, ArithmeticError):
            continue
        if isinstance(record, catalog.UpdateRule):
            inputs = {**inputs, "gradients": inputs["gradients"][:STEPS]}
        if _works(record, inputs):
            break
    for name, value in inputs.items():
        for digits in (2, 3):
            rounded = {**inputs, name: checks.convert(value, _rounded(digits))}
            if _works(record, rounded):
                inputs = rounded
                break
    return inputs


def _rounded(digits):
    """The change to so many significant digits, and to none smaller than a thousandth."""

    def change(a):
        return np.vectorize(
            lambda x: round(float(f"{x:.{digits}g}"), 3) + 0.0, otypes=[float]
        )(a)

    return lambda a: change(a) if a.dtype.kind == "f" else a


def _works(record, inputs):
    """Whether the function takes these inputs, converges, and gives finite numbers."""
    try:
        with (
            backend.use_backend("numpy"),
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error", validate.ConvergenceWarning)
            result = checks.run(record, inputs, record.settings["default"])
    except (
        ValueError,
        IndexError,
        TypeError,
        ArithmeticError,
        validate.ConvergenceWarning,
    ):
        return False
    numbers = [a for _, a in checks.flatten(result)]
    return all(np.isfinite(a).all() for a in numbers if a.dtype.kind == "f")


# ---------------------------------------------------------------------------------------------------------- as code


class Unwritable(Exception):
    """A value that no short code makes."""


def literal(value, imports, array="np.array({})"):
    """Return code that makes a value; note the lines that it has to import."""
    if isinstance(value, np.ndarray | np.generic):
        kind = ", dtype=int" if value.dtype.kind in "iu" and not value.size else ""
        return array.format(_numbers(np.asarray(value)) + kind)
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(literal(v, imports, array) for v in value)}]"
    fields = None
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        fields = value._asdict()
    if fields is None or not type(value).__module__.startswith("trref.problems"):
        raise Unwritable(type(value).__name__)
    imports.add(f"from {type(value).__module__} import {type(value).__name__}")
    inside = ", ".join(f"{name}={literal(v, imports)}" for name, v in fields.items())
    return f"{type(value).__name__}({inside})"


def _numbers(array):
    """Nested lists of short numbers."""
    if array.ndim:
        return f"[{', '.join(_numbers(a) for a in array)}]"
    return repr(array.item())


def _expected(array):
    """Nested lists of nine digits, which a test compares."""
    if array.ndim:
        return f"[{', '.join(_expected(a) for a in array)}]"
    number = array.item() + 0.0 if array.dtype.kind == "f" else array.item()  # no -0.0
    return f"{number:.9g}" if isinstance(number, float) else repr(number)


def test_code(exercise, *, imported=True):
    """Return the code of the visible test: of a file of its own, or of a cell of a notebook."""
    record, f = exercise.record, exercise.function
    lines = [
        f'"""A worked example of {exercise.name}. Run it: python test_{exercise.stem}.py"""',
        "",
    ] * imported
    try:
        if (
            ambiguous(record)
            or isinstance(record, catalog.Sampler)
            or exercise.framework == "jax"
        ):
            raise Unwritable
        body, imports = _explicit(exercise)
    except Unwritable:
        imports = {"from trref.courses import assert_worked"}
        options = (
            f', framework="{exercise.framework}"'
            if exercise.framework != "numpy"
            else ""
        )
        options += f", level={exercise.level}"
        body = [f'assert_worked("{exercise.name}", {f}{options})']
        body = [*_shown(exercise), *body]
    first = {
        "numpy": "import numpy as np",
        "torch": "import numpy as np\nimport torch",
        "jax": "import numpy as np",
    }
    uses = " ".join(body)
    lines += [
        line
        for line in first[exercise.framework].split("\n")
        if f"{line.split()[-1]}." in uses
    ]
    also = [f"{exercise.function}"]
    if derivative_of(record) and "derivative(" in uses:
        also.append(derivative_of(record).name)
        body = [line.replace("derivative(", f"{also[1]}(") for line in body]
    if isinstance(record, catalog.UpdateRule):
        also.append("init")
    lines += [f"from {exercise.stem} import {', '.join(also)}"] * imported
    lines += sorted(imports)
    body = [f"    {line}".rstrip() for line in body]
    lines += ["", "", f"def test_{f}():", *map(_folded, body)]
    lines += [
        "",
        "",
        'if __name__ == "__main__":',
        f"    test_{f}()",
        '    print("the worked example is right")',
    ]
    if not imported:
        lines = [*lines[:-3], f"test_{f}()"]
    return "\n".join(lines).strip() + "\n"


def _folded(line):
    """A long line of nested lists, a row a line."""
    if len(line) <= 100 or "], [" not in line or "#" in line:
        return line
    return line.replace("], [", "],\n        [")


def _shown(exercise):
    """Comments with the example, for a test that makes it elsewhere: inputs, terms, result."""
    example = worked(exercise.name)
    given = [f"# {n} = {_short(v)}" for n, v in example.inputs.items() if _is_small(v)]
    found = [
        f"# {part} = {_short(v)}"
        for part, v in example.expected.items()
        if _is_small(v)
    ]
    return [
        *(["# Given:", *given] if given else []),
        *_terms(exercise),
        *(["# Result:", *found] if found else []),
    ]


def _is_small(value):
    return isinstance(value, np.ndarray) and 0 < value.size <= 12


def _terms(exercise):
    """Comments that work the example out, a line a term; lengths are left to the reader."""
    found = []
    for name, label, value in worked(exercise.name).terms:
        if value.size <= 12 and name not in LENGTHS:
            text = f"# {name} = {_short(value)}"
            found.append(text + (f"    [{label}]" if label else ""))
    return ["# On the way:", *found] if found else []


def _short(array):
    text = np.array2string(
        np.asarray(array), separator=", ", precision=6, suppress_small=True
    )
    return " ".join(text.split())


def _explicit(exercise):
    record, example, imports = exercise.record, worked(exercise.name), set()
    torch = exercise.framework == "torch"
    array = "torch.tensor({}, dtype=torch.float64)" if torch else "np.array({})"
    if torch and any(spec.kind == "callable" for spec in record.inputs.values()):
        raise Unwritable  # what it takes and gives are arrays of NumPy
    body = []
    for name, value in example.inputs.items():
        text = literal(value, imports, array)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            text = text.replace(", dtype=torch.float64", "")
        body.append(f"{name} = {text}")
    if sum(map(len, body)) > LONGEST:
        raise Unwritable
    body += [*_terms(exercise), ""]
    keywords = "".join(f", {k}={v!r}" for k, v in example.hyper.items())
    call = f"{exercise.function}({', '.join(f'{n}={n}' for n in example.inputs)}{keywords})"
    return body + _asserts(exercise, record, example, call, torch), imports


def _asserts(exercise, record, example, call, torch):
    expected = example.expected
    if isinstance(record, catalog.Objective):
        return _objective(exercise, record, expected, call, torch)
    if isinstance(record, catalog.Solver):
        found = f"{call}"
        first = next(iter(expected))
        return [
            f"result = {found}",
            "x = next(iter(result.values())) if isinstance(result, dict) else result",
            _equal("x", expected[first], rtol=1e-5),
        ]
    if isinstance(record, catalog.UpdateRule):
        keywords = "".join(f", {k}={v!r}" for k, v in example.hyper.items())
        steps = "".join(
            f", {keyword}={name}[k]" for keyword, name in record.step_inputs.items()
        )
        lines = ["state = init(params)", "for k, grads in enumerate(gradients):"]
        lines.append(
            f"    params, state = {exercise.function}(params, grads, state{steps}{keywords})"
        )
        each = enumerate(expected.values())
        return [
            *lines,
            *(_equal(f"params[{i}]", path[-1], torch=torch) for i, path in each),
        ]
    lines = [f"result = {call}"]
    for part, value in expected.items():
        keys = part.split(".")[1:]
        place = "".join(f"[{k}]" if k.isdecimal() else f'["{k}"]' for k in keys)
        lines.append(_equal(f"result{place}", value, torch=torch))
    if (
        isinstance(record, catalog.Transform)
        and "gradient" in exercise.worth
        and exercise.by_hand
    ):
        lines += _derivative(record, example, torch)
    return lines


def _objective(exercise, record, expected, call, torch):
    several = len(record.wrt_names) > 1
    gradients = {n: expected[f"gradient by {n}"] for n in record.wrt_names}
    value = (
        [_equal("value", expected["value"], torch=torch)]
        if not record.value_free
        else []
    )
    if "gradient" not in exercise.worth:
        return [f"value = {call}", *value]
    if exercise.by_hand:
        place = {n: f'gradient["{n}"]' if several else "gradient" for n in gradients}
        return [
            f"value, gradient = {call}",
            *value,
            *(_equal(place[n], g, torch=torch) for n, g in gradients.items()),
        ]
    lines = [f"{n}.requires_grad_()" for n in gradients]
    names = ", ".join(gradients)
    lines += [
        f"value = {call}",
        *value,
        f"gradients = torch.autograd.grad(value, [{names}])",
    ]
    return lines + [
        _equal(f"gradients[{i}]", g, torch=torch)
        for i, g in enumerate(gradients.values())
    ]


def _derivative(record, example, torch):
    _, f, last = derivative_of(record)
    like = (
        example.inputs[record.wrt] if last == "tangent" else example.expected["result"]
    )
    direction = np.round(np.random.default_rng(0).standard_normal(np.shape(like)), 1)
    with backend.use_backend("numpy"):
        moved = f(**example.inputs, **{last: direction}, **example.hyper)
    array = "torch.tensor({}, dtype=torch.float64)" if torch else "np.array({})"
    keywords = "".join(f", {k}={v!r}" for k, v in example.hyper.items())
    names = ", ".join(f"{n}={n}" for n in example.inputs)
    lines = [f"{last} = {literal(direction, set(), array)}"]
    lines.append(f"derivative_ = derivative({names}, {last}={last}{keywords})")
    return [*lines, _equal("derivative_", moved, torch=torch)]


def _equal(found, expected, rtol=1e-7, torch=False):
    size = float(abs(np.asarray(expected, float)).max(initial=0.0)) or 1.0
    found = f"{found}.detach().numpy()" if torch else found
    text = re.sub(r"\bnan\b", "np.nan", _expected(np.asarray(expected)))
    return f"np.testing.assert_allclose({found}, {text}, rtol={rtol:g}, atol={rtol * size:.1g})"
