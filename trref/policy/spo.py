r"""SPO: a quadratic penalty on the ratio, weighed by the absolute advantage, in the place of PPO's clip.

PPO's objective is flat beyond the edge of its interval: a sample that is outside has no gradient that would bring it
back. SPO keeps everything else of PPO, and makes each sample's term a parabola in the ratio
:math:`r = \pi/\pi_{old}`,

.. math::
    :label: spo-objective

    J = \frac1N \sum_t \Big[ r_t \hat A_t - \frac{|\hat A_t|}{2\epsilon}\, (r_t - 1)^2 \Big]

.. math::
    :label: spo-gradient

    \frac{\partial J}{\partial \log\pi_t} = \frac1N\, r_t \Big[ \hat A_t - \frac{|\hat A_t|}{\epsilon}\, (r_t - 1)
    \Big]

with its top at :math:`1 + \epsilon\, \mathrm{sign}(\hat A)`: concave, differentiable, and *aligned* with the interval,
which PPO's term is not. At the old policy the gradient is the policy gradient. Why a bounded ratio helps: with the
visits :math:`\rho_\pi` of the old policy, which sum to :math:`1/(1-\gamma)`,

.. math::
    :label: spo-bound

    \eta(\tilde\pi) \ge \eta(\pi) + \sum_s \rho_\pi(s) \sum_a \tilde\pi(a|s) A_\pi(s, a)
    - \frac{2 \xi \gamma}{1-\gamma} \sum_s \rho_\pi(s)\, D_{TV}(\pi \| \tilde\pi)(s), \qquad
    \xi = \max_s \Big| \sum_a \tilde\pi(a|s) A_\pi(s, a) \Big|,

and :math:`D_{TV} = \tfrac12 E_{a \sim \pi} |r - 1|` is at most :math:`\epsilon/2` where no ratio leaves its interval.
A state in which all actions are weighed by the old policy has its exact optimum, :math:`\sum_a \pi_a r_a = 1`, at

.. math::
    :label: spo-optimum

    r_a = \max\Big\{ 0,\; 1 + \epsilon \Big( \mathrm{sign}(A_a) - \frac{\mu}{|A_a|} \Big) \Big\},

where :math:`\mu` makes the probabilities sum to 1. What the objective does not say is the ratio of an action with an
advantage of 0, or of less than a quadrillionth of the state's largest: such actions share what the others leave, and
nothing if these leave nothing.

==================  ==========
:math:`\epsilon`    `radius`
:math:`\pi`         the old policy
:math:`\tilde\pi`   the new policy
==================  ==========

A sample with an advantage near 0 has next to no penalty, so the ratio is not bounded; the gradient of a ratio far above
1 grows with its square.

**Where implementations differ.** The authors standardise the advantages of each minibatch: the division by their sample
deviation leaves the tops where they are, the mean that is subtracted turns those between 0 and it to the other side.
They keep PPO's clipped value loss. With a constant in the
place of :math:`|\hat A|` the mean penalty is chi-square.

**Provenance.** The objective and its radius were confirmed in the authors' code, the bound from memory (it is that of
constrained policy optimisation). The gradient and the optimum were derived here.

Xie et al., *Simple Policy Optimization*, 2024, arXiv:2401.16025.
"""

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.policy.terms import bisected
from trref.problems.protocols import DecisionProcess
from trref.signature import (
    A,
    LogProb,
    N,
    NonNegative,
    PositiveFloat,
    Real,
    S,
    Scalar,
    checked,
)

# of the interval of the multiplier: after so many it is small beside the smallest advantage that counts
HALVINGS = 100
NOTHING = 2.0**-50  # of a state's largest advantage: what is not above it counts as 0


@checked
def penalised_surrogate(
    log_prob: LogProb[N],
    old_log_prob: LogProb[N],
    advantage: Real[N],
    *,
    radius: PositiveFloat = 0.2,
) -> tuple[Scalar, Real[N]]:
    """SPO loss.

    Parameters
    ----------
    radius
        Distance from 1 at which each sample's term has its top.
    """
    N = len(log_prob)
    ratio = xp.exp(log_prob - old_log_prob)
    excess = ratio - 1
    # eq. spo-objective
    J = (ratio * advantage - abs(advantage) / (2 * radius) * excess**2).sum() / N
    # eq. spo-gradient
    dJ = ratio * (advantage - abs(advantage) / radius * excess) / N
    return -J, -dJ


@checked
def return_bound(
    logits: Real[S, A], old_logits: Real[S, A], mdp: DecisionProcess
) -> Scalar:
    """What the new policy's return cannot fall below."""
    new, old = xp.exp(log_softmax(logits)), xp.exp(log_softmax(old_logits))
    _, advantage, visits, start = mdp(old)
    gain = (new * advantage).sum(1)
    variation = abs(new - old).sum(1) / 2
    penalty = 2 * abs(gain).max() * mdp.gamma / (1 - mdp.gamma)
    # eq. spo-bound
    return start + (visits * gain).sum() - penalty * (visits * variation).sum()


@checked
def tabular_optimum(
    old_logits: Real[S, A], advantage: Real[S, A], *, radius: PositiveFloat = 0.2
) -> NonNegative[S, A]:
    """Ratios that maximise the objective in each state, where all its actions are known.

    Parameters
    ----------
    advantage
        Of every action; any numbers.
    """
    p, size = xp.exp(log_softmax(old_logits)), abs(advantage)
    most = size.max(1, keepdims=True)
    matters = size > NOTHING * most
    safe = xp.where(matters, size, 1)

    def ratios(mu):
        r = 1 + radius * (xp.sign(advantage) - mu / safe)
        return xp.where(matters, xp.maximum(r, 0), 0)

    def too_low(mu):
        return (p * ratios(mu)).sum(1, keepdims=True) > 1

    # eq. spo-optimum
    _, high = bisected(too_low, -most, most, HALVINGS)
    # actions without an advantage take what is left, so that the others need not be held up
    idle = (p * ~matters).sum(1, keepdims=True)
    r = ratios(xp.where(idle > 0, xp.maximum(high, 0), high))
    left = xp.maximum(1 - (p * r).sum(1, keepdims=True), 0)
    return xp.where(matters, r, left / xp.where(idle > 0, idle, 1))
