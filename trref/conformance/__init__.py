"""Other people's implementations against these.

========================= ==================================================================================
verify                    does an implementation compute a catalogued function, and if not, what instead?
identify                  which catalogued function is it?
export, compare           golden vectors for other languages
parametrize_with_cases,   the same in other people's test suites
assert_conforms
========================= ==================================================================================
"""

from trref.conformance.identify import identify
from trref.conformance.load import LoadError, Options
from trref.conformance.suites import assert_conforms, parametrize_with_cases
from trref.conformance.vectors import compare, export
from trref.conformance.verify import Verdict, verify

__all__ = [
    "LoadError",
    "Options",
    "Verdict",
    "assert_conforms",
    "compare",
    "export",
    "identify",
    "parametrize_with_cases",
    "verify",
]
