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


class _Broken:
    """A callable that gives what it should for some calls, and then what a user's mistake gives."""

    def __init__(self, whole, spoil, calls):
        self.whole, self.spoil, self.calls = whole, spoil, calls

    def __call__(self, *args):
        right = self.whole(*args)
        self.calls -= 1
        return right if self.calls >= 0 else self.spoil(right)

    def __getattr__(self, name):  # those that have methods, too
        return getattr(self.whole, name)


MISTAKES = {
    "None": lambda right: None,
    "text": lambda right: "text",
    "nan": lambda right: checks.convert(right, lambda a: np.full_like(a, np.nan)),
    "a host number": lambda right: 1.0,
    "another shape": lambda right: checks.convert(right, lambda a: np.stack([a, a])),
    "integers": lambda right: checks.convert(right, lambda a: np.ones_like(a, int)),
    "single precision": lambda right: checks.convert(right, lambda a: a.astype(np.float32)),
    "a list": lambda right: [right],
}
CALLED = [
    (name, argument)
    for name, record in RECORDS.items()
    for argument, spec in record.inputs.items()
    if getattr(spec, "methods", ()) == ("__call__",) and spec.kind == "callable" and argument != "mdp"
]
"""Functions. (A decision process is no function of a user's: `trref.problems.mdp` has them, and what they return.)"""


@pytest.mark.parametrize(("name", "argument"), CALLED)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_callables_return_is_named(name, argument, data):
    """At the first call or later. A number that is not finite may be stepped over, as where a loss is not defined."""
    record = RECORDS[name]
    inputs, hyper = _case(record, data)
    if not callable(inputs[argument]):
        return  # not given, or an object of which only attributes are used
    how, calls = data.draw(st.sampled_from(list(MISTAKES))), data.draw(st.sampled_from((0, 0, 1, 2, 5)))
    inputs[argument] = broken = _Broken(inputs[argument], MISTAKES[how], calls)
    try:
        parts = _run(record, inputs, hyper)
    except (ValueError, TypeError) as error:
        assert argument in str(error), f"{how} at call {calls}: {error!r}"
        return
    assert broken.calls >= 0 or how in ("nan", "integers", "single precision"), f"{how} at call {calls} was accepted"
    tried = {"values", "divergences", "gains"}  # histories of trials, the rejected ones among them
    assert all(np.isfinite(array).all() for part, array in parts if not set(part.split(".")) & tried)


NUMBERS = [
    (name, keyword)
    for name, record in RECORDS.items()
    for keyword, default in record.hyper_parameters.items()
    if isinstance(default, int | float) and not isinstance(default, bool)
]


@pytest.mark.parametrize(("name", "keyword"), NUMBERS)
def test_numbers_are_asked_under_every_setting(name, keyword):
    """Also where the setting has no use for them."""
    record = RECORDS[name]
    inputs = example_of(record, record.sizes[0])
    for setting in record.settings.values():
        for wrong in (float("nan"), float("inf"), "0.5", [0.5]):
            with pytest.raises((ValueError, TypeError), match=keyword):
                _run(record, inputs, {**setting, keyword: wrong})
