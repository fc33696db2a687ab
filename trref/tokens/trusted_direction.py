r"""Trusted directions: let gradients act only where a short clean run has moved the weights.

What differs from the other methods here: the loss stays as it is, and the *gradient* of each weight matrix is
projected. Clean training moves a matrix along a few directions; when a run begins to exploit a shortcut they turn. So
take the directions of a warm-up on trusted data. With :math:`\Delta = W_{warm} - W_0`, rows standing for outputs,

.. math::
    :label: trusted-direction-svd

    \Delta = U \Sigma V^\top, \qquad \sigma_1 \ge \sigma_2 \ge \dots, \qquad U_r = (u_1, \dots, u_r)

.. math::
    :label: trusted-direction-hard

    G' = U_r U_r^\top G

(``side="input"``: :math:`G V_r V_r^\top`; both: both), never along directions with :math:`\sigma_k = 0`, in which
nothing has moved; or weighted by the importance of each direction,

.. math::
    :label: trusted-direction-weighted

    G' = c\, U_r\, \mathrm{diag}(w)\, U_r^\top G, \qquad w_k = \frac{\sigma_k}{\sigma_1}

with :math:`c = 1`, or such that :math:`\|G'\| = \|G\|`. A small step against :math:`G'` never raises the loss that
:math:`G` belongs to, because :math:`\langle G, G'\rangle = c \sum_k w_k \|u_k^\top G\|^2 \ge 0`; of the *true* task
that says nothing. Under gradient descent with the hard projection :math:`(I - U_r U_r^\top) W` never changes. Under
momentum from before, weight decay or Adam that holds only if the step is projected in the place of the gradient. How
much of a gradient is trusted, and how far two runs' directions agree (the cosines of the angles between their spans):

.. math::
    :label: trusted-direction-share

    s = \frac{\|U_r^\top G\|_F^2}{\|G\|_F^2}

.. math::
    :label: trusted-direction-similarity

    (\cos\theta_1, \dots, \cos\theta_r) = \text{singular values of } U_r^\top U_r'

==============  ===============================
:math:`\Delta`  `change`
:math:`G`       `grad`
:math:`r`       `rank`
:math:`c`       1, or what `keep_norm` asks for
==============  ===============================

Of a change of 0 nothing is trusted.

**Where implementations differ.** No public code was found. Libraries that keep weights as inputs by outputs turn output
directions into right singular vectors.

**Provenance.** Partly: the decomposition, the similarity and the projection by public summaries; the normalisation of
the weights is reconstructed; the share, the invariant and what they imply are derived here.

Deng et al., *Directional Alignment Mitigates Reward Hacking in Reinforcement Learning for Language Models*, 2026,
arXiv:2605.25189.
"""

from typing import Literal, NamedTuple

from trref.backend import linalg, xp
from trref.signature import (
    M,
    N,
    NonNegative,
    NonNegativeInt,
    PositiveInt,
    R,
    Real,
    Scalar,
    checked,
)


class Directions(NamedTuple):
    """Orthonormal vectors, as columns, and their singular values, falling.

    Columns are 0 where the value is less than a millionth of the first: nothing has moved there.
    """

    vectors: Real[M, R]
    values: NonNegative[R]


@checked
def dominant_directions(change: Real[M, N], rank: NonNegativeInt) -> Directions:
    """First output directions of a change; their signs are arbitrary.

    The input directions are the output directions of its transpose.

    Parameters
    ----------
    change
        Change of one weight matrix in the warm-up, a constant; rows stand for outputs.
    rank
        How many directions; no more than the matrix has.
    """
    U, s, _ = linalg.svd(change, full_matrices=False)  # eq. trusted-direction-svd
    return Directions((U * (s > 1e-6 * s[0]))[:, :rank], s[:rank])


@checked
def project_gradient(
    grad: Real[M, N],
    change: Real[M, N],
    *,
    rank: NonNegativeInt = 2,
    side: Literal["output", "input", "both"] = "output",
) -> Real[M, N]:
    """Hard projection of a gradient onto the dominant directions of a change.

    Parameters
    ----------
    grad
        Gradient of the loss in the weight matrix.
    rank
        0 freezes the matrix.
    side
        Which directions.
    """
    # eq. trusted-direction-hard
    if side != "input":
        U = dominant_directions.unchecked(change, rank).vectors
        grad = U @ (U.T @ grad)
    if side != "output":
        V = dominant_directions.unchecked(change.T, rank).vectors
        grad = (grad @ V) @ V.T

    return grad


@checked
def weighted_projection(
    grad: Real[M, N],
    change: Real[M, N],
    *,
    rank: NonNegativeInt = 2,
    keep_norm: bool = False,
) -> Real[M, N]:
    """Projection onto the dominant output directions, each weighted by its singular value over the first.

    Parameters
    ----------
    keep_norm
        Scale the result to the gradient's norm, for comparisons at equal steps.
    """
    U, s = dominant_directions.unchecked(change, rank)
    # eq. trusted-direction-weighted
    tiny = float(xp.finfo(s.dtype).tiny)
    w = s / xp.maximum(s[:1], tiny)
    projected = U @ (w[:, None] * (U.T @ grad))
    if keep_norm:
        unit = projected / xp.maximum(linalg.norm(projected), tiny)
        projected = unit * linalg.norm(grad)

    return projected


@checked
def explained_share(
    grad: Real[M, N], change: Real[M, N], *, rank: NonNegativeInt = 2
) -> Scalar:
    """Share of a gradient's squared norm that lies along the dominant output directions: an alarm when it falls.

    Returns
    -------
    share
        0 for a gradient of 0.
    """
    U = dominant_directions.unchecked(change, rank).vectors
    whole, tiny = (grad**2).sum(), float(xp.finfo(grad.dtype).tiny)
    # eq. trusted-direction-share
    return ((U.T @ grad) ** 2).sum() / xp.maximum(whole, tiny)


@checked
def direction_similarity(
    change: Real[M, N], other: Real[M, N], *, rank: PositiveInt = 2
) -> NonNegative[R]:
    """Canonical correlations of the dominant output directions of two changes.

    Parameters
    ----------
    other
        The other change.

    Returns
    -------
    cosines
        Cosines of the principal angles, falling; the usual figure is their mean.
    """
    U, Z = (dominant_directions.unchecked(x, rank).vectors for x in (change, other))
    return linalg.svd(U.T @ Z, compute_uv=False)  # eq. trusted-direction-similarity
