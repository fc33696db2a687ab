"""The option ``--backend`` and what all tests share."""

import os

import pytest

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import trref  # noqa: E402 (after the thread limits)


def pytest_addoption(parser):
    parser.addoption("--backend", default="numpy", help="also run the contracts on this backend, such as cupy")


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
