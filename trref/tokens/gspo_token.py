r"""GSPO-token: the answer's ratio, and for each token its own advantage.

GSPO gives all tokens of an answer one ratio. If advantages differ within an answer (process rewards, calls of tools),
one wants the answer's ratio and the clip's decision for each token by its own advantage. A stop-gradient makes it: the
number is the answer's ratio :math:`s_i` of :mod:`trref.tokens.gspo`, the derivative flows through the token's own
log-probability alone:

.. math::
    :label: gspo-token-ratio

    s_{i,t} = \mathrm{sg}[s_i]\, \frac{\pi_{i,t}}{\mathrm{sg}[\pi_{i,t}]}

.. math::
    :label: gspo-token-objective

    J = \frac1B \sum_i \frac{1}{|y_i|} \sum_t m_{i,t} \min\big\{ s_{i,t} \hat A_{i,t},\;
    \mathrm{clip}(s_{i,t}, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_{i,t} \big\}

.. math::
    :label: gspo-token-gradient

    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}{B\,|y_i|}\, s_i \hat A_{i,t}\;
    \mathbb 1\big[s_i \hat A_{i,t} \le \mathrm{clip}(s_i, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_{i,t}\big]

Where each answer has one advantage it is GSPO, value and gradient; else the value is GSPO's and the gradient is not:
GSPO spreads the mean over the answer. The field above is the gradient of no function of :math:`\log\pi` at all,
because with positions t and u of one answer

.. math::

    \frac{\partial c_t}{\partial\log\pi_u} - \frac{\partial c_u}{\partial\log\pi_t}
    = \frac{s_i\,(\hat A_{i,t} - \hat A_{i,u})}{B\,|y_i|^2}

for its coefficients c. The clip acts on tokens of one sign at a time: above :math:`1+\epsilon_h` the bad ones move and
lower :math:`s_i`, below :math:`1-\epsilon_l` the good ones. An answer without tokens contributes nothing, though it
counts in B.

===============================  ============================
:math:`\epsilon_l,\ \epsilon_h`  `clip_low`, `clip_high`
sg[log s], sg[log π]             `log_ratio`, `held_log_prob`
===============================  ============================

**Where implementations differ.** verl's loss named ``gspo`` is this one; it clamps the answer's log-ratio at 10, and
its default is the mean over all tokens. TRL's main trainer lets the gradient through the ratio, so that each token gets
the mean of its answer.

**Provenance.** Confirmed: by the code of verl and of TRL's former trainer of this name; equality with GSPO for one
advantage an answer is stated by the paper, as quoted there. The gradient and the curl are derived and checked.

Zheng et al., *Group Sequence Policy Optimization*, 2025, arXiv:2507.18071.
"""

from trref.backend import xp
from trref.signature import (
    B,
    LogProb,
    Mask,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.gspo import mean_log_ratio
from trref.tokens.terms import clip_surrogate, seq_mean


@checked
def gspo_token(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    clip_low: PositiveFloat = 3e-4,
    clip_high: PositiveFloat = 4e-4,
    log_ratio: Real[B] | None = None,
    held_log_prob: LogProb[B, T] | None = None,
) -> tuple[Scalar, Real[B, T]]:
    """GSPO-token loss.

    Parameters
    ----------
    log_ratio
        Of each answer, held constant; that of `trref.tokens.gspo.mean_log_ratio` if not given.
    held_log_prob
        The log-probabilities themselves, held constant.
    """
    if log_ratio is None:
        log_ratio = mean_log_ratio.unchecked(log_prob, old_log_prob, mask)
    held = log_prob if held_log_prob is None else held_log_prob
    log_s = log_ratio[:, None] + (log_prob - held)  # eq. gspo-token-ratio
    term, derivative = clip_surrogate(
        log_s, xp.zeros_like(log_s), advantage, clip_low, clip_high
    )
    w = seq_mean(mask)
    J = (w * term).sum()  # eq. gspo-token-objective
    return -J, -w * derivative  # eq. gspo-token-gradient
