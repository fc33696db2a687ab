"""What is known of `trref.diffusion.noise_schedules`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method
from trref.diffusion.noise_schedules import Rates, log_snr, rates, time_at
from trref.problems.mixtures import SCHEDULES


def _numbers(schedule, beta0, beta1, smallest, largest):
    """What a schedule of `trref.problems.mixtures` takes."""
    return {"vp": (beta0, beta1), "ve": (smallest, largest), "flow": ()}[schedule]


def _squares(t, schedule, beta0, beta1, smallest, largest):
    """Brute force: squared levels as they stand in the papers, of real or complex times."""
    if schedule == "vp":
        signal = xp.exp(-(t**2) * (beta1 - beta0) / 2 - t * beta0)
        return signal, 1 - signal
    if schedule == "ve":
        return 1 + 0 * t, smallest**2 * (largest / smallest) ** (2 * t)
    return (1 - t) ** 2, t**2


def log_of_levels(
    t, *, schedule="vp", beta0=0.1, beta1=20.0, smallest=0.01, largest=10.0
):
    """Brute force: the logarithm of the ratio of the levels that the models see."""
    numbers = _numbers(schedule, beta0, beta1, smallest, largest)
    alpha, sigma = SCHEDULES[schedule](t, *numbers)
    return 2 * xp.log(alpha / sigma)


BOUNDS = {"vp": (1e-8, 10.0), "ve": (-10.0, 10.0), "flow": (1e-8, 1 - 1e-8)}


def by_bisection(log_ratio, *, schedule="vp", **numbers):
    """Brute force: halve an interval of times that holds the ratio, seventy times."""
    low, high = (xp.full_like(log_ratio, end) for end in BOUNDS[schedule])
    for _ in range(70):
        middle = (low + high) / 2
        later = log_of_levels(middle, schedule=schedule, **numbers) > log_ratio
        low, high = xp.where(later, middle, low), xp.where(later, high, middle)
    return middle


def by_complex_steps(
    t, *, schedule="vp", beta0=0.1, beta1=20.0, smallest=0.01, largest=10.0
):
    """Brute force: derivatives of the squared levels by a step along the imaginary axis, exact to rounding."""
    h = 1e-30
    signal, noise = _squares(t + 1j * h, schedule, beta0, beta1, smallest, largest)
    drift = xp.imag(signal) / h / xp.real(signal) / 2
    return Rates(drift, xp.imag(noise) / h - 2 * drift * xp.real(noise))


def _example(rng, size):
    return {"t": rng.choice((1.0, 0.1)) * rng.uniform(0.01, 0.99, size)}


def _ratios(rng, size):
    return {"log_ratio": rng.uniform(-4.0, 8.0, size)}


EDGES = {
    "near both ends": lambda: {"t": xp.array([0.001, 0.999])},
    "one time": lambda: {"t": xp.array([0.5])},
    "equal times": lambda: {"t": xp.array([0.25, 0.25, 0.25])},
}
SETTINGS = {
    "default": {},
    "ve": {"schedule": "ve"},
    "flow": {"schedule": "flow"},
    "a constant rate": {"beta0": 3.0, "beta1": 3.0},
    "probe": {
        "schedule": "ve",
        "beta0": 0.2,
        "beta1": 15.0,
        "smallest": 0.02,
        "largest": 40.0,
    },
    "probe of vp": {"schedule": "vp", "beta0": 0.2, "beta1": 15.0},
}


def _half(t, *, schedule="vp", beta0=0.1, beta1=20.0, smallest=0.01, largest=10.0):
    numbers = {"beta0": beta0, "beta1": beta1, "smallest": smallest, "largest": largest}
    return log_snr(t, schedule=schedule, **numbers) / 2


HALF = Deviation(
    "half of the ratio",
    _half,
    seen_in="LuChengTHU/dpm-solver marginal_lambda, and the DPM-Solver schedulers of diffusers",
    computes="log(alpha / sigma), half of the logarithm of the squared ratio",
    documented=True,
)


def _data_time(t, *, schedule="vp", beta0=0.1, beta1=20.0, smallest=0.01, largest=10.0):
    numbers = {"beta0": beta0, "beta1": beta1, "smallest": smallest, "largest": largest}
    return log_snr(1 - t, schedule=schedule, **numbers)


DATA_TIME = Deviation(
    "data time",
    _data_time,
    seen_in="facebookresearch/flow_matching, whose paths run from noise at 0 to data at 1",
    computes="the ratio at 1 - t",
    documented=True,
)


METHOD = Method(
    key="song2021score",
    provenance="confirmed",
    functions=(
        Estimator(
            f=log_snr,
            example=_example,
            edges=EDGES,
            settings=SETTINGS,
            brute_force=log_of_levels,
            deviations=(HALF, DATA_TIME),
            refused={
                "no noise": {"t": 0},
                "no signal at the end of a flow": {"schedule": "flow", "t": 1},
                "rates that fall": {"beta0": 2.0, "beta1": 1.0},
                "levels in the wrong order": {"smallest": 2.0, "largest": 1.0},
            },
        ),
        Estimator(
            f=time_at,
            example=_ratios,
            edges={
                "equal levels": lambda: {"log_ratio": xp.array([0.0])},
                "both ends": lambda: {"log_ratio": xp.array([-4.5, 9.0])},
            },
            settings=SETTINGS,
            brute_force=by_bisection,
            refused={
                "rates that fall": {"beta0": 2.0, "beta1": 1.0},
                "levels in the wrong order": {"smallest": 2.0, "largest": 1.0},
            },
        ),
        Estimator(
            f=rates,
            example=_example,
            edges={**EDGES, "the data": lambda: {"t": xp.array([0.0, 0.3])}},
            settings=SETTINGS,
            brute_force=by_complex_steps,
            refused={
                "no signal at the end of a flow": {"schedule": "flow", "t": 1},
                "rates that fall": {"beta0": 2.0, "beta1": 1.0},
                "levels in the wrong order": {"smallest": 2.0, "largest": 1.0},
            },
        ),
    ),
)
