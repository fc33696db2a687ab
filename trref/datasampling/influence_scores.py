r"""Influence scores at scale: how hard an example is, from what a training leaves behind.

Five scores of examples are compared as rules for leaving data out. Two of them, EL2N and forgetting counts, are those
of `trref.datasampling.data_diet`; the other three are here.

**VoG.** The gradient by the input of the true class's logit, in each of C checkpoints of one training,
:math:`G^{(c)} = \partial A_y^{(c)} / \partial x`, goes on moving where the network has not made up its mind. Its
variance over the checkpoints, entry by entry, is averaged over the D entries of the input:

.. math::
    :label: influence-scores-vog

    \mu = \frac1C \sum_c G^{(c)}, \qquad v = \frac1D \sum_{j=1}^{D} \frac{1}{\sqrt C} \sum_c (G^{(c)}_j - \mu_j)^2

The printed factor :math:`1/\sqrt C` gives a variance times :math:`\sqrt C`, the paper's pseudo-code the variance
itself: the same ranking. Scores of different classes are not on one scale, so they are standardised within the class
(or over all data):

.. math::
    :label: influence-scores-normalised

    \bar v_i = \frac{v_i - \mu_{y_i}}{\sigma_{y_i}}

Where a class has no spread, as for a linear model, whose gradient does not depend on the input, the result is 0.

**TracIn.** How far learning :math:`z'` has moved the loss of z, to first order, summed over checkpoints with their
step sizes :math:`\eta_i`:

.. math::
    :label: influence-scores-tracin

    I(z, z') = \sum_i \eta_i\, \nabla \ell(\theta_i, z) \cdot \nabla \ell(\theta_i, z')

.. math::
    :label: influence-scores-self

    I(z, z) = \sum_i \eta_i\, \|\nabla \ell(\theta_i, z)\|^2

**PVI.** How many bits the input tells of the label, beyond what a model g knows that never sees an input,

.. math::
    :label: influence-scores-pvi

    \text{PVI}(x \to y) = \log_2 f_x(y) - \log_2 g(y),

and such a model does best with the frequencies of the classes:

.. math::
    :label: influence-scores-null

    g(y) = \frac{|\{i : y_i = y\}|}{N}

Low or negative values mean hard or mislabelled. The mean over data is the entropy of the labels less the
cross-entropy, in bits.

**Subsets.** A hard cut keeps the highest scores (`trref.datasampling.data_diet.keep`). Or examples are drawn without
replacement, with probabilities from a softmax of the scores, or linear in them down to a floor :math:`\epsilon`:

.. math::
    :label: influence-scores-softmax

    \pi_i = \frac{e^{v_i}}{\sum_j e^{v_j}}

.. math::
    :label: influence-scores-linear

    \pi_i \propto \epsilon + (1 - \epsilon)\, \frac{v_i - \min v}{\max v - \min v}

One after the other, each with the probabilities of those that are left: the same law as keeping the m smallest of

.. math::
    :label: influence-scores-draw

    -\frac{\log u_i}{\pi_i}, \qquad u_i \sim U(0, 1),

for these are exponential times of rate :math:`\pi_i`, and the first of several comes with probability proportional to
its rate. Two subsets are compared by their overlap,

.. math::
    :label: influence-scores-overlap

    J(A, B) = \frac{|A \cap B|}{|A \cup B|},

1 if both are empty. Equal scores everywhere give equal probabilities. Nothing is differentiated through a score.

**Where implementations differ.** The definition from which the paper starts (Agarwal, D'souza and Hooker, 2022) takes
the root of the variance of each entry before it averages over entries, which can change the ranking.

**Provenance.** Confirmed in the paper's text (its table 1 and appendices B and C). The index of overlap is not defined
there; this is the usual one. The law of the exponential times is standard.

Anand, Tan and Minakova, *Influence Scores at Scale for Efficient Language Data Sampling*, 2023, arXiv:2311.16298.
"""

import math
from typing import Literal

from trref.backend import xp
from trref.signature import (
    Binary,
    C,
    D,
    Fraction,
    Index,
    LogProb,
    M,
    N,
    NonNegative,
    P,
    Positive,
    Real,
    Scalar,
    Simplex,
    checked,
)


@checked
def gradient_variances(
    gradients: Real[C, N, D], *, scale: Literal["printed", "variance"] = "printed"
) -> NonNegative[N]:
    """The variance over checkpoints of each example's input gradient (VoG).

    Parameters
    ----------
    gradients
        Of the true class's logit by the input, a checkpoint after the other: from `trref.problems.rows.RowScore`.
    scale
        Divide the sum over C checkpoints by the root of C, as printed, or by C.
    """
    moved = gradients - gradients[0]  # exactly 0 where nothing changes
    square = (moved - moved.mean(0)) ** 2
    C = len(gradients)
    # eq. influence-scores-vog
    total = square.sum(0) / (math.sqrt(C) if scale == "printed" else C)
    return total.mean(1)


@checked
def normalised(scores: Real[N], group: Index[N] | None = None) -> Real[N]:
    """Scores of mean 0 and standard deviation 1, within each class or over all.

    Parameters
    ----------
    scores
        One an example.
    group
        The class of each example; all are one class if None.
    """
    N, eps = len(scores), float(xp.finfo(scores.dtype).eps)
    group = xp.zeros(N) if group is None else group
    same = (group[:, None] == group).astype(scores.dtype)
    count = same.sum(1)
    off = scores - same @ scores / count
    spread = xp.sqrt(same @ off**2 / count)
    # a spread that is all rounding is none
    some = spread > N * eps * abs(scores).max()
    # eq. influence-scores-normalised
    return xp.where(some, off / xp.where(some, spread, 1), 0)


@checked
def influence(
    gradients: Real[C, M, P], other_gradients: Real[C, N, P], lrs: Positive[C]
) -> Real[M, N]:
    """How far learning each of N other examples has moved the loss of each of M examples (TracIn).

    Parameters
    ----------
    gradients
        Of each example's loss by the parameters, a checkpoint after the other.
    other_gradients
        The same of others.
    lrs
        Step size at each checkpoint.
    """
    # eq. influence-scores-tracin
    return xp.einsum("cmp,cnp,c->mn", gradients, other_gradients, lrs)


@checked
def self_influence(gradients: Real[C, N, P], lrs: Positive[C]) -> NonNegative[N]:
    """How far learning an example has moved its own loss."""
    return lrs @ (gradients**2).sum(-1)  # eq. influence-scores-self


@checked
def pointwise_information(log_prob: LogProb[N], null_log_prob: LogProb[N]) -> Real[N]:
    """Bits that each input tells of its label (PVI).

    Parameters
    ----------
    log_prob
        Of the labels, by a model that sees the inputs.
    null_log_prob
        Of the labels, by one that does not, as from `null_log_probs`.
    """
    return (log_prob - null_log_prob) / math.log(2)  # eq. influence-scores-pvi


@checked
def null_log_probs(
    labels: Index[N], *, dtype: Literal["float64", "float32"] = "float64"
) -> LogProb[N]:
    """Log-frequency of each example's class: all that a model without inputs can learn.

    Parameters
    ----------
    labels
        Class of each example.
    """
    counts = (labels[:, None] == labels).astype(dtype).sum(1)
    return xp.log(counts / len(labels))  # eq. influence-scores-null


@checked
def softmax_probabilities(scores: Real[N]) -> Simplex[N]:
    """Probabilities of being drawn that are exponential in the scores."""
    e = xp.exp(scores - scores.max())
    return e / e.sum()  # eq. influence-scores-softmax


@checked
def linear_probabilities(scores: Real[N], *, floor: Fraction = 0.05) -> Simplex[N]:
    """Probabilities that are linear in the scores.

    Parameters
    ----------
    floor
        What the lowest score gets, where the highest gets 1, before both are divided by the sum.
    """
    above, room = scores - scores.min(), scores.max() - scores.min()
    # eq. influence-scores-linear
    height = xp.where(room > 0, above / xp.where(room > 0, room, 1), 1)
    weight = floor + (1 - floor) * height
    return weight / weight.sum()


def _within_one(uniform, **_):
    """A draw above 1."""
    return [(lambda: uniform.max() <= 1, "uniform must be at most 1")]


@checked(also=_within_one)
def drawn(
    weights: Positive[N], uniform: Positive[N], *, share: Fraction = 0.5
) -> Binary[N]:
    """1 for the examples that are drawn, one after the other without replacement.

    Parameters
    ----------
    weights
        Proportional to the probabilities.
    uniform
        Draws from the uniform law on (0, 1), one an example.
    share
        How many are drawn, of all; at least one.
    """
    time = -xp.log(uniform) / weights  # eq. influence-scores-draw
    rank = xp.argsort(xp.argsort(time, kind="stable"), kind="stable")
    return (rank < max(round(share * len(weights)), 1)).astype(weights.dtype)


@checked
def overlap(first: Binary[N], second: Binary[N]) -> Scalar:
    """The overlap of two subsets: how many are in both, of those in either.

    Parameters
    ----------
    first, second
        1 for the members.
    """
    both, either = (first * second).sum(), xp.maximum(first, second).sum()
    # eq. influence-scores-overlap
    return xp.where(either > 0, both / xp.where(either > 0, either, 1), 1)[()]
