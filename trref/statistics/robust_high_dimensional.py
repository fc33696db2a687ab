r"""Robust methods for many variables: heavy tails as the law of the largest entropy.

The thesis has three tools, each of which has a module: variables are screened by `trref.statistics.mutual_information`;
sparse regressions with SCAD or MCP (`trref.statistics.nonconvex_penalties`) are fitted by
`trref.statistics.accelerated_gradient`; and a mixed model with heavy tails, `trref.statistics.t_mixed_model`, is fitted
with a penalty by `trref.statistics.proximal_cg`. Here is why the tails are those of a t distribution.

The normal distribution has the largest Shannon entropy among the laws of its mean and covariance. The entropy of
Tsallis

.. math::
    :label: robust-high-dimensional-entropy

    S_q(f) = \frac{1 - \int f^q}{q - 1} = -\int f\, \frac{f^{q - 1} - 1}{q - 1}

is Shannon's for :math:`q \to 1`. The *escort* distribution of f is

.. math::
    :label: robust-high-dimensional-escort

    f_q = \frac{f^q}{\int f^q} .

For :math:`1 < q < \frac{k + 4}{k + 2}` in k dimensions, consider

.. math::
    :label: robust-high-dimensional-density

    f(x) \propto \big[ 1 + (q - 1)\, \beta\, x^\top \Sigma^{-1} x \big]^{-1 / (q - 1)}, \qquad \beta = \frac1{(k + 4) -
    (k + 2)\, q},

a multivariate t distribution of covariance :math:`\Sigma` with

.. math::
    :label: robust-high-dimensional-freedom

    \nu = \frac2{q - 1} - k \quad\text{and the scale}\quad \Sigma\, \frac{\nu - 2}\nu .

It maximises :math:`S_q` among laws with its *escort* mean and covariance, and :math:`S_{2 - q}` among those with its
*ordinary* mean and covariance. It does not maximise :math:`S_q` at the ordinary ones: for :math:`q > 1` that is a law
on a bounded set, :math:`f \propto (1 - x^\top A x)_+^{1 / (q - 1)}`. A fixed :math:`\nu` means another q in each
dimension.

Integrals are sums over cells, each with a volume.

**Where implementations differ.** No public code of this part is known. Which moments are held is left unsaid where the
result is quoted, and with it whether the tails are heavy or cut.

**Provenance.** Reconstructed from the thesis' abstract, and from what is known of the entropies of Tsallis; who
maximises what was tried by numbers.

Yang, *Contributions to Robust and Efficient Methods for Analysis of High Dimensional Data*, thesis, McGill University,
2025, arXiv:2509.08155.
"""

import math
from typing import Annotated

from trref.backend import linalg, special, xp
from trref.signature import (
    D,
    G,
    N,
    NonNegative,
    Positive,
    Real,
    Scalar,
    checked,
)

Index = Annotated[float, "[0.1, 2]"]


def _whole(density, volume, **_):
    """A density whose integral is not 1."""
    one = lambda: abs((density * volume).sum() - 1) <= 1e-5  # noqa: E731
    return [(one, "density must have an integral of 1, to 1e-5")]


@checked(also=_whole)
def tsallis_entropy(
    density: NonNegative[G], volume: Positive[G], *, q: Index = 1.2
) -> Scalar:
    """The entropy of Tsallis.

    Parameters
    ----------
    density
        Values of a density, one a cell.
    volume
        Of the cells.
    q
        Its index; 1 is the entropy of Shannon.
    """
    # eq. robust-high-dimensional-entropy
    log = xp.log(xp.where(density > 0, density, 1))
    if q == 1:
        return -(volume * special.xlogy(density, density)).sum()
    powers = density * xp.expm1((q - 1) * log) / (q - 1)
    return -(volume * powers).sum()


@checked(also=_whole)
def escort(
    density: NonNegative[G], volume: Positive[G], *, q: Index = 1.2
) -> NonNegative[G]:
    """The escort distribution: a power of a density, with an integral of 1."""
    power = (density / density.max()) ** q
    return power / (volume * power).sum()  # eq. robust-high-dimensional-escort


def _a_covariance(x, covariance, q, **_):
    """An index for which there is no covariance; a matrix that is not one."""
    k = x.shape[1]
    if not 1 < q < (k + 4) / (k + 2):
        raise ValueError(f"q must lie between 1 and {(k + 4) / (k + 2):.4g}, not {q:g}")
    loose = max(1e-6, math.sqrt(float(xp.finfo(covariance.dtype).eps)))
    even = lambda: (  # noqa: E731
        abs(covariance - covariance.T).max() <= loose * abs(covariance).max()
    )

    def definite():
        finite = xp.where(xp.isfinite(covariance), covariance, 0)
        values = linalg.eigvalsh(finite)
        return values[0] > 1e-12 * values[-1]

    return [
        (even, "covariance must be symmetric"),
        (definite, "covariance must be positive definite, of a condition below 1e12"),
    ]


@checked(also=_a_covariance)
def maximal_log_density(
    x: Real[N, D], covariance: Real[D, D], *, q: Annotated[float, "(1, 2)"] = 1.2
) -> Real[N]:
    """Logarithm of the density of maximal entropy, a t distribution.

    Parameters
    ----------
    x
        Points, as seen from the mean, one a row.
    covariance
        The ordinary one.
    q
        The index of the entropy for escort moments; 2 minus it for ordinary ones.
    """
    k = x.shape[1]
    dof = 2 / (q - 1) - k  # eq. robust-high-dimensional-freedom

    # eq. robust-high-dimensional-density
    root = linalg.cholesky((covariance + covariance.T) / 2)
    distance = (linalg.solve(root, x.T) ** 2).sum(0)
    beta = 1 / ((k + 4) - (k + 2) * q)
    shape = xp.log1p((q - 1) * beta * distance) / (q - 1)
    size = xp.log(xp.diagonal(root)).sum() + k / 2 * math.log((dof - 2) * math.pi)
    constant = math.lgamma((dof + k) / 2) - math.lgamma(dof / 2)
    return constant - size - shape
