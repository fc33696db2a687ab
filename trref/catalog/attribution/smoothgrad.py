"""What is known of `trref.attribution.smoothgrad`."""

import itertools
import math

from trref.attribution.smoothgrad import (
    blurred_score,
    gradient_variance,
    smooth_gradient,
    squared_gradient,
)
from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.catalog.adversarial.interfaces import ROWS
from trref.catalog.record import Interface
from trref.problems.rows import ReluScore


def _noisy(arguments, noise):
    """The functions of inputs that attacks climb, and noise; some inputs are constant."""
    return {
        "score_and_grad": arguments["score_and_grad"],
        "x": arguments["x"],
        "noise": noise,
    }


def _example(rng, size):
    arguments = ROWS.example(rng, size)
    R = int(rng.integers(1, 6))
    return _noisy(arguments, rng.standard_normal((R, *arguments["x"].shape)))


def _edge(make, R):
    """One of the edges of attacks, with R copies."""
    arguments = make()
    shape = (R, *arguments["x"].shape)
    waves = xp.cos(1 + 3 * xp.arange(float(math.prod(shape)))).reshape(shape)
    return _noisy(arguments, 2 * waves)


def _at_a_kink():
    """The copies lie on both sides; one row is constant, without any noise."""
    score = ReluScore(xp.eye(2), xp.array([-0.5, 0.0]), xp.array([2.0, -1.0]))
    x = xp.array([[0.5, 0.0], [0.4, 1.0], [0.75, 0.75]])
    steps = xp.array([0.5, -1.0, 2.0, -0.25])
    return {
        "score_and_grad": score,
        "x": x,
        "noise": xp.zeros((4, 3, 2)) + steps[:, None, None],
    }


COPIES = Interface(
    "copies",
    example=_example,
    edges={
        **{
            name: lambda make=make, R=R: _edge(make, R)
            for (name, make), R in zip(ROWS.edges.items(), (1, 3, 2, 6), strict=True)
        },
        "at a kink": _at_a_kink,
    },
)


def _each(score_and_grad, x, noise, level):
    """The gradients, copy by copy and row by row, as nested lists."""
    maps = []
    for e in noise:
        copy = xp.array(x)
        for i, j in itertools.product(*map(range, x.shape)):
            copy[i, j] += level * (max(x[i]) - min(x[i])) * e[i, j]
        maps.append(score_and_grad(copy)[1].tolist())
    return maps


def _by_hand(statistic):
    def brute_force(score_and_grad, x, noise, *, level=0.15):
        maps, result = _each(score_and_grad, x, noise, level), xp.empty(x.shape)
        for i, j in itertools.product(*map(range, x.shape)):
            result[i, j] = statistic([m[i][j] for m in maps])
        return result

    return brute_force


def _mean(values):
    return math.fsum(values) / len(values)


def _variance(values):
    """Half the mean squared difference of all pairs."""
    pairs = itertools.product(values, values)
    return _mean([(p - q) ** 2 for p, q in pairs]) / 2


def _absolute(score_and_grad, x, noise, *, level=0.15):
    """The noise is as long as if every input had range 1."""
    maps = [score_and_grad(x + level * e)[1] for e in noise]
    return sum(maps) / len(maps)


def _units(rng, size):
    H, D = size, int(rng.integers(1, 5))
    scale = xp.exp(rng.uniform(-2, 2, (H, 1)))
    x = rng.random(D)
    return {
        "U": scale * rng.standard_normal((H, D)),
        "b": 0.5 * rng.standard_normal(H),
        "w": rng.standard_normal(H) / math.sqrt(H),
        "x": x,
    }


def _unit(U, b, w, x):
    return {"U": xp.array(U), "b": xp.array(b), "w": xp.array(w), "x": xp.array(x)}


LEVELS = {"default": {}, "no noise": {"level": 0.0}, "probe": {"level": 0.4}}

METHOD = Method(
    key="smilkov2017smoothgrad",
    provenance={
        "confirmed": ("mean", "noise", "squared", "variance"),
        "reconstructed": ("blurred", "blurred-gradient"),
    },
    functions=(
        Estimator(
            f=smooth_gradient,
            interface=COPIES,
            settings=LEVELS,
            brute_force=_by_hand(_mean),
            deviations=(
                Deviation(
                    "squares",
                    lambda score_and_grad, x, noise, *, level=0.15: squared_gradient(
                        score_and_grad, x, noise, level=level
                    ),
                    seen_in="PAIR-code/saliency saliency/core/base.py (082f4b7), GetSmoothedMask",
                    computes="the mean of the squared gradients, unless magnitude=False is said",
                    documented=True,
                ),
                Deviation(
                    "absolute noise",
                    _absolute,
                    seen_in="pytorch/captum captum/attr/_core/noise_tunnel.py (0032cbd)",
                    computes="one standard deviation for all inputs, whatever their range",
                    documented=True,
                ),
            ),
        ),
        Estimator(
            f=squared_gradient,
            interface=COPIES,
            settings=LEVELS,
            brute_force=_by_hand(lambda values: _mean([v * v for v in values])),
        ),
        Estimator(
            f=gradient_variance,
            interface=COPIES,
            settings=LEVELS,
            brute_force=_by_hand(_variance),
        ),
        Objective(
            f=blurred_score,
            wrt="x",
            example=_units,
            edges={
                "on a kink": lambda: _unit([[1.0, -2.0]], [1.5], [2.0], [0.5, 1.0]),
                "far on either side": lambda: _unit(
                    [[1.0], [-1.0], [0.01]], [8.0, -9.0, 0.0], [1.0, 2.0, 3.0], [0.3]
                ),
                "units of no weights": lambda: _unit(
                    [[0.0, 0.0], [0.0, 0.0], [1.0, 0.5]],
                    [0.7, -0.4, 0.1],
                    [2.0, 3.0, -1.0],
                    [0.2, 0.9],
                ),
            },
            settings={
                "default": {},
                "hardly any noise": {"sigma": 0.02},
                "probe": {"sigma": 0.7},
            },
        ),
    ),
)
