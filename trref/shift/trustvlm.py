r"""TrustVLM: confidence of a vision-language model, checked image against image.

The confidence of such a model compares an image with a sentence. With unit vectors v of the image and :math:`t_c` of
the classes' names, and a learned factor :math:`\kappa`,

.. math::
    :label: trustvlm-logits

    \ell_c = \kappa\, v^\top t_c, \qquad \hat y = \arg\max_c \ell_c, \qquad
    s_{it} = \max_c \text{softmax}(\ell / T)_c.

Another embedding f of images may know better whether the image looks like others of the class that was predicted. From
a few labelled images a class has a prototype, the mean of their embeddings, brought to unit length,

.. math::
    :label: trustvlm-prototype

    \mu_c = \frac{m_c}{\|m_c\|}, \qquad m_c = \frac{1}{|S_c|} \sum_{i \in S_c} \phi(x_i),

and the cosine with that of the *predicted* class is added to the confidence:

.. math::
    :label: trustvlm-score

    s = s_{it} + \alpha\, f^\top \mu_{\hat y}

In a second version prototypes vote, too. The prediction is the best of

.. math::
    :label: trustvlm-vote

    P = \text{softmax}(\ell) + \alpha\, \text{softmax}(f^\top \mu / T), \qquad
    s^\star = \max_c P_c + \alpha\, f^\top \mu_{\hat y},

where the temperature belongs to the cosines alone.

**Figures.** A confidence is good if those who are accepted first are right. With the answers in order of falling
confidence, the risk of the k first is their share of errors; a tie is resolved by taking its mean over all orders,
which is a straight line from the errors before the tie to those after it:

.. math::
    :label: trustvlm-risk

    \text{risk}_k = \frac1k \sum_{i \le k} \text{wrong}_{(i)}, \qquad \text{AURC} = \frac1N \sum_k \text{risk}_k

Even a perfect order has some, since all N r errors come at last; what is above it is the excess,

.. math::
    :label: trustvlm-excess

    \text{E-AURC} = \text{AURC} - \big[r + (1 - r) \log(1 - r)\big],

exact for large N, with 0 for the second term at r = 1. The probability that a right answer is more confident than a
wrong one is

.. math::
    :label: trustvlm-auroc

    \text{AUROC} = \frac{1}{N_1 N_0} \sum_{i\, \text{right}} \sum_{j\, \text{wrong}}
    [s_i > s_j] + \tfrac12 [s_i = s_j],

and the share of errors among those accepted at the highest threshold that accepts a share of the right ones:

.. math::
    :label: trustvlm-fpr

    \text{FPR} = \frac{1}{N_0} |\{j\, \text{wrong} : s_j \ge \theta\}|, \qquad
    \theta = \max \{s : |\{i\, \text{right} : s_i \ge s\}| \ge 0.95\, N_1\}

Where nothing is wrong, or nothing right, there are no pairs: the two are 1/2 and 0. A class without images has the
prototype 0. The first of equal logits is predicted.

**Where implementations differ.** The authors' script takes for the last figure the point of the curve whose share of
right ones is *nearest* to 0.95, which may lie below. It sorts without regard to ties, so that the order of the files
counts in the risk.

**Provenance.** Confirmed in the authors' code (EPFL-IMOS/TrustVLM).

Dong, Liu, Liang, Chatzi and Fink, *To Trust Or Not To Trust Your Vision-Language Model's Prediction*, 2025,
arXiv:2505.23745.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    Binary,
    C,
    D,
    E,
    Fraction,
    Index,
    M,
    N,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    checked,
)


class Trust(NamedTuple):
    """What is predicted, and how far to trust it."""

    prediction: Index[N]
    score: Real[N]


class Risk(NamedTuple):
    """The risk at each coverage k/N, the area below it, and what is above a perfect order's."""

    risk: Prob[N]
    area: Scalar
    excess: Scalar


@checked
def zero_shot_logits(
    image: Real[N, D], text: Real[C, D], *, scale: PositiveFloat = 100.0
) -> Real[N, C]:
    """Logits of each class from the cosine of image and text.

    Parameters
    ----------
    image
        Embeddings of images; brought to unit length here.
    text
        Embeddings of the classes' names; likewise.
    scale
        The factor of the cosine.
    """
    return scale * _unit(image) @ _unit(text).T  # eq. trustvlm-logits


def _unit(x):
    """Rows of unit length; 0 stays."""
    length = xp.sqrt((x**2).sum(-1, keepdims=True))
    return x / xp.where(length > 0, length, 1)


def _classes(labels, classes, **_):
    """A label that is not below `classes`."""
    return [validate.labels(labels, classes)]


@checked(also=_classes)
def prototypes(
    features: Real[M, E], labels: Index[M], *, classes: PositiveInt
) -> Real[C, E]:
    """The mean embedding of each class, of unit length.

    Parameters
    ----------
    features
        Embeddings of M labelled images, of any length.
    labels
        Their classes.
    classes
        How many there are.
    """
    member = one_hot(labels, classes, features.dtype)
    # a sum has the direction of the mean
    return _unit(member.T @ features)  # eq. trustvlm-prototype


@checked
def trust_scores(
    logits: Real[N, C],
    features: Real[N, E],
    prototypes: Real[C, E],
    *,
    alpha: NonNegativeFloat = 1.0,
    temperature: PositiveFloat = 1.0,
) -> Trust:
    """The model's prediction, and the confidence that both embeddings give it.

    Parameters
    ----------
    logits
        From image and text.
    features
        The images in the other embedding; brought to unit length here.
    prototypes
        Of each class, in that embedding.
    alpha
        Weight of the cosine.
    temperature
        Of the logits.
    """
    best = logits.argmax(1)
    cosine = _unit(features) @ prototypes.T
    own = (one_hot(best, logits.shape[1], logits.dtype) * cosine).sum(1)
    # eq. trustvlm-score
    score = xp.exp(log_softmax(logits / temperature)).max(1) + alpha * own
    return Trust(best, score)


@checked
def voted_scores(
    logits: Real[N, C],
    features: Real[N, E],
    prototypes: Real[C, E],
    *,
    alpha: NonNegativeFloat = 1.0,
    temperature: PositiveFloat = 0.01,
) -> Trust:
    """The same where the prototypes vote for the prediction.

    Parameters
    ----------
    temperature
        Of the cosines.
    """
    cosine = _unit(features) @ prototypes.T
    # eq. trustvlm-vote
    P = xp.exp(log_softmax(logits))
    P = P + alpha * xp.exp(log_softmax(cosine / temperature))
    best = P.argmax(1)
    own = (one_hot(best, logits.shape[1], logits.dtype) * cosine).sum(1)
    score = P.max(1) + alpha * own

    return Trust(best, score)


@checked
def risk_coverage(confidence: Real[N], correct: Binary[N]) -> Risk:
    """The share of errors among the k most confident answers, for every k.

    Parameters
    ----------
    confidence
        High where an answer is to be believed.
    correct
        1 where it is right.
    """
    N = len(confidence)
    wrong, k = 1 - correct, xp.arange(1, N + 1, dtype=confidence.dtype)
    falling = -xp.sort(-confidence)
    more = (confidence > falling[:, None]).astype(confidence.dtype)
    same = (confidence == falling[:, None]).astype(confidence.dtype)
    before, tied = more.sum(1), same.sum(1)
    # eq. trustvlm-risk
    errors = more @ wrong + (k - before) / tied * (same @ wrong)
    risk = errors / k
    area = risk.mean()

    r = wrong.mean()
    kept = xp.where(r < 1, 1 - r, 1)
    perfect = r + (1 - r) * xp.log(kept)
    return Risk(risk, area, area - perfect)  # eq. trustvlm-excess


@checked
def auroc(confidence: Real[N], correct: Binary[N]) -> Scalar:
    """How often a right answer is more confident than a wrong one."""
    ahead = xp.sign(confidence[:, None] - confidence)
    pairs = correct[:, None] * (1 - correct)
    count = pairs.sum()
    total = (pairs * (1 + ahead) / 2).sum()
    # eq. trustvlm-auroc
    return xp.where(count > 0, total / xp.where(count > 0, count, 1), 0.5)[()]


@checked
def false_positive_rate(
    confidence: Real[N], correct: Binary[N], *, accepted: Fraction = 0.95
) -> Scalar:
    """The share of errors that are accepted where this share of the right answers is.

    Parameters
    ----------
    accepted
        The share, at least.
    """
    above = (confidence >= confidence[:, None]).astype(confidence.dtype)
    right, wrong = correct.sum(), (1 - correct).sum()
    # eq. trustvlm-fpr
    enough = above @ correct >= accepted * right * (1 - 1e-6)
    threshold = xp.where(enough, confidence, confidence.min()).max()
    passed = ((confidence >= threshold) * (1 - correct)).sum()
    return xp.where(right > 0, passed / xp.maximum(wrong, 1), 0)[()]
