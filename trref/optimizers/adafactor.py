r"""Adafactor: a second moment of rows and columns, a clipped update, and steps relative to the weights.

The second moment of a matrix is kept as the means of its rows and its columns, and rebuilt as the product of the two.
With :math:`A = G_t^2 + \varepsilon_1`,

.. math::
    :label: adafactor-moments

    R_t = \hat\beta_t R_{t-1} + (1 - \hat\beta_t)\, \underset{\text{columns}}{\mathrm{mean}} A, \quad
    C_t = \hat\beta_t C_{t-1} + (1 - \hat\beta_t)\, \underset{\text{rows}}{\mathrm{mean}} A, \quad
    \hat\beta_t = \min(1 - t^{-c}, b)

.. math::
    :label: adafactor-product

    \hat V_t = \frac{R_t C_t^\top}{\mathrm{mean}\, R_t} ,

whose rows and columns have the means :math:`R_t` and :math:`C_t`, and which is exact where A has rank one. A vector
keeps its whole moment; of arrays with more axes the last two are factored. The decay rises to b (1, no bound, in the
paper), and begins at 0, so that nothing needs correction. An old moment that is too small would make a long step: the
update is cut at a root mean square of d,

.. math::
    :label: adafactor-clip

    U_t = \frac{G_t}{\sqrt{\hat V_t}}, \qquad \hat U_t = \frac{U_t}{\max(1, \mathrm{rms}(U_t)/d)} ,

and the step is relative to the weights, with a rate that falls:

.. math::
    :label: adafactor-rate

    \alpha_t = \max(\varepsilon_2, \mathrm{rms}(X_{t-1}))\, \rho_t, \qquad \rho_t = \min(\eta, 1/\sqrt t)
    \quad\text{or, to warm up,}\quad \min(10^{-6} t, 1/\sqrt t)

.. math::
    :label: adafactor-step

    M_t = \beta_1 M_{t-1} + (1 - \beta_1)\, \alpha_t \hat U_t, \qquad X_t = (1 - \alpha_t \lambda)\, X_{t-1} - M_t .

The paper has no momentum, :math:`\beta_1 = 0`. Not relative, :math:`\rho_t = \eta`; not scaled, :math:`\alpha_t =
\rho_t`. The vision variant has :math:`\beta_1 = 0.9`, b = 0.999, and neither. Without momentum and decay no step is
longer than :math:`d\, \alpha_t` in the root mean square. Weights that are all 0 move by :math:`\varepsilon_2 \rho_t`;
zero gradients move nothing.

=====================================  ==========================
:math:`\eta`                           `lr`
:math:`\varepsilon_1, \varepsilon_2`   `eps1, eps2`
c, b                                   `decay, longest`
d                                      `clip`
:math:`\lambda`                        `weight_decay`
=====================================  ==========================

**Where implementations differ.** PyTorch's decay shrinks by :math:`\eta \lambda`, not :math:`\alpha_t \lambda`; its
:math:`\varepsilon_1` bounds the moment from below in the place of being added. Keras applies :math:`1/\sqrt t` also
where it is asked not to. optax adds the decay after all scaling, so that weights shrink by :math:`\lambda` a step
whatever the rate. All with momentum have :math:`\alpha_t` inside of the average.

**Provenance.** Confirmed by PyTorch (with its own decay and bounds) and pytorch_optimizer, with which this one agrees;
the papers' texts were not read again.

Shazeer and Stern, *Adafactor: Adaptive Learning Rates with Sublinear Memory Cost*, 2018, arXiv:1804.04235; Zhai et al.,
*Scaling Vision Transformers*, 2021, arXiv:2106.04560.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    Arrays,
    Decay,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    checked,
)


class AdafactorState(NamedTuple):
    """Number of steps, the second moments (of a matrix those of rows and columns, else its own), and the momentum."""

    step: int
    moments: list
    m: Arrays


def init(params: Arrays) -> AdafactorState:
    """Return the state before the first step: all zero."""
    moments = []
    for p in params:
        zeros = xp.zeros_like(p)
        factored = zeros.ndim > 1
        moments.append([zeros.sum(-1), zeros.sum(-2)] if factored else [zeros])
    return AdafactorState(0, moments, [xp.zeros_like(p) for p in params])


def _rms(x):
    return xp.sqrt((x * x).mean())


def _rebuilt(moments):
    """The second moment, from those of rows and columns if it is a matrix's."""
    if len(moments) == 1:
        return moments[0]
    rows, columns = moments
    # eq. adafactor-product
    share = rows / rows.mean(-1, keepdims=True)
    return share[..., None] * columns[..., None, :]


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: AdafactorState,
    *,
    lr: PositiveFloat = 1e-2,
    beta1: Decay = 0.0,
    decay: PositiveFloat = 0.8,
    longest: Fraction = 1.0,
    eps1: PositiveFloat = 1e-30,
    eps2: NonNegativeFloat = 1e-3,
    clip: PositiveFloat = 1.0,
    weight_decay: NonNegativeFloat = 0.0,
    relative: bool = True,
    warm_up: bool = False,
    scaled: bool = True,
) -> tuple[Arrays, AdafactorState]:
    """Take one step of Adafactor.

    Parameters
    ----------
    lr
        The largest relative step.
    beta1
        Decay of the momentum; 0 for none.
    decay
        How fast the second moment's decay rises.
    longest
        Its bound.
    eps1
        Added to squared gradients.
    eps2
        The least size that weights are taken to have.
    clip
        Root mean square at which updates are cut.
    weight_decay
        Rate at which weights shrink, relative to the step size.
    relative
        Whether the rate falls as one over the root of the step.
    warm_up
        Whether it rises from 0 first; of use if it falls.
    scaled
        Whether the step is relative to the size of the weights.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    beta2 = min(1 - t**-decay, longest)
    # eq. adafactor-moments
    moments = []
    for old, g in zip(state.moments, grads, strict=True):
        A = g * g + eps1
        new = [A.mean(-1), A.mean(-2)] if g.ndim > 1 else [A]
        pairs = zip(old, new, strict=True)
        moments.append([beta2 * a + (1 - beta2) * b for a, b in pairs])

    # eq. adafactor-clip
    raw = [g / xp.sqrt(_rebuilt(v)) for g, v in zip(grads, moments, strict=True)]
    cut = [u / xp.maximum(_rms(u) / clip, 1) for u in raw]

    # eq. adafactor-rate
    rho = min(1e-6 * t if warm_up else lr, t**-0.5) if relative else lr
    sizes = [xp.maximum(_rms(p), eps2) if scaled else 1.0 for p in params]
    rates = [rho * size for size in sizes]

    # eq. adafactor-step
    steps = [alpha * u for alpha, u in zip(rates, cut, strict=True)]
    m = [beta1 * a + (1 - beta1) * b for a, b in zip(state.m, steps, strict=True)]
    kept = [1 - alpha * weight_decay for alpha in rates]
    params = [k * p - a for k, p, a in zip(kept, params, m, strict=True)]

    return params, AdafactorState(t, moments, m)
