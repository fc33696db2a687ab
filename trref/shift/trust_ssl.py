r"""Trust-SSL: views that a corruption has spoilt are not forced to agree.

Self-supervised learning brings two views of an image together. The contrastive loss (SimCLR's NT-Xent) stacks the unit
vectors of both views of B images, G of shape (2B, D), and asks each to be nearest to its partner :math:`i^+`:

.. math::
    :label: trust-ssl-contrast

    S = \frac{G G^\top}{T}, \qquad
    L_{base} = \frac{1}{2B} \sum_i \log \sum_{j \ne i} e^{S_{ij}} - S_{i, i^+}

.. math::
    :label: trust-ssl-contrast-gradient

    \frac{\partial L_{base}}{\partial G} = \frac{(Q + Q^\top)\, G}{T}, \qquad
    Q = \frac{\text{softmax}_{j \ne i}(S) - e_{i^+}}{2B}.

Forcing a clean view and a badly spoilt one to agree teaches nonsense. So the loss is left as it is, and a second one is
added, for each of F factors of meaning, whose weight is the trust in the pair. From non-negative *evidence* for each
of M prototypes, with a prior :math:`\beta`, a view has an opinion: belief in each, and ignorance,

.. math::
    :label: trust-ssl-opinion

    b_m = \frac{e_m}{S}, \qquad u = \frac{\beta M}{S}, \qquad S = \sum_m (e_m + \beta), \qquad \sum_m b_m + u = 1.

Two opinions *conflict* as far as they believe in different things,

.. math::
    :label: trust-ssl-conflict

    K = \sum_{i \ne j} b_{1i}\, b_{2j} = \Big(\sum b_1\Big) \Big(\sum b_2\Big) - \sum_i b_{1i} b_{2i},

cut to [0, 0.999], and by Dempster's rule together they know nothing to the degree

.. math::
    :label: trust-ssl-ignorance

    I = \Pi_{[0, 1]}\Big(\frac{u_1 u_2}{1 - K} + \varepsilon\, |u_1 - u_2|\Big).

Trust falls with both,

.. math::
    :label: trust-ssl-gate

    w = w_{min} + (1 - w_{min})\, e^{-a K - c I},

and the second loss is the mean over images and factors

.. math::
    :label: trust-ssl-residual

    L_{add} = \frac{1}{B F} \sum_{b, f} w_{bf}\, (1 - \cos(x_1^{bf}, x_2^{bf})),

.. math::
    :label: trust-ssl-residual-gradient

    \frac{\partial L_{add}}{\partial x_1} = -\frac{w}{B F\, \|x_1\|}\, (z_2 - \cos \cdot z_1), \qquad
    z = \frac{x}{\|x\|},

with the trust held constant: it can weigh the agreement, and cannot be learnt away. All in all

.. math::
    :label: trust-ssl-objective

    L = L_{base} + \lambda\, L_{add}.

K is no distance. Two identical diffuse opinions conflict, for each believes in all prototypes a little: of uniform
beliefs :math:`K = (1 - u)^2 (1 - 1/M)`. Only if both are sure of one thing is it 0.

An ablation puts the cosine of the views in the place of conflict and ignorance:

.. math::
    :label: trust-ssl-cosine-gate

    w = w_{min} + (1 - w_{min})\, \sigma(\cos / \tau_t)

A vector of length 0 is refused.

=======================  ==========================
:math:`\beta`            `prior`
:math:`w_{min}`          `floor`
:math:`a, c`             `conflict_weight, ignorance_weight`
:math:`\lambda`          `residual_weight`
=======================  ==========================

Without the stop-gradient the loss would also fall by closing the gate. In the released code no other loss reaches the
head that gives the evidence, so that it stays random; here evidence is an input, and what trains its head is left to
the caller.

**Where implementations differ.** A *multiplicative* gate, the negative example, weighs the contrastive loss itself and
adds nothing.

**Provenance.** Confirmed in the authors' code, which carries the paper's equation numbers; the gradients are derived
and checked here. The auxiliary classifier of corruptions is an ordinary cross-entropy and left out; an *anchor* term
that a comment names is in no code that could be read.

Boulila and co-authors, *Trust-SSL: Additive-Residual Selective Invariance for Robust Aerial Self-Supervised Learning*,
2026, arXiv:2604.21349.
"""

from typing import NamedTuple

from trref.backend import special, xp
from trref.signature import (
    B,
    D,
    E,
    Fraction,
    M,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    T,
    checked,
)


class Pair(NamedTuple):
    """Derivatives by the vectors of both views."""

    first: Real[B, D]
    second: Real[B, D]


class Factors(NamedTuple):
    """Derivatives by the factors' vectors of both views."""

    first: Real[B, T, D]
    second: Real[B, T, D]


class Views(NamedTuple):
    """Derivatives by the vectors of both views, by their factors' and by their evidence (0)."""

    first: Real[B, D]
    second: Real[B, D]
    first_factors: Real[B, T, E]
    second_factors: Real[B, T, E]
    first_evidence: Real[B, T, M]
    second_evidence: Real[B, T, M]


class Opinion(NamedTuple):
    """Belief in each prototype, and ignorance: together 1."""

    belief: Prob[N, M]
    ignorance: Prob[N]


def _long(**vectors):
    """A vector of length 0."""
    test = lambda v: ((v * v).sum(-1) > 0).all()  # noqa: E731
    return [
        (lambda v=v: test(v), f"{name} must not have a vector of 0")
        for name, v in vectors.items()
    ]


def _pair(first, second, **_):
    """A vector of length 0."""
    return _long(first=first, second=second)


def _unit(x):
    length = xp.sqrt((x * x).sum(-1, keepdims=True))
    return x / length, length


@checked(also=_pair)
def nt_xent(
    first: Real[B, D], second: Real[B, D], *, temperature: PositiveFloat = 0.1
) -> tuple[Scalar, Pair]:
    """The contrastive loss of two views (SimCLR).

    Parameters
    ----------
    first, second
        Vectors of the two views of each image, of any length.
    temperature
        What cosines are divided by.

    Returns
    -------
    loss
    gradient
        With respect to `first` and `second`.
    """
    B = len(first)
    G, length = _unit(xp.concatenate([first, second]))
    same = xp.eye(2 * B, dtype=G.dtype)
    partner = xp.roll(same, B, axis=1)
    # eq. trust-ssl-contrast
    S = G @ G.T / temperature
    top = xp.where(same == 1, S.min(), S).max(1, keepdims=True)
    e = xp.exp(xp.minimum(S - top, 0)) * (1 - same)
    total = e.sum(1, keepdims=True)
    value = (xp.log(total) + top - (partner * S).sum(1, keepdims=True)).mean()

    # eq. trust-ssl-contrast-gradient
    Q = (e / total - partner) / (2 * B)
    dG = (Q + Q.T) @ G / temperature

    d = (dG - (dG * G).sum(1, keepdims=True) * G) / length
    return value, Pair(d[:B], d[B:])


@checked
def opinions(evidence: NonNegative[N, M], *, prior: PositiveFloat = 0.05) -> Opinion:
    """Belief and ignorance from evidence.

    Parameters
    ----------
    evidence
        For each of M prototypes.
    prior
        What is added to the evidence for each.
    """
    S = (evidence + prior).sum(1, keepdims=True)
    # eq. trust-ssl-opinion
    return Opinion(evidence / S, prior * evidence.shape[1] / S[:, 0])


def _conflict(first, second):
    # eq. trust-ssl-conflict
    K = first.sum(-1) * second.sum(-1) - (first * second).sum(-1)
    return xp.clip(K, 0, 0.999)


@checked
def conflict(first_belief: Prob[N, M], second_belief: Prob[N, M]) -> Prob[N]:
    """How far two opinions believe in different things.

    Parameters
    ----------
    first_belief, second_belief
        In each prototype.
    """
    return _conflict(first_belief, second_belief)


def _ignorance(u, v, K, asymmetry):
    # eq. trust-ssl-ignorance
    return xp.clip(u * v / (1 - K) + asymmetry * abs(u - v), 0, 1)


@checked
def fused_ignorance(
    first_ignorance: Prob[N],
    second_ignorance: Prob[N],
    conflict: Prob[N],
    *,
    asymmetry: NonNegativeFloat = 0.1,
) -> Prob[N]:
    """What two opinions together do not know.

    Parameters
    ----------
    first_ignorance, second_ignorance
        Of the two.
    conflict
        Between them; at most 0.999 counts.
    asymmetry
        Weight of the difference.
    """
    K = xp.minimum(conflict, 0.999)
    return _ignorance(first_ignorance, second_ignorance, K, asymmetry)


@checked
def trust_gate(
    first_evidence: NonNegative[B, T, M],
    second_evidence: NonNegative[B, T, M],
    *,
    floor: Fraction = 0.05,
    conflict_weight: NonNegativeFloat = 2.0,
    ignorance_weight: NonNegativeFloat = 3.0,
    asymmetry: NonNegativeFloat = 0.1,
    prior: PositiveFloat = 0.05,
) -> Prob[B, T]:
    """Trust in each pair of views, for each of T factors.

    Parameters
    ----------
    first_evidence, second_evidence
        Of both views, for M prototypes of each factor.
    floor
        The least trust: from 0.5 to 0.05 over a training in the paper.
    conflict_weight, ignorance_weight
        How fast trust falls with the two.
    """
    M = first_evidence.shape[2]
    S1, S2 = ((e + prior).sum(2) for e in (first_evidence, second_evidence))
    K = _conflict(first_evidence / S1[..., None], second_evidence / S2[..., None])
    u1, u2 = prior * M / S1, prior * M / S2
    ignorance = _ignorance(u1, u2, K, asymmetry)
    # eq. trust-ssl-gate
    closed = xp.exp(-conflict_weight * K - ignorance_weight * ignorance)
    return floor + (1 - floor) * closed


@checked(also=_pair)
def cosine_gate(
    first: Real[B, T, D],
    second: Real[B, T, D],
    *,
    floor: Fraction = 0.05,
    temperature: PositiveFloat = 0.5,
) -> Prob[B, T]:
    """Trust from the cosine of the factors' vectors, an ablation.

    Parameters
    ----------
    temperature
        What the cosine is divided by.
    """
    cosine = (_unit(first)[0] * _unit(second)[0]).sum(2)
    # eq. trust-ssl-cosine-gate
    return floor + (1 - floor) * special.expit(cosine / temperature)


@checked(also=_pair)
def residual(
    first: Real[B, T, D], second: Real[B, T, D], trust: Prob[B, T]
) -> tuple[Scalar, Factors]:
    """The weighted disagreement of the factors.

    Parameters
    ----------
    trust
        In each pair and factor, from `trust_gate`.

    Returns
    -------
    loss
    gradient
        With respect to `first` and `second`.
    """
    return _residual(first, second, trust)


def _residual(first, second, trust):
    (z1, n1), (z2, n2) = _unit(first), _unit(second)
    cosine = (z1 * z2).sum(2, keepdims=True)
    weight = trust[..., None] / trust.size
    value = (weight * (1 - cosine)).sum()  # eq. trust-ssl-residual
    # eq. trust-ssl-residual-gradient
    d1 = -weight * (z2 - cosine * z1) / n1
    d2 = -weight * (z1 - cosine * z2) / n2
    return value, Factors(d1, d2)


def _both(first, second, first_factors, second_factors, **_):
    """A vector of length 0."""
    return _long(
        first=first,
        second=second,
        first_factors=first_factors,
        second_factors=second_factors,
    )


@checked(also=_both)
def trust_objective(
    first: Real[B, D],
    second: Real[B, D],
    first_factors: Real[B, T, E],
    second_factors: Real[B, T, E],
    first_evidence: NonNegative[B, T, M],
    second_evidence: NonNegative[B, T, M],
    *,
    residual_weight: NonNegativeFloat = 0.2,
    temperature: PositiveFloat = 0.1,
    floor: Fraction = 0.05,
    conflict_weight: NonNegativeFloat = 2.0,
    ignorance_weight: NonNegativeFloat = 3.0,
    asymmetry: NonNegativeFloat = 0.1,
    prior: PositiveFloat = 0.05,
    trust: Prob[B, T] | None = None,
) -> tuple[Scalar, Views]:
    """The contrastive loss, and the trusted part of the factors' disagreement.

    Parameters
    ----------
    first_factors, second_factors
        The factors' vectors of both views.
    residual_weight
        Of the second loss: 0 at first and 0.2 at last in the paper.
    temperature
        What cosines are divided by in the contrastive loss.
    trust
        From `trust_gate`, held constant; computed if None.

    Returns
    -------
    loss
    gradient
        With respect to `first`, `second`, `first_factors`, `second_factors`, `first_evidence` and `second_evidence`.
        Of the evidence it is 0: trust cannot be learnt away.
    """
    if trust is None:
        trust = trust_gate.unchecked(
            first_evidence,
            second_evidence,
            floor=floor,
            conflict_weight=conflict_weight,
            ignorance_weight=ignorance_weight,
            asymmetry=asymmetry,
            prior=prior,
        )
    base, by_base = nt_xent.unchecked(first, second, temperature=temperature)
    added, by_added = _residual(first_factors, second_factors, trust)
    # eq. trust-ssl-objective
    value = base + residual_weight * added
    by_evidence = [xp.zeros_like(e) for e in (first_evidence, second_evidence)]
    return value, Views(
        *by_base, *(residual_weight * g for g in by_added), *by_evidence
    )
