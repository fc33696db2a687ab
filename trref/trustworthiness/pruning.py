r"""Pruning of a layer: by size, by size times input (Wanda), and with the rest corrected (SparseGPT).

Weights W, a row an output, lose their smallest by a score, either a share of them or p in every run of r neighbours
along a row (2 of 4 is what hardware likes). By size they are compared over the whole matrix,

.. math::
    :label: pruning-magnitude

    |W_{ij}|

by Wanda within each row, with the length of the input that they multiply,

.. math::
    :label: pruning-wanda

    |W_{ij}|\, \|X_j\|_2

and nothing else changes. The best that can be done about one weight p that goes is

.. math::
    :label: pruning-removal

    \delta w = - \frac{w_p}{(H^{-1})_{pp}}\, (H^{-1})_{:,p}, \qquad \text{at the cost } \frac{w_p^2}{(H^{-1})_{pp}}

in the error :math:`\delta w^\top H\, \delta w` with :math:`H = X X^\top`. SparseGPT goes through the columns as GPTQ
does (:mod:`trref.trustworthiness.quantisation`, with the same damped H and its factor U), scores the weights of a block
of columns, or of a run, when it is reached and as they then are,

.. math::
    :label: pruning-score

    \frac{W_{ij}^2}{U_{jj}^2}

and lets the columns that are left make up for what goes:

.. math::
    :label: pruning-sparsegpt

    q_j = 0 \text{ where pruned, else } w_j, \qquad e_j = \frac{w_j - q_j}{U_{jj}}, \qquad W_{:,j:} \leftarrow
    W_{:,j:} - e_j\, U_{j,j:}

A share prunes the whole part of share times number: over the matrix by size, per row by Wanda, over the block by
SparseGPT. Of equal scores those go first that come first. Where all inputs have one length, Wanda is size row by row.

**Where implementations differ.** Wanda's repository prunes by size, and in its SparseGPT, all that are at most the
sorted score at the place of the whole part: one weight more.

**Provenance.** Confirmed by the repositories (locuslab/wanda, with its SparseGPT), which the study uses
(decoding-comp-trust/comp-trust). The usual N:M counts the weights that are kept; here `pruned` counts those that go.

Hong et al., *Decoding Compressed Trust: Scrutinizing the Trustworthiness of Efficient LLMs Under Compression*, 2024,
arXiv:2403.15447.
"""

from typing import NamedTuple

from trref.backend import linalg, xp
from trref.signature import (
    Fraction,
    K,
    M,
    Mask,
    N,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)
from trref.trustworthiness.quantisation import inverse_factor


def _runs(W, pruned=0, run=4, **_):
    """Runs that do not divide the row, or are shorter than what goes from each."""
    if pruned and W.shape[1] % run:
        raise ValueError(f"run must divide the row's length {W.shape[1]}, not {run}")
    if pruned > run:
        raise ValueError(f"pruned must be at most run = {run}, not {pruned}")
    return [(lambda: abs(W).max() <= 1e30, "W must be at most 1e30 in size")]


def _kept(score, count):
    """All but the smallest `count` along the last axis; of equal ones the first go."""
    ranks = xp.argsort(
        xp.argsort(score, axis=-1, kind="stable"), axis=-1, kind="stable"
    )
    return (ranks >= count).astype(score.dtype)


def _in_runs(score, pruned, run):
    parts = score.reshape(len(score), -1, run)
    return _kept(parts, pruned).reshape(score.shape)


@checked(also=_runs)
def magnitude_mask(
    W: Real[M, K],
    *,
    sparsity: Fraction = 0.5,
    pruned: NonNegativeInt = 0,
    run: PositiveInt = 4,
) -> Mask[M, K]:
    """Which weights stay, by size over the whole matrix.

    Parameters
    ----------
    W
        Weights, a row an output.
    sparsity
        Share that goes; plays no part where runs are pruned.
    pruned
        How many go from each run; 0 for a share of all.
    run
        Neighbours along a row.
    """
    score = abs(W)  # eq. pruning-magnitude
    if pruned:
        return _in_runs(score, pruned, run)
    return _kept(score.reshape(-1), int(sparsity * W.size)).reshape(W.shape)


@checked(also=_runs)
def wanda_mask(
    W: Real[M, K],
    X: Real[K, N],
    *,
    sparsity: Fraction = 0.5,
    pruned: NonNegativeInt = 0,
    run: PositiveInt = 4,
) -> Mask[M, K]:
    """Which weights stay, by size times the length of the input, within each row.

    Parameters
    ----------
    X
        Inputs, a column a sample.
    """
    score = abs(W) * xp.sqrt((X * X).sum(1))  # eq. pruning-wanda
    if pruned:
        return _in_runs(score, pruned, run)
    return _kept(score, int(sparsity * W.shape[1]))


class Removal(NamedTuple):
    """For each weight that may go: what is added to the row, and the error that it leaves."""

    change: Real[K, K]
    cost: Real[K]


def _definite(w, H, **_):
    """An H that is not symmetric and positive definite."""
    near = lambda: (abs(H - H.T) <= 1e-6 * abs(H).max()).all()  # noqa: E731

    def definite():
        values = linalg.eigvalsh(xp.where(xp.isfinite(H), H, 0))
        return values[0] > 10 * len(H) * xp.finfo(H.dtype).eps * values[-1]

    return [(near, "H must be symmetric"), (definite, "H must be positive definite")]


@checked(also=_definite)
def remove_weight(w: Real[K], H: Real[K, K]) -> Removal:
    """Best change of a row when one of its weights becomes 0, for each weight.

    Parameters
    ----------
    w
        The row.
    H
        Products of the inputs, summed over samples.
    """
    inverse = linalg.solve(H, xp.eye(len(w), dtype=w.dtype))
    corner = inverse.diagonal()
    # eq. pruning-removal
    return Removal(-(w / corner)[:, None] * inverse.T, w * w / corner)


def _blocks(W, H, pruned=0, run=4, **_):
    """Runs that do not fit; an H that is not symmetric, or has a negative diagonal."""
    near = lambda: (abs(H - H.T) <= 1e-6 * abs(H).max()).all()  # noqa: E731
    return [
        *_runs(W, pruned, run),
        (near, "H must be symmetric"),
        (lambda: (H.diagonal() >= 0).all(), "H must have no negative diagonal"),
    ]


@checked(also=_blocks)
def sparsegpt(
    W: Real[M, K],
    H: Real[K, K],
    *,
    sparsity: Fraction = 0.5,
    pruned: NonNegativeInt = 0,
    run: PositiveInt = 4,
    block: PositiveInt = 128,
    damping: PositiveFloat = 0.01,
) -> Real[M, K]:
    """Prune column after column, each time correcting the columns that are left.

    Parameters
    ----------
    H
        Products of the inputs, summed over samples; any multiple, unless an input is dead: its 1 counts in the mean.
    block
        Columns whose weights are compared with each other, where a share goes.
    damping
        Added to the diagonal of H, as a share of its mean.
    """
    W, U = inverse_factor(W, H, damping)
    width, columns = run if pruned else block, []
    for j in range(W.shape[1]):
        if j % width == 0:
            # eq. pruning-score
            part = W[:, j : j + width] ** 2
            score = part / U.diagonal()[j : j + width] ** 2
            count = int(sparsity * score.size)
            whole = _kept(score.reshape(-1), count).reshape(score.shape)
            kept = _kept(score, pruned) if pruned else whole
        # eq. pruning-sparsegpt
        q = W[:, j : j + 1] * kept[:, j % width : j % width + 1]
        e = (W[:, j : j + 1] - q) / U[j, j]
        W = W - e * U[j]
        columns.append(q)
    return xp.concatenate(columns, 1)
