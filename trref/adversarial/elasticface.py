r"""ElasticFace: margins that are drawn anew for each sample, in losses that separate faces (with ArcFace and CosFace).

Embeddings :math:`x_i` and class centres :math:`w_j` are compared by their cosine alone,

.. math::
    :label: elasticface-cosine

    c_{ij} = \frac{x_i^\top w_j}{\|x_i\|\, \|w_j\|} = \cos \theta_{ij},

and a sample's own class is made harder to reach by a margin m: in the angle (ArcFace),

.. math::
    :label: elasticface-arc

    z_{i y_i} = s \cos(\theta_{i y_i} + m_i) = s\, \big(c \cos m_i - \sqrt{1 - c^2}\, \sin m_i\big),

or in the cosine (CosFace),

.. math::
    :label: elasticface-cos

    z_{i y_i} = s\, (c_{i y_i} - m_i),

while all others are :math:`z_{ij} = s\, c_{ij}`. The loss is the cross-entropy of these logits,

.. math::
    :label: elasticface-loss

    L = \frac1N \sum_i \log \sum_j e^{z_{ij}} - z_{i y_i}.

With :math:`D = (\text{softmax}(z) - e_y) \circ \kappa / N`, where :math:`\kappa = s`, but for an angle
:math:`\kappa_{i y_i} = s\,(\cos m_i + \frac{c}{\sqrt{1 - c^2}} \sin m_i)`, its gradients are tangent to the
spheres:

.. math::
    :label: elasticface-gradient

    \frac{\partial L}{\partial x_i} = \frac{1}{\|x_i\|} \sum_j D_{ij}\, (\hat w_j - c_{ij}\, \hat x_i), \qquad
    \frac{\partial L}{\partial w_j} = \frac{1}{\|w_j\|} \sum_i D_{ij}\, (\hat x_i - c_{ij}\, \hat w_j)

One margin does not suit all. ElasticFace draws it for each sample at each step,

.. math::
    :label: elasticface-draw

    m_i = \mu + \sigma \epsilon_i, \qquad \epsilon_i \sim \mathcal N(0, 1),

and its second version (`matched`) gives the larger draws to those that are farther from their centre:

.. math::
    :label: elasticface-match

    c_{i y_i} \ge c_{k y_k} \implies m_i \le m_k

The margins are constants for the gradient. A drawn angle shrinks the mean logit, :math:`\mathbb E \cos(\theta + m) =
e^{-\sigma^2 / 2} \cos(\theta + \mu)`, and as the loss is convex in it, the mean loss is at least that of the mean
logit; for cosines that is the loss with the fixed margin.

Beyond :math:`\theta + m = \pi` an angle's logit rises again. With `guard` it is :math:`s\,(c - m \sin m)` there. At an
angle of 0 or :math:`\pi`, where there is no derivative, the sine is taken to be 1e-7. The first of equal cosines gets
the smaller margin. A norm of 0 is refused.

=====================  =============
:math:`x, w`           `embeddings, centres`
:math:`s`              `scale`
:math:`\epsilon`       `noise`
=====================  =============

**Where implementations differ.** The released code indexes the sorted margins by the order of the cosines, which is the
inverse of the stated rule. insightface's ArcFace changes the logits outside of the graph, so that its gradient has the
factor s in the place of :math:`\kappa`.

**Provenance.** The margins, the losses and the defaults are confirmed in the authors' code; that the second version
means matching by rank is from memory of the paper. The gradients are derived and checked here, the guard is that of
pytorch-metric-learning.

Boutros, Damer, Kirchbuchner and Kuijper, *ElasticFace: Elastic Margin Loss for Deep Face Recognition*, 2021,
arXiv:2109.09416.
"""

from typing import Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    D,
    FiniteFloat,
    Index,
    K,
    N,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)

Kind = Literal["arc", "cos"]


class Gradient(NamedTuple):
    """Derivatives by embeddings and centres."""

    embeddings: Real[N, D]
    centres: Real[K, D]


def _directions(embeddings, centres, labels, **_):
    """A row of norm 0, or a label without a centre."""
    long = lambda v: ((v * v).sum(1) > 0).all()  # noqa: E731
    return [
        (lambda: long(embeddings), "embeddings must not have a row of 0"),
        (lambda: long(centres), "centres must not have a row of 0"),
        validate.labels(labels, len(centres)),
    ]


def _unit(v):
    """Rows of length 1, and the lengths."""
    length = xp.sqrt((v * v).sum(1, keepdims=True))
    return v / length, length


def _cosines(x, w):
    """Of unit rows; rounding may not leave the range that has angles."""
    return xp.clip(x @ w.T, -1, 1)  # eq. elasticface-cosine


@checked(also=_directions)
def target_cosines(
    embeddings: Real[N, D], centres: Real[K, D], labels: Index[N]
) -> Real[N]:
    """The cosine of each embedding with the centre of its class.

    Parameters
    ----------
    embeddings
        Of the samples.
    centres
        Of the classes.
    labels
        Class of each sample.
    """
    c = _cosines(_unit(embeddings)[0], _unit(centres)[0])
    return (one_hot(labels, len(centres), c.dtype) * c).sum(1)


@checked(also=_directions)
def margin_objective(
    embeddings: Real[N, D],
    centres: Real[K, D],
    labels: Index[N],
    margins: Real[N],
    *,
    scale: PositiveFloat = 64.0,
    kind: Kind = "arc",
    guard: bool = False,
) -> tuple[Scalar, Gradient]:
    """The cross-entropy with a margin for each sample (ArcFace, CosFace).

    Parameters
    ----------
    margins
        Of the samples, in radians or of the cosine.
    scale
        The length of logits; 64 in the papers.
    kind
        Margins of the angle, or of the cosine.
    guard
        Let the logit of an angle beyond pi go on falling.

    Returns
    -------
    loss
    gradient
        With respect to `embeddings` and `centres`.
    """
    N, K = len(labels), len(centres)
    (x, x_length), (w, w_length) = _unit(embeddings), _unit(centres)
    c, e = _cosines(x, w), one_hot(labels, K, embeddings.dtype)
    target, steep = (e * c).sum(1), xp.ones_like(margins)
    if kind == "arc":
        sine = xp.sqrt(xp.maximum(1 - target * target, 1e-14))
        cos_m, sin_m = xp.cos(margins), xp.sin(margins)
        moved = target * cos_m - sine * sin_m  # eq. elasticface-arc
        steep = cos_m + target / sine * sin_m
        if guard:
            beyond = target < -cos_m  # the angle and the margin are above pi
            moved = xp.where(beyond, target - margins * sin_m, moved)
            steep = xp.where(beyond, 1, steep)
    else:
        moved = target - margins  # eq. elasticface-cos
    z = scale * (c + e * (moved - target)[:, None])
    log_p = log_softmax(z)
    value = -(e * log_p).sum() / N  # eq. elasticface-loss

    # eq. elasticface-gradient
    slope = (xp.exp(log_p) - e) * scale / N
    slope = xp.where(e == 1, slope * steep[:, None], slope)
    along = slope * c
    dx = (slope @ w - along.sum(1, keepdims=True) * x) / x_length
    dw = (slope.T @ x - along.sum(0)[:, None] * w) / w_length

    return value, Gradient(dx, dw)


@checked
def elastic_margins(
    cosines: Real[N],
    noise: Real[N],
    *,
    mean: FiniteFloat = 0.5,
    std: NonNegativeFloat = 0.05,
    matched: bool = False,
) -> Real[N]:
    """A margin for each sample, from normal draws.

    Parameters
    ----------
    cosines
        Of each sample with its centre; only `matched` looks at them.
    noise
        Draws from the standard normal law, fresh at each step.
    mean, std
        Of the margins: 0.5 and 0.05 for angles, 0.35 and 0.05 for cosines in the paper.
    matched
        Give the larger draws to those that are farther from their centre.
    """
    margins = mean + std * noise  # eq. elasticface-draw
    if not matched:
        return margins
    # eq. elasticface-match
    nearest_first = xp.argsort(-cosines, kind="stable")
    rank = xp.argsort(nearest_first, kind="stable")
    return xp.take(xp.sort(margins), rank)


def _drawn(embeddings, centres, labels, noise, *, mean=0.5, std=0.05, matched=False):
    """The margins that `elastic_objective` holds constant."""
    c = target_cosines.unchecked(embeddings, centres, labels)
    return elastic_margins.unchecked(c, noise, mean=mean, std=std, matched=matched)


@checked(also=_directions)
def elastic_objective(
    embeddings: Real[N, D],
    centres: Real[K, D],
    labels: Index[N],
    noise: Real[N],
    *,
    scale: PositiveFloat = 64.0,
    kind: Kind = "arc",
    mean: FiniteFloat = 0.5,
    std: NonNegativeFloat = 0.05,
    matched: bool = False,
) -> tuple[Scalar, Gradient]:
    """The cross-entropy with drawn margins.

    Parameters
    ----------
    noise
        Draws from the standard normal law, fresh at each step.

    Returns
    -------
    loss
    gradient
        With respect to `embeddings` and `centres`, at these margins.
    """
    how = {"mean": mean, "std": std, "matched": matched}
    margins = _drawn(embeddings, centres, labels, noise, **how)
    return margin_objective.unchecked(
        embeddings, centres, labels, margins, scale=scale, kind=kind
    )
