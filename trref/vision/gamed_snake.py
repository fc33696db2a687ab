r"""GAMED-Snake: a closed contour that moves along an energy, with a memory of where it went.

A map of energy that grows towards the edge of an organ pulls a contour from afar. With the distance D of a place from
the nearest point of the boundary, in pixels,

.. math::
    :label: gamed-snake-energy

    E = \max\big(0,\, 255 - 32 \log(1 + D^2)\big),

which is 0 beyond :math:`\sqrt{e^{255 / 32} - 1} = 53.74` pixels, and has the slope

.. math::
    :label: gamed-snake-energy-gradient

    \nabla E = -\frac{64}{1 + D^2}\, (x - c),

c being the nearest point. A network that learns such maps reads edges by *difference convolutions*: each of some pairs
of places in a 3×3 window has a weight,

.. math::
    :label: gamed-snake-difference

    y(u) = \sum_{(a, b) \in \mathcal P} w_{ab}\, [x(u + a) - x(u + b)],

with pairs of pixels and their right and lower neighbours (``"stepped"`` in `PAIRS`), of opposite ones of the ring
(``"diagonal"``), or of each pixel of the ring with the next (``"circular"``). It is a convolution with the kernel

.. math::
    :label: gamed-snake-kernel

    \tilde w = \sum_{ab} w_{ab}\, (\delta_a - \delta_b), \qquad \text{of sum } 0.

The V vertices of a closed contour are a ring, too. Features of vertices are convolved around it, with a dilation
:math:`\delta`,

.. math::
    :label: gamed-snake-circular

    (F * k)_i = \sum_{j = -r}^{r} F_{(i + j \delta) \bmod V}\; k_j,

and are read off an image between its pixels,

.. math::
    :label: gamed-snake-bilinear

    I(p) = \sum_{\text{corners } c} I_c\, (1 - |p_1 - c_1|)\, (1 - |p_2 - c_2|).

Features H of earlier iterations come back by attention, a momentum that is learnt:

.. math::
    :label: gamed-snake-attention

    \tilde F = F + \text{softmax}\Big(\frac{F W_q (H W_k)^\top}{\sqrt d}\Big) H W_v.

The classical counterpart is a heavy ball with a spring between neighbours,

.. math::
    :label: gamed-snake-step

    v \leftarrow \mu v + \eta\, \nabla E(P) + \beta\, (P_- + P_+ - 2 P), \qquad P \leftarrow P + v,

:math:`\nabla E` by central differences of the pixels, read off between them. On the ridge the curvature is 64, so
without momentum steps are stable for :math:`\eta < 2 / 64`, with it for :math:`\eta < 2 (1 + \mu) / 64`. Predicted
vertices are compared with true ones by the smooth absolute loss,

.. math::
    :label: gamed-snake-loss

    \ell(d) = \tfrac12 d^2 \text{ if } |d| < 1, \text{ else } |d| - \tfrac12, \qquad \ell'(d) = \Pi_{[-1, 1]}(d),

the mean over all coordinates, and regions by

.. math::
    :label: gamed-snake-dice

    \text{Dice} = \frac{2\, |A \cap B|}{|A| + |B|},

1 if both are empty. Points are rows and columns, in pixels; beyond the border the image goes on as it ends. Of several
nearest points the first counts.

Deep Snake's trainer keeps the loss of its last iteration only, though it is written as a mean over all; and a map in
[0, 1] in place of [0, 255] makes steps 255 times as short.

**Where implementations differ.** Convolutions of common libraries put zeros beyond the first and the last vertex, as if
the contour were open.

**Provenance.** The energy is confirmed by a public review of the paper, the circular convolution, the features and the
loss in the code of Deep Snake, on which the paper builds. The pairs of the difference convolutions and the form of the
attention are **reconstructed**, and so is the classical step.

Zhang, Guo, Zhang and co-authors, *GAMED-Snake: Gradient-aware Adaptive Momentum Evolution Deep Snake Model for
Multi-organ Segmentation*, 2025, arXiv:2501.12844.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn import attention
from trref.nn.conv import conv2d
from trref.nn.heads import one_hot
from trref.signature import (
    K1,
    Binary,
    C,
    D,
    Decay,
    E,
    H,
    Index,
    K,
    L,
    M,
    N,
    NonNegativeFloat,
    P,
    PositiveFloat,
    PositiveInt,
    R,
    Real,
    Scalar,
    T,
    V,
    checked,
)

RING = (0, 1, 2, 5, 8, 7, 6, 3)
PAIRS = {
    "stepped": [(i, i + 1) for i in (0, 1, 3, 4, 6, 7)]
    + [(i, i + 3) for i in range(6)],
    "diagonal": [(RING[k], RING[k + 4]) for k in range(4)],
    "circular": [(RING[k], RING[(k + 1) % 8]) for k in range(8)],
}
"""Pairs of places in a 3×3 window, which are counted row by row."""


class Sample(NamedTuple):
    """Values between the pixels, and how they change along the rows' and the columns' numbers."""

    value: Real[N, C]
    by_row: Real[N, C]
    by_column: Real[N, C]


class Walk(NamedTuple):
    """All contours of an evolution, the start first."""

    rows: Real[K1, V]
    columns: Real[K1, V]


@checked
def energy(points: Real[N, D], boundary: Real[P, D]) -> tuple[Scalar, Real[N, D]]:
    """The energy of all points together.

    Parameters
    ----------
    points
        Places, in pixels.
    boundary
        Points of the boundary.

    Returns
    -------
    value
    gradient
        With respect to `points`.
    """
    off = points[:, None] - boundary
    square = (off**2).sum(2)
    first = square.argmin(1)[:, None]
    nearest = (xp.arange(len(boundary)) == first).astype(points.dtype)
    D2 = square.min(1)
    height = 255 - 32 * xp.log1p(D2)
    value = xp.maximum(height, 0).sum()  # eq. gamed-snake-energy
    slope = xp.where(height > 0, -64 / (1 + D2), 0)
    # eq. gamed-snake-energy-gradient
    return value, slope[:, None] * (points - nearest @ boundary)


def _in_the_window(first, second, image=None, **_):
    """A place beyond the 9 of a window, or an image that is smaller than one."""
    if image is not None and min(image.shape[2:]) < 3:
        raise ValueError(
            f"image must have 3 or more rows and columns, not {image.shape[2:]}"
        )
    return [
        validate.labels(v, 9, name)
        for name, v in (("first", first), ("second", second))
    ]


@checked(also=_in_the_window)
def difference_kernel(
    weights: Real[K, C, P], first: Index[P], second: Index[P]
) -> Real[K, C, E, E]:
    """The 3×3 kernels that difference convolutions are.

    Parameters
    ----------
    weights
        Of each pair, for K outputs and C channels.
    first, second
        The places of each pair in the window, 0 to 8, as in `PAIRS`.
    """
    pairs = one_hot(first, 9, weights.dtype) - one_hot(second, 9, weights.dtype)
    # eq. gamed-snake-kernel
    return (weights @ pairs).reshape(*weights.shape[:2], 3, 3)


@checked(also=_in_the_window)
def difference_conv(
    image: Real[N, C, H, L],
    weights: Real[K, C, P],
    first: Index[P],
    second: Index[P],
) -> Real[N, K, M, T]:
    """Weighted differences of pairs of pixels, wherever a window fits: M = H - 2, T = L - 2.

    Parameters
    ----------
    image
        N images of C channels.
    """
    kernel = difference_kernel.unchecked(weights, first, second)
    # eq. gamed-snake-difference
    return conv2d(image, kernel, xp.zeros(len(kernel), dtype=image.dtype))


def _odd(kernel, **_):
    """A kernel without a middle."""
    if len(kernel) % 2 == 0:
        raise ValueError(
            f"kernel must have an odd number of entries, not {len(kernel)}"
        )
    return []


@checked(also=_odd)
def circular_conv(
    features: Real[V, C], kernel: Real[R, C, D], *, dilation: PositiveInt = 1
) -> Real[V, D]:
    """The convolution around a closed contour.

    Parameters
    ----------
    features
        Of V vertices.
    kernel
        Matrices for R neighbours, the middle one for the vertex itself.
    dilation
        Steps from one neighbour to the next.
    """
    r = len(kernel) // 2
    turned = [
        xp.roll(features, -(j - r) * dilation, axis=0) for j in range(len(kernel))
    ]
    # eq. gamed-snake-circular
    return xp.stack([F @ k for F, k in zip(turned, kernel, strict=True)]).sum(0)


@checked
def bilinear(image: Real[C, H, L], rows: Real[N], columns: Real[N]) -> Sample:
    """An image read between its pixels.

    Parameters
    ----------
    image
        Of C channels.
    rows, columns
        Where, in pixels; beyond the border the image goes on as it ends.
    """
    H, L = image.shape[1:]
    (i, j, a), (p, q, b) = _between(rows, H), _between(columns, L)
    corner = lambda u, v: image[:, u, v].T  # noqa: E731
    nw, ne, sw, se = corner(i, p), corner(i, q), corner(j, p), corner(j, q)
    # eq. gamed-snake-bilinear
    value = (1 - a) * ((1 - b) * nw + b * ne) + a * ((1 - b) * sw + b * se)
    by_row = (1 - b) * (sw - nw) + b * (se - ne)
    by_column = (1 - a) * (ne - nw) + a * (se - sw)

    return Sample(value, by_row, by_column)


def _between(x, length):
    """The pixels below and above, and the share of the way (N, 1)."""
    inside = xp.clip(x, 0, length - 1)
    low = xp.floor(inside)
    below = low.astype(int)
    return below, xp.minimum(below + 1, length - 1), (inside - low)[:, None]


@checked
def momentum_attention(
    features: Real[V, D],
    history: Real[T, D],
    W_query: Real[D, E],
    W_key: Real[D, E],
    W_value: Real[D, D],
) -> Real[V, D]:
    """Features, and what they ask of earlier ones.

    Parameters
    ----------
    features
        Of the vertices now.
    history
        Of earlier iterations, all in one list.
    W_query, W_key, W_value
        The matrices of the attention.
    """
    asked = features @ W_query, history @ W_key, history @ W_value
    # eq. gamed-snake-attention
    return features + attention.attention(*(v[None] for v in asked))[0]


@checked
def evolve(
    image: Real[H, L],
    rows: Real[V],
    columns: Real[V],
    *,
    lr: PositiveFloat = 0.02,
    momentum: Decay = 0.5,
    spring: NonNegativeFloat = 0.1,
    steps: PositiveInt = 50,
) -> Walk:
    """A contour that climbs the energy.

    Parameters
    ----------
    image
        The energy at each pixel.
    rows, columns
        The V vertices of the contour at the start, in order.
    momentum
        How much of the velocity is kept.
    spring
        How strongly a vertex is drawn to the middle of its neighbours.
    """
    wide = xp.pad(image, 1, mode="edge")
    slopes = (
        xp.stack([wide[2:, 1:-1] - wide[:-2, 1:-1], wide[1:-1, 2:] - wide[1:-1, :-2]])
        / 2
    )
    point = xp.stack([rows, columns])
    velocity, path = xp.zeros_like(point), [point]
    for _ in range(steps):
        force = bilinear.unchecked(slopes, *point).value.T
        around = xp.roll(point, 1, axis=1) + xp.roll(point, -1, axis=1) - 2 * point
        # eq. gamed-snake-step
        velocity = momentum * velocity + lr * force + spring * around
        point = point + velocity
        path.append(point)

    contours = xp.stack(path)
    return Walk(contours[:, 0].copy(), contours[:, 1].copy())


@checked
def smooth_l1(predicted: Real[N, D], target: Real[N, D]) -> tuple[Scalar, Real[N, D]]:
    """The mean smooth absolute difference of all coordinates.

    Parameters
    ----------
    predicted
        Vertices.
    target
        The true ones, in the same order.

    Returns
    -------
    loss
    gradient
        With respect to `predicted`.
    """
    d = predicted - target
    # eq. gamed-snake-loss
    value = xp.where(abs(d) < 1, d * d / 2, abs(d) - 0.5).mean()
    return value, xp.clip(d, -1, 1) / d.size


@checked
def dice(first: Binary[N], second: Binary[N]) -> Scalar:
    """The overlap of two regions.

    Parameters
    ----------
    first, second
        1 for the pixels of each.
    """
    total, both = first.sum() + second.sum(), (first * second).sum()
    # eq. gamed-snake-dice
    return xp.where(total > 0, 2 * both / xp.where(total > 0, total, 1), 1)[()]


@checked
def inside(
    rows: Real[V], columns: Real[V], pixel_rows: Real[N], pixel_columns: Real[N]
) -> Binary[N]:
    """1 for the pixels within a contour, by the even-odd rule.

    Parameters
    ----------
    rows, columns
        The vertices, in order.
    pixel_rows, pixel_columns
        Where the pixels are.
    """
    y, x = pixel_rows[:, None], pixel_columns[:, None]
    next_y, next_x = xp.roll(rows, -1), xp.roll(columns, -1)
    crossed = (rows > y) != (next_y > y)
    rise = xp.where(next_y == rows, 1, next_y - rows)
    at = columns + (y - rows) / rise * (next_x - columns)
    return ((crossed & (x < at)).sum(1) % 2).astype(rows.dtype)
