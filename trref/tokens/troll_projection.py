r"""TROLL's projection: a categorical distribution onto a KL ball around an old one, with its derivatives.

A distribution :math:`p` that is further than :math:`\varepsilon` from an old one :math:`q` is replaced by the nearest
one inside,

.. math::
    :label: troll-projection-problem

    \tilde\pi = \arg\min_\pi KL(\pi \| p) \;\text{ s.t. }\; KL(\pi \| q) \le \varepsilon, \qquad
    \tilde\pi = \mathrm{softmax}\Big( \frac{\log p + \eta \log q}{1 + \eta} \Big)

with :math:`\eta = 0`, :math:`\tilde\pi = p` inside the ball. With :math:`\beta = 1/(1 + \eta)` and
:math:`u = \log p - \log q` this is the exponential family :math:`q\,e^{\beta u} / Z(\beta)`, along which the divergence
rises, so that Newton's method on its square root, which is nearly linear, finds the one root in (0, 1); where a step
would leave the bracket, the bracket is halved:

.. math::
    :label: troll-projection-root

    KL(\tilde\pi_\beta \| q) = \beta\, \mathbb E_{\tilde\pi_\beta}[u] - \log Z(\beta) = \varepsilon, \qquad
    \frac{d}{d\beta} KL(\tilde\pi_\beta \| q) = \beta\, \mathrm{Var}_{\tilde\pi_\beta}(u)

The multiplier also maximises the dual, whose maximum is :math:`KL(\tilde\pi \| p)`:

.. math::
    :label: troll-projection-dual

    g(\eta) = -(1 + \eta) \log \sum_k \exp\Big( \frac{\log p_k + \eta \log q_k}{1 + \eta} \Big) - \eta\, \varepsilon

A gradient :math:`v` in the logits of :math:`\tilde\pi` goes back to the logits of :math:`p` by

.. math::
    :label: troll-projection-gradient

    \frac{\partial L}{\partial z} = \beta \Big( v - \frac{\langle v, u \rangle}{\langle c, u \rangle}\, c \Big), \qquad
    c = \tilde\pi \odot \Big( \log \frac{\tilde\pi}{q} - KL(\tilde\pi \| q) \Big)

(:math:`v` itself where nothing was projected). It is orthogonal to :math:`u`: moving on along old-to-new cannot help.
The projection is continuous on the surface of the ball, its derivative is not.

=====================  ==============================
:math:`p,\; q`         the rows of `logits`, `old_logits`
:math:`\varepsilon`    `radius`
:math:`\eta`           `multiplier`
=====================  ==============================

A row inside the ball stays as it is, to the last bit; with one token to choose from every row is inside.

**Where implementations differ.** Holding :math:`\eta` constant drops the second term of the gradient, and is biased. A
public note exchanges old and new, so that :math:`\eta \to \infty` gives the new policy in the place of the old. Paper
and code bracket :math:`\eta`; here its one root is found in :math:`\beta`.

**Provenance.** Problem and solution are confirmed by the authors' project page. The gradient in closed form is derived
here (the page mentions one without printing it), as is the root in :math:`\beta`; all are checked numerically.

Becker, Freymuth et al., *TROLL: Trust Regions improve Reinforcement Learning for Large Language Models*, 2025,
arXiv:2510.03817.
"""

import math
from typing import NamedTuple

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.signature import (
    Lead,
    LogProb,
    NonNegative,
    PositiveFloat,
    Prob,
    Real,
    V,
    checked,
)
from trref.tokens.terms import near

# of the safeguarded Newton iteration: ten are the rule, the hardest rows seen took 14
STEPS = 15


class Projection(NamedTuple):
    """Log-probabilities of the projected rows, and beta = 1 / (1 + eta) of each: 1 inside the ball."""

    log_prob: Real[Lead, V]
    beta: Prob[Lead]


def _root(log_p, log_q, radius):
    """Return beta (…): 1 inside the ball, else where the divergence is the radius."""
    log_q, u = (
        xp.ascontiguousarray(xp.moveaxis(x, -1, 0)) for x in (log_q, log_p - log_q)
    )
    low, beta = xp.zeros_like(u[0]), xp.ones_like(u[0])
    high, best, error = beta, beta, math.inf
    tiny = float(xp.finfo(u.dtype).tiny)
    for _ in range(STEPS):
        # eq. troll-projection-root
        e = xp.exp(log_q + beta * u)
        Z = e.sum(0)
        mean = (e * u).sum(0) / Z
        variance = (e * (u - mean) ** 2).sum(0) / Z
        kl = xp.maximum(beta * mean - xp.log(Z), 0)

        # the best so far is kept, and the bracket closes from the side that beta is on
        miss = abs(kl - radius)
        best, error = xp.where(miss < error, beta, best), xp.minimum(miss, error)
        low = xp.where(kl <= radius, beta, low)
        high = xp.where(kl <= radius, high, beta)
        # a step of Newton on the square root, or else half of the bracket
        slope = xp.maximum(beta * variance, tiny)
        newton = beta - 2 * (kl - xp.sqrt(kl * radius)) / slope
        inside = (low < newton) & (newton < high)
        beta = xp.where(inside, newton, (low + high) / 2)
    return best


@checked
def project_rows(
    log_p: LogProb[Lead, V], log_q: LogProb[Lead, V], radius: PositiveFloat
) -> Projection:
    """Project each row p onto the ball around q.

    Parameters
    ----------
    log_p
        Log-probabilities of the rows.
    log_q
        Log-probabilities of the old rows.
    radius
        In nats.
    """
    beta = _root(log_p, log_q, radius)
    # eq. troll-projection-problem
    moved = log_softmax(log_q + beta[..., None] * (log_p - log_q))
    return Projection(xp.where(beta[..., None] < 1, moved, log_p), beta)


@checked(also=near)
def project_kl(
    logits: Real[Lead, V], old_logits: Real[Lead, V], *, radius: PositiveFloat = 0.05
) -> Real[Lead, V]:
    """Log-probabilities of each row's projection onto the ball KL(· ‖ old) <= radius."""
    log_p, log_q = log_softmax(logits), log_softmax(old_logits)
    return project_rows.unchecked(log_p, log_q, radius).log_prob


def _surface(log_p, log_q, projection):
    """Return u, the gradient c of the divergence in the logits of the projection, and their product."""
    pi, s = xp.exp(projection.log_prob), projection.log_prob - log_q
    u, c = log_p - log_q, pi * (s - (pi * s).sum(-1, keepdims=True))
    outside = projection.beta[..., None] < 1
    return u, c, xp.where(outside, (c * u).sum(-1, keepdims=True), 1)


@checked(also=near)
def project_jvp(
    logits: Real[Lead, V],
    old_logits: Real[Lead, V],
    tangent: Real[Lead, V],
    *,
    radius: PositiveFloat = 0.05,
) -> Real[Lead, V]:
    """Tangent of `project_kl`: beta moves such that the divergence does not.

    Parameters
    ----------
    tangent
        Of the logits.
    """
    log_p, log_q = log_softmax(logits), log_softmax(old_logits)
    projection = project_rows.unchecked(log_p, log_q, radius)
    u, c, curvature = _surface(log_p, log_q, projection)
    moved = (c * tangent).sum(-1, keepdims=True) / curvature
    beta = projection.beta[..., None]
    t = beta * (tangent - (beta < 1) * moved * u)
    return t - (xp.exp(projection.log_prob) * t).sum(-1, keepdims=True)


@checked(also=near)
def project_vjp(
    logits: Real[Lead, V],
    old_logits: Real[Lead, V],
    cotangent: Real[Lead, V],
    *,
    radius: PositiveFloat = 0.05,
) -> Real[Lead, V]:
    """Pull a cotangent of the log-probabilities of the projection back to the logits.

    Parameters
    ----------
    cotangent
        Of `project_kl`.
    """
    log_p, log_q = log_softmax(logits), log_softmax(old_logits)
    projection = project_rows.unchecked(log_p, log_q, radius)
    v = cotangent - xp.exp(projection.log_prob) * cotangent.sum(-1, keepdims=True)
    return pull_back.unchecked(log_p, log_q, projection, v)


@checked
def pull_back(
    log_p: LogProb[Lead, V],
    log_q: LogProb[Lead, V],
    projection: Projection,
    v: Real[Lead, V],
) -> Real[Lead, V]:
    """Take a gradient in the logits of the projection to those before it.

    Parameters
    ----------
    projection
        As of `project_rows`.
    v
        The gradient: each row sums to 0.
    """
    u, c, curvature = _surface(log_p, log_q, projection)
    along = (v * u).sum(-1, keepdims=True) / curvature
    beta = projection.beta[..., None]
    return beta * (v - (beta < 1) * along * c)  # eq. troll-projection-gradient


@checked(also=near)
def multiplier(
    logits: Real[Lead, V], old_logits: Real[Lead, V], *, radius: PositiveFloat = 0.05
) -> NonNegative[Lead]:
    """eta of each row: 0 inside the ball."""
    return 1 / _root(log_softmax(logits), log_softmax(old_logits), radius) - 1


@checked
def dual_value(
    log_p: LogProb[Lead, V],
    log_q: LogProb[Lead, V],
    eta: NonNegative[Lead],
    radius: PositiveFloat,
) -> Real[Lead]:
    """The dual: concave in eta, highest at `multiplier`.

    Parameters
    ----------
    eta
        The multiplier of each row.
    """
    s = (log_p + eta[..., None] * log_q) / (1 + eta[..., None])
    # eq. troll-projection-dual
    return -(1 + eta) * xp.log(xp.exp(s).sum(-1)) - eta * radius
