r"""GdScore: how wrong a network is on unlabelled data, from the gradient of its last layer.

The data are labelled by the network itself, and at random where it is unsure: with probabilities :math:`P` and a
threshold :math:`\tau`,

.. math::
    :label: gdscore-labels

    \tilde y_i = \begin{cases} \arg\max_c P_{ic} & \text{if } \max_c P_{ic} \ge \tau, \\
    \lfloor C u_i \rfloor,\ u_i \sim U[0, 1) & \text{otherwise.} \end{cases}

The mean cross-entropy with these labels, held constant, has for the weights of the last layer, which sees the features
:math:`z_i`, the gradient

.. math::
    :label: gdscore-gradient

    G = \frac1N \sum_i z_i\, (P_i - e_{\tilde y_i})^\top.

Its size says how far the network would have to move:

.. math::
    :label: gdscore-size

    \|G\|_p = \Big(\sum_{jc} |G_{jc}|^p\Big)^{1/p} = \exp \tfrac1p \log \sum_{jc} e^{p \log |G_{jc}|}

The score is the mean over batches,

.. math::
    :label: gdscore-score

    \text{GdScore} = \frac{1}{|\mathcal B|} \sum_{b \in \mathcal B} \|G_b\|_p,

the last of which may be smaller. Large means a low expected accuracy; it is no accuracy, and with :math:`p = 0.3`, the
default, values of a million are usual and grow with the number of entries, so only one network and one batch size can
be compared.

**What is proved.** For a convex loss L and conjugate exponents :math:`1/p + 1/q = 1`, :math:`p \ge 1`,

.. math::
    :label: gdscore-bound

    |L(W) - L(W')| \le \max(\|\nabla L(W)\|_p, \|\nabla L(W')\|_p)\; \|W - W'\|_q,

two first-order inequalities and Hölder's. The cross-entropy is convex in the last layer. For :math:`p < 1` nothing of
the kind holds. Of a single sample the size is :math:`\|z\|_p \|P - e\|_p`. A network that is certain everywhere has the
score 0, whatever its accuracy.

A gradient of 0 has size 0. Confidence exactly at the threshold keeps the label.

**Where implementations differ.** In the authors' code the network is in training mode, so that batch normalisation and
dropout take part in the numbers; here its outputs are given.

**Provenance.** Confirmed in the authors' code (Renchunzi-Xie/GdScore): :math:`\tau = 0.5`, :math:`p = 0.3`, batches of
128. The bound is from memory of the paper, proved and checked here.

Xie, Odonnat, Feofanov, Redko, Zhang and An, *Leveraging Gradients for Unsupervised Accuracy Estimation under
Distribution Shift*, 2024, arXiv:2401.08909.
"""

from typing import Annotated

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    C,
    D,
    Fraction,
    Index,
    N,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    Simplex,
    checked,
)


def _below_one(uniform, **_):
    """A draw of 1."""
    return [(lambda: uniform.max() < 1, "uniform must be less than 1")]


@checked(also=_below_one)
def pseudo_labels(
    probabilities: Simplex[N, C], uniform: Prob[N], *, tau: Fraction = 0.5
) -> Index[N]:
    """The network's own labels, random ones where it is unsure.

    Parameters
    ----------
    probabilities
        Of the classes.
    uniform
        Draws from the uniform law on [0, 1), one a sample.
    tau
        The confidence from which a label is kept.
    """
    C = probabilities.shape[1]
    guess = xp.floor(C * uniform).astype(int)
    sure = probabilities.max(1) >= tau
    # eq. gdscore-labels
    return xp.where(sure, probabilities.argmax(1), guess)


def _classes_there_are(probabilities, labels, **_):
    """A label that is no column of the probabilities."""
    return [validate.labels(labels, probabilities.shape[1])]


@checked(also=_classes_there_are)
def head_gradient(
    features: Real[N, D], probabilities: Simplex[N, C], labels: Index[N]
) -> Real[D, C]:
    """The gradient of the mean cross-entropy by the last layer's weights.

    Parameters
    ----------
    features
        What the last layer sees.
    probabilities
        What it makes of it.
    labels
        Of the samples, held constant.
    """
    e = one_hot(labels, probabilities.shape[1], features.dtype)
    return features.T @ (probabilities - e) / len(features)  # eq. gdscore-gradient


@checked
def lp_size(G: Real[D, C], *, p: PositiveFloat = 0.3) -> Scalar:
    """The size of a matrix, entry by entry: a norm for p of at least 1.

    Parameters
    ----------
    G
        The matrix.
    p
        The exponent; below 1 it weighs how many entries are not 0.
    """
    return _size(G, p)


def _size(G, p):
    """Relative to the largest entry, for small powers of small numbers vanish."""
    top = abs(G).max()
    some = xp.where(top > 0, top, 1)
    # eq. gdscore-size
    return top * xp.power(((abs(G) / some) ** p).sum(), 1 / p)


@checked
def gdscore(
    features: Real[N, D],
    weights: Real[D, C],
    bias: Real[C],
    uniform: Prob[N],
    *,
    tau: Fraction = 0.5,
    p: PositiveFloat = 0.3,
    batch: PositiveInt = 128,
) -> Scalar:
    """The mean size over batches of the gradient by the last layer's weights.

    Parameters
    ----------
    weights
        Of the last layer.
    bias
        Of the last layer.
    batch
        Samples in a batch.
    """
    P = xp.exp(log_softmax(features @ weights + bias))
    labels = pseudo_labels.unchecked(P, uniform, tau=tau)
    sizes = []
    for start in range(0, len(features), batch):
        rows = slice(start, start + batch)
        G = head_gradient.unchecked(features[rows], P[rows], labels[rows])
        sizes.append(_size(G, p))
    return xp.stack(sizes).mean()  # eq. gdscore-score


@checked
def loss_bound(
    first_gradient: Real[D, C],
    second_gradient: Real[D, C],
    step: Real[D, C],
    *,
    p: Annotated[float, "(1, inf)"] = 2.0,
) -> Scalar:
    """How much a convex loss can change between two heads, from the sizes of its gradients there.

    Parameters
    ----------
    first_gradient, second_gradient
        At the two heads.
    step
        From the one to the other.
    p
        The exponent for the gradients; the step has its conjugate.
    """
    larger = xp.maximum(_size(first_gradient, p), _size(second_gradient, p))
    return larger * _size(step, p / (p - 1))  # eq. gdscore-bound
