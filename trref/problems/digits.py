"""The handwritten digits of scikit-learn (1797 images of 8 × 8 pixels) in a fixed split.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998. The data ship with the package
scikit-learn (extra ``data``).
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from trref.backend import xp

__all__ = ["DigitPair", "Digits", "digits", "pair"]


class Digits(NamedTuple):
    """Images (N, 64) with values in [0, 1] and labels (N,)."""

    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any


class DigitPair(NamedTuple):
    """Two images as probability distributions over pixels, and the ground cost between pixels."""

    a: Any
    b: Any
    cost: Any


@functools.cache
def _load():
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits need the package scikit-learn: pip install trref[data]"
        ) from error
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return data.data[order] / 16.0, data.target[order]


def digits(*, train=1000, dtype="float64"):
    """Return the digits in a fixed order: the first `train` images for training, the rest for testing.

    Parameters
    ----------
    train : int
        1 to 1796.
    dtype : dtype

    Returns
    -------
    Digits
        Arrays of the active backend.
    """
    X, y = _load()
    if not 0 < train < len(y):
        raise ValueError(f"train must lie in [1, {len(y) - 1}], not {train}")
    X, y = xp.asarray(X, dtype=dtype), xp.asarray(y)
    return Digits(X[:train], y[:train], X[train:], y[train:])


def pair(first=0, second=1, *, floor=1e-3, dtype="float64"):
    """Return two digit images as distributions, with the squared distance of pixels as cost.

    Parameters
    ----------
    first, second : int
        Classes, 0 to 9: the first image of each in the fixed order.
    floor : float
        Added to every pixel before normalising, so that all probabilities are positive. 0 keeps empty pixels.
    dtype : dtype

    Returns
    -------
    DigitPair
        a and b (64,), cost (64, 64), the largest cost 1.
    """
    X, y = _load()
    a, b = (X[np.flatnonzero(y == k)[0]] + floor for k in (first, second))
    rows, columns = np.divmod(np.arange(64), 8)
    cost = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    a, b, cost = (
        xp.asarray(v, dtype=dtype)
        for v in (a / a.sum(), b / b.sum(), cost / cost.max())
    )
    return DigitPair(a, b, cost)
