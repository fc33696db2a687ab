"""What is known of `trref.adversarial.pgd`."""

import itertools

from trref.adversarial.pgd import fgsm, pgd, pgd_path
from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.catalog.adversarial.interfaces import ROWS


def _best_of_each_pixel(score_and_grad, x, *, radius=0.3, low=0.0, high=1.0):
    """The linearised loss is a sum over pixels: of the two ends of each pixel's interval the better one."""
    g, moved = score_and_grad(x)[1], xp.array(x)
    for i, j in itertools.product(*map(range, x.shape)):
        ends = max(x[i, j] - radius, low), min(x[i, j] + radius, high)
        if g[i, j]:
            moved[i, j] = max(ends, key=lambda end, s=g[i, j]: s * end)
    return moved


def _pixel_by_pixel(
    score_and_grad, x, start, *, radius=0.3, lr=0.01, steps=40, low=0.0, high=1.0
):
    path = xp.empty((steps + 1, *x.shape))
    for k in range(steps + 1):
        g = score_and_grad(path[k - 1])[1] if k else None
        for i, j in itertools.product(*map(range, x.shape)):
            wish = start[i, j]
            if k:
                wish = path[k - 1, i, j] + lr * ((g[i, j] > 0) * 1 - (g[i, j] < 0) * 1)
            ends = max(x[i, j] - radius, low), min(x[i, j] + radius, high)
            path[k, i, j] = sorted([*ends, wish])[1]  # the nearest point of an interval
    return path


def _path_from_anywhere(
    score_and_grad, x, start, *, radius=0.3, lr=0.01, steps=40, low=0.0, high=1.0
):
    first = start + lr * xp.sign(score_and_grad(start)[1])
    how = {"radius": radius, "lr": lr, "steps": steps, "low": low, "high": high}
    return xp.stack([start, *pgd_path(score_and_grad, x, first, **how)[:-1]])


def _attack_from_anywhere(
    score_and_grad, x, start, *, radius=0.3, lr=0.01, steps=40, low=0.0, high=1.0
):
    how = {"radius": radius, "lr": lr, "steps": steps, "low": low, "high": high}
    return _path_from_anywhere(score_and_grad, x, start, **how)[-1]


def _without_box(**how):
    """The settings without the ends of the range."""
    return {**how, "low": -1e6, "high": 1e6}


def _step_without_box(score_and_grad, x, *, radius=0.3):
    return fgsm(score_and_grad, x, **_without_box(radius=radius))


def _attack_without_box(score_and_grad, x, start, *, radius=0.3, lr=0.01, steps=40):
    how = _without_box(radius=radius, lr=lr, steps=steps)
    return pgd(score_and_grad, x, start, **how)


def _path_without_box(score_and_grad, x, start, *, radius=0.3, lr=0.01, steps=40):
    how = _without_box(radius=radius, lr=lr, steps=steps)
    return pgd_path(score_and_grad, x, start, **how)


def _raw_start(f):
    return Deviation(
        "the start is not projected",
        f,
        seen_in="MadryLab/mnist_challenge pgd_attack.py (6f91f83)",
        computes="the first gradient outside the box, wherever the random start leaves it",
    )


def _no_box(f):
    return Deviation(
        "no box",
        f,
        seen_in="gmum/adversarial_examples_ae_layers adv_attacks.py, pgd_linf",
        computes="the projection into the ball alone: pixels leave their range",
    )


def _from_the_input(inputs):
    """the start is x"""
    return {**inputs, "start": xp.array(inputs["x"])}


STEPS = {
    "default": {},
    "one long step": {"lr": 0.6, "steps": 1},
    "probe": {"radius": 0.2, "lr": 0.07, "steps": 7, "low": -0.1, "high": 1.1},
}
ONE_STEP = {
    "to": "pgd.fgsm",
    "hyper": {"steps": 1, "lr": 0.3, "radius": 0.3},
    "to_hyper": {"radius": 0.3},
    "where": _from_the_input,
}

REFUSED = {
    "an empty box": {"low": 1.0, "high": 0.0},
    "a point outside the box": {"x": 2.0},
}


METHOD = Method(
    key="madry2017towards",
    provenance="confirmed",
    functions=(
        Estimator(
            f=fgsm,
            interface=ROWS,
            settings={
                "default": {},
                "probe": {"radius": 0.2, "low": -0.1, "high": 1.1},
            },
            brute_force=_best_of_each_pixel,
            deviations=(_no_box(_step_without_box),),
            refused=REFUSED,
        ),
        Estimator(
            f=pgd_path,
            interface=ROWS,
            settings=STEPS,
            brute_force=_pixel_by_pixel,
            deviations=(_raw_start(_path_from_anywhere), _no_box(_path_without_box)),
            refused=REFUSED,
        ),
        Estimator(
            f=pgd,
            interface=ROWS,
            settings=STEPS,
            brute_force=lambda **how: _pixel_by_pixel(**how)[-1],
            limits=(Limit(**ONE_STEP),),
            deviations=(
                _raw_start(_attack_from_anywhere),
                _no_box(_attack_without_box),
            ),
            refused=REFUSED,
        ),
    ),
)
