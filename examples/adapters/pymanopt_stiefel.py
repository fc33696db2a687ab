"""Pymanopt's Stiefel manifold: one point at a time, ours takes a batch of them, too.

trref verify stiefel.project examples/adapters/pymanopt_stiefel.py:project
trref verify stiefel.retract_qr examples/adapters/pymanopt_stiefel.py:retract
"""

import numpy as np
from pymanopt.manifolds import Stiefel


def _each(x, z, method):
    if x.ndim > 2:
        return np.stack([_each(a, b, method) for a, b in zip(x, z, strict=True)])
    return getattr(Stiefel(*x.shape), method)(x, z)


def project(x, z):
    return _each(x, z, "projection")


def retract(x, z):
    return _each(x, z, "retraction")
