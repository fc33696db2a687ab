r"""Directional attacks: an attack on a network as a step of an optimiser.

Maximise :math:`f(\Phi(x))`, where :math:`\Phi` is a trained network and f is smooth. Attacks know how to move the
outputs of a network by a small change of its input. Move them the way f grows:

.. math::
    :label: directional-attacks-attack

    \max_{\|\delta\|_\infty \le r} d^\top \big( \Phi(x + \delta) - \Phi(x) \big), \qquad d = \nabla f(\Phi(x)) .

One step to a corner (FGSM), with the Jacobian J,

.. math::
    :label: directional-attacks-fgsm

    \delta = r\, \mathrm{sign} \big( J(x)^\top d \big),

is exact for a linear network, where the gain is :math:`r\, \|J^\top d\|_1`, and right to first order in r for others;
many short ones within the box (PGD) may find more,

.. math::
    :label: directional-attacks-pgd

    \delta \leftarrow \Pi_{[-r, r]} \big( \delta + \tfrac r4\, \mathrm{sign}( J(x + \delta)^\top d ) \big)
    \quad \text{from } 0;

the gradient's own direction is

.. math::
    :label: directional-attacks-l2

    \delta = r\, \frac{J^\top d}{\|J^\top d\|_2} .

For libraries that attack images, with entries between 0 and 1, the network is centred,

.. math::
    :label: directional-attacks-centred

    \Phi_{x, r}(s) = \Phi\big( x + 2 r (s - \tfrac12) \big) - \Phi(x), \qquad s \in [0, 1]^n .

An attack is good enough if the value rises by a share :math:`\tau`,

.. math::
    :label: directional-attacks-increase

    \frac{f_{new} - f_{old}}{\max(|f_{old}|, \varepsilon)} \ge \tau .

**The hybrid** attacks in each iteration, and asks for help where that does not do: then direct search with covering
(:mod:`trref.optimization.direct_search`), which has a theory, makes an iteration of its own from the best point. Both
have a radius of their own, within the same limits:

.. math::
    :label: directional-attacks-radius

    r \leftarrow \begin{cases} 1.3\, r & \text{a sufficient increase: no search in this iteration} \\
    1.1\, r & \text{a smaller increase} \\
    r / 1.3 & \text{none.} \end{cases}

Constraints :math:`c(\Phi(x)) \le 0` are a barrier: where one is violated the value is minus infinity. The controls are
attacks alone, and steps of that length in random directions.

====================  ==============
:math:`\Phi`          `network`
:math:`f`             `objective`
:math:`\tau`          `share`
:math:`\varepsilon`   `floor`
====================  ==============

**Where implementations differ.** The authors' code attacks through a library that maximises the cross-entropy with the
vector d for a label: around outputs of 0 its gradient is :math:`d - \bar d\, \mathbf 1`, so that the part of d along
the vector of ones is lost, and with one output all of it. It divides the increase by :math:`|f_{old}| + 10^{-10}`.

**Provenance.** Attacks, centring, radii and the order of steps are confirmed in the authors' code
(PierreYvesBouchet/Optimization-by-Directional-Attacks), the attack's definition by the abstract. Trying the last
direction again, before all else, is left out.

Bouchet and Vidal, *Optimization by Directional Attacks: Solving Problems with Neural Network Surrogates*, 2025,
arXiv:2510.01461.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.terms import floats
from trref.optimization.direct_search import Radii, improve, three_directions
from trref.problems.protocols import DifferentiableMap
from trref.signature import (
    T1,
    Binary,
    D,
    M,
    N,
    Positive,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    T,
    checked,
)


class Attacked(NamedTuple):
    """The best point and its value before each iteration and at the end, and both radii."""

    points: Real[T1, N]
    values: Real[T1]
    attack_radii: Positive[T1]
    search_radii: Positive[T1]


def _of_one_dtype(name, value, x):
    if value.dtype != x.dtype:
        raise TypeError(f"{name} gives {value.dtype} arrays at {x.dtype} points")
    return value


def _pulled(network, x, direction):
    pulled = network.vjp(x, direction)
    validate.returned("network.vjp", pulled, x.shape, finite=True)
    return _of_one_dtype("network.vjp", pulled, x)


def _outputs(network, x):
    y = network(x)
    validate.array("the result of network", y)
    return _of_one_dtype("network", y, x)


@checked
def attack(
    network: DifferentiableMap,
    x: Real[N, D],
    direction: Real[N, M],
    *,
    radius: PositiveFloat = 0.1,
    method: Literal["fgsm", "pgd", "l2"] = "fgsm",
    steps: PositiveInt = 10,
) -> Real[N, D]:
    """Changes of points that move the outputs along directions.

    Parameters
    ----------
    network
        Such as `trref.problems.maps.Network`.
    x
        Points, one a row.
    direction
        Of the outputs, for each point.
    radius
        The largest entry of a change, or its length.
    method
        Of the attack.
    steps
        Of "pgd".
    """
    slope = _pulled(network, x, direction)
    if method == "fgsm":
        return radius * xp.sign(slope)  # eq. directional-attacks-fgsm
    if method == "l2":
        # eq. directional-attacks-l2
        length = xp.sqrt((slope * slope).sum(1, keepdims=True))
        return radius * slope / xp.where(length > 0, length, 1)

    # eq. directional-attacks-pgd
    delta = xp.zeros_like(x)
    for _ in range(steps):
        delta = xp.clip(delta + radius / 4 * xp.sign(slope), -radius, radius)
        slope = _pulled(network, x + delta, direction)
    return delta


@checked
def attack_gain(
    network: DifferentiableMap,
    x: Real[N, D],
    delta: Real[N, D],
    direction: Real[N, M],
) -> Real[N]:
    """How far an attack moves the outputs along directions.

    Parameters
    ----------
    delta
        Changes of the points.
    """
    # eq. directional-attacks-attack
    return (direction * (_outputs(network, x + delta) - _outputs(network, x))).sum(1)


@checked
def centred_outputs(
    network: DifferentiableMap,
    x: Real[N, D],
    inside: Prob[N, D],
    *,
    radius: PositiveFloat = 0.1,
) -> Real[N, M]:
    """Changes of the outputs, from places in the unit cube.

    Parameters
    ----------
    inside
        Places in the cube, whose centre stands for the point.
    radius
        Half of the cube's side, in the space of points.
    """
    # eq. directional-attacks-centred
    moved = x + 2 * radius * (inside - 0.5)
    return _outputs(network, moved) - _outputs(network, x)


@checked
def sufficient_increase(
    new: Real[N],
    old: Real[N],
    *,
    share: PositiveFloat = 1e-3,
    floor: PositiveFloat = 1e-6,
) -> Binary[N]:
    """Whether values have risen enough.

    Parameters
    ----------
    new, old
        Values after and before.
    share
        Of the old value.
    floor
        That value is taken to be at least this.
    """
    # eq. directional-attacks-increase
    enough = new - old >= share * xp.maximum(abs(old), floor)
    return enough.astype(new.dtype)


@checked(also=three_directions)
def hybrid(
    network: DifferentiableMap,
    objective: Callable,
    x0: Real[N],
    covers: Real[T, N],
    seeks: Real[T, N],
    polls: Real[T, N],
    uniforms: Prob[T],
    constraint: Callable | None = None,
    *,
    parts: Literal["hybrid", "attack", "search", "random"] = "hybrid",
    method: Literal["fgsm", "pgd", "l2"] = "fgsm",
    kind: Literal["2n", "n+1"] = "2n",
    radius: PositiveFloat = 0.1,
    least: PositiveFloat = 1e-5,
    largest: PositiveFloat = 1.0,
    share: PositiveFloat = 1e-3,
    floor: PositiveFloat = 1e-6,
) -> Attacked:
    """Maximise a function of a network's outputs by attacks and direct search.

    Parameters
    ----------
    objective
        ``objective(y (M,)) -> (value, gradient)``, to be maximised.
    x0
        The start.
    covers, seeks, polls
        Standard normal, for covering, search and poll of each iteration; "random" steps take the first.
    uniforms
        Uniform in [0, 1], for covering.
    constraint
        ``constraint(y) -> (K,)``, at most 0 where a point is allowed.
    parts
        Both, one of the two alone, or random directions in the place of attacks.
    method
        Of the attack.
    kind
        Of polls.
    radius, least, largest
        The first of both radii, and those between which they stay.
    """
    radii, seen = Radii(radius, least, largest), {}

    def value_at(x):
        y = _outputs(network, x[None])[0]
        value, slope = validate.loss_and_grad(objective, y, "objective")
        worst = xp.zeros_like(y[0])
        if constraint is not None:
            c = constraint(y)
            validate.array("the result of constraint", c)
            validate.returned("constraint", c, c.shape[:1])
            worst = c.max()
        value, worst = floats(xp.asarray(value, dtype=x.dtype), worst)
        seen["slope"] = slope
        allowed = math.isfinite(value) and worst <= 0
        return value if allowed else -math.inf

    x, best, searches = x0, value_at(x0), 0
    if best == -math.inf:
        raise ValueError("hybrid: at x0 objective must be finite, constraint at most 0")
    slope, wide, narrow = seen["slope"], radius, radius
    history = [(x, best, wide, narrow)]
    for t in range(len(uniforms)):
        draws = covers[t], seeks[t], polls[t], uniforms[t]
        enough = False
        if parts != "search":
            if parts == "random":
                v = covers[t]
                step = wide * v / xp.sqrt((v * v).sum())
            else:
                step = attack.unchecked(
                    network, x[None], slope[None], radius=wide, method=method
                )[0]
            value = value_at(x + step)

            # eq. directional-attacks-radius
            enough = value - best >= share * max(abs(best), floor)
            if enough:
                wide = min(1.3 * wide, largest)
            elif value > best:
                wide = min(1.1 * wide, largest)
            else:
                wide = max(wide / 1.3, least)
            if value > best:
                x, best, slope = x + step, value, seen["slope"]

        if parts in ("hybrid", "search") and not enough:
            before = best
            x, best, narrow, searches = improve(
                value_at,
                x,
                best,
                narrow,
                searches,
                draws,
                radii,
                kind,
            )
            if best > before:
                slope = seen["slope"]
        history.append((x, best, wide, narrow))
    points, *numbers = zip(*history, strict=True)
    arrays = [xp.asarray(column, dtype=x0.dtype) for column in numbers]
    return Attacked(xp.stack(points), *arrays)
