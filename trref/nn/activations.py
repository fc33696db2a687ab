"""Activations with their first and second derivatives.

Each entry of `ACTIVATIONS` is a triple of functions: ``value(a)``, ``first(a, h)`` and ``second(a, h)``, where
``h = value(a)`` is at hand anyway and often shortens the derivative (for tanh, h' = 1 - h²).

At 0 all are 0 except softplus, which is log 2 there: zeroing a unit's pre-activation does not silence it.
"""

import math
from typing import NamedTuple

from trref import validate
from trref.backend import special, xp

__all__ = ["ACTIVATIONS", "Activation", "get"]


class Activation(NamedTuple):
    """A function with its first two derivatives."""

    value: object
    first: object
    second: object


def _gelu(a):
    return a * _normal_cdf(a)


def _normal_cdf(a):
    return (1 + special.erf(a / math.sqrt(2))) / 2


def _normal_density(a):
    return xp.exp(-a * a / 2) / math.sqrt(2 * math.pi)


def _softplus_second(a, h):
    p = special.expit(a)
    return p * (1 - p)


def _silu_first(a, h):
    p = special.expit(a)
    return p + h * (1 - p)


def _silu_second(a, h):
    p = special.expit(a)
    return p * (1 - p) * (2 + a * (1 - 2 * p))


ACTIVATIONS = {
    "tanh": Activation(
        value=lambda a: xp.tanh(a),
        first=lambda a, h: 1 - h * h,
        second=lambda a, h: -2 * h * (1 - h * h),
    ),
    "relu": Activation(
        value=lambda a: xp.maximum(a, 0),
        first=lambda a, h: (a > 0).astype(a.dtype),
        second=lambda a, h: xp.zeros_like(a),
    ),
    "softplus": Activation(
        value=lambda a: xp.logaddexp(a, xp.zeros_like(a)),
        first=lambda a, h: special.expit(a),
        second=_softplus_second,
    ),
    "gelu": Activation(
        value=_gelu,
        first=lambda a, h: _normal_cdf(a) + a * _normal_density(a),
        second=lambda a, h: (2 - a * a) * _normal_density(a),
    ),
    "silu": Activation(
        value=lambda a: a * special.expit(a),
        first=_silu_first,
        second=_silu_second,
    ),
}


def get(name):
    """Return the `Activation` of a name: ``"tanh"``, ``"relu"``, ``"softplus"``, ``"gelu"`` or ``"silu"``."""
    validate.choice(ACTIVATIONS, activation=name)
    return ACTIVATIONS[name]
