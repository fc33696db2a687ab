r"""AdamP and SGDP: no step along the weights where the loss does not see their length.

Before a normalisation the loss does not depend on the norm of a weight vector. Its gradient is then orthogonal to the
weights, every step lengthens them, and the effective rate :math:`\eta/\|w\|^2` shrinks; momentum makes this much
faster. AdamP takes the radial part out of the step :math:`p` (not out of the momentum), for a whole vector :math:`w`:

.. math::
    :label: adamp-project

    \Pi_w(p) = p - \hat w\, \langle \hat w, p \rangle, \qquad \hat w = \frac{w}{\|w\| + \varepsilon} .

It does so only where weights :math:`w_i` and gradients :math:`g_i` look orthogonal, for all vectors :math:`i` of a view
and before anything else has happened to the weights:

.. math::
    :label: adamp-detect

    \max_i \frac{|\langle w_i, g_i \rangle|}{\max(\|w_i\|, \varepsilon)\, \max(\|g_i\|, \varepsilon)}
    < \frac{\delta}{\sqrt{\dim w_i}} .

The first view of a tensor takes its first axis for the channels, a vector each; the second all of it as one vector. The
first one that passes is used; a tensor with a single axis has none. AdamP is then Adam with :math:`q = \Pi_w(p)` (and
:math:`\rho` times the decay) where a view passes, and :math:`q = p` (:math:`\rho = 1`) elsewhere:

.. math::
    :label: adamp-step

    p_t = \frac{m_t}{\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon}, \qquad
    w_t = (1 - \eta\lambda\rho)\, w_{t-1} - \frac{\eta}{1 - \beta_1^t}\, q_t ,

with Nesterov's :math:`\beta_1 m_t + (1 - \beta_1) g_t` for :math:`m_t` if asked for. SGDP is the same for gradient
descent with momentum, with a decay that is divided by the share of a gradient that a step takes:

.. math::
    :label: adamp-sgdp

    w_t = \Bigl(1 - \frac{\eta\lambda\rho}{1 - \mu}\Bigr) w_{t-1} - \eta\, q_t, \qquad
    p_t = m_t \text{ or } g_t + \mu\, m_t, \quad m_t = \mu\, m_{t-1} + g_t .

For a scale-invariant loss lengths obey :math:`\|w_t\|^2 = \|w_{t-1}\|^2 + \eta^2 \|q_t\|^2`, and to first order the
loss changes as without the projection. Zero gradients have cosine zero: they pass. With :math:`\delta = 0` nothing
passes, and with :math:`\delta > \sqrt{\dim w_i}` everything.

====================  =============================================
:math:`\eta`          `lr`
:math:`\varepsilon`   `eps`
:math:`\delta`        `threshold`
:math:`\lambda`       `weight_decay`
:math:`\rho`          `decay_ratio` (the authors' ``wd_ratio``)
:math:`\mu`           `momentum`
====================  =============================================

**Where implementations differ.** The authors' SGDP takes the radial part out in place, of the momentum itself, unless
Nesterov's form made a copy; the paper's momentum keeps it. pytorch_optimizer copies, but adds epsilon to the root of
AdamP's second moment before that is corrected.

**Provenance.** Confirmed by the authors' code (clovaai/AdamP), SGDP's momentum by the paper's lemma on lengths.

Heo, Chun, Oh, Han, Yun, Kim, Uh and Ha, *AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
Weights*, 2020, arXiv:2006.08217.
"""

import math

from trref.backend import xp
from trref.optimizers.adam import AdamState
from trref.signature import (
    Arrays,
    Decay,
    Fraction,
    M,
    N,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


def init(params: Arrays) -> AdamState:
    """Return the state before the first step, of either rule; SGDP uses its `m` alone."""
    m, v = ([xp.zeros_like(p) for p in params] for _ in range(2))
    return AdamState(0, m, v)


@checked
def project_radial(
    p: Real[M, N], w: Real[M, N], *, eps: PositiveFloat = 1e-8
) -> Real[M, N]:
    """Take out of each row of a step its part along the weights.

    Parameters
    ----------
    p
        The step, a vector a row.
    w
        The weight vectors, a row each.
    eps
        Added to the norm.
    """
    # eq. adamp-project
    unit = w / (xp.sqrt((w * w).sum(1)) + eps)[:, None]
    return p - unit * (unit * p).sum(1)[:, None]


@checked
def project_radial_jvp(
    p: Real[M, N], w: Real[M, N], tangent: Real[M, N], *, eps: PositiveFloat = 1e-8
) -> Real[M, N]:
    """Differential of `project_radial` at p along a tangent: it is linear, and symmetric.

    Parameters
    ----------
    tangent
        Any matrix.
    """
    return project_radial.unchecked(tangent, w, eps=eps)


@checked
def project_radial_vjp(
    p: Real[M, N], w: Real[M, N], cotangent: Real[M, N], *, eps: PositiveFloat = 1e-8
) -> Real[M, N]:
    """Adjoint of `project_radial_jvp`.

    Parameters
    ----------
    cotangent
        Any matrix.
    """
    return project_radial.unchecked(cotangent, w, eps=eps)


@checked
def largest_cosine(
    w: Real[M, N], g: Real[M, N], *, eps: PositiveFloat = 1e-8
) -> Scalar:
    """Return the largest size of a cosine between a weight vector and its gradient.

    Parameters
    ----------
    g
        The gradient with respect to the weights.
    eps
        Norms are at least this.
    """
    # eq. adamp-detect
    norms = [xp.sqrt((x * x).sum(1)) for x in (w, g)]
    a, b = (xp.maximum(norm, eps) for norm in norms)
    return (abs((w * g).sum(1)) / (a * b)).max()


def _projected(w, g, p, *, threshold, eps, decay, decay_ratio):
    """Return the decayed weights and the step of one tensor; of the views that pass the first one counts."""
    kept, q = (1 - decay) * w, p
    if w.ndim == 1:
        return kept, q
    for rows in (1, len(w)):
        weight, slope, step = (x.reshape(rows, w.size // rows) for x in (w, g, p))
        # eq. adamp-detect
        least = threshold / math.sqrt(weight.shape[1])
        passes = largest_cosine.unchecked(weight, slope, eps=eps) < least
        tangential = project_radial.unchecked(step, weight, eps=eps).reshape(w.shape)
        q = xp.where(passes, tangential, q)
        kept = xp.where(passes, (1 - decay * decay_ratio) * w, kept)
    return kept, q


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: AdamState,
    *,
    lr: PositiveFloat = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
    threshold: NonNegativeFloat = 0.1,
    decay_ratio: Fraction = 0.1,
    nesterov: bool = False,
) -> tuple[Arrays, AdamState]:
    """Take one step of AdamP.

    Parameters
    ----------
    beta1, beta2
        Decay of the moments.
    eps
        Added to the root and to norms; the least norm in a cosine.
    weight_decay
        Rate at which weights shrink, relative to the step size.
    threshold
        Cosines below this over the root of the dimension count as those of weights whose length does not matter.
    decay_ratio
        How much of the decay such weights get.
    nesterov
        Whether to look one step of the momentum ahead.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    # eq. adamp-step
    m = [beta1 * a + (1 - beta1) * g for a, g in zip(state.m, grads, strict=True)]
    v = [beta2 * a + (1 - beta2) * g * g for a, g in zip(state.v, grads, strict=True)]
    ahead = m
    if nesterov:
        ahead = [beta1 * a + (1 - beta1) * g for a, g in zip(m, grads, strict=True)]
    roots = [xp.sqrt(b / (1 - beta2**t)) + eps for b in v]
    steps = [a / root for a, root in zip(ahead, roots, strict=True)]

    decay, rate = lr * weight_decay, lr / (1 - beta1**t)
    hyper = {
        "threshold": threshold,
        "eps": eps,
        "decay": decay,
        "decay_ratio": decay_ratio,
    }
    moved = [
        _projected(*tensors, **hyper)
        for tensors in zip(params, grads, steps, strict=True)
    ]
    return [kept - rate * q for kept, q in moved], AdamState(t, m, v)


@checked
def sgdp_update(
    params: Arrays,
    grads: Arrays,
    state: AdamState,
    *,
    lr: PositiveFloat = 0.1,
    momentum: Decay = 0.0,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
    threshold: NonNegativeFloat = 0.1,
    decay_ratio: Fraction = 0.1,
    nesterov: bool = False,
) -> tuple[Arrays, AdamState]:
    """Take one step of SGDP.

    Parameters
    ----------
    momentum
        Weight of the gradients before.
    eps
        Added to norms; the least norm in a cosine.

    Returns
    -------
    params
    state
    """
    # eq. adamp-sgdp
    m = [momentum * a + g for a, g in zip(state.m, grads, strict=True)]
    steps = m
    if nesterov:
        steps = [momentum * a + g for a, g in zip(m, grads, strict=True)]
    decay = lr * weight_decay / (1 - momentum)
    hyper = {
        "threshold": threshold,
        "eps": eps,
        "decay": decay,
        "decay_ratio": decay_ratio,
    }
    moved = [
        _projected(*tensors, **hyper)
        for tensors in zip(params, grads, steps, strict=True)
    ]
    params = [kept - lr * q for kept, q in moved]
    return params, state._replace(m=m)
