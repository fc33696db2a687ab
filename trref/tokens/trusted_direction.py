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

**Where implementations differ.** No public code was found. Libraries that keep weights as inputs by outputs turn output
directions into right singular vectors.

**Provenance.** Partly: the decomposition, the similarity and the projection by public summaries; the normalisation of
the weights is reconstructed; the share, the invariant and what they imply are derived here.

Deng et al., *Directional Alignment Mitigates Reward Hacking in Reinforcement Learning for Language Models*, 2026,
arXiv:2605.25189.
"""

from typing import Any, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Estimator, Input, Method, Transform
from trref.tokens import _trusted_direction_cases as cases

__all__ = [
    "Directions",
    "direction_similarity",
    "dominant_directions",
    "explained_share",
    "project_gradient",
    "weighted_projection",
]


PAIR = {"gradient": Input("M N"), "delta": Input("M N")}


class Directions(NamedTuple):
    """Orthonormal vectors, as columns (M, r), and their singular values (r,), falling.

    Columns are 0 where the value is less than a millionth of the first: nothing has moved there.
    """

    vectors: Any
    values: Any


def dominant_directions(delta, rank):
    """Building block, unchecked: the first `rank` output directions of a change; their signs are arbitrary.

    Parameters
    ----------
    delta : array (M, N)
        Rows stand for outputs. The input directions are the output directions of its transpose.
    rank : int
        At least 0; no more directions than the matrix has.

    Returns
    -------
    Directions
        Fields vectors, values.
    """
    U, s, _ = linalg.svd(delta, full_matrices=False)  # eq. trusted-direction-svd
    return Directions((U * (s > 1e-6 * s[0]))[:, :rank], s[:rank])


def project_gradient(gradient, delta, *, rank=2, side="output"):
    """Hard projection of a gradient onto the dominant directions of a change.

    Parameters
    ----------
    gradient, delta : array (M, N)
        Of one weight matrix; `delta` is a constant.
    rank : int
        At least 0: 0 freezes the matrix.
    side : {"output", "input", "both"}

    Returns
    -------
    array (M, N)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, a negative rank, an unknown side.
    """
    validate.inputs(PAIR, gradient, delta)
    validate.integer("[0, inf)", rank=rank)
    validate.choice(("output", "input", "both"), side=side)
    # eq. trusted-direction-hard
    if side != "input":
        U = dominant_directions(delta, rank).vectors
        gradient = U @ (U.T @ gradient)
    if side != "output":
        V = dominant_directions(delta.T, rank).vectors
        gradient = (gradient @ V) @ V.T

    return gradient


def weighted_projection(gradient, delta, *, rank=2, keep_norm=False):
    """Projection onto the dominant output directions, each weighted by its singular value over the first.

    Parameters
    ----------
    gradient, delta : array (M, N)
    rank : int
        At least 0.
    keep_norm : bool
        Scale the result to the gradient's norm, for comparisons at equal steps.

    Returns
    -------
    array (M, N)

    Raises
    ------
    ValueError
        As `project_gradient`.
    """
    validate.inputs(PAIR, gradient, delta)
    validate.integer("[0, inf)", rank=rank)
    U, s = dominant_directions(delta, rank)
    # eq. trusted-direction-weighted
    tiny = float(xp.finfo(s.dtype).tiny)
    w = s / xp.maximum(s[:1], tiny)
    projected = U @ (w[:, None] * (U.T @ gradient))
    if keep_norm:
        projected = projected / xp.maximum(linalg.norm(projected), tiny) * linalg.norm(gradient)

    return projected


def explained_share(gradient, delta, *, rank=2):
    """Share of a gradient's squared norm that lies along the dominant output directions: an alarm when it falls.

    Parameters
    ----------
    gradient, delta : array (M, N)
    rank : int
        At least 0.

    Returns
    -------
    scalar array
        In [0, 1]; 0 for a gradient of 0.

    Raises
    ------
    ValueError
        As `project_gradient`.
    """
    validate.inputs(PAIR, gradient, delta)
    validate.integer("[0, inf)", rank=rank)
    U = dominant_directions(delta, rank).vectors
    whole, tiny = (gradient**2).sum(), float(xp.finfo(gradient.dtype).tiny)
    return ((U.T @ gradient) ** 2).sum() / xp.maximum(whole, tiny)  # eq. trusted-direction-share


def direction_similarity(delta, other, *, rank=2):
    """Canonical correlations of the dominant output directions of two changes.

    Parameters
    ----------
    delta, other : array (M, N)
    rank : int
        At least 1.

    Returns
    -------
    array (r,)
        Cosines of the principal angles, falling; the usual figure is their mean.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, `rank` below 1.
    """
    validate.inputs({"delta": Input("M N"), "other": Input("M N")}, delta, other)
    validate.integer("[1, inf)", rank=rank)
    U, Z = (dominant_directions(x, rank).vectors for x in (delta, other))
    return linalg.svd(U.T @ Z, compute_uv=False)  # eq. trusted-direction-similarity


def _output_by_gram(delta, rank):
    """Eigenvectors of the Gram matrix, up to signs; 0 where the eigenvalue is."""
    values, vectors = linalg.eigh(delta @ delta.T)
    return (vectors * (values > 1e-12 * values[-1]))[:, ::-1][:, : min(rank, *delta.shape)]


def _share_by_gram(gradient, delta, *, rank=2):
    U = _output_by_gram(delta, rank)
    whole = float((gradient**2).sum())
    return float(sum(((U[:, k] @ gradient) ** 2).sum() for k in range(U.shape[1]))) / (whole or 1.0)


def _cosines_by_gram(delta, other, *, rank=2):
    """Square roots of the eigenvalues of the product of the projectors."""
    U, Z = (_output_by_gram(x, rank) for x in (delta, other))
    values = linalg.eigh(U.T @ Z @ Z.T @ U)[0]
    return xp.sqrt(xp.maximum(values[::-1], 0))


METHOD = Method(
    key="deng2026directional",
    provenance={"partly": ("svd", "hard", "similarity"), "reconstructed": ("weighted", "share")},
    functions=(
        Transform(
            f=project_gradient,
            inputs=PAIR,
            example=cases.example,
            edges=cases.EDGES,
            wrt="gradient",
            idempotent=True,
            jvp=lambda gradient, delta, tangent, **hyper: project_gradient(tangent, delta, **hyper),
            vjp=lambda gradient, delta, cotangent, **hyper: project_gradient(cotangent, delta, **hyper),
            settings={"default": {}, "input": {"side": "input"}, "probe": {"rank": 3, "side": "both"}},
        ),
        Transform(
            f=weighted_projection,
            inputs=PAIR,
            example=cases.example,
            edges=cases.EDGES,
            wrt="gradient",
            settings={"default": {}, "probe": {"rank": 3, "keep_norm": True}},
        ),
        Estimator(
            f=explained_share,
            inputs=PAIR,
            example=cases.example,
            edges=cases.EDGES,
            settings={"default": {}, "probe": {"rank": 3}},
            brute_force=_share_by_gram,
        ),
        Estimator(
            f=direction_similarity,
            inputs={"delta": Input("M N"), "other": Input("M N")},
            example=cases.pair,
            edges=cases.PAIRS,
            settings={"default": {}, "probe": {"rank": 3}},
            brute_force=_cosines_by_gram,
        ),
    ),
)
