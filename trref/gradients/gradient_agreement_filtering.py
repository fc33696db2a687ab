r"""Gradient agreement filtering (GAF): average only what agrees.

M small batches give a gradient each, at the same parameters. Their mean follows all of them, also a direction that one
batch alone asks for because of its wrong labels. GAF goes through them in their order, and compares each with the sum
of those that it has taken so far, by the cosine distance

.. math::
    :label: gradient-agreement-filtering-distance

    D(a, b) = 1 - \frac{a \cdot b}{\|a\| \|b\|} \in [0, 2],

which is 1 where the two are orthogonal. From :math:`s_1 = g_1`, a gradient is taken if it is near enough,

.. math::
    :label: gradient-agreement-filtering-accept

    A_i = 1 \text{ where } D(s_{i-1}, g_i) \le \tau, \text{ else } 0,
    \qquad s_i = s_{i-1} + A_i\, g_i, \qquad A_1 = 1,

and the direction is the mean of what was taken, if that is more than the first:

.. math::
    :label: gradient-agreement-filtering-direction

    g = \frac{s_M}{\sum_i A_i} \text{ where } \sum_i A_i > 1, \text{ else } 0.

In the second case the step is left out altogether: neither the parameters nor a momentum change. With
:math:`\tau = 2` all is taken, and g is the plain mean. The gradients of two batches that are not about the same thing
are nearly orthogonal in many dimensions, so the useful thresholds are just below 1; with two batches and
:math:`\tau \le 1`, g descends on both of their losses. With more batches their order matters.

A gradient that is 0 agrees with nothing: its distance is 2.

**Where implementations differ.** The authors' package halves instead of counting: :math:`s_i = (s_{i-1} + g_i) / 2`,
so that the last of four equal votes weighs 1/2 and the first 1/8. For two batches that is the same. Its cosine of a
gradient that is 0 is 0, so that with :math:`\tau \ge 1` such a gradient is taken.

**Provenance.** The distance, the threshold and the step that is left out are confirmed in the authors' package; the
mean over what was taken is from memory of the paper's algorithm.

Chaubard, Eddy and Kochenderfer, *Beyond Gradient Averaging in Parallel Optimization: Improved Robustness through
Gradient Agreement Filtering*, 2024, arXiv:2412.18052.
"""

from typing import Annotated, NamedTuple

from trref.backend import xp
from trref.gradients.terms import unit
from trref.signature import M, Mask, P, Real, checked


class Filtered(NamedTuple):
    """A direction, and what it is made of."""

    direction: Real[P]
    """Mean of the gradients that were taken; 0 where that is the first alone."""
    accepted: Mask[M]
    """1 for the gradients that were taken."""
    distances: Real[M]
    """Of each gradient from the sum of those taken before; 0 for the first."""


@checked
def filtered_mean(
    gradients: Real[M, P], *, tau: Annotated[float, "[0, 2]"] = 1.0
) -> Filtered:
    """The mean of the gradients that agree with those before.

    Parameters
    ----------
    gradients
        One a row, of M small batches at the same P parameters.
    tau
        Largest distance of a gradient that is taken; 0.9 to 1 are of use.
    """
    total, count = gradients[0], xp.ones_like(gradients[0, 0])
    accepted, distances = [count], [xp.zeros_like(count)]
    for g in gradients[1:]:
        distance = _distance(total, g)
        # eq. gradient-agreement-filtering-accept
        taken = (distance <= tau).astype(g.dtype)
        total, count = total + taken * g, count + taken

        accepted.append(taken)
        distances.append(distance)
    # eq. gradient-agreement-filtering-direction
    direction = xp.where(count > 1, total / count, 0)

    return Filtered(direction, xp.stack(accepted), xp.stack(distances))


def _distance(a, b):
    u, v = unit(xp.stack([a, b]))
    none = (abs(u).max() == 0) | (abs(v).max() == 0)
    # eq. gradient-agreement-filtering-distance
    return xp.where(none, 2, xp.clip(1 - (u * v).sum(), 0, 2))
