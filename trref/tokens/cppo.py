r"""CPPO: a trust region that is tighter early in an answer, and tightens once the prefix has drifted.

What differs from GRPO: no clip of the ratio, but a mask on tokens that are being pushed away from the sampling policy
where a divergence :math:`D_t` of the two policies before the token is too large (as DPPO). A change early in an answer
shifts everything that follows; so the divergence counts with a weight that falls along the answer's T tokens, and the
allowance on :math:`D_t` widens from :math:`\delta` to :math:`\delta / w_{min}`. Small shifts add up along the prefix; a
running account of them lowers the threshold :math:`c_t` once their weighted mean exceeds a budget. Weights, budgets and
thresholds are those of :mod:`trref.tokens.cppo_budget`; the mask is

.. math::
    :label: cppo-mask

    M_t = \mathbb 1\big[ \hat A_t (\rho_t - 1) \le 0 \ \text{ or } \ w_t D_t \le c_t \big]

.. math::
    :label: cppo-objective

    J = \sum_{i,t} \frac{m_{i,t}}{\sum_j |y_j|}\, M_{i,t}\, \rho_{i,t} \hat A_{i,t}, \qquad
    \frac{\partial J}{\partial \log\pi_{i,t}} = \frac{m_{i,t}}{\sum_j |y_j|}\, M_{i,t}\, \rho_{i,t} \hat A_{i,t}

with M held constant; value and mask jump where a token crosses its threshold. The divergence is the exact total
variation, that of the K likeliest tokens (:mod:`trref.tokens.reduced_divergences`), or the binary one:

.. math::
    :label: cppo-binary

    D_t = |\pi_t - \mu_t|

of the sampled token. With :math:`w_{min} = 1` and :math:`\delta_b \to \infty` this is DPPO, and so it is for answers of
one token; with :math:`\delta_b = 0` the threshold can only fall.

**Where implementations differ.** UniRL ships the binary divergence, always with the budget of each answer, and clamps
log-ratios to ±20; its description says that the allowance shrinks along the answer, its code and the paper let it grow.
Masked tokens still move, through the parameters that they share with others: the constraint is not enforced.

**Provenance.** Confirmed: by the paper's text and UniRL's code (Tencent-Hunyuan/UniRL, unirl/algorithms/cppo.py).

Mao et al., *Beyond Uniform Token-Level Trust Region in LLM Reinforcement Learning*, 2026, arXiv:2606.10968.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.places import REINFORCE_OVER_TOKENS, measured_by_the_token, of_one_token, of_three_tokens
from trref.tokens.cppo_budget import check_budget, position_weight, prefix_threshold, spent_and_threshold
from trref.tokens.deviations import cppo as deviations
from trref.tokens.interfaces import TOKEN_OBJECTIVE, token_objective
from trref.tokens.terms import token_weights

__all__ = ["cppo", "cppo_binary", "cppo_mask"]

WITH_DIVERGENCE = token_objective("divergence")


def _keep(log_prob, old_log_prob, advantage, mask, divergence, delta, delta_b, w_min, budget):
    A, moved = advantage[:, None] if advantage.ndim == 1 else advantage, log_prob - old_log_prob
    Z, c = spent_and_threshold(mask, divergence, delta, delta_b, w_min, budget)
    pushed_away = ((A > 0) & (moved > 0)) | ((A < 0) & (moved < 0))
    return ~pushed_away | (Z <= c)  # eq. cppo-mask


def cppo_mask(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    divergence,
    *,
    delta=0.15,
    delta_b=0.015,
    w_min=0.8,
    budget="fixed",
):
    """Which tokens keep their gradient: those that return to the old policy, and those within their threshold.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, divergence
        As in `cppo`.
    delta, delta_b, w_min, budget
        As in `trref.tokens.cppo_budget.prefix_threshold`.

    Returns
    -------
    array (B, T), 0 or 1

    Raises
    ------
    ValueError
        As `cppo`.
    """
    validate.inputs(WITH_DIVERGENCE.inputs, log_prob, old_log_prob, advantage, mask, divergence)
    check_budget(delta, delta_b, w_min, budget)
    return mask * _keep(log_prob, old_log_prob, advantage, mask, divergence, delta, delta_b, w_min, budget)


def _masked_surrogate(log_prob, old_log_prob, advantage, mask, keep):
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    term, w = keep * (xp.exp(log_prob - old_log_prob) * A), token_weights(mask, "token_mean")
    J, dJ = (w * term).sum(), w * term  # eq. cppo-objective
    return -J, -dJ


def cppo(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    divergence,
    *,
    delta=0.15,
    delta_b=0.015,
    w_min=0.8,
    budget="fixed",
):
    """CPPO loss with a divergence of the whole distribution: the mean over all tokens.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`; the paper's is without the division by the deviation.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    divergence : array (B, T)
        Of the current policy from the sampling one, before each token; held constant.
    delta, delta_b, w_min, budget
        As in `trref.tokens.cppo_budget.prefix_threshold`.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, negative divergences,
        numbers out of range, an unknown budget.
    """
    validate.inputs(WITH_DIVERGENCE.inputs, log_prob, old_log_prob, advantage, mask, divergence)
    check_budget(delta, delta_b, w_min, budget)
    keep = _keep(log_prob, old_log_prob, advantage, mask, divergence, delta, delta_b, w_min, budget)
    return _masked_surrogate(log_prob, old_log_prob, advantage, mask, keep)


def cppo_binary(log_prob, old_log_prob, advantage, mask, *, delta=0.15, delta_b=0.015, w_min=0.8, budget="fixed"):
    """CPPO loss with the binary divergence of the sampled tokens.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, delta, delta_b, w_min, budget
        As in `cppo`.

    Returns
    -------
    loss : scalar array
    gradient : array (B, T)

    Raises
    ------
    ValueError
        As `cppo`.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    check_budget(delta, delta_b, w_min, budget)
    divergence = abs(xp.exp(log_prob) - xp.exp(old_log_prob))  # eq. cppo-binary
    keep = _keep(log_prob, old_log_prob, advantage, mask, divergence, delta, delta_b, w_min, budget)
    return _masked_surrogate(log_prob, old_log_prob, advantage, mask, keep)


def _mask_by_loop(log_prob, old_log_prob, advantage, mask, divergence, *, w_min=0.8, **hyper):
    c = prefix_threshold(mask, divergence, w_min=w_min, **hyper)
    w, A = position_weight(mask, w_min=w_min), advantage.reshape(len(mask), -1) + 0 * mask
    keep = xp.zeros_like(mask)
    for b, t in xp.ndindex(*mask.shape):
        returns = A[b, t] * (xp.exp(log_prob[b, t] - old_log_prob[b, t]) - 1) <= 0
        keep[b, t] = mask[b, t] and (returns or w[b, t] * divergence[b, t] <= c[b, t])
    return keep


def _on_policy():
    return {**WITH_DIVERGENCE.edges["on-policy"](), "divergence": xp.zeros((4, 3))}


PROBE = {"delta": 0.07, "delta_b": 0.03, "w_min": 0.45, "budget": "dynamic"}
SETTINGS = {
    "default": {},
    "dynamic budget": {"delta_b": 0.02, "budget": "dynamic"},
    "Kullback-Leibler": {"delta": 0.1, "delta_b": 0.002},
    "probe": PROBE,
}
EDGES = {**WITH_DIVERGENCE.edges, "on-policy": _on_policy}  # elsewhere a ratio of 1 is a jump
EVERYTHING, NO_CLIP = {"delta": 1e15}, {"clip_low": 1e14, "clip_high": 1e14}
ONE_THRESHOLD = {"delta_b": 1e9, "w_min": 1.0}
METHOD = Method(
    key="mao2026cppo",
    provenance="confirmed",
    functions=(
        Estimator(f=cppo_mask, interface=WITH_DIVERGENCE, settings=SETTINGS, brute_force=_mask_by_loop),
        Objective(
            f=cppo,
            interface=WITH_DIVERGENCE,
            edges=EDGES,
            wrt="log_prob",
            settings={"default": {}, "probe": PROBE},
            limits=(
                Limit("dapo.dapo_over_batch", EVERYTHING, NO_CLIP),
                Limit("cppo.cppo_binary", {}, where=measured_by_the_token),
                Limit("drpo.dppo_measured", ONE_THRESHOLD, {"max_length": 3, "bound": 1e14}, where=of_three_tokens),
                Limit("drpo.dppo_measured", {}, {"max_length": 1, "bound": 1e14}, where=of_one_token),
                REINFORCE_OVER_TOKENS,
            ),
            deviations=(deviations.TIGHTER_LATER, deviations.KEPT_TOKENS_ONLY),
        ),
        Objective(
            f=cppo_binary,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": PROBE},
            limits=(
                Limit("dapo.dapo_over_batch", EVERYTHING, NO_CLIP),
                Limit("drpo.dppo", ONE_THRESHOLD, {"max_length": 3, "bound": 1e14}, where=of_three_tokens),
                Limit("drpo.dppo", {}, {"max_length": 1, "bound": 1e14}, where=of_one_token),
                REINFORCE_OVER_TOKENS,
            ),
            deviations=(deviations.ALWAYS_DYNAMIC,),
        ),
    ),
)
