r"""Projected gradient ascent on the input (PGD), and its single step (FGSM).

How much can a loss :math:`\ell` rise when no pixel of :math:`x` moves by more than :math:`r`? Where the loss is
linearised the answer is a corner of the ball: each pixel goes as far as it may, in the direction of its derivative's
sign. That is the *fast gradient sign method*, cut to the box of valid pixels,

.. math::
    :label: pgd-fgsm

    x' = \Pi_{[l, h]}\big(x + r\, \mathrm{sign}\, \nabla_x \ell(x)\big),

and for a linear loss nothing is worse. For others, many short steps of length :math:`\alpha` find worse points. After
each, the point is put back into the ball around :math:`x` and into the box,

.. math::
    :label: pgd-projection

    \Pi(y) = \Pi_{[l, h]}\big(\Pi_{[x - r,\, x + r]}(y)\big),

which is the nearest point of their intersection, for :math:`x` is in the box and every coordinate is on its own. From
a start :math:`y`, drawn at random within the ball or :math:`x` itself,

.. math::
    :label: pgd-step

    x^{0} = \Pi(y), \qquad
    x^{k+1} = \Pi\big(x^{k} + \alpha\, \mathrm{sign}\, \nabla_x \ell(x^{k})\big).

The last point is the adversarial example; *adversarial training* takes the gradient of the loss in the weights there,
with the example held constant. Where the derivative of a pixel is 0, it stays. Rows do not see each other: an attack on
many inputs is as many attacks.

=====================  ==================
:math:`\ell`           `score_and_grad`
:math:`r`              `radius`
:math:`\alpha`         `lr`
:math:`l, h`           `low, high`
=====================  ==================

**Where implementations differ.** The authors' code puts the random start into the ball but not into the box: its first
gradient is taken outside wherever a pixel is near the end of its range. Short code leaves out the box altogether. Who
steps along the gradient itself instead of its sign solves the same problem, with another step for every input.

**Provenance.** Confirmed in the authors' code (MadryLab/mnist_challenge, whose radius 0.3, step 0.01 and 40 steps are
the defaults here) and in torchattacks; the single step is by Goodfellow, Shlens and Szegedy (*Explaining and Harnessing
Adversarial Examples*, 2014, arXiv:1412.6572).

Madry, Makelov, Schmidt, Tsipras and Vladu, *Towards Deep Learning Models Resistant to Adversarial Attacks*, 2017,
arXiv:1706.06083.
"""

from collections.abc import Callable

from trref import validate
from trref.backend import xp
from trref.signature import (
    K1,
    D,
    FiniteFloat,
    N,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)


def in_the_box(x, low, high, **_):
    """A box that is empty, or x outside of it by more than rounding."""
    if not low < high:
        raise ValueError(f"low must be less than high, not {low:g} and {high:g}")
    room = 1e-5 * (high - low)
    inside = lambda: (x.min() >= low - room) & (x.max() <= high + room)  # noqa: E731
    return [(inside, f"x must lie between low = {low:g} and high = {high:g}")]


@checked(also=in_the_box)
def fgsm(
    score_and_grad: Callable,
    x: Real[N, D],
    *,
    radius: NonNegativeFloat = 0.3,
    low: FiniteFloat = 0.0,
    high: FiniteFloat = 1.0,
) -> Real[N, D]:
    """One step to a corner of the ball: the worst point of the linearised loss.

    Parameters
    ----------
    score_and_grad
        ``score_and_grad(x) -> (values (N,), gradients (N, D))``, what is to be raised in each row, such as
        `trref.problems.rows.RowLoss`.
    x
        Inputs, one a row.
    radius
        Most that a coordinate may move.
    low, high
        The range of a coordinate.
    """
    g = validate.rows(score_and_grad, x)[1]
    return xp.clip(x + radius * xp.sign(g), low, high)  # eq. pgd-fgsm


@checked(also=in_the_box)
def pgd_path(
    score_and_grad: Callable,
    x: Real[N, D],
    start: Real[N, D],
    *,
    radius: NonNegativeFloat = 0.3,
    lr: PositiveFloat = 0.01,
    steps: PositiveInt = 40,
    low: FiniteFloat = 0.0,
    high: FiniteFloat = 1.0,
) -> Real[K1, N, D]:
    """All points on the way of projected gradient ascent, K = `steps`, the projected start first.

    Parameters
    ----------
    start
        Such as x plus uniform noise, or x itself.
    """
    point = _project(start, x, radius, low, high)
    path = [point]
    for _ in range(steps):
        g = validate.rows(score_and_grad, point)[1]
        # eq. pgd-step
        point = _project(point + lr * xp.sign(g), x, radius, low, high)
        path.append(point)
    return xp.stack(path)


def _project(y, x, radius, low, high):
    # eq. pgd-projection
    return xp.clip(xp.clip(y, x - radius, x + radius), low, high)


@checked(also=in_the_box)
def pgd(
    score_and_grad: Callable,
    x: Real[N, D],
    start: Real[N, D],
    *,
    radius: NonNegativeFloat = 0.3,
    lr: PositiveFloat = 0.01,
    steps: PositiveInt = 40,
    low: FiniteFloat = 0.0,
    high: FiniteFloat = 1.0,
) -> Real[N, D]:
    """The end of that path: the adversarial examples."""
    how = {"radius": radius, "lr": lr, "steps": steps, "low": low, "high": high}
    return pgd_path.unchecked(score_and_grad, x, start, **how)[-1]
