r"""ConjNorm: densities of features by a norm and its conjugate, to find inputs of no known class.

Let the features of each class follow an exponential family with the cumulant :math:`\psi = \frac12 \|\cdot\|_p^2`. The
conjugate of that is :math:`\varphi = \frac12 \|\cdot\|_q^2` with :math:`1/p + 1/q = 1`, and the density around the
class's mean is one of a Bregman divergence. Its gradient is the *duality map*,

.. math::
    :label: conjnorm-map

    \nabla \tfrac12 \|x\|_q^2 = \frac{\text{sign}(x)\, |x|^{q - 1}}{\|x\|_q^{q - 2}},

whose inverse is the same map with p, and which turns the q-norm of x into the p-norm of its result. The divergence is

.. math::
    :label: conjnorm-divergence

    d(z, \mu) = \tfrac12 \|z\|_q^2 + \tfrac12 \|\mu\|_q^2 - z^\top \nabla \varphi(\mu) \ge 0,

for p = 2 half the squared distance. What of it depends on z, at a temperature T, is the score of class k,

.. math::
    :label: conjnorm-class

    s_k(z) = \frac{1}{T} \Big(z^\top \nabla \varphi(\mu_k) - \tfrac12 \|z\|_q^2\Big),

and the rest goes into the normaliser, an integral over all features. For q other than 2 it depends on the mean, and is
estimated from the class's own training features :math:`z_i`, with a proposal density that is taken to be flat:

.. math::
    :label: conjnorm-partition

    \log \Phi_k = \log \sum_{i:\, y_i = k} e^{s_k(z_i)}, \qquad \text{or over all } i.

With classes of equal prior, the log-density is up to a constant

.. math::
    :label: conjnorm-score

    S(z) = \log \sum_k e^{s_k(z) - \log \Phi_k},

.. math::
    :label: conjnorm-gradient

    \nabla S = \frac1T \Big(\sum_k \pi_k\, \nabla \varphi(\mu_k) - \nabla \varphi(z)\Big), \qquad
    \pi = \text{softmax}_k(s_k - \log \Phi_k),

and small values mean an input of no class. Features are brought to p-norm 1 first, class means likewise, *after* the
mean of raw features is taken:

.. math::
    :label: conjnorm-normalise

    z \leftarrow \frac{z}{\|z\|_p}, \qquad \mu_k \leftarrow \frac{m_k}{\|m_k\|_p}, \quad
    m_k = \frac{1}{N_k} \sum_{i:\, y_i = k} z_i

Three older scores are held against it: the largest probability, the *energy* with its temperature, and the smallest
squared distance of Mahalanobis with one covariance :math:`\Sigma` for all classes,

.. math::
    :label: conjnorm-baselines

    \max_k \text{softmax}(\ell)_k, \qquad T \log \sum_k e^{\ell_k / T}, \qquad
    -\min_k (z - m_k)^\top \Sigma^{-1} (z - m_k).

p is at least 1.05: below that q is above 21, and explodes. The map of 0 is 0. A class without training features has the
mean 0, and no normaliser of its own.

**Where implementations differ.** Of the authors' two scripts one sums over all training features for each class
(`samples` ``"all"``), the other over the class's own. They exponentiate first, and add 1e-15 within a logarithm.

**Provenance.** Confirmed in the authors' scripts for ImageNet and CIFAR; the exponential family, the uniform prior and
the range of p in their public responses. The gradient and the closed forms of the tests are derived here.

Peng, Luo, Zhang, Li and Fang, *ConjNorm: Tractable Density Estimation for Out-of-Distribution Detection*, 2024,
arXiv:2402.17888.
"""

from typing import Annotated, Literal

from trref import validate
from trref.backend import linalg, xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    C,
    D,
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

Exponent = Annotated[float, "[1.05, 3]"]


def _norm(x, q):
    """Of each row, relative to its largest entry."""
    top = abs(x).max(-1, keepdims=True)
    some = xp.where(top > 0, top, 1)
    return top * ((abs(x) / some) ** q).sum(-1, keepdims=True) ** (1 / q)


def _map(x, q):
    """The duality map of each row."""
    length = _norm(x, q)
    unit = x / xp.where(length > 0, length, 1)
    # eq. conjnorm-map
    return length * xp.sign(unit) * abs(unit) ** (q - 1)


def _conjugate(p):
    return p / (p - 1)


@checked
def duality_map(x: Real[N, D], *, q: Annotated[float, "(1, 21]"] = 1.5) -> Real[N, D]:
    """The gradient of half the squared q-norm of each row.

    Parameters
    ----------
    x
        The rows.
    q
        The exponent. Its conjugate gives the inverse.
    """
    return _map(x, q)


@checked
def bregman(
    z: Real[N, D], means: Real[K, D], *, p: Exponent = 2.5
) -> NonNegative[N, K]:
    """The divergence of each row from each mean.

    Parameters
    ----------
    z
        Features, one row an input.
    means
        Of the classes.
    p
        The exponent of the cumulant; 2 for the squared distance.
    """
    q = _conjugate(p)
    own, others = _norm(z, q) ** 2 / 2, _norm(means, q)[:, 0] ** 2 / 2
    # eq. conjnorm-divergence
    return xp.maximum(own + others - z @ _map(means, q).T, 0)


def _classes(labels, classes, **_):
    """A label that is not below `classes`."""
    return [validate.labels(labels, classes)]


@checked(also=_classes)
def class_means(
    features: Real[M, D],
    labels: Index[M],
    *,
    classes: PositiveInt,
    p: Exponent = 2.5,
) -> Real[K, D]:
    """The mean of raw features of each class, of p-norm 1.

    Parameters
    ----------
    features
        Of M training inputs.
    labels
        Their classes.
    classes
        How many there are.
    """
    # a sum has the direction of the mean
    return _unit(one_hot(labels, classes, features.dtype).T @ features, p)


def _unit(x, p):
    # eq. conjnorm-normalise
    length = _norm(x, p)
    return x / xp.where(length > 0, length, 1)


@checked
def normalised(z: Real[N, D], *, p: Exponent = 2.5) -> Real[N, D]:
    """Rows of p-norm 1."""
    return _unit(z, p)


def _scores(z, means, p, temperature):
    """Of each class (N, K), and the maps of the means (K, D)."""
    q = _conjugate(p)
    eta = _map(means, q)
    s = (z @ eta.T - _norm(z, q) ** 2 / 2) / temperature  # eq. conjnorm-class
    return s, eta


def _each_class(labels, means, **_):
    """A label that has no mean, or a mean without a label."""
    K = len(means)
    named = lambda: (labels == xp.arange(K)[:, None]).any(1).all()  # noqa: E731
    return [
        validate.labels(labels, K),
        (named, "labels must name the class of every mean"),
    ]


@checked(also=_each_class)
def log_partition(
    features: Real[M, D],
    labels: Index[M],
    means: Real[K, D],
    *,
    p: Exponent = 2.5,
    temperature: PositiveFloat = 0.08,
    samples: Literal["own", "all"] = "own",
) -> Real[K]:
    """The logarithm of each class's normaliser, from training features.

    Parameters
    ----------
    features
        Of p-norm 1.
    temperature
        What differences of scores are divided by.
    samples
        The class's own features, or those of all classes.
    """
    s, _ = _scores(features, means, p, temperature)
    counted = one_hot(labels, len(means), features.dtype)
    counted = counted if samples == "own" else xp.ones_like(counted)
    # eq. conjnorm-partition
    top = xp.where(counted > 0, s, s.min()).max(0)
    return top + xp.log((counted * xp.exp(xp.minimum(s - top, 0))).sum(0))


@checked
def conjnorm_score(
    z: Real[N, D],
    means: Real[K, D],
    log_partition: Real[K],
    *,
    p: Exponent = 2.5,
    temperature: PositiveFloat = 0.08,
) -> tuple[Scalar, Real[N, D]]:
    """The log-density of all rows together, and its gradient; `log_density` gives it row by row.

    Parameters
    ----------
    log_partition
        The logarithm of each class's normaliser.

    Returns
    -------
    score
    gradient
        With respect to `z`.
    """
    s, eta = _scores(z, means, p, temperature)
    total, pi = _mixture(s - log_partition)
    # eq. conjnorm-gradient
    gradient = (pi @ eta - _map(z, _conjugate(p))) / temperature
    return total.sum(), gradient


def _mixture(logits):
    """Log-sum-exp and softmax of each row."""
    log_pi = log_softmax(logits)
    return (logits - log_pi)[:, 0], xp.exp(log_pi)  # eq. conjnorm-score


@checked
def log_density(
    z: Real[N, D],
    means: Real[K, D],
    log_partition: Real[K],
    *,
    p: Exponent = 2.5,
    temperature: PositiveFloat = 0.08,
) -> Real[N]:
    """The log-density of each row up to a constant: small where the input is of no class."""
    s, _ = _scores(z, means, p, temperature)
    return _mixture(s - log_partition)[0]


@checked
def max_softmax(logits: Real[N, C]) -> Real[N]:
    """The largest probability.

    Parameters
    ----------
    logits
        Of the classes.
    """
    return xp.exp(log_softmax(logits)).max(1)  # eq. conjnorm-baselines


@checked
def energy(logits: Real[N, C], *, temperature: PositiveFloat = 1.0) -> Real[N]:
    """The negative energy: a smooth maximum of the logits.

    Parameters
    ----------
    temperature
        How smooth: at 0 it would be the largest logit.
    """
    z = logits / temperature
    return temperature * (z - log_softmax(z))[:, 0]  # eq. conjnorm-baselines


def _with_means(labels, means, **_):
    """A label that has no mean."""
    return [validate.labels(labels, len(means))]


@checked(also=_with_means)
def mahalanobis(
    z: Real[N, D],
    features: Real[M, D],
    labels: Index[M],
    means: Real[K, D],
    *,
    damping: PositiveFloat = 1e-3,
) -> Real[N]:
    """The negative squared distance from the nearest mean, in the metric of one covariance within classes.

    Parameters
    ----------
    means
        Of the classes: here the means of the features as they are.
    damping
        Multiple of the mean variance that is added to each.
    """
    within = features - one_hot(labels, len(means), z.dtype) @ means
    covariance = within.T @ within / len(features)
    scale = (within**2).mean()
    eye = xp.where(scale > 0, scale, 1) * xp.eye(z.shape[1], dtype=z.dtype)
    covariance = covariance + damping * eye
    off = z[:, None] - means
    # eq. conjnorm-baselines
    return -(off * (off @ linalg.inv(covariance))).sum(-1).min(1)
