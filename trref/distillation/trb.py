r"""TRB: a student in warm-up samples from a blend with its teacher, inside a ball around itself.

On-policy distillation lowers, at each prefix that the student visits, the divergence from the teacher,

.. math::
    :label: trb-loss

    L = \frac1n \sum_{\text{prefixes}} \sum_{v \in S} \pi_{\text{S}}(v) \big( \log \pi_{\text{S}}(v) -
    \log \pi_{\text{T}}(v) \big)

with all tokens in :math:`S`, or the :math:`k` likeliest to the student, which are held constant. With
:math:`a = \log\pi_{\text{S}} - \log\pi_{\text{T}}`, and 0 outside S for the second,

.. math::
    :label: trb-gradient

    \frac{\partial}{\partial z} = \pi_{\text{S}} \odot \Big( s - \sum_v \pi_{\text{S}}(v)\, s(v) \Big), \qquad
    s = a \ \text{ or } \ (a + 1)\, \mathbb 1_S .

The law of the prefixes is constant. TRB leaves the loss alone and changes who samples: at each prefix the
distribution nearest to the teacher in a ball around the student,

.. math::
    :label: trb-region

    \mu^* = \arg\min_\mu KL(\mu \| \pi_{\text{T}}) \ \text{ s.t. } \ KL(\mu \| \pi_{\text{S}}) \le \varepsilon ,

which is a geometric blend

.. math::
    :label: trb-blend

    \mu_\beta \propto \pi_{\text{S}}^{1-\beta}\, \pi_{\text{T}}^{\beta}

with the largest :math:`\beta \in [0, 1]` that the ball admits. Along the blend :math:`KL(\mu_\beta \| \pi_{\text{S}})`
rises by :math:`\beta\, \mathrm{Var}_{\mu_\beta}(\log \pi_{\text{T}} / \pi_{\text{S}})`, so that for a small ball
:math:`\beta \approx \sqrt{2 \varepsilon / \mathrm{Var}_{\pi_{\text{S}}}(\log \pi_{\text{T}} / \pi_{\text{S}})}`, and a
sequence of T tokens is at most :math:`T \varepsilon` from the student's. The radius falls to 0 in :math:`K` steps,

.. math::
    :label: trb-budget

    \varepsilon_k = \varepsilon_0 \max\big( 0,\; 1 - k / K \big)

after which all samples are the student's own. The baseline SKD samples a token of the student, and

.. math::
    :label: trb-skd

    x \sim \pi_{\text{S}}, \ \text{replaced by} \ x' \sim \pi_{\text{T}} \ \text{ if } x \text{ is not among the } k
    \text{ likeliest to the teacher}.

=======================  ============================
:math:`\varepsilon`      `radius`
:math:`\varepsilon_0`    `radius` of `budget`
:math:`k, K`             `step`, `steps`
:math:`k` (of a list)    `top_k`
=======================  ============================

A radius of 0 gives the student itself, a ball that holds the teacher gives the teacher, with a :math:`\beta` of 1 also
where the two are equal. Of equally likely tokens those with lower numbers are in a list.

**Where implementations differ.** The problem with the student in the objective and the teacher in the constraint has a
blend of probabilities, no geometric one. The sampled loss is not weighted by the ratio to the blend. TRL's loss on the
student's list counts all other tokens as one token more, or renormalises both distributions on the list; the sum over
the list alone, which is here, may be negative. No code of the method is public; the blend is TROLL's projection with
teacher and student in the places of new and old policy.

**Provenance.** Loss, region, blend, budget, baseline and the radii in use were confirmed in the paper's LaTeX source.
That the list in the loss is held constant, and the gradient, are reconstructed.

Plyusov et al., *Trust-Region Behavior Blending for On-Policy Distillation*, 2026, arXiv:2605.31159.
"""

from collections.abc import Callable
from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.signature import (
    B,
    Fraction,
    Index,
    Lead,
    LogProb,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveInt,
    Prob,
    Real,
    Rng,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.terms import near, token_mean
from trref.tokens.tre import region
from trref.tokens.troll_projection import project_rows


class Blend(NamedTuple):
    """Log-probabilities of the blended rows, and the exponent of the teacher in each."""

    log_prob: LogProb[Lead, V]
    beta: Prob[Lead]


def _near(logits, teacher_logits, **_):
    """Log-probabilities of student and teacher more than 30 apart."""
    ((test, message),) = near(logits, teacher_logits)
    return [(test, message.replace("old_logits", "teacher_logits"))]


@checked(also=_near)
def opd(
    logits: Real[B, T, V],
    teacher_logits: Real[B, T, V],
    mask: Mask[B, T],
    *,
    top_k: PositiveInt | None = None,
) -> tuple[Scalar, Real[B, T, V]]:
    """Loss of on-policy distillation: mean over tokens of KL(student‖teacher).

    Parameters
    ----------
    top_k
        Only so many tokens, the likeliest to the student, count; all of them if None.
    """
    log_q, w = log_softmax(logits), token_mean(mask)
    q, a = xp.exp(log_q), log_q - log_softmax(teacher_logits)
    keep = 1.0
    slope = a
    if top_k is not None:
        keep = region.unchecked(logits, "top_k", top_k, 1.0)
        slope = keep * (a + 1)
    L = (w * (keep * q * a).sum(-1)).sum()  # eq. trb-loss
    # eq. trb-gradient
    dL = q * (slope - (q * slope).sum(-1, keepdims=True))
    return L, w[..., None] * dL


@checked(also=_near)
def blend(
    logits: Real[Lead, V], teacher_logits: Real[Lead, V], *, beta: Fraction = 0.5
) -> LogProb[Lead, V]:
    """Log-probabilities of the geometric blend.

    Parameters
    ----------
    beta
        Exponent of the teacher.
    """
    log_q, log_p = log_softmax(logits), log_softmax(teacher_logits)
    return log_softmax((1 - beta) * log_q + beta * log_p)  # eq. trb-blend


@checked(also=_near)
def trust_region_blend(
    logits: Real[Lead, V],
    teacher_logits: Real[Lead, V],
    *,
    radius: NonNegativeFloat = 0.01,
) -> Blend:
    """The distribution nearest to the teacher in the ball around the student, row by row."""
    log_q, log_p = log_softmax(logits), log_softmax(teacher_logits)
    if radius == 0:
        same = (log_q == log_p).all(-1)
        return Blend(log_q, same.astype(log_q.dtype))
    # eq. trb-region
    return Blend(*project_rows.unchecked(log_p, log_q, radius))


@checked
def budget(
    step: NonNegative[N], *, radius: NonNegativeFloat = 0.01, steps: PositiveInt = 25
) -> NonNegative[N]:
    """Radius of each step: it falls to 0 along a line.

    Parameters
    ----------
    step
        From 0.
    radius
        Of step 0.
    """
    return radius * xp.maximum(1 - step / steps, 0)  # eq. trb-budget


def _drawn(log_p, u):
    """The token of each row whose cumulative probability first exceeds u (N,)."""
    return (xp.cumsum(xp.exp(log_p), axis=-1)[:, :-1] < u[:, None]).sum(-1)


def _logits(name, logits, draws, tokens=None):
    """Require logits for each sequence, of as many tokens as the student has."""
    validate.array(f"the result of {name}", logits)
    V = tokens or (*logits.shape, 1)[1]
    return validate.returned(name, logits, (draws, V), finite=True)


def _sequences(rng, student, teacher, choose, draws, length, coins):
    """Sequences (draws, length), a token at a time; ``choose(student's, teacher's, u)`` with `coins` uniforms each."""
    tokens = xp.zeros((draws, 0), dtype=int)
    for _ in range(length):
        logits = _logits("student", student(tokens), draws)
        ours = log_softmax(logits)
        theirs = log_softmax(_logits("teacher", teacher(tokens), *logits.shape))
        u = xp.asarray(rng.random((coins, draws)), dtype=ours.dtype)
        tokens = xp.concatenate([tokens, choose(ours, theirs, u)[:, None]], 1)
    return tokens


@checked
def blended_rollout(
    rng: Rng,
    student: Callable,
    teacher: Callable,
    *,
    draws: PositiveInt = 1000,
    length: PositiveInt = 4,
    radius: NonNegativeFloat = 0.01,
) -> Index[N, T]:
    """Sample sequences from the blend of student and teacher.

    Parameters
    ----------
    student, teacher
        ``policy(tokens (N, t)) -> logits (N, V)`` after each prefix, as `trref.problems.next_token.NextToken`.
    length
        Tokens of each sequence.

    Returns
    -------
    tokens
    """

    def choose(ours, theirs, u):
        return _drawn(
            trust_region_blend.unchecked(ours, theirs, radius=radius).log_prob, u[0]
        )

    return _sequences(rng, student, teacher, choose, draws, length, 1)


@checked
def skd_rollout(
    rng: Rng,
    student: Callable,
    teacher: Callable,
    *,
    draws: PositiveInt = 1000,
    length: PositiveInt = 4,
    top_k: PositiveInt = 25,
) -> Index[N, T]:
    """Sample sequences of the student, in which the teacher replaces what is not on its list.

    Parameters
    ----------
    top_k
        Tokens on the teacher's list.

    Returns
    -------
    tokens
    """

    def choose(ours, theirs, u):
        # eq. trb-skd
        token, other = _drawn(ours, u[0]), _drawn(theirs, u[1])
        listed = region.unchecked(theirs, "top_k", top_k, 1.0)
        on_it = xp.take_along_axis(listed, token[:, None], -1)[:, 0]
        return xp.where(on_it == 1, token, other)

    return _sequences(rng, student, teacher, choose, draws, length, 2)
