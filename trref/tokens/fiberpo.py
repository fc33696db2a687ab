r"""Fibration policy optimisation (FiberPO): gate the drift of the answer, clip the tokens around it.

A token clip does not see that a whole answer drifts; a sequence clip does not see which tokens do. FiberPO splits the
log-ratio of every token into the answer's mean drift and the deviation from it, gates the first, clips the second, and
multiplies the two. With :math:`x_t = \log\pi_t - \log\pi^{old}_t` of an answer of T tokens, drift has two channels,

.. math::
    :label: fiberpo-channels

    \log s^+ = \frac1T \sum_t \max(x_t, 0), \qquad \log s^- = \frac1T \sum_t \max(-x_t, 0)

both divided by T. A channel has a budget C: it first passes, then rolls back, then is switched off,

.. math::
    :label: fiberpo-gate

    g(x, C, T) = \begin{cases} x & |x| \le C \\ \mathrm{sign}(x)(T + 1) C - T x & C < |x| < (1 + \tfrac1T) C \\
    0 & \text{beyond} \end{cases}

continuously, with slopes 1, -T, 0. The base and, with :math:`l_t = 1` where :math:`x_t \ge 0` and -1 elsewhere, the
residual of each token are

.. math::
    :label: fiberpo-base

    b = g(\log s^+, C^+, T) - g(\log s^-, C^-, T)

.. math::
    :label: fiberpo-residual

    e_t = \mathrm{clip}(x_t - l_t \log s^{(l_t)}, \pm\epsilon) - \mathrm{clip}(-l_t \log s^{(-l_t)}, \pm\epsilon)

.. math::
    :label: fiberpo-objective

    J = \frac1B \sum_i \frac1{|y_i|} \sum_t m_{i,t}\, G_{i,t} \hat A_{i,t}, \qquad \log G_{i,t} = b_i + e_{i,t}

Nothing saturated, :math:`\log G_t = x_t` exactly: near the old policy this is the ordinary importance ratio. There is
no minimum as in GRPO. With :math:`I_i = [\,|x_i - l_i \log s^{(l_i)}| < \epsilon]`,
:math:`\tilde I_i = [\log s^{(-l_i)} < \epsilon]` and :math:`g'_\pm` the slopes of the two gates,

.. math::
    :label: fiberpo-jacobian

    \frac{\partial \log G_i}{\partial x_j} = \frac{g'_{l_j}}{T} + I_i \Big( \delta_{ij} - \frac{[l_i = l_j]}T \Big)
    - \tilde I_i \frac{[l_i \ne l_j]}T

within an answer, and 0 between answers. The sums over i cost O(T). How many answers of a batch pass, roll back and are
switched off, channel by channel, is

.. math::
    :label: fiberpo-regimes

    \big[\log s \le C\big], \qquad \big[C < \log s < (1 + \tfrac1T) C\big], \qquad \big[(1 + \tfrac1T) C \le \log s\big]

:math:`C^- < C^+` is recommended, as :math:`\log s^- - \log s^+` estimates a divergence, so that the lower channel
drifts faster; and :math:`\epsilon \ll C^+ + C^-`. The rollback zone has width C/T: for long answers a step can jump
over it.

==================  =================================================
:math:`C^+,\; C^-`  `budget_up`, `budget_down`
:math:`\epsilon`    `residual_clip`
:math:`T`           `length`, that of the answer and not of the batch
==================  =================================================

At :math:`x_t = 0` the label is 1. An answer without tokens contributes nothing, though it counts in B.

**Where implementations differ.** A label of 0 at :math:`x_t = 0` would lose gradients on fresh samples. The
reproduction alphadl/FibrationPO clips the mean log-ratio (no channels, no rollback) and takes the residual from the
clipped mean.

**Provenance.** Confirmed: definitions and Jacobian by the full text (version 1). The paper has no training run; its
thresholds are those of figures, the defaults here are of the order of one inner loop's mean :math:`|x|`.

Li, Tsu, Zhang, Xue and He, *Fibration Policy Optimization*, 2026, arXiv:2603.08239.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    B,
    C,
    Lead,
    LogProb,
    Mask,
    NonNegative,
    Positive,
    PositiveFloat,
    Prob,
    R,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import per_token, seq_mean


class Channels(NamedTuple):
    """Drift of each answer upwards and downwards, and its length: 1 where it has no tokens."""

    up: NonNegative[B]
    down: NonNegative[B]
    length: Positive[B]


class Residual(NamedTuple):
    """Residual of each token, and where its two parts are not clipped, 0 or 1."""

    value: Real[B, T]
    own: Mask[B, T]
    other: Mask[B, T]


@checked
def sign_channels(log_ratio: Real[B, T], mask: Mask[B, T]) -> Channels:
    """Split the drift of each answer.

    Parameters
    ----------
    log_ratio
        Of the tokens: 0 where the mask is 0.
    """
    length = xp.maximum(mask.sum(1), 1)
    # eq. fiberpo-channels
    up, down = (xp.maximum(x, 0).sum(1) / length for x in (log_ratio, -log_ratio))
    return Channels(up, down, length)


@checked
def aggregate_gate(
    drift: Real[Lead], budget: PositiveFloat, length: Positive[Lead]
) -> tuple[Real[Lead], Real[Lead]]:
    """Gate a drift.

    Parameters
    ----------
    drift
        Of answers, or of what they add to a larger drift.
    budget
        C, in nats.
    length
        How many tokens the drift is a mean of.

    Returns
    -------
    value
    slope
    """
    # eq. fiberpo-gate
    size = abs(drift)
    passes, rolls = size <= budget, (budget < size) & (size < (1 + 1 / length) * budget)
    rolled = xp.sign(drift) * (length + 1) * budget - length * drift
    value = xp.where(passes, drift, xp.where(rolls, rolled, 0))
    return value, xp.where(passes, 1, xp.where(rolls, -length, 0))


@checked
def fiber_residual(
    log_ratio: Real[B, T],
    up: NonNegative[B],
    down: NonNegative[B],
    residual_clip: PositiveFloat,
) -> Residual:
    """What each token adds to the drift of its answer.

    Parameters
    ----------
    up
        The drift upwards, of `sign_channels`.
    down
        The drift downwards.
    residual_clip
        By how much a token's log-ratio may deviate from the drift.
    """
    # eq. fiberpo-residual
    rises, up, down = log_ratio >= 0, up[:, None], down[:, None]
    own = xp.where(rises, log_ratio - up, log_ratio + down)
    other = xp.where(rises, -down, up)
    low, high = -residual_clip, residual_clip
    value = xp.clip(own, low, high) - xp.clip(other, low, high)
    free = [(abs(x) < residual_clip).astype(log_ratio.dtype) for x in (own, other)]
    return Residual(value, *free)


@checked
def residual_pullback(
    cotangent: Real[B, T],
    log_ratio: Real[B, T],
    length: Positive[B],
    own: Mask[B, T],
    other: Mask[B, T],
) -> Real[B, T]:
    """Take cotangents of the residuals to the log-ratios.

    Parameters
    ----------
    cotangent
        Of the residuals.
    own, other
        Of the `Residual`.
    """
    rises = (log_ratio >= 0).astype(log_ratio.dtype)

    def of_each_label(values):
        """Sums over the tokens of a token's own label, and over those of the other."""
        plus = (values * rises).sum(1, keepdims=True)
        minus = (values * (1 - rises)).sum(1, keepdims=True)
        return xp.where(rises > 0, plus, minus), xp.where(rises > 0, minus, plus)

    same, _ = of_each_label(cotangent * own)
    _, opposite = of_each_label(cotangent * other)
    return cotangent * own - (same + opposite) / length[:, None]


@checked
def fiberpo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    budget_up: PositiveFloat = 0.3,
    budget_down: PositiveFloat = 0.25,
    residual_clip: PositiveFloat = 0.2,
) -> tuple[Scalar, Real[B, T]]:
    """FiberPO loss.

    Parameters
    ----------
    budget_up
        C of an answer's drift upwards, in nats.
    budget_down
        C of an answer's drift downwards, in nats.

    Returns
    -------
    loss
    gradient
        At a log-ratio of 0, the derivative to the right.
    """
    x = mask * (log_prob - old_log_prob)
    up, down, length = sign_channels.unchecked(x, mask)
    base_up, slope_up = aggregate_gate.unchecked(up, budget_up, length)
    base_down, slope_down = aggregate_gate.unchecked(down, budget_down, length)
    base = base_up - base_down  # eq. fiberpo-base
    residual = fiber_residual.unchecked(x, up, down, residual_clip)
    log_G = base[:, None] + residual.value
    terms = seq_mean(mask) * xp.exp(log_G) * per_token(advantage)
    J = terms.sum()  # eq. fiberpo-objective

    # eq. fiberpo-jacobian
    slope = xp.where(x >= 0, slope_up[:, None], slope_down[:, None])
    through_base = slope / length[:, None] * terms.sum(1, keepdims=True)
    through_residual = residual_pullback.unchecked(
        terms, x, length, residual.own, residual.other
    )
    dJ = mask * (through_base + through_residual)
    return -J, -dJ


@checked
def gate_regimes(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    budget_up: PositiveFloat = 0.3,
    budget_down: PositiveFloat = 0.25,
) -> Prob[C, R]:
    """Which shares of the answers pass, roll back and are switched off, by channel.

    Returns
    -------
    shares
        A row of 3 for each of the 2 channels, first that upwards.
    """
    x = mask * (log_prob - old_log_prob)
    up, down, length = sign_channels.unchecked(x, mask)
    shares = []
    for drift, budget in ((up, budget_up), (down, budget_down)):
        passes, off = drift <= budget, drift >= (1 + 1 / length) * budget
        shares += [passes, ~passes & ~off, off]  # eq. fiberpo-regimes
    return xp.stack(shares).astype(log_prob.dtype).mean(1).reshape(2, 3)
