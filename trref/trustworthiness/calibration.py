r"""Calibration: whether a confidence of 0.9 is right nine times in ten.

An answer has a confidence :math:`c_i \in [0, 1]` and is right, :math:`r_i = 1`, or wrong. In B bins of equal width,
left-closed, with 1 in the last,

.. math::
    :label: calibration-bins

    b(c) = \min(\lfloor B c \rfloor, B - 1), \qquad
    n_b = |\{i : b(c_i) = b\}|, \quad \text{conf}_b = \frac{1}{n_b} \sum_{b(c_i) = b} c_i, \quad
    \text{acc}_b = \frac{1}{n_b} \sum_{b(c_i) = b} r_i,

the *expected calibration error* is

.. math::
    :label: calibration-error

    \text{ECE} = \sum_b \frac{n_b}{n}\, |\text{acc}_b - \text{conf}_b| .

It is at least :math:`|\bar r - \bar c|`, with equality exactly where all bins err in the same direction. A forecaster
that is calibrated does not have the error 0 but one of the order of :math:`\sqrt{B/n}`: the *floor*, the mean over
M answers that are drawn as right as they claim to be,

.. math::
    :label: calibration-floor

    \frac1M \sum_m \text{ECE}\big(c, r^{(m)}\big), \qquad r^{(m)}_i = [u_{mi} < c_i], \quad u_{mi} \sim U[0, 1)

How many answers are wrong although the model is sure of them is, as a share of all, or of those that are as sure,

.. math::
    :label: calibration-overconfidence

    \text{OCR} = \frac1n \sum_i [c_i \ge \theta]\, (1 - r_i), \qquad
    \text{OCR}_{|\theta} = \frac{\sum_i [c_i \ge \theta]\, (1 - r_i)}{\sum_i [c_i \ge \theta]},

how far confidence tells right from wrong, the correlation

.. math::
    :label: calibration-correlation

    \text{CCC} = \frac{\sum_i (c_i - \bar c)(r_i - \bar r)}
    {\sqrt{\sum_i (c_i - \bar c)^2\, \sum_i (r_i - \bar r)^2}},

and both at once, the score of Brier

.. math::
    :label: calibration-brier

    \frac1n \sum_i (c_i - r_i)^2 .

No one of them replaces the others. The correlation is the same for :math:`a c + b`, so it says nothing of calibration;
a constant confidence equal to the accuracy has the error 0 and tells nothing apart.

**Repair** on other answers, whose truth is known: a confidence becomes what was right in its bin,

.. math::
    :label: calibration-histogram

    c \mapsto \text{acc}_{b(c)},

and logits z are divided by the temperature that is best by the loss

.. math::
    :label: calibration-temperature

    L(T) = -\frac1n \sum_i \log \text{softmax}(z_i / T)_{y_i}, \qquad
    \frac{dL}{dT} = \frac{1}{n T^2} \sum_i \big( z_{i y_i} - \langle \text{softmax}(z_i / T), z_i \rangle \big) .

An empty bin has confidence and accuracy 0, and leaves a confidence as it is. Where nothing is as sure as
:math:`\theta`, the conditional rate is 0; where confidence or truth is constant, so is the correlation.

**Where implementations differ.** scikit-learn's bins are right-closed and empty ones are left out. The overconfidence
rates that the paper's notebook puts into its prompt, 260/512 and 213/512, are near the full error rates of its agents:
a share without any threshold. State the threshold with every rate.

**Provenance.** ECE and overconfidence as words in a public summary of the paper, whose notebook has their numbers and
no code; the correlation from its name. On the published table of 160 images both agents are too sure in every bin, and
ECE is the difference of the means, 0.4928 and 0.3050. The floor and the repairs are standard.

Roumeliotis, Sapkota, Karkee and Tselikas, *Orchestrator-Agent Trust: A Modular Agentic AI Visual Classification System
with Trust-Aware Orchestration and RAG-Based Reasoning*, 2025, arXiv:2507.10571.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    Binary,
    C,
    Fraction,
    Index,
    K,
    M,
    N,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    checked,
)


class Reliability(NamedTuple):
    """The share of the answers in each bin, their mean confidence, and how many of them are right."""

    share: Prob[K]
    confidence: Prob[K]
    accuracy: Prob[K]


def _members(confidence, bins):
    """One row an answer, with a 1 in its bin."""
    # eq. calibration-bins
    bin = xp.minimum(xp.floor(bins * confidence), bins - 1)
    return (bin[:, None] == xp.arange(bins)).astype(confidence.dtype)


@checked
def reliability(
    confidence: Prob[N], correct: Binary[N], *, bins: PositiveInt = 10
) -> Reliability:
    """What a reliability diagram shows.

    Parameters
    ----------
    confidence
        Of each answer.
    correct
        1 where it is right.
    bins
        How many, of equal width.
    """
    member = _members(confidence, bins)
    count = member.sum(0)
    n_b = xp.maximum(count, 1)
    # eq. calibration-bins
    return Reliability(
        count / len(confidence), confidence @ member / n_b, correct @ member / n_b
    )


@checked
def calibration_error(
    confidence: Prob[N], correct: Binary[N], *, bins: PositiveInt = 10
) -> Scalar:
    """Mean distance of confidence and accuracy over the bins."""
    gaps = (correct - confidence) @ _members(confidence, bins)
    return abs(gaps).sum() / len(confidence)  # eq. calibration-error


@checked
def calibration_floor(
    confidence: Prob[N], uniform: Prob[M, N], *, bins: PositiveInt = 10
) -> Scalar:
    """The error that remains of a forecaster who is right as often as it says.

    Parameters
    ----------
    uniform
        Draws from the uniform law on [0, 1), one row a repetition.
    """
    # eq. calibration-floor
    drawn = (uniform < confidence).astype(confidence.dtype)
    gaps = (drawn - confidence) @ _members(confidence, bins)
    return abs(gaps).sum(1).mean() / len(confidence)


@checked
def overconfidence(
    confidence: Prob[N],
    correct: Binary[N],
    *,
    threshold: Fraction = 0.9,
    conditional: bool = False,
) -> Scalar:
    """Share of answers that are sure and wrong.

    Parameters
    ----------
    threshold
        The confidence from which an answer is sure.
    conditional
        As a share of the sure answers, and not of all.
    """
    sure = (confidence >= threshold).astype(confidence.dtype)
    wrong = (sure * (1 - correct)).sum()
    # eq. calibration-overconfidence
    return wrong / (xp.maximum(sure.sum(), 1) if conditional else len(confidence))


@checked
def correlation(confidence: Prob[N], correct: Binary[N]) -> Scalar:
    """Correlation of confidence and being right."""
    varies = (confidence.max() > confidence.min()) & (correct.max() > correct.min())
    scale = xp.where(varies, confidence.max() - confidence.min(), 1)
    c, r = (confidence - confidence.mean()) / scale, correct - correct.mean()
    squares = xp.where(varies, (c @ c) * (r @ r), 1)
    # eq. calibration-correlation
    return xp.where(varies, c @ r / xp.sqrt(squares), 0)[()]


@checked
def brier(confidence: Prob[N], correct: Binary[N]) -> Scalar:
    """Mean squared distance of confidence and being right."""
    return ((confidence - correct) ** 2).mean()  # eq. calibration-brier


@checked
def histogram_binning(
    confidence: Prob[N], correct: Binary[N], query: Prob[M], *, bins: PositiveInt = 10
) -> Prob[M]:
    """Confidences replaced by what was right in their bins.

    Parameters
    ----------
    confidence
        Of answers whose truth is known.
    query
        Confidences to be repaired.
    """
    member, asked = _members(confidence, bins), _members(query, bins)
    count = member.sum(0)
    accuracy = correct @ member / xp.maximum(count, 1)
    # eq. calibration-histogram
    return xp.where(asked @ count > 0, asked @ accuracy, query)


def _has_classes(logits, labels, temperature, **_):
    """A label that is no column of the logits; a temperature that divides too little or too much."""
    return [
        validate.labels(labels, logits.shape[1]),
        (
            lambda: (temperature >= 1e-3) & (temperature <= 1e3),
            "temperature must lie between 0.001 and 1000",
        ),
    ]


@checked(also=_has_classes)
def temperature_loss(
    logits: Real[N, C], labels: Index[N], temperature: Scalar
) -> tuple[Scalar, Scalar]:
    """Mean cross-entropy of logits divided by a temperature.

    Parameters
    ----------
    logits
        Of the classes, for answers whose truth is known.
    temperature
        What they are divided by.

    Returns
    -------
    loss
    gradient
        With respect to `temperature`.
    """
    own = one_hot(labels, logits.shape[1], logits.dtype)
    log_p = log_softmax(logits / temperature)
    # eq. calibration-temperature
    loss = -(log_p * own).sum(1).mean()
    slope = ((own - xp.exp(log_p)) * logits).sum(1).mean() / temperature**2
    return loss, slope
