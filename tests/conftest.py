"""The options ``--backend`` and ``--no-unlisted-skips``, and what all tests share."""

import fnmatch
import os
import pathlib

import pytest

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import trref  # noqa: E402 (after the thread limits)

ALLOWED = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--backend", default="numpy", help="also run the contracts on this backend, such as cupy")
    parser.addoption("--no-unlisted-skips", action="store_true", help="fail what skips unless in allowed_skips.txt")


def pytest_configure(config):
    config.stash[ALLOWED] = _allowed() if config.getoption("--no-unlisted-skips") else ["*"]


def _allowed():
    """Patterns of test ids; each line of the file gives its reason, too."""
    lines = pathlib.Path(__file__).with_name("allowed_skips.txt").read_text(encoding="utf-8").splitlines()
    entries = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    if bare := [pattern for pattern, *why in entries if not why]:
        raise pytest.UsageError(f"allowed_skips.txt says no reason for {', '.join(bare)}")
    return [pattern for pattern, _ in entries]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return _listed((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _listed((yield), collector.config)


def _listed(report, config):
    """The report of a test or a module, failed where it skips without being allowed to."""
    if report.skipped and not any(fnmatch.fnmatch(report.nodeid, pattern) for pattern in config.stash[ALLOWED]):
        report.outcome, (*_, reason) = "failed", report.longrepr
        report.longrepr = f"{report.nodeid} may not be skipped: {reason}"
    return report


def pytest_collection_modifyitems(config, items):
    """Without ``--backend`` there is nothing to compare with NumPy."""
    if config.getoption("--backend") == "numpy":
        second = [item for item in items if "other_backend" in item.fixturenames]
        config.hook.pytest_deselected(items=second)
        items[:] = [item for item in items if item not in set(second)]


@pytest.fixture
def other_backend(request):
    """The backend named on the command line."""
    name = request.config.getoption("--backend")
    with trref.use_backend(name):
        pass
    return name
