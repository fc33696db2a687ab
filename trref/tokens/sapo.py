r"""SAPO: a smooth gate in the place of the clip, which fades out sooner for bad tokens than for good ones.

PPO's clip switches a token off. SAPO lets its gradient fade as the ratio moves away from 1, sooner where the advantage
is negative, because pushing one token down pushes all others up. The gate is a sigmoid of the ratio with slope 1
on-policy,

.. math::
    :label: sapo-gate

    f_\tau(\rho) = \frac4\tau\, \sigma\big(\tau(\rho - 1)\big), \qquad
    \tau_{i,t} = \begin{cases} \tau_+ & \hat A_{i,t} > 0 \\ \tau_- & \text{else} \end{cases}, \qquad
    \rho_{i,t} = \exp(\log\pi_{i,t} - \log\pi^{old}_{i,t})

.. math::
    :label: sapo-objective

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|}\, f_\tau(\rho_{i,t})\, \hat A_{i,t}

.. math::
    :label: sapo-gradient

    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}{B\,|y_i|}\, \rho\, g_\tau(\rho)\, \hat A_{i,t}, \qquad
    g_\tau(\rho) = 4\sigma(1 - \sigma) = \mathrm{sech}^2\Big(\frac\tau2 (\rho - 1)\Big)

Per unit of the *ratio* the weight g is largest on-policy, and that is how the gate is usually described. Per unit of
the log-probability, which is what is trained, it is :math:`\rho\, g_\tau(\rho)`, largest where
:math:`\rho\tau \tanh\big(\tfrac\tau2(\rho-1)\big) = 1`: at the published :math:`\tau_+ = 1` that is 1.57 at a ratio of
2.06, and more than 1 up to 3.47. So a growing token is first amplified, and a coefficient is at most 1.58 times that on
fresh data, for either sign, which a clip does not give. Near 1 the gate is the ratio up to third order. The value holds
a term :math:`2\hat A/\tau`, which is no constant if the temperatures differ: only differences mean anything.

An answer without tokens contributes nothing, though it counts in B.

===========================  ====================
:math:`\tau_+,\ \tau_-`      `tau_pos`, `tau_neg`
===========================  ====================

**Where implementations differ.** AReaL averages over all tokens, TRL and verl over answers, as here. In TRL the same
gate can be had on the answer's ratio. A gate without :math:`4/\tau` stands in a public description; its slope
on-policy is :math:`\tau/4`.

**Provenance.** Confirmed: by the code of verl, TRL and AReaL, with the temperatures 1.0 and 1.05; of the paper the
abstract was read. Where the coefficient is largest, and how large, is derived and checked.

Gao et al., *Soft Adaptive Policy Optimization*, 2025, arXiv:2511.20347.
"""

from trref.backend import special, xp
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
from trref.tokens.terms import per_token, seq_mean


@checked
def sapo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    tau_pos: PositiveFloat = 1.0,
    tau_neg: PositiveFloat = 1.05,
) -> tuple[Scalar, Real[B, T]]:
    """SAPO loss.

    Parameters
    ----------
    tau_pos, tau_neg
        Temperatures of the gate for positive and for other advantages: the larger, the narrower.
    """
    A, ratio = per_token(advantage), xp.exp(log_prob - old_log_prob)
    # eq. sapo-gate
    tau = xp.where(A > 0, tau_pos, tau_neg).astype(A.dtype)
    x = tau * (ratio - 1)
    gate = 4 / tau * special.expit(x)

    w = seq_mean(mask)
    J = (w * (gate * A)).sum()  # eq. sapo-objective
    # eq. sapo-gradient
    slope = 4 * special.expit(x) * special.expit(-x)
    return -J, -w * (ratio * slope * A)
