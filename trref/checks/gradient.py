"""A gradient written by hand against differences of the function, kinks included."""

import math

import numpy as np

__all__ = ["SLOPE", "TAYLOR", "ContractError", "check_gradient", "complex_step"]

STEPS = (2.0**-9, 2.0**-13, 2.0**-17, 2.0**-21)
EPS = float(np.finfo(float).eps)
# what is allowed of a slope, relative, and what the remainder's slope must be
SLOPE, TAYLOR = 1e-6, 1.9


class ContractError(AssertionError):
    """A contract does not hold; the message says which case showed it."""


def require(condition, message):
    """Raise a `ContractError` unless the condition holds."""
    if not condition:
        raise ContractError(message)


def check_gradient(
    value, point, gradient, *, rng, noise=0.0, domain=(-math.inf, math.inf)
):
    """Check a gradient against differences of the function, kinks included; at most 200 evaluations, as a rule.

    Along two unit directions and three random ±1 directions the slope is compared with fourth-order differences:
    central, left and right. Where the three agree at some step the function is smooth there and the gradient must
    equal them. Where they agree at no step there is a kink, and the slope must lie between left and right; where it
    does not, along many entries, it must along half of them each, and so on down to one. At last the remainder of the
    first-order Taylor polynomial must fall with a slope of at least 1.9.

    Parameters
    ----------
    value : callable
        ``value(x) -> float`` for float64 host arrays of the shape of `point`.
    point, gradient : ndarray
        float64, of one shape.
    rng : numpy.random.Generator
        Draws the directions.
    noise : float
        Absolute error of `value` beyond rounding, for functions with an inner iteration.
    domain : tuple of float
        Where the entries of `x` must stay; directions are shortened near its ends.

    Raises
    ------
    ContractError
        With the direction, the slope that the gradient gives, and the differences.
    """
    point, gradient = np.asarray(point, float), np.asarray(gradient, float)
    require(
        gradient.shape == point.shape,
        f"gradient has shape {gradient.shape}, the point {point.shape}",
    )
    require(np.isfinite(gradient).all(), "gradient is not finite")
    at_point, near = float(value(point)), room(point, domain)
    rounding = (
        4 * EPS * (abs(at_point) + float((abs(gradient) * (1 + abs(point))).sum()))
    )
    error = noise + max(rounding, 4 * rounding_error(value, point, at_point, near, rng))

    kinks = False
    for direction in _directions(point, gradient, rng):
        kinks |= _check_slope(value, point, gradient, direction * near, at_point, error)
    if not kinks:
        _check_taylor(value, point, gradient, near, at_point, error, rng)


def room(point, domain):
    """How far each entry may go along a direction, as a share of the longest step: less near the ends of the domain."""
    return np.clip(
        np.minimum(point - domain[0], domain[1] - point) / (8 * STEPS[0]), 0, 1
    )


def rounding_error(value, point, at_point, near, rng):
    """Estimate the rounding error of a function from second differences at a step too short to bend it."""
    estimates = []
    # ±1 alone would not do: a function of differences does not feel a shift of everything
    for direction in (
        rng.choice((-1.0, 1.0), size=point.shape),
        rng.standard_normal(point.shape),
    ):
        step = 2.0**-40 * direction * near
        values = [
            np.asarray(value(point + k * step), float) if k else at_point
            for k in range(-3, 4)
        ]
        estimates.append(
            float(np.sqrt(np.mean(np.diff(values, 2, axis=0) ** 2, axis=0) / 6).max())
        )
    return max(estimates)


def differences(
    value, point, direction, at_point, *, error, tolerance=SLOPE, scale=0.0
):
    """Differences of a function along a direction, entry by entry: the derivative, or the two sides of a kink.

    Fourth-order differences, central, left and right, at up to four steps. Where the three agree at some step the
    function is smooth, and the central one counts; where they agree at none there is a kink.

    Parameters
    ----------
    value : callable
        ``value(x)``, a number or an array.
    point, direction, at_point : ndarray
        Of one shape; the value at the point.
    error : float
        Absolute error of a value.
    tolerance, scale : float
        How closely differences must agree, relative to the largest of them, or to `scale` if that is larger.

    Returns
    -------
    low, high : ndarray
        Lowest and highest derivative: equal where the function is smooth.
    allowed : ndarray
        What both may be off.
    """
    low = high = allowed = np.zeros(np.shape(at_point))
    smooth = np.zeros(np.shape(at_point), bool)
    for h in STEPS:
        f = {
            k: np.asarray(value(point + k * h * direction), float)
            for k in (-4, -3, -2, -1, 1, 2, 3, 4)
        }
        left = (25 * at_point - 48 * f[-1] + 36 * f[-2] - 16 * f[-3] + 3 * f[-4]) / (
            12 * h
        )
        right = -(25 * at_point - 48 * f[1] + 36 * f[2] - 16 * f[3] + 3 * f[4]) / (
            12 * h
        )
        central = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
        require(
            np.isfinite(left + right).all(),
            "the function is not finite next to the point",
        )
        # values near the point may be larger than at it, and so may their rounding
        rounding = max(
            error, 4 * EPS * max(float(abs(values).max()) for values in f.values())
        )
        within = tolerance * max(scale, float(abs(central).max())) + 11 * rounding / h
        lowest, highest = np.minimum(left, right), np.maximum(left, right)
        agree = np.maximum(highest, central) - np.minimum(lowest, central) <= within
        low = np.where(smooth, low, np.where(agree, central, lowest))
        high = np.where(smooth, high, np.where(agree, central, highest))
        allowed = np.where(smooth, allowed, np.where(agree, 2 * within, within))
        smooth |= agree
        if smooth.all():
            break
    return low, high, allowed


def _directions(point, gradient, rng):
    largest = int(abs(gradient).argmax())
    for i in dict.fromkeys((largest, int(rng.integers(point.size)))):
        unit = np.zeros(point.size)
        unit[i] = 1.0
        yield unit.reshape(point.shape)
    for _ in range(3):
        yield rng.choice((-1.0, 1.0), size=point.shape)


def _check_slope(value, point, gradient, direction, at_point, error):
    """Compare one slope; return whether a kink was met."""
    slope = float((gradient * direction).sum())
    scale = max(abs(slope), float(np.sqrt(((gradient * direction) ** 2).sum())))
    low, high, allowed = map(
        float, differences(value, point, direction, at_point, error=error, scale=scale)
    )
    if low == high:
        require(
            abs(slope - low) <= allowed,
            f"wrong gradient: slope {slope:.9g} along a direction where differences give {low:.9g}"
            f" (allowed {allowed:.1e})",
        )
        return False
    if not low - allowed <= slope <= high + allowed:
        moved = np.flatnonzero(direction)
        require(
            len(moved) > 1,
            f"wrong gradient at a kink: slope {slope:.9g}, but left and right derivatives are {low:.9g} and {high:.9g}",
        )
        # kinks upwards and downwards may have met, and each hides what the other leaves open: half of the entries each
        for part in np.array_split(moved, 2):
            half = np.zeros_like(direction)
            half.flat[part] = direction.flat[part]
            _check_slope(value, point, gradient, half, at_point, error)
    return True


def _check_taylor(value, point, gradient, near, at_point, error, rng):
    """Three tries, because a kink may lie a little further along one direction."""
    slopes = []
    for _ in range(3):
        direction = (
            rng.choice((-1.0, 1.0), size=point.shape) * near / math.sqrt(point.size)
        )
        slope = float((gradient * direction).sum())
        steps = [STEPS[0] * 4.0**-k for k in range(9)]
        remainders = [
            (s, abs(float(value(point + s * direction)) - at_point - s * slope))
            for s in steps
        ]
        above = [(s, r) for s, r in remainders if r > 100 * error][-3:]
        if len(above) < 3:
            return
        slopes.append(np.polyfit(*np.log(np.array(above)).T, 1)[0])
        if slopes[-1] >= TAYLOR:
            return
    raise ContractError(
        f"wrong gradient: the Taylor remainder falls with slopes {[f'{s:.2f}' for s in slopes]}"
    )


def complex_step(value, point, direction, *, step=1e-30):
    """Return the derivative of an analytic function along a direction, free of cancellation.

    A tool, not a contract: ``abs``, norms and many special functions are not analytic in this sense.
    """
    return float(
        np.imag(value(np.asarray(point) + 1j * step * np.asarray(direction))) / step
    )
