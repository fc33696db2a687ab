"""What public code computes in the place of the papers' equations: small runnable variants."""

import math

from trref.backend import linalg, xp
from trref.catalog import Deviation
from trref.optimization.interfaces import ExactStep, Step, boundary_steps, floats

__all__ = ["LOOSE_LENGTH", "POSITIVE_ROOT"]


def _loose_length(g, B, *, radius):
    """Newton on the secular equation from the right of -λ_1, ended at a relative error of 0.1 in the length."""
    w, Q = linalg.eigh(B)
    w, c = xp.stack([w, Q.T @ g]).tolist()
    multiplier, status = max(0.0, -1.001 * w[0] if w[0] < 0 else -0.999 * w[0] + 1e-12), "boundary"
    for _ in range(50):
        terms = [(c_i / (w_i + multiplier), w_i + multiplier) for c_i, w_i in zip(c, w, strict=True) if c_i]
        length = math.hypot(*(p_i for p_i, _ in terms))
        if abs(length - radius) <= 0.1 * radius or length < radius:
            break
        multiplier += length**2 / sum(p_i**2 / d for p_i, d in terms) * (length - radius) / radius
    p = [-c_i / (w_i + multiplier) if c_i else 0.0 for c_i, w_i in zip(c, w, strict=True)]
    return ExactStep(Q @ xp.asarray(p, dtype=B.dtype), multiplier, status, [multiplier], 1, True)


LOOSE_LENGTH = Deviation(
    "a length within a tenth of the radius",
    _loose_length,
    seen_in="scipy/optimize/_trustregion_exact.py (k_easy = 0.1, k_hard = 0.2), behind method='trust-exact'",
    computes="a step whose length may miss the radius by 10 %, and no more than a fraction of the hard case's decrease",
    documented=True,
)


def _positive_root(g, matvec, *, radius, rtol=None):
    z, r, d = xp.zeros_like(g), g, -g
    rr, rz, zz, zd, dd = float(g @ g), 0.0, 0.0, 0.0, float(g @ g)
    rtol = min(0.5, rr**0.25) if rtol is None else rtol
    start, values, status = math.sqrt(rr), [0.0], "interior"
    while math.sqrt(rr) > rtol * start and len(values) <= len(g):
        Bd = matvec(d)
        curvature, zz, zd, dd = floats(d @ Bd, z @ z, z @ d, d @ d)
        far = boundary_steps(zz, zd, dd, radius)[1]
        t = rr / curvature if curvature > 0 else far
        status = "interior" if t < far else "boundary" if curvature > 0 else "negative curvature"
        t = min(t, far)
        values.append(values[-1] - t * rr + t * t * curvature / 2)
        z = z + t * d
        if status != "interior":
            break
        r = r + t * Bd
        rr, rz = float(r @ r), rr
        d = -r + rr / rz * d
    return Step(z, status, values, len(values) - 1, True)


POSITIVE_ROOT = Deviation(
    "forward to the boundary along negative curvature",
    _positive_root,
    seen_in="Steihaug's paper of 1983, and implementations that follow it",
    computes="the positive root alone where d·B d <= 0: the worse of the two ends in some 5 % of random problems",
    documented=True,
)
