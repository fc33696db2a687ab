r"""DPM-Solver++: solvers that expand the prediction of the data, with an exact linear part.

With :math:`\lambda = \log(\alpha/\sigma)` the probability flow of a prediction D of the data is, from level s to t,
:math:`h = \lambda_t - \lambda_s`,

.. math::

    x_t = \frac{\sigma_t}{\sigma_s} x_s + \sigma_t \int_{\lambda_s}^{\lambda_t} e^\lambda D(\lambda)\,\mathrm d\lambda,

and only D has to be approximated. If it is constant, that is DDIM
(:func:`trref.diffusion.probability_flow.exponential_step`, given the data),

.. math::
    :label: dpm-solver-pp-first

    x_t = \frac{\sigma_t}{\sigma_s} x - \alpha_t \phi_1(h)\, D_s, \qquad \phi_1(h) = e^{-h} - 1.

**2M** takes the slope of D from the last prediction, at level r, and calls the model once a step. With
:math:`\rho = (\lambda_s - \lambda_r)/h` and :math:`D' = (D_s - D_r)/\rho` the term :math:`-\tfrac12\alpha_t\phi_1 D'`
("midpoint") or the integral of the slope ("heun") is added:

.. math::
    :label: dpm-solver-pp-multistep

    x_t = \frac{\sigma_t}{\sigma_s} x - \alpha_t \phi_1 D_s + c\, D', \qquad
    c = -\tfrac12\alpha_t\phi_1 \;\;\text{or}\;\; c = \alpha_t \Big( \frac{\phi_1}h + 1 \Big).

The first step has no last prediction, the step to the data (:math:`h = \infty`) no second order, and both are of the
first. **2S** asks the model once more, at :math:`\lambda_s + r_1 h`, reached by the first order, and takes the slope
from there, with :math:`D' = (D_u - D_s)/r_1`:

.. math::
    :label: dpm-solver-pp-single

    x_t = \frac{\sigma_t}{\sigma_s} x - \alpha_t \phi_1 D_s + c\, \frac{D_u - D_s}{r_1}.

**3S** asks it at :math:`r_1 = \tfrac13` and :math:`r_2 = \tfrac23` of the way, the second reached with the slope from
the first:

.. math::
    :label: dpm-solver-pp-third

    u_2 = \frac{\sigma_{r_2}}{\sigma_s} x - \alpha_{r_2} \phi_1(r_2 h) D_s + \frac{r_2}{r_1} \alpha_{r_2}
    \Big( \frac{\phi_1(r_2 h)}{r_2 h} + 1 \Big) (D_{u_1} - D_s), \qquad
    x_t = \frac{\sigma_t}{\sigma_s} x - \alpha_t \phi_1 D_s + \frac{\alpha_t}{r_2} \Big( \frac{\phi_1}h + 1 \Big)
    (D_{u_2} - D_s).

**Orders of single steps** that spend n calls of the model: as many steps of the highest order as fit, and the rest as
one of a lower order; of the third order one less where nothing is left, so that the last step is of a lower one,

.. math::
    :label: dpm-solver-pp-orders

    n = 3m: \; 3^{m-1}, 2, 1, \qquad n = 3m + 1: \; 3^m, 1, \qquad n = 3m + 2: \; 3^m, 2; \qquad
    \text{up to the second order: } 2^{\lfloor n/2 \rfloor}, \text{ and } 1 \text{ if n is odd}.

All are of the order of their name, 3S only with :math:`r_2 = \tfrac23`: any other share leaves the second. Levels are
given as ratios :math:`\sigma/\alpha`, and models see the noise times of their schedule.

**Where implementations differ.** diffusers takes two steps of the first order for a last single step of the second.
diffusers and the authors take the first order at the end of short runs (below 15 and below 10 steps), k-diffusion only
to the data itself. A ratio of steps turned upside down, present over last, is a slip that no test of the order finds:
what it gets wrong telescopes.

**Provenance.** All forms confirmed by the authors' code (LuChengTHU/dpm-solver) and by diffusers, the first and 2M by
k-diffusion too; orders and exact cases checked here.

Lu, Zhou, Bao, Chen, Li and Zhu, *DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models*,
2022, arXiv:2211.01095.
"""

import math
from collections.abc import Callable
from typing import Literal

from trref.backend import to_host, xp
from trref.diffusion.noise_schedules import Schedule, time_at
from trref.diffusion.terms import a_step, finite, predicted
from trref.signature import (
    K1,
    D,
    Index,
    K,
    N,
    NonNegative,
    NonNegativeInt,
    OpenFraction,
    PositiveInt,
    Real,
    checked,
)

Kind = Literal["midpoint", "heun"]


def _falling(levels, **_):
    """Levels that do not fall, that are 0 before the end, or fewer than two."""
    a_step(levels=levels)
    return [
        (lambda: (levels[1:] < levels[:-1]).all(), "levels must fall"),
        (lambda: levels[-2] > 0, "levels must be positive before the end"),
    ]


def _alpha(ratio, schedule):
    """The signal level that belongs to a ratio of noise to signal."""
    return {
        "vp": lambda: 1 / math.sqrt(1 + ratio**2),
        "ve": lambda: 1.0,
        "flow": lambda: 1 / (1 + ratio),
    }[schedule]()


def _ask(model, x, ratio, schedule):
    log_ratio = xp.zeros_like(x[0, 0]) - 2 * math.log(ratio)
    return predicted(model, x, time_at.unchecked(log_ratio, schedule=schedule))


def _first(x, D, now, then, schedule):
    """A step of the first order between two ratios; e^-h is their quotient."""
    a, b = _alpha(now, schedule), _alpha(then, schedule)
    kept = then / now
    return kept * b / a * x + b * (1 - kept) * D  # eq. dpm-solver-pp-first


def _slope_weight(now, then, kind, schedule):
    """What multiplies the change of the prediction over one whole step."""
    b, phi = _alpha(then, schedule), then / now - 1
    if kind == "midpoint":
        return -b * phi / 2
    return b * (phi / math.log(now / then) + 1)


@checked(also=_falling)
def multistep(
    model: Callable,
    x: Real[N, D],
    levels: NonNegative[K1],
    *,
    kind: Kind = "midpoint",
    lower_order_below: NonNegativeInt = 0,
    schedule: Schedule = "vp",
) -> Real[N, D]:
    """Take the steps of DPM-Solver++(2M) on a grid.

    Parameters
    ----------
    model
        ``model(x (N, D), t (N,)) -> (N, D)``: the predicted data at noise time t, such as
        `trref.problems.mixtures.MixtureDenoiser`.
    x
        Noisy data at the first level.
    levels
        Ratios of noise to signal, falling; 0 is the data.
    kind
        How the slope of the prediction enters.
    lower_order_below
        With fewer steps than this, the last one is of the first order.
    schedule
        Of the model, with the numbers that `trref.problems.mixtures` gives it.

    Raises
    ------
    ValueError
        A `model` whose result has another shape or is not finite.
    """
    grid = to_host(levels).tolist()
    steps, last = len(grid) - 1, None
    for k in range(steps):
        now, then = grid[k], grid[k + 1]
        D = _ask(model, x, now, schedule)
        x = _first(x, D, now, then, schedule)
        short = k == steps - 1 and steps < lower_order_below
        if last is not None and then > 0 and not short:
            rho = math.log(grid[k - 1] / now) / math.log(now / then)
            weight = _slope_weight(now, then, kind, schedule)
            x = x + weight / rho * (D - last)  # eq. dpm-solver-pp-multistep
        last = D
    return finite(x)


@checked(also=_falling)
def singlestep_2(
    model: Callable,
    x: Real[N, D],
    levels: NonNegative[K1],
    *,
    r1: OpenFraction = 0.5,
    kind: Kind = "midpoint",
    schedule: Schedule = "vp",
) -> Real[N, D]:
    """Take the steps of DPM-Solver++(2S) on a grid: two calls of the model each, one where it ends in the data.

    Parameters
    ----------
    r1
        Share of the step, in the logarithm of the ratio, after which the model is asked again.

    Raises
    ------
    ValueError
        A `model` whose result has another shape or is not finite.
    """
    grid = to_host(levels).tolist()
    for k in range(len(grid) - 1):
        now, then = grid[k], grid[k + 1]
        D = _ask(model, x, now, schedule)
        end = _first(x, D, now, then, schedule)
        if then > 0:
            middle = now * (then / now) ** r1
            u = _first(x, D, now, middle, schedule)
            change = _ask(model, u, middle, schedule) - D
            weight = _slope_weight(now, then, kind, schedule)
            end = end + weight / r1 * change  # eq. dpm-solver-pp-single
        x = end
    return finite(x)


@checked(also=_falling)
def singlestep_3(
    model: Callable,
    x: Real[N, D],
    levels: NonNegative[K1],
    *,
    r1: OpenFraction = 1 / 3,
    r2: OpenFraction = 2 / 3,
    schedule: Schedule = "vp",
) -> Real[N, D]:
    """Take the steps of DPM-Solver++(3S) on a grid: three calls of the model each, one where it ends in the data.

    Parameters
    ----------
    r1, r2
        Shares of the step after which the model is asked again; the third order needs r2 = 2/3.

    Raises
    ------
    ValueError
        A `model` whose result has another shape or is not finite.
    """
    grid = to_host(levels).tolist()
    for k in range(len(grid) - 1):
        now, then = grid[k], grid[k + 1]
        D = _ask(model, x, now, schedule)
        end = _first(x, D, now, then, schedule)
        if then > 0:
            one, two = (now * (then / now) ** r for r in (r1, r2))
            # eq. dpm-solver-pp-third
            u = _first(x, D, now, one, schedule)
            change = _ask(model, u, one, schedule) - D
            u = _first(x, D, now, two, schedule)
            u = u + r2 / r1 * _slope_weight(now, two, "heun", schedule) * change
            change = _ask(model, u, two, schedule) - D
            end = end + _slope_weight(now, then, "heun", schedule) / r2 * change
        x = end

    return finite(x)


@checked
def step_orders(*, calls: PositiveInt = 20, order: Literal[1, 2, 3] = 3) -> Index[K]:
    """Return the orders of single steps, one after the other, that call the model so many times.

    Parameters
    ----------
    calls
        Of the model, over all steps.
    order
        The highest of a step.
    """
    whole, rest = divmod(calls, order)
    # eq. dpm-solver-pp-orders
    if order == 3 and rest == 0:
        orders = [3] * (whole - 1) + [2, 1]
    else:
        orders = [order] * whole + [rest] * (rest > 0)
    return xp.asarray(orders, dtype=int)
