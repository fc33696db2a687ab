r"""BPO: regression of the ratio on the exact solution of a problem with bounded ratios.

Maximising the surrogate with every ratio :math:`\rho = \pi/\pi_0` held within :math:`1 \pm \epsilon` has a bang-bang
solution: actions whose Q is above its *median* under :math:`\pi_0` gain, those below lose,

.. math::
    :label: bpo-solution

    \rho^* = 1 - \epsilon + 2\epsilon\, w, \qquad
    w_a = \mathrm{clip}\Big( \frac{\frac12 - \pi_0(\text{actions with a higher Q})}{\pi_0(a)},\, 0,\, 1 \Big)

where the action at the median takes the share that makes :math:`\sum_a \pi_0 w = \frac12`. With any bounds
:math:`c_l \le 1 \le c_h` the mass that gains is :math:`(1 - c_l)/(c_h - c_l)`, and

.. math::
    :label: bpo-asymmetric

    \rho^* = c_l + (c_h - c_l)\, w, \qquad
    w_a = \mathrm{clip}\Big( \frac{\frac{1 - c_l}{c_h - c_l} - \pi_0(\text{actions with a higher Q})}{\pi_0(a)},\,
    0,\, 1 \Big);

:math:`c_l = 0` keeps the best :math:`1/c_h` of the mass, the elite of the cross-entropy method. The return improves by
exactly

.. math::
    :label: bpo-improvement

    \eta(\pi^*) = \eta(\pi_0) + \epsilon \sum_s \rho_{\pi^*}(s) \sum_a \pi_0(a|s)\, |Q_{\pi_0}(s, a) - \mu(s)|

with the visits of the new policy and the median :math:`\mu`. From samples, BPO lets the ratio come near to the target
:math:`\rho^*_n`, with the size of the advantage as the weight:

.. math::
    :label: bpo-loss

    l = \frac1N \sum_n |A_n|\, |r_n - \rho^*_n|, \qquad
    \frac{\partial l}{\partial \log\pi_n} = \frac1N |A_n|\, \mathrm{sign}(r_n - \rho^*_n)\, r_n .

While a ratio is inside :math:`1 \pm \epsilon`, the derivative is PPO's if the target has the sign of the advantage.
A regulariser that keeps ratios off the bounds makes the target soft,

.. math::
    :label: bpo-soft

    \rho^* = 1 - \epsilon + 2\epsilon\, \sigma\Big( \frac{Q - \mu}{\lambda} \Big),

which maximises :math:`E_{\pi_0}[\rho A - \lambda H(\rho)]` subject to :math:`E_{\pi_0} \rho = 1`, with

.. math::
    :label: bpo-regulariser

    H(\rho) = (\rho - 1 + \epsilon) \log(\rho - 1 + \epsilon) + (1 + \epsilon - \rho) \log(1 + \epsilon - \rho),

finite on the bounds, where only its slope is not. Its threshold is a soft median,

.. math::
    :label: bpo-median

    E_{\pi_0}\, \sigma\Big( \frac{Q - \mu}{\lambda} \Big) = \frac12,

which between uneven bounds becomes the soft form of the elite,

.. math::
    :label: bpo-soft-asymmetric

    \rho^* = c_l + (c_h - c_l)\, \sigma\Big( \frac{Q - \nu}{\lambda} + \log\frac{1 - c_l}{c_h - 1} \Big), \qquad
    E_{\pi_0}\, \rho^* = 1,

for the regulariser :math:`(\rho - c_l) \log\frac{\rho - c_l}{1 - c_l} + (c_h - \rho) \log\frac{c_h - \rho}{c_h - 1}`,
which is least where nothing changes, at 1. A network u(s) learns the soft median from returns q by

.. math::
    :label: bpo-median-loss

    L = \frac1N \sum_n \lambda\, g\Big( \frac{q_n - u_n}{\lambda} \Big), \qquad g(x) = \log\big(2 \cosh \tfrac x2\big),
    \qquad \frac{\partial L}{\partial u_n} = -\frac1{2 N} \tanh\frac{q_n - u_n}{2 \lambda} .

For groups of answers to one prompt (GBPO), each token's ratio is compared with the target of its answer,

.. math::
    :label: bpo-group

    \rho^*_i = 1 - \epsilon_l + (\epsilon_l + \epsilon_h)\, \sigma(\tilde A_i), \qquad
    A_i = \frac{R_i - \bar R}{s + 10^{-6}}, \qquad \tilde A_i = \frac{R_i - \text{median}}{(s + 10^{-6})\, \tau},

the loss being the mean over all tokens of :math:`|A_i|\, |r_{it} - \rho^*_i|`, whose derivative is

.. math::
    :label: bpo-group-gradient

    \frac{m_{it}}{\sum m}\, |A_i|\, \mathrm{sign}(r_{it} - \rho^*_i)\, r_{it} .

===================================  ==========================
:math:`\rho^*_n`                     `target`
:math:`\epsilon`                     `radius`
:math:`c_l,\ c_h`                    `lowest`, `highest`
:math:`\epsilon_l,\ \epsilon_h`      `clip_low`, `clip_high`
:math:`\lambda,\ \tau`               `temperature`
===================================  ==========================

Actions with equal Q share what falls to them in the order of their numbers. On a kink the derivative is 0. A group of
one has an advantage of its reward over 1 + 10⁻⁶, as in the authors' code, and a target of its sign.

Where exactly half of the mass is above a gap between two Q-values, any
number in the gap is a median.

**Where implementations differ.** The authors' u is trained at a temperature of 1 whatever the target's is (0.001): a
soft median, which a skewed Q moves. GBPO keeps the median where the bounds are uneven, so that the mean of the targets
is not 1; the consistent threshold is the quantile of the asymmetric solution. The page's PPO has no gradient outside
the interval at all; PPO has one where the ratio is on the wrong side.

**Provenance.** The solution, its improvement, the loss, the soft target, the median and its loss, and GBPO were
confirmed in the authors' page, text and code; H was fixed by what the text says of it. The asymmetric solution and the
gradients were derived here; its soft form, with a temperature that is a choice, follows two properties of the
regulariser that the text names. The paper's lower bound has an error term that was not seen, and is left out.

Ao et al., *Bounded Ratio Reinforcement Learning*, 2026, arXiv:2604.18578.
"""

import math
from typing import Annotated

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.policy.terms import bisected
from trref.problems.protocols import DecisionProcess
from trref.signature import (
    A,
    B,
    Decay,
    Fraction,
    Index,
    LogProb,
    Mask,
    N,
    NonNegative,
    OpenFraction,
    PositiveFloat,
    Real,
    S,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import group_mean, token_mean

# of the interval of the threshold: after so many it is as small as its numbers can say
HALVINGS = 60
EPS = 1e-6  # that the authors add to a group's deviation

AtLeastOne = Annotated[float, "(1, inf)"]


def _gaining(p, q_value, mass):
    """The share of each action that gains, where the best of the given mass do."""
    order = xp.argsort(-q_value, axis=-1, kind="stable")
    sorted_p = xp.take_along_axis(p, order, -1)
    above = xp.cumsum(sorted_p, axis=-1) - sorted_p
    # of an action of probability 0 nothing gains
    w = xp.clip(mass - above, 0, sorted_p) / xp.where(sorted_p > 0, sorted_p, 1)
    return xp.take_along_axis(w, xp.argsort(order, axis=-1, kind="stable"), -1)


@checked
def asymmetric_solution(
    logits: Real[S, A],
    q_value: Real[S, A],
    *,
    lowest: Fraction = 0.0,
    highest: AtLeastOne = 2.0,
) -> NonNegative[S, A]:
    """Ratios that maximise the surrogate between two bounds.

    Parameters
    ----------
    logits
        Of the policy that is improved.
    lowest, highest
        Bounds of the ratios.
    """
    mass = (1 - lowest) / (highest - lowest)
    w = _gaining(xp.exp(log_softmax(logits)), q_value, mass)
    return lowest + (highest - lowest) * w  # eq. bpo-asymmetric


@checked
def bounded_ratio_solution(
    logits: Real[S, A], q_value: Real[S, A], *, radius: OpenFraction = 0.3
) -> NonNegative[S, A]:
    """Ratios that maximise the surrogate within 1 ± radius.

    Parameters
    ----------
    logits
        Of the policy that is improved.
    """
    w = _gaining(xp.exp(log_softmax(logits)), q_value, 0.5)
    return 1 - radius + 2 * radius * w  # eq. bpo-solution


@checked
def improvement(
    logits: Real[S, A], mdp: DecisionProcess, *, radius: OpenFraction = 0.3
) -> Scalar:
    """Return of the solution, from the old policy's advantages and the new one's visits."""
    p = xp.exp(log_softmax(logits))
    _, advantage, _, start = mdp(p)
    w = _gaining(p, advantage, 0.5)
    visits = mdp(p * (1 - radius + 2 * radius * w)).visits
    # the action at the median is the last that gains
    best = advantage.max(1, keepdims=True)
    median = xp.where(w > 0, advantage, best).min(1, keepdims=True)
    gain = (p * abs(advantage - median)).sum(1)
    return start + radius * (visits * gain).sum()  # eq. bpo-improvement


@checked
def bpo_loss(
    log_prob: LogProb[N],
    old_log_prob: LogProb[N],
    advantage: Real[N],
    target: NonNegative[N],
) -> tuple[Scalar, Real[N]]:
    """Absolute distance of each ratio from its target.

    Parameters
    ----------
    advantage
        Its size is the weight; with the mean as baseline in the paper.
    target
        Where each ratio should be, as of `soft_target`.
    """
    ratio, N = xp.exp(log_prob - old_log_prob), len(log_prob)
    weight, miss = abs(advantage), ratio - target
    # eq. bpo-loss
    return (weight * abs(miss)).sum() / N, weight * xp.sign(miss) * ratio / N


@checked
def soft_target(
    q_value: Real[N],
    threshold: Real[N],
    *,
    radius: OpenFraction = 0.3,
    temperature: PositiveFloat = 0.001,
) -> NonNegative[N]:
    """Where each ratio should be.

    Parameters
    ----------
    threshold
        The median of the Q-values in each state, or the network's estimate of it.
    temperature
        How soft the step at the threshold is.
    """
    share = (1 + xp.tanh((q_value - threshold) / (2 * temperature))) / 2
    return 1 - radius + 2 * radius * share  # eq. bpo-soft


@checked
def regulariser(ratio: NonNegative[N], *, radius: OpenFraction = 0.3) -> Real[N]:
    """What a soft target pays for each ratio.

    Parameters
    ----------
    ratio
        Within 1 ± radius; nearer than that to a bound counts as on it.
    """
    inside = xp.clip(ratio - 1, -radius, radius)
    low, high = radius + inside, radius - inside
    # eq. bpo-regulariser
    return low * _log(low) + high * _log(high)


def _log(x):
    """The logarithm, and 0 where 0 times it is asked for."""
    return xp.log(xp.where(x > 0, x, 1))


@checked
def soft_median(
    logits: Real[S, A], q_value: Real[S, A], *, temperature: PositiveFloat = 0.001
) -> Real[S]:
    """Threshold above which half of the policy's mass gains, softly.

    Parameters
    ----------
    logits
        Of the policy that is improved.
    """
    p = xp.exp(log_softmax(logits))

    def too_low(mu):
        # eq. bpo-median
        step = xp.tanh((q_value - mu[:, None]) / (2 * temperature))
        return (p * step).sum(1) > 0

    low, high = bisected(too_low, q_value.min(1), q_value.max(1), HALVINGS)
    return (low + high) / 2


@checked
def soft_asymmetric_solution(
    logits: Real[S, A],
    q_value: Real[S, A],
    *,
    lowest: Decay = 0.0,
    highest: AtLeastOne = 2.0,
    temperature: PositiveFloat = 0.1,
) -> NonNegative[S, A]:
    """Ratios between two bounds that a regulariser keeps off them.

    Parameters
    ----------
    logits
        Of the policy that is improved.
    """
    p, width = xp.exp(log_softmax(logits)), highest - lowest
    start = math.log((1 - lowest) / (highest - 1))

    def ratios(nu):
        x = (q_value - nu) / temperature + start
        return lowest + width * (1 + xp.tanh(x / 2)) / 2

    def too_low(nu):
        return (p * ratios(nu)).sum(1, keepdims=True) > 1

    ends = q_value.min(1, keepdims=True), q_value.max(1, keepdims=True)
    # eq. bpo-soft-asymmetric
    low, high = bisected(too_low, *ends, HALVINGS)
    return ratios((low + high) / 2)


@checked
def median_value_loss(
    threshold: Real[N], q_value: Real[N], *, temperature: PositiveFloat = 0.001
) -> tuple[Scalar, Real[N]]:
    """Loss whose minimum over a state's returns is its soft median.

    Parameters
    ----------
    threshold
        What the network says of each state.
    q_value
        Such as the lambda-return.
    """
    x, N = (q_value - threshold) / temperature, len(q_value)
    size = abs(x)
    # eq. bpo-median-loss
    L = temperature * (size / 2 + xp.log1p(xp.exp(-size))).sum() / N
    return L, -xp.tanh(x / 2) / (2 * N)


@checked
def group_target(
    reward: Real[B],
    group: Index[B],
    *,
    clip_low: OpenFraction = 0.2,
    clip_high: PositiveFloat = 0.2,
    temperature: PositiveFloat = 1.0,
) -> NonNegative[B]:
    """Where the ratios of each answer's tokens should be.

    Parameters
    ----------
    clip_low, clip_high
        The target lies between 1 - clip_low and 1 + clip_high.
    """
    _, median, scale = _statistics(reward, group)
    share = (1 + xp.tanh((reward - median) / (2 * scale * temperature))) / 2
    return 1 - clip_low + (clip_low + clip_high) * share  # eq. bpo-group


def _statistics(reward, group):
    """Mean, median and sample deviation of each answer's group; 0, 0 and 1 of a group of one."""
    same = group[:, None] == group[None, :]
    mean, count = group_mean(reward, group)
    squares = group_mean((reward - mean) ** 2, group)[0] * count
    scale = xp.sqrt(squares / xp.maximum(count - 1, 1))
    # the two in the middle of each group, by how many are below
    below = (same & (reward[:, None] > reward[None, :])).sum(1)
    up_to = (same & (reward[:, None] >= reward[None, :])).sum(1)
    middle = []
    for rank in ((count - 1) // 2, count // 2):
        here = same & ((below <= rank) & (rank < up_to))[None, :]
        middle.append(xp.where(here, reward[None, :], -xp.inf).max(1))
    median = (middle[0] + middle[1]) / 2
    alone = count == 1
    mean, median = (xp.where(alone, 0, x) for x in (mean, median))
    return mean, median, xp.where(alone, 1, scale) + EPS


@checked
def gbpo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    reward: Real[B],
    group: Index[B],
    mask: Mask[B, T],
    *,
    clip_low: OpenFraction = 0.2,
    clip_high: PositiveFloat = 0.2,
    temperature: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[B, T]]:
    """GBPO loss: mean over all tokens of the distance of the ratio from the target of its answer."""
    mean, _, scale = _statistics(reward, group)
    target = group_target.unchecked(
        reward, group, clip_low=clip_low, clip_high=clip_high, temperature=temperature
    )
    ratio = xp.exp(log_prob - old_log_prob)
    weight = token_mean(mask) * (abs(reward - mean) / scale)[:, None]
    miss = ratio - target[:, None]
    # eq. bpo-group-gradient
    return (weight * abs(miss)).sum(), weight * xp.sign(miss) * ratio
