"""The one array switch."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import trref
from trref import backend
from trref.backend import linalg, sparse, special, xp


def test_names_forward_to_numpy():
    assert xp.exp is np.exp
    assert linalg.qr is np.linalg.qr
    import scipy.sparse
    import scipy.special

    assert special.erf is scipy.special.erf
    assert sparse.csr_matrix is scipy.sparse.csr_matrix


def test_blocks_nest_and_end():
    assert trref.backend_name() == "numpy"
    with trref.use_backend("strict"):
        assert trref.backend_name() == "strict"
        with trref.use_backend("numpy"):
            assert xp.exp is np.exp
        assert trref.backend_name() == "strict"
    assert trref.backend_name() == "numpy"


def test_a_block_ends_on_errors_too():
    with pytest.raises(RuntimeError), trref.use_backend("strict"):
        raise RuntimeError
    assert trref.backend_name() == "numpy"


def test_threads_do_not_see_each_other():
    seen = []
    with trref.use_backend("strict"):
        thread = threading.Thread(target=lambda: seen.append(trref.backend_name()))
        thread.start()
        thread.join()
    assert seen == ["numpy"]


def test_environment_and_process_default():
    code = "import trref; print(trref.backend_name()); trref.set_backend('numpy'); print(trref.backend_name())"
    environment = {**__import__("os").environ, "TRREF_BACKEND": "strict"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.split() == ["strict", "numpy"]


def test_unknown_backend():
    with pytest.raises(ValueError, match="backend must be one of numpy, cupy, strict"):
        trref.set_backend("jax")


def test_cupy_without_cupy_says_what_is_missing():
    try:
        import cupy  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="needs the package cupy"):
            trref.set_backend("cupy")


def test_to_host():
    a = np.ones(3)
    assert backend.to_host(a) is a
    assert backend.to_host(a.sum()).shape == ()
    with trref.use_backend("strict"):
        assert isinstance(backend.to_host(xp.asarray(a)), np.ndarray)


def test_families_load_when_touched():
    code = "import sys, trref; a = 'trref.policy' in sys.modules; trref.policy; print(a, 'trref.policy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'polict'"):
        trref.polict  # noqa: B018
