r"""Compressed trust: what a compressed model loses beside its accuracy.

Compression is judged by accuracy. The study looks at trust: it compresses language models by rounding and pruning
(:mod:`trref.trustworthiness.quantisation`, :mod:`trref.trustworthiness.pruning`) and scores them on eight perspectives
before and after. Four bits keep nearly everything; three bits, and pruning by half, lose trust well before accuracy
tells. Here is such a report for a classifier, from its logits: with predictions :math:`\hat y_i`, probabilities
:math:`\pi_i` of them and groups g,

.. math::
    :label: compressed-trust-accuracy

    \text{accuracy} = \frac1n \sum_i 1[\hat y_i = y_i], \qquad \text{robust accuracy} = \frac1n \sum_i 1[\hat y_i =
    y_i = \hat y_i']

where the second asks the answer on an attacked input, :math:`\hat y'`, too; the calibration error of
:mod:`trref.trustworthiness.calibration`;

.. math::
    :label: compressed-trust-groups

    \text{worst group} = \min_g \frac{\sum_{i \in g} 1[\hat y_i = y_i]}{|g|}, \qquad \text{parity gap} = \max_k \Big(
    \max_g - \min_g \Big) \frac{\sum_{i \in g} 1[\hat y_i = k]}{|g|}

.. math::
    :label: compressed-trust-abstention

    \text{abstention} = \frac1n \sum_i 1[\pi_i < \theta]

and each score relative to that of the dense model,

.. math::
    :label: compressed-trust-change

    \frac{\text{compressed} - \text{dense}}{\text{dense}},

which is the difference itself where the dense score is 0. Outside this module: the language models, their benchmarks,
and the eight perspectives (their scores: :mod:`trref.trustworthiness.decoding_trust`). A report on one test set of n
samples has a standard error of about :math:`\sqrt{a (1 - a)/n}` in an accuracy a.

==================  ==================
:math:`\theta`      ``threshold``
==================  ==================

**Where implementations differ.** Robust accuracy in many codes asks the attacked answer alone, and counts inputs that
an attack has put right.

**Provenance.** Reconstructed: the study's pattern, compressors and settings are known by its README and abstract
(decoding-comp-trust/comp-trust); these scores stand for its perspectives and are common ones.

Hong et al., *Decoding Compressed Trust: Scrutinizing the Trustworthiness of Efficient LLMs Under Compression*, 2024,
arXiv:2403.15447.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    Fraction,
    Index,
    K,
    N,
    PositiveInt,
    Real,
    Scalar,
    checked,
)
from trref.trustworthiness.calibration import calibration_error


class Report(NamedTuple):
    """Scores of a classifier; of calibration error, parity gap and abstention less is better."""

    accuracy: Scalar
    robust_accuracy: Scalar
    calibration_error: Scalar
    worst_group: Scalar
    parity_gap: Scalar
    abstention: Scalar


def _known(logits, labels, **_):
    """Labels that are no class."""
    return [validate.labels(labels, logits.shape[1])]


@checked(also=_known)
def trust_report(
    logits: Real[N, K],
    attacked_logits: Real[N, K],
    labels: Index[N],
    group: Index[N],
    *,
    threshold: Fraction = 0.5,
    bins: PositiveInt = 10,
) -> Report:
    """Scores of a classifier.

    Parameters
    ----------
    logits
        Of the samples.
    attacked_logits
        Of the same samples, attacked.
    group
        What a sample belongs to: any numbers.
    threshold
        Of confidence: below it the classifier abstains.
    bins
        Of the calibration error.
    """
    return _report(logits, attacked_logits, labels, group, threshold, bins)


def _report(logits, attacked_logits, labels, group, threshold, bins):
    guess, dtype = logits.argmax(1), logits.dtype
    right = (guess == labels).astype(dtype)
    # eq. compressed-trust-accuracy
    accuracy = right.mean()
    robust = (right * (attacked_logits.argmax(1) == labels)).mean()

    # eq. compressed-trust-groups
    same = (group[:, None] == group).astype(dtype)
    same = same / same.sum(1, keepdims=True)
    rates = same @ one_hot(guess, logits.shape[1], dtype)
    worst, gap = (same @ right).min(), (rates.max(0) - rates.min(0)).max()

    confidence = xp.exp(log_softmax(logits).max(1))
    # eq. compressed-trust-abstention
    abstention = (confidence < threshold).astype(dtype).mean()
    error = calibration_error.unchecked(confidence, right, bins=bins)
    scores = (accuracy, robust, error, worst, gap, abstention)
    return Report(*(xp.asarray(score) for score in scores))


def _both_known(logits, dense_logits, labels, **_):
    """Labels that are no class."""
    return [validate.labels(labels, logits.shape[1])]


@checked(also=_both_known)
def trust_change(
    logits: Real[N, K],
    attacked_logits: Real[N, K],
    dense_logits: Real[N, K],
    dense_attacked_logits: Real[N, K],
    labels: Index[N],
    group: Index[N],
    *,
    threshold: Fraction = 0.5,
    bins: PositiveInt = 10,
) -> Report:
    """Change of each score, relative to the dense model's.

    Parameters
    ----------
    dense_logits, dense_attacked_logits
        Of the dense model.
    """
    now = _report(logits, attacked_logits, labels, group, threshold, bins)
    then = _report(dense_logits, dense_attacked_logits, labels, group, threshold, bins)
    # eq. compressed-trust-change
    return Report(
        *((a - b) / xp.where(b > 0, b, 1) for a, b in zip(now, then, strict=True))
    )
