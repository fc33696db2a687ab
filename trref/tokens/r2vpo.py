r"""R2VPO: a brake that grows with the ratio, in the place of a clip.

What differs from GRPO: nothing is clipped. Under the sampling policy the ratio :math:`\rho = \pi/\pi_{old}` has mean 1,
so "do not move too far" can be asked of its variance, which is a chi-square divergence:

.. math::
    :label: r2vpo-variance

    \mathrm{Var}_{old}(\rho) = \mathbb E_{old}\big[(\rho - 1)^2\big] = \chi^2(\pi \| \pi_{old}), \qquad
    \widehat{\mathrm{Var}} = \sum_{i,t} w_{i,t}\, (\rho_{i,t} - 1)^2

with the weight :math:`w` of a mean over all tokens; the known mean 1 is used, not that of the sample. The Lagrangian of
the constraint :math:`\mathrm{Var} \le \delta` is

.. math::
    :label: r2vpo-objective

    J = \sum_{i,t} w_{i,t} \big[ \rho_{i,t} \hat A_{i,t} - \lambda\, \big((\rho_{i,t} - 1)^2 - \delta\big) \big]

.. math::
    :label: r2vpo-gradient

    \frac{\partial J}{\partial \log\pi_{i,t}} = w_{i,t}\, \rho_{i,t}
    \big( \hat A_{i,t} - 2\lambda\, (\rho_{i,t} - 1) \big)

which changes sign at :math:`\rho = 1 + \hat A / 2\lambda`. The multiplier is fixed, or follows the constraint:

.. math::
    :label: r2vpo-dual

    \lambda \leftarrow \max\big\{0,\; \lambda + \eta\, (\widehat{\mathrm{Var}} - \delta)\big\}

For answers as a whole the ratio is :math:`s_i`, the geometric mean of the token ratios as in GSPO, because the variance
of a product grows exponentially with the length:

.. math::
    :label: r2vpo-sequence

    J = \frac1B \sum_i \big[ s_i \hat A_i - \lambda\, \big((s_i - 1)^2 - \delta\big) \big]

If one may choose a ratio for each action, with mean 1, none negative, of variance at most :math:`\delta`, the best are
linear in the advantage on the best actions S and 0 elsewhere. With :math:`P, m, v` the mass of S and the mean and
variance of the advantage on it,

.. math::
    :label: r2vpo-optimum

    \rho^*_a = \frac1P \Big( 1 + (A_a - m) \sqrt{\frac{(1 + \delta) P - 1}{v}} \Big), \qquad
    \lambda^* = \frac P2 \sqrt{\frac{v}{(1 + \delta) P - 1}}

where S is the largest set of best actions on which none of these is negative. While S is everything,
:math:`\rho^* = 1 + \sqrt\delta\, (A - \bar A)/\sigma_A`, :math:`\lambda^* = \sigma_A / 2\sqrt\delta`, and the mean
advantage :math:`\bar A` rises by :math:`\sqrt\delta\,\sigma_A`: chi-square distributional robustness with its sign
turned round.

==================  ====================================
:math:`\lambda`     `variance_weight`
:math:`\delta`      `target`
:math:`\eta`        `lr`
:math:`s_i`         of :func:`trref.tokens.gspo.gspo`
==================  ====================================

An answer without tokens has no weight. Old batches are reused by giving each token as `old_log_prob` its
log-probability under the policy that sampled it.

**Where implementations differ.** The paper has no public code. Two re-implementations fix :math:`\lambda = 0.04` and
clamp log-ratios to ±20; one takes the gradient's coefficient as a constant times the log-probability, which is the same
gradient with another value. With standardised advantages :math:`\lambda = 0.04` hardly constrains. SPO
(:mod:`trref.tokens.drpo`) is the same with :math:`\lambda = |\hat A| / 2\epsilon`: there tokens without advantage are
not pulled back, here they are.

**Provenance.** Partly: constraint and primal-dual scheme are the abstract's, the objective that of the
re-implementations; the multiplier's step size and target are reconstructed, the tabular optimum is derived and checked.

Luo et al., *Ratio-Variance Regularized Policy Optimization for Efficient LLM Fine-tuning*, 2026, arXiv:2601.03320.
"""

from trref.backend import xp
from trref.signature import (
    B,
    Lead,
    LogProb,
    Mask,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.gspo import mean_log_ratio
from trref.tokens.terms import per_token, seq_mean, token_mean


@checked
def braked_surrogate(
    log_ratio: Real[Lead],
    advantage: Real[Lead],
    *,
    variance_weight: NonNegativeFloat = 0.04,
    target: NonNegativeFloat = 0.02,
) -> tuple[Real[Lead], Real[Lead]]:
    """The term of one ratio, to maximise, and its derivative.

    Parameters
    ----------
    log_ratio
        Of a token, or of an answer.
    variance_weight
        The multiplier.
    target
        The variance allowed: it moves the value, not the gradient.

    Returns
    -------
    term
    derivative
        With respect to `log_ratio`.
    """
    ratio, moved = xp.exp(log_ratio), xp.expm1(log_ratio)
    term = ratio * advantage - variance_weight * (moved**2 - target)
    # eq. r2vpo-gradient
    return term, ratio * (advantage - 2 * variance_weight * moved)


@checked
def r2vpo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    variance_weight: NonNegativeFloat = 0.04,
    target: NonNegativeFloat = 0.02,
) -> tuple[Scalar, Real[B, T]]:
    """R2VPO loss with token ratios: the mean over all tokens."""
    term, derivative = braked_surrogate.unchecked(
        log_prob - old_log_prob,
        per_token(advantage),
        variance_weight=variance_weight,
        target=target,
    )
    w = token_mean(mask)
    J = (w * term).sum()  # eq. r2vpo-objective
    return -J, -w * derivative


@checked
def r2vpo_sequence(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B],
    mask: Mask[B, T],
    *,
    variance_weight: NonNegativeFloat = 0.04,
    target: NonNegativeFloat = 0.02,
) -> tuple[Scalar, Real[B, T]]:
    """R2VPO loss with one ratio an answer, normalised by its length."""
    term, derivative = braked_surrogate.unchecked(
        mean_log_ratio.unchecked(log_prob, old_log_prob, mask)[:, None],
        advantage[:, None],
        variance_weight=variance_weight,
        target=target,
    )
    w = seq_mean(mask)
    J = (w * term).sum()  # eq. r2vpo-sequence
    return -J, -w * derivative


@checked
def dual_step(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    variance_weight: NonNegativeFloat,
    target: NonNegativeFloat = 0.02,
    lr: PositiveFloat = 1.0,
) -> Scalar:
    """Return the multiplier after a batch: it rises where the ratios vary more than allowed.

    Parameters
    ----------
    log_prob, old_log_prob
        After the batch's last step, and before its first.
    variance_weight
        The one so far.
    lr
        Of the multiplier.
    """
    squares = xp.expm1(log_prob - old_log_prob) ** 2
    variance = (token_mean(mask) * squares).sum()  # eq. r2vpo-variance
    # eq. r2vpo-dual
    return xp.maximum(variance_weight + lr * (variance - target), 0)


def _distribution(prob, **_):
    """`prob` not of sum 1."""
    tolerance = max(1e-6, float(xp.finfo(prob.dtype).eps) ** 0.5)
    return [(lambda: abs(prob.sum() - 1) <= tolerance, "prob must have the sum 1")]


@checked(also=_distribution)
def tabular_optimum(
    advantage: Real[V], prob: Positive[V], *, target: PositiveFloat = 0.02
) -> NonNegative[V]:
    """Ratios of the highest mean advantage among all policies with chi-square at most `target`.

    Parameters
    ----------
    prob
        Probabilities of the actions under the old policy, of sum 1.

    Returns
    -------
    ratio
        The ratios, of mean 1; where actions tie, equal ones.
    """
    # row k: the k + 1 best actions; less the highest advantage, so that ties for the best are exact
    order = xp.argsort(-advantage)
    best = xp.tri(len(prob), dtype=prob.dtype)
    p, A = best * prob[order], advantage[order] - advantage.max()
    P = p.sum(1, keepdims=True)
    centred = A - p @ A[:, None] / P
    tiny = float(xp.finfo(prob.dtype).tiny)
    variance = xp.maximum((p * centred**2).sum(1, keepdims=True) / P, tiny)
    # eq. r2vpo-optimum
    # the slope is 0 for too small a set: a larger one follows
    slope = xp.sqrt(xp.maximum((1 + target) * P - 1, 0)) / xp.sqrt(variance)
    ratio = best * (1 + centred * slope) / P

    # the last action of a set is its worst: if its ratio is not negative, none is
    fits = xp.diagonal(ratio) >= 0
    largest = xp.where(fits, xp.arange(len(A)), 0).max()
    return xp.take(ratio, largest, axis=0)[xp.argsort(order)]
