r"""GMPO: the geometric mean of token ratios that were clipped one by one.

GRPO averages an answer's ratios arithmetically, so that one outlier rules the answer. GSPO takes the geometric mean and
clips the answer as a whole. GMPO clips the log-ratio of each token on the profitable side,

.. math::
    :label: gmpo-clip

    \bar d_{i,t} = \begin{cases} \min\{d_{i,t}, \epsilon_h\} & \hat A_i > 0 \\
    \max\{d_{i,t}, -\epsilon_l\} & \text{else} \end{cases}, \qquad d_{i,t} = \log\pi_{i,t} - \log\pi^{old}_{i,t}

and takes the mean afterwards, so that one extreme token is cut and the others keep their gradient:

.. math::
    :label: gmpo-objective

    J = \frac1B \sum_i s_i \hat A_i, \qquad s_i = \exp\Big( \frac1{|y_i|} \sum_t m_{i,t}\, \bar d_{i,t} \Big)

.. math::
    :label: gmpo-gradient

    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}{B\,|y_i|}\, s_i \hat A_i\;
    \mathbb 1\big[ \bar d_{i,t} = d_{i,t} \big]

All free tokens of an answer share one coefficient; the cut ones have none, though they sit in :math:`s_i`. The bounds
are for *logarithms* of ratios, and wide: 0.4 is a ratio between 0.67 and 1.49. For a positive advantage
:math:`s_i \le e^{\epsilon_h}`, for a negative one :math:`s_i \ge e^{-\epsilon_l}`; on the other side nothing is cut,
but a token of log-ratio D moves :math:`\log s_i` by :math:`D/|y_i|` only. The geometric mean is at most the arithmetic
one. For answers of one token this is a clip of the ratio to :math:`[e^{-\epsilon_l}, e^{\epsilon_h}]`, for infinite
bounds GSPO without its clip. An answer without tokens contributes nothing, though it counts in B; so does one with an
advantage of 0.

===============================  =======================
:math:`\epsilon_l,\ \epsilon_h`  `clip_low`, `clip_high`
===============================  =======================

**Where implementations differ.** verl reads PPO's fields as bounds of logarithms, left at 0.2 half of the paper's
range, and divides by the length plus 1e-8. Bounds of ratios in the place of logarithms are easily mistaken for these.
The paper's ablations clip the mean instead of the tokens, and leave out the root, which makes the ratio a product.

**Provenance.** Confirmed: by the code of verl and of TRL, both after the authors'. The gradient and the bounds are
derived and checked.

Zhao et al., *Geometric-Mean Policy Optimization*, 2025, arXiv:2507.20673.
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
from trref.tokens.terms import seq_mean


@checked
def gmpo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B],
    mask: Mask[B, T],
    *,
    clip_low: PositiveFloat = 0.4,
    clip_high: PositiveFloat = 0.4,
) -> tuple[Scalar, Real[B, T]]:
    """GMPO loss.

    Parameters
    ----------
    clip_low
        A log-ratio earns down to -clip_low.
    clip_high
        A log-ratio earns up to clip_high.

    Returns
    -------
    loss
    gradient
        At a bound, the derivative of the free log-ratio.
    """
    d, A = log_prob - old_log_prob, advantage[:, None]
    # eq. gmpo-clip
    cut = xp.where(A > 0, xp.minimum(d, clip_high), xp.maximum(d, -clip_low))

    # eq. gmpo-objective
    length = xp.maximum(mask.sum(1, keepdims=True), 1)
    s = xp.exp((mask * cut).sum(1, keepdims=True) / length)
    w = seq_mean(mask)
    J = (w * (s * A)).sum()

    return -J, -w * (s * A) * (cut == d)  # eq. gmpo-gradient
