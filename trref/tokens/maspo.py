r"""MASPO: a soft gate in the place of the clip, as wide as the token is rare and the signal is sure.

What differs from GRPO: nothing is clipped. A token that has moved the way its advantage says is weighted by the gate F
of :mod:`trref.tokens.maspo_gate`, which falls from 1 to 0 as the ratio leaves 1 and never quite vanishes; a token that
returns to the old policy keeps its weight of 1. All tokens count alike:

.. math::
    :label: maspo-objective

    J = \sum_{i,t} \frac{m_{i,t}}{\sum_j |y_j|}\, \rho_{i,t}\, \mathrm{sg}[F_{i,t}]\, \hat A_i

.. math::
    :label: maspo-gradient

    \frac{\partial J}{\partial \log\pi_{i,t}} = \frac{m_{i,t}}{\sum_j |y_j|}\, \rho_{i,t} F_{i,t} \hat A_i

The gate is held constant: a token is always pushed the way its advantage says, only less and less. With the derivative
of the gate the coefficient is, on the gated side and for the width s,

.. math::
    :label: maspo-differentiated

    \frac{m_{i,t}}{\sum_j |y_j|}\, \rho_{i,t} F_{i,t} \hat A_i
    \Big( 1 - \frac{\rho_{i,t} (\rho_{i,t} - 1)}{s_{i,t}^2} \Big)

which for a good token turns round at :math:`\rho = \frac12 (1 + \sqrt{1 + 4 s^2})` and pulls it back beyond. For a bad
token, :math:`\rho < 1`, the last factor is above 1: it is pushed down *harder* than by the gate alone.

With :math:`\sigma \to \infty` this is importance weighting without any clip. With :math:`\sigma \to 0` only tokens that
return to the old policy are left, which is the gradient of a clip at 0. On-policy it is GRPO's gradient over all
tokens.

**Where implementations differ.** The text speaks of a differentiable gate, the released code detaches it, and so does
:func:`maspo`; :func:`maspo_differentiated` has the other one. The code clamps log-ratios to ±20. In the released
snapshot this loss is reached only through one deprecated function.

**Provenance.** Confirmed: by the authors' README and code (VenomRose-Juri/MASPO-RL, verl/trainer/ppo/core_algos.py).
Derived here and checked: the coefficient with the gate differentiated.

Fu et al., *MASPO: Unifying Gradient Utilization, Probability Mass, and Signal Reliability for Robust and
Sample-Efficient LLM Reasoning*, 2026, arXiv:2602.17550.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Limit, Method, Objective
from trref.tokens._places import REINFORCE_OVER_TOKENS, on_policy
from trref.tokens.deviations import maspo as deviations
from trref.tokens.grpo import token_weights
from trref.tokens.interfaces import TOKEN_OBJECTIVE
from trref.tokens.maspo_gate import gate_rows, gate_width, gaussian_gate

__all__ = ["maspo", "maspo_differentiated"]

WITH_GATE = {**TOKEN_OBJECTIVE.inputs, "gate": Input("B T", "prob", optional=True)}


def maspo(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    sigma=1.0,
    alpha=0.3,
    sigma_high=10.0,
    beta_pos=0.03,
    beta_neg=0.03,
    width_low=0.1,
    width_high=10.0,
    gate=None,
):
    """MASPO loss: the mean over all tokens of ratio times gate times advantage.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        Standardised, as of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    sigma, alpha, sigma_high, beta_pos, beta_neg, width_low, width_high
        As in `trref.tokens.maspo_gate.gaussian_gate`.
    gate : array (B, T), optional
        In [0, 1], held constant; that of `trref.tokens.maspo_gate.gaussian_gate` if not given.

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
    validate.inputs(WITH_GATE, log_prob, old_log_prob, advantage, mask, gate)
    width = gate_width(old_log_prob, advantage, sigma, alpha, sigma_high, beta_pos, beta_neg, width_low, width_high)
    F = gate_rows(log_prob, old_log_prob, advantage, width)[0] if gate is None else gate
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    term, w = xp.exp(log_prob - old_log_prob) * A * F, token_weights(mask, "token_mean")
    J, dJ = (w * term).sum(), w * term  # eq. maspo-objective, maspo-gradient
    return -J, -dJ


def maspo_differentiated(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    sigma=1.0,
    alpha=0.3,
    sigma_high=10.0,
    beta_pos=0.03,
    beta_neg=0.03,
    width_low=0.1,
    width_high=10.0,
):
    """MASPO loss with the gate differentiated, too: the same value as `maspo` with another gradient.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, sigma, alpha, sigma_high, beta_pos, beta_neg, width_low, width_high
        As in `maspo`.

    Returns
    -------
    loss : scalar array
    gradient : array (B, T)

    Raises
    ------
    ValueError
        As `maspo`.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    width = gate_width(old_log_prob, advantage, sigma, alpha, sigma_high, beta_pos, beta_neg, width_low, width_high)
    F, away, moved = gate_rows(log_prob, old_log_prob, advantage, width)
    A, ratio = advantage[:, None] if advantage.ndim == 1 else advantage, xp.exp(log_prob - old_log_prob)
    term, w = ratio * A * F, token_weights(mask, "token_mean")
    J, dJ = (w * term).sum(), w * term * (1 - away * (ratio / width) * (moved / width))  # eq. maspo-differentiated
    return -J, -dJ


def _returning(inputs):
    """every token returns to the old policy"""
    log_prob, old = inputs["log_prob"], inputs["old_log_prob"]
    A = xp.sign(inputs["advantage"]).reshape(len(log_prob), -1)
    return {**inputs, "log_prob": old - A * abs(log_prob - old)}


PROBE = {
    "sigma": 0.6,
    "alpha": 0.7,
    "sigma_high": 2.5,
    "beta_pos": 0.4,
    "beta_neg": 0.7,
    "width_low": 0.35,
    "width_high": 1.6,
}
SETTINGS = {"default": {}, "small models": {"alpha": 0.5}, "narrow": {"sigma": 0.2}, "probe": PROBE}
NO_GATE, NO_CLIP = {"sigma": 1e15, "sigma_high": 1e15}, {"clip_low": 1e14, "clip_high": 1e14}
LIMITS = (
    Limit("dapo.dapo_over_batch", NO_GATE, NO_CLIP),
    Limit("dapo.dapo_over_batch", {}, where=on_policy),
    REINFORCE_OVER_TOKENS,
    Limit("dapo.dapo_over_batch", {}, NO_CLIP, where=_returning),
)
METHOD = Method(
    title="MASPO: Mass-Adaptive Soft Policy Optimization",
    key="fu2026maspo",
    arxiv="2602.17550",
    provenance={"confirmed": ("objective", "gradient"), "reconstructed": ("differentiated",)},
    functions=(
        Objective(
            f=maspo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            stopped={"gate": gaussian_gate},
            settings=SETTINGS,
            limits=LIMITS,
            deviations=(deviations.MASPO_RATIO_CLAMPED, deviations.GATE_DIFFERENTIATED),
        ),
        Objective(
            f=maspo_differentiated,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "narrow": {"sigma": 0.2}, "probe": PROBE},
            limits=(*LIMITS, Limit("maspo.maspo", {}, where=_returning)),
        ),
    ),
)
