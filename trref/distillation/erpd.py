r"""ERPD: over-optimise first, then let a trust region decide what of it to keep.

Many updates on one fixed batch raise the reward fast, and drift. A tight bound on the divergence only lowers the
ceiling. ERPD separates the two. In stage one a policy is trained without care on a batch that was sampled once from the
base :math:`\pi_0`, with the group's normalised advantage :math:`A`, by one of

.. math::
    :label: erpd-ratio

    J = \frac1M \sum_t A\, \frac{\pi_\theta(y_t)}{\pi_0(y_t)}, \qquad
    \frac{\partial J}{\partial \log \pi_\theta(y_t)} = \frac1M A\, \frac{\pi_\theta(y_t)}{\pi_0(y_t)}

(``ratio``),

.. math::
    :label: erpd-ce

    J = \frac1M \sum_t A \log \pi_\theta(y_t), \qquad
    \frac{\partial J}{\partial \log \pi_\theta(y_t)} = \frac1M A

(``ce``), which has no upper bound where advantages are negative, or, for a *weak* teacher, by a regression of the
log-ratio (``mse``),

.. math::
    :label: erpd-mse

    L = \frac1M \sum_t \frac12 \Big( \log\frac{\pi_\theta(y_t)}{\pi_0(y_t)} - \frac{A}{\tau} \Big)^2, \qquad
    \frac{\partial L}{\partial \log \pi_\theta(y_t)} = \frac1M \Big( \log\frac{\pi_\theta(y_t)}{\pi_0(y_t)} -
    \frac{A}{\tau} \Big) .

With a weak clip the first is :func:`stage_two` with the advantage in the place of the signal. The *extreme* policies
:math:`\pi_{E_1}, \ldots, \pi_{E_K}` that come of it only lend their judgement of tokens. Against
a reference, which is the base for a strong teacher and a policy made worse on purpose for a weak one,

.. math::
    :label: erpd-signal

    D_t = \frac1K \sum_k \mathrm{clip}\big( \log\pi_{E_k}(y_t) - \log\pi_{\text{ref}}(y_t),\, -c,\, c \big).

In stage two the base learns from this signal in the place of an advantage, in small steps from an anchor that is
renewed with each batch:

.. math::
    :label: erpd-stage-two

    J = \frac1M \sum_t \min\{ r_t D_t,\, \mathrm{clip}(r_t, 1-\epsilon, 1+\epsilon)\, D_t \}, \qquad
    \frac{\partial J}{\partial \log\pi} = \frac1M r_t D_t\, \mathbb 1\big[ r_t D_t \le \mathrm{clip}(r_t, 1-\epsilon,
    1+\epsilon)\, D_t \big]

with :math:`r = \pi/\pi_{\text{old}}`; on a bound the derivative is that of the ratio. Where the signal of all tokens is
known, the exact step inside a ball around the base is

.. math::
    :label: erpd-tilt

    \arg\max_\pi \mathbb E_\pi[D] \ \text{ s.t. } \ KL(\pi \| \pi_0) \le \varepsilon: \qquad
    \pi_\beta \propto \pi_0\, e^{\beta D}

with the largest :math:`\beta` that the ball admits: :math:`KL(\pi_\beta \| \pi_0)` rises by
:math:`\beta\, \mathrm{Var}_{\pi_\beta}(D)` and :math:`\mathbb E[D]` by :math:`\mathrm{Var}_{\pi_\beta}(D)`. With an
unclipped signal against the base this is the geometric path to the teacher, which it reaches at :math:`\beta = 1` and
then passes: in a large ball an uncapped :math:`\beta` exceeds 1, and a cap of 1 stops at the teacher.

=====================  =================================
:math:`\pi_0`          `old_log_prob` of `stage_one`
:math:`D`              `signal`
:math:`c`              `bound`
:math:`\varepsilon`    `radius`
=====================  =================================

The sums run over the :math:`M` tokens whose mask is 1; without any, value and gradient are 0. A signal that is constant
tilts nothing, and has the cap as its :math:`\beta`; a radius of 0 leaves the base as
it is, with a :math:`\beta` of 0. A state's constant in the signal changes stage two, not the tilt.

**Where implementations differ.** No code is public. Stage two is PPO's clipped loss with the signal as an advantage,
which a trainer has already.

**Provenance.** Reconstructed: that there are two stages, a batch sampled once, an anchor renewed with each batch, and
teachers of these three kinds is known from the abstract and two notes; the formulas are the most natural reading, not
the paper's. Path and cap were derived here. The bound of the signal is a choice.

Chen et al., *Extreme Region Policy Distillation*, 2026, arXiv:2605.25582.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.signature import (
    B,
    K,
    LogProb,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.terms import clip_surrogate, per_token, token_mean

# each halves the interval of beta: after 60 it is as small as its numbers can say
HALVINGS = 60


class Tilt(NamedTuple):
    """Log-probabilities of the tilted rows, and how far each is tilted."""

    log_prob: LogProb[N, V]
    beta: NonNegative[N]


@checked
def stage_one(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    kind: Literal["ratio", "ce", "mse"] = "ratio",
    tau: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[B, T]]:
    """Loss of the extreme policy on a batch that the base sampled.

    Parameters
    ----------
    old_log_prob
        Under the base, which sampled all of it once.
    kind
        What is maximised, or for ``"mse"`` regressed.
    tau
        ``"mse"`` regresses the log-ratio on the advantage over tau.
    """
    w, A, log_ratio = token_mean(mask), per_token(advantage), log_prob - old_log_prob
    if kind == "mse":
        miss = log_ratio - A / tau
        return (w * miss**2).sum() / 2, w * miss  # eq. erpd-mse
    if kind == "ce":
        return -(w * A * log_prob).sum(), -w * A  # eq. erpd-ce
    terms = w * A * xp.exp(log_ratio)
    return -terms.sum(), -terms  # eq. erpd-ratio


@checked
def token_signal(
    teacher_log_prob: LogProb[K, B, T],
    ref_log_prob: LogProb[B, T],
    *,
    bound: PositiveFloat = 1.0,
) -> Real[B, T]:
    """How much likelier each token is to the extreme policies than to the reference.

    Parameters
    ----------
    teacher_log_prob
        Under each of the extreme policies.
    bound
        Largest log-ratio that counts.
    """
    # eq. erpd-signal
    return xp.clip(teacher_log_prob - ref_log_prob, -bound, bound).mean(0)


@checked
def stage_two(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    signal: Real[B, T],
    mask: Mask[B, T],
    *,
    clip: PositiveFloat = 0.2,
) -> tuple[Scalar, Real[B, T]]:
    """Loss of the base that learns from the signal.

    Parameters
    ----------
    signal
        Such as of `token_signal`: what a token is worth.
    """
    term, derivative = clip_surrogate(log_prob, old_log_prob, signal, clip, clip)
    w = token_mean(mask)
    # eq. erpd-stage-two
    J, dJ = (w * term).sum(), w * derivative
    return -J, -dJ


@checked
def tilt(
    logits: Real[N, V],
    signal: Real[N, V],
    *,
    radius: NonNegativeFloat = 0.1,
    cap: PositiveFloat = 1.0,
) -> Tilt:
    """Tilt each row of the base towards the signal, as far as the ball and the cap allow.

    Parameters
    ----------
    logits
        Of the base.
    signal
        Of each token.
    cap
        Largest beta: at 1 an unclipped signal of a teacher ends at the teacher.
    """
    log_p = log_softmax(logits)
    if radius == 0:
        return Tilt(log_p, xp.zeros_like(log_p[:, 0]))

    def tilted(beta):
        moved = log_softmax(log_p + beta[:, None] * signal)
        return moved, (xp.exp(moved) * (moved - log_p)).sum(-1)

    # eq. erpd-tilt
    low, high = xp.zeros_like(log_p[:, 0]), xp.zeros_like(log_p[:, 0]) + cap
    inside = tilted(high)[1] <= radius
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        admitted = tilted(middle)[1] <= radius
        low, high = xp.where(admitted, middle, low), xp.where(admitted, high, middle)
    beta = xp.where(inside, cap, low).astype(log_p.dtype)
    return Tilt(tilted(beta)[0], beta)
