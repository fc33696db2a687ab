"""What is known of `trref.diffusion.time_grids`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method
from trref.diffusion.time_grids import Levels, sampling_levels, zero_terminal_snr
from trref.problems.mixtures import ddpm_schedule


def _example(rng, size):
    """Schedules of 50 levels and more, whose last ones have some signal left, or nearly none."""
    T = size if size >= 50 else 50 + size
    rates = rng.uniform(0.5, 1.5, T) * rng.choice((1.0, 6.0)) / T
    return {"alpha_bar": xp.exp(-xp.cumsum(rates))}


SCHEDULE = Interface(
    "training_levels",
    example=_example,
    edges={
        "the linear schedule": lambda: {"alpha_bar": ddpm_schedule(200, 5e-4, 0.1)},
        "no signal at the end": lambda: {"alpha_bar": xp.linspace(0.99, 0.0, 60)},
    },
)
"""Falling squared signal levels (T)."""


def levels_by_loops(alpha_bar, *, steps=10, spacing="trailing", offset=0, final="data"):
    """Brute force: floating numbers that are exact where they matter, entry by entry."""
    T, indices = len(alpha_bar), []
    for k in range(steps):
        if spacing == "leading":
            i = (steps - 1 - k) * math.floor(T / steps) + offset
        elif spacing == "trailing":
            i = int(xp.rint((steps - k) * T / steps)) - 1
        else:
            i = int(xp.rint((steps - 1 - k) * (T - 1) / (steps - 1)))
        indices.append(i)
    now = [float(alpha_bar[i]) for i in indices]
    end = 1.0 if final == "data" else float(alpha_bar[0])
    return Levels(xp.array(indices), xp.array(now), xp.array([*now[1:], end]))


def zero_by_hand(alpha_bar):
    """Brute force: the line through the two ends of the roots, number by number."""
    roots = [math.sqrt(v) for v in alpha_bar.tolist()]
    first, last = roots[0], roots[-1]
    return xp.array([(first * (r - last) / (first - last)) ** 2 for r in roots])


# ---- deviations


def _of(alpha_bar, indices, final):
    now = alpha_bar[xp.array(indices)]
    last = xp.ones(1) if final == "data" else alpha_bar[:1]
    return Levels(xp.array(indices), now, xp.concatenate([now[1:], last]))


def _floating_range(alpha_bar, *, steps=10, spacing="trailing", offset=0, final="data"):
    if spacing != "trailing":
        hyper = {"spacing": spacing, "offset": offset, "final": final}
        return sampling_levels(alpha_bar, steps=steps, **hyper)
    T = len(alpha_bar)
    indices = xp.rint(xp.arange(T, 0, -T / steps)).astype(int) - 1
    return _of(alpha_bar, indices.tolist(), final)


def _stride_below(alpha_bar, *, steps=10, spacing="trailing", offset=0, final="data"):
    hyper = {"spacing": spacing, "offset": offset, "final": final}
    levels = sampling_levels(alpha_bar, steps=steps, **hyper)
    below = levels.indices - len(alpha_bar) // steps
    end = 1.0 if final == "data" else alpha_bar[0]
    return levels._replace(next_alpha_bar=xp.where(below >= 0, alpha_bar[below], end))


def _one_more(alpha_bar, *, steps=10, spacing="trailing", offset=0, final="data"):
    T, hyper = len(alpha_bar), {"spacing": spacing, "offset": offset, "final": final}
    if spacing == "trailing" or steps == T:
        return sampling_levels(alpha_bar, steps=steps, **hyper)
    if spacing == "linspace":
        rising = xp.rint(xp.linspace(0, T - 1, steps + 1)).astype(int)
    else:
        rising = xp.arange(steps + 1) * (T // (steps + 1)) + offset
    return _of(alpha_bar, rising[:0:-1].tolist(), final)


def _nearly_zero(alpha_bar):
    levels = zero_terminal_snr(alpha_bar)
    levels[-1] = 2.0**-24
    return levels


METHOD = Method(
    key="lin2024common",
    provenance="partly",
    functions=(
        Estimator(
            f=sampling_levels,
            interface=SCHEDULE,
            settings={
                "default": {},
                "leading": {"spacing": "leading"},
                "Stable Diffusion": {
                    "spacing": "leading",
                    "offset": 1,
                    "final": "first",
                },
                "linspace": {"spacing": "linspace"},
                "49": {"steps": 49},
                "probe": {
                    "steps": 7,
                    "spacing": "leading",
                    "offset": 2,
                    "final": "first",
                },
            },
            brute_force=levels_by_loops,
            deviations=(
                Deviation(
                    "a floating range",
                    _floating_range,
                    seen_in="diffusers 0.42.1, trailing grids of all schedulers",
                    computes="for some numbers of steps one entry more, -1, which is read as the noisiest level",
                ),
                Deviation(
                    "the index a stride below",
                    _stride_below,
                    seen_in="diffusers 0.42.1 scheduling_ddim.py",
                    computes="steps to the index less T // K, whatever the next entry of the grid is",
                ),
                Deviation(
                    "one entry more, the last left out",
                    _one_more,
                    seen_in="diffusers 0.42.1 scheduling_dpmsolver_multistep.py",
                    computes="linspace and leading grids of K + 1 entries without the last",
                ),
            ),
            refused={
                "levels that do not fall": {"alpha_bar": 0.5},
                "more steps than levels": {"steps": 99},
                "one level for two ends": {"spacing": "linspace", "steps": 1},
                "an index beyond the last": {"spacing": "leading", "offset": 99},
            },
        ),
        Estimator(
            f=zero_terminal_snr,
            interface=SCHEDULE,
            brute_force=zero_by_hand,
            deviations=(
                Deviation(
                    "nearly zero",
                    _nearly_zero,
                    seen_in="diffusers 0.42.1 scheduling_euler_discrete.py with rescale_betas_zero_snr",
                    computes="2^-24 for the last level, so that its ratio of noise to signal is 4096",
                    documented=True,
                ),
            ),
            refused={
                "levels that do not fall": {"alpha_bar": 0.5},
                "one level": {"alpha_bar": lambda alpha_bar: alpha_bar[:1]},
            },
        ),
    ),
)
