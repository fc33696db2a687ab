"""What is known of `trref.optimizers.weight_ema`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method
from trref.optimizers.weight_ema import (
    Memory,
    average_path,
    blend,
    half_life_decays,
    memory,
    rescaled_decays,
    variance_left,
    warm_decays,
)


def _example(rng, size):
    width = int(rng.integers(1, 5))
    return {
        "path": rng.choice((0.1, 20.0)) * rng.standard_normal((size, width)),
        "decays": rng.uniform(0.05, 0.99, size),
        "average": rng.standard_normal(size),
        "theta": 3 + rng.standard_normal(size),
    }


def _run(rows, decays):
    """A run, and two of its rows."""

    def make():
        path = xp.array(rows)
        return {
            "path": path,
            "decays": xp.array(decays),
            "average": path[0],
            "theta": path[-1],
        }

    return make


RUN = Interface(
    "run_of_weights",
    example=_example,
    edges={
        "one row": _run([[2.0, -3.0]], [0.9]),
        "weights at rest": _run([[1.5]] * 5, [0.5, 0.6, 0.9, 0.99, 0.999]),
        "far first weights": _run([[1e6], [1.0], [-1.0]], [0.25, 0.9, 0.5]),
        "weights of zero": _run([[0.0], [0.0]], [0.3, 0.8]),
    },
)
"""``f(path (T, P), decays (T), …)``, or of ``average, theta (P)``: the weights of a run."""

PATH = Interface(
    "run_of_weights_all_decays",
    example=_example,
    edges={
        **RUN.edges,
        "forgets all": _run([[1.0], [2.0], [3.0]], [0.0, 0.0, 0.0]),
        "never moves": _run([[1.0], [2.0], [3.0]], [0.0, 1.0, 1.0]),
        "the plain mean": _run([[1.0], [2.0], [6.0]], [0.0, 1 / 2, 2 / 3]),
    },
)

COUNTS = Interface(
    "counts_of_updates",
    example=lambda rng, size: {
        "updates": xp.floor(10 ** rng.uniform(0, 4, size)),
        "images": xp.floor(10 ** rng.uniform(2, 8, size)),
    },
    edges={
        "the first": lambda: {
            "updates": xp.array([0.0, 1.0, 2.0, 3.0]),
            "images": xp.array([0.0, 1.0, 3.0, 1024.0]),
        },
        "late": lambda: {
            "updates": xp.array([1e9]),
            "images": xp.array([1e7, 2e7, 1e12]),
        },
    },
)


def _blend_by_loops(average, theta, *, decay=0.999):
    pairs = zip(average.tolist(), theta.tolist(), strict=True)
    return xp.asarray([t + decay * (a - t) for a, t in pairs])


def _path_by_shares(path, decays, *, start="copy"):
    """Each average as a sum of rows, with the share of each written out."""
    d, rows = decays.tolist(), path.tolist()
    if start == "copy":
        d[0] = 0.0
    found = []
    for t in range(len(d)):
        shares = [(1 - d[s]) * math.prod(d[s + 1 : t + 1]) for s in range(t + 1)]
        total = math.fsum(shares) if start == "debiased" else 1.0
        column = [
            math.fsum(a * row[i] for a, row in zip(shares, rows, strict=False)) / total
            for i in range(len(rows[0]))
        ]
        found.append(column)
    return xp.asarray(found)


def _decays_by_loops(updates, *, decay=0.999, warmup="none", gamma=1.0, power=2 / 3):
    rising = {
        "none": lambda n: 1.0,
        "tensorflow": lambda n: 1 - 9 / (10 + n),
        "power": lambda n: -math.expm1(-power * math.log1p(n / gamma)),
    }[warmup]
    return xp.asarray([min(decay, rising(n)) for n in updates.tolist()])


def _half_lives_by_loops(images, *, batch=512, half_life=500e3, ramp=0.05):
    def one(seen):
        life = half_life if ramp is None else min(half_life, ramp * seen)
        return math.exp(-batch * math.log(2) / life) if life else 0.0

    return xp.asarray([one(seen) for seen in images.tolist()])


def _memory_by_loops(decays):
    rows = [(1 / (1 - d), -1 / math.log2(d), 1 / (1 / d - 1)) for d in decays.tolist()]
    return Memory(*(xp.asarray(list(column)) for column in zip(*rows, strict=True)))


def _powers_by_loops(decays, *, factor=2.0):
    return xp.asarray([math.pow(d, factor) for d in decays.tolist()])


def _variance_by_sums(decays, *, correlation=0.0):
    """The geometric series of lags, Σ a^|k| times the average's own correlation."""
    found = []
    for d in decays.tolist():
        lags = correlation * d / (1 - correlation * d)
        found.append((1 - d) ** 2 * (1 + 2 * lags) / (1 - d * d) if d < 1 else 0.0)
    return xp.asarray(found)


def _swapped(average, theta, *, decay=0.999):
    return blend(average, theta, decay=1 - decay)


def _one_behind(updates, *, decay=0.999, warmup="none", gamma=1.0, power=2 / 3):
    """One update less is counted, and nothing is kept until the second."""
    before = xp.maximum(updates - 1, 0)
    found = warm_decays(before, decay=decay, warmup=warmup, gamma=gamma, power=power)
    return xp.where(before > 0, found, 0)


def _first_zero(inputs):
    """The first decay is 0"""
    decays = inputs["decays"]
    return {
        **inputs,
        "decays": xp.concatenate([xp.zeros_like(decays[:1]), decays[1:]]),
    }


WEIGHT_EMA_SWAPPED = Deviation(
    "decay and step swapped",
    _swapped,
    seen_in="mmcv EMAHook (momentum) and optax incremental_update (step_size)",
    computes="the average with the decay as the share of the new weights",
    documented=True,
)

WEIGHT_EMA_ONE_BEHIND = Deviation(
    "one update behind",
    _one_behind,
    seen_in="timm ModelEmaV3 and diffusers EMAModel, get_decay",
    computes="the decay of one update less, and 0 until the second",
)

METHOD = Method(
    key="polyak1992acceleration",
    provenance={
        "confirmed": (
            "update",
            "debiased",
            "tensorflow",
            "power",
            "half-life",
        ),
        "reconstructed": ("memory", "rescaled", "variance"),
    },
    functions=(
        Estimator(
            f=blend,
            interface=RUN,
            settings={
                "default": {},
                "the last": {"decay": 0.0},
                "never": {"decay": 1.0},
                "probe": {"decay": 0.7},
            },
            brute_force=_blend_by_loops,
            deviations=(WEIGHT_EMA_SWAPPED,),
        ),
        Estimator(
            f=average_path,
            interface=PATH,
            settings={
                "default": {},
                "zero": {"start": "zero"},
                "probe": {"start": "debiased"},
            },
            brute_force=_path_by_shares,
            limits=tuple(
                Limit(
                    "weight_ema.average_path",
                    {"start": start},
                    {"start": "copy"},
                    where=_first_zero,
                )
                for start in ("zero", "debiased")
            ),
            refused={
                "an average from zero that nothing moves": {
                    "start": "debiased",
                    "decays": 1.0,
                },
            },
        ),
        Estimator(
            f=warm_decays,
            interface=COUNTS,
            settings={
                "default": {},
                "TensorFlow": {"warmup": "tensorflow"},
                "power": {"warmup": "power"},
                "plain mean": {
                    "decay": 1.0,
                    "warmup": "power",
                    "gamma": 1.0,
                    "power": 1.0,
                },
                "probe": {
                    "decay": 0.97,
                    "warmup": "power",
                    "gamma": 3.0,
                    "power": 0.8,
                },
            },
            brute_force=_decays_by_loops,
            deviations=(WEIGHT_EMA_ONE_BEHIND,),
        ),
        Estimator(
            f=half_life_decays,
            interface=COUNTS,
            settings={
                "default": {},
                "no ramp": {"ramp": None},
                "one by one": {"batch": 1, "half_life": 200.0},
                "probe": {"batch": 64, "half_life": 2e4, "ramp": 0.3},
            },
            brute_force=_half_lives_by_loops,
        ),
        Estimator(
            f=memory,
            interface=RUN,
            brute_force=_memory_by_loops,
            refused={
                "a decay of 0": {"decays": 0.0},
                "a decay of 1": {"decays": 1.0},
            },
        ),
        Estimator(
            f=rescaled_decays,
            interface=PATH,
            settings={"default": {}, "probe": {"factor": 3.5}},
            brute_force=_powers_by_loops,
        ),
        Estimator(
            f=variance_left,
            interface=PATH,
            settings={
                "default": {},
                "alternating": {"correlation": -0.4},
                "probe": {"correlation": 0.7},
            },
            brute_force=_variance_by_sums,
        ),
    ),
)
