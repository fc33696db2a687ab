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

Old batches are reused by giving each token as `old_log_prob` its log-probability under the policy that sampled it.

**Where implementations differ.** The paper has no public code. Two re-implementations fix :math:`\lambda = 0.04` and
clamp log-ratios to ±20; one takes the gradient's coefficient as a constant times the log-probability, which is the same
gradient with another value. With standardised advantages :math:`\lambda = 0.04` hardly constrains. SPO
(:mod:`trref.tokens.drpo`) is the same with :math:`\lambda = |\hat A| / 2\epsilon`: there tokens without advantage are
not pulled back, here they are.

**Provenance.** Partly: constraint and primal-dual scheme are the abstract's, the objective that of the
re-implementations; the multiplier's step size and target are reconstructed, the tabular optimum is derived and checked.

Luo et al., *Ratio-Variance Regularized Policy Optimization for Efficient LLM Fine-tuning*, 2026, arXiv:2601.03320.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS, REINFORCE_OVER_TOKENS, of_one_token, on_policy
from trref.tokens import _r2vpo_cases as cases
from trref.tokens.deviations import r2vpo as deviations
from trref.tokens.gspo import mean_log_ratio
from trref.tokens.interfaces import TOKEN_OBJECTIVE, token_objective
from trref.tokens.terms import token_weights

__all__ = ["dual_step", "r2vpo", "r2vpo_sequence", "tabular_optimum"]

SEQUENCE_OBJECTIVE = token_objective(advantage="B")
SAMPLES = token_objective(without=("advantage",))


def r2vpo(log_prob, old_log_prob, advantage, mask, *, weight=0.04, target=0.02):
    """R2VPO loss with token ratios: the mean over all tokens.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current policy and the one that sampled the token.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    weight : float
        The multiplier, in [0, inf).
    target : float
        The variance allowed, in [0, inf): it moves the value, not the gradient.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, numbers out of range.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("[0, inf)", weight=weight, target=target)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    term, derivative = braked_surrogate(log_prob - old_log_prob, A, weight, target)
    w = token_weights(mask, "token_mean")
    J = (w * term).sum()  # eq. r2vpo-objective
    return -J, -w * derivative


def braked_surrogate(log_ratio, A, weight, target):
    """Building block, unchecked: the term to maximise and its derivative with respect to the log-ratio."""
    ratio, moved = xp.exp(log_ratio), xp.expm1(log_ratio)
    return ratio * A - weight * (moved**2 - target), ratio * (A - 2 * weight * moved)  # eq. r2vpo-gradient


def r2vpo_sequence(log_prob, old_log_prob, advantage, mask, *, weight=0.04, target=0.02):
    """R2VPO loss with one ratio an answer, normalised by its length.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, weight, target
        As in `r2vpo`, the advantage (B,).

    Returns
    -------
    loss, gradient
        As of `r2vpo`.

    Raises
    ------
    ValueError
        As `r2vpo`.
    """
    validate.inputs(SEQUENCE_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("[0, inf)", weight=weight, target=target)
    log_s = mean_log_ratio(log_prob, old_log_prob, mask)[:, None]
    term, derivative = braked_surrogate(log_s, advantage[:, None], weight, target)
    w = token_weights(mask, "seq_mean")
    J = (w * term).sum()  # eq. r2vpo-sequence
    return -J, -w * derivative


def dual_step(log_prob, old_log_prob, mask, *, weight, target=0.02, lr=1.0):
    """Return the multiplier after a batch: it rises where the ratios vary more than allowed.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        After the batch's last step, and before its first.
    mask : array (B, T), 0 or 1
    weight, target : float
        The multiplier so far and the variance allowed, in [0, inf).
    lr : float
        Step size, in (0, inf).

    Returns
    -------
    scalar array
        At least 0.

    Raises
    ------
    ValueError
        As `r2vpo`.
    """
    validate.inputs(SAMPLES.inputs, log_prob, old_log_prob, mask)
    validate.interval("[0, inf)", weight=weight, target=target)
    validate.interval("(0, inf)", lr=lr)
    variance = (token_weights(mask, "token_mean") * xp.expm1(log_prob - old_log_prob) ** 2).sum()  # eq. r2vpo-variance
    return xp.maximum(weight + lr * (variance - target), 0)  # eq. r2vpo-dual


def tabular_optimum(advantage, prob, *, delta=0.02):
    """Ratios of the highest mean advantage among all policies with chi-square at most `delta`.

    Parameters
    ----------
    advantage, prob : array (V,)
        Of the actions; `prob` of the old policy: positive, of sum 1.
    delta : float
        Variance allowed, in (0, inf).

    Returns
    -------
    array (V,)
        Ratios, none negative, of mean 1; where actions tie, equal ones.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, `prob` not of sum 1, `delta` not positive.
    """
    _, flags = validate.deferred(cases.TABLE, advantage, prob)
    tolerance = max(1e-6, float(xp.finfo(prob.dtype).eps) ** 0.5)
    validate.require(*flags, (lambda: abs(prob.sum() - 1) <= tolerance, "prob must have the sum 1"))
    validate.interval("(0, inf)", delta=delta)
    order = xp.argsort(-advantage)
    best = xp.tri(len(prob), dtype=prob.dtype)  # row k: the k + 1 best actions
    p, A = best * prob[order], advantage[order] - advantage.max()  # so that ties for the best are exact
    P = p.sum(1, keepdims=True)
    centred = A - p @ A[:, None] / P
    deviation = xp.sqrt(xp.maximum((p * centred**2).sum(1, keepdims=True) / P, float(xp.finfo(prob.dtype).tiny)))
    # eq. r2vpo-optimum
    slope = xp.sqrt(xp.maximum((1 + delta) * P - 1, 0)) / deviation  # 0 for too small a set: a larger one follows
    ratio = best * (1 + centred * slope) / P

    largest = xp.where(xp.diagonal(ratio) >= 0, xp.arange(len(A)), 0).max()  # the last action of a set is its worst
    return xp.take(ratio, largest, axis=0)[xp.argsort(order)]


def _dual_step_by_loops(log_prob, old_log_prob, mask, *, weight, target=0.02, lr=1.0):
    ratio = xp.exp(log_prob - old_log_prob)[mask > 0].tolist()
    return max(weight + lr * (sum((r - 1) ** 2 for r in ratio) / max(len(ratio), 1) - target), 0.0)


def _signs_of_one_token(inputs):
    """answers have one token, and the advantage 1 or -1"""
    first = of_one_token(inputs)
    return {**first, "advantage": xp.where(first["advantage"] > 0, 1.0, -1.0)}


NO_CLIP = {"clip_low": 1e14, "clip_high": 1e14}
METHOD = Method(
    key="luo2026ratio",
    provenance={"partly": ("variance", "objective", "gradient"), "reconstructed": ("dual", "sequence", "optimum")},
    functions=(
        Objective(
            f=r2vpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"weight": 0.7, "target": 0.3}},
            limits=(
                Limit("dapo.dapo_over_batch", {"weight": 0.0}, NO_CLIP),
                Limit("dapo.dapo_over_batch", {"weight": 2.5, "target": 0.0}, where=on_policy),
                REINFORCE_OVER_TOKENS,
                Limit(
                    "drpo.spo", {"weight": 2.5, "target": 0.0}, {"max_length": 1, "eps": 0.2}, where=_signs_of_one_token
                ),
            ),
            deviations=(deviations.RATIO_CLAMPED, deviations.COEFFICIENT_TIMES_LOG_PROB),
        ),
        Objective(
            f=r2vpo_sequence,
            interface=SEQUENCE_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"weight": 0.7, "target": 0.3}},
            limits=(
                Limit("gspo.gspo", {"weight": 0.0}, NO_CLIP),
                REINFORCE_OVER_ANSWERS,
                Limit(
                    "r2vpo.r2vpo", {"weight": 0.7, "target": 0.3}, {"weight": 0.7, "target": 0.3}, where=of_one_token
                ),
            ),
        ),
        Estimator(
            f=dual_step,
            interface=SAMPLES,
            settings={"default": {"weight": 0.5}, "probe": {"weight": 2.5, "target": 0.3, "lr": 0.7}},
            brute_force=_dual_step_by_loops,
        ),
        Estimator(
            f=tabular_optimum,
            inputs=cases.TABLE,
            example=cases.table,
            edges=cases.EDGES,
            settings={"default": {}, "some at 0": {"delta": 1.5}, "probe": {"delta": 0.4}},
            brute_force=cases.optimum_by_bisection,
        ),
    ),
)
