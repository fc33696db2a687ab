"""All functions under what a user may do: NumPy's numbers as settings, errors raised by NumPy, and broken callables."""

import warnings

import numpy as np
import pytest

from trref import catalog, checks, validate
from trref.checks.cases import example_of

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RECORDS = {r.name: r for r in catalog.records()}
SMALL = settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def _case(record, data):
    """An example of any small size under any setting, or an edge."""
    choices = [(size, seed) for size in record.sizes[:2] for seed in range(2)]
    size, seed = data.draw(st.sampled_from(choices))
    hyper = dict(record.settings[data.draw(st.sampled_from(list(record.settings)))])
    return example_of(record, size, seed), hyper


def _run(record, inputs, hyper):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", validate.ConvergenceWarning)
        return checks.flatten(checks.run(record, inputs, hyper))


def _same(actual, expected):
    for (part, a), (_, b) in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b), part


@pytest.mark.parametrize("name", [n for n, r in RECORDS.items() if r.hyper_parameters])
@SMALL
@given(data=st.data())
def test_numbers_of_numpy_change_nothing(name, data):
    """A float64 or longdouble setting would turn float32 arrays into its own dtype."""
    record = RECORDS[name]
    inputs, hyper = _case(record, data)
    single = checks.convert(inputs, checks.as_dtype(np.float32))
    real = data.draw(st.sampled_from((np.float64, np.longdouble)))
    plain = {k: v for k, v in (record.hyper_parameters | hyper).items() if type(v) in (int, float)}
    numbers = {k: real(v) if type(v) is float else np.int64(v) for k, v in plain.items()}
    try:
        expected = _run(record, single, hyper | plain)
    except ValueError:
        return  # some examples are beyond what float32 can hold, which is said
    _same(_run(record, single, hyper | numbers), expected)


@pytest.mark.parametrize("name", RECORDS)
@SMALL
@given(data=st.data())
def test_errors_of_numpy_change_nothing(name, data):
    record = RECORDS[name]
    inputs, hyper = _case(record, data)
    expected = _run(record, inputs, hyper)
    with np.errstate(all="raise"):
        _same(_run(record, inputs, hyper), expected)
