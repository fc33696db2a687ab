r"""FedImpro: clients that train their upper layers on features like everybody's.

What a client learns helps the others only as far as its data are like theirs. The *margin* of a model
:math:`\rho` on data D is how far samples are from where it would err, 0 where it errs already; for a linear model of
two classes, y = ±1,

.. math::
    :label: fedimpro-margin

    W(\rho, D) = \mathbb E_{(x, y) \sim D} \frac{\max(0,\, y (w \cdot x + b))}{\|w\|},

and what a client adds to the others' margin is at least its own on the samples it trained on, less the gap to all its
data, less twice the distance of the classes' distributions,

.. math::
    :label: fedimpro-distance

    C(D, D') = \tfrac12 \mathbb E_{y \sim D} W_1(D|y,\, D'|y) + \tfrac12 \mathbb E_{y \sim D'} W_1(D|y,\, D'|y),

here in one dimension, where :math:`W_1` is the area between two distribution functions. So the network is split. The
lower part makes features h, and clients share, for each class, means and variances of these, of which everybody draws
features like all clients' to train the upper part on beside its own:

.. math::
    :label: fedimpro-loss

    \hat f = f(\theta_{high}; h(x; \theta_{low}), y) + f(\theta_{high}; \hat h, \hat y),
    \qquad \hat h \sim N(\mu_{\hat y}, \sigma_{\hat y}),

each a mean cross-entropy; drawn features are constants, and move the upper part alone. Averaged over the joint batch of
n samples and :math:`\hat n` drawn features it is, instead,

.. math::
    :label: fedimpro-joint

    \frac{n\, f(\theta; x, y) + \hat n\, f(\theta_{high}; \hat h, \hat y)}{n + \hat n}.

A client keeps moving statistics of its features, per class and feature; a class that the batch lacks stays as it was,

.. math::
    :label: fedimpro-local

    \mu \leftarrow \beta \mu + (1 - \beta) \operatorname{mean}(h), \qquad
    \sigma \leftarrow \beta \sigma + (1 - \beta) \operatorname{var}(h),

and the server of theirs, to which noise may have been added for privacy,

.. math::
    :label: fedimpro-global

    \mu_g \leftarrow \beta \mu_g + (1 - \beta) \frac1{|S|} \sum_{i \in S} \mu_i, \qquad
    \sigma_g \leftarrow \beta \sigma_g + (1 - \beta) \frac1{|S|} \sum_{i \in S} \sigma_i,

or pools them, with the shares :math:`w_i` of the class's samples, into those of all the data together:

.. math::
    :label: fedimpro-pooled

    \mu = \sum_i w_i \mu_i, \qquad \sigma = \sum_i w_i \big( \sigma_i + (\mu_i - \mu)^2 \big).

Note that :math:`\sigma` is a variance. The drawn features make the clients' upper gradients more alike: the variance

.. math::
    :label: fedimpro-variance

    \sum_m \frac{n_m}{N} \|g_m - g\|^2, \qquad g = \sum_m \frac{n_m}{N} g_m,

shrinks to :math:`\big(\frac{N}{N + \hat N}\big)^2` of itself if everybody trains on one and the same additional
gradient, and :math:`\hat n_m \propto n_m`.
(The paper asks for :math:`\hat N = N` alone: with equal :math:`\hat n_m` and unequal
:math:`n_m` that does not hold.) Whether drawn features are like the real ones does not matter for this.

Classes that nobody has seen have no statistics and should not be drawn; pooling gives 0 for them. Features after a ReLU
are not negative, drawn ones may be.

**Where implementations differ.** The authors' code caps the standard deviation that features are drawn with, by default
at 0.1; and where it averages over clients, it averages standard deviations, without what lies between the clients.

**Provenance.** Equations and theorems are confirmed in the paper's text, pooling in the authors' code; the condition on
:math:`\hat n_m` is derived and checked here.

Tang, Zhang, Shi, Tian, Liu, Han and Chu, *FedImpro: Measuring and Improving Client Update in Federated Learning*, 2024,
arXiv:2402.07011.
"""

from typing import Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import one_hot
from trref.nn.losses import softmax_cross_entropy
from trref.signature import (
    A,
    B,
    D,
    Decay,
    H,
    Index,
    K,
    L,
    M,
    N,
    NonNegative,
    P,
    Positive,
    Real,
    S,
    Scalar,
    checked,
)


class Statistics(NamedTuple):
    """Of the features of each class."""

    means: Real[K, H]
    variances: NonNegative[K, H]


class JointGradient(NamedTuple):
    """Derivatives by the lower part, W1 and b1, and by the upper."""

    W1: Real[D, H]
    b1: Real[H]
    W2: Real[H, L]
    b2: Real[L]
    W3: Real[L, K]
    b3: Real[K]


def _classes(b3, labels, sampled_labels, **_):
    """A class that there is not."""
    K = len(b3)
    return [
        validate.labels(labels, K),
        validate.labels(sampled_labels, K, "sampled_labels"),
    ]


@checked(also=_classes)
def joint_loss(
    W1: Real[D, H],
    b1: Real[H],
    W2: Real[H, L],
    b2: Real[L],
    W3: Real[L, K],
    b3: Real[K],
    X: Real[N, D],
    labels: Index[N],
    sampled: Real[M, H],
    sampled_labels: Index[M],
    *,
    weighting: Literal["sum", "joint"] = "sum",
) -> tuple[Scalar, JointGradient]:
    """A client's loss on its samples and on drawn features.

    Parameters
    ----------
    W1, b1
        The lower part: to the features, through tanh.
    W2, b2, W3, b3
        The upper part: a hidden layer with tanh, and the logits.
    X
        Samples, a row each.
    labels
        Their classes.
    sampled, sampled_labels
        Drawn features, and the classes that they were drawn for.
    weighting
        Whether both means are added, or all rows weigh the same.
    """
    h = xp.tanh(X @ W1 + b1)
    own, upper, d_h = _upper(W2, b2, W3, b3, h, labels)
    drawn, more, _ = _upper(W2, b2, W3, b3, sampled, sampled_labels)
    a, c = 1.0, 1.0  # eq. fedimpro-loss
    if weighting == "joint":
        a, c = (n / (len(X) + len(sampled)) for n in (len(X), len(sampled)))
    inner = a * d_h * (1 - h * h)

    both = [a * g + c * g_drawn for g, g_drawn in zip(upper, more, strict=True)]
    # eq. fedimpro-joint
    return a * own + c * drawn, JointGradient(X.T @ inner, inner.sum(0), *both)


def _upper(W2, b2, W3, b3, h, labels):
    """The loss on features, and its derivatives by the upper part and by the features."""
    u = xp.tanh(h @ W2 + b2)
    value, error = softmax_cross_entropy(u @ W3 + b3, labels)
    back = error @ W3.T * (1 - u * u)
    return value, (h.T @ back, back.sum(0), u.T @ error, error.sum(0)), back @ W2.T


def _known_class(means, labels, **_):
    """A class that there is not."""
    return [validate.labels(labels, len(means))]


@checked(also=_known_class)
def client_statistics(
    means: Real[K, H],
    variances: NonNegative[K, H],
    features: Real[N, H],
    labels: Index[N],
    *,
    beta: Decay,
) -> Statistics:
    """A client's statistics, moved towards those of a batch.

    Parameters
    ----------
    means, variances
        Of each class, before.
    features
        Of the batch.
    beta
        Weight of what was before.
    """
    e = one_hot(labels, len(means), features.dtype)
    counts = e.sum(0)[:, None]
    n = xp.maximum(counts, 1)
    # eq. fedimpro-local
    mean = e.T @ features / n
    variance = e.T @ (features - xp.take(mean, labels, axis=0)) ** 2 / n
    share = (1 - beta) * (counts > 0).astype(features.dtype)
    return Statistics(
        means + share * (mean - means), variances + share * (variance - variances)
    )


@checked
def server_statistics(
    means: Real[K, H],
    variances: NonNegative[K, H],
    client_means: Real[S, K, H],
    client_variances: NonNegative[S, K, H],
    *,
    beta: Decay,
) -> Statistics:
    """The server's statistics, moved towards the mean of its clients'.

    Parameters
    ----------
    client_means, client_variances
        Of each of S clients.
    """
    # eq. fedimpro-global
    old, new = (means, variances), (client_means.mean(0), client_variances.mean(0))
    return Statistics(
        *(beta * a + (1 - beta) * b for a, b in zip(old, new, strict=True))
    )


@checked
def pooled_statistics(
    counts: NonNegative[S, K],
    client_means: Real[S, K, H],
    client_variances: NonNegative[S, K, H],
) -> Statistics:
    """The statistics of all clients' samples together.

    Parameters
    ----------
    counts
        Samples of each client in each class.
    """
    total = counts.sum(0)
    w = (counts / xp.where(total > 0, total, 1))[..., None]
    # eq. fedimpro-pooled
    mean = (w * client_means).sum(0)
    spread = client_variances + (client_means - mean) ** 2
    return Statistics(mean, (w * spread).sum(0))


@checked(also=_known_class)
def drawn_features(
    means: Real[K, H],
    variances: NonNegative[K, H],
    labels: Index[N],
    noise: Real[N, H],
) -> Real[N, H]:
    """Features like those of the classes.

    Parameters
    ----------
    labels
        The class that each row is to be of.
    noise
        Standard normal.
    """
    # eq. fedimpro-loss
    mean, variance = (xp.take(a, labels, axis=0) for a in (means, variances))
    return mean + xp.sqrt(variance) * noise


def _a_model(w, y, **_):
    """Weights of 0, or a class that is neither 1 nor -1."""
    return [
        (lambda: abs(w).max() > 0, "w must not be 0"),
        (lambda: (abs(y) == 1).all(), "y must be 1 or -1"),
    ]


@checked(also=_a_model)
def linear_margin(w: Real[D], b: Scalar, X: Real[N, D], y: Real[N]) -> Scalar:
    """The mean distance of samples from where a linear model errs.

    Parameters
    ----------
    w, b
        The model: the sign of ``w·x + b``.
    y
        Classes, 1 or -1.
    """
    right = xp.maximum(y * (X @ w + b), 0)
    return right.mean() / xp.sqrt((w * w).sum())  # eq. fedimpro-margin


def _both_have(labels, other_labels, **_):
    """A class that only one of the two has."""
    there = lambda a, b: (a[:, None] == b).any(1).all()  # noqa: E731
    return [
        (
            lambda: there(labels, other_labels) & there(other_labels, labels),
            "labels and other_labels must hold the same classes",
        )
    ]


@checked(also=_both_have)
def conditional_distance(
    x: Real[A], labels: Index[A], other: Real[B], other_labels: Index[B]
) -> Scalar:
    """How far two data sets of one number a sample are apart, class by class.

    Parameters
    ----------
    x, labels
        Numbers and classes of the one.
    other, other_labels
        Of the other.
    """
    values = xp.concatenate([x, other])
    order = xp.argsort(values)
    gaps = xp.diff(xp.take(values, order))
    # of each sample's class, a row each
    # eq. fedimpro-distance
    own = (labels[:, None] == labels).astype(x.dtype)
    met = (labels[:, None] == other_labels).astype(x.dtype)
    own_share, met_share = (e / e.sum(1, keepdims=True) for e in (own, met))
    rise = xp.concatenate([own_share, -met_share], axis=1)
    areas = abs(xp.cumsum(xp.take(rise, order, axis=1), axis=1)[:, :-1]) @ gaps

    among = met.sum(1) / own.sum(1)  # how often the other has the class, for each row
    return areas.mean() / 2 + (among * areas).sum() / len(other) / 2


@checked
def gradient_variance(gradients: Real[K, P], counts: Positive[K]) -> Scalar:
    """How unlike the clients' gradients are.

    Parameters
    ----------
    gradients
        Of each client's mean loss, at the same parameters.
    counts
        Samples of each client.
    """
    w = counts / counts.sum()
    # eq. fedimpro-variance
    return w @ ((gradients - w @ gradients) ** 2).sum(1)
