r"""PCGrad: each gradient gives up what points against another.

M tasks have gradients :math:`g_i` at the same parameters. Each goes through the others in an order drawn at random,
starting from :math:`\tilde g_i = g_i`, and is projected on the normal plane of those that it conflicts with, the
original ones:

.. math::
    :label: pcgrad-projection

    \text{if } \tilde g_i \cdot g_j < 0: \qquad
    \tilde g_i \leftarrow \tilde g_i - \frac{\tilde g_i \cdot g_j}{\|g_j\|^2}\, g_j,

and the direction is the sum of what is left:

.. math::
    :label: pcgrad-direction

    g = \sum_{i=1}^M \tilde g_i

With two tasks g descends on both losses, by :math:`g \cdot g_i = \|g_i\|^2 (1 - c^2)` where their cosine c is negative.
With more a projection can undo an earlier one, and the order matters. Without conflicts it is the sum. A gradient of 0
conflicts with nobody.

**Where implementations differ.** A public port (WeiChengTseng/Pytorch-PCGrad) takes the mean of what is left, so that a
step is M times shorter; in it a task meets itself, too, which may count after other projections.

**Provenance.** From memory of the paper; checked against its closed form for two tasks.

Yu, Kumar, Gupta, Levine, Hausman and Finn, *Gradient Surgery for Multi-Task Learning*, 2020, arXiv:2001.06782.
"""

from trref.backend import xp
from trref.signature import Index, M, P, Real, checked


def _tasks_there_are(gradients, order, **_):
    """A task that there is not."""
    M = len(gradients)
    return [(lambda: order.max() < M, f"order must be less than {M}, the tasks")]


@checked(also=_tasks_there_are)
def surgery(gradients: Real[M, P], order: Index[M, M]) -> Real[P]:
    """The sum of gradients, each without what conflicts with others.

    Parameters
    ----------
    gradients
        One a row, of M tasks at the same P parameters.
    order
        In row i, the tasks in the order in which task i meets them; itself is skipped.
    """
    lengths = (gradients * gradients).sum(1)
    lengths = xp.where(lengths > 0, lengths, 1)
    rows, kept = xp.arange(len(gradients)), gradients
    for met in order.T:
        other = xp.take(gradients, met, axis=0)
        along = (kept * other).sum(1) / xp.take(lengths, met)
        # eq. pcgrad-projection
        conflict = (along < 0) & (met != rows)
        kept = kept - xp.where(conflict, along, 0)[:, None] * other

    return kept.sum(0)  # eq. pcgrad-direction
