r"""Flow matching sampling: Euler and Heun steps of a velocity, and where the steps lie.

On the straight path :math:`x_u = (1-u)\,x_0 + u\varepsilon`, in noise time u, a model predicts the velocity
:math:`v = \varepsilon - x_0`, and any solver leads from noise at 1 to data at 0. A step of Euler's rule to
:math:`u' < u`,

.. math::
    :label: flow-euler-step

    x' = x + (u' - u)\, v,

keeps the path of its own guesses, :math:`x' = (1-u')\,\hat x_0 + u'\hat\varepsilon` with :math:`\hat x_0 = x - uv` and
:math:`\hat\varepsilon = x + (1-u)v`: up to the scale of x it is a step of DDIM. Heun's rule takes the mean of two
velocities, unless it ends in the data:

.. math::
    :label: flow-euler-heun

    \bar x = x + (u' - u)\, v(x, u), \qquad x' = x + \frac{u' - u}2 \big( v(x, u) + v(\bar x, u') \big).

A third step keeps the guess of the data and draws all noise anew, which is no small step of an equation with noise:

.. math::
    :label: flow-euler-stochastic

    x' = (1-u')\,\hat x_0 + u' z.

Equal steps are shifted towards the noise by multiplying the odds :math:`u/(1-u)`, which are the ratio of noise to
signal:

.. math::
    :label: flow-euler-shift

    \mathrm{sh}_s(u) = \frac{s\,u^p}{s\,u^p + (1-u)^p},

with a power p of 1 as a rule, where :math:`\mathrm{sh}_a \circ \mathrm{sh}_b = \mathrm{sh}_{ab}`; 0 and 1 stay. Levels
at positions from 0 to 1 are

.. math::
    :label: flow-euler-levels

    u(p) = \mathrm{sh}_s\big( 1 - p\,(1 - u_{min}) \big),

with :math:`u_{min} = 0` for N + 1 positions :math:`i/N`, or a small level for N positions and a last step to 0. Larger
images are given larger shifts, :math:`s = e^\mu`, on a line through two counts of tokens, and levels may be stretched
so that the last of them is :math:`\tau`:

.. math::
    :label: flow-euler-dynamic

    \mu(m) = \mu_0 + \frac{m - m_0}{m_1 - m_0}\,(\mu_1 - \mu_0), \qquad
    u_i \leftarrow 1 - (1 - u_i)\,\frac{1 - \tau}{1 - u_N}.

**Where implementations differ.** diffusers shifts the smallest level when it is made and, as the end of the grid, once
more. Data time has the opposite velocity: facebookresearch/flow_matching runs from noise at 0 to data at 1.

**Provenance.** Steps, shift and the line confirmed by black-forest-labs/flux and by diffusers; Heun's rule by
diffusers; group, limits and orders derived and checked here.

Lipman, Chen, Ben-Hamu, Nickel and Le, *Flow Matching for Generative Modeling*, 2022, arXiv:2210.02747; the shift: Esser
et al., *Scaling Rectified Flow Transformers for High-Resolution Image Synthesis*, 2024, arXiv:2403.03206.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from trref import validate
from trref.backend import to_host, xp
from trref.diffusion.terms import not_rising, predicted
from trref.signature import (
    K1,
    D,
    Decay,
    FiniteFloat,
    Fraction,
    N,
    OpenFraction,
    Positive,
    PositiveFloat,
    Prob,
    Real,
    checked,
)

Factor = Annotated[float, "[1e-3, 1e3]"]
Power = Annotated[float, "[0.1, 10]"]


def _downwards(u, next_u, **_):
    """A step away from the data."""
    if next_u > u:
        raise ValueError(f"next_u must not be above u = {u}")
    return []


@checked(also=_downwards)
def euler_step(
    x: Real[N, D], velocity: Real[N, D], *, u: Fraction = 0.6, next_u: Fraction = 0.2
) -> Real[N, D]:
    """Take one step of Euler's rule towards the data.

    Parameters
    ----------
    x
        Where it is.
    velocity
        The model's estimate of noise less data.
    u, next_u
        Noise time now and after the step.
    """
    return x + (next_u - u) * velocity  # eq. flow-euler-step


@checked(also=_downwards)
def stochastic_step(
    x: Real[N, D],
    velocity: Real[N, D],
    z: Real[N, D],
    *,
    u: Fraction = 0.6,
    next_u: Fraction = 0.2,
) -> Real[N, D]:
    """Keep the estimate of the data, and draw all of the noise anew.

    Parameters
    ----------
    z
        Fresh standard normal noise.
    """
    data = x - u * velocity
    return (1 - next_u) * data + next_u * z  # eq. flow-euler-stochastic


@checked(also=not_rising)
def velocity_path(
    model: Callable,
    x: Real[N, D],
    times: Prob[K1],
    *,
    rule: Literal["euler", "heun"] = "euler",
) -> Real[N, D]:
    """Follow a velocity from noise to data on a given grid.

    Parameters
    ----------
    model
        ``model(x (N, D), t (N,)) -> (N, D)``: noise less data at noise time t, such as
        `trref.problems.mixtures.MixtureVelocity`.
    x
        Noise at the first time.
    times
        Noise times, from large to small.
    rule
        With ``"heun"`` the model is called twice a step, but for one that ends at 0.

    Raises
    ------
    ValueError
        A `model` whose result has another shape or is not finite.
    """
    grid = to_host(times).tolist()
    for k in range(len(grid) - 1):
        u, then = grid[k], grid[k + 1]
        v = predicted(model, x, times[k])
        end = euler_step.unchecked(x, v, u=u, next_u=then)
        if rule == "heun" and then > 0:
            v = (v + predicted(model, end, times[k + 1])) / 2
            end = euler_step.unchecked(x, v, u=u, next_u=then)  # eq. flow-euler-heun
        x = end
    validate.require((lambda: xp.isfinite(x).all(), "model must give finite values"))
    return x


@checked
def shift(u: Prob[N], *, factor: Factor = 3.0, power: Power = 1.0) -> Real[N]:
    """Move noise times towards the noise, or with a factor below 1 towards the data.

    Parameters
    ----------
    u
        Noise times.
    factor
        What the odds are multiplied by; where the shift is given by its logarithm mu, the exponential of that.
    power
        What they are raised to before.
    """
    noisy = factor * u**power
    return noisy / (noisy + (1 - u) ** power)  # eq. flow-euler-shift


@checked
def shifted_levels(
    position: Prob[N], *, factor: Factor = 3.0, smallest: Decay = 0.0
) -> Real[N]:
    """Return the noise times of a shifted grid.

    Parameters
    ----------
    position
        0 for noise time 1, 1 for the smallest.
    smallest
        Noise time at position 1, before the shift.
    """
    # eq. flow-euler-levels
    return shift.unchecked(1 - position * (1 - smallest), factor=factor)


def _apart(few, many, **_):
    """Counts of tokens in the wrong order."""
    if many <= few:
        raise ValueError(f"many must be above few = {few}")
    return []


@checked(also=_apart)
def dynamic_mu(
    tokens: Positive[N],
    *,
    few: PositiveFloat = 256.0,
    many: PositiveFloat = 4096.0,
    mu_few: FiniteFloat = 0.5,
    mu_many: FiniteFloat = 1.15,
) -> Real[N]:
    """Return the logarithm of the shift for images of some counts of tokens.

    Parameters
    ----------
    tokens
        How many tokens each image has.
    few, many
        Counts at which the logarithm is given.
    mu_few, mu_many
        The logarithm there.
    """
    # eq. flow-euler-dynamic
    return mu_few + (tokens - few) / (many - few) * (mu_many - mu_few)


def _with_signal(u, **_):
    """A last level of pure noise."""
    return [(lambda: u[-1] < 1, "u must end below 1")]


@checked(also=_with_signal)
def stretch(u: Prob[N], *, terminal: OpenFraction = 0.02) -> Real[N]:
    """Stretch levels so that the last of them is a given one; noise time 1 stays.

    Parameters
    ----------
    u
        Levels without the final 0.
    terminal
        Where the last one is put.
    """
    # eq. flow-euler-dynamic
    return 1 - (1 - u) * ((1 - terminal) / (1 - u[-1]))
