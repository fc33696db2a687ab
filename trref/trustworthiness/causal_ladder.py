r"""The causal ladder on small models: what is seen, what an intervention does, what would have been.

A label Y has a cause or a companion S, the nuisance, and features X depend on both. *Seeing* x says
:math:`P(y | x)`; *setting* x, where S is all that drives both x and y, says

.. math::
    :label: causal-ladder-seen

    P(y | x) = \frac{\sum_s P(s, x, y)}{\sum_{s, y'} P(s, x, y')},

.. math::
    :label: causal-ladder-backdoor

    P(y | do(x)) = \sum_s P(y | x, s)\, P(s),

the back-door adjustment, which needs every x to be possible under every s. The two differ as far as s and x hang
together.

Reweighting is an intervention on the data. Under the weights

.. math::
    :label: causal-ladder-weights

    q_i \propto \frac{P(y_i)\, P(s_i)}{P(y_i, s_i)}

label and nuisance are independent and keep both of their laws, and :math:`P_q(x | y) = \sum_s P(x | y, s) P(s)` is
:math:`P(x | do(y))` where S is the only common cause. All pairs (y, s) must be there; a pair that is missing cannot be
weighed, and the laws change.

A *counterfactual* keeps everything of a sample but its nuisance. In a linear model :math:`x = y\, a + s\, b + u` with s
of 0 or 1 its noise u is kept by

.. math::
    :label: causal-ladder-flipped

    x' = x + (1 - 2 s)\, b,

which undoes itself. Whether a representation still knows the domain can be asked of an adversary; what the best of all
adversaries reaches on two equally likely domains with laws P and Q is

.. math::
    :label: causal-ladder-floor

    \min_d \text{CE} = \log 2 - \text{JS}(P, Q), \qquad
    \text{JS} = \tfrac12 \text{KL}(P \| M) + \tfrac12 \text{KL}(Q \| M), \quad M = \tfrac12 (P + Q) :

an adversary at :math:`\log 2` has found nothing because there is nothing, or because it is weak.

**Where implementations differ.** Weights that are not stabilised, a choice in zEpid, are :math:`1 / P(s_i | y_i)`:
these also make label and nuisance independent, but with a nuisance that is uniform, so that the result is the
intervention in another population.

**Provenance.** Reconstructed: the survey reads reweighting as an intervention and augmentation as a counterfactual, in
words of the third author's essay; the equations are Pearl's and standard, re-derived and checked here.

Liu, Chaudhary and Wang, *Towards Trustworthy and Aligned Machine Learning: A Data-centric Survey with Causality
Perspectives*, 2023, arXiv:2307.16851.
"""

from typing import Literal

from trref import validate
from trref.backend import xp
from trref.nn.heads import one_hot
from trref.signature import (
    Binary,
    C,
    D,
    Index,
    K,
    N,
    PositiveInt,
    Prob,
    Real,
    S,
    Scalar,
    Simplex,
    checked,
)


def _law(joint, **_):
    """Probabilities that do not sum to 1; an x that is impossible under some s."""
    return [
        (
            lambda: abs(joint.sum() - 1) <= 1e-5,
            "joint must sum to 1, to 1e-5",
        ),
        (
            lambda: joint.sum(2).min() > 1e-12,
            "joint must give every x a probability under every s",
        ),
    ]


@checked(also=_law)
def seen(joint: Prob[S, K, C]) -> Prob[K, C]:
    """Law of y where x is seen.

    Parameters
    ----------
    joint
        Probabilities of S values of s, K of x and C of y.
    """
    together = joint.sum(0)
    return together / together.sum(1, keepdims=True)  # eq. causal-ladder-seen


@checked(also=_law)
def backdoor(joint: Prob[S, K, C]) -> Prob[K, C]:
    """Law of y where x is set, adjusted for s."""
    P_s = joint.sum((1, 2))
    given = joint / joint.sum(2, keepdims=True)
    # eq. causal-ladder-backdoor
    return (P_s[:, None, None] * given).sum(0)


def _known(labels, nuisance, classes, values, **_):
    """A label or a nuisance beyond the last."""
    return [
        validate.labels(labels, classes),
        validate.labels(nuisance, values, "nuisance"),
    ]


@checked(also=_known)
def intervention_weights(
    labels: Index[N],
    nuisance: Index[N],
    *,
    classes: PositiveInt = 2,
    values: PositiveInt = 2,
    dtype: Literal["float64", "float32"] = "float64",
) -> Simplex[N]:
    """Weights that make label and nuisance independent.

    Parameters
    ----------
    nuisance
        Of each sample, a number below `values`.
    classes, values
        How many labels and nuisances there are.
    """
    y, s = one_hot(labels, classes, dtype), one_hot(nuisance, values, dtype)
    both = y.T @ s
    # eq. causal-ladder-weights
    product = both.sum(1)[labels] * both.sum(0)[nuisance]
    q = product / both[labels, nuisance]
    return q / q.sum()


@checked
def flipped(X: Real[N, D], nuisance: Binary[N], effect: Real[D]) -> Real[N, D]:
    """Samples as they would be with the other nuisance.

    Parameters
    ----------
    X
        The samples.
    nuisance
        Of each, 0 or 1.
    effect
        What a nuisance of 1 adds.
    """
    return X + (1 - 2 * nuisance)[:, None] * effect  # eq. causal-ladder-flipped


@checked
def adversary_floor(first: Simplex[K], second: Simplex[K]) -> Scalar:
    """Least cross-entropy of an adversary that tells two domains apart.

    Parameters
    ----------
    first, second
        The laws of a representation in the two domains.
    """
    middle = (first + second) / 2
    # eq. causal-ladder-floor
    js = (_divergence(first, middle) + _divergence(second, middle)) / 2
    return xp.log(xp.asarray(2.0, dtype=first.dtype)) - js


def _divergence(p, q):
    """KL(p‖q), where 0 log 0 is 0."""
    some = p > 0
    ratio = xp.where(some, p, 1) / xp.where(some, q, 1)
    return (p * xp.log(ratio)).sum()
