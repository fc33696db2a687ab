r"""Lookahead: k steps forward, one step back.

Any rule runs :math:`k` steps from the slow weights :math:`\phi`, which then go a share :math:`\alpha` of the way, and
the fast weights :math:`\theta` begin again there. Noise of the fast weights reaches the slow ones only in part. Each
call is a step of the inner rule; here that is SGD with momentum, or Adam:

.. math::
    :label: lookahead-fast

    \theta_t = \text{inner}(\theta_{t-1}, g_t), \qquad \phi_0 = \theta_0 .

At the calls :math:`k, 2k, \dots`

.. math::
    :label: lookahead-slow

    \phi \leftarrow \phi + \alpha\, (\theta_t - \phi), \qquad \theta_t \leftarrow \phi .

What becomes of the inner rule's moments :math:`b` then is open. They are kept; or reset, with the count of steps, as at
the start; or pulled back as the weights are,

.. math::
    :label: lookahead-pullback

    b \leftarrow b_\phi + \alpha\, (b - b_\phi), \qquad b_\phi \leftarrow b, \qquad b_\phi = 0 \text{ at the start.}

The model to evaluate is :math:`\phi`, ``state.slow``; steps after the last synchronisation do not reach it. With
:math:`\alpha = 1` and moments that are kept it is the inner rule, with :math:`k = 1` and plain SGD a rate of
:math:`\alpha\eta`. Without noise, plain steps on a quadratic of curvature :math:`h` multiply :math:`\phi` by
:math:`1 - \alpha + \alpha (1 - \eta h)^k` in a cycle. With noise and :math:`a = 1 - \eta h`, SGD's weights have a
stationary variance of which the slow weights have the share

.. math::
    :label: lookahead-variance

    \frac{\alpha^2 (1 - a^{2k})}{\alpha^2 (1 - a^{2k}) + 2 \alpha (1 - \alpha) (1 - a^k)}
    = \frac{\alpha\, (1 + a^k)}{2 - \alpha\, (1 - a^k)} .

====================  ==========
:math:`\theta`        `params`
:math:`\eta`          `lr`
:math:`a`             `factors`
====================  ==========

**Where implementations differ.** pytorch_optimizer resets and pulls back only a buffer of SGD's name: with Adam inside
it keeps the moments whatever was asked for. PaddlePaddle once began the slow weights at zero.

**Provenance.** Confirmed by optax (kept and reset) and pytorch_optimizer (all three, with SGD); the variance is derived
here, and simulated.

Zhang, Lucas, Hinton and Ba, *Lookahead Optimizer: k steps forward, 1 step back*, 2019, arXiv:1907.08610.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.optimizers.adam import AdamState
from trref.optimizers.adam import update as adam_inner
from trref.optimizers.sgd import SgdState
from trref.optimizers.sgd import update as sgd_inner
from trref.signature import (
    Arrays,
    Decay,
    Fraction,
    N,
    NonNegative,
    PositiveFloat,
    PositiveInt,
    Prob,
    checked,
)


class LookaheadState(NamedTuple):
    """Calls, the inner rule's steps and moments, the slow weights, and the moments that go with them."""

    step: int
    inner: int
    m: Arrays
    v: Arrays
    slow: Arrays
    slow_m: Arrays
    slow_v: Arrays


def _zeros(arrays):
    return [xp.zeros_like(a) for a in arrays]


def init(params: Arrays) -> LookaheadState:
    """Return the state before the first step: slow weights at the parameters, moments zero."""
    m, v, slow_m, slow_v = (_zeros(params) for _ in range(4))
    return LookaheadState(0, 0, m, v, [xp.array(p) for p in params], slow_m, slow_v)


def _part_way(slow, fast, alpha):
    pairs = zip(slow, fast, strict=True)
    return [(1 - alpha) * a + alpha * b for a, b in pairs]


def _synchronised(fast, state, *, k, alpha, moments):
    """The weights and the state after a step of the inner rule."""
    if state.step % k:
        return fast, state
    # eq. lookahead-slow
    slow = _part_way(state.slow, fast, alpha)
    state = state._replace(slow=slow)

    if moments == "reset":
        state = state._replace(inner=0, m=_zeros(fast), v=_zeros(fast))
    elif moments == "pullback":
        # eq. lookahead-pullback
        m = _part_way(state.slow_m, state.m, alpha)
        v = _part_way(state.slow_v, state.v, alpha)
        state = state._replace(m=m, v=v, slow_m=m, slow_v=v)

    return slow, state


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: LookaheadState,
    *,
    lr: PositiveFloat = 0.1,
    momentum: Decay = 0.0,
    k: PositiveInt = 5,
    alpha: Fraction = 0.5,
    moments: Literal["keep", "reset", "pullback"] = "keep",
) -> tuple[Arrays, LookaheadState]:
    """Take one step of SGD inside of Lookahead.

    Parameters
    ----------
    params
        The fast weights.
    momentum
        Weight of the gradients before (heavy ball).
    k
        Steps of the inner rule from one synchronisation to the next.
    alpha
        Share of the way to the fast weights that the slow ones go.
    moments
        What becomes of the inner rule's moments at a synchronisation.

    Returns
    -------
    params
    state
    """
    # eq. lookahead-fast
    before = SgdState(state.inner, state.m)
    fast, inner = sgd_inner.unchecked(params, grads, before, lr=lr, momentum=momentum)

    after = state._replace(step=state.step + 1, inner=inner.step, m=inner.m)
    return _synchronised(fast, after, k=k, alpha=alpha, moments=moments)


@checked
def adam_update(
    params: Arrays,
    grads: Arrays,
    state: LookaheadState,
    *,
    lr: PositiveFloat = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: PositiveFloat = 1e-8,
    k: PositiveInt = 5,
    alpha: Fraction = 0.5,
    moments: Literal["keep", "reset", "pullback"] = "keep",
) -> tuple[Arrays, LookaheadState]:
    """Take one step of Adam inside of Lookahead.

    Parameters
    ----------
    beta1, beta2
        Decay of the moments.
    eps
        Added to the root.

    Returns
    -------
    params
    state
    """
    # eq. lookahead-fast
    before = AdamState(state.inner, state.m, state.v)
    fast, inner = adam_inner.unchecked(
        params, grads, before, lr=lr, beta1=beta1, beta2=beta2, eps=eps
    )

    step = state.step + 1
    after = state._replace(step=step, inner=inner.step, m=inner.m, v=inner.v)
    return _synchronised(fast, after, k=k, alpha=alpha, moments=moments)


@checked
def variance_share(
    factors: Prob[N], *, k: PositiveInt = 5, alpha: Fraction = 0.5
) -> NonNegative[N]:
    """Return the slow weights' share of the stationary variance of SGD.

    Parameters
    ----------
    factors
        What one step leaves of a distance: one minus rate times curvature.
    """
    left = factors**k
    return alpha * (1 + left) / (2 - alpha * (1 - left))  # eq. lookahead-variance
