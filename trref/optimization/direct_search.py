r"""Direct search with covering: steps without derivatives that miss no direction.

To maximise a function of which only values are known, look around: at the best point so far, try directions that span
the space positively, and take the first that is better. With a random unit vector u, the Householder matrix

.. math::
    :label: direct-search-householder

    H = I - 2 u u^\top

is orthogonal, and its columns h, each brought to the largest entry r, give

.. math::
    :label: direct-search-poll

    \pm r\, \frac{h_i}{\|h_i\|_\infty} \quad (2n) \qquad \text{or} \qquad r\, \frac{h_i}{\|h_i\|_\infty}, \;
    -r\, \frac{\sum_j h_j}{\|\sum_j h_j\|_\infty} \quad (n + 1) .

Any direction has a positive product with one of them, so that where the gradient is not 0 a short enough step is
better. Values that jump need more: a *covering* step to a point anywhere in the ball of the first radius, drawn
uniformly,

.. math::
    :label: direct-search-covering

    r_0\, U^{1/n}\, \frac{v}{\|v\|}, \qquad v \sim N(0, I), \; U \sim [0, 1],

and a *search* step that goes farther each time,

.. math::
    :label: direct-search-search

    r_0 \sqrt{j + 1}\, \frac{v}{\|v\|} \qquad \text{after } j \text{ searches} .

An iteration tries the three in this order, covering, search, poll, and ends at the first success, which is a larger
value. The radius of the poll follows:

.. math::
    :label: direct-search-radius

    r \leftarrow \begin{cases} r & \text{covering succeeds} \\
    \min(2 r, r_{max}) & \text{search or poll succeeds} \\
    \max(r / 2, r_{min}) & \text{nothing does.} \end{cases}

It becomes small only where polls fail. A value that is not finite is no success: a constraint is a value of minus
infinity.

**Where implementations differ.** The authors' code has a "random rotation" in the place of H that is singular from
three dimensions on, its last rows are 0: the n + 1 directions then do not span. Its covering step has the length
:math:`(r_0 U)^{1/n}`.

**Provenance.** Confirmed in the authors' code (PierreYvesBouchet/Optimization-by-Directional-Attacks) but for H and the
length of covering, which are those of the theory that it cites.

Bouchet and Vidal, *Optimization by Directional Attacks: Solving Problems with Neural Network Surrogates*, 2025,
arXiv:2510.01461.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.terms import floats
from trref.signature import (
    T1,
    K,
    M,
    N,
    NonNegativeInt,
    Positive,
    PositiveFloat,
    Prob,
    Real,
    T,
    checked,
)


class Searched(NamedTuple):
    """The best point and its value before each iteration and at the end, and the radius of polls."""

    points: Real[T1, N]
    values: Real[T1]
    radii: Positive[T1]


class Radii(NamedTuple):
    """The first radius, and the least and the largest of polls."""

    first: float
    least: float
    largest: float


def _some_direction(normal, **_):
    """Random vectors that are 0."""
    return [_not_zero("normal", normal)]


def _not_zero(name, v):
    return lambda: (abs(v).max(-1) > 1e-15).all(), f"{name} must not be 0"


def _unit(v):
    return v / xp.sqrt((v * v).sum(-1, keepdims=True))


@checked(also=_some_direction)
def poll_directions(
    normal: Real[N],
    *,
    radius: PositiveFloat = 1.0,
    kind: Literal["2n", "n+1"] = "2n",
) -> Real[K, N]:
    """Steps that span the space positively, one a row.

    Parameters
    ----------
    normal
        Standard normal.
    radius
        Their largest entry.
    kind
        How many.
    """
    u = _unit(normal)
    H = (
        xp.eye(len(u), dtype=u.dtype) - 2 * u[:, None] * u
    )  # eq. direct-search-householder
    # eq. direct-search-poll
    back = -H if kind == "2n" else -H.sum(0, keepdims=True)
    steps = xp.concatenate([H, back])
    return radius * steps / abs(steps).max(1, keepdims=True)


@checked(also=_some_direction)
def covering_steps(
    normal: Real[M, N], uniform: Prob[M], *, radius: PositiveFloat = 1.0
) -> Real[M, N]:
    """Steps to points of a ball that are drawn uniformly.

    Parameters
    ----------
    uniform
        Uniform in [0, 1].
    radius
        Of the ball.
    """
    # eq. direct-search-covering
    lengths = radius * uniform ** (1 / normal.shape[1])
    return lengths[:, None] * _unit(normal)


@checked(also=_some_direction)
def search_step(
    normal: Real[N], *, radius: PositiveFloat = 1.0, searches: NonNegativeInt = 0
) -> Real[N]:
    """A step that goes farther each time.

    Parameters
    ----------
    radius
        Of the first one.
    searches
        How many there were.
    """
    return radius * math.sqrt(searches + 1) * _unit(normal)  # eq. direct-search-search


def improve(value_at, x, best, radius, searches, draws, radii, kind):
    """One iteration from a point: point, value, radius and searches after it.

    `draws` are three normal vectors, of covering, search and poll, and a uniform number.
    """
    cover, seek, around, uniform = draws
    step = covering_steps.unchecked(cover[None], uniform[None], radius=radii.first)[0]
    value = value_at(x + step)
    if value > best:
        return x + step, value, radius, searches
    step = search_step.unchecked(seek, radius=radii.first, searches=searches)
    searches += 1
    value = value_at(x + step)
    if value > best:
        return x + step, value, min(2 * radius, radii.largest), searches
    for step in poll_directions.unchecked(around, radius=radius, kind=kind):
        value = value_at(x + step)
        if value > best:
            return x + step, value, min(2 * radius, radii.largest), searches
    # eq. direct-search-radius
    return x, best, max(radius / 2, radii.least), searches


def three_directions(covers, seeks, polls, radius, least, largest, **_):
    """Radii in another order; random vectors that are 0."""
    if not least <= radius <= largest:
        message = "radius must be between least and largest"
        raise ValueError(f"{message} = {least:g} and {largest:g}, not {radius:g}")
    names = {"covers": covers, "seeks": seeks, "polls": polls}
    return [_not_zero(name, v) for name, v in names.items()]


@checked(also=three_directions)
def direct_search(
    value: Callable,
    x0: Real[N],
    covers: Real[T, N],
    seeks: Real[T, N],
    polls: Real[T, N],
    uniforms: Prob[T],
    *,
    radius: PositiveFloat = 0.1,
    least: PositiveFloat = 1e-5,
    largest: PositiveFloat = 1.0,
    kind: Literal["2n", "n+1"] = "2n",
) -> Searched:
    """Maximise a function by its values.

    Parameters
    ----------
    value
        ``value(x)``, an array without axes; minus infinity where a point is not allowed.
    covers, seeks, polls
        Standard normal, for covering, search and poll of each iteration.
    uniforms
        Uniform in [0, 1], for covering.
    radius, least, largest
        The first radius, and those between which the radius of polls stays.
    """
    value_at = finite_or_least(value)
    radii = Radii(radius, least, largest)
    x, best, searches = x0, value_at(x0), 0
    if best == -math.inf:
        raise ValueError("direct_search: value must be finite at x0")
    points, values, lengths = [x], [best], [radius]
    for t in range(len(uniforms)):
        draws = covers[t], seeks[t], polls[t], uniforms[t]
        x, best, radius, searches = improve(
            value_at, x, best, radius, searches, draws, radii, kind
        )
        points.append(x)
        values.append(best)
        lengths.append(radius)
    as_array = lambda v: xp.asarray(v, dtype=x0.dtype)  # noqa: E731
    return Searched(xp.stack(points), as_array(values), as_array(lengths))


def finite_or_least(value):
    """The function with host floats, and minus infinity for all that is not finite."""

    def value_at(x):
        found = validate.returned("value", value(x), ())
        (found,) = floats(found)
        return found if math.isfinite(found) else -math.inf

    return value_at
