r"""Orchestrator trust: agents vote with the trust that their calibration earned, and look again where that is little.

Agents a look at an item and answer :math:`\hat y_a` with a confidence :math:`c_a`. From answers whose truth is known
(:mod:`trref.trustworthiness.calibration`) each has a calibration error, an overconfidence and a correlation, and earns
the weight

.. math::
    :label: orchestrator-trust-weights

    \omega_a = \max\Big( \omega_0,\; (1 - \text{ECE}_a)\, (1 - \text{OCR}_a)\, \frac{1 + \text{CCC}_a}{2} \Big) .

The vote is

.. math::
    :label: orchestrator-trust-vote

    s(k) = \sum_a \omega_a\, c_a\, [\hat y_a = k], \qquad \hat y = \arg\max_k s(k), \qquad
    c = \frac{s(\hat y)}{\sum_k s(k)},

and of labelled cases the K nearest by the cosine vote, too,

.. math::
    :label: orchestrator-trust-retrieval

    r(k) = \frac{\sum_{j \in N_K} \max(\cos_j, 0)\, [y_j = k]}{\sum_{j \in N_K} \max(\cos_j, 0)} .

An item is looked at again if the agents disagree, one of them is not trusted, the vote is not clear or retrieval says
something else:

.. math::
    :label: orchestrator-trust-again

    \exists a, b: \hat y_a \ne \hat y_b \quad\text{or}\quad \min_a \omega_a < \omega_{min} \quad\text{or}\quad
    c < t \quad\text{or}\quad \arg\max_k r(k) \ne \hat y .

Then each agent sees the cases, and listens to them the more the less it is trusted. With its own
:math:`p_a(k) = c_a` for its answer and :math:`(1 - c_a)/(C - 1)` for the others,

.. math::
    :label: orchestrator-trust-reevaluated

    p_a'(k) \propto \tilde p_a(k)^{\gamma \omega_a}\, \tilde r(k)^{1 - \gamma \omega_a}, \qquad
    \tilde p = (1 - \varepsilon)\, p + \frac\varepsilon C,

it answers :math:`\arg\max p_a'` with the confidence :math:`\max p_a'`, and the vote is held again, once. For
independent agents of accuracies :math:`p_a` whose errors are uniform the best weights of votes without confidences are

.. math::
    :label: orchestrator-trust-optimal

    w_a = \log \frac{p_a\, (C - 1)}{1 - p_a} .

The first of equal classes wins. Where nobody has weight or confidence, every share is 0; where no cosine is positive,
retrieval shares are 0, and it says class 0. With one class there are no others.

**What is outside.** The agents, which are vision-language models, their fine-tuning, the embedding of images, and the
orchestrator itself, a language model that reads the three numbers. The published gain of 77.94 % is relative: from 77
to 137 of 160 right answers; and retrieval alone has 154.

**Where implementations differ.** The notebook adds up cosines as they are, so that a negative one takes from its class
and a share can leave [0, 1]. Its orchestrator judges the second answers without the numbers.

**Provenance.** Retrieval and the order of the steps are confirmed in the authors' notebook. Weights, vote, the rule to
look again and what an agent makes of it are reconstructed, as a stand-in that can be tested. The optimal weights are
those of Nitzan and Paroush.

Roumeliotis, Sapkota, Karkee and Tselikas, *Orchestrator-Agent Trust: A Modular Agentic AI Visual Classification System
with Trust-Aware Orchestration and RAG-Based Reasoning*, 2025, arXiv:2507.10571.
"""

from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    A,
    C,
    D,
    Fraction,
    Index,
    M,
    Mask,
    N,
    NonNegative,
    OpenFraction,
    PositiveInt,
    Prob,
    Real,
    checked,
)
from trref.trustworthiness.terms import unit


class Vote(NamedTuple):
    """The class of each item, its share of the vote, and the shares of all classes."""

    prediction: Index[N]
    confidence: Prob[N]
    shares: Prob[N, C]


class Answers(NamedTuple):
    """What each agent says, and how sure it is."""

    predicted: Index[A, N]
    confidence: Prob[A, N]


class Orchestrated(NamedTuple):
    """The class of each item, its share of the vote, and whether the agents looked twice."""

    prediction: Index[N]
    confidence: Prob[N]
    again: Mask[N]


def _correlations(correlation, **_):
    """A correlation outside [-1, 1]."""
    return [(lambda: abs(correlation).max() <= 1, "correlation must lie in [-1, 1]")]


@checked(also=_correlations)
def trust_weights(
    error: Prob[A],
    overconfidence: Prob[A],
    correlation: Real[A],
    *,
    floor: Fraction = 0.05,
) -> Prob[A]:
    """Weight of each agent by its calibration.

    Parameters
    ----------
    error
        Calibration error of each agent.
    overconfidence
        Its share of answers that are sure and wrong.
    correlation
        Of its confidence with being right.
    floor
        The least weight.
    """
    # eq. orchestrator-trust-weights
    earned = (1 - error) * (1 - overconfidence) * (1 + correlation) / 2
    return xp.maximum(earned, floor)


def _known(predicted, classes, **_):
    """An answer that is no class."""
    return [validate.labels(predicted, classes, "predicted")]


def _shares(scores):
    """Scores of each row as shares of their sum; 0 where that is 0."""
    total = scores.sum(1, keepdims=True)
    return scores / xp.where(total > 0, total, 1)


@checked(also=_known)
def weighted_vote(
    predicted: Index[A, N],
    confidence: Prob[A, N],
    weights: NonNegative[A],
    *,
    classes: PositiveInt,
) -> Vote:
    """Vote of the agents, each with its weight times its confidence.

    Parameters
    ----------
    predicted
        The class that each agent gives each item.
    confidence
        How sure it is.
    weights
        Of the agents; only their proportions count.
    classes
        How many there are.
    """
    votes = one_hot(predicted, classes, confidence.dtype)
    # eq. orchestrator-trust-vote
    shares = _shares(((weights[:, None] * confidence)[..., None] * votes).sum(0))
    return Vote(shares.argmax(1), shares.max(1), shares)


def _in_the_bank(bank, labels, k, classes, **_):
    """A label that is no class."""
    if k > len(bank):
        raise ValueError(f"k must be at most the {len(bank)} rows of bank, not {k}")
    return [validate.labels(labels, classes)]


@checked(also=_in_the_bank)
def retrieval_vote(
    query: Real[N, D],
    bank: Real[M, D],
    labels: Index[M],
    *,
    k: PositiveInt = 10,
    classes: PositiveInt,
) -> Prob[N, C]:
    """Shares of the classes among the most similar labelled cases.

    Parameters
    ----------
    query
        Embeddings of the items; brought to unit length here.
    bank
        Embeddings of labelled cases; likewise.
    labels
        Classes of the cases.
    k
        How many cases vote.
    """
    cosine = unit(query) @ unit(bank).T
    nearest = xp.argsort(-cosine, axis=1, kind="stable")[:, :k]
    # eq. orchestrator-trust-retrieval
    weight = xp.maximum(xp.take_along_axis(cosine, nearest, 1), 0)
    votes = one_hot(labels[nearest], classes, query.dtype)
    return _shares((weight[..., None] * votes).sum(1))


@checked
def needs_reevaluation(
    predicted: Index[A, N],
    shares: Prob[N, C],
    retrieval: Prob[N, C],
    weights: NonNegative[A],
    *,
    least_weight: Fraction = 0.1,
    least_share: Fraction = 0.6,
) -> Mask[N]:
    """1 where the agents should look again.

    Parameters
    ----------
    shares
        Of the classes in the agents' vote.
    retrieval
        Of the classes among similar cases.
    least_weight
        An agent of less weight is not trusted.
    least_share
        A vote of a smaller share is not clear.
    """
    disagree = (predicted != predicted[:1]).any(0)
    unclear = shares.max(1) < least_share
    contradicted = retrieval.argmax(1) != shares.argmax(1)
    # eq. orchestrator-trust-again
    again = disagree | (weights.min() < least_weight) | unclear | contradicted
    return again.astype(shares.dtype)


def _one_class_each(predicted, retrieval, **_):
    """An answer that is no column of `retrieval`."""
    return [validate.labels(predicted, retrieval.shape[1], "predicted")]


@checked(also=_one_class_each)
def reevaluated(
    predicted: Index[A, N],
    confidence: Prob[A, N],
    weights: Prob[A],
    retrieval: Prob[N, C],
    again: Mask[N],
    *,
    gamma: Fraction = 1.0,
    smoothing: OpenFraction = 0.01,
) -> Answers:
    """Answers of the agents after they have seen similar cases.

    Parameters
    ----------
    weights
        Of the agents: how far each keeps its own answer.
    again
        1 where they look.
    gamma
        How far an agent of weight 1 keeps its own answer.
    smoothing
        Share of the uniform law in both opinions.
    """
    C = retrieval.shape[1]
    voted = one_hot(predicted, C, confidence.dtype)
    own = confidence[..., None]
    p = xp.where(voted > 0, own, (1 - own) / max(C - 1, 1))
    # eq. orchestrator-trust-reevaluated
    kept = (gamma * weights)[:, None, None]
    opinion = kept * _log_smooth(p, smoothing)
    opinion = opinion + (1 - kept) * _log_smooth(retrieval, smoothing)
    posterior = xp.exp(log_softmax(opinion))
    look = again > 0
    return Answers(
        xp.where(look, posterior.argmax(2), predicted),
        xp.where(look, posterior.max(2), confidence),
    )


def _log_smooth(p, share):
    return xp.log((1 - share) * p + share / p.shape[-1])


@checked(also=_one_class_each)
def orchestrate(
    predicted: Index[A, N],
    confidence: Prob[A, N],
    weights: Prob[A],
    retrieval: Prob[N, C],
    *,
    gamma: Fraction = 1.0,
    smoothing: OpenFraction = 0.01,
    least_weight: Fraction = 0.1,
    least_share: Fraction = 0.6,
) -> Orchestrated:
    """A vote, a second look where it is needed, and the vote after it."""
    C = retrieval.shape[1]
    first = weighted_vote.unchecked(predicted, confidence, weights, classes=C)
    again = needs_reevaluation.unchecked(
        predicted,
        first.shares,
        retrieval,
        weights,
        least_weight=least_weight,
        least_share=least_share,
    )
    second = reevaluated.unchecked(
        predicted,
        confidence,
        weights,
        retrieval,
        again,
        gamma=gamma,
        smoothing=smoothing,
    )
    last = weighted_vote.unchecked(*second, weights, classes=C)
    return Orchestrated(last.prediction, last.confidence, again)


def _fallible(accuracy, **_):
    """An agent that is always right or always wrong."""
    inside = (
        lambda: (accuracy.min() > 0) & (accuracy.max() < 1),
        "accuracy must lie inside (0, 1)",
    )
    return [inside]


@checked(also=_fallible)
def optimal_weights(
    accuracy: Prob[A], *, classes: Annotated[int, "[2, inf)"] = 2
) -> Real[A]:
    """Best weights of votes for independent agents whose errors are uniform.

    Parameters
    ----------
    accuracy
        Of each agent.
    """
    # eq. orchestrator-trust-optimal
    return xp.log(accuracy * (classes - 1) / (1 - accuracy))
