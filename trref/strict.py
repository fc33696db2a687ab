"""A device for machines without one: NumPy underneath, CuPy's manners outside.

The backend ``"strict"`` computes with NumPy, bit for bit, and refuses what CuPy would refuse:

- its arrays cannot be turned into NumPy arrays implicitly (``numpy.asarray``) nor mixed with them; ``asarray`` and
  ``array`` are the only doors in, ``.get()`` the only one out;
- only functions, keywords and methods that CuPy has exist (``cupy_names.json``, written by ``tools/cupy_names.py``);
- reductions give arrays without dimensions, not scalars;
- what would make the host wait for the device is counted: float, int, bool, complex, item, tolist, get, formatting,
  indexing by a boolean mask, nonzero, unique and their like. `synchronisations` gives the count of a block.
"""

import contextlib
import functools
import importlib
import json
import pathlib
import types

import numpy
from numpy.lib.mixins import NDArrayOperatorsMixin

__all__ = ["StrictArray", "sparse", "special", "synchronisations", "xp"]

NAMES = json.loads(pathlib.Path(__file__).with_name("cupy_names.json").read_text())
WAITS = {
    "nonzero",
    "unique",
    "argwhere",
    "flatnonzero",
    "array_equal",
    "allclose",
    "array_repr",
    "array_str",
    "compress",
}
_counter = types.SimpleNamespace(syncs=0)


@contextlib.contextmanager
def synchronisations():
    """Count the synchronisations of a ``with`` block: ``with synchronisations() as count: …; count()``."""
    start = _counter.syncs
    end = []
    yield lambda: (end[0] if end else _counter.syncs) - start
    end.append(_counter.syncs)


def _sync():
    _counter.syncs += 1


def _unwrap(value):
    """Strip the device type from arguments; refuse host arrays."""
    if isinstance(value, StrictArray | StrictSparse):
        return value._host
    if isinstance(value, numpy.ndarray):
        raise TypeError(
            "a host (NumPy) array among device arrays: move it with xp.asarray first"
        )
    if isinstance(value, list | tuple):
        return type(value)(_unwrap(v) for v in value)
    if isinstance(value, dict):
        return {k: _unwrap(v) for k, v in value.items()}
    return value


def _wrap(value):
    if isinstance(value, numpy.ndarray | numpy.generic):
        return StrictArray(numpy.asarray(value))
    if isinstance(value, tuple):
        return tuple(_wrap(v) for v in value)
    if isinstance(value, list):
        return [_wrap(v) for v in value]
    if hasattr(value, "tocsr"):
        return StrictSparse(value)
    return value


def _checked(name, keywords, f):
    """Wrap a NumPy or SciPy function so that it takes and gives device arrays and only CuPy's keywords."""

    @functools.wraps(f)
    def function(*args, **kwargs):
        if keywords is not None:
            for keyword in kwargs:
                if keyword not in keywords:
                    raise TypeError(f"CuPy's {name} has no keyword {keyword!r}")
        if name in WAITS or (name == "where" and len(args) + len(kwargs) == 1):
            _sync()
        return _wrap(f(*_unwrap(args), **_unwrap(kwargs)))

    return function


class Namespace:
    """The functions of a module that CuPy has too."""

    def __init__(self, label, module, names, extra):
        self._label, self._module, self._names = label, module, names
        self.__dict__.update(extra)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._names:
            raise AttributeError(f"CuPy {NAMES['version']} has no {self._label}.{name}")
        module = importlib.import_module(self._module)
        value = getattr(module, name)
        if callable(value) and not isinstance(value, type):
            value = _checked(
                f"{self._label}.{name}" if self._label != "xp" else name,
                self._names[name],
                value,
            )
        self.__dict__[name] = value
        return value


def _door(name):
    keywords = NAMES["xp"][name]

    def function(a, *args, **kwargs):
        for keyword in kwargs:
            if keyword not in keywords:
                raise TypeError(f"CuPy's {name} has no keyword {keyword!r}")
        if not isinstance(a, numpy.ndarray):
            a = _unwrap(a)
        return StrictArray(getattr(numpy, name)(a, *args, **kwargs))

    return function


def _has_mask(key):
    keys = key if isinstance(key, tuple) else (key,)
    return any(isinstance(k, StrictArray) and k.dtype == bool for k in keys)


class StrictArray(NDArrayOperatorsMixin):
    """An array of the strict device."""

    __slots__ = ("_host",)
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, host):
        self._host = host

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "implicit conversion of a device array to a NumPy array; use .get() or trref.backend.to_host"
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method == "__call__":
            out = kwargs.pop("out", None)
            known = getattr(xp, ufunc.__name__)  # raises for what CuPy lacks
            if out is None:
                return known(*inputs, **kwargs)
            ufunc(*_unwrap(inputs), out=_unwrap(out), **kwargs)
            return out[0]
        raise TypeError(
            f"CuPy does not offer numpy.{ufunc.__name__}.{method} on its arrays this way"
        )

    def __array_function__(self, func, types_, args, kwargs):
        return getattr(xp, func.__name__)(*args, **kwargs)

    def __getattr__(self, name):
        if name not in NAMES["ndarray"]:
            raise AttributeError(f"CuPy {NAMES['version']} arrays have no {name!r}")
        value = getattr(self._host, name)
        return (
            _checked(f"ndarray.{name}", NAMES["ndarray"][name], value)
            if callable(value)
            else _wrap(value)
        )

    def __getitem__(self, key):
        if _has_mask(key):
            _sync()
        return _wrap(self._host[_unwrap(key)])

    def __setitem__(self, key, value):
        self._host[_unwrap(key)] = _unwrap(value)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (_wrap(row) for row in self._host)

    def __copy__(self):
        return StrictArray(self._host.copy())

    def __deepcopy__(self, memo):
        return StrictArray(self._host.copy())

    def get(self):
        """Copy to the host."""
        _sync()
        return self._host.copy()

    def item(self):
        _sync()
        return self._host.item()

    def tolist(self):
        _sync()
        return self._host.tolist()

    def nonzero(self):
        _sync()
        return _wrap(self._host.nonzero())

    def __float__(self):
        _sync()
        return float(self._host)

    def __int__(self):
        _sync()
        return int(self._host)

    def __bool__(self):
        _sync()
        return bool(self._host)

    def __complex__(self):
        _sync()
        return complex(self._host)

    def __format__(self, spec):
        _sync()
        return format(self._host if self._host.ndim else self._host[()], spec)

    def __repr__(self):
        _sync()
        return f"strict{self._host!r}"

    def __str__(self):
        _sync()
        return str(self._host)


class StrictSparse:
    """A sparse matrix of the strict device."""

    __array_ufunc__ = None

    def __init__(self, host):
        self._host = host

    def __getattr__(self, name):
        names = NAMES["sparse_matrix"].get(f"{self._host.format}_matrix", {})
        if name not in names:
            raise AttributeError(
                f"CuPy's {self._host.format} matrices have no {name!r}"
            )
        value = getattr(self._host, name)
        return (
            _checked(f"{self._host.format}_matrix.{name}", names[name], value)
            if callable(value)
            else _wrap(value)
        )

    def __matmul__(self, other):
        return _wrap(self._host @ _unwrap(other))

    def __rmatmul__(self, other):
        return _wrap(_unwrap(other) @ self._host)

    def __mul__(self, other):
        return _wrap(self._host * _unwrap(other))

    __rmul__ = __mul__

    def __add__(self, other):
        return _wrap(self._host + _unwrap(other))

    def __sub__(self, other):
        return _wrap(self._host - _unwrap(other))

    def __neg__(self):
        return _wrap(-self._host)


def _sparse_type(name):
    def construct(*args, **kwargs):
        import scipy.sparse

        return StrictSparse(
            getattr(scipy.sparse, name)(*_unwrap(args), **_unwrap(kwargs))
        )

    construct.__name__ = name
    return construct


linalg = Namespace(
    "linalg", "numpy.linalg", NAMES["linalg"], {"LinAlgError": numpy.linalg.LinAlgError}
)
special = Namespace("special", "scipy.special", NAMES["special"], {})
sparse = Namespace(
    "sparse",
    "scipy.sparse",
    NAMES["sparse"],
    {
        name: _sparse_type(name)
        for name in NAMES["sparse"]
        if name.endswith(("_matrix", "_array"))
    },
)
xp = Namespace(
    "xp",
    "numpy",
    NAMES["xp"],
    {
        "linalg": linalg,
        "ndarray": StrictArray,
        "asarray": _door("asarray"),
        "array": _door("array"),
    },
)
