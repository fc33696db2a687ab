r"""Regional adversarial training (RAT): on all of an attack's way, with labels that soften with the distance.

**Reconstructed.** Only the abstract of the paper could be read: a region is built from the path of an attack, points of
the region are trained on, and labels are smoothed by the distance. The equations of region, draw and smoothing below
are this module's, and so are their constants.

Adversarial training keeps of an attack nothing but its end. Here all points of its path
:math:`x^0, \dots, x^K` (`trref.adversarial.pgd.pgd_path`) are corners of a region, with the clean input among them or
not, and from some point on. A point is drawn with random weights within their hull,

.. math::
    :label: regional-adversarial-training-hull

    x' = \sum_k \lambda_k\, x^k, \qquad \lambda \sim \text{Dirichlet}(c, \dots, c),

or coordinate by coordinate within the box that they span,

.. math::
    :label: regional-adversarial-training-box

    x'_d = \min_k x^k_d + u_d\, (\max_k x^k_d - \min_k x^k_d), \qquad u_d \sim U[0, 1],

or on the segment from the input to the last of them:

.. math::
    :label: regional-adversarial-training-segment

    x' = x + r\, (x^K - x), \qquad r \sim U[r_0, 1]

Ball and range are convex, so no point leaves them. The farther it is from the input, as a share of the radius,

.. math::
    :label: regional-adversarial-training-distance

    \rho = \min\big(\|x' - x\|_\infty / \epsilon,\, 1\big),

the less of the label it keeps:

.. math::
    :label: regional-adversarial-training-labels

    t = (1 - s)\, e_y + \frac{s}{K}\, \mathbf 1, \qquad s = s_{max}\, \rho^{\,\gamma}.

The loss is the cross-entropy with soft targets,

.. math::
    :label: regional-adversarial-training-entropy

    \ell(z, t) = -\sum_k t_k \log \text{softmax}(z)_k, \qquad
    \frac{\partial \ell}{\partial z} = \text{softmax}(z) - t,

averaged over the points, which are constants like their labels:

.. math::
    :label: regional-adversarial-training-objective

    L(\theta) = \frac1N \sum_i \ell(f_\theta(x'_i), t_i).

With all weight on the last corner and no smoothing this is training on the ends of attacks, with all weight on the
input plain training. A radius of 0 gives the share 0.

=====================  ==================
:math:`s_{max}`        `most`
:math:`\gamma`         `power`
:math:`\epsilon`       `radius`
=====================  ==================

**Where implementations differ.** No public code is known. Ordinary label smoothing, whatever the distance, is the
control that must stand beside it.

**Provenance.** Partly for the targets' cross-entropy, which is standard; the rest reconstructed, as said above.

Song, Fan, Yang, Li and Hopcroft, *Regional Adversarial Training for Better Robust Generalization*, 2021,
arXiv:2109.00678.
"""

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.problems.protocols import LogitNetwork
from trref.signature import (
    D,
    Fraction,
    Index,
    K,
    N,
    P,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    Simplex,
    V,
    checked,
)


@checked
def hull_point(vertices: Real[V, N, D], weights: Simplex[N, V]) -> Real[N, D]:
    """A point within the hull of the corners.

    Parameters
    ----------
    vertices
        The V corners of each row's region, such as the points of an attack's path.
    weights
        Of the corners, drawn from a Dirichlet law.
    """
    # eq. regional-adversarial-training-hull
    return xp.einsum("vnd,nv->nd", vertices, weights)


@checked
def box_point(vertices: Real[V, N, D], uniform: Prob[N, D]) -> Real[N, D]:
    """A point within the box that the corners span.

    Parameters
    ----------
    uniform
        Draws from the uniform law, one a coordinate.
    """
    low, high = vertices.min(0), vertices.max(0)
    return low + uniform * (high - low)  # eq. regional-adversarial-training-box


@checked
def segment_point(
    x: Real[N, D], end: Real[N, D], uniform: Prob[N], *, least: Fraction = 0.0
) -> Real[N, D]:
    """A point on the segment from the input to the end of the attack.

    Parameters
    ----------
    x
        Inputs, one a row.
    end
        The attacked inputs.
    uniform
        Draws from the uniform law, one a row.
    least
        The least share of the way.
    """
    share = least + (1 - least) * uniform
    return x + share[:, None] * (end - x)  # eq. regional-adversarial-training-segment


@checked
def distance_share(
    points: Real[N, D], x: Real[N, D], *, radius: PositiveFloat = 0.3
) -> Prob[N]:
    """How far each point is from its input, as a share of the radius.

    Parameters
    ----------
    points
        Within the ball.
    radius
        Most that a coordinate may move.
    """
    off = abs(points - x).max(1)
    return xp.minimum(off / radius, 1)  # eq. regional-adversarial-training-distance


def _classes(labels, classes, **_):
    """A label that is not below `classes`."""
    return [validate.labels(labels, classes)]


@checked(also=_classes)
def smoothed_labels(
    distance: Prob[N],
    labels: Index[N],
    *,
    classes: PositiveInt,
    most: Fraction = 0.3,
    power: PositiveFloat = 1.0,
) -> Simplex[N, K]:
    """Targets that are softer the farther the point is.

    Parameters
    ----------
    distance
        As a share of the radius.
    labels
        Class of each input.
    classes
        How many there are.
    most
        The share that is spread over all classes at the radius.
    power
        Above 1, labels stay hard near the input.
    """
    s = (most * distance**power)[:, None]
    # eq. regional-adversarial-training-labels
    return (1 - s) * one_hot(labels, classes, distance.dtype) + s / classes


@checked
def soft_cross_entropy(
    logits: Real[N, K], targets: Simplex[N, K]
) -> tuple[Scalar, Real[N, K]]:
    """The mean cross-entropy with soft targets.

    Parameters
    ----------
    logits
        Of the classes.
    targets
        Probabilities that the network should give.
    """
    log_p = log_softmax(logits)
    # eq. regional-adversarial-training-entropy
    value = -(targets * log_p).sum() / len(logits)
    total = targets.sum(1, keepdims=True)  # 1 up to rounding
    return value, (total * xp.exp(log_p) - targets) / len(logits)


@checked
def rat_objective(
    network: LogitNetwork, theta: Real[P], targets: Simplex[N, K]
) -> tuple[Scalar, Real[P]]:
    """The loss of a network at the points of the region.

    Parameters
    ----------
    network
        At these points, with ``logits(theta) -> (N, K)`` and ``logits_vjp(theta, cotangent) -> (P,)``, such as
        `trref.problems.networks.ClassifierLoss`.
    """
    logits = network.logits(theta)
    if logits.shape != targets.shape:
        raise ValueError(
            f"network must have logits of the shape of targets, {tuple(targets.shape)}, not {tuple(logits.shape)}"
        )
    # eq. regional-adversarial-training-objective
    value, slope = soft_cross_entropy.unchecked(logits, targets)
    return value, network.logits_vjp(theta, slope)
