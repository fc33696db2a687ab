"""Reference implementations of published methods: one small module each, equations beside code, gradients by hand.

``import trref`` loads neither SciPy, Matplotlib nor CuPy. Families (``trref.policy``, ``trref.krylov``, …) load when
they are touched; :mod:`trref.catalog` knows them all.
"""

import importlib

from trref.backend import backend_name, set_backend, use_backend

__version__ = "0.1.0"
__all__ = ["__version__", "backend_name", "set_backend", "use_backend"]


def load_ipython_extension(shell):
    """``%load_ext trref``: the magics ``%%verify`` and ``%exercise``."""
    importlib.import_module("trref.courses.magics").load(shell)


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(f"module 'trref' has no attribute {name!r}")
    try:
        return importlib.import_module(f"trref.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"trref.{name}":
            raise
        raise AttributeError(f"module 'trref' has no attribute {name!r}") from None
