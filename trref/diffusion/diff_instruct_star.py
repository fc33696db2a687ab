r"""Diff-Instruct* (DI*): a one-step generator for a reward, held by a distance of scores in the place of a KL.

A generator turns noise into a sample in one step, :math:`x_0 = g_\theta(z)`. It is to earn a reward R, and its law is
to stay near that of a reference diffusion model. The distance is taken between the scores of the noised laws,
:math:`x_t = \alpha x_0 + \sigma\varepsilon`, on samples of the generator whose law is held constant:

.. math::

    \mathcal D = \int w_t\; E_{x_t \sim \mathrm{sg}[p_{\theta,t}]}\, d(s_{\theta,t}(x_t) - s_{ref,t}(x_t))\; \mathrm dt

.. math::
    :label: diff-instruct-star-distance

    d(y) = \sqrt{\|y\|^2 + c^2} - c, \quad d'(y) = \frac{y}{\sqrt{\|y\|^2 + c^2}}, \qquad \text{or} \quad
    d(y) = \|y\|^2, \quad d'(y) = 2y .

The score of the generator's law depends on :math:`\theta` in a way that nobody can differentiate. But the gradient of
the distance is that of another loss (:mod:`trref.diffusion.score_projection`), which asks for values of an auxiliary
score :math:`s_\psi` that was fitted to samples of the generator. With

.. math::
    :label: diff-instruct-star-gap

    y = s_\psi(x_t) - s_{ref}(x_t)

it is, the reward included,

.. math::
    :label: diff-instruct-star-objective

    L = \frac1N \sum_n \Big[ -\alpha_{rew} R(x_0) - w\, d'(y)^\top r \Big]_n, \qquad
    r = s_\psi(x_t) + \frac{x_t - \alpha x_0}{\sigma^2} = s_\psi(x_t) + \frac\varepsilon\sigma,

where the parameters of the scores are held constant and :math:`x_t` carries the gradient,

.. math::
    :label: diff-instruct-star-gradient

    \frac{\partial L}{\partial x_0} = -\frac1N \Big[ \alpha_{rew} \nabla R + w\, \alpha \Big( (H_\psi - H_{ref})^\top
    u + H_\psi^\top d' \Big) \Big], \qquad u = \nabla d'(y)\, r,

with the Jacobians H of the scores and, for the first distance with :math:`n = \sqrt{\|y\|^2 + c^2}`,
:math:`\nabla d' = (I - yy^\top/n^2)/n`. The predecessor, Diff-Instruct, descends the KL divergence of the noised laws:

.. math::
    :label: diff-instruct-star-kl

    \frac{\partial L_{KL}}{\partial x_0} = \frac{w\, \alpha}{N}\, \mathrm{sg}[y] .

Models are predictors of noise, of which :math:`-1/\sigma` is the score. The auxiliary one is trained by
:func:`trref.diffusion.score_matching.noise_matching` on the generator's samples, a few steps for each of the
generator's. A reference with guidance, :math:`s_u + \omega(s_c - s_u)`, stands for a reward on the class.

========================  =================
:math:`s_\psi`            of `model`
:math:`s_{ref}`           of `ref_model`
:math:`c`                 `huber`
:math:`w`                 `time_weight`
:math:`\alpha_{rew}`      `reward_weight`
========================  =================

The force of the first distance is bounded: a linear reward that is stronger sends the generator to infinity.

**Where implementations differ.** SiD's released loss is, for squared distances, that of denoisers
:math:`D = (x_t + \sigma^2 s)/\alpha`, :math:`(D_{ref} - D_\psi)^\top [(D_{ref} - x_0) - a (D_{ref} - D_\psi)]`; with
:math:`a = 1` it is this one up to :math:`2\alpha^2/\sigma^4`, with :math:`a = 1/2` that of a law that moves. SiD's
trainer has 1.2 by default, which belongs to no divergence, and divides each sample by its mean
:math:`|x_0 - D_{ref}|`. Diff-Instruct's code works with denoisers, a factor of :math:`\sigma^2/\alpha^2`.

**Provenance.** The identity and the projection behind it were confirmed in a later paper that restates and proves them,
the squared form in the code of SiD-LSG, the KL form in the predecessor's; c and w were not, and the gradient is derived
and checked.

Luo et al., *Diff-Instruct\*: Towards Human-Preferred One-step Text-to-image Generative Models*, 2024, arXiv:2410.20898.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from trref import validate
from trref.backend import xp
from trref.problems.protocols import DenoisingModel
from trref.signature import (
    D,
    Fraction,
    N,
    Real,
    Scalar,
    checked,
)

Distance = Literal["pseudo_huber", "squared"]
Level = Annotated[float, "[1e-3, 1e3]"]
Weight = Annotated[float, "[0, 1e9]"]


def _asked(name, value, x):
    """What a model gave, if it is like x."""
    validate.returned(name, value, x.shape, finite=True)
    if value.dtype != x.dtype:
        raise TypeError(f"{name} returns {value.dtype} at {x.dtype} points")
    return value


def _noised(x0, noise, t, alpha, sigma):
    """Noisy samples, and their times."""
    return alpha * x0 + sigma * noise, xp.zeros_like(x0[:, 0]) + t


def _slope(y, huber, distance):
    """The derivative of the distance."""
    if distance == "squared":
        return 2 * y
    return y / xp.sqrt((y * y).sum(1, keepdims=True) + huber * huber)


def _curved(y, v, huber, distance):
    """The second derivative of the distance, times v."""
    if distance == "squared":
        return 2 * v
    n = xp.sqrt((y * y).sum(1, keepdims=True) + huber * huber)
    return (v - y * (y * v).sum(1, keepdims=True) / n**2) / n


@checked
def score_distance(
    gap: Real[N, D], *, huber: Level = 0.5, distance: Distance = "pseudo_huber"
) -> tuple[Scalar, Real[N, D]]:
    """Mean distance of two scores.

    Parameters
    ----------
    gap
        Their difference at each sample.
    huber
        Where the pseudo-Huber distance turns from a square into a length.
    distance
        Which one.
    """
    N, slope = len(gap), _slope(gap, huber, distance)
    # eq. diff-instruct-star-distance
    square = (gap * gap).sum(1)
    if distance == "pseudo_huber":
        # sqrt(square + c²) - c, which does not cancel
        square = square / (xp.sqrt(square + huber * huber) + huber)
    return square.sum() / N, slope / N


@checked
def score_gap(
    model: DenoisingModel,
    ref_model: DenoisingModel,
    x0: Real[N, D],
    noise: Real[N, D],
    *,
    t: Fraction = 0.5,
    alpha: Level = 0.8,
    sigma: Level = 0.6,
) -> Real[N, D]:
    """Difference of the generator's score and the reference's on noisy samples.

    Parameters
    ----------
    model
        The auxiliary predictor of noise, which was fitted to the generator's samples.
    ref_model
        That of the reference.
    x0
        Samples of the generator.
    noise
        Standard normal noise, drawn for each sample.
    t
        The noise time that the models see.
    alpha, sigma
        Levels of signal and noise at that time.
    """
    x, times = _noised(x0, noise, t, alpha, sigma)
    own = _asked("model", model(x, times), x)
    ref = _asked("ref_model", ref_model(x, times), x)
    return (ref - own) / sigma  # eq. diff-instruct-star-gap


@checked
def di_star(
    model: DenoisingModel,
    ref_model: DenoisingModel,
    x0: Real[N, D],
    noise: Real[N, D],
    reward: Callable,
    *,
    t: Fraction = 0.5,
    alpha: Level = 0.8,
    sigma: Level = 0.6,
    huber: Level = 0.5,
    distance: Distance = "pseudo_huber",
    time_weight: Weight = 1.0,
    reward_weight: Weight = 1.0,
) -> tuple[Scalar, Real[N, D]]:
    """DI* loss at one noise time.

    Parameters
    ----------
    reward
        ``reward(x (N, D)) -> (values (N), gradients (N, D))``.
    time_weight
        Weight of this noise time.
    reward_weight
        Weight of the reward; 0 is distillation.

    Returns
    -------
    loss
    gradient
        With respect to `x0`.
    """
    N = len(x0)
    x, times = _noised(x0, noise, t, alpha, sigma)
    own = _asked("model", model(x, times), x)
    ref = _asked("ref_model", ref_model(x, times), x)
    earned, d_earned = validate.rows(reward, x0, "reward")
    # eq. diff-instruct-star-objective
    y, r = (ref - own) / sigma, (noise - own) / sigma
    slope = _slope(y, huber, distance)
    L = -(reward_weight * earned + time_weight * (slope * r).sum(1)).sum() / N
    # eq. diff-instruct-star-gradient
    u = _curved(y, r, huber, distance)
    pulled = _asked("model.vjp", model.vjp(x, times, u + slope), x)
    ref_pulled = _asked("ref_model.vjp", ref_model.vjp(x, times, u), x)
    moved = time_weight * alpha / sigma * (pulled - ref_pulled)
    return L, (moved - reward_weight * d_earned) / N


@checked
def diff_instruct(
    model: DenoisingModel,
    ref_model: DenoisingModel,
    x0: Real[N, D],
    noise: Real[N, D],
    *,
    t: Fraction = 0.5,
    alpha: Level = 0.8,
    sigma: Level = 0.6,
    time_weight: Weight = 1.0,
    gap: Real[N, D] | None = None,
) -> tuple[Scalar, Real[N, D]]:
    """Diff-Instruct's loss at one noise time, whose gradient is that of the KL divergence; its value means nothing.

    Parameters
    ----------
    gap
        The `score_gap`, if it is known.

    Returns
    -------
    loss
    gradient
        With respect to `x0`.
    """
    if gap is None:
        gap = score_gap.unchecked(
            model, ref_model, x0, noise, t=t, alpha=alpha, sigma=sigma
        )
    # eq. diff-instruct-star-kl
    slope = time_weight * alpha / len(x0) * gap
    return (slope * x0).sum(), slope
