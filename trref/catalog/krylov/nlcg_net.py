"""What is known of `trref.krylov.nlcg_net`."""

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.catalog.krylov.relaxometry import SCAN, scan
from trref.krylov.nlcg_net import (
    Block,
    Split,
    hide,
    nlcg_block,
    unrolled,
    zero_shot_loss,
)
from trref.krylov.relaxometry import kspace_objective
from trref.problems.convex import Logistic, Quadratic, spd_matrix, spectrum


def _example(rng, size):
    """A quadratic whose minimiser has a negative entry, or a logistic loss, for which a step takes several trials."""
    n = min(size, 8)
    if rng.integers(2):
        A = spd_matrix(rng, spectrum(n, 5.0))
        loss = Quadratic(A, rng.standard_normal(n))
    else:
        X = rng.standard_normal((size, n))
        loss = Logistic(X, np.where(rng.random(size) < 0.5, 1.0, -1.0), 0.1)
    return {
        "loss_and_grad": loss,
        "x0": abs(rng.standard_normal(n)),
        "rates": (np.arange(n) % 2).astype(float),
    }


def _edge(A, b, x0, rates):
    A, b, x0 = (xp.array(np.array(v, dtype=float)) for v in (A, b, x0))
    rates = None if rates is None else xp.array(np.array(rates, dtype=float))
    return {"loss_and_grad": Quadratic(A, b), "x0": x0, "rates": rates}


A3 = [[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]]
STEPS = Interface(
    name="steps that keep rates positive",
    example=_example,
    edges={
        "one unknown": lambda: _edge([[2.0]], [3.0], [1.0], None),
        "at the minimum": lambda: _edge(A3, [5, 5, 3], [1, 1, 1], None),
        "no rates": lambda: _edge(A3, [1, -2, 3], [0, 1, 2], None),
        "a rate that stops at 0": lambda: _edge(A3, [1, -5, 3], [1, 0.5, 1], [0, 1, 0]),
        "concave": lambda: _edge([[-1.0]], [0.0], [1.0], None),
        "small": lambda: _edge([[1e-4]], [1e-3], [1.0], None),
    },
)


def _block(
    loss_and_grad, x0, rates, steps, at_bound, *, smallest=0.0, overwritten=False
):
    """The steps with plain loops; what public code does otherwise as two switches."""
    x = np.array(x0)
    rates = np.zeros(len(x)) if rates is None else np.asarray(rates)

    def guarded(p, a):
        p = p.copy()
        for i in np.flatnonzero(rates):
            if at_bound == "stop" and x[i] + a * p[i] < 0:
                p[i] = -x[i] / a
            if at_bound == "stay" and x[i] + a * p[i] < 1e-4:
                p[i] = 0
        return p

    value, g = loss_and_grad(x)
    values, p = [float(value)], -g
    for _ in range(steps):
        slope = float(p @ g)
        if slope < 0:
            a0, s0, a1 = 0.0, slope, 1.0
            for _ in range(20):
                q = guarded(p, a1)
                p = q if overwritten else p
                s1 = float(loss_and_grad(x + a1 * q)[1] @ q)
                if abs(s1) < 1e-6 or abs(a1 - a0) < 1e-5 or s1 == s0:
                    break
                a0, s0, a1 = a1, s1, a1 - s1 / ((s1 - s0) / (a1 - a0))
            q = guarded(p, a1)
            p = q if overwritten else p
            x = x + a1 * q
            value, new = loss_and_grad(x)
            rise = float(p @ (new - g)) - smallest
            old, g = p, new
            p = -g
            if smallest or rise > 0:
                p = -g + float(g @ g) / (rise or 1.0) * old
            if not smallest and p @ g >= 0:
                p = -g
        values.append(float(value))
    return Block(x, np.array(values))


def _by_loops(loss_and_grad, x0, rates=None, *, steps=10, at_bound="stop"):
    return _block(loss_and_grad, x0, rates, steps, at_bound)


def _epsilon(loss_and_grad, x0, rates=None, *, steps=10, at_bound="stop"):
    return _block(loss_and_grad, x0, rates, steps, at_bound, smallest=1e-6)


def _overwritten(loss_and_grad, x0, rates=None, *, steps=10, at_bound="stop"):
    return _block(loss_and_grad, x0, rates, steps, at_bound, overwritten=True)


def _blocks_by_loops(
    maps,
    kspace_re,
    kspace_im,
    coils_re,
    coils_im,
    mask,
    times,
    network,
    *,
    kind="decay",
    weight=0.05,
    blocks=6,
    steps=10,
    at_bound="stay",
):
    data = kspace_re, kspace_im, coils_re, coils_im, mask, times
    rates = np.repeat([0, 0, 1], len(maps) // 3)
    for _ in range(blocks):
        Z = network(maps)

        def objective(X, Z=Z):
            return kspace_objective(X, *data, Z, kind=kind, weight=weight)

        maps = _block(objective, maps, rates, steps, at_bound).x
    return maps


def _hidden_by_lists(mask, uniform, *, share=0.4, centre=2):
    hidden = np.zeros_like(mask)
    T, H, V = mask.shape

    for t in range(T):
        points = [(i, j) for i, j in np.ndindex(H, V) if mask[t, i, j]]
        free = [
            (uniform[t, i, j], i * V + j)
            for i, j in points
            if not ((i < centre or i >= H - centre) and (j < centre or j >= V - centre))
        ]
        for _, k in sorted(free)[: int(np.floor(share * len(points)))]:
            hidden[t, k // V, k % V] = 1
    return Split(mask - hidden, hidden)


LARGE = Interface(
    name="masks",
    example=lambda rng, size: {
        "mask": (rng.random((2, min(size, 9) + 2, 7 - size % 3)) < 0.7).astype(float),
        "uniform": rng.random((2, min(size, 9) + 2, 7 - size % 3)),
    },
    edges={
        "nothing is measured": lambda: {
            "mask": xp.zeros((1, 6, 6)),
            "uniform": xp.full((1, 6, 6), 0.5),
        },
        "equal numbers, everything measured": lambda: {
            "mask": xp.ones((3, 5, 6)),
            "uniform": xp.full((3, 5, 6), 0.5),
        },
        "all of it low": lambda: {
            "mask": xp.ones((1, 3, 2)),
            "uniform": xp.full((1, 3, 2), 0.25),
        },
    },
)


def _met(predicted):
    """A prediction that meets the data at some points, or at all of one time."""
    given = SCAN.edges["everything is, rates of 0"]()
    for name in ("re", "im"):
        data = given[f"kspace_{name}"].copy()
        data[0] += predicted
        given[f"predicted_{name}"] = data
    return SCAN.of(given, ZERO_SHOT)


def _measured(rng, size):
    """Data of true maps with some noise, in unitary coils, and a start near to these."""
    times, V = 2 + size % 3, min(size, 8)
    given = scan(rng, times, 2, 3, V)
    coils = given["coils_re"] + 1j * given["coils_im"]
    coils = coils / np.sqrt((abs(coils) ** 2).sum(0))
    rate = 1 + given["rate"] / 4
    decayed = np.exp(-given["times"][:, None, None] * rate)
    m = 2 + given["mx"] + 1j * given["my"]
    data = np.fft.fft2(coils * (m * decayed)[:, None], norm="ortho")
    data = data + 0.01 * (given["kspace_re"] + 1j * given["kspace_im"])
    true = np.stack([m.real, m.imag, rate]).ravel()
    given |= {"coils_re": coils.real, "coils_im": coils.imag}
    given |= {"kspace_re": data.real, "kspace_im": data.imag}
    given |= {"mask": np.ones((times, 3, V)), "maps": true + 0.02 * given["direction"]}
    return SCAN.of(given, UNROLLED)


UNROLLED = (
    *("maps", "kspace_re", "kspace_im", "coils_re", "coils_im"),
    *("mask", "times", "network"),
)
ZERO_SHOT = ("predicted_re", "predicted_im", "kspace_re", "kspace_im", "mask")
METHOD = Method(
    key="jiang2024nlcgnet",
    provenance="confirmed",
    functions=(
        Estimator(
            f=nlcg_block,
            interface=STEPS,
            sizes=(4, 8),
            settings={
                "default": {"steps": 3},
                "stay": {"at_bound": "stay", "steps": 2},
                "probe": {"steps": 4, "at_bound": "stay"},
            },
            brute_force=_by_loops,
            deviations=(
                Deviation(
                    "a small number in the denominator",
                    _epsilon,
                    seen_in="Xinrui-Jiang/NLCG-Net, T1/NLCG.py",
                    computes="a denominator of the direction's weight from which a small number is taken away",
                ),
                Deviation(
                    "the direction overwritten",
                    _overwritten,
                    seen_in="Xinrui-Jiang/NLCG-Net, T1/NLCG.py",
                    computes="the guard of the rates changes the direction itself, also for the next one",
                ),
            ),
        ),
        Estimator(
            f=unrolled,
            example=_measured,
            edges={
                name: lambda make=make: SCAN.of(make(), UNROLLED)
                for name, make in SCAN.edges.items()
                if "growth" not in name
            },
            sizes=(4, 8),
            seeds=(0,),
            settings={
                "default": {"blocks": 2, "steps": 3},
                "probe": {
                    "kind": "inversion",
                    "weight": 0.3,
                    "blocks": 3,
                    "steps": 2,
                    "at_bound": "stop",
                },
            },
            brute_force=_blocks_by_loops,
        ),
        Estimator(
            f=hide,
            interface=LARGE,
            sizes=(4, 8),
            settings={"default": {}, "probe": {"share": 0.7, "centre": 3}},
            brute_force=_hidden_by_lists,
        ),
        Objective(
            f=zero_shot_loss,
            wrt=("predicted_re", "predicted_im"),
            sizes=(4, 8),
            example=lambda rng, size: SCAN.of(SCAN.example(rng, size), ZERO_SHOT),
            edges={
                **{
                    name: lambda make=make: SCAN.of(make(), ZERO_SHOT)
                    for name, make in SCAN.edges.items()
                },
                "one time is met": lambda: _met(0.0),
                "data of 0": lambda: (
                    _met(0.1)
                    | {name: xp.zeros((2, 1, 2, 3)) for name in ZERO_SHOT[2:4]}
                ),
            },
        ),
    ),
)
