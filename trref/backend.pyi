# What static tools see of `trref.backend`: NumPy's names and SciPy's, whatever device stands behind them.

import contextlib
from typing import Any

import numpy
import scipy.sparse
import scipy.special

xp = numpy
linalg = numpy.linalg
special = scipy.special
sparse = scipy.sparse

def backend_name() -> str: ...
def set_backend(name: str) -> None: ...
def use_backend(name: str) -> contextlib.AbstractContextManager[None]: ...
def to_host(array: Any) -> numpy.ndarray[Any, numpy.dtype[Any]]: ...
def active() -> Any: ...
