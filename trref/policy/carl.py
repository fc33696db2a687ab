r"""CaRL: a reward for driving that pays progress along the route and nothing else.

Rewards that add up progress, speed, position and heading have local optima: something is earned by standing well. CaRL
pays the route, takes factors off for minor infractions, and ends the episode at major ones. The position on the route
is the arc length of its nearest point,

.. math::
    :label: carl-progress

    s(x) = \text{arc length of } \arg\min_{y \in \text{route}} \|x - y\|,

from projections on the segments, clipped to each. What is newly completed, in per cent of a route of length L, is

.. math::
    :label: carl-completion

    RC_t = \frac{100}{L}\, \max\Big( 0,\; s_t - \max_{j < t} s_j \Big),

so that driving back and forth earns nothing, and the sum does not depend on speed or time step. Minor infractions are
factors in [0, 1]: outside of the route's lanes; d away from the centre of a lane of width b; speeding; on course for a
collision within the last K ticks; and n of six limits of comfort broken within them,

.. math::
    :label: carl-penalties

    p = 0, \qquad 1 - \lambda\, \mathrm{clip}\Big( \frac{d - d_0}{b/2 - d_0}, 0, 1 \Big), \qquad
    \max\Big( 0,\, 1 - \frac{[v - v_{lim}]_+}{2.23\,\text{m/s}} \Big), \qquad \frac12, \qquad 1 - \frac12 \frac n6 .

In junctions the distance does not count. The reward is

.. math::
    :label: carl-reward

    r_t = RC_t \prod_i p_t^{(i)} - T\; \mathbb 1[\text{collision or red light at } t]

up to and with the first major infraction, which ends the episode. Others of these (stop sign, off the road, deviation,
blocked, time-out) cost what would have come, and nothing more. So the sum of an episode is between -T and 100, and 100
exactly where the route is finished without any infraction. The contrast that the code itself offers adds

.. math::
    :label: carl-additive

    r_t = \tfrac5{16} RC_t + \tfrac{100}{H} \big( \tfrac5{16} c^{collision}_t + \tfrac4{16} c^{speed}_t
    + \tfrac2{16} c^{comfort}_t \big)

with 1 for each tick without that infraction, for a horizon of :math:`H = 2000` ticks: standing still earns.

======================  =====================================
:math:`L`               `length`
:math:`d_0, \lambda`    `slack`, `slope`
:math:`b`               `lane_width`
:math:`K`               `lasting`
:math:`T`               `crash_cost`
======================  =====================================

Of route points equally near, the first counts. A route that begins away from its start has no progress at first.

**Where implementations differ.** The code pays the difference of a counter of completion; the running maximum, which
keeps it from falling, is a choice made here. T is 10 by default and 1 in training. A community re-implementation,
CarlaBEV, has a constant factor of 0.84375 above the speed limit, clips each tick's completion to 1, and pays 1 at the
goal. The authors' code treats a time-out as a termination, and the finished route as a truncation.

**Provenance.** Partly: the reward, the penalties and the additive alternative were confirmed in public copies of the
code's reward file, configuration and training script; the paper's own table was not seen.

Jaeger et al., *CaRL: Learning Scalable Planning Policies with Simple Rewards*, 2025, arXiv:2504.17838.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    K1,
    T1,
    D,
    Fraction,
    K,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    T,
    checked,
)


class Penalties(NamedTuple):
    """Factors of each tick: outside of the lanes, away from the centre, too fast, on course for a collision, rough."""

    outside: Prob[T]
    centre: Prob[T]
    speed: Prob[T]
    collision: Prob[T]
    comfort: Prob[T]


def _pieces(route, **_):
    """A route without a piece, or with one of no length."""
    if len(route) < 2:
        raise ValueError("route must have two points at least")
    return [
        (
            lambda: (((route[1:] - route[:-1]) ** 2).sum(1) > 0).all(),
            "route must not have the same point twice in a row",
        )
    ]


@checked(also=_pieces)
def route_progress(position: Real[N, D], route: Real[K1, D]) -> NonNegative[N]:
    """Arc length along the route of the point nearest to each position.

    Parameters
    ----------
    position
        Where the vehicle is, a row each.
    route
        The corners of a polyline.
    """
    # eq. carl-progress
    start, along = route[:-1], route[1:] - route[:-1]
    square = (along**2).sum(1)
    away = position[:, None] - start
    share = xp.clip((away * along).sum(2) / square, 0, 1)
    distance = ((away - share[..., None] * along) ** 2).sum(2)
    lengths = xp.sqrt(square)
    before = xp.cumsum(lengths) - lengths
    nearest = distance.argmin(1)[:, None]
    return xp.take_along_axis(before + share * lengths, nearest, 1)[:, 0]


@checked
def completion(
    arc_length: NonNegative[T1], *, length: PositiveFloat = 100.0
) -> NonNegative[T]:
    """What is newly completed of the route in each tick, in per cent.

    Parameters
    ----------
    arc_length
        At the start, and after each tick.
    length
        Of the route.
    """
    farthest = _running_maximum(arc_length[:-1])
    # eq. carl-completion
    return 100 / length * xp.maximum(arc_length[1:] - farthest, 0)


def _running_maximum(x):
    """The largest so far, by doubling the reach."""
    reach = 1
    while reach < len(x):
        x = xp.concatenate([x[:reach], xp.maximum(x[reach:], x[:-reach])])
        reach *= 2
    return x


def _lasting(mask, ticks):
    """1 on a tick of infraction and on the ticks - 1 that follow."""
    count = xp.cumsum(mask, axis=0)
    early = xp.concatenate([xp.zeros_like(count[:ticks]), count[:-ticks]])[: len(count)]
    return ((count - early) > 0).astype(mask.dtype)


@checked
def soft_penalties(
    outside: Mask[T],
    distance: NonNegative[T],
    junction: Mask[T],
    speed: NonNegative[T],
    limit: NonNegative[T],
    collision_course: Mask[T],
    discomfort: Mask[T, K],
    *,
    lane_width: PositiveFloat = 3.5,
    slack: NonNegativeFloat = 0.0,
    slope: Fraction = 1.0,
    span: PositiveFloat = 2.23,
    lasting: PositiveInt = 500,
) -> Penalties:
    """Factors by which infractions reduce what a tick earns.

    Parameters
    ----------
    outside
        1 off the route's lanes.
    distance
        From the centre of the lane.
    junction
        1 in a junction.
    speed, limit
        In meters a second.
    collision_course
        1 where the time to a collision is too short.
    discomfort
        1 where a limit of comfort is broken; six of them in the paper.
    lane_width
        In meters, as the distance.
    slack
        Distance from the centre that costs nothing; less than half of the width.
    slope
        What the factor loses at the edge of the lane.
    span
        Meters a second above the limit at which nothing is earned.
    lasting
        Ticks for which infractions of the last two kinds count.
    """
    if slack >= lane_width / 2:
        raise ValueError(f"slack must be below half of lane_width, not {slack}")
    # eq. carl-penalties
    off = xp.clip((distance - slack) / (lane_width / 2 - slack), 0, 1)
    over = xp.maximum(speed - limit, 0)
    broken = _lasting(discomfort, lasting).mean(1)
    return Penalties(
        1 - outside,
        1 - slope * off * (1 - junction),
        xp.maximum(1 - over / span, 0),
        1 - _lasting(collision_course, lasting) / 2,
        1 - broken / 2,
    )


@checked
def carl_reward(
    completed: NonNegative[T],
    penalty: Prob[T, K],
    crash: Mask[T],
    ended: Mask[T],
    *,
    crash_cost: NonNegativeFloat = 1.0,
) -> Real[T]:
    """Reward of each tick, 0 after the episode has ended.

    Parameters
    ----------
    completed
        As of `completion`.
    penalty
        Factors of any kind.
    crash
        1 on a collision or a red light: a major infraction that costs.
    ended
        1 on any other major infraction.
    crash_cost
        What a crash costs.
    """
    over = xp.maximum(crash, ended)
    before = xp.cumsum(over) - over
    # eq. carl-reward
    earned = completed * penalty.prod(1) - crash_cost * crash
    return earned * (before == 0)


@checked
def additive_reward(
    completed: NonNegative[T],
    collision_course: Mask[T],
    speeding: Mask[T],
    discomfort: Mask[T],
    *,
    horizon: PositiveInt = 2000,
) -> Real[T]:
    """Reward that adds what is done well, for contrast.

    Parameters
    ----------
    completed
        As of `completion`.
    speeding
        1 above the limit.
    discomfort
        1 where any limit of comfort is broken.
    horizon
        Ticks over which an episode without infractions earns as much as the route.
    """
    each = 5 * (1 - collision_course) + 4 * (1 - speeding) + 2 * (1 - discomfort)
    return (5 * completed + 100 / horizon * each) / 16  # eq. carl-additive
