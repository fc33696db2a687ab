r"""Time grids: which of the training levels a sampler visits, where it lands, and a schedule that begins in noise.

A model was trained on T levels of squared signal, :math:`\bar\alpha_0 > \dots > \bar\alpha_{T-1}`, and is sampled on K
of them. Three grids are in use,

.. math::
    :label: time-grids-spacing

    \text{leading: } i \Big\lfloor \frac TK \Big\rfloor + o, \qquad
    \text{trailing: } \mathrm{round}\Big( T - (K-1-i) \frac TK \Big) - 1, \qquad
    \text{linspace: } \mathrm{round}\Big( i\, \frac{T-1}{K-1} \Big), \qquad i = K-1, \dots, 0,

rounded half to even. Trailing and linspace begin at the noisiest level; linspace and, without an offset o, leading end
at level 0. A step leads to the next entry of its grid, and the last one

.. math::
    :label: time-grids-pairs

    \bar\alpha_{i_0} \to \bar\alpha_{i_1} \to \dots \to \bar\alpha_{i_{K-1}} \to 1,

to the data, or ("first") to :math:`\bar\alpha_0`, which leaves noise of deviation :math:`\sqrt{1-\bar\alpha_0}` in the
sample, and is an idle step for a grid that ends at level 0. Common schedules end at a level with some signal left, and
samplers start there from noise that has none. Shifting and scaling the root of the levels mends it,

.. math::
    :label: time-grids-zero

    \sqrt{\bar\alpha_i} \leftarrow \big( \sqrt{\bar\alpha_i} - \sqrt{\bar\alpha_{T-1}} \big)\,
    \frac{\sqrt{\bar\alpha_0}}{\sqrt{\bar\alpha_0} - \sqrt{\bar\alpha_{T-1}}},

with the first level kept, the last 0, and the order. At level 0 a prediction of the noise says nothing of the data; one
of the data or of a velocity does. Grids in noise levels are in :mod:`trref.diffusion.edm_heun`, shifted ones in
:mod:`trref.diffusion.flow_euler`.

**Where implementations differ.** diffusers counts trailing grids by a floating range, which for some K gives an entry
more, -1, and Python reads it as the noisiest level; its DDIM goes to the index a stride below, which is the next of the
grid for leading grids only; its multistep solvers lay grids of K + 1 entries and leave the last out. Its Euler
scheduler puts :math:`2^{-24}` for the level 0.

**Provenance.** All grids confirmed by running diffusers 0.42.1, leading also by ermongroup/ddim; the last equation by
diffusers, which takes it from the paper. The paper was not read again.

Lin, Liu, Li and Yang, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, 2023, arXiv:2305.08891.
"""

from fractions import Fraction
from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import (
    Index,
    K,
    NonNegativeInt,
    PositiveInt,
    Prob,
    Real,
    T,
    checked,
)

Spacing = Literal["leading", "trailing", "linspace"]


class Levels(NamedTuple):
    """Indices of the levels that are visited, these levels, and where each step leads."""

    indices: Index[K]
    alpha_bar: Real[K]
    next_alpha_bar: Real[K]


def _falls(alpha_bar, **_):
    """Levels that do not fall, or fewer than two."""
    if len(alpha_bar) < 2:
        raise ValueError("alpha_bar must hold at least two numbers")
    return [(lambda: (alpha_bar[1:] < alpha_bar[:-1]).all(), "alpha_bar must fall")]


def _within(alpha_bar, steps, spacing, offset, **_):
    """Levels that do not fall, more steps than levels, or an index that does not exist."""
    count = len(alpha_bar)
    if steps > count:
        raise ValueError(f"steps must not be above the number of levels, {count}")
    if spacing == "linspace" and steps < 2:
        raise ValueError("steps must be at least 2 with linspace, which has two ends")
    if spacing == "leading" and (steps - 1) * (count // steps) + offset >= count:
        raise ValueError(f"offset must leave all indices below {count}")
    return _falls(alpha_bar)


def _indices(count, steps, spacing, offset):
    """By integers and fractions: floating ranges miscount."""
    # eq. time-grids-spacing
    if spacing == "leading":
        rising = [i * (count // steps) + offset for i in range(steps)]
    elif spacing == "trailing":
        parts = range(1, steps + 1)
        rising = [round(Fraction(i * count, steps)) - 1 for i in parts]
    else:
        parts = range(steps)
        rising = [round(Fraction(i * (count - 1), steps - 1)) for i in parts]

    return rising[::-1]


@checked(also=_within)
def sampling_levels(
    alpha_bar: Prob[T],
    *,
    steps: PositiveInt = 10,
    spacing: Spacing = "trailing",
    offset: NonNegativeInt = 0,
    final: Literal["data", "first"] = "data",
) -> Levels:
    """Choose the levels that a sampler visits.

    Parameters
    ----------
    alpha_bar
        Squared signal levels of training, from data to noise.
    spacing
        Which grid.
    offset
        Added to the indices of the leading grid.
    final
        Where the last step leads: to the data, or to the first level.
    """
    indices = xp.asarray(_indices(len(alpha_bar), steps, spacing, offset))
    now = alpha_bar[indices]
    last = xp.ones_like(now[:1]) if final == "data" else alpha_bar[:1]
    # eq. time-grids-pairs
    return Levels(indices, now, xp.concatenate([now[1:], last]))


@checked(also=_falls)
def zero_terminal_snr(alpha_bar: Prob[T]) -> Real[T]:
    """Shift and scale a schedule so that its last level has no signal."""
    root = xp.sqrt(alpha_bar)
    # eq. time-grids-zero
    return ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
