"""Under ``--no-unlisted-skips`` a skipped test is a failed one, unless it is listed with a reason."""

import pathlib

import pytest

pytest_plugins = ["pytester"]

CONFTEST = pathlib.Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
TESTS = """
import pytest

def test_passes():
    pass

def test_skips():
    pytest.skip("no such device")

@pytest.mark.skipif(True, reason="no such system")
def test_marked():
    pass

@pytest.fixture
def missing():
    pytest.importorskip("no_such_package")

def test_with_a_fixture(missing):
    pass
"""
MODULE = """
import pytest

pytest.importorskip("no_such_package")

def test_never_seen():
    pass
"""


@pytest.fixture
def project(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makefile(".txt", allowed_skips="")
    return pytester


@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_every_way_to_skip_fails(project, workers):
    project.makepyfile(test_a=TESTS)
    result = project.runpytest(*workers, "--no-unlisted-skips")
    outcomes = result.parseoutcomes()
    assert result.ret == 1 and outcomes["passed"] == 1 and "skipped" not in outcomes
    assert outcomes["failed"] + outcomes["errors"] == 3
    result.stdout.fnmatch_lines(["test_a.py::test_skips may not be skipped: *no such device"])


@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_a_module_that_skips_fails(project, workers):
    project.makepyfile(test_a="def test_passes(): pass", test_b=MODULE)
    result = project.runpytest(*workers, "--no-unlisted-skips")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*test_b.py may not be skipped: *no_such_package*"])


def test_without_the_option_all_may_be_skipped(project):
    project.makepyfile(test_a=TESTS, test_b=MODULE)
    project.runpytest().assert_outcomes(passed=1, skipped=4)


def test_what_is_listed_may_be_skipped(project):
    project.makepyfile(test_a=TESTS, test_b=MODULE)
    project.makefile(".txt", allowed_skips="# ids\ntest_a.py::*  the device is rare\ntest_b.py  so is the package\n")
    result = project.runpytest("--no-unlisted-skips")
    result.assert_outcomes(passed=1, skipped=4)
    assert result.ret == 0


def test_every_entry_says_why(project):
    project.makefile(".txt", allowed_skips="test_a.py::*\n")
    result = project.runpytest("--no-unlisted-skips")
    result.stderr.fnmatch_lines(["*says no reason for test_a.py::[*]*"])
