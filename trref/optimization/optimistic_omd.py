r"""Optimistic online mirror descent: regret by how noisy the losses are and how fast they move.

In round t a point :math:`x_t` of a ball of diameter D is played, then a loss is seen, a sample of a distribution that
may change from round to round. Between one distribution for all rounds and an adversary lie losses with a little noise
and a slow drift. With the mean losses :math:`F_t`,

.. math::
    :label: optimistic-omd-quantities

    \sigma^2 = \sum_t \max_x \mathbb E \|\nabla f_t(x) - \nabla F_t(x)\|^2, \qquad
    \Sigma^2 = \sum_{t \ge 2} \sup_x \|\nabla F_t(x) - \nabla F_{t-1}(x)\|^2

measure the two, here for gradients :math:`\nabla f_t` known at some points. A guess :math:`M_t` of the next gradient,
the last one seen, moves the point that is played; what comes moves the one that is kept:

.. math::
    :label: optimistic-omd-steps

    x_t = \Pi(\hat x_t - \eta_t M_t), \quad \hat x_{t+1} = \Pi(\hat x_t - \eta_t g_t), \quad M_t = g_{t-1}, \; M_1 = 0,

with :math:`\Pi` the projection on the ball. Without the guess, :math:`M_t = 0`, it is online gradient descent. The
step length looks at how wrong the guesses were, and needs neither :math:`\sigma` nor :math:`\Sigma`, nor the number of
rounds:

.. math::
    :label: optimistic-omd-convex

    \eta_t = \frac{D}{\sqrt{\delta + 4 G^2 + \sum_{s<t} \|g_s - g_{s-1}\|^2}}, \qquad g_0 = 0,

for gradients bounded by G; for strongly convex losses it falls as

.. math::
    :label: optimistic-omd-strong

    \eta_t = \frac2{\mu t},

and :math:`D / (G \sqrt T)` or :math:`D / (G \sqrt t)` is what online gradient descent takes. The expected regret is
:math:`O(\sqrt{\sigma^2} + \sqrt{\Sigma^2})`, and of :math:`O((\sigma_{max}^2 + \Sigma_{max}^2) \log T / \mu)` with
strong convexity. Behind it stands, for all losses, guesses and non-increasing step lengths,

.. math::
    :label: optimistic-omd-bound

    \sum_t \langle g_t, x_t - u \rangle \le \frac{D^2}{2 \eta_T} +
    \frac12 \sum_t \eta_t \|g_t - M_t\|^2 - \sum_t \frac{\|x_t - \hat x_t\|^2}{2 \eta_t} .

Exp-concave losses take the norm of :math:`H_t = I + \tfrac\beta2 G^2 I + \tfrac\beta2 \sum_{s<t} g_s g_s^\top`,
:math:`\beta = \tfrac12 \min(1/4GD, \alpha)`, and the projection in it, which is the subproblem of a trust region:

.. math::
    :label: optimistic-omd-exponential

    \Pi_H(y) = \arg\min_{\|x\| \le D/2} \tfrac12 (x - y)^\top H (x - y), \qquad
    x_t = \Pi_{H_t}(\hat x_t - H_t^{-1} M_t), \quad \hat x_{t+1} = \Pi_{H_t}(\hat x_t - H_t^{-1} g_t) .

On distributions the entropy takes the place of the square, and steps multiply:

.. math::
    :label: optimistic-omd-entropy

    x_t \propto \hat x_t\, e^{-\eta M_t}, \qquad \hat x_{t+1} \propto \hat x_t\, e^{-\eta g_t} .

The model of losses comes with two rules that follow a regularised leader instead:

.. math::
    :label: optimistic-omd-leader

    x_t = \arg\min_x \Big\langle \sum_{s<t} g_s + M_t, x \Big\rangle + \frac{\|x\|^2}{\eta_t}, \qquad
    \eta_t = \frac{D^2}{\nu + \sum_{s<t} \eta_s \|g_s - M_s\|^2},

.. math::
    :label: optimistic-omd-strong-leader

    x_t = \Pi\Big( \frac1{t - 1} \sum_{s<t} \Big( x_s - \frac{g_s}\mu \Big) - \frac{M_t}{(t - 1) \mu} \Big),

of which the first has a regret of at most :math:`3 \sqrt2\, D G \sqrt T + 4 D G` whatever comes, at
:math:`\nu = 2 D G`. Regret is that against the best point for all rounds, here of losses that are linear:

.. math::
    :label: optimistic-omd-regret

    R = \sum_t \langle g_t, x_t \rangle - \min_{\|u\| \le D/2} \sum_t \langle g_t, u \rangle
    = \sum_t \langle g_t, x_t \rangle + \frac D2 \Big\| \sum_t g_t \Big\| .

All losses that are convex have no more regret than the linear ones with their gradients at the points played.

====================  =======================
:math:`D`             `diameter`
:math:`G`             `bound`
:math:`\mu`           `convexity`
:math:`\nu`           `first`
====================  =======================

**Where implementations differ.** There is no public code. A later paper restates the rule of the first leader with
:math:`\sum_{s<t} \min(\tfrac{\eta_s}2 \|g_s - M_s\|^2, D \|g_s - M_s\|)` in the place of its sum. Extra-gradient
methods guess a gradient that they ask for at :math:`\hat x_t`: two a round.

**Provenance.** Confirmed in the text of a follow-up (Wang et al., 2025) and of the paper of the model (Sachs et al.,
2022): quantities, steps, the convex step length, both leaders. The strongly convex step length and :math:`H_t` are
from memory, and their constants not confirmed. The bound is the textbook's.

Chen, Zhang, Tu, Zhao and Zhang, *Optimistic Online Mirror Descent for Bridging Stochastic and Adversarial Online Convex
Optimization*, 2023, arXiv:2302.04552.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.optimization.trust_region_subproblem import eigen_step
from trref.signature import (
    Index,
    K,
    M,
    N,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    Simplex,
    T,
    checked,
)


class Play(NamedTuple):
    """The points played, those kept before each round, the gradients seen, and the step lengths."""

    points: Real[T, N]
    kept: Real[T, N]
    gradients: Real[T, N]
    lengths: Positive[T]


class Spread(NamedTuple):
    """Sums over rounds of the largest variance and of the largest squared move, and the largest of each."""

    noise: Scalar
    drift: Scalar
    largest_noise: Scalar
    largest_drift: Scalar


def _ball(y, diameter):
    """The nearest point of the ball."""
    length = xp.sqrt((y * y).sum())
    return y * (diameter / 2 / xp.maximum(length, diameter / 2))


def _in_the_ball(x0, diameter, **_):
    """A start outside of the ball."""
    inside = lambda: x0 @ x0 <= (diameter / 2) ** 2 * (1 + 1e-6)  # noqa: E731
    return [(inside, f"x0 must be within {diameter / 2:g} of 0, half the diameter")]


def _length(rule, t, T, errors, options):
    """The step length of round t, from 1 on."""
    diameter, bound, convexity, delta = options
    if rule == "convex":
        # eq. optimistic-omd-convex
        return diameter / xp.sqrt(delta + 4 * bound**2 + errors)
    if rule == "strong":
        length = 2 / (convexity * t)  # eq. optimistic-omd-strong
    elif rule == "root":
        length = diameter / (bound * t**0.5)
    else:
        length = diameter / (bound * T**0.5)
    return xp.asarray(length, dtype=errors.dtype)


@checked(also=_in_the_ball)
def mirror_descent(
    gradient: Callable,
    x0: Real[N],
    rounds: Index[T],
    *,
    diameter: PositiveFloat = 2.0,
    bound: PositiveFloat = 1.0,
    rule: Literal["convex", "strong", "root", "horizon"] = "convex",
    guess: Literal["last", "none", "true"] = "last",
    convexity: PositiveFloat = 1.0,
    delta: NonNegativeFloat = 1.0,
) -> Play:
    """Play against losses round by round.

    Parameters
    ----------
    gradient
        ``gradient(x, t) -> (n,)``, of the loss number t at x, such as `trref.problems.online.LinearLosses`.
    x0
        The first point kept.
    rounds
        The number of each round's loss.
    diameter
        Of the ball around 0 that is played in.
    bound
        Of the norm of gradients.
    rule
        Of the step length.
    guess
        The gradient seen last, none, or the one to come, at the point kept: an oracle.
    convexity
        Of the losses, for "strong".
    delta
        Keeps "convex" finite.
    """
    kept, last = x0, xp.zeros_like(x0)
    errors, before = xp.zeros_like(x0[0]), xp.zeros_like(x0)
    options = diameter, bound, convexity, delta
    play = []
    for k, t in enumerate(rounds.tolist()):
        eta = _length(rule, k + 1, len(rounds), errors, options)
        if guess == "true":
            last = _asked(gradient, kept, t)
        if guess == "none":
            last = xp.zeros_like(x0)

        # eq. optimistic-omd-steps
        x = _ball(kept - eta * last, diameter)
        g = _asked(gradient, x, t)
        play.append((x, kept, g, eta))
        kept = _ball(kept - eta * g, diameter)
        last = g

        errors = errors + ((g - before) ** 2).sum()
        before = g
    return Play(*(xp.stack(part) for part in zip(*play, strict=True)))


def _asked(gradient, x, t):
    g = validate.returned("gradient", gradient(x, t), x.shape, finite=True)
    if g.dtype != x.dtype:
        raise TypeError(f"gradient must return {x.dtype} arrays, not {g.dtype}")
    return g


@checked
def leader_descent(
    gradient: Callable,
    x0: Real[N],
    rounds: Index[T],
    *,
    diameter: PositiveFloat = 2.0,
    first: PositiveFloat = 4.0,
    convexity: NonNegativeFloat = 0.0,
) -> Play:
    """Play by an optimistic leader; what is kept is the leader without its guess.

    Parameters
    ----------
    x0
        Played in the first round by the strongly convex rule; the other one plays 0.
    first
        What the step length starts from.
    convexity
        Of the losses, for the strongly convex rule; 0 for the other one.
    """
    total, last = xp.zeros_like(x0), xp.zeros_like(x0)
    errors, leader = xp.zeros_like(x0[0]), xp.zeros_like(x0)
    play = []
    for k, t in enumerate(rounds.tolist()):
        if convexity:
            # eq. optimistic-omd-strong-leader
            eta = xp.ones_like(errors) / (convexity * max(k, 1))
            mean = leader / max(k, 1)
            kept = _ball(mean if k else x0, diameter)
            x = _ball(mean - eta * last if k else x0, diameter)
        else:
            # eq. optimistic-omd-leader
            eta = diameter**2 / (first + errors)
            kept = _ball(-eta / 2 * total, diameter)
            x = _ball(-eta / 2 * (total + last), diameter)
        g = _asked(gradient, x, t)
        play.append((x, kept, g, eta))
        errors = errors + eta * ((g - last) ** 2).sum()
        total, last = total + g, g
        if convexity:
            leader = leader + x - g / convexity
    return Play(*(xp.stack(part) for part in zip(*play, strict=True)))


@checked(also=_in_the_ball)
def exp_concave_descent(
    gradient: Callable,
    x0: Real[N],
    rounds: Index[T],
    *,
    diameter: PositiveFloat = 2.0,
    bound: PositiveFloat = 1.0,
    concavity: PositiveFloat = 1.0,
) -> Play:
    """Play in the norm of the gradients seen.

    Parameters
    ----------
    concavity
        The α for which exp(-α f) is concave.
    """
    beta = min(1 / (4 * bound * diameter), concavity) / 2
    H = (1 + beta / 2 * bound**2) * xp.eye(len(x0), dtype=x0.dtype)
    kept, last, play = x0, xp.zeros_like(x0), []
    for _k, t in enumerate(rounds.tolist()):
        # eq. optimistic-omd-exponential
        x = _nearest(H, kept, last, diameter)
        g = _asked(gradient, x, t)
        play.append((x, kept, g, xp.ones_like(x0[0])))
        kept = _nearest(H, kept, g, diameter)

        H = H + beta / 2 * g[:, None] * g
        last = g
    return Play(*(xp.stack(part) for part in zip(*play, strict=True)))


def _nearest(H, x, slope, diameter):
    """The point of the ball at which ``slope·y + (y - x)·H (y - x) / 2`` is least."""
    return eigen_step.unchecked(slope - H @ x, H, radius=diameter / 2).p


def _positive(weights, **_):
    """A choice without weight."""
    return [(lambda: weights.min() > 0, "weights must be positive")]


@checked(also=_positive)
def multiplicative_descent(
    losses: Real[T, K], weights: Simplex[K], *, lr: PositiveFloat = 0.1
) -> Simplex[T, K]:
    """The distributions played by the entropy's steps, each after a guess.

    Parameters
    ----------
    losses
        Of each choice, in each round.
    weights
        The first distribution, positive.
    """
    logits, last = xp.log(weights), xp.zeros_like(weights)
    played = []
    for loss in losses:
        # eq. optimistic-omd-entropy
        z = logits - lr * last
        p = xp.exp(z - z.max())
        played.append(p / p.sum())
        logits = logits - lr * loss

        last = loss
    return xp.stack(played)


@checked
def linear_regret(
    gradients: Real[T, N],
    points: Real[T, N],
    comparators: Real[T, N] | None = None,
    *,
    diameter: PositiveFloat = 2.0,
) -> Scalar:
    """Regret of linear losses, static or dynamic.

    Parameters
    ----------
    gradients
        Of the losses, one a round.
    points
        That were played.
    comparators
        A point for each round to be compared with; the best one for all rounds if None.
    """
    if comparators is not None:
        return (gradients * (points - comparators)).sum()
    total = gradients.sum(0)
    # eq. optimistic-omd-regret
    return (gradients * points).sum() + diameter / 2 * xp.sqrt((total * total).sum())


@checked
def regret_bound(
    gradients: Real[T, N],
    guesses: Real[T, N],
    points: Real[T, N],
    kept: Real[T, N],
    lengths: Positive[T],
    *,
    diameter: PositiveFloat = 2.0,
) -> Scalar:
    """What the regret of optimistic descent is at most, for any losses and guesses.

    Parameters
    ----------
    guesses
        Of each gradient, before it was seen.
    kept
        The points kept before each round.
    lengths
        Of steps, none longer than the one before.
    """
    wrong = ((gradients - guesses) ** 2).sum(1)
    moved = ((points - kept) ** 2).sum(1)
    # eq. optimistic-omd-bound
    longest = diameter**2 / (2 * lengths[-1])
    return longest + (lengths * wrong / 2 - moved / (2 * lengths)).sum()


@checked
def sea_quantities(gradients: Real[T, K, M, N]) -> Spread:
    """Noise and drift of losses, from gradients.

    Parameters
    ----------
    gradients
        Of each round, of K equally likely losses, at M points.
    """
    mean = gradients.mean(1)
    # eq. optimistic-omd-quantities
    noise = ((gradients - mean[:, None]) ** 2).sum(3).mean(1).max(1)
    moves = ((mean - xp.concatenate([mean[:1], mean[:-1]])) ** 2).sum(2).max(1)
    return Spread(noise.sum(), moves.sum(), noise.max(), moves.max())
