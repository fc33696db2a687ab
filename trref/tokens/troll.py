r"""TROLL: project each token's distribution onto a KL ball, and differentiate through the projection.

What differs from GRPO: no clip. Where the new distribution :math:`p` of a token is further than :math:`\varepsilon`
from the old one :math:`q`, the ratio is that of its projection :math:`\tilde\pi` onto the ball
:math:`KL(\cdot \| q) \le \varepsilon` (:mod:`trref.tokens.troll_projection`), and the gradient goes through the
projection. A second term pulls the raw policy to its own projection, which is held constant:

.. math::
    :label: troll-objective

    J = \frac1{\sum |y_j|} \sum_{i,t} m_{i,t} \Big[ \frac{\tilde\pi(y)}{q(y)}\, \hat A
    - \alpha\, KL\big(p \,\|\, \mathrm{sg}[\tilde\pi]\big) \Big]

.. math::
    :label: troll-parts

    v = \frac{\tilde\pi(y)}{q(y)} \hat A\, (e_y - \tilde\pi), \qquad
    \frac{\partial KL(p \| \mathrm{sg}[\tilde\pi])}{\partial z}
    = p \odot \Big( \log \frac p{\tilde\pi} - KL(p \| \tilde\pi) \Big)

=====================  ===========
:math:`y`              `actions`
:math:`\varepsilon`    `radius`
:math:`\alpha`         `kl_weight`
=====================  ===========

Without any token loss and gradient are 0. At scale only the likely tokens of a row are kept:
:mod:`trref.tokens.troll_sparse`.

**Where implementations differ.** A public port (the TRPL loss of a prime-rl fork) detaches the projected ratio and
takes the gradient of the raw log-probability. Holding :math:`\eta` constant drops the second term of the gradient, and
is biased. A public note exchanges old and new in the projection: then :math:`\eta \to \infty` gives the new policy. The
projection is continuous at the ball's surface, its gradient is not.

**Provenance.** Confirmed by the authors' project page: projection, root, objective, defaults. The closed-form gradient
is derived here (the page mentions one without printing it) and checked.

Becker, Freymuth et al., *TROLL: Trust Regions improve Reinforcement Learning for Large Language Models*, 2025,
arXiv:2510.03817.
"""

from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    B,
    Index,
    LogProb,
    Mask,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.terms import near_and_known, per_token, token_mean
from trref.tokens.troll_projection import project_rows, pull_back


@checked
def row_terms(
    log_p: LogProb[B, T, V],
    log_q: LogProb[B, T, V],
    sampled: Mask[B, T, V],
    advantage: Real[B] | Real[B, T],
    projection: Real[B, T, V] | None = None,
    *,
    radius: PositiveFloat = 0.05,
    kl_weight: NonNegativeFloat = 1.0,
) -> tuple[Real[B, T], Real[B, T, V]]:
    """Each row's term of the objective, and its derivative.

    Parameters
    ----------
    log_p
        Log-probabilities of all tokens under the current policy.
    log_q
        Log-probabilities of all tokens under the policy that sampled.
    sampled
        1 on the sampled token of each row.
    projection
        Log-probabilities that the policy is pulled to, held constant; those of the projected rows if None.
    radius
        In nats.

    Returns
    -------
    term
    derivative
        With respect to the logits of p.
    """
    projected = project_rows.unchecked(log_p, log_q, radius)
    target = projected.log_prob if projection is None else projection
    A, ratio = (
        per_token(advantage),
        xp.exp(((projected.log_prob - log_q) * sampled).sum(-1)),
    )
    p, gap = xp.exp(log_p), log_p - target
    kl = (p * gap).sum(-1)

    # eq. troll-parts
    v = (ratio * A)[..., None] * (sampled - xp.exp(projected.log_prob))
    dkl = p * (gap - kl[..., None])

    through = pull_back.unchecked(log_p, log_q, projected, v)
    return ratio * A - kl_weight * kl, through - kl_weight * dkl


@checked(also=near_and_known)
def troll(
    logits: Real[B, T, V],
    old_logits: Real[B, T, V],
    actions: Index[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    radius: PositiveFloat = 0.05,
    kl_weight: NonNegativeFloat = 1.0,
    projection: Real[B, T, V] | None = None,
) -> tuple[Scalar, Real[B, T, V]]:
    """TROLL loss: the mean over all tokens.

    Parameters
    ----------
    projection
        As of `trref.tokens.troll_projection.project_kl`.
    """
    terms, derivative = row_terms.unchecked(
        log_softmax(logits),
        log_softmax(old_logits),
        one_hot(actions, logits.shape[-1], logits.dtype),
        advantage,
        projection,
        radius=radius,
        kl_weight=kl_weight,
    )
    w = token_mean(mask)
    J = (w * terms).sum()  # eq. troll-objective
    return -J, -w[..., None] * derivative
