r"""Data Diet: which examples can be left out, from a few short trainings.

An example whose loss has a long gradient moves the network much, and others with it: leaving it out changes the loss
of any example x by at most a constant times :math:`\|\nabla \ell(x)\|` times the length of its own gradient. Its
score is that length, the mean over R runs that differ in their start and order (GraNd),

.. math::
    :label: data-diet-grand

    \chi(x, y) = \mathbb E\, \|\nabla_\theta\, \ell(\theta_t; x, y)\|_2.

In a perceptron no gradient need be formed. With the input :math:`h` of a layer and the derivative :math:`\delta` by its
pre-activation, weights and bias have a gradient of squared length

.. math::
    :label: data-diet-layer

    \|\nabla_{W, b}\, \ell\|^2 = \|\delta\|^2\, (\|h\|^2 + 1),

to be summed over layers. In the last layer :math:`\delta = p - y`, the probabilities less the one-hot label. Taking
the logits' gradients to be orthonormal leaves of the score what is called EL2N,

.. math::
    :label: data-diet-error

    \mathbb E\, \|p(x) - y\|_2 \in [0, \sqrt 2],

with the sum of absolute values as a variant. Two more ask by how much the other classes are ahead, the best of them
or each:

.. math::
    :label: data-diet-margin

    \mathbb E\, \max_{k \ne y} (p_k - p_y), \qquad \mathbb E\, \sum_{k \ne y} (p_k - p_y)

An older score counts how often an example was *forgotten*, right in one of T evaluations and wrong in the next,

.. math::
    :label: data-diet-forgetting

    f = \sum_{t=1}^{T-1} [\text{right}_t]\,[\text{wrong}_{t+1}],

and T, more than any count, if it was never right. Training then goes on with the m
examples of the highest scores. Where labels are wrong, the very highest scores belong to those, and a window is kept:
the d highest are dropped, and the next m kept. With :math:`\text{rank}` 0 for the highest score,

.. math::
    :label: data-diet-keep

    d \le \text{rank}(x, y) < d + m.

Of equal scores the later example counts as the higher. Shares are rounded to whole examples, m at least 1, and the
window is moved so that it lies within the data. Nothing is differentiated.

**Where implementations differ.** The authors' code counts what was never right as infinity; results are finite here.

**A warning.** The paper also scores untrained networks. That does not reproduce: the scores come from a bug in
restoring checkpoints (Kirsch, *Does "Deep Learning on a Data Diet" reproduce?*, 2023, arXiv:2303.14753), and a score
at the start follows the length of the input.

**Provenance.** Confirmed in the authors' code (mansheej/data_diet); the layers' form is derived and checked here.

Paul, Ganguli and Dziugaite, *Deep Learning on a Data Diet: Finding Important Examples Early in Training*, 2021,
arXiv:2107.07075.
"""

from typing import Literal

from trref import validate
from trref.backend import xp
from trref.datasampling.terms import errors, sample_gradients
from trref.nn.heads import log_softmax, one_hot
from trref.problems.protocols import SeparableLoss
from trref.signature import (
    Binary,
    D,
    Decay,
    Fraction,
    Index,
    K,
    N,
    NonNegative,
    P,
    R,
    Real,
    T,
    checked,
)


def _classes_there_are(logits, labels, **_):
    """A label that is no column of the logits."""
    return [validate.labels(labels, logits.shape[-1])]


@checked
def gradient_norms(loss: SeparableLoss, thetas: Real[R, P]) -> NonNegative[N]:
    """The length of each example's gradient, the mean over networks (GraNd).

    Parameters
    ----------
    loss
        With ``loss.each(theta) -> (losses (N,), gradients (N, P))``, such as `trref.problems.networks.ClassifierLoss`.
    thetas
        R networks, each after its own short training.
    """
    each = [sample_gradients(loss, theta) for theta in thetas]
    return xp.sqrt((xp.stack(each) ** 2).sum(-1)).mean(0)  # eq. data-diet-grand


@checked(also=_classes_there_are)
def last_layer_norms(
    logits: Real[R, N, K], labels: Index[N], features: Real[R, N, D]
) -> NonNegative[N]:
    """The same of the last layer alone, its weights and biases.

    Parameters
    ----------
    logits
        Of R networks.
    labels
        Class of each example.
    features
        What the last layer sees.
    """
    delta = errors(logits, labels)
    # eq. data-diet-layer
    square = (delta**2).sum(-1) * ((features**2).sum(-1) + 1)
    return xp.sqrt(square).mean(0)


@checked(also=_classes_there_are)
def error_norms(
    logits: Real[R, N, K], labels: Index[N], *, norm: Literal["l2", "l1"] = "l2"
) -> NonNegative[N]:
    """The length of the error of each example's probabilities, the mean over networks (EL2N).

    Parameters
    ----------
    norm
        The Euclidean length, or the sum of absolute values.
    """
    e = errors(logits, labels)
    # eq. data-diet-error
    length = xp.sqrt((e**2).sum(-1)) if norm == "l2" else abs(e).sum(-1)
    return length.mean(0)


@checked(also=_classes_there_are)
def margins(
    logits: Real[R, N, K], labels: Index[N], *, kind: Literal["max", "sum"] = "max"
) -> Real[N]:
    """By how much other classes are more probable than the right one, the mean over networks.

    Parameters
    ----------
    kind
        The most probable of the others, or all of them together.
    """
    K = logits.shape[-1]
    y = one_hot(labels, K, logits.dtype)
    p = xp.exp(log_softmax(logits))
    ahead = p - (p * y).sum(-1, keepdims=True)
    # eq. data-diet-margin
    if kind == "sum":
        return ahead.sum(-1).mean(0)
    if K == 1:
        return xp.zeros_like(ahead[0, :, 0])  # there are no others
    return xp.where(y == 1, -1, ahead).max(-1).mean(0)


@checked
def forgetting_counts(correct: Binary[T, N]) -> NonNegative[N]:
    """How often each example was right in one evaluation and wrong in the next; T if it was never right.

    Parameters
    ----------
    correct
        1 where the example was right: a row an evaluation, in the order of training.
    """
    forgotten = (correct[:-1] * (1 - correct[1:])).sum(0)  # eq. data-diet-forgetting
    return xp.where(correct.max(0) == 1, forgotten, len(correct))


@checked
def keep(scores: Real[N], *, share: Fraction = 0.5, drop: Decay = 0.0) -> Binary[N]:
    """1 for the examples to train on: those of the highest scores, or of a window below them.

    Parameters
    ----------
    scores
        High where an example is to be kept.
    share
        How much of the data is kept.
    drop
        How much of it is left out for a score too high, so that wrong labels are.
    """
    N = len(scores)
    m = max(round(share * N), 1)
    first = min(round(drop * N), N - m)
    order = xp.argsort(scores, kind="stable")
    rank = N - 1 - xp.argsort(order, kind="stable")  # 0 for the highest
    # eq. data-diet-keep
    return ((rank >= first) & (rank < first + m)).astype(scores.dtype)
