"""What is known of `trref.optimization.spectral_risk`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.catalog.optimization.interfaces import RISK
from trref.optimization.spectral_risk import (
    exponential_spectrum,
    extremile_spectrum,
    max_oracle,
    robust_objective,
    smooth_risk,
    spectral_risk,
    superquantile_spectrum,
)

# ---- spectra


def _shares(rng, size):
    """Of equal losses, or of losses that count differently."""
    if rng.random() < 0.5:
        return {"cumulative": xp.linspace(0.0, 1.0, size + 1)}
    inner = xp.sort(rng.random(size - 1))
    return {"cumulative": xp.concatenate([xp.zeros(1), inner, xp.ones(1)])}


SHARES = Interface(
    "shares",
    example=_shares,
    edges={
        "one loss": lambda: {"cumulative": xp.array([0.0, 1.0])},
        "two losses": lambda: {"cumulative": xp.array([0.0, 0.5, 1.0])},
        "a loss that does not count": lambda: {
            "cumulative": xp.array([0.0, 0.0, 0.2, 0.2, 0.7, 1.0])
        },
        "a hundred": lambda: {"cumulative": xp.linspace(0.0, 1.0, 101)},
    },
)


def _pairs(cumulative):
    return list(zip(cumulative[:-1].tolist(), cumulative[1:].tolist(), strict=True))


def _overlap(cumulative, *, level=0.5):
    """How much of each share lies above the level."""
    kept = [
        0.0 if high <= level else high - max(low, level)
        for low, high in _pairs(cumulative)
    ]
    return xp.array([x / (1 - level) for x in kept])


def _powers(cumulative, *, power=2.0):
    return xp.array(
        [math.pow(b, power) - math.pow(a, power) for a, b in _pairs(cumulative)]
    )


def _integral(cumulative, *, rate=1.0):
    """Of the density of the exponential spectrum, by Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(30)
    density = lambda u: rate * np.exp(rate * (u - 1)) / -math.expm1(-rate)  # noqa: E731
    return xp.array(
        [
            (b - a) / 2 * (weights * density((a + b) / 2 + (b - a) / 2 * nodes)).sum()
            for a, b in _pairs(cumulative)
        ]
    )


def _floored(cumulative, *, level=0.5):
    """For equal shares, as the code has it; others as they are."""
    n = len(cumulative) - 1
    if abs(cumulative - xp.linspace(0.0, 1.0, n + 1)).max() > 1e-12:
        return superquantile_spectrum(cumulative, level=level)
    index, first = xp.arange(n), math.floor(n * level)
    part = 1 - (n - first - 1) / (n * (1 - level))
    if part <= 1e-12:
        return xp.where(index >= first, 1 / (n - first), 0.0)
    return xp.where(
        index > first, 1 / (n * (1 - level)), xp.where(index == first, part, 0.0)
    )


FLOORED = Deviation(
    "the losses left out counted by floor(n a)",
    _floored,
    seen_in="ronakdm/prospect src/optim/objectives.py, get_superquantile_weights",
    computes="for n = 100 and a = 0.29 weights of 72 losses, not of 71: 100 * 0.29 is a little less than 29",
)

# ---- risks


def _by_sorting(losses, spectrum):
    order = sorted(range(len(losses)), key=lambda i: float(losses[i]))
    q = xp.zeros_like(losses)
    for rank, i in enumerate(order):
        q[i] = spectrum[rank]
    return sum(q * losses), q


def _pooling(losses, spectrum, *, shift_cost=1.0, penalty="chi2"):
    """Neighbours pooled one by one while the values of their blocks do not rise."""
    n = len(losses)
    order = sorted(range(n), key=lambda i: float(losses[i]))
    x, weights = [float(losses[i]) for i in order], spectrum.tolist()

    def value(block):
        share = math.fsum(weights[s] for s in block)
        if penalty == "chi2":
            return (math.fsum(x[s] for s in block) / (n * shift_cost) - share) / len(
                block
            )
        if share == 0:
            return math.inf
        top = x[block[-1]]
        powers = math.fsum(math.exp((x[s] - top) / shift_cost) for s in block)
        return top / shift_cost + math.log(powers) - math.log(share)

    blocks = []
    for k in range(n):
        blocks.append([k])
        while len(blocks) > 1 and value(blocks[-2]) >= value(blocks[-1]):
            last = blocks.pop()
            blocks[-1] = blocks[-1] + last
    q = xp.zeros_like(losses)
    for block in blocks:
        share = math.fsum(weights[s] for s in block)
        if penalty == "chi2":
            mean = math.fsum(x[s] for s in block) / len(block)
            own = [(x[s] - mean) / (n * shift_cost) + share / len(block) for s in block]
        else:
            powers = [math.exp((x[s] - x[block[-1]]) / shift_cost) for s in block]
            own = [share * p / math.fsum(powers) for p in powers]
        for s, weight in zip(block, own, strict=True):
            q[order[s]] = max(weight, 0.0)
    return q


def _twice_oracle(losses, spectrum, *, shift_cost=1.0, penalty="chi2"):
    cost = 2 * shift_cost if penalty == "chi2" else shift_cost
    return max_oracle(losses, spectrum, shift_cost=cost, penalty=penalty)


def _twice(losses, spectrum, *, shift_cost=1.0, penalty="chi2"):
    cost = 2 * shift_cost if penalty == "chi2" else shift_cost
    return smooth_risk(losses, spectrum, shift_cost=cost, penalty=penalty)


WITHOUT_HALF = {
    "name": "the chi-square penalty without its half",
    "seen_in": "ronakdm/prospect README.md, the objective; the code has the half",
    "computes": "the weights and the risk at twice the price",
}


def _other_penalty(losses, spectrum, *, shift_cost=1.0, penalty="chi2"):
    risk, q = smooth_risk(losses, spectrum, shift_cost=shift_cost, penalty=penalty)
    if penalty == "chi2":
        return risk, q
    squares = ((q - 1 / len(q)) ** 2).sum()
    return (q * losses).sum() - shift_cost / 2 * squares, q


OTHER_PENALTY = Deviation(
    "the chi-square penalty in the value, whatever was maximised",
    _other_penalty,
    seen_in="ronakdm/prospect src/optim/objectives.py, Objective.get_batch_loss with penalty 'neg_entropy'",
    computes="the risk minus ν/2 ‖q - 1/n‖² at the maximiser of the other problem",
)


def _equal_weights(inputs):
    """the spectrum is uniform"""
    n = len(inputs["spectrum"])
    return {**inputs, "spectrum": xp.ones(n) / n}


COSTS = {
    "default": {},
    "cheap": {"shift_cost": 0.05},
    "dear": {"shift_cost": 30.0},
    "kl": {"penalty": "kl"},
    "kl, cheap": {"penalty": "kl", "shift_cost": 0.05},
    "probe": {"penalty": "kl", "shift_cost": 0.7},
}

SHARES_FALL = {
    "shares that fall": {"cumulative": lambda cumulative: cumulative[::-1]},
    "shares that do not reach 1": {"cumulative": lambda cumulative: cumulative / 2},
}

SPECTRUM_FALLS = {
    "a spectrum that falls": {"spectrum": lambda spectrum: xp.eye(1, len(spectrum))[0]},
}


METHOD = Method(
    key="mehta2024distributionally",
    provenance={
        "confirmed": (
            "sorted",
            "superquantile",
            "extremile",
            "exponential",
            "smooth",
            "oracle",
            "gradient",
            "objective",
        ),
        "reconstructed": ("pooled",),
    },
    functions=(
        Estimator(
            f=superquantile_spectrum,
            interface=SHARES,
            settings={
                "default": {},
                "all count": {"level": 0.0},
                "few count": {"level": 0.95},
                "probe": {"level": 0.29},
            },
            limits=(
                Limit(
                    "spectral_risk.extremile_spectrum",
                    {"level": 0.0},
                    {"power": 1.0},
                ),
            ),
            deviations=(FLOORED,),
            brute_force=_overlap,
            refused=SHARES_FALL,
        ),
        Estimator(
            f=extremile_spectrum,
            interface=SHARES,
            settings={
                "default": {},
                "one draw": {"power": 1.0},
                "many draws": {"power": 40.0},
                "probe": {"power": 3.5},
            },
            brute_force=_powers,
            refused=SHARES_FALL,
        ),
        Estimator(
            f=exponential_spectrum,
            interface=SHARES,
            settings={
                "default": {},
                "nearly equal": {"rate": 1e-9},
                "steep": {"rate": 12.0},
                "probe": {"rate": 0.6},
            },
            limits=(
                Limit(
                    "spectral_risk.superquantile_spectrum",
                    {"rate": 1e-9},
                    {"level": 0.0},
                ),
            ),
            brute_force=_integral,
            refused=SHARES_FALL,
        ),
        Objective(
            f=spectral_risk,
            interface=RISK,
            wrt="losses",
            refused=SPECTRUM_FALLS,
        ),
        Estimator(
            f=max_oracle,
            interface=RISK,
            settings=COSTS,
            deviations=(Deviation(f=_twice_oracle, **WITHOUT_HALF),),
            brute_force=_pooling,
            refused=SPECTRUM_FALLS,
        ),
        Objective(
            f=smooth_risk,
            interface=RISK,
            wrt="losses",
            settings=COSTS,
            limits=(
                Limit("spectral_risk.spectral_risk", {}, where=_equal_weights),
                Limit(
                    "spectral_risk.spectral_risk",
                    {"penalty": "kl"},
                    where=_equal_weights,
                ),
            ),
            deviations=(Deviation(f=_twice, **WITHOUT_HALF), OTHER_PENALTY),
            refused=SPECTRUM_FALLS,
        ),
        Objective(
            f=robust_objective,
            interface=RISK,
            wrt="theta",
            settings={
                **COSTS,
                "probe": {"penalty": "kl", "shift_cost": 0.7, "l2": 0.3},
            },
            refused=SPECTRUM_FALLS,
        ),
    ),
)
