"""Everything that is asked of a method sooner or later: .venv/bin/python tools/check.py METHOD …

One line a check, with its seconds of one processor: style; equations, code, citation, test and tutorial are there; the
contracts; malformed inputs; `verify` says that the function conforms to itself, and names its deviations; its tests;
its tutorial; its mutants. The status is 0 where all of it holds. (`trref check` runs the contracts alone, also of an
installed package.)
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import warnings

import _environment

sys.path.insert(0, str(_environment.ROOT))
os.environ.update(_environment.ONE_THREAD)

import mutate
import pytest

from trref import catalog, checks
from trref.catalog import citations
from trref.conformance import verify

ROOT = _environment.ROOT
CONTRACTS = 10.0  # seconds that a method's contracts may take on one core


class Failed(Exception):
    """A check does not hold; the message says what it found."""


# ---- each check takes a method and returns a few words, or raises Failed


def style(method):
    files = [str(f.relative_to(ROOT)) for f in _files(method) if f.is_file()]
    for arguments, advice in (
        (["check", "--quiet", "--output-format", "concise"], "ruff check finds"),
        (["format", "--check", "--quiet"], "run ruff format on"),
    ):
        command = [sys.executable, "-m", "ruff", *arguments, *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{advice}\n{done.stdout if 'check' in advice else ' '.join(files)}")
    return f"{len(files)} files"


def _files(method):
    name = f"{method.family}/{method.slug}.py"
    beside = ROOT / "tests" / method.family / f"test_{method.slug}.py"
    return [ROOT / "trref" / name, ROOT / "trref" / "catalog" / name, beside, _tutorial(method)]


def _tutorial(method):
    return ROOT / "tutorials" / method.family / f"plot_{method.slug}.py"


def documents(method):
    citations.citation(method.key)
    return pytest_items(["tests/test_every_method.py"], _concerns(method))


def contracts(method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)  # as pytest does
        outcomes = checks.check_method(method.family, method.slug)
    if wrong := [o for o in outcomes if o.error]:
        raise Failed("\n".join(f"{o.function}, {o.contract}: {o.error}" for o in wrong))
    seconds, slowest = sum(o.seconds for o in outcomes), max(outcomes, key=lambda o: o.seconds)
    over = f"; more than {CONTRACTS:.0f} s, {slowest.contract} of {slowest.function} the longest"
    return f"{len(outcomes)} contracts" + over * (seconds > CONTRACTS)


def malformed_inputs(method):
    return pytest_items(["tests/test_properties.py"], _concerns(method)) if _able(method) else "draws for itself"


def conforms_to_itself(method):
    cases = 0
    for record in _able(method):
        verdict = _verdict(record, record.f, explain=False)
        if not verdict.conforms:
            raise Failed(str(verdict))
        cases += verdict.cases
    return f"{cases} cases"


def deviations_named(method):
    number = 0
    for record in _able(method):
        for deviation in record.deviations:
            verdict, number = _verdict(record, deviation.f), number + 1
            if verdict.conforms or not any(f"'{deviation.name}'" in str(e) for e in verdict.explanations):
                raise Failed(f"{deviation.name!r} is not named:\n{verdict}")
    return f"{number} deviations"


def _verdict(record, function, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return verify(record.name, function, **options)


def tests(method):
    return pytest_items([f"tests/{method.family}/test_{method.slug}.py"], lambda item: True)


def tutorial(method):
    if not _tutorial(method).is_file():
        return "none of its own"
    return pytest_items(["tests/test_tutorials.py"], lambda item: f"[{_tutorial(method).stem}]" in item.name)


def mutants(method):
    findings = [mutate.judged(record.name) for record in _able(method)]
    if any(finding.alive or finding.error for finding in findings):
        excuse = f'tools/equivalent_mutants/{method.slug}.json: {{"{method.slug}.function": {{"text": "reason"}}}}'
        raise Failed("\n".join([*map(str, findings), f"an edge that tells it from the code, or an excuse in {excuse}"]))
    total = mutate.totals(findings)
    return f"{total['mutants']}, {total['equivalent']} of them equivalent"


CHECKS = (
    style,
    documents,
    contracts,
    malformed_inputs,
    conforms_to_itself,
    deviations_named,
    tests,
    tutorial,
    mutants,
)


def _able(method):
    """Its records that are compared case by case."""
    return [record for record in method.functions if mutate.comparable(record)]


# ---- pytest, in this process, on chosen items


def _concerns(method):
    """Whether a parametrised test is about the method or one of its functions."""
    names = {method.slug, *(record.name for record in method.functions)}

    def wanted(item):
        parameters = getattr(item, "callspec", None)
        values = parameters.params.values() if parameters else ()
        about = any(value is method or (isinstance(value, str) and value in names) for value in values)
        return about and not item.name.startswith("test_contract")  # these have a check of their own

    return wanted


class Only:
    """A plugin of pytest that runs the wanted items and counts them."""

    def __init__(self, wanted):
        self.wanted, self.passed, self.skipped = wanted, 0, 0

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if self.wanted(item)]

    def pytest_runtest_logreport(self, report):
        self.passed += report.passed and report.when == "call"
        self.skipped += report.skipped


def pytest_items(paths, wanted):
    plugin, out = Only(wanted), io.StringIO()
    with contextlib.redirect_stdout(out):
        status = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *paths], plugins=[plugin])
    if status or plugin.skipped or not plugin.passed:
        raise Failed(out.getvalue())
    return f"{plugin.passed} tests"


# ---- the command


def _cpu():
    """Seconds of the processor so far, child processes included: a busy machine does not count."""
    return sum(os.times()[:4])


def check(method):
    """Run all checks of a method, print a line each, and return how many fail."""
    print(f"{method.family}/{method.slug}", flush=True)
    failed = 0
    for one in CHECKS:
        start = _cpu()
        try:
            words, found = one(method), ""
        except Exception as error:
            words, failed = "", failed + 1
            found = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        seconds = _cpu() - start
        print(f"  {'FAIL' if found else 'ok':4}  {one.__name__.replace('_', ' '):20} {seconds:6.1f} s  {words}")
        if found:
            print("\n".join(f"        {line}" for line in found.strip().splitlines()), flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", help="such as ppo")
    options = parser.parse_args()
    places = {slug: (family, slug) for family, slug in catalog.places()}
    if unknown := [slug for slug in options.methods if slug not in places]:
        parser.error(f"no such method: {', '.join(unknown)}")
    os.chdir(ROOT)
    return int(any([check(catalog.method(*places[slug])) for slug in options.methods]))


if __name__ == "__main__":
    sys.exit(main())
