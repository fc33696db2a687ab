"""The same checks in other people's test suites: two lines in a pytest file.

::

    from trref.conformance import assert_conforms, parametrize_with_cases

    @parametrize_with_cases("ppo.clipped_surrogate")
    def test_my_loss(case):
        assert_conforms(case, my_loss)
"""

import dataclasses

from trref import catalog
from trref.conformance import trials
from trref.conformance.load import Options
from trref.conformance.worker import InProcess

__all__ = ["SuiteCase", "assert_conforms", "cases_of", "parametrize_with_cases"]


@dataclasses.dataclass(frozen=True)
class SuiteCase:
    """One case of a catalogued function: `inputs`, `hyper` and `expected` are dicts by name."""

    name: str
    trial: trials.Trial

    @property
    def inputs(self):
        return self.trial.inputs

    @property
    def hyper(self):
        return self.trial.hyper

    @property
    def expected(self):
        return self.trial.expected

    def __str__(self):
        return self.trial.label.replace(", ", "-").replace(" ", "_").replace("'", "")


def cases_of(name, *, settings=None, seeds=(0,), sizes=(4, 8), single=False):
    """Return the cases of a catalogued function.

    Parameters
    ----------
    name : str
    settings : sequence of str, optional
        Only these; all by default.
    seeds, sizes : sequences of int
    single : bool
        Also in float32.
    """
    record = catalog.find(name)
    chosen = {
        s: h for s, h in record.settings.items() if settings is None or s in settings
    }
    return [
        SuiteCase(name, t)
        for t in trials.trials(
            record, chosen, {}, seeds=seeds, sizes=sizes, single=single
        )
    ]


def parametrize_with_cases(name, **choice):
    """Parametrize a pytest function over the cases of a catalogued function, as its argument ``case``.

    Parameters
    ----------
    name : str
    **choice
        As for `cases_of`.
    """
    import pytest

    return pytest.mark.parametrize("case", cases_of(name, **choice), ids=str)


def assert_conforms(case, implementation, **options):
    """Assert that an implementation gives the reference's result in one case.

    Parameters
    ----------
    case : SuiteCase
    implementation : callable
        As for `trref.conformance.verify`.
    **options
        Fields of `Options`: framework, names, constants, maximise.

    Raises
    ------
    AssertionError
        With the worst entry, expected and found.
    """
    record = catalog.find(case.name)
    answer = trials.ask(
        InProcess(implementation, Options(**options)), record, case.trial
    )
    if failure := trials.judge(record, case.trial, answer):
        raise AssertionError(str(failure))
