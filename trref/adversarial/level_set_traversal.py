r"""Level set traversal: walking to another image without losing confidence.

The gradient of a loss is normal to the set on which it is constant. So a walk from a source :math:`x_s` towards a
target :math:`x_t` that leaves out the component along the gradient

.. math::
    :label: level-set-traversal-gradient

    g = \nabla_x\, \ell(x), \qquad \ell(x) = -\log p_j(x)

changes the confidence :math:`p_j` of the source's class to second order only, while the image turns into the target as
far as a level set lets it. Of a step v what is left is

.. math::
    :label: level-set-traversal-projection

    v_\perp = v - \frac{g^\top v}{g^\top g}\, g.

A correction repairs the drift. It gathers steps down the gradient, coordinate by coordinate within a small box,

.. math::
    :label: level-set-traversal-correction

    c \leftarrow \Pi_{[-\epsilon, \epsilon]}(c - \epsilon\, g), \qquad c = 0 \text{ at first},

and together they give

.. math::
    :label: level-set-traversal-step

    x' = \Pi_{[l, h]}\big(x + \eta\, (x_t - x)_\perp + c\big).

Where :math:`p_j(x_s) - p_j(x') > \delta` the step is not taken. Then the walk of that row ends, or it goes on
(`on_violation` ``"reject"``), and the correction with it.

What the walk finds is judged by the confidence along the segment from the source to the end,

.. math::
    :label: level-set-traversal-segment

    p_j\big(x_s + a\, (x - x_s)\big), \qquad a = 0, \tfrac{1}{m}, \dots, 1,

over the triangle of the source and two ends,

.. math::
    :label: level-set-traversal-triangle

    p_j\big(x_s + a\, (x_a - x_s) + b\, (x_b - x_s)\big), \qquad a, b \in \{0, \tfrac1m, \dots, 1\},\ a + b \le 1,

of which the share with :math:`p_j > p_j(x_s) - \delta`, strictly, is told; by the distances

.. math::
    :label: level-set-traversal-distance

    \frac{\|x - x_t\|_2}{\sqrt D}, \qquad \|x - x_t\|_\infty;

and by the width of the way: quantiles of the confidence at a distance r from x, in directions at right angles to the
travel t,

.. math::
    :label: level-set-traversal-width

    p_j(x + r\, u_\perp), \qquad u_\perp = \frac{u - (t^\top u) t / t^\top t}{\|\cdot\|}, \quad u \sim \mathcal N(0, I).

For a linear logit, without correction and box, the walk converges to the nearest point of the level set to the target,
its error smaller by :math:`1 - \eta` at each step. Where the squared norm of the gradient is below 1e-30, as for a
saturated softmax, every direction is tangent and nothing is taken off. Rows do not see each other.

========================  ==================
:math:`\ell`              `score_and_grad`
:math:`\eta`              `lr`
:math:`\epsilon`          `correction`
:math:`l, h`              `low, high`
:math:`m`                 `points`
========================  ==================

**Where implementations differ.** The authors' code keeps half of :math:`\epsilon` times the gradient in its
accumulator, and goes on after a step that it rejects.

**Provenance.** The projection, the two parts of the step, the threshold, the defaults and the figures are confirmed in
the authors' code; that the walk ends at the first violation is the paper's algorithm as remembered.

Balasubramanian, Sriramanan, Sadasivan and Feizi, *Exploring Geometry of Blind Spots in Vision Models*, 2023,
arXiv:2310.19889.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from trref import validate
from trref.adversarial.pgd import in_the_box
from trref.backend import xp
from trref.signature import (
    K1,
    D,
    FiniteFloat,
    N,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    R,
    Real,
    checked,
)


class Walk(NamedTuple):
    """All points of the walk, the source first, and the confidence at each."""

    path: Real[K1, N, D]
    confidence: Real[K1, N]


class Spread(NamedTuple):
    """A mean, a lowest value and a share, one a row."""

    mean: Real[N]
    lowest: Real[N]
    share: Real[N]


class Width(NamedTuple):
    """The 5 % and the 95 % quantile, one a row."""

    low: Real[N]
    high: Real[N]


def _across(v, g):
    """What is left of each row of v without its component along that of g."""
    square = (g * g).sum(-1, keepdims=True)
    some = square > 1e-30
    share = (g * v).sum(-1, keepdims=True) / xp.where(some, square, 1)
    # eq. level-set-traversal-projection
    return v - xp.where(some, share, 0) * g


@checked
def orthogonal_component(v: Real[N, D], gradient: Real[N, D]) -> Real[N, D]:
    """What is left of a step without its component along the gradient.

    Parameters
    ----------
    v
        Steps, one a row.
    gradient
        Of the loss.
    """
    return _across(v, gradient)


@checked(also=in_the_box)
def traverse(
    score_and_grad: Callable,
    x: Real[N, D],
    target: Real[N, D],
    *,
    lr: PositiveFloat = 0.01,
    correction: NonNegativeFloat = 0.002,
    delta: FiniteFloat = 0.2,
    steps: PositiveInt = 400,
    low: FiniteFloat = 0.0,
    high: FiniteFloat = 1.0,
    on_violation: Literal["stop", "reject"] = "stop",
) -> Walk:
    """The walk from each source towards its target.

    Parameters
    ----------
    score_and_grad
        ``score_and_grad(x) -> (losses (N,), gradients (N, D))``, minus the logarithm of the confidence of the source's
        class, such as `trref.problems.rows.RowLoss`.
    x
        Sources, one a row.
    target
        Images of other classes.
    lr
        The share of the way that a step would go.
    correction
        Step and box of what repairs the drift; 0 for none.
    delta
        The confidence that may be lost.
    low, high
        The range of a coordinate.
    on_violation
        End the walk of a row, or go on from where it is.
    """
    confidence, g = _look(score_and_grad, x)
    start, c = confidence, xp.zeros_like(x)
    path, seen, alive = [x], [confidence], xp.ones_like(confidence)
    for _ in range(steps):
        # eq. level-set-traversal-correction
        c = xp.clip(c - correction * g, -correction, correction)

        # eq. level-set-traversal-step
        across = _across(target - path[-1], g)
        wish = xp.clip(path[-1] + lr * across + c, low, high)

        there, slope = _look(score_and_grad, wish)
        taken = alive * (start - there <= delta)
        alive = taken if on_violation == "stop" else alive
        path.append(xp.where(taken[:, None] > 0, wish, path[-1]))
        seen.append(xp.where(taken > 0, there, seen[-1]))
        g = xp.where(taken[:, None] > 0, slope, g)
    return Walk(xp.stack(path), xp.stack(seen))


def _look(score_and_grad, x):
    """Confidence and gradient."""
    # eq. level-set-traversal-gradient
    loss, g = validate.rows(score_and_grad, x)
    return xp.exp(-loss), g


def _confidence(score_and_grad, x):
    return _look(score_and_grad, x)[0]


def _summary(seen, start, delta):
    """Of confidences (M, N)."""
    share = (seen > start - delta).astype(seen.dtype).mean(0)
    return Spread(seen.mean(0), seen.min(0), share)


@checked
def segment_confidence(
    score_and_grad: Callable,
    x: Real[N, D],
    end: Real[N, D],
    *,
    points: PositiveInt = 10,
    delta: FiniteFloat = 0.2,
) -> Spread:
    """Confidence along the segments from the sources to the ends.

    Parameters
    ----------
    end
        The end of each walk.
    points
        Steps from one end of the grid to the other.
    delta
        The loss of confidence that counts as none.
    """
    # eq. level-set-traversal-segment
    grid = [x + (i / points) * (end - x) for i in range(points + 1)]
    seen = xp.stack([_confidence(score_and_grad, p) for p in grid])
    return _summary(seen, seen[0], delta)


@checked
def triangle_confidence(
    score_and_grad: Callable,
    x: Real[N, D],
    end: Real[N, D],
    other_end: Real[N, D],
    *,
    points: PositiveInt = 10,
    delta: FiniteFloat = 0.2,
) -> Spread:
    """Confidence over the triangles of the sources and two ends each.

    Parameters
    ----------
    other_end
        The end of a walk to another target.
    """
    # eq. level-set-traversal-triangle
    grid = [
        x + (i / points) * (end - x) + (j / points) * (other_end - x)
        for i in range(points + 1)
        for j in range(points + 1 - i)
    ]
    seen = xp.stack([_confidence(score_and_grad, p) for p in grid])
    return _summary(seen, seen[0], delta)


@checked
def distances(x: Real[N, D], target: Real[N, D]) -> tuple[Real[N], Real[N]]:
    """How far each row is from its target.

    Returns
    -------
    rms
        The root of the mean square over coordinates.
    largest
        The largest difference of a coordinate.
    """
    off = x - target
    # eq. level-set-traversal-distance
    return xp.sqrt((off**2).mean(1)), abs(off).max(1)


@checked
def path_width(
    score_and_grad: Callable,
    x: Real[N, D],
    travel: Real[N, D],
    noise: Real[R, N, D],
    *,
    radius: NonNegativeFloat = 0.1,
) -> Width:
    """Quantiles of the confidence beside the way.

    Parameters
    ----------
    travel
        The direction of the walk at each point.
    noise
        R draws from the standard normal law for each coordinate.
    radius
        How far beside.
    """
    across = xp.stack([_across(u, travel) for u in noise])
    length = xp.sqrt((across**2).sum(-1, keepdims=True))
    # eq. level-set-traversal-width
    unit = across / xp.where(length > 0, length, 1)
    seen = xp.stack([_confidence(score_and_grad, x + radius * u) for u in unit])

    return Width(*(_quantile(seen, q) for q in (0.05, 0.95)))


def _quantile(values, q):
    """Of the first axis, linear between neighbours."""
    place = q * (len(values) - 1)
    below = int(place)
    ordered = xp.sort(values, axis=0)
    above = min(below + 1, len(values) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
