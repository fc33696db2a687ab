"""What is known of `trref.krylov.relaxometry`."""

import cmath
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method, Objective
from trref.krylov.relaxometry import Signal, keep_positive, kspace_objective, signal
from trref.problems.mri import MapSmoother


def scan(rng, times, coils, H, V, *, scale=1.0):
    """Maps, data that are not those of the maps, and everything else; what is beyond the mask is there, too."""
    parts = rng.standard_normal((6, times, coils, H, V))
    parts[[0, 1, 4, 5]] *= scale
    mask = (rng.random((times, H, V)) < 0.6).astype(float)
    maps = np.stack([*rng.standard_normal((2, H, V)), rng.uniform(0.1, 2, (H, V))])
    direction = rng.standard_normal(3 * H * V)
    return {
        "maps": maps.ravel(),
        "mx": maps[0],
        "my": maps[1],
        "rate": maps[2],
        "kspace_re": parts[0],
        "kspace_im": parts[1],
        "coils_re": parts[2, 0],
        "coils_im": parts[3, 0],
        "predicted_re": parts[4],
        "predicted_im": parts[5],
        "mask": mask,
        "uniform": rng.random((times, H, V)),
        "times": np.sort(rng.uniform(0.1, 1.6, times)),
        "prior": maps.ravel() + 0.1 * direction,
        "network": MapSmoother(H, V),
        "direction": 3 * direction,
        "x": abs(maps.ravel()),
        "rates": np.repeat([0.0, 0.0, 1.0], H * V),
    }


def _example(rng, size):
    times, coils = int(rng.integers(2, 4)), int(rng.integers(1, 4))
    H = int(rng.integers(2, 4))
    return scan(rng, times, coils, H, size, scale=rng.choice((0.01, 1.0)))


def _edge(T, C, H, V, **changes):
    given = scan(np.random.default_rng(5), T, C, H, V)
    given |= {k: np.array(v, dtype=float) for k, v in changes.items()}
    given["maps"] = np.stack([given[k] for k in ("mx", "my", "rate")]).ravel()
    return {k: v if k == "network" else xp.array(v) for k, v in given.items()}


SCAN = Interface(
    name="scan",
    example=_example,
    edges={
        "one point, one coil, one time": lambda: _edge(1, 1, 1, 1, mask=[[[1]]]),
        "nothing is measured": lambda: _edge(2, 2, 3, 2, mask=np.zeros((2, 3, 2))),
        "everything is, rates of 0": lambda: _edge(
            2, 1, 2, 3, mask=np.ones((2, 2, 3)), rate=np.zeros((2, 3))
        ),
        "a time of 0, and growth": lambda: _edge(
            2, 1, 2, 2, times=[0.0, 1.5], rate=[[-1.0, 0.5], [2.0, 0.0]]
        ),
    },
)


def _signal_by_loop(mx, my, rate, times, *, kind="decay"):
    re, im = np.zeros((2, len(times), *mx.shape))
    for t, tau in enumerate(times):
        for i, j in np.ndindex(*mx.shape):
            factor = math.exp(-tau * rate[i, j])
            factor = factor if kind == "decay" else 1 - 2 * factor
            re[t, i, j], im[t, i, j] = mx[i, j] * factor, my[i, j] * factor
    return Signal(re, im)


def transformed(image):
    """The unitary Fourier transform of one image, by its sum."""
    H, V = image.shape
    out = np.zeros((H, V), dtype=complex)
    for u, v in np.ndindex(H, V):
        for i, j in np.ndindex(H, V):
            out[u, v] += image[i, j] * cmath.exp(
                -2j * math.pi * (u * i / H + v * j / V)
            )
    return out / math.sqrt(H * V)


def _positive_by_loop(direction, x, rates, *, step=1.0, at_bound="stop"):
    out = []
    for p, here, is_rate in zip(
        *(a.tolist() for a in (direction, x, rates)), strict=True
    ):
        end = here + step * p
        if is_rate and at_bound == "stop" and end < 0:
            p = (0 - here) / step
        elif is_rate and at_bound == "stay" and end < 1e-4:
            p = 0.0
        out.append(p)
    return np.array(out)


DIRECTIONS = Interface(
    name="directions of rates",
    example=_example,
    edges={
        "a rate that ends at 0": lambda: _edge(
            1, 1, 1, 1, x=[1, 1, 2], direction=[-3, 1, -2]
        ),
        "a rate below what is near 0": lambda: _edge(
            1, 1, 1, 1, x=[1, 0, 1], direction=[0, -5, -0.99995]
        ),
        "a rate of 0": lambda: _edge(1, 1, 1, 1, x=[1, 0, 0], direction=[1, -1, -1]),
    },
)
KINDS = {"default": {}, "inversion": {"kind": "inversion"}}
METHOD = Method(
    key="jiang2024nlcgnet",
    provenance="confirmed",
    functions=(
        Estimator(
            f=signal,
            interface=SCAN,
            sizes=(4, 8),
            settings=KINDS | {"probe": {"kind": "inversion"}},
            brute_force=_signal_by_loop,
            refused={
                "a rate too fast": {"rate": -1e6},
            },
        ),
        Objective(
            f=kspace_objective,
            wrt="maps",
            interface=SCAN,
            sizes=(4, 8),
            settings=KINDS
            | {
                "pulled": {"weight": 0.5},
                "probe": {"kind": "inversion", "weight": 0.3},
            },
            refused={
                "maps of another size": {"maps": lambda maps: maps[:-1]},
                "maps that are too bright": {"maps": 1e50},
            },
        ),
        Estimator(
            f=keep_positive,
            interface=DIRECTIONS,
            sizes=(4, 8),
            settings={
                "default": {},
                "stay": {"at_bound": "stay"},
                "backwards": {"step": -0.5},
                "probe": {"step": 0.7, "at_bound": "stay"},
            },
            brute_force=_positive_by_loop,
        ),
    ),
)
