r"""Symplectic adjoint guidance: the exact gradient of a sampler of a few steps, from its states alone.

Guidance without training wants the gradient of a loss on the *clean* data by the noisy point. One step of denoising
gives a poor guess of them early on; here they are estimated by n steps of an ODE solver. The probability flow has no
linear term in either of two forms, with :math:`x = \alpha x_0 + \sigma\varepsilon` and the ratio of noise to signal
:math:`\rho = \sigma/\alpha`:

.. math::
    :label: symplectic-adjoint-flow

    \text{noise: } y = \frac x\alpha, \;\; s = \rho, \;\;
    \frac{\mathrm dy}{\mathrm ds} = \hat\varepsilon(\alpha y, t(s)); \qquad
    \text{data: } y = \frac x\sigma, \;\; s = \frac1\rho, \;\;
    \frac{\mathrm dy}{\mathrm ds} = \hat x_0(\sigma y, t(s)).

An explicit Runge-Kutta method with coefficients a, b and c takes steps of length h on a grid of levels,

.. math::
    :label: symplectic-adjoint-steps

    X_i = y_n + h \sum_{j<i} a_{ij} k_j, \qquad k_i = F(s_n + c_i h, X_i), \qquad
    y_{n+1} = y_n + h \sum_i b_i k_i.

Only the :math:`y_n` are kept. Backwards the stages of a step are computed again, and from the last to the first

.. math::
    :label: symplectic-adjoint-adjoint

    \bar k_i = h\, b_i \lambda_{n+1} + h \sum_{j>i} a_{ji} w_j, \qquad
    w_i = \Big( \frac{\partial F}{\partial y}(X_i) \Big)^{\!\top} \bar k_i, \qquad
    \lambda_n = \lambda_{n+1} + \sum_i w_i,

which is the chain rule of what was computed, to rounding and whatever the step is. Where no :math:`b_i` is zero it is
the adjoint equation :math:`\dot\lambda = -F_y^\top\lambda` under the partner of the method that keeps
:math:`\lambda_n^\top\delta_n` for every tangent :math:`\delta_n`: hence the name. Parameters of the model collect
:math:`(\partial F/\partial\theta)^\top \bar k_i`. The loss enters at the end and leaves at the start,

.. math::
    :label: symplectic-adjoint-chain

    \lambda_n = c_N \nabla L(x_N), \qquad \nabla_x L = \frac{\lambda_0}{c_0},

with c the scale :math:`\alpha` or :math:`\sigma` of its form. One Euler step of the first form to :math:`\rho = 0` is
the usual guess, :math:`\hat x_0`. A sampler's step is then moved against the gradient g, by a share of what
classifier-free guidance moves it,

.. math::
    :label: symplectic-adjoint-step

    x \leftarrow x - \gamma\, w\, \frac{\mathrm{rms}(\varepsilon_c - \varepsilon_u)}{\mathrm{rms}(g)}\, g,

where w is the guidance scale; and may be taken back to the level before, to be repeated ("time travel"):

.. math::
    :label: symplectic-adjoint-travel

    x \leftarrow \sqrt r\, x + \sqrt{1 - r}\, z, \qquad r = \frac{\bar\alpha_t}{\bar\alpha_s}.

Rows are samples of their own: losses are summed, and rms is taken in each row. A gradient of zero moves nothing. A
level of 0 is asked of the model at the time of the ratio 1e-12.

**Where implementations differ.** The authors' code snaps every stage to the nearest level of its grid, in time and in
scale, which undoes the order of midpoint and Runge-Kutta steps, and takes rms over the whole batch. Adjoint solvers
such as torchdiffeq's integrate the point and the adjoint backwards: that is the gradient of the solution, not of the
steps, and off by the error of the method.

**Provenance.** Both forms, the step with its constant 0.2 and the repeats confirmed by the authors' code
(HanshuYAN/AdjointDPM, bf707af, img_guided_sampling), where n above 1 counts levels, so n - 1 steps, the last of which
ends where the sampler's grid does; the adjoint derived here, and checked with differences and with dense products of
Jacobians.

Pan, Yan, Liew, Feng and Tan, *Towards Accurate Guided Diffusion Sampling through Symplectic Adjoint Method*, 2023,
arXiv:2312.12030.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.diffusion.noise_schedules import Schedule, time_at
from trref.diffusion.terms import a_step, predicted, pulled
from trref.problems.denoisers import AskedNetwork
from trref.problems.protocols import DenoisingModel, DenoisingNetwork
from trref.signature import (
    K1,
    D,
    N,
    NonNegative,
    NonNegativeFloat,
    OpenFraction,
    P,
    Real,
    Scalar,
    checked,
)

Given = Literal["noise", "data"]
Rule = Literal["euler", "midpoint", "heun", "rk4"]

TABLEAUX = {  # coefficients a (row by row), b and c
    "euler": (((),), (1.0,), (0.0,)),
    "midpoint": (((), (0.5,)), (0.0, 1.0), (0.0, 0.5)),
    "heun": (((), (1.0,)), (0.5, 0.5), (0.0, 1.0)),
    "rk4": (
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
        (0.0, 0.5, 0.5, 1.0),
    ),
}


class Gradients(NamedTuple):
    """Of a loss on where the flow ends: by the parameters, and by where it starts."""

    theta: Real[P]
    x: Real[N, D]


def _falling(levels, given, **_):
    """Levels that rise, fewer than two, no noise at the start, and none at the end where data are predicted."""
    a_step(levels=levels)
    flags = [(lambda: (levels[1:] <= levels[:-1]).all(), "levels must not rise")]
    last = len(levels) - (given == "noise")
    noisy = lambda: (levels[:last] > 0).all()  # noqa: E731
    return [
        *flags,
        (
            noisy,
            "levels must be positive before the end, and at it where data are predicted",
        ),
    ]


def _scales(ratio, given, schedule):
    """The signal level, or the noise level, that belongs to a ratio of noise to signal."""
    if schedule == "vp":
        alpha = 1 / xp.sqrt(1 + ratio**2)
    else:
        alpha = 1 / (1 + ratio) if schedule == "flow" else xp.ones_like(ratio)
    return alpha if given == "noise" else ratio * alpha


class _Grid(NamedTuple):
    """Lengths of the steps (K), scales and times of their stages (K, S), scales at the ends, and the method."""

    lengths: Real[K1]
    scales: Real[K1]
    times: Real[K1]
    start: Scalar
    end: Scalar
    rule: str


def _grid(levels, given, rule, schedule):
    s = levels if given == "noise" else 1 / levels
    lengths = s[1:] - s[:-1]
    nodes = xp.asarray(TABLEAUX[rule][2], dtype=levels.dtype)
    stages = s[:-1, None] + nodes * lengths[:, None]
    ratio = stages if given == "noise" else 1 / stages
    times = time_at.unchecked(-2 * xp.log(xp.maximum(ratio, 1e-12)), schedule=schedule)
    ends = _scales(levels, given, schedule)
    scales = _scales(ratio, given, schedule)
    return _Grid(lengths, scales, times, ends[0], ends[-1], rule)


def _step(ask, y, grid, k):
    """One step from y; also what the model needs for its derivative at each stage."""
    a, b, _ = TABLEAUX[grid.rule]
    h, slopes, caches = grid.lengths[k], [], []
    # eq. symplectic-adjoint-steps
    for i, row in enumerate(a):
        X = y + h * sum(a_ij * k_j for a_ij, k_j in zip(row, slopes, strict=True))
        slope, cache = ask(grid.scales[k, i] * X, grid.times[k, i])
        slopes.append(slope)
        caches.append(cache)
    return y + h * sum(b_i * k_i for b_i, k_i in zip(b, slopes, strict=True)), caches


def _path(ask, x, grid):
    """All states y of the flow, from a noisy point x."""
    # eq. symplectic-adjoint-flow
    path = [x / grid.start]
    for k in range(len(grid.lengths)):
        path.append(_step(ask, path[-1], grid, k)[0])
    return path


def _back(ask, pull, path, cotangent, grid):
    """From a cotangent of the end to one of the start; `pull` is told every stage's own."""
    a, b, _ = TABLEAUX[grid.rule]
    adjoint = grid.end * cotangent  # eq. symplectic-adjoint-chain
    for k in reversed(range(len(grid.lengths))):
        h, (_, caches) = grid.lengths[k], _step(ask, path[k], grid, k)
        w = {}
        # eq. symplectic-adjoint-adjoint
        for i in reversed(range(len(b))):
            later = sum(a[j][i] * w[j] for j in w)
            k_bar = h * b[i] * adjoint + h * later
            w[i] = grid.scales[k, i] * pull(caches[i], k_bar)
        adjoint = adjoint + sum(w.values())

    return adjoint / grid.start


def _of_model(model):
    """How to ask a model, and to pull a cotangent back through its answer."""

    def ask(x, time):
        prediction = predicted(model, x, time)
        validate.finite_on_the_host("model", prediction)
        return prediction, (x, time)

    def pull(cache, cotangent):
        x, time = cache
        return pulled(model, x, time, cotangent)

    return ask, pull


@checked(also=_falling)
def solve_flow(
    model: Callable,
    x: Real[N, D],
    levels: NonNegative[K1],
    *,
    given: Given = "noise",
    rule: Rule = "euler",
    schedule: Schedule = "vp",
) -> Real[N, D]:
    """Follow the probability flow from one level to another.

    Parameters
    ----------
    model
        ``model(x (N, D), t (N,)) -> (N, D)``: what is predicted at noise time t.
    x
        Noisy points at the first level.
    levels
        Ratios of noise to signal, from large to small; 0 is the data, where the noise is predicted.
    given
        What the model predicts, and with it the form of the flow.
    rule
        The Runge-Kutta method.
    schedule
        Of the model, with the numbers that `trref.problems.mixtures` gives it.
    """
    grid = _grid(levels, given, rule, schedule)
    # eq. symplectic-adjoint-chain
    return grid.end * _path(_of_model(model)[0], x, grid)[-1]


@checked(also=_falling)
def symplectic_adjoint(
    model: DenoisingModel,
    x: Real[N, D],
    levels: NonNegative[K1],
    cotangent: Real[N, D],
    *,
    given: Given = "noise",
    rule: Rule = "euler",
    schedule: Schedule = "vp",
) -> Real[N, D]:
    """Return the derivative of ``sum(cotangent * solve_flow(model, x, levels))`` by x.

    Parameters
    ----------
    model
        What is predicted, with its derivative, such as `trref.problems.mixtures.MixtureNoise`.
    cotangent
        Of the end of the flow.
    """
    grid = _grid(levels, given, rule, schedule)
    ask, pull = _of_model(model)
    return _back(ask, pull, _path(ask, x, grid), cotangent, grid)


@checked(also=_falling)
def guidance(
    model: DenoisingModel,
    x: Real[N, D],
    levels: NonNegative[K1],
    loss: Callable,
    *,
    given: Given = "noise",
    rule: Rule = "euler",
    schedule: Schedule = "vp",
) -> tuple[Scalar, Real[N, D]]:
    """The sum of a loss over the points where the flow ends, and its gradient by where it starts.

    Parameters
    ----------
    model
        What is predicted, with its derivative, such as `trref.problems.mixtures.MixtureNoise`.
    loss
        ``loss(x (N, D)) -> (values (N), gradients (N, D))``, of each row by itself.

    Returns
    -------
    loss
    gradient
        With respect to `x`.
    """
    grid = _grid(levels, given, rule, schedule)
    ask, pull = _of_model(model)
    path = _path(ask, x, grid)
    values, gradients = validate.rows(loss, grid.end * path[-1], "loss")
    return values.sum(), _back(ask, pull, path, gradients, grid)


@checked(also=_falling)
def trained_guidance(
    network: DenoisingNetwork,
    theta: Real[P],
    x: Real[N, D],
    levels: NonNegative[K1],
    loss: Callable,
    *,
    given: Given = "noise",
    rule: Rule = "euler",
    schedule: Schedule = "vp",
) -> tuple[Scalar, Gradients]:
    """The same for a network, with the gradient by its parameters as well.

    Parameters
    ----------
    network
        Such as `trref.problems.denoisers.TimeNetwork`.

    Returns
    -------
    loss
    gradients
        With respect to `theta` and `x`.
    """
    grid, asked = _grid(levels, given, rule, schedule), AskedNetwork("network", network)
    d_theta = [xp.zeros_like(theta)]

    def pull(cache, cotangent):
        by_theta, by_x = asked.vjp(cache, cotangent)
        d_theta.append(d_theta.pop() + by_theta)
        return by_x

    def ask(x, time):
        return asked.forward(theta, x, time)

    path = _path(ask, x, grid)
    values, gradients = validate.rows(loss, grid.end * path[-1], "loss")
    d_x = _back(ask, pull, path, gradients, grid)
    return values.sum(), Gradients(d_theta[0], d_x)


def _rms(x):
    return xp.sqrt((x * x).mean(1, keepdims=True))


@checked
def guided_step(
    x: Real[N, D],
    gradient: Real[N, D],
    gap: Real[N, D],
    *,
    strength: NonNegativeFloat = 0.2,
    scale: NonNegativeFloat = 7.5,
) -> Real[N, D]:
    """Move the result of a sampler's step against the gradient of a loss.

    Parameters
    ----------
    x
        After the step without guidance.
    gradient
        By the point before the step.
    gap
        Noise predicted with the condition, less that without.
    strength
        The share gamma.
    scale
        Of classifier-free guidance, w.
    """
    size = _rms(gradient)
    # eq. symplectic-adjoint-step
    weight = strength * scale * _rms(gap) / xp.where(size > 0, size, 1)
    return x - weight * gradient


def _back_to_noise(alpha_bar, next_alpha_bar, **_):
    """Levels in the wrong order."""
    if next_alpha_bar < alpha_bar:
        raise ValueError(f"next_alpha_bar must not be below alpha_bar = {alpha_bar}")
    return []


@checked(also=_back_to_noise)
def travel_back(
    x: Real[N, D],
    z: Real[N, D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: Annotated[float, "(0, 1]"] = 0.8,
) -> Real[N, D]:
    """Take a point after a step back to the level before it, by fresh noise.

    Parameters
    ----------
    x
        After the step.
    z
        Fresh standard normal noise.
    alpha_bar, next_alpha_bar
        Squared signal level before and after the step that is taken back.
    """
    # eq. symplectic-adjoint-travel
    r = alpha_bar / next_alpha_bar
    return math.sqrt(r) * x + math.sqrt(1 - r) * z
