"""Thousands of malformed inputs: each gives an error that names an argument, or a right answer."""

import math
import warnings

import numpy as np
import pytest

from trref import catalog, checks, validate

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RECORDS = {r.name: r for r in catalog.records() if not isinstance(r, catalog.Sampler) and not getattr(r, "random", 0)}


def _extreme(array, rng):
    bad = np.array(array)
    if bad.size and bad.dtype.kind == "f":
        value = rng.choice([math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-320, 0.0, -0.0, 0.5, -1.0, 2.0])
        bad.flat[rng.integers(bad.size)] = value
    elif bad.size:
        bad.flat[rng.integers(bad.size)] = rng.choice([-1, -(2**40), 2**40])
    return bad


SPOILERS = {
    "nothing": lambda a, rng: a,
    "extreme entry": _extreme,
    "drop axis": lambda a, rng: a[0] if a.ndim and len(a) else a,
    "add axis": lambda a, rng: a[..., None],
    "cut": lambda a, rng: a[: len(a) // 2] if a.ndim else a,
    "empty": lambda a, rng: a[:0] if a.ndim else a,
    "longer": lambda a, rng: np.concatenate([a, a]) if a.ndim else a,
    "transposed": lambda a, rng: a.T,
    "integers": lambda a, rng: a.astype(int) if np.isfinite(a).all() else a,
    "float32": lambda a, rng: a.astype(np.float32),
    "float16": lambda a, rng: a.astype(np.float16),
    "complex": lambda a, rng: a.astype(complex),
    "objects": lambda a, rng: a.astype(object),
    "booleans": lambda a, rng: a > 0,
    "list": lambda a, rng: a.tolist(),
    "None": lambda a, rng: None,
    "a number": lambda a, rng: 1.0,
    "text": lambda a, rng: "array",
    "scaled": lambda a, rng: a * 10.0 ** rng.integers(-12, 13),
}


def _spoil(value, how, rng):
    if isinstance(value, np.ndarray):
        with warnings.catch_warnings(action="ignore"):
            return SPOILERS[how](value, rng)
    if isinstance(value, list):  # of an update rule
        spoiled = list(value)
        spoiled[-1] = _spoil(spoiled[-1], how, rng)
        return spoiled
    if callable(value) and how in ("None", "text", "a number"):
        return {"None": None, "text": "f", "a number": 1.0}[how]
    return value


SOLVERS = [name for name, record in RECORDS.items() if isinstance(record, catalog.Solver)]
TRIES = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@pytest.mark.parametrize("name", [name for name in RECORDS if name not in SOLVERS])
@settings(max_examples=50, **TRIES)
@given(data=st.data())
def test_malformed_inputs(name, data):
    _try(RECORDS[name], data)


@pytest.mark.parametrize("name", SOLVERS)
@settings(max_examples=150, **TRIES)
@given(data=st.data())
def test_malformed_inputs_of_solvers(name, data):
    """They have more ways to go wrong."""
    _try(RECORDS[name], data)


def _try(record, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    example = record.example(rng, data.draw(st.sampled_from([1, 2, 5])))
    inputs = dict(example)
    spoiled = st.lists(st.sampled_from(list(inputs)), min_size=1, max_size=2, unique=True) if inputs else st.just(())
    for key in data.draw(spoiled):
        inputs[key] = _spoil(inputs[key], data.draw(st.sampled_from(list(SPOILERS))), rng)
    hyper = dict(record.settings[data.draw(st.sampled_from(list(record.settings)))])
    if record.hyper_parameters and data.draw(st.booleans()):
        keyword = data.draw(st.sampled_from(list(record.hyper_parameters)))
        hyper[keyword] = data.draw(st.sampled_from([0, -1.0, 1e300, math.nan, math.inf, "1", None, True, [1.0]]))
    named = [*inputs, *record.hyper_parameters, *getattr(record, "step_inputs", ()), "grads", "state"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            warnings.simplefilter("ignore", validate.ConvergenceWarning)
            result = checks.run(record, inputs, hyper)
    except (ValueError, TypeError) as error:
        # a frozen callable among the inputs names its own argument
        clear = any(word in str(error) for word in named) or "must have shape" in str(error)
        assert clear, f"no argument is named: {error!r}"
        return
    _assert_right(record, inputs, hyper, result)


def _assert_right(record, inputs, hyper, result):
    """What was accepted is finite, and what float64 gives at the same numbers."""
    for part, array in checks.flatten(result):
        assert np.isfinite(array).all(), part
    if isinstance(record, catalog.Solver):
        if result.converged:
            double = checks.convert(inputs, lambda a: a.astype(float) if a.dtype.kind == "f" else a)
            figures = record.certificate(result, **double, **hyper)
            for figure, value in figures.items():
                allowed = record.tolerances[figure]
                single = any(a.dtype == np.float32 for a in inputs.values() if isinstance(a, np.ndarray))
                rounding = 100 * np.finfo(np.float32).eps  # what a tight tolerance cannot ask of float32
                assert value <= (max(1e4 * allowed, rounding) if single else 1.01 * allowed), figure
        return
    double = checks.convert(inputs, lambda a: a.astype(float) if a.dtype.kind == "f" else a)
    for (part, a), (_, b) in zip(
        checks.flatten(result), checks.flatten(checks.run(record, double, hyper)), strict=True
    ):
        scale = max(float(abs(b).max()) if b.size else 0.0, 1e-30)
        if a.dtype == np.float32:
            continue  # another contract compares the precisions on sensible inputs
        assert (abs(a - b) <= 1e-9 * scale).all(), part
