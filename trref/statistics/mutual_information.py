r"""Screening by mutual information: which variables tell of the outcome, in whatever way.

A correlation sees what is linear. The mutual information of two variables with the joint probabilities :math:`p_{uv}`
of the cells of a table is 0 only where they are independent:

.. math::
    :label: mutual-information-table

    I = \sum_{uv} p_{uv} \log \frac{p_{uv}}{p_{u \cdot}\, p_{\cdot v}}, \qquad 0 \log 0 = 0 .

For numbers, p is estimated on a grid of points g: both variables are divided by their standard deviation, and each of
the n samples is spread by the kernel of Epanechnikov, which depends on the distance,

.. math::
    :label: mutual-information-kernel

    \hat p_g \propto \sum_i \Big( 1 - \frac{\|g - (a_i, b_i)\|^2}{R^2} \Big)_+, \qquad R = \sqrt 6\, h, \quad h = c\,
    n^{-1/6},

where h is its standard deviation along either axis, by Silverman's rule for c = 1, and the grid reaches R beyond the
samples. For classes there is a density each, of the one variable, times the share of the class:

.. math::
    :label: mutual-information-classes

    \hat p_{kg} = \frac{n_k}n\, \frac{K_{kg}}{\sum_g K_{kg}}, \quad K_{kg} = \sum_{i:\, y_i = k} \Big( 1 - \frac{(g -
    a_i)^2}{R^2} \Big)_+, \qquad R = \sqrt 5\, h, \quad h = c\, \big( \tfrac4{3n} \big)^{1/5} .

The other way is to count in bins of equal width. How many are good for one variable, with counts :math:`N_j`, Birgé
and Rozenholc choose by the largest penalised likelihood

.. math::
    :label: mutual-information-bins

    \sum_{j=1}^D N_j \log N_j + n \log D - \big( D - 1 + \log^{2.5} D \big) .

For two normal variables with the correlation :math:`\rho`

.. math::
    :label: mutual-information-gaussian

    I = -\tfrac12 \log (1 - \rho^2),

so what a mutual information would be as a correlation is Linfoot's

.. math::
    :label: mutual-information-linfoot

    \sqrt{1 - e^{-2I}} .

Screening keeps the variables with the largest estimates. A kernel smooths: strong dependence is estimated too low, and
independent variables are above 0 by chance, so the order counts and not the value.

========  =============
c         `bandwidth`
========  =============

**Where implementations differ.** The authors' package spreads samples by a Fourier transform on 300 by 300 points and
sets negative values to 0; sums have none. Its compiled routine computes the sum of the table, and does not divide by
it.

**Provenance.** Confirmed in the authors' package (fastHDMI) but for the bandwidths, which it takes from a library, and
the density of classes.

Yang, *Contributions to Robust and Efficient Methods for Analysis of High Dimensional Data*, thesis, McGill University,
2025, arXiv:2509.08155.
"""

import math
from typing import Annotated

from trref import validate
from trref.backend import special, xp
from trref.signature import (
    G,
    Index,
    K,
    M,
    N,
    NonNegative,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

Points = Annotated[int, "[2, inf)"]


def _something(joint, **_):
    """A table of zeros."""
    return [(lambda: joint.sum() > 0, "joint must not be 0 everywhere")]


@checked(also=_something)
def mutual_information(joint: NonNegative[K, M]) -> Scalar:
    """Mutual information of row and column.

    Parameters
    ----------
    joint
        Their joint probabilities, or numbers in proportion to them.
    """
    # eq. mutual-information-table
    p = joint / joint.sum()
    apart = p.sum(1)[:, None] * p.sum(0)
    terms = special.xlogy(p, p / xp.where(apart > 0, apart, 1))
    return xp.maximum(terms.sum(), 0)


def _grid(x, reach, points):
    """From below the smallest to above the largest; all samples' distances to its points, in reaches."""
    low, high = x.min() - reach, x.max() + reach
    steps = xp.arange(points, dtype=x.dtype) / (points - 1)
    return (low + (high - low) * steps - x[:, None]) / reach


def _spread(name, x, reach, points):
    """What a variable must be: not constant, and no sample between points that are all out of reach."""
    room = math.sqrt(2) * reach * (points - 1) - 2 * reach
    coarse = f"grid must be finer or bandwidth larger, or {name} without outliers"
    return [
        (lambda: x.max() > x.min(), f"{name} must not be constant"),
        (lambda: x.max() - x.min() < room * x.std(), coarse),
    ]


def _reach(n, bandwidth):
    return math.sqrt(6) * bandwidth * n ** (-1 / 6)


def _pair(a, b, bandwidth, grid, **_):
    """A constant variable, or a grid too coarse for the bandwidth."""
    reach = _reach(len(a), bandwidth)
    return _spread("a", a, reach, grid) + _spread("b", b, reach, grid)


@checked(also=_pair)
def kde_joint(
    a: Real[N], b: Real[N], *, bandwidth: PositiveFloat = 1.0, grid: Points = 48
) -> NonNegative[G, G]:
    """Joint probabilities of two variables on a grid.

    Parameters
    ----------
    a, b
        Samples of the two.
    bandwidth
        Times what Silverman's rule says.
    grid
        Points along each axis.
    """
    # eq. mutual-information-kernel
    reach = _reach(len(a), bandwidth)
    u = _grid(a / a.std(), reach, grid)[:, :, None]
    v = _grid(b / b.std(), reach, grid)[:, None, :]
    density = xp.maximum(1 - u**2 - v**2, 0).sum(0)
    return density / density.sum()


def _class_reach(n, bandwidth):
    return math.sqrt(5) * bandwidth * (4 / (3 * n)) ** (1 / 5)


def _classed(a, labels, classes, bandwidth, grid, **_):
    """A constant variable, a grid too coarse, or a class that there is not."""
    spread = _spread("a", a, _class_reach(len(a), bandwidth), grid)
    return [validate.labels(labels, classes, "labels"), *spread]


@checked(also=_classed)
def kde_by_class(
    a: Real[N],
    labels: Index[N],
    *,
    classes: PositiveInt = 2,
    bandwidth: PositiveFloat = 1.0,
    grid: Points = 48,
) -> NonNegative[K, G]:
    """Joint probabilities of a class, the rows, and a variable on a grid.

    Parameters
    ----------
    classes
        How many there are.
    grid
        Points along the variable.
    """
    u = _grid(a / a.std(), _class_reach(len(a), bandwidth), grid)
    member = (xp.arange(classes)[:, None] == labels).astype(a.dtype)
    # eq. mutual-information-classes
    density = member @ xp.maximum(1 - u**2, 0)
    total = density.sum(1, keepdims=True)
    share = member.sum(1, keepdims=True) / len(a)
    return share * density / xp.where(total > 0, total, 1)


def _varies(x, **_):
    """A constant variable."""
    return [(lambda: x.max() > x.min(), "x must not be constant")]


def _members(x, bins):
    """1 where a sample, the row, is in a bin."""
    places = xp.floor((x - x.min()) / (x.max() - x.min()) * bins)
    place = xp.minimum(places, bins - 1)
    return (place[:, None] == xp.arange(bins)).astype(x.dtype)


@checked(also=_varies)
def bin_scores(x: Real[N], *, most: PositiveInt = 20) -> Real[G]:
    """Penalised log-likelihood of histograms with 1, 2, … bins; the largest says how many.

    Parameters
    ----------
    x
        Samples.
    most
        The largest number of bins.
    """
    scores = []
    for bins in range(1, most + 1):
        counts = _members(x, bins).sum(0)
        # eq. mutual-information-bins
        fit = special.xlogy(counts, counts).sum() + len(x) * math.log(bins)
        scores.append(fit - (bins - 1 + math.log(bins) ** 2.5))
    return xp.stack(scores)


def _vary(a, b, **_):
    """A constant variable."""
    return [
        (lambda: a.max() > a.min(), "a must not be constant"),
        (lambda: b.max() > b.min(), "b must not be constant"),
    ]


@checked(also=_vary)
def binned_joint(
    a: Real[N], b: Real[N], *, bins_a: PositiveInt = 8, bins_b: PositiveInt = 8
) -> NonNegative[K, M]:
    """Joint probabilities of two variables in bins, from counts.

    Parameters
    ----------
    bins_a, bins_b
        How many, such as `bin_scores` says.
    """
    # eq. mutual-information-bins
    return _members(a, bins_a).T @ _members(b, bins_b) / len(a)


def _correlations(rho, **_):
    """A correlation that is 1 or more in size."""
    inside = lambda: (abs(rho) < 1).all()  # noqa: E731
    return [(inside, "rho must lie between -1 and 1")]


@checked(also=_correlations)
def gaussian_mi(rho: Real[N]) -> NonNegative[N]:
    """Mutual information of normal variables.

    Parameters
    ----------
    rho
        Correlations.
    """
    return -xp.log1p(-(rho**2)) / 2  # eq. mutual-information-gaussian


@checked
def linfoot(information: NonNegative[N]) -> NonNegative[N]:
    """The correlation that normal variables with such an information have.

    Parameters
    ----------
    information
        Mutual informations.
    """
    return xp.sqrt(-xp.expm1(-2 * information))  # eq. mutual-information-linfoot
