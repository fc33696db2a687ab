r"""TRAM: sharpness-aware minimisation whose radius is how far the predictions have moved.

SAM's radius is set by hand. TRAM takes at each step a divergence of predictions for it: where the function hardly moves
the neighbourhood is small, where it moves much it is large. For N samples and C classes

.. math::
    :label: tram-divergence

    \mathrm{KL}(p \,\|\, q) = \frac1N \sum_i \sum_c p_{ic} \log \frac{p_{ic}}{q_{ic}} ,

from the predictions at an **anchor**, the weights of the step before or the pre-trained ones :math:`\theta_0`,

.. math::
    :label: tram-anchored

    d_\theta = \mathrm{KL}\bigl( p(\cdot|x, \theta_{anchor}) \,\|\, p(\cdot|x, \theta) \bigr),

or from those at **noised** inputs, with one draw :math:`z \sim \mathcal N(0, \sigma^2)` a step,

.. math::
    :label: tram-noised

    d_x = \mathrm{KL}\bigl( p(\cdot|x + z, \theta) \,\|\, p(\cdot|x, \theta) \bigr).

The ascent is that of :mod:`trref.sharpness.asam` without an offset, with the number d for its radius,

.. math::
    :label: tram-perturbation

    \epsilon = d\, \frac{\theta^2 \odot g}{\|\theta \odot g\|_2}, \qquad g = \nabla L(\theta),
    \qquad \epsilon = 0 \text{ where } \theta \odot g = 0,

so that :math:`\|\epsilon / \theta\|_2 = d`; the gradient, with :math:`\epsilon` and d held constant, is

.. math::
    :label: tram-gradient

    g_{TRAM} = \nabla L(\theta')\big|_{\theta' = \theta + \epsilon} .

**TRAM-Fisher** measures the ball by the diagonal Fisher matrix at noised inputs instead,

.. math::
    :label: tram-fisher

    \hat F = \mathrm{diag}\, \frac1N \sum_i \bigl( \nabla_\theta \log p(y_i | x_i + z_i, \theta) \bigr)^2, \qquad
    F = 1 + \eta \hat F ,

.. math::
    :label: tram-fisher-perturbation

    \epsilon_{usual} = \gamma\, \frac{F^{-1} g}{\sqrt{g^\top F^{-1} g}}, \qquad
    \epsilon_{printed} = \frac{F^{-1} g}{g^\top F^{-1} g} .

The usual form, of Fisher-SAM, has :math:`\epsilon^\top F \epsilon = \gamma^2`. The printed one rises by 1 to first
order whatever the scale of the loss, and so it grows without bound where the gradient vanishes.

A **trust region** adds the divergence to the loss, with the anchor's predictions held constant:

.. math::
    :label: tram-penalty

    L(\theta) + w\, d_\theta, \qquad \frac{\partial d_\theta}{\partial z} = \frac{p - p_{anchor}}{N} .

Two measures go with the experiments. The largest rise in a box, in per cent,

.. math::
    :label: tram-sharpness

    100\, \frac{\max_{y \in \mathcal C} L(\theta + y) - L(\theta)}{1 + L(\theta)}, \qquad
    \mathcal C = \bigl\{ y : |y_i| \le \varepsilon (|\theta_i| + 1) \bigr\},

is estimated from below, by steps along the sign of the gradient; and the similarity of two sets of features of the same
samples, their columns centred,

.. math::
    :label: tram-cka

    \mathrm{CKA}(X, Y) = \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F\, \|Y^\top Y\|_F} .

If the anchor is where we are, or without noise, d is 0 and the step is the base optimiser's: so is the first step with
the weights before as an anchor. Features that do not vary have similarity 0.

=====================  ==================
:math:`\theta`         `theta`
:math:`z`              `noise`
:math:`w`              `penalty_weight`
:math:`\varepsilon`    `box`
:math:`X, Y`           `x`, `y`
=====================  ==================

**Where implementations differ.** In the authors' code the ascent is :math:`d\, \theta^2 / \|\theta \odot g\|`: the
gradient is not multiplied in, so that the direction does not depend on the loss. Its divergence is a mean over classes,
too, and divided by the number of samples again.

**Provenance.** Confirmed in the full text (v2), the code's differences in the authors' repository
(tomsherborne/tram_optimizer). In the text the gradient in the Fisher matrix has lost its sign. The usual form and the
way in which the matrix is kept from zero are those of Fisher-SAM, from memory. A cap on d is ours: the paper assumes
that d is small, and with a far anchor it is not.

Sherborne, Saphra, Dasigi and Peng, *TRAM: Bridging Trust Regions and Sharpness Aware Minimization*, 2023,
arXiv:2310.03646.
"""

from collections.abc import Callable
from typing import Literal

from trref import validate
from trref.backend import xp
from trref.nn import heads
from trref.problems.protocols import ClassifyingLoss
from trref.sharpness.asam import worst_perturbation
from trref.sharpness.terms import direction
from trref.signature import (
    D,
    K,
    N,
    NonNegativeFloat,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


def _divergence(logits, other_logits):
    # eq. tram-divergence
    return heads.categorical_kl(logits, other_logits)[0].mean()


def _noised(loss, noise):
    shape = tuple(loss.X.shape)
    if noise.shape != shape:
        raise ValueError(f"noise must have shape {shape}, not {tuple(noise.shape)}")
    return loss.at(loss.X + noise)


@checked
def anchored_distance(loss: ClassifyingLoss, theta: Real[P], anchor: Real[P]) -> Scalar:
    """How far the predictions have moved from those at the anchor.

    Parameters
    ----------
    loss
        ``loss(theta) -> (loss, gradient)``, such as `trref.problems.networks.ClassifierLoss`.
    anchor
        The weights of the step before, or the pre-trained ones.
    """
    return _divergence(loss.logits(anchor), loss.logits(theta))  # eq. tram-anchored


@checked
def noised_distance(loss: ClassifyingLoss, theta: Real[P], noise: Real[N, D]) -> Scalar:
    """How far the predictions at noised inputs are from those at the inputs.

    Parameters
    ----------
    noise
        Added to the inputs; of standard deviation 0.1 in the paper.
    """
    noised = _noised(loss, noise)
    return _divergence(noised.logits(theta), loss.logits(theta))  # eq. tram-noised


def _ascent(loss, theta, distance, radius, cap):
    """The perturbation at a distance, or at the radius that is given in its place."""
    d = distance if radius is None else xp.asarray(radius, dtype=theta.dtype)
    d = d if cap is None else xp.minimum(d, cap)
    # eq. tram-perturbation
    return d * worst_perturbation.unchecked(loss, theta, rho=1.0, offset=0.0)


@checked
def anchored_perturbation(
    loss: ClassifyingLoss,
    theta: Real[P],
    anchor: Real[P],
    *,
    radius: NonNegativeFloat | None = None,
    cap: PositiveFloat | None = None,
) -> Real[P]:
    """The ascent to the distance from the anchor's predictions.

    Parameters
    ----------
    radius
        In the place of the distance, if given: ASAM.
    cap
        The distance counts up to this.
    """
    distance = anchored_distance.unchecked(loss, theta, anchor)
    return _ascent(loss, theta, distance, radius, cap)


@checked
def noised_perturbation(
    loss: ClassifyingLoss,
    theta: Real[P],
    noise: Real[N, D],
    *,
    radius: NonNegativeFloat | None = None,
    cap: PositiveFloat | None = None,
) -> Real[P]:
    """The ascent to the distance from the predictions at noised inputs."""
    distance = noised_distance.unchecked(loss, theta, noise)
    return _ascent(loss, theta, distance, radius, cap)


@checked
def anchored_gradient(
    loss: ClassifyingLoss,
    theta: Real[P],
    anchor: Real[P],
    *,
    radius: NonNegativeFloat | None = None,
    cap: PositiveFloat | None = None,
    perturbation: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """Loss and gradient at the point of the ascent: TRAM with an anchor.

    Parameters
    ----------
    perturbation
        Held constant by the gradient; the `anchored_perturbation` if None.
    """
    if perturbation is None:
        perturbation = anchored_perturbation.unchecked(
            loss, theta, anchor, radius=radius, cap=cap
        )
    # eq. tram-gradient
    return validate.loss_and_grad(loss, theta + perturbation, finite=True)


@checked
def noised_gradient(
    loss: ClassifyingLoss,
    theta: Real[P],
    noise: Real[N, D],
    *,
    radius: NonNegativeFloat | None = None,
    cap: PositiveFloat | None = None,
    perturbation: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """Loss and gradient at the point of the ascent: TRAM with noised inputs.

    Parameters
    ----------
    perturbation
        Held constant by the gradient; the `noised_perturbation` if None.
    """
    if perturbation is None:
        perturbation = noised_perturbation.unchecked(
            loss, theta, noise, radius=radius, cap=cap
        )
    # eq. tram-gradient
    return validate.loss_and_grad(loss, theta + perturbation, finite=True)


@checked
def fisher_perturbation(
    loss: ClassifyingLoss,
    theta: Real[P],
    noise: Real[N, D],
    *,
    gamma: PositiveFloat = 0.1,
    eta: NonNegativeFloat = 0.1,
    form: Literal["usual", "printed"] = "usual",
) -> Real[P]:
    """The ascent in a ball that is measured by the Fisher matrix.

    Parameters
    ----------
    gamma
        Radius of the ball, of the usual form.
    eta
        Weight of the Fisher matrix beside the identity.
    form
        Fisher-SAM's, or as the paper prints it.
    """
    _, g = validate.loss_and_grad(loss, theta, finite=True)
    _, slopes = _noised(loss, noise).each(theta)
    F = 1 + eta * (slopes * slopes).mean(0)  # eq. tram-fisher
    # eq. tram-fisher-perturbation
    root = xp.sqrt(F)
    unit = direction(g / root)
    if form == "usual":
        return gamma * unit / root
    rise = (g * unit / root).sum()
    return xp.where(rise > 0, unit / root / xp.where(rise > 0, rise, 1), 0)


@checked
def fisher_gradient(
    loss: ClassifyingLoss,
    theta: Real[P],
    noise: Real[N, D],
    *,
    gamma: PositiveFloat = 0.1,
    eta: NonNegativeFloat = 0.1,
    form: Literal["usual", "printed"] = "usual",
    perturbation: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """Loss and gradient at the point of the ascent: TRAM-Fisher.

    Parameters
    ----------
    perturbation
        Held constant by the gradient; the `fisher_perturbation` if None.
    """
    if perturbation is None:
        perturbation = fisher_perturbation.unchecked(
            loss, theta, noise, gamma=gamma, eta=eta, form=form
        )
    # eq. tram-gradient
    return validate.loss_and_grad(loss, theta + perturbation, finite=True)


@checked
def trust_region_loss(
    loss: ClassifyingLoss,
    theta: Real[P],
    anchor: Real[P],
    *,
    penalty_weight: NonNegativeFloat = 0.1,
) -> tuple[Scalar, Real[P]]:
    """The loss with the distance as a penalty, which TRAM replaces.

    Parameters
    ----------
    penalty_weight
        Weight of the distance; 0.1 in the paper.
    """
    value, g = validate.loss_and_grad(loss, theta, finite=True)
    kl, _, slope = heads.categorical_kl(loss.logits(anchor), loss.logits(theta))
    # eq. tram-penalty
    pull = loss.logits_vjp(theta, slope / len(slope))
    return value + penalty_weight * kl.mean(), g + penalty_weight * pull


@checked
def box_sharpness(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    box: PositiveFloat = 1e-3,
    steps: PositiveInt = 5,
) -> Scalar:
    """How far the loss rises in a box around the weights, in per cent, from below.

    Parameters
    ----------
    box
        Relative size of the box.
    steps
        Of the ascent, each as long as from the middle of the box to a corner; the highest point counts.
    """
    half = box * (abs(theta) + 1)
    here, g = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    moved, highest = xp.zeros_like(theta), here
    # eq. tram-sharpness
    for _ in range(steps):
        moved = xp.clip(moved + half * xp.sign(g), -half, half)
        value, g = validate.loss_and_grad(loss_and_grad, theta + moved, finite=True)
        highest = xp.maximum(highest, value)
    return 100 * (highest - here) / (1 + here)


@checked
def linear_cka(x: Real[N, D], y: Real[N, K]) -> Scalar:
    """How similar two sets of features of the same samples are, from 0 to 1.

    Parameters
    ----------
    x, y
        Features, a row a sample.
    """
    x, y = (a - a.mean(0) for a in (x, y))
    # eq. tram-cka
    cross, own = ((y.T @ x) ** 2).sum(), [((a.T @ a) ** 2).sum() for a in (x, y)]
    size = xp.sqrt(own[0]) * xp.sqrt(own[1])
    return xp.asarray(xp.where(size > 0, cross / xp.where(size > 0, size, 1), 0))
