r"""VESPO: the importance weight of the whole answer, shaped by a gamma kernel that fades on both sides.

When the answers of a batch are old, or come from another program, the honest correction is the ratio of the whole
answer, a product of as many factors as it has tokens. It is unbiased, and a few answers hold all of it. Clips of tokens
and means over the answer tame it, but correct for something else. VESPO keeps the product,

.. math::
    :label: vespo-ratio

    W_i = \exp\Big( \sum_t m_{i,t} \big(\log\pi_{i,t} - \log\pi^{old}_{i,t}\big) \Big),

and lets a kernel of it weigh the answer, the shape of a gamma density scaled to 1 on fresh answers:

.. math::
    :label: vespo-kernel

    \varphi(W) = W^k\, e^{\lambda (1 - W)}, \qquad (k, \lambda) = \begin{cases} (k_+, \lambda_+) & \hat A_{i,t} \ge 0 \\
    (k_-, \lambda_-) & \text{else.} \end{cases}

The weight is held constant, and the gradient goes through the log-probability, as in REINFORCE. With the weights w of
:mod:`trref.tokens.grpo`, by default the mean over all tokens,

.. math::
    :label: vespo-objective

    J = \sum_{i,t} w_{i,t}\; \mathrm{sg}[\varphi(W_i)]\, \hat A_{i,t} \log\pi_{i,t}

.. math::
    :label: vespo-gradient

    \frac{\partial J}{\partial \log\pi_{i,t}} = w_{i,t}\, \varphi(W_i)\, \hat A_{i,t} .

Only the gradient has a meaning. It is that of :math:`f(W_i) \hat A_i` with :math:`f(W) = \int_0^W \varphi(u)\, du / u`,
an incomplete gamma function. The kernel rises like a power, is largest at :math:`W = k/\lambda`, where it is
:math:`(k/\lambda)^k e^{\lambda - k}`, and falls exponentially. With the default constants good answers count most at
W = 2/3, 1.21 times a fresh one, and bad ones at W = 3/2, 1.24 times: an answer that has already become likely is
pushed up less, and one that has already become unlikely is pushed down less. An answer twice as likely as before has
the weight 0.20 if it is good and 1.08 if it is bad.

With :math:`k = \lambda = 0` all weights are 1, REINFORCE; with :math:`k = 1, \lambda = 0` it is plain importance
sampling by the answer. The old policy is the one that sampled: where that was another program than the trainer, its
log-probabilities belong here. Nothing divides by the length, so that long answers leave the region of full weight
sooner. The logarithm of W is held at 20 or less, so that nothing overflows; with the default constants the weight there
is 0. An answer without tokens has W = 1 and gives nothing, and an advantage of 0 gives nothing.

=============================  ========================
:math:`k_+,\ k_-`              `k_pos`, `k_neg`
:math:`\lambda_+,\ \lambda_-`  `lambda_pos`, `lambda_neg`
:math:`\varphi(W)`             `weight`
=============================  ========================

**Where implementations differ.** The authors' code takes the sign of the advantage at an answer's first position for
the whole answer, which matters where tokens have advantages of their own; TRL takes each token's. Both clamp each
token's log-ratio to ±20 before they add them up, so that large ones of both signs no longer cancel, and rates to
:math:`10^{-4}` or more.

**Provenance.** Confirmed: by the code of the authors (FloyedShen/VESPO, February 2026) and of TRL 1.16.0, which agree
in kernel, constants and the bound of 20. Below -20 and -18 they bound the logarithm, too, where with the default
constants the weight is 0 to fourteen digits. Both average over all tokens; TRL's documentation writes the sum over an
answer. The paper's derivation of the kernel and its bound of the variance were not read; where the kernel is largest,
and how large, is derived and checked.

Shen et al., *VESPO: Variational Sequence-Level Soft Policy Optimization for Stable Off-Policy LLM Training*, 2026,
arXiv:2602.10693.
"""

from typing import Annotated, Literal

from trref.backend import xp
from trref.signature import (
    B,
    LogProb,
    Mask,
    NonNegative,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import per_token, token_weights

Shape = Annotated[float, "[0, 4]"]
Rate = Annotated[float, "[0, 50]"]


@checked
def gamma_weight(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    k_pos: Shape = 2.0,
    lambda_pos: Rate = 3.0,
    k_neg: Shape = 3.0,
    lambda_neg: Rate = 2.0,
) -> NonNegative[B, T]:
    """Weight of each token: that of its answer, by the sign of the token's advantage; 0 where the mask is 0.

    Parameters
    ----------
    k_pos, k_neg
        Power of the kernel, where the advantage is not negative and where it is.
    lambda_pos, lambda_neg
        Rate at which the kernel falls, likewise.
    """
    # eq. vespo-ratio
    log_W = (mask * (log_prob - old_log_prob)).sum(1, keepdims=True)
    log_W = xp.minimum(log_W, 20.0)
    # eq. vespo-kernel
    good = k_pos * log_W + lambda_pos * (1 - xp.exp(log_W))
    bad = k_neg * log_W + lambda_neg * (1 - xp.exp(log_W))
    return mask * xp.exp(xp.where(per_token(advantage) >= 0, good, bad))


@checked
def vespo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    k_pos: Shape = 2.0,
    lambda_pos: Rate = 3.0,
    k_neg: Shape = 3.0,
    lambda_neg: Rate = 2.0,
    aggregation: Literal["token_mean", "seq_mean", "constant"] = "token_mean",
    max_length: PositiveFloat = 1.0,
    weight: NonNegative[B, T] | None = None,
) -> tuple[Scalar, Real[B, T]]:
    """VESPO loss.

    Parameters
    ----------
    weight
        Of each token, held constant; that of `gamma_weight` if not given.

    Returns
    -------
    loss
        Its gradient matters, not its value.
    gradient
    """
    if weight is None:
        shapes = {"k_pos": k_pos, "k_neg": k_neg}
        rates = {"lambda_pos": lambda_pos, "lambda_neg": lambda_neg}
        weight = gamma_weight.unchecked(
            log_prob, old_log_prob, advantage, mask, **shapes, **rates
        )
    w = token_weights(mask, aggregation, max_length=max_length)
    dJ = w * weight * per_token(advantage)  # eq. vespo-gradient
    J = xp.vdot(dJ, log_prob)  # eq. vespo-objective
    return -J, -dJ
