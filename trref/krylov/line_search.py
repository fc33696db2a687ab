r"""A line search for the strong Wolfe conditions.

A step along a descent direction :math:`d` must lower the function enough, and end where the slope is nearly flat. With
:math:`\varphi(t) = f(x + td)`:

.. math::
    :label: line-search-decrease

    \varphi(t) \le \varphi(0) + c_1 t\, \varphi'(0)

.. math::
    :label: line-search-curvature

    |\varphi'(t)| \le c_2\, |\varphi'(0)|

The second condition gives :math:`d^\top y > 0` for the change :math:`y` of the gradient, which quasi-Newton and
conjugate gradient methods need. For every smooth function that is bounded below along :math:`d` and :math:`0 < c_1 <
c_2 < 1` such steps exist. The search doubles the step until an interval must hold one, and then shrinks that interval
around its better end. The trial points are minimisers of the cubic through values and slopes at both ends,

.. math::
    :label: line-search-cubic

    t = b - (b - a)\, \frac{\varphi'_b + \sqrt{\delta} - \eta}{\varphi'_b - \varphi'_a + 2\sqrt{\delta}}, \qquad
    \eta = \varphi'_a + \varphi'_b - 3\, \frac{\varphi_a - \varphi_b}{a - b}, \qquad
    \delta = \eta^2 - \varphi'_a \varphi'_b

with the root's sign that of :math:`b - a`, and the middle of the interval where that falls near an end.

**Where implementations differ.** Close to a minimum the first condition fails by rounding long before the second: the
value changes by less than its last digit. Most implementations then give up. Here values may rise by
four units in the last place, after which the slopes decide, in the spirit of Hager and Zhang's approximate conditions.

**Provenance.** Confirmed: textbook (Nocedal and Wright, algorithms 3.5 and 3.6); compared with SciPy's ``line_search``.

Nocedal and Wright, *Numerical Optimization*, 2006, chapter 3.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.terms import floats
from trref.signature import N, OpenFraction, PositiveFloat, PositiveInt, Real, checked


class LineSearchResult(NamedTuple):
    """The point x + t d, t, value and gradient there, and all values tried."""

    x: Real[N]
    step: float
    value: float
    gradient: Real[N]
    values: list[float]
    iterations: int
    converged: bool


class _Trial(NamedTuple):
    """A step with the value, the slope, the point and the gradient there."""

    step: float
    value: float
    slope: float
    x: Any
    gradient: Any


def ordered(c1, c2, **_):
    """A `c2` that is not larger than `c1`."""
    if c1 >= c2:
        raise ValueError(f"c2 must be larger than c1 = {c1}, not {c2}")
    return []


@checked(also=ordered)
def strong_wolfe(
    loss_and_grad: Callable,
    x: Real[N],
    direction: Real[N],
    *,
    first_step: PositiveFloat = 1.0,
    c1: OpenFraction = 1e-4,
    c2: OpenFraction = 0.1,
    max_iter: PositiveInt = 40,
) -> LineSearchResult:
    """Find a step along a descent direction that satisfies the strong Wolfe conditions.

    Parameters
    ----------
    x
        The start.
    direction
        It descends: ``gradient(x)·direction < 0``.
    first_step
        The first trial.
    c1, c2
        0 < c1 < c2 < 1. A c2 of 0.1 suits conjugate gradients (Fletcher-Reeves needs c2 < 1/2), 0.9 quasi-Newton.
    max_iter
        Counts trials.

    Warns
    -----
    ConvergenceWarning
        No such step within `max_iter` trials; the result is the lowest point found that decreases the value enough.
    """
    value, gradient = validate.loss_and_grad(loss_and_grad, x)
    value, slope = floats(xp.asarray(value, dtype=x.dtype), gradient @ direction)
    if not math.isfinite(value + slope):
        raise ValueError(
            f"loss_and_grad must be finite at x: value {value:.3g}, gradient·direction = {slope:.3g}"
        )
    if not slope < 0:
        raise ValueError(f"direction must descend: gradient·direction = {slope:.3g}")
    result = search(
        loss_and_grad,
        (x.copy(), value, gradient, slope),
        direction,
        first_step,
        c1,
        c2,
        max_iter,
    )
    if not result.converged:
        message = f"strong_wolfe found no step within {max_iter} trials"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return result


def search(loss_and_grad, start, direction, first_step, c1, c2, max_iter):
    """Search from ``start = (x, value, gradient, slope)``; see `strong_wolfe`."""
    x, value, gradient, slope = start
    origin = _Trial(0.0, value, slope, x, gradient)
    slack = 4 * float(xp.finfo(x.dtype).eps) * abs(value)
    low, high, step, values = origin, None, first_step, []
    while len(values) < max_iter:
        trial = _evaluate(loss_and_grad, x, direction, step)
        values.append(trial.value)
        # eq. line-search-decrease
        decreases = trial.value <= value + c1 * step * slope + slack

        flat = abs(trial.slope) <= -c2 * slope  # eq. line-search-curvature
        if decreases and flat:
            return LineSearchResult(
                trial.x, step, trial.value, trial.gradient, values, len(values), True
            )
        # low is the best step so far that decreases enough; its slope points to high, beyond which there is none
        if not decreases or trial.value > low.value + slack:
            high = trial
        else:
            if (high is None and trial.slope >= 0) or (
                high is not None and trial.slope * (high.step - low.step) >= 0
            ):
                high = low
            low = trial
        step = 2 * step if high is None else _between(low, high)
    return LineSearchResult(
        low.x, low.step, low.value, low.gradient, values, len(values), False
    )


def _evaluate(loss_and_grad, x, direction, step):
    point = x + step * direction
    value, gradient = validate.loss_and_grad(loss_and_grad, point)
    value, slope = floats(xp.asarray(value, dtype=x.dtype), gradient @ direction)
    return _Trial(step, value, slope, point, gradient)


def _between(a, b):
    """The minimiser of the cubic, or the middle where that is not well inside the interval."""
    if a.step == b.step:  # the shortest steps that floats know
        return a.step
    # eq. line-search-cubic
    eta = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    size = max(abs(eta), abs(a.slope), abs(b.slope))
    if not math.isfinite(size):
        return (a.step + b.step) / 2
    # in units of a power of two where squares would overflow or vanish
    unit = 0 if 1e-100 < size < 1e100 else -math.frexp(size)[1]
    eta, at_a, at_b = (math.ldexp(s, unit) for s in (eta, a.slope, b.slope))
    delta = eta**2 - at_a * at_b
    if delta > 0:
        root = math.copysign(math.sqrt(delta), b.step - a.step)
        denominator = at_b - at_a + 2 * root
        if denominator != 0:
            step = b.step - (b.step - a.step) * (at_b + root - eta) / denominator
            if 0.1 <= (step - a.step) / (b.step - a.step) <= 0.9:
                return step

    return (a.step + b.step) / 2
