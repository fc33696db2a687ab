r"""Quantisation of a layer: to the nearest level, with the error passed on (GPTQ), and with scaled inputs (AWQ).

The study of compressed trust takes these as they are. A layer has the weights W, a row an output, and has seen the
inputs X, a column a sample; what counts is its output,

.. math::
    :label: quantisation-error

    \|\hat W X - W X\|_F^2 = \mathrm{tr}\, (\hat W - W) H (\hat W - W)^\top, \qquad H = X X^\top

A row, or a group of g of its entries, has b bits for its levels, which hold 0 and reach from its smallest to its
largest entry:

.. math::
    :label: quantisation-grid

    s = \frac{\max(w, 0) - \min(w, 0)}{2^b - 1}, \quad z = \mathrm{round} \Big( {-\frac{\min(w, 0)}s} \Big), \qquad
    Q(w) = s\, \big( \mathrm{clip}( \mathrm{round}(w/s) + z, 0, 2^b - 1 ) - z \big)

or symmetrically :math:`s = \max |w| / (2^{b-1} - 1)`, :math:`z = 2^{b-1}`. GPTQ rounds one column after the other, and
lets the columns that are left make up for it. With the upper Cholesky factor of the inverse, :math:`H^{-1} = U^\top U`,

.. math::
    :label: quantisation-gptq

    q_j = Q(w_j), \qquad e_j = \frac{w_j - q_j}{U_{jj}}, \qquad W_{:,j:} \leftarrow W_{:,j:} - e_j\, U_{j,j:}

and what it leaves is :math:`\sum_j \|e_j\|^2`, exactly, in the error with the damped H. A hundredth of the mean of the
diagonal is added to it; an input that never was anything else than 0 is dead: it has its weights set to 0 and
:math:`H_{jj}` to 1. The columns may be
taken in the order of falling :math:`H_{jj}`, and groups have their levels from the weights that they have when they
are reached. AWQ multiplies inputs that are large by t before rounding and divides after,

.. math::
    :label: quantisation-scales

    t_j = \max\big( (\tfrac1N \textstyle\sum_i |X_{ji}|)^\alpha, 10^{-4} \big), \qquad t \leftarrow
    \frac{t}{\sqrt{\max t\, \min t}}

.. math::
    :label: quantisation-awq

    \hat W = Q(W \mathrm{diag}(t))\, \mathrm{diag}(t)^{-1}, \qquad \alpha \in \{0, 0.05, \dots, 0.95\} \text{ of the
    least error,}

and may then search for a smaller range: entries of a group are clipped to :math:`1 - i/20` of the largest,

.. math::
    :label: quantisation-clip

    i \in \{0, \dots, 9\} \text{ of the least } \|(\hat W - W)_g X_g\|^2 \text{ in each group g of each row.}

With H diagonal GPTQ is rounding, and so is AWQ with :math:`\alpha = 0`. That GPTQ is never worse than rounding is no
theorem; it holds where inputs are strongly correlated. Ties of rounding go to the even level. A group of zeros stays.

**Where implementations differ.** AWQ's quantiser does not make the range hold 0 and clips z to the levels, so that a
group of positive weights saturates. GPTQ's symmetric step is :math:`2 \max |w| / (2^b - 1)`, which puts the largest
weight on a tie; and the levels of its rows are found before the weights of dead inputs are 0.

**Provenance.** Confirmed by the compressors' repositories (IST-DASLab/gptq, mit-han-lab/llm-awq), which the study uses
(decoding-comp-trust/comp-trust); the exact error is derived here.

Hong et al., *Decoding Compressed Trust: Scrutinizing the Trustworthiness of Efficient LLMs Under Compression*, 2024,
arXiv:2403.15447.
"""

from typing import Annotated, Literal, NamedTuple

from trref.backend import linalg, xp
from trref.signature import (
    K,
    M,
    N,
    NonNegativeInt,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)

Bits = Annotated[int, "[1, 16]"]
EXPONENTS = tuple(i / 20 for i in range(20))


def _grouped(W, group=0, **_):
    """Groups that do not divide the row."""
    if group and W.shape[1] % group:
        raise ValueError(
            f"group must divide the row's length {W.shape[1]}, not {group}"
        )
    return [(lambda: abs(W).max() <= 1e30, "W must be at most 1e30 in size")]


class Grid(NamedTuple):
    """Step, zero point and number of steps."""

    step: Real[M, N]
    zero: Real[M, N]
    top: int


def grid_of(w, bits, symmetric=False):
    """Levels for the entries along the last axis."""
    # eq. quantisation-grid
    low, high = xp.minimum(w.min(-1), 0), xp.maximum(w.max(-1), 0)
    step = (high - low) / (2**bits - 1)
    if symmetric:
        step = xp.maximum(high, -low) / max(2 ** (bits - 1) - 1, 1)
    step = xp.where(step > 0, step, 1)
    zero = xp.full_like(step, 2 ** (bits - 1)) if symmetric else xp.round(-low / step)
    return Grid(step[..., None], zero[..., None], 2**bits - 1)


def on_grid(w, grid):
    """The nearest levels."""
    level = xp.clip(xp.round(w / grid.step) + grid.zero, 0, grid.top)
    return grid.step * (level - grid.zero)


def _rounded(W, bits, group, symmetric=False):
    parts = W.reshape(len(W), -1, group or W.shape[1])
    return on_grid(parts, grid_of(parts, bits, symmetric)).reshape(W.shape)


@checked(also=_grouped)
def round_to_grid(
    W: Real[M, K],
    *,
    bits: Bits = 4,
    group: NonNegativeInt = 0,
    levels: Literal["from 0", "symmetric"] = "from 0",
) -> Real[M, K]:
    """Round each weight to the nearest level of its row or group.

    Parameters
    ----------
    W
        Weights, a row an output.
    bits
        Of each weight.
    group
        Weights that share their levels; 0 for a whole row.
    levels
        Whether they reach from the smallest to the largest, or as far on both sides.
    """
    return _rounded(W, bits, group, levels == "symmetric")


@checked
def layer_error(W: Real[M, K], other: Real[M, K], X: Real[K, N]) -> Scalar:
    """Squared difference of the outputs of two layers.

    Parameters
    ----------
    other
        The compressed weights.
    X
        Inputs, a column a sample.
    """
    off = (other - W) @ X
    return (off * off).sum()  # eq. quantisation-error


def _curved(W, H, group=0, **_):
    """Groups that do not divide the row; an H that is not symmetric, or has a negative diagonal."""
    scale = lambda: 1e-6 * abs(H).max()  # noqa: E731
    return [
        *_grouped(W, group),
        (lambda: (abs(H - H.T) <= scale()).all(), "H must be symmetric"),
        (lambda: (H.diagonal() >= 0).all(), "H must have no negative diagonal"),
    ]


def inverse_factor(W, H, damping):
    """Weights without those of dead inputs, and the upper Cholesky factor of the inverse of the damped H."""
    alive = H.diagonal() > 0
    H = H + xp.diag(xp.where(alive, 0, 1).astype(H.dtype))
    H = H / H.diagonal().mean()
    H = H + damping * xp.eye(len(H), dtype=H.dtype)
    # H = Rᵀ R with the rows in reverse gives the upper factor of the inverse without inverting twice
    lower = linalg.cholesky(xp.flip(H))
    U = linalg.solve(xp.flip(lower), xp.eye(len(H), dtype=H.dtype))
    return xp.where(alive, W, 0), U


@checked(also=_curved)
def gptq(
    W: Real[M, K],
    H: Real[K, K],
    *,
    bits: Bits = 4,
    group: NonNegativeInt = 0,
    order: Literal["given", "by activation"] = "given",
    damping: PositiveFloat = 0.01,
) -> Real[M, K]:
    """Round column after column, each time correcting the columns that are left.

    Parameters
    ----------
    W
        Weights, a row an output.
    H
        Products of the inputs, summed over samples; any multiple, unless an input is dead: its 1 counts in the mean.
    order
        Of the columns.
    damping
        Added to the diagonal, as a share of its mean.
    """
    ranks = xp.argsort(-H.diagonal(), kind="stable")
    if order == "given":
        ranks = xp.arange(len(H))
    W, U = inverse_factor(W[:, ranks], H[ranks][:, ranks], damping)
    columns, grid = [], grid_of(W, bits)
    for j in range(W.shape[1]):
        if group and j % group == 0:
            grid = grid_of(W[:, j : j + group], bits)
        # eq. quantisation-gptq
        q = on_grid(W[:, j : j + 1], grid)
        e = (W[:, j : j + 1] - q) / U[j, j]
        W = W - e * U[j]
        columns.append(q)
    return xp.concatenate(columns, 1)[:, xp.argsort(ranks)]


class Scaled(NamedTuple):
    """Weights, and the exponent of the scales."""

    weights: Real[M, K]
    exponent: Scalar


@checked(also=_grouped)
def awq(
    W: Real[M, K], X: Real[K, N], *, bits: Bits = 4, group: NonNegativeInt = 0
) -> Scaled:
    """Round with the inputs scaled by a power of their mean size, the best of twenty.

    Parameters
    ----------
    W
        Weights, a row an output.
    X
        Inputs, a column a sample.
    """
    size, found, errors = abs(X).mean(1), [], []
    for exponent in EXPONENTS:
        # eq. quantisation-scales
        t = xp.maximum(size**exponent, 1e-4)
        t = t / xp.sqrt(t.max() * t.min())
        # eq. quantisation-awq
        found.append(_rounded(W * t, bits, group) / t)
        errors.append(layer_error.unchecked(W, found[-1], X))
    best = xp.stack(errors).argmin()
    return Scaled(xp.stack(found)[best], xp.asarray(EXPONENTS, dtype=W.dtype)[best])


@checked(also=_grouped)
def clip_range(
    W: Real[M, K], X: Real[K, N], *, bits: Bits = 4, group: NonNegativeInt = 0
) -> Real[M, K]:
    """Round with the range of each group made smaller where that helps its output.

    Parameters
    ----------
    W
        Weights, a row an output.
    X
        Inputs, a column a sample.
    """
    parts = W.reshape(len(W), -1, group or W.shape[1])
    inputs = X.reshape(parts.shape[1], parts.shape[2], -1)
    largest = abs(parts).max(-1, keepdims=True)
    found, errors = [], []
    for i in range(10):
        # eq. quantisation-clip
        top = (1 - i / 20) * largest
        clipped = xp.clip(parts, -top, top)
        found.append(on_grid(clipped, grid_of(clipped, bits)))
        off = xp.einsum("mgk,gkn->mgn", found[-1] - parts, inputs)
        errors.append((off * off).sum(-1))
    best = xp.stack(errors).argmin(0)
    chosen = (best == xp.arange(10)[:, None, None])[..., None]
    return xp.where(chosen, xp.stack(found), 0).sum(0).reshape(W.shape)
