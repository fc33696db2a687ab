r"""Mixed models with heavy tails: a multivariate t distribution that trusts far clusters less.

Observations come in clusters, with effects of the cluster beside those of all:

.. math::
    :label: t-mixed-model-variance

    y_i = X_i \beta + Z_i b_i + \varepsilon_i, \qquad V_i = Z_i L L^\top Z_i^\top + \sigma^2 I .

Normal effects and errors make :math:`y_i` normal with the covariance :math:`V_i`, and a cluster that is far off pulls
the estimate in proportion to its distance. With a multivariate t distribution of the scale :math:`V_i` (whose
covariance is :math:`\frac\nu{\nu - 2} V_i`) the log-likelihood is, with :math:`r_i = y_i - X_i \beta` and
:math:`\delta_i = r_i^\top V_i^{-1} r_i`,

.. math::
    :label: t-mixed-model-likelihood

    \ell = \sum_i \log \frac{\Gamma(\frac{\nu + n}2)}{\Gamma(\frac\nu2)\, (\nu \pi)^{n/2}} - \tfrac12 \log |V_i| -
    \tfrac{\nu + n}2 \log \Big( 1 + \frac{\delta_i}\nu \Big) .

Its derivative has a weight of each cluster, which falls with the distance,

.. math::
    :label: t-mixed-model-weight

    w_i = \frac{\nu + n}{\nu + \delta_i},

and with :math:`s_i = V_i^{-1} r_i` it is

.. math::
    :label: t-mixed-model-gradient

    \begin{aligned} \nabla_\beta &= \sum_i w_i X_i^\top s_i, \qquad G_i = \nabla_{V_i} = \tfrac12 \big( w_i s_i s_i^\top
    - V_i^{-1} \big), \\ \nabla_{\log \sigma^2} &= \sigma^2 \sum_i \operatorname{tr} G_i, \qquad \nabla_L = 2 \sum_i
    Z_i^\top G_i Z_i L . \end{aligned}

L is lower triangular with a positive diagonal, of which the logarithms are given: their derivatives are multiplied by
:math:`L_{jj}`, and what stands above the diagonal has no meaning and the derivative 0. For :math:`\nu \to \infty`, or
`dof` None, all weights are 1 and the model is the normal one,

.. math::
    :label: t-mixed-model-normal

    \ell = -\tfrac12 \sum_i \big( n \log 2 \pi + \log |V_i| + \delta_i \big) .

Clusters of one call have one size n. Of clusters of several sizes, the log-likelihoods are added, at the same
:math:`\nu`: the index of entropy of `trref.statistics.robust_high_dimensional` would then differ.

====================  ===================================
:math:`\nu`           `dof`
:math:`L`             `factor`, its diagonal by logarithms
:math:`\log\sigma^2`  `log_variance`
====================  ===================================

**Where implementations differ.** No public code of this model by the author is known. Effects and errors that are each
t distributed and independent are another model, whose sum has no closed form.

**Provenance.** Reconstructed from the thesis' abstract and the density of the t distribution; the gradient by
differences.

Yang, *Contributions to Robust and Efficient Methods for Analysis of High Dimensional Data*, thesis, McGill University,
2025, arXiv:2509.08155.
"""

import math
from typing import NamedTuple

from trref.backend import linalg, xp
from trref.signature import (
    K,
    N,
    P,
    Positive,
    PositiveFloat,
    Q,
    Real,
    Scalar,
    checked,
)


class Gradients(NamedTuple):
    """With respect to effects, logarithm of the variance, and factor."""

    beta: Real[P]
    log_variance: Scalar
    factor: Real[Q, Q]


def _lower(factor):
    """The triangular factor, whose diagonal is given by logarithms."""
    return xp.tril(factor, -1) + xp.diag(xp.exp(xp.diagonal(factor)))


def _well_scaled(log_variance, factor, Z, **_):
    """Scales beyond those of numbers: logarithms above 30, effects a million times the noise."""
    logs = lambda: abs(xp.diagonal(factor)).max() <= 30  # noqa: E731

    def moderate():
        diagonal = xp.clip(xp.diagonal(factor), -30, 30)
        L = xp.tril(factor, -1) + xp.diag(xp.exp(diagonal))
        noise = xp.exp(xp.clip(log_variance, -30, 30) / 2)
        return abs(Z @ L).max() <= 1e6 * noise

    return [
        (lambda: abs(log_variance) <= 30, "log_variance must lie between -30 and 30"),
        (logs, "factor must have a diagonal between -30 and 30"),
        (moderate, "factor must make effects of at most 1e6 times the noise"),
    ]


class _Cluster(NamedTuple):
    """What value and derivative share."""

    L: Real[Q, Q]
    variance: Scalar
    inverse: Real[K, N, N]
    V: Real[K, N, N]
    s: Real[K, N]
    delta: Real[K]


def _look(beta, log_variance, factor, X, Z, y):
    L, variance = _lower(factor), xp.exp(log_variance)
    root, n = Z @ L, y.shape[1]
    # eq. t-mixed-model-variance
    noise = variance * xp.eye(n, dtype=y.dtype)
    V = root @ xp.swapaxes(root, 1, 2) + noise

    inverse = linalg.inv(V)
    r = y - X @ beta
    s = (inverse * r[:, None]).sum(2)
    return _Cluster(L, variance, inverse, V, s, (r * s).sum(1))


@checked(also=_well_scaled)
def robustness_weights(
    beta: Real[P],
    log_variance: Scalar,
    factor: Real[Q, Q],
    X: Real[K, N, P],
    Z: Real[K, N, Q],
    y: Real[K, N],
    *,
    dof: PositiveFloat = 4.0,
) -> Positive[K]:
    """How much each cluster counts.

    Parameters
    ----------
    beta
        Effects that all clusters share.
    log_variance
        Of the errors.
    factor
        Lower triangular factor of the covariance of a cluster's own effects, the diagonal by logarithms.
    X
        What the shared effects multiply, one matrix a cluster.
    Z
        What the cluster's own effects multiply.
    y
        Observations, one cluster a row.
    dof
        Degrees of freedom.
    """
    delta = _look(beta, log_variance, factor, X, Z, y).delta
    return (dof + y.shape[1]) / (dof + delta)  # eq. t-mixed-model-weight


@checked(also=_well_scaled)
def t_log_likelihood(
    beta: Real[P],
    log_variance: Scalar,
    factor: Real[Q, Q],
    X: Real[K, N, P],
    Z: Real[K, N, Q],
    y: Real[K, N],
    *,
    dof: PositiveFloat | None = 4.0,
) -> tuple[Scalar, Gradients]:
    """Log-likelihood of clusters under a multivariate t distribution.

    Parameters
    ----------
    dof
        Degrees of freedom; the normal distribution if None.

    Returns
    -------
    value
    gradient
    """
    at, n = _look(beta, log_variance, factor, X, Z, y), y.shape[1]
    pivots = xp.diagonal(linalg.cholesky(at.V), axis1=1, axis2=2)
    log_determinants = 2 * xp.log(pivots).sum(1)
    if dof is None:
        # eq. t-mixed-model-normal
        each = -(n * math.log(2 * math.pi) + log_determinants + at.delta) / 2
        weight = xp.ones_like(at.delta)
    else:
        # eq. t-mixed-model-likelihood
        ratio = math.lgamma((dof + n) / 2) - math.lgamma(dof / 2)
        constant = ratio - n / 2 * math.log(dof * math.pi)
        tail = (dof + n) / 2 * xp.log1p(at.delta / dof)
        each = constant - log_determinants / 2 - tail
        weight = (dof + n) / (dof + at.delta)

    # eq. t-mixed-model-gradient
    s = xp.sqrt(weight)[:, None] * at.s
    G = (s[:, :, None] * s[:, None, :] - at.inverse) / 2
    d_beta = (X * (weight[:, None] * at.s)[:, :, None]).sum((0, 1))
    d_log_variance = at.variance * xp.trace(G, axis1=1, axis2=2).sum()
    d_L = 2 * (xp.swapaxes(Z, 1, 2) @ G @ (Z @ at.L)).sum(0)
    d_diagonal = xp.diag(xp.diagonal(d_L) * xp.diagonal(at.L))
    return each.sum(), Gradients(d_beta, d_log_variance, xp.tril(d_L, -1) + d_diagonal)
