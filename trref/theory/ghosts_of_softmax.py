r"""Ghosts of softmax: a step is safe within the circle that the nearest complex zero of the partition function leaves.

Along an update p of the parameters the logits of a sample move by :math:`z + t\, a` with the slopes :math:`a = J p`,
exactly in a linear model and to first order in any other. The cross-entropy on that line is

.. math::
    :label: ghosts-of-softmax-line-loss

    \ell(t) = -z_y - t\, a_y + \log F(t), \qquad F(t) = \sum_k e^{z_k + t a_k}

For real t it is smooth everywhere; for complex t the sum has zeros, where its logarithm has none, and the Taylor series
in t converges up to the nearest only:

.. math::
    :label: ghosts-of-softmax-radius

    \rho^* = \min \{ |t| : F(t) = 0 \}

For two classes with the gap :math:`\delta = z_1 - z_2` the zeros are known; for more, the true class and its strongest
rival give an estimate (which is no bound):

.. math::
    :label: ghosts-of-softmax-two-classes

    \rho^* = \frac{\sqrt{\delta^2 + \pi^2}}{|a_1 - a_2|}

For any number of classes all zeros lie beyond

.. math::
    :label: ghosts-of-softmax-bound

    \rho_a = \frac{\pi}{\max_k a_k - \min_k a_k} \le \rho^*,

and the smallest over a batch is safe for all its samples. The whole update is t = 1, so that in these units its length
is

.. math::
    :label: ghosts-of-softmax-normalised

    r = \frac1{\rho_a} = \frac{\max_k a_k - \min_k a_k}\pi

and what keeps it within the radius, or sets it to a share :math:`r_0` of it, is

.. math::
    :label: ghosts-of-softmax-clip

    \tilde p = \min\{1, r_0/r\}\, p

.. math::
    :label: ghosts-of-softmax-set

    \tilde p = (r_0/r)\, p

Logits divided by a temperature divide r by it. The Taylor coefficients of :math:`\log F` at 0 follow from those of F,
:math:`f_k = \sum_i p_i a_i^k / k!` with the softmax p of z:

.. math::
    :label: ghosts-of-softmax-taylor

    c_0 = \log F(0), \qquad c_k = f_k - \frac1k \sum_{j<k} j\, c_j\, f_{k-j}

With :math:`K = \log F` the divergences of the softmax at the start, :math:`p_0`, and after a step t are

.. math::
    :label: ghosts-of-softmax-divergences

    \mathrm{KL}(p_0 \| p_t) = K(t) - K(0) - t K'(0), \qquad \mathrm{KL}(p_t \| p_0) = t K'(t) - K(t) + K(0),

both :math:`\frac{t^2}2 \mathrm{Var}_{p_0}(a)` up to

.. math::
    :label: ghosts-of-softmax-remainders

    \frac{|t|^3 \Delta^3}{36 \sqrt3} \quad\text{and}\quad \frac{|t|^3 \Delta^3}{18 \sqrt3}, \qquad \Delta = \max_k a_k -
    \min_k a_k .

Below the radius nothing terrible can happen for reasons of this kind; beyond it something may, or may not. Slopes that
are all equal move no probability: there r is 0 and no radius is finite.

====================  ====================
:math:`z`             `logits`
:math:`a`             `slopes`
:math:`t`             `step`
:math:`r_0`           `share`
====================  ====================

**Where implementations differ.** The repository's packaged optimiser multiplies the rate by :math:`\pi` over the mean
spread of the *logits*, clipped to [0.01, 1], and not of their slopes. The direction must be that of the optimiser's
update, not of the gradient. The paper's equation 26 writes the first divergence for the second.

**Provenance.** Confirmed by the text of the preprint and the code beside it (piyush314/ghosts-of-softmax);
the labelling of the divergences is corrected here.

Sao, *Ghosts of Softmax: Complex Singularities That Limit Safe Step Sizes in Cross-Entropy*, 2026, arXiv:2603.13552.
"""

import math
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    Index,
    K,
    N,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    T,
    checked,
)


class Divergences(NamedTuple):
    """Of the start from the end and of the end from the start; their common first term; bounds of what is left."""

    forward: Real[N]
    backward: Real[N]
    quadratic: Real[N]
    forward_bound: Real[N]
    backward_bound: Real[N]


def _known(logits, labels, **_):
    """Labels that are no class."""
    return [validate.labels(labels, logits.shape[1])]


@checked(also=_known)
def line_loss(
    step: Scalar, logits: Real[N, K], slopes: Real[N, K], labels: Index[N]
) -> tuple[Scalar, Scalar]:
    """Mean cross-entropy after a step along the line.

    Parameters
    ----------
    step
        The whole update is 1.
    slopes
        Derivatives of the logits along the update.
    """
    target = one_hot(labels, logits.shape[1], logits.dtype)
    log_p = log_softmax(logits + step * slopes)
    loss = -(target * log_p).sum() / len(logits)  # eq. ghosts-of-softmax-line-loss
    return loss, ((xp.exp(log_p) - target) * slopes).sum() / len(logits)


@checked
def normalised_step(slopes: Real[N, K]) -> Scalar:
    """Length of the update in units of the radius that is safe for all samples."""
    # eq. ghosts-of-softmax-normalised
    return (slopes.max(1) - slopes.min(1)).max() / math.pi


def _moves(slopes, **_):
    """Slopes that are equal in every sample: no radius is finite."""
    spread = slopes.max(1) - slopes.min(1)
    return [(lambda: (spread > 0).any(), "slopes must differ within some sample")]


@checked(also=_moves)
def radius_bound(slopes: Real[N, K]) -> Scalar:
    """Radius that is safe for all samples, in units of the update."""
    return 1 / normalised_step.unchecked(slopes)  # eq. ghosts-of-softmax-bound


def _rivals_move(logits, slopes, labels, **_):
    """Labels that are no class; a true class and a strongest rival that move alike in every sample."""
    message = "slopes must differ between the label and its strongest rival"
    return [
        validate.labels(labels, logits.shape[1]),
        (lambda: (_to_rival(logits, slopes, labels)[1] != 0).any(), message),
    ]


@checked(also=_rivals_move)
def rival_radius(logits: Real[N, K], slopes: Real[N, K], labels: Index[N]) -> Scalar:
    """Smallest radius of the true class and its strongest rival alone: exact for two classes."""
    gap, apart = _to_rival(logits, slopes, labels)
    # eq. ghosts-of-softmax-two-classes
    return 1 / (abs(apart) / xp.sqrt(gap**2 + math.pi**2)).max()


def _to_rival(logits, slopes, labels):
    """Differences of logits and of slopes, of the true class and the strongest other one."""
    true = one_hot(labels, logits.shape[1], logits.dtype)
    others = xp.where(true == 1, -xp.inf, logits)
    rival = one_hot(others.argmax(1), logits.shape[1], logits.dtype)
    return ((true - rival) * logits).sum(1), ((true - rival) * slopes).sum(1)


@checked
def clip_step(
    update: Real[P],
    slopes: Real[N, K],
    *,
    share: PositiveFloat = 1.0,
    rule: Literal["clip", "set"] = "clip",
) -> Real[P]:
    """Update that is at most, or exactly, a share of the safe radius; one that moves no probability is left alone.

    Parameters
    ----------
    update
        What the optimiser would add to the parameters.
    slopes
        Derivatives of the logits along it.
    share
        Of the radius.
    rule
        Whether shorter updates are left alone, or lengthened.
    """
    r = normalised_step.unchecked(slopes)
    factor = share / xp.where(r > 0, r, share)
    if rule == "set":
        return factor * update  # eq. ghosts-of-softmax-set
    return xp.minimum(factor, 1) * update  # eq. ghosts-of-softmax-clip


@checked
def log_partition_taylor(
    logits: Real[K], slopes: Real[K], *, terms: PositiveInt = 8
) -> Real[T]:
    """Coefficients of the Taylor series of the logarithm of the partition function at the start.

    Parameters
    ----------
    terms
        How many, the constant included.
    """
    log_p = log_softmax(logits)
    f, power = [], xp.exp(log_p)
    for k in range(terms):
        f.append(power.sum())
        power = power * slopes / (k + 1)
    # eq. ghosts-of-softmax-taylor
    c = [logits[0] - log_p[0]]
    for k in range(1, terms):
        known = sum((j * c[j] * f[k - j] for j in range(1, k)), xp.zeros_like(f[k]))
        c.append(f[k] - known / k)
    return xp.stack(c)


@checked
def path_divergences(
    logits: Real[N, K], slopes: Real[N, K], *, step: PositiveFloat = 1.0
) -> Divergences:
    """Divergences of the probabilities at the two ends of a step, and what bounds them.

    Parameters
    ----------
    step
        The whole update is 1.
    """
    start, end = log_softmax(logits), log_softmax(logits + step * slopes)
    p0, pt = xp.exp(start), xp.exp(end)
    moved = slopes - (p0 * slopes).sum(1, keepdims=True)
    # log F(t) - log F(0), less t times its slope at 0
    # eq. ghosts-of-softmax-divergences
    forward = (p0 * (start - end)).sum(1)
    backward = (pt * (end - start)).sum(1)
    quadratic = step**2 / 2 * (p0 * moved**2).sum(1)
    # eq. ghosts-of-softmax-remainders
    bound = (step * (slopes.max(1) - slopes.min(1))) ** 3 / (36 * math.sqrt(3))
    return Divergences(forward, backward, quadratic, bound, 2 * bound)


class Zero(NamedTuple):
    """Distance of the zero from the start, and its real and its non-negative imaginary part."""

    radius: Scalar
    place: Real[T]


def _apart(logits, slopes, **_):
    """Slopes that are all equal: there are no zeros."""
    return [(lambda: slopes.max() > slopes.min(), "slopes must not all be equal")]


@checked(also=_apart)
def exact_radius(
    logits: Real[K],
    slopes: Real[K],
    *,
    starts: PositiveInt = 16,
    steps: PositiveInt = 40,
) -> Zero:
    """Nearest zero of the partition function, by Newton's method from a grid of complex starts.

    Parameters
    ----------
    starts
        Along each axis.
    steps
        Of Newton's method.
    """
    unit = 1 / radius_bound.unchecked(slopes[None])  # zeros lie beyond 1 in these units
    a = (slopes - slopes.mean()) / unit
    log_w = log_softmax(logits)
    # where Re t dominates, no other term can cancel the largest: zeros are not far to the sides
    wide = (abs(log_w).max() + math.log(len(log_w))) / math.pi + 2
    x = xp.linspace(-1, 1, starts, dtype=a.dtype) * wide
    y = xp.linspace(0.5, wide + 1, starts, dtype=a.dtype)
    t = (x[:, None] + 1j * y).ravel()
    for _ in range(steps):
        F, slope = _partition(t, a, log_w)
        t = t - F / xp.where(slope == 0, 1, slope)
    F, slope = _partition(t, a, log_w)
    found = abs(F) <= 1e3 * xp.finfo(a.dtype).eps * abs(slope)
    # eq. ghosts-of-softmax-radius
    nearest = t[xp.where(found, abs(t), xp.inf).argmin()] / unit
    place = xp.stack([nearest.real, abs(nearest.imag)])
    return Zero(xp.hypot(place[0], place[1]), place)


def _partition(t, a, log_w):
    """The sum and its derivative, both divided by the size of its largest term."""
    exponents = log_w + t[:, None] * a
    terms = xp.exp(exponents - exponents.real.max(1, keepdims=True))
    return terms.sum(1), (terms * a).sum(1)
