r"""Spectral risks: a mean that looks at the largest losses, and its smooth form.

The mean of n losses treats all alike. A *spectrum* :math:`0 \le \sigma_1 \le \dots \le \sigma_n` of sum 1 gives the
larger ones more weight,

.. math::
    :label: spectral-risk-sorted

    R(\ell) = \sum_i \sigma_i \ell_{(i)} = \max_{q \in P(\sigma)} q^\top \ell, \qquad
    \ell_{(1)} \le \dots \le \ell_{(n)},

with :math:`P(\sigma)` the hull of all orders of the spectrum: the worst reweighting in it. Spectra are differences
:math:`\sigma_i = h(u_i) - h(u_{i-1})` of a convex h from 0 to 1, at the shares :math:`u_i = i/n` of losses counted so
far. The *superquantile*, or conditional value at risk, is the mean of the largest share :math:`1 - a`,

.. math::
    :label: spectral-risk-superquantile

    h(u) = \frac{\max(u - a, 0)}{1 - a},

the *extremile* the expected largest of r draws,

.. math::
    :label: spectral-risk-extremile

    h(u) = u^r,

and the *exponential* spectrum

.. math::
    :label: spectral-risk-exponential

    h(u) = \frac{e^{-\rho} (e^{\rho u} - 1)}{1 - e^{-\rho}} .

R has kinks where losses are equal. A price for leaving equal weights smooths it:

.. math::
    :label: spectral-risk-smooth

    R_\nu(\ell) = \max_{q \in P(\sigma)} q^\top \ell - \nu\, \Omega(q), \qquad
    \Omega(q) = \frac n2 \Big\| q - \frac{\mathbf 1}n \Big\|^2 \;\text{ or }\; \sum_i q_i \log (n q_i),

a chi-square divergence or a Kullback-Leibler one. With losses in ascending order the maximiser is

.. math::
    :label: spectral-risk-oracle

    q_i = \frac{\ell_i}{\nu n} + \frac1n - c_i \quad\text{or}\quad q_i = \frac1n e^{\ell_i / \nu - c_i},

where c is non-decreasing: constant on blocks of neighbours, which share the spectrum's weight on the block. A block B
alone would have the mean of :math:`\ell_s / \nu n + 1/n - \sigma_s`, or
:math:`\log \sum_B e^{\ell_s / \nu} - \log \sum_B \sigma_s - \log n`; call that :math:`m(B)`. Then

.. math::
    :label: spectral-risk-pooled

    c_i = \max_{j \le i} \min_{k \ge i} m(\{j, \dots, k\}) .

That costs :math:`n^2` numbers and no decision; pooling neighbours one by one is a loop of :math:`O(n)`. Within a block
q is computed from differences of its losses, in which nothing cancels.

The derivative of the maximum is its maximiser, held constant:

.. math::
    :label: spectral-risk-gradient

    \nabla_\ell R_\nu = q .

For losses of a model, with a penalty,

.. math::
    :label: spectral-risk-objective

    F(\theta) = R_\nu(\ell(\theta)) + \frac\mu2 \|\theta\|^2, \qquad
    \nabla F = \sum_i q_i \nabla \ell_i(\theta) + \mu \theta .

Equal losses get equal weights for :math:`\nu > 0`; without smoothing, those of a stable sort. A uniform spectrum is the
mean, and so is :math:`\nu \to \infty`; :math:`\nu \to 0` is R.

====================  ==============
:math:`u`             `cumulative`
:math:`a`             `level`
:math:`r`             `power`
:math:`\rho`          `rate`
:math:`\nu`           `shift_cost`
:math:`\mu`           `l2`
====================  ==============

**Where implementations differ.** The authors' README has the chi-square penalty without its half, their code with it.
Their superquantile counts the losses left out as ``floor(n a)``, which rounding makes one too few where n a is a whole
number, and one loss too many then gets a weight; their report of the smooth risk subtracts the chi-square penalty, also
where the Kullback-Leibler one was maximised.

**Provenance.** Spectra, risk, smooth weights and gradient are confirmed in the authors' code (ronakdm/prospect), where
blocks are pooled one by one; the formula by maxima and minima is the classical one for monotone regression.

Mehta, Roulet, Pillutla and Harchaoui, *Distributionally Robust Optimization with Bias and Variance Reduction*, 2024,
arXiv:2310.13863.
"""

import math
from typing import Annotated, Literal

from trref import validate
from trref.backend import special, xp
from trref.problems.protocols import SeparableLoss
from trref.signature import (
    N1,
    Decay,
    N,
    NonNegativeFloat,
    P,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    Simplex,
    checked,
)


def _all_counted(cumulative, **_):
    """Shares that fall, or do not go from 0 to 1."""
    rises = lambda: (cumulative[1:] >= cumulative[:-1]).all()  # noqa: E731
    whole = lambda: (cumulative[0] == 0) & (cumulative[-1] == 1)  # noqa: E731
    return [
        (rises, "cumulative must not fall"),
        (whole, "cumulative must go from 0 to 1"),
    ]


@checked(also=_all_counted)
def superquantile_spectrum(cumulative: Prob[N1], *, level: Decay = 0.5) -> Simplex[N]:
    """Weights of the mean of the largest losses.

    Parameters
    ----------
    cumulative
        Share of the losses counted so far, from the smallest on: i / n for i = 0 to n.
    level
        Share of the losses that are left out.
    """
    # eq. spectral-risk-superquantile
    counted = xp.maximum(cumulative - level, 0)
    return (counted[1:] - counted[:-1]) / counted[-1]


@checked(also=_all_counted)
def extremile_spectrum(
    cumulative: Prob[N1], *, power: Annotated[float, "[1, inf)"] = 2.0
) -> Simplex[N]:
    """Weights of the expected largest of several draws.

    Parameters
    ----------
    power
        How many draws.
    """
    h = cumulative**power  # eq. spectral-risk-extremile
    return xp.maximum(h[1:] - h[:-1], 0)


@checked(also=_all_counted)
def exponential_spectrum(
    cumulative: Prob[N1], *, rate: PositiveFloat = 1.0
) -> Simplex[N]:
    """Weights that grow by a constant factor.

    Parameters
    ----------
    rate
        Log of the last weight over the first, for many losses.
    """
    # from differences of shares, so that small rates do not cancel
    # eq. spectral-risk-exponential
    below, step = cumulative[:-1], cumulative[1:] - cumulative[:-1]
    return xp.exp(rate * (below - 1)) * xp.expm1(rate * step) / -math.expm1(-rate)


def _ascending(spectrum, **_):
    """A spectrum that falls."""
    room = max(1e-6, math.sqrt(float(xp.finfo(spectrum.dtype).eps)))
    falls = "spectrum must not fall: larger losses have larger weights"

    def rises():
        steps = spectrum[1:] - spectrum[:-1]
        return (steps >= -room * spectrum.max()).all()

    return [(rises, falls)]


def _ranks(losses):
    """The order of the losses, and the rank of each."""
    order = xp.argsort(losses, kind="stable")
    return order, xp.argsort(order, kind="stable")


@checked(also=_ascending)
def spectral_risk(losses: Real[N], spectrum: Simplex[N]) -> tuple[Scalar, Simplex[N]]:
    """The weighted mean of sorted losses.

    Parameters
    ----------
    losses
        Of the samples.
    spectrum
        Weights in ascending order, the last one of the largest loss.

    Returns
    -------
    risk
    weights
        With respect to `losses`; between equal ones, as a stable sort has them.
    """
    q = xp.take(spectrum, _ranks(losses)[1])
    return (q * losses).sum(), q  # eq. spectral-risk-sorted


@checked(also=_ascending)
def max_oracle(
    losses: Real[N],
    spectrum: Simplex[N],
    *,
    shift_cost: PositiveFloat = 1.0,
    penalty: Literal["chi2", "kl"] = "chi2",
) -> Simplex[N]:
    """The worst weights at a price for leaving equal ones.

    Parameters
    ----------
    shift_cost
        The price of a divergence of 1.
    penalty
        The divergence: chi-square or Kullback-Leibler.
    """
    order, rank = _ranks(losses)
    scale = shift_cost * len(losses) if penalty == "chi2" else shift_cost
    x = xp.take(losses, order) / scale
    together = _blocks(x, spectrum, penalty)

    # eq. spectral-risk-oracle
    shared = (together * spectrum).sum(1)
    if penalty == "chi2":
        count = together.sum(1)
        above = (together * (x[:, None] - x)).sum(1)
        q = (above + shared) / count
    else:
        top = xp.where(together > 0, x, -xp.inf).max(1)
        powers = xp.exp(xp.where(together > 0, x - top[:, None], -xp.inf))
        q = shared * xp.exp(x - top) / powers.sum(1)
    return xp.take(xp.maximum(q, 0), rank)


def _blocks(x, spectrum, penalty):
    """1 where the losses of row and column, which ascend, are in one block; else 0."""
    below = xp.arange(len(x))[:, None] <= xp.arange(len(x))  # rows j, columns k
    if penalty == "chi2":
        count = xp.where(below, _summed(below.astype(x.dtype)), 1)
        block = _summed(below * (x - spectrum)[:, None]) / count
    else:
        powers = xp.exp(xp.where(below, x[:, None] - x, -xp.inf))
        weight = _summed(below * spectrum[:, None])
        some = below & (weight > 0)
        block = x + xp.log(xp.where(below, _summed(powers), 1))
        block = xp.where(some, block - xp.log(xp.where(some, weight, 1)), xp.inf)

    # eq. spectral-risk-pooled
    least = _least_from_here(block)
    c = xp.where(below, least, -xp.inf).max(0)
    return (c[:, None] == c).astype(x.dtype)


def _summed(A):
    """Sums over rows from each on: of column k, over s = j, …, k where rows beyond k are 0."""
    return xp.cumsum(A[::-1], 0)[::-1]


def _least_from_here(A):
    """The least entry of each row from each column on, in log n comparisons of halves."""
    A, reach = A.copy(), 1
    while reach < A.shape[1]:
        A[:, :-reach] = xp.minimum(A[:, :-reach], A[:, reach:])
        reach *= 2
    return A


@checked(also=_ascending)
def smooth_risk(
    losses: Real[N],
    spectrum: Simplex[N],
    *,
    shift_cost: PositiveFloat = 1.0,
    penalty: Literal["chi2", "kl"] = "chi2",
) -> tuple[Scalar, Simplex[N]]:
    """The smooth risk, and the worst weights as its derivative.

    Returns
    -------
    risk
    weights
        With respect to `losses`.
    """
    how = {"shift_cost": shift_cost, "penalty": penalty}
    q = max_oracle.unchecked(losses, spectrum, **how)
    # eq. spectral-risk-smooth
    n = len(q)
    if penalty == "chi2":
        divergence = n / 2 * ((q - 1 / n) ** 2).sum()
    else:
        divergence = special.xlogy(q, n * q).sum()
    return (q * losses).sum() - shift_cost * divergence, q  # eq. spectral-risk-gradient


@checked(also=_ascending)
def robust_objective(
    samples: SeparableLoss,
    theta: Real[P],
    spectrum: Simplex[N],
    *,
    shift_cost: PositiveFloat = 1.0,
    penalty: Literal["chi2", "kl"] = "chi2",
    l2: NonNegativeFloat = 0.0,
) -> tuple[Scalar, Real[P]]:
    """The smooth risk of a model's losses.

    Parameters
    ----------
    samples
        Such as those of `trref.problems.samples`.
    spectrum
        As many weights as there are samples.
    l2
        Weight of half the squared norm of the parameters.

    Returns
    -------
    loss
    gradient
        With respect to `theta`.
    """
    losses, gradients = validate.each(samples, theta, len(spectrum))
    how = {"shift_cost": shift_cost, "penalty": penalty}
    risk, q = smooth_risk.unchecked(losses, spectrum, **how)
    # eq. spectral-risk-objective
    return risk + l2 / 2 * (theta * theta).sum(), q @ gradients + l2 * theta
