"""Golden vectors: what a program in any language needs to check itself against a catalogued function.

`export` writes a directory; another program reads the inputs, writes what it computes; `compare` scores that. The
format is documented in ``docs/vectors.rst``.
"""

import collections
import dataclasses
import io
import json
import math
import pathlib
import zipfile

import numpy as np

from trref import __version__, catalog
from trref.conformance import trials

__all__ = ["SCHEMA", "Score", "compare", "export"]

SCHEMA = "trref-vectors/1"


@dataclasses.dataclass(frozen=True)
class Score:
    """What `compare` found: how many cases agree, and for the others why not; in how many each part was compared."""

    function: str
    cases: int
    failures: tuple[str, ...]
    compared: dict[str, int]

    @property
    def conforms(self):
        return not self.failures and self.cases > 0

    def __str__(self):
        head = f"{'CONFORMS' if self.conforms else 'DEVIATES'}: {self.function}, {self.cases - len(self.failures)}"
        parts = ", ".join(f"{part} ({n})" for part, n in self.compared.items())
        lines = [
            f"{head} of {self.cases} cases agree; compared: {parts}",
            *(f"  {f}" for f in self.failures[:5]),
        ]
        if len(self.failures) > 5:
            lines.append(f"  and {len(self.failures) - 5} more")
        return "\n".join(lines)


def export(name, directory, *, seeds=(0, 1), sizes=(4, 8)):
    """Write the golden vectors of a catalogued function.

    Parameters
    ----------
    name : str
        Of an Objective, Transform, Estimator, UpdateRule or Solver.
    directory : path
        Made if missing. Files: ``manifest.json``, ``cases.json`` and, with the same numbers, ``cases.npz``.
    seeds, sizes : sequences of int
        Of the examples; the edge cases and all settings are included.

    Returns
    -------
    int
        The number of cases.

    Raises
    ------
    ValueError
        No such function, or one that draws for itself, or a solver of problems with several solutions.
    """
    record = catalog.find(name)
    if isinstance(record, catalog.Sampler) or getattr(record, "random", False):
        raise ValueError(
            f"{record.name} draws for itself ({type(record).__name__}); there are no golden vectors of it"
        )
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    cases, arrays = [], {}
    for trial in trials.trials(record, record.settings, {}, seeds=seeds, sizes=sizes):
        several = record.agreement is None if trial.solved else False
        if trial.solved and (several or not trial.solved.converged):
            continue
        identifier = f"{len(cases):04d}"
        case = _case(record, trial, identifier)
        cases.append(case)
        _collect(arrays, f"{identifier}/inputs", case["inputs"])
        _collect(arrays, f"{identifier}/expected", case["expected"])
    if not cases:
        raise ValueError(
            f"{record.name} may have several solutions: its certificate judges them, see trref verify"
        )
    method = next(m for m in catalog.methods() if record in m.functions)
    manifest = {
        "schema": SCHEMA,
        "function": record.name,
        "type": type(record).__name__,
        "title": method.title,
        "arxiv": method.arxiv,
        "trref": __version__,
        "inputs": {
            n: {"shape": s.shape, "kind": s.kind} for n, s in record.inputs.items()
        },
        "with_respect_to": list(getattr(record, "wrt_names", ())),
        "relative_tolerance": {"float64": trials.DOUBLE, "float32": trials.SINGLE},
        "cases": len(cases),
    }
    (directory / "manifest.json").write_text(
        json.dumps(manifest, indent=1) + "\n", encoding="utf-8"
    )
    lines = ",\n".join(json.dumps(case, allow_nan=False) for case in cases)
    (directory / "cases.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    np.savez_compressed(directory / "cases.npz", **arrays)
    return len(cases)


def _case(record, trial, identifier):
    expected, solved = {}, isinstance(record, catalog.Solver) and not trial.iterate
    for part, array in trial.expected.items():
        if solved and part != "solution":
            continue  # how it got there is its own affair
        allowed = trials.tolerance(trial.expected, part, trial.single)
        if solved:
            allowed = record.agreement * trials.scale(trial.expected, part)
        entry = {**_encode(array), "tolerance": allowed}
        if part.startswith("gradient"):
            entry |= _kink(record, trial, part, array)
        expected[_exported(part)] = entry
    return {
        "id": identifier,
        "label": trial.label,
        "setting": trial.setting,
        "dtype": "float32" if trial.single else "float64",
        "hyper": {k: _scalar(v) for k, v in trial.hyper.items()},
        "inputs": {k: _encode(v) for k, v in trial.inputs.items()},
        "expected": expected,
    }


def _exported(part):
    return part.replace("gradient by ", "gradient_").replace(" by step", "_by_step")


def _kink(record, trial, part, array):
    """Where the gradient depends on the last bits of the inputs: its range over them."""
    low, high = trials.hull(record, trial, part)
    moves = high - low > 1e-3 * max(float(abs(array).max(initial=0.0)), 1e-12)
    if not moves.any():
        return {}
    return {
        "low": _encode(np.minimum(low, array))["data"],
        "high": _encode(np.maximum(high, array))["data"],
    }


def _scalar(value):
    """Numbers as numbers, but NaN and infinity as strings, which JSON lacks."""
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return (
            "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
        )
    return value.item() if isinstance(value, np.generic) else value


def _encode(value):
    """An array as dtype, shape and row-major data; a callable as its type and fields; lists entry by entry."""
    if value is None:
        return None
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        data = [_scalar(x) for x in array.ravel().tolist()]
        return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}
    if dataclasses.is_dataclass(value):
        fields = {
            f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
        return {
            "callable": f"{type(value).__module__}.{type(value).__name__}",
            "fields": fields,
        }
    if isinstance(value, list | tuple):
        return [_encode(v) for v in value]
    return _scalar(value)


def _decode(value):
    """A number, nested list or encoded array as a float array."""
    if isinstance(value, dict):
        return np.array([_number(x) for x in value["data"]]).reshape(value["shape"])
    if isinstance(value, list):
        return np.array([_decode(v) for v in value])
    return np.array(_number(value))


def _number(value):
    if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        raise ValueError(f"a text {value[:20]!r}")
    return float(value)


def _collect(arrays, prefix, value):
    if isinstance(value, dict) and "data" in value:
        arrays[prefix] = _decode(value).astype(value["dtype"])
    elif isinstance(value, dict):
        for key, part in value.items():
            _collect(arrays, f"{prefix}/{key}", part)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            _collect(arrays, f"{prefix}/{i}", part)


def compare(directory, results):
    """Score the results that another program wrote for exported vectors.

    Parameters
    ----------
    directory : path
        Written by `export`.
    results : path
        JSON: ``{"0000": {"value": 0.5, "gradient_log_prob": [...]}, …}``; or ``.npz`` with names such as
        ``0000/value``. Parts that are left out are not compared, but each case needs its first part.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        Not a directory of this schema, or results that cannot be read, name no case or part of it, or are not real.
    """
    directory, results = pathlib.Path(directory), pathlib.Path(results)
    try:
        manifest, cases = (
            _document(directory / name) for name in ("manifest.json", "cases.json")
        )
        if manifest["schema"] != SCHEMA:
            raise ValueError(
                f"expected the schema {SCHEMA}, found {manifest['schema']!r}"
            )
        known = {
            c["id"]: {
                part: _decode(entry).shape for part, entry in c["expected"].items()
            }
            for c in cases
        }
        if not known or len(known) < len(cases) or not all(known.values()):
            raise ValueError(
                "no cases, or some without a result or a name of their own"
            )
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"expected vectors of trref export in {directory}: {_text(error)}"
        ) from error
    given = (_archive if results.suffix == ".npz" else _json_results)(results, known)
    compared = collections.Counter(part for parts in given.values() for part in parts)
    failures = []
    for case in cases:
        message = _judge(case, given.get(case["id"]))
        if message:
            failures.append(f"{case['id']} ({case['label']}): {message}")
    return Score(manifest["function"], len(cases), tuple(failures), dict(compared))


def _document(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {_text(error)}") from error


def _text(error):
    return (
        str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
    )


def _json_results(path, known):
    """Results from JSON, as ``{case: {part: float array}}``."""
    content, found = _document(path), {}
    if not isinstance(content, dict) or not all(
        isinstance(parts, dict) for parts in content.values()
    ):
        raise ValueError(f'cannot read {path}: expected {{"0000": {{"value": …}}, …}}')
    for case, parts in content.items():
        for part, value in parts.items():
            where = _place(known, case, part)
            try:
                found.setdefault(case, {})[part] = _decode(value)
            except (
                ValueError,
                TypeError,
                KeyError,
                OverflowError,
                RecursionError,
            ) as error:
                raise ValueError(
                    f"{where} is no array of real numbers: {_text(error)}"
                ) from error
    return found


def _archive(path, known):
    """Results from an archive of NumPy's arrays, read only as far as the sizes are those expected."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [
                (info, *info.filename.removesuffix(".npy").partition("/")[::2])
                for info in archive.infolist()
            ]
            for info, case, part in entries:
                where = _place(known, case, part)
                if part in found.setdefault(case, {}):
                    raise ValueError(f"{where} is there twice")
                with archive.open(info) as file:
                    found[case][part] = _numbers(
                        file, math.prod(known[case][part]), where
                    )
    except ValueError:
        raise
    except (
        Exception
    ) as error:  # of damaged, encrypted and lying archives there is no end
        raise ValueError(
            f"cannot read the results in {path}: {_text(error)}"
        ) from error
    return found


LONGEST_HEADER = 1 << 14


def _numbers(file, size, where):
    """An array of an archive as float64, or ValueError; nothing is allocated for what its header claims."""
    content = io.BytesIO(file.read(LONGEST_HEADER + 16 * size))
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(content)
    if version not in headers:
        raise ValueError(
            f"{where} is an array of version {version}, expected 1.0 or 2.0"
        )
    shape, _, dtype = headers[version](content)
    if dtype.kind not in "fiub":
        raise ValueError(f"{where} is of dtype {dtype}, expected real numbers")
    if math.prod(shape) != size:
        raise ValueError(
            f"{where} has shape {shape}: {math.prod(shape)} entries, expected {size}"
        )
    content.seek(0)
    return np.lib.format.read_array(content, allow_pickle=False).astype(float)


def _place(known, case, part):
    """What a result is called in messages; ValueError where there is no such case or part."""
    if case not in known:
        raise ValueError(
            f"there is no case {case!r}; there are {min(known)} to {max(known)}"
        )
    if part not in known[case]:
        raise ValueError(
            f"case {case} has no part {part!r}; it has {', '.join(known[case])}"
        )
    return f"case {case}, {part}"


def _judge(case, parts):
    """Return a message, or None where all given parts agree."""
    first = next(iter(case["expected"]))
    if not parts or first not in parts:
        return f"no {first} was given"
    for part, entry in case["expected"].items():
        if part not in parts:
            continue
        wanted, found = _decode(entry), np.asarray(parts[part], dtype=float)
        if found.size != wanted.size:
            return f"{part} has shape {found.shape}, expected {wanted.shape}"
        found = found.reshape(wanted.shape)
        allowed = entry["tolerance"]
        low = _decode({**entry, "data": entry["low"]}) if "low" in entry else wanted
        high = _decode({**entry, "data": entry["high"]}) if "high" in entry else wanted
        outside = ~((found >= low - allowed) & (found <= high + allowed))
        if outside.any():
            at = tuple(int(i) for i in np.argwhere(outside)[0])
            index = f"[{', '.join(map(str, at))}]" if at else ""
            return f"{part}{index} is {found[at]:.10g}, expected {wanted[at]:.10g}"
    return None
