r"""The KL projection of a categorical distribution: onto a trust region, with its derivatives.

A distribution :math:`p` that is further than :math:`\varepsilon` from an old one :math:`q` is replaced by the nearest
one inside,

.. math::
    :label: kl-projection-problem

    \tilde\pi = \arg\min_\pi KL(\pi \| p) \;\text{ s.t. }\; KL(\pi \| q) \le \varepsilon, \qquad
    \tilde\pi = \mathrm{softmax}\Big( \frac{\log p + \eta \log q}{1 + \eta} \Big)

with :math:`\eta = 0`, :math:`\tilde\pi = p` inside the ball. With :math:`\beta = 1/(1 + \eta)` and
:math:`u = \log p - \log q` this is the exponential family :math:`q\,e^{\beta u} / Z(\beta)`, along which the divergence
rises, so that Newton's method on its square root, which is nearly linear, finds the one root in (0, 1); where a step
would leave the bracket, the bracket is halved:

.. math::
    :label: kl-projection-root

    KL(\tilde\pi_\beta \| q) = \beta\, \mathbb E_{\tilde\pi_\beta}[u] - \log Z(\beta) = \varepsilon, \qquad
    \frac{d}{d\beta} KL(\tilde\pi_\beta \| q) = \beta\, \mathrm{Var}_{\tilde\pi_\beta}(u)

The multiplier also maximises the dual, whose maximum is :math:`KL(\tilde\pi \| p)`:

.. math::
    :label: kl-projection-dual

    g(\eta) = -(1 + \eta) \log \sum_k \exp\Big( \frac{\log p_k + \eta \log q_k}{1 + \eta} \Big) - \eta\, \varepsilon

A gradient :math:`v` in the logits of :math:`\tilde\pi` goes back to the logits of :math:`p` by

.. math::
    :label: kl-projection-gradient

    \frac{\partial L}{\partial z} = \beta \Big( v - \frac{\langle v, u \rangle}{\langle c, u \rangle}\, c \Big), \qquad
    c = \tilde\pi \odot \Big( \log \frac{\tilde\pi}{q} - KL(\tilde\pi \| q) \Big)

(:math:`v` itself where nothing was projected). It is orthogonal to :math:`u`: moving on along old-to-new cannot help.
The projection is continuous on the surface of the ball, its derivative is not.

**Where implementations differ.** Holding :math:`\eta` constant drops the second term of the gradient, and is biased. A
public note exchanges old and new, so that :math:`\eta \to \infty` gives the new policy in the place of the old. Paper
and code bracket :math:`\eta`; here its one root is found in :math:`\beta`.

**Provenance.** Problem and solution are confirmed by the authors' project page. The gradient in closed form is derived
here (the page mentions one without printing it), as is the root in :math:`\beta`; all are checked numerically.

Becker, Freymuth et al., *TROLL: Trust Regions improve Reinforcement Learning for Large Language Models*, 2025,
arXiv:2510.03817.
"""

import math
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Method, Transform
from trref.nn.heads import log_softmax
from trref.tokens.terms import near

__all__ = ["Projection", "dual_value", "multiplier", "project_kl", "project_rows", "pull_back"]

ROWS = {"logits": Input("... V"), "old_logits": Input("... V")}
STEPS = 15  # of the safeguarded Newton iteration: ten are the rule, the hardest rows seen took 14


class Projection(NamedTuple):
    """Log-probabilities (…, V), beta = 1 / (1 + eta) (…, 1), and 1 (…, 1) where a row was outside the ball."""

    log_prob: Any
    beta: Any
    outside: Any


def _root(log_p, log_q, radius):
    """Return beta (…): 1 inside the ball, else where the divergence is the radius."""
    log_q, u = (xp.ascontiguousarray(xp.moveaxis(x, -1, 0)) for x in (log_q, log_p - log_q))
    low, beta = xp.zeros_like(u[0]), xp.ones_like(u[0])
    high, best, error, tiny = beta, beta, math.inf, float(xp.finfo(u.dtype).tiny)
    for _ in range(STEPS):
        # eq. kl-projection-root
        e = xp.exp(log_q + beta * u)
        Z = e.sum(0)
        mean = (e * u).sum(0) / Z
        variance = (e * (u - mean) ** 2).sum(0) / Z
        kl = xp.maximum(beta * mean - xp.log(Z), 0)

        best, error = xp.where(abs(kl - radius) < error, beta, best), xp.minimum(abs(kl - radius), error)
        low, high = xp.where(kl <= radius, beta, low), xp.where(kl <= radius, high, beta)
        newton = beta - 2 * (kl - xp.sqrt(kl * radius)) / xp.maximum(beta * variance, tiny)
        beta = xp.where((low < newton) & (newton < high), newton, (low + high) / 2)
    return best


def project_rows(log_p, log_q, radius):
    """Building block, unchecked: the projection of each row."""
    beta = _root(log_p, log_q, radius)[..., None]
    outside = beta < 1
    # eq. kl-projection-problem
    return Projection(xp.where(outside, log_softmax(log_q + beta * (log_p - log_q)), log_p), beta, outside)


def project_kl(logits, old_logits, *, radius=0.05):
    """Project each row onto the ball KL(· ‖ old) <= radius.

    Parameters
    ----------
    logits, old_logits : array (…, V)
    radius : float
        In nats, in (0, inf).

    Returns
    -------
    array (…, V)
        Log-probabilities of the projections.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `radius` not positive.
    """
    return project_rows(*_checked(logits, old_logits, radius), radius).log_prob


def _checked(logits, old_logits, radius):
    _, flags = validate.deferred(ROWS, logits, old_logits)
    validate.require(*flags, *near(logits, old_logits))
    validate.interval("(0, inf)", radius=radius)
    return log_softmax(logits), log_softmax(old_logits)


def project_jvp(logits, old_logits, tangent, *, radius=0.05):
    """Tangent of `project_kl`: beta moves such that the divergence does not."""
    log_p, log_q = _checked(logits, old_logits, radius)
    projection = project_rows(log_p, log_q, radius)
    u, c, curvature = _surface(log_p, log_q, projection)
    moved = (c * tangent).sum(-1, keepdims=True) / curvature
    t = projection.beta * (tangent - projection.outside * moved * u)
    return t - (xp.exp(projection.log_prob) * t).sum(-1, keepdims=True)


def project_vjp(logits, old_logits, cotangent, *, radius=0.05):
    """Pull a cotangent of the log-probabilities of the projection back to the logits."""
    log_p, log_q = _checked(logits, old_logits, radius)
    projection = project_rows(log_p, log_q, radius)
    v = cotangent - xp.exp(projection.log_prob) * cotangent.sum(-1, keepdims=True)
    return pull_back(log_p, log_q, projection, v)


def _surface(log_p, log_q, projection):
    """Return u, the gradient c of the divergence in the logits of the projection, and their product."""
    pi, s = xp.exp(projection.log_prob), projection.log_prob - log_q
    u, c = log_p - log_q, pi * (s - (pi * s).sum(-1, keepdims=True))
    return u, c, xp.where(projection.outside, (c * u).sum(-1, keepdims=True), 1)


def pull_back(log_p, log_q, projection, v):
    """Building block, unchecked: a gradient in the logits of the projection, in the logits before it."""
    u, c, curvature = _surface(log_p, log_q, projection)
    along = (v * u).sum(-1, keepdims=True) / curvature
    return projection.beta * (v - projection.outside * along * c)  # eq. kl-projection-gradient


def multiplier(logits, old_logits, *, radius=0.05):
    """Return eta of each row: 0 inside the ball.

    Parameters
    ----------
    logits, old_logits, radius
        As in `project_kl`.

    Returns
    -------
    array (…)

    Raises
    ------
    ValueError
        As `project_kl`.
    """
    return 1 / _root(*_checked(logits, old_logits, radius), radius) - 1


def dual_value(log_p, log_q, eta, radius):
    """Building block, unchecked: the dual (…) at eta (…); concave, highest at `multiplier`."""
    s = (log_p + eta[..., None] * log_q) / (1 + eta[..., None])
    return -(1 + eta) * xp.log(xp.exp(s).sum(-1)) - eta * radius  # eq. kl-projection-dual


def _multiplier_by_bisection(logits, old_logits, *, radius=0.05):
    log_p, log_q = log_softmax(logits), log_softmax(old_logits)

    def excess(share, i):
        s = log_softmax(log_q[i] + share * (log_p - log_q)[i])
        return float((xp.exp(s) * (s - log_q[i])).sum()) - radius

    result = []
    for i in range(len(logits)):
        low, high = 0.0, 1.0
        while excess(1.0, i) > 1e-13 and (low + high) / 2 not in (low, high):
            middle = (low + high) / 2
            low, high = (low, middle) if excess(middle, i) > 0 else (middle, high)
        result.append(1 / high - 1)
    return result


def _outside(result, logits, old_logits):
    """How far the projections are outside the largest ball of the settings."""
    kl = (xp.exp(result) * (result - log_softmax(old_logits))).sum(-1)
    return xp.maximum(kl.max() - 0.3, 0)


def _rows(rng, size):
    old = float(rng.choice((0.5, 1.5, 4.0))) * rng.standard_normal((size, 6))
    return {"logits": old + float(rng.choice((0.05, 0.4, 1.5))) * rng.standard_normal((size, 6)), "old_logits": old}


def _edge(logits, old_logits):
    return {"logits": xp.array(logits), "old_logits": xp.array(old_logits)}


EDGES = {
    "on-policy": lambda: _edge([[0.5, -1.0, 2.0]], [[0.5, -1.0, 2.0]]),
    "one token to choose from": lambda: _edge([[0.5], [2.0]], [[-1.0], [2.0]]),
    "nearly certain": lambda: _edge([[12.0, 0.0, -3.0], [0.0, 11.0, 1.0]], [[0.0, 0.5, -3.0], [11.0, 0.0, 1.0]]),
    "a rare token risen by 1e11": lambda: _edge([[0.0, 0.0, 3.0]], [[0.0, 0.0, -22.0]]),
    "far outside": lambda: _edge([[9.0, 0.0, 0.0, -9.0]], [[-5.0, 0.0, 0.0, 5.0]]),
}
SETTINGS = {"default": {}, "tight": {"radius": 1e-3}, "probe": {"radius": 0.3}}
METHOD = Method(
    key="becker2025troll",
    provenance={"confirmed": ("problem", "dual"), "reconstructed": ("root", "gradient")},
    functions=(
        Transform(
            f=project_kl,
            inputs=ROWS,
            example=_rows,
            edges=EDGES,
            wrt="logits",
            settings=SETTINGS,
            jvp=project_jvp,
            vjp=project_vjp,
            feasible=_outside,
        ),
        Estimator(
            f=multiplier,
            inputs=ROWS,
            example=_rows,
            edges=EDGES,
            settings=SETTINGS,
            brute_force=_multiplier_by_bisection,
        ),
    ),
)
