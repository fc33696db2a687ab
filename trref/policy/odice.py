r"""ODICE: a value function whose backward gradient may not work against its forward one.

Distribution correction estimation learns a value function from data alone: a policy that is best for the return less
:math:`\alpha D_f(d^\pi \| d^D)` follows from a convex problem in V, whose practical form is

.. math::
    :label: odice-vdice

    L(V) = (1-\lambda)\, E_D[V(s)] + \lambda\, E_D[f^*(e)], \qquad e = r + \gamma (1-d)\, V(s') - V(s)

with d = 1 where the episode ends, and the conjugate of :math:`f(x) = (x-1)^2` over :math:`x \ge 0`,

.. math::
    :label: odice-conjugate

    f^*(y) = y\,\omega - (\omega-1)^2, \qquad \omega = \max\Big( \frac y2 + 1,\, 0 \Big), \qquad
    \frac{d f^*}{dy} = \omega ,

or of :math:`f(x) = x \log x`, the reverse divergence (``divergence="reverse_kl"``), which leaves no transition out,

.. math::
    :label: odice-reverse

    f^*(y) = \omega = e^{y-1}, \qquad \frac{d f^*}{dy} = \omega,

here with a straight line above y = 80, where the exponential would leave the range of numbers.

Its gradient has a part through V(s), *forward*, and one through V(s'), *backward*, that often cancel. ODICE takes each
with a target network :math:`\bar V` in the other's place,

.. math::
    :label: odice-parts

    L_f = \lambda\, E_D\, f^*\big( r + \gamma (1-d) \bar V(s') - V(s) \big), \qquad
    L_b = \lambda\, \eta\, E_D\, f^*\big( r + \gamma (1-d) V(s') - \bar V(s) \big),

and of the backward gradient :math:`g_b = \nabla L_b` only what is orthogonal to the forward one:

.. math::
    :label: odice-gradient

    g = (1-\lambda)\, \nabla E_D V + g_f + g_b - c\, g_f, \qquad
    c = \frac{\langle g_f, g_b \rangle}{\max(\|g_f\|^2, 10^{-10})},

with gradients of the whole batch in all parameters. It is the gradient of

.. math::
    :label: odice-loss

    (1-\lambda)\, E_D V + (1 - c)\, L_f + L_b

where the *overlap* c is held constant. With :math:`\eta = 0` it is the semi-gradient. The projection leaves the
decrease of the forward loss as it is, :math:`\|g_f\|^2` for each unit step. The policy clones the data with weights
from the forward residual,

.. math::
    :label: odice-weight

    w = \min\{ \max(e, 0),\, 100 \} \quad \text{or} \quad w = \omega(e) = \frac{d f^*}{d e},

the first in the code, the second from the derivation:

.. math::
    :label: odice-cloning

    -\frac1N \sum_n w_n \log\pi_\theta(a_n|s_n), \qquad w \text{ constant.}

The target follows slowly, :math:`\bar\theta \leftarrow \bar\theta + 0.005\, (\theta - \bar\theta)` after each step.

====================  ==============================
:math:`\lambda`       `forward_weight`
:math:`\eta`          `backward_weight`
:math:`\bar V`        `value` at `target_theta`
:math:`d`             `terminated`
====================  ==============================

Where all residuals are below -2 the forward gradient of the squared distance is 0, and c with it.

**Where implementations differ.** The code's weight is 0 where the derivation's is not: residuals settle near
:math:`2 ((1-\lambda)/\lambda - 1)`, below 0 for :math:`\lambda > 1/2`, so that with small rewards it is 0 everywhere
and no policy comes out. The code averages two networks in the loss and takes the smaller one as the target. A
projection sample by sample is another method.

**Provenance.** Confirmed by the authors' code: the practical form, both parts with their targets, the projection, the
weight, and the defaults. The derivation of the form is from memory of the literature, with it the second weight and
the reverse divergence.

Mao, Xu, Zhan, Zhang and Zhang, *ODICE: Revealing the Mystery of Distribution Correction Estimation via
Orthogonal-gradient Update*, 2024, arXiv:2402.00348.
"""

from typing import Literal

from trref.backend import xp
from trref.problems.protocols import ValueFunction
from trref.signature import (
    D,
    Decay,
    LogProb,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    OpenFraction,
    P,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)

Divergence = Literal["chi_square", "reverse_kl"]
LARGEST = 80.0  # exponent


def _conjugate(y, divergence):
    """The conjugate, and its derivative."""
    if divergence == "chi_square":
        omega = xp.maximum(y / 2 + 1, 0)
        return y * omega - (omega - 1) ** 2, omega  # eq. odice-conjugate
    near = xp.minimum(y, LARGEST)
    omega = xp.exp(near - 1)
    return omega * (1 + y - near), omega  # eq. odice-reverse


@checked
def conjugate(
    residual: Real[N], *, divergence: Divergence = "chi_square"
) -> tuple[Scalar, Real[N]]:
    """Mean of the conjugate of the divergence from the data.

    Parameters
    ----------
    residual
        Bellman residuals.
    divergence
        The squared distance of the density ratio from 1, or the reverse divergence.
    """
    value, omega = _conjugate(residual, divergence)
    return value.sum() / len(residual), omega / len(residual)


@checked
def vdice_loss(
    value: ValueFunction,
    theta: Real[P],
    states: Real[N, D],
    next_states: Real[N, D],
    reward: Real[N],
    terminated: Mask[N],
    *,
    forward_weight: OpenFraction = 0.6,
    discount: Decay = 0.99,
    divergence: Divergence = "chi_square",
) -> tuple[Scalar, Real[P]]:
    """The practical form with its true gradient.

    Parameters
    ----------
    value
        Such as `trref.problems.policies.ValueNetwork`.
    next_states
        The states that followed.
    forward_weight
        Of the residuals' term; the values have the rest.
    divergence
        From the data.
    """
    v, cache = value.forward(theta, states)
    v_next, next_cache = value.forward(theta, next_states)
    onward, lam, N = discount * (1 - terminated), forward_weight, len(reward)
    f, omega = _conjugate(reward + onward * v_next - v, divergence)
    L = ((1 - lam) * v.sum() + lam * f.sum()) / N  # eq. odice-vdice
    here = value.vjp(cache, ((1 - lam) - lam * omega) / N)
    return L, here + value.vjp(next_cache, lam * onward * omega / N)


def _parts(
    value,
    theta,
    target_theta,
    states,
    next_states,
    reward,
    terminated,
    discount,
    divergence,
):
    """Values with the cache, conjugates and derivatives of both residuals, and what the next value counts."""
    v, cache = value.forward(theta, states)
    v_next, next_cache = value.forward(theta, next_states)
    onward = discount * (1 - terminated)
    old_v, old_next = (value.forward(target_theta, x)[0] for x in (states, next_states))
    forward = _conjugate(reward + onward * old_next - v, divergence)
    backward = _conjugate(reward + onward * v_next - old_v, divergence)
    return v, cache, next_cache, forward, backward, onward


def _gradients(value, parts, forward_weight, backward_weight):
    """Forward and backward gradient."""
    _, cache, next_cache, (_, omega_f), (_, omega_b), onward = parts
    scale = forward_weight / len(onward)
    g_f = value.vjp(cache, -scale * omega_f)
    g_b = value.vjp(next_cache, scale * backward_weight * onward * omega_b)
    return g_f, g_b


@checked
def overlap(
    value: ValueFunction,
    theta: Real[P],
    target_theta: Real[P],
    states: Real[N, D],
    next_states: Real[N, D],
    reward: Real[N],
    terminated: Mask[N],
    *,
    forward_weight: OpenFraction = 0.6,
    backward_weight: NonNegativeFloat = 1.0,
    discount: Decay = 0.99,
    divergence: Divergence = "chi_square",
) -> Scalar:
    """How many times the forward gradient is in the backward one.

    Parameters
    ----------
    target_theta
        Parameters of the target network.
    backward_weight
        Of the backward part.
    divergence
        From the data.
    """
    data = states, next_states, reward, terminated, discount, divergence
    parts = _parts(value, theta, target_theta, *data)
    g_f, g_b = _gradients(value, parts, forward_weight, backward_weight)
    # eq. odice-gradient
    return xp.asarray((g_f @ g_b) / xp.maximum(g_f @ g_f, 1e-10))


@checked
def odice_loss(
    value: ValueFunction,
    theta: Real[P],
    target_theta: Real[P],
    states: Real[N, D],
    next_states: Real[N, D],
    reward: Real[N],
    terminated: Mask[N],
    *,
    forward_weight: OpenFraction = 0.6,
    backward_weight: NonNegativeFloat = 1.0,
    discount: Decay = 0.99,
    divergence: Divergence = "chi_square",
    overlap: Real[()] | None = None,
) -> tuple[Scalar, Real[P]]:
    """The loss whose gradient is the orthogonal one.

    Parameters
    ----------
    divergence
        From the data.
    overlap
        Held constant; that of the function of this name if None.
    """
    data = states, next_states, reward, terminated, discount, divergence
    parts = _parts(value, theta, target_theta, *data)
    v, cache, _, (f_f, _), (f_b, _), _ = parts
    g_f, g_b = _gradients(value, parts, forward_weight, backward_weight)
    c = overlap
    if c is None:
        c = (g_f @ g_b) / xp.maximum(g_f @ g_f, 1e-10)
    N, lam = len(reward), forward_weight
    # eq. odice-parts
    L_f, L_b = lam * f_f.sum() / N, lam * backward_weight * f_b.sum() / N
    L = (1 - lam) * v.sum() / N + (1 - c) * L_f + L_b  # eq. odice-loss
    held = value.vjp(cache, xp.full_like(v, (1 - lam) / N))
    return L, held + (1 - c) * g_f + g_b


@checked
def extraction_weight(
    residual: Real[N],
    *,
    form: Literal["code", "derived"] = "code",
    cap: PositiveFloat = 100.0,
    divergence: Divergence = "chi_square",
) -> NonNegative[N]:
    """Weight of each transition in the policy.

    Parameters
    ----------
    residual
        The forward residual.
    form
        Of the weight.
    cap
        Largest weight of the code's form.
    divergence
        From the data; of the derived form.
    """
    # eq. odice-weight
    if form == "code":
        return xp.clip(residual, 0, cap)
    return _conjugate(residual, divergence)[1]


@checked
def cloning_loss(
    log_prob: LogProb[N], weight: NonNegative[N]
) -> tuple[Scalar, Real[N]]:
    """Weighted behaviour cloning.

    Parameters
    ----------
    log_prob
        Of the actions in the data.
    """
    N = len(log_prob)
    return -(weight * log_prob).sum() / N, -weight / N  # eq. odice-cloning
