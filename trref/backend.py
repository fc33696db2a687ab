"""The one array switch: ``xp``, ``linalg``, ``special`` and ``sparse`` stand for NumPy's or CuPy's.

A method module writes ``from trref.backend import xp, linalg, special, sparse`` and nothing else about arrays. The four
names are objects that forward every attribute to the active backend:

========== =============== =================== =====================
name       numpy           cupy                strict
========== =============== =================== =====================
xp         numpy           cupy                a stand-in for CuPy
linalg     numpy.linalg    cupy.linalg         (see trref.strict)
special    scipy.special   cupyx.scipy.special
sparse     scipy.sparse    cupyx.scipy.sparse
========== =============== =================== =====================

`set_backend` chooses for the process, `use_backend` for a block (a context variable, so threads and tasks keep apart),
the environment variable ``TRREF_BACKEND`` at the start.
"""

import contextlib
import contextvars
import importlib
import os
import types

import numpy

__all__ = [
    "backend_name",
    "linalg",
    "set_backend",
    "sparse",
    "special",
    "to_host",
    "use_backend",
    "xp",
]


class Backend:
    """A name and the four namespaces; those of SciPy are imported when they are first touched."""

    def __init__(self, name, xp, array_type, special, sparse):
        self.name, self.xp, self.array_type = name, xp, array_type
        self._lazy = {"special": special, "sparse": sparse}

    @property
    def linalg(self):
        return self.xp.linalg

    def __getattr__(self, name):
        if name not in ("special", "sparse"):
            raise AttributeError(name)
        loaded = self._lazy[name]
        loaded = importlib.import_module(loaded) if isinstance(loaded, str) else loaded
        setattr(self, name, loaded)
        return loaded


def _load_numpy():
    return Backend("numpy", numpy, numpy.ndarray, "scipy.special", "scipy.sparse")


def _load_cupy():
    try:
        import cupy
        import cupyx
    except ImportError as error:
        raise ImportError(
            "the backend 'cupy' needs the package cupy (14 or later): see docs/gpu.rst"
        ) from error
    # a failed factorisation must raise, as it does in NumPy, instead of returning NaN
    cupyx.seterr(linalg="raise")
    return Backend(
        "cupy", cupy, cupy.ndarray, "cupyx.scipy.special", "cupyx.scipy.sparse"
    )


def _load_strict():
    from trref import strict

    return Backend(
        "strict", strict.xp, strict.StrictArray, strict.special, strict.sparse
    )


_LOADERS = {"numpy": _load_numpy, "cupy": _load_cupy, "strict": _load_strict}
_loaded = {}


def _get(name):
    if name not in _LOADERS:
        raise ValueError(f"backend must be one of {', '.join(_LOADERS)}, not {name!r}")
    if name not in _loaded:
        _loaded[name] = _LOADERS[name]()
    return _loaded[name]


_override = contextvars.ContextVar("trref_backend", default=None)
_process = types.SimpleNamespace(default=None)


def active():
    """Return the active `Backend`."""
    return _override.get() or _process.default


def backend_name():
    """Return the name of the active backend: ``"numpy"``, ``"cupy"`` or ``"strict"``."""
    return active().name


def set_backend(name):
    """Choose the backend of the whole process: ``"numpy"`` (the start value), ``"cupy"`` or ``"strict"``."""
    _process.default = _get(name)


@contextlib.contextmanager
def use_backend(name):
    """Choose the backend for a ``with`` block; blocks nest, and threads do not see each other's."""
    chosen = _get(name)
    token = _override.set(chosen)
    try:
        if name == "cupy":
            import cupyx

            with cupyx.errstate(linalg="raise"):
                yield
        else:
            yield
    finally:
        _override.reset(token)


class _Xp:
    def __getattribute__(self, name):
        return getattr((_override.get() or _process.default).xp, name)


class _Linalg:
    def __getattribute__(self, name):
        return getattr((_override.get() or _process.default).xp.linalg, name)


class _Special:
    def __getattribute__(self, name):
        return getattr((_override.get() or _process.default).special, name)


class _Sparse:
    def __getattribute__(self, name):
        return getattr((_override.get() or _process.default).sparse, name)


xp, linalg, special, sparse = _Xp(), _Linalg(), _Special(), _Sparse()


def to_host(array):
    """Return a NumPy array with the values of an array of any backend (a copy where it comes from a device)."""
    return (
        numpy.asarray(array)
        if isinstance(array, numpy.ndarray | numpy.generic)
        else array.get()
    )


set_backend(os.environ.get("TRREF_BACKEND", "numpy"))
