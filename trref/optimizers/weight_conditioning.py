r"""Weight conditioning: the network sees each weight matrix with rows of length one.

The raw matrix W, outputs by inputs, is trained; what is multiplied with the input is

.. math::
    :label: weight-conditioning-rows

    \hat W = E W, \qquad E_{ii} = \frac{1}{\max(\|W_{i:}\|_2,\, \varepsilon)},

computed anew at each forward pass, so that a layer is

.. math::
    :label: weight-conditioning-layer

    z = \hat W x + b .

Of all diagonal scalings from the left this one is within a factor :math:`\sqrt m` of the best condition number
:math:`\kappa = \sigma_1 / \sigma_{min}`, for m rows of full rank (Van der Sluis):

.. math::
    :label: weight-conditioning-condition

    \kappa(E W) \le \sqrt m\, \min_{D\ \text{diagonal}} \kappa(D W),

and the paper argues that better conditioned weights make a smoother loss. Weights have no length any more: the gradient
is orthogonal to each row,

.. math::
    :label: weight-conditioning-gradient

    \frac{\partial L}{\partial W_{i:}} = \frac{1}{\|W_{i:}\|}
    \bigl( \Gamma_{i:} - \hat W_{i:} \langle \hat W_{i:}, \Gamma_{i:} \rangle \bigr), \qquad
    \Gamma = \frac{\partial L}{\partial \hat W},

so that rows only grow under plain descent, whose effective rate is :math:`\eta / \|W_{i:}\|^2`. With E held constant
it is instead

.. math::
    :label: weight-conditioning-stopped

    \frac{\partial L}{\partial W} = E\, \Gamma .

The same can be done to columns, or to rows and then columns:

.. math::
    :label: weight-conditioning-columns

    W F, \quad F_{jj} = \frac{1}{\max(\|W_{:j}\|_2,\, \varepsilon)}; \qquad (E W) F' .

This is weight normalisation without its gain. To scale the stored weights after each step of an optimiser is another
method, a projection, in which nothing grows. A row of zeros stays zero, and its gradient is :math:`\Gamma/\varepsilon`;
a matrix of deficient rank stays so. For networks that store inputs by outputs, as :mod:`trref.nn.mlp` does, the rows
here are the columns there.

====================  ============
:math:`W`             `w`
:math:`\varepsilon`   `eps`
:math:`E`             `scale`
====================  ============

**Where implementations differ.** The equilibration of LAPACK, which linear algebra knows by that name, divides by the
largest entry of a row.

**Provenance.** Partly: rows of length one, computed anew from the raw weights at each forward pass, Van der Sluis'
theorem and the other two forms are confirmed by two independent public implementations that cite the paper. Whether the
authors differentiate through the lengths is not known: both gradients are here.

Saratchandran, Wang and Lucey, *Weight Conditioning for Smooth Optimization of Neural Networks*, 2024, arXiv:2409.03424.
"""

from trref.backend import linalg, xp
from trref.signature import (
    K,
    M,
    N,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


@checked
def row_scale(w: Real[M, N], *, eps: PositiveFloat = 1e-12) -> Positive[M]:
    """What each row is multiplied with.

    Parameters
    ----------
    w
        The raw weights, a row an output.
    eps
        Lengths are at least this.
    """
    return 1 / xp.maximum(xp.sqrt((w * w).sum(1)), eps)  # eq. weight-conditioning-rows


@checked
def equilibrate(w: Real[M, N], *, eps: PositiveFloat = 1e-12) -> Real[M, N]:
    """Give all rows length one."""
    # eq. weight-conditioning-rows
    return row_scale.unchecked(w, eps=eps)[:, None] * w


@checked
def equilibrate_jvp(
    w: Real[M, N], tangent: Real[M, N], *, eps: PositiveFloat = 1e-12
) -> Real[M, N]:
    """Differential of `equilibrate` along a tangent: it is symmetric."""
    # eq. weight-conditioning-gradient
    scale = row_scale.unchecked(w, eps=eps)[:, None]
    unit, moved = scale * w, scale * tangent
    radial = unit * (unit * moved).sum(1, keepdims=True)
    short = xp.sqrt((w * w).sum(1, keepdims=True)) < eps
    return moved - xp.where(short, 0, radial)


@checked
def equilibrate_vjp(
    w: Real[M, N], cotangent: Real[M, N], *, eps: PositiveFloat = 1e-12
) -> Real[M, N]:
    """The gradient by the raw weights, from the one by those that the network sees."""
    return equilibrate_jvp.unchecked(w, cotangent, eps=eps)


@checked
def scale_rows(w: Real[M, N], scale: Real[M]) -> Real[M, N]:
    """Multiply rows by constants: `equilibrate` with its scale held constant.

    Parameters
    ----------
    scale
        Of each row, such as the `row_scale` of the weights as they were.
    """
    return scale[:, None] * w


@checked
def scale_rows_jvp(w: Real[M, N], scale: Real[M], tangent: Real[M, N]) -> Real[M, N]:
    """Differential of `scale_rows` along a tangent of the weights."""
    return scale[:, None] * tangent


@checked
def scale_rows_vjp(w: Real[M, N], scale: Real[M], cotangent: Real[M, N]) -> Real[M, N]:
    """The gradient by the raw weights."""
    return scale[:, None] * cotangent  # eq. weight-conditioning-stopped


@checked
def equilibrate_columns(w: Real[M, N], *, eps: PositiveFloat = 1e-12) -> Real[M, N]:
    """Give all columns length one."""
    # eq. weight-conditioning-columns
    return equilibrate.unchecked(w.T, eps=eps).T.copy()


@checked
def equilibrate_columns_jvp(
    w: Real[M, N], tangent: Real[M, N], *, eps: PositiveFloat = 1e-12
) -> Real[M, N]:
    """Differential of `equilibrate_columns` along a tangent: it is symmetric."""
    return equilibrate_jvp.unchecked(w.T, tangent.T, eps=eps).T.copy()


@checked
def equilibrate_columns_vjp(
    w: Real[M, N], cotangent: Real[M, N], *, eps: PositiveFloat = 1e-12
) -> Real[M, N]:
    """Adjoint of `equilibrate_columns_jvp`."""
    return equilibrate_columns_jvp.unchecked(w, cotangent, eps=eps)


@checked
def equilibrate_both(w: Real[M, N], *, eps: PositiveFloat = 1e-12) -> Real[M, N]:
    """Give all rows length one, and then all columns."""
    # eq. weight-conditioning-columns
    rows = equilibrate.unchecked(w, eps=eps)
    return equilibrate_columns.unchecked(rows, eps=eps)


@checked
def equilibrate_both_jvp(
    w: Real[M, N], tangent: Real[M, N], *, eps: PositiveFloat = 1e-12
) -> Real[M, N]:
    """Differential of `equilibrate_both` along a tangent."""
    rows = equilibrate.unchecked(w, eps=eps)
    moved = equilibrate_jvp.unchecked(w, tangent, eps=eps)
    return equilibrate_columns_jvp.unchecked(rows, moved, eps=eps)


@checked
def equilibrate_both_vjp(
    w: Real[M, N], cotangent: Real[M, N], *, eps: PositiveFloat = 1e-12
) -> Real[M, N]:
    """Adjoint of `equilibrate_both_jvp`."""
    rows = equilibrate.unchecked(w, eps=eps)
    back = equilibrate_columns_vjp.unchecked(rows, cotangent, eps=eps)
    return equilibrate_vjp.unchecked(w, back, eps=eps)


@checked
def conditioned_linear(
    x: Real[K, N], w: Real[M, N], b: Real[M], *, eps: PositiveFloat = 1e-12
) -> Real[K, M]:
    """A layer that sees its weights with rows of length one.

    Parameters
    ----------
    x
        Inputs, a row a sample.
    b
        The bias.
    """
    # eq. weight-conditioning-layer
    return x @ equilibrate.unchecked(w, eps=eps).T + b


@checked
def conditioned_linear_jvp(
    x: Real[K, N],
    w: Real[M, N],
    b: Real[M],
    tangent: Real[M, N],
    *,
    eps: PositiveFloat = 1e-12,
) -> Real[K, M]:
    """Differential of `conditioned_linear` along a tangent of the raw weights."""
    return x @ equilibrate_jvp.unchecked(w, tangent, eps=eps).T


@checked
def conditioned_linear_vjp(
    x: Real[K, N],
    w: Real[M, N],
    b: Real[M],
    cotangent: Real[K, M],
    *,
    eps: PositiveFloat = 1e-12,
) -> Real[M, N]:
    """The gradient by the raw weights, from the one by the layer's outputs."""
    return equilibrate_vjp.unchecked(w, cotangent.T @ x, eps=eps)


@checked
def condition_number(w: Real[M, N]) -> Scalar:
    """The largest singular value over the smallest, of a matrix of full rank.

    Returns
    -------
    condition

    Raises
    ------
    ValueError
        The smallest singular value is 0 up to rounding.
    """
    # eq. weight-conditioning-condition
    s = linalg.svd(w, compute_uv=False)
    if not s[-1] > max(w.shape) * float(xp.finfo(w.dtype).eps) * s[0]:
        raise ValueError("condition_number: w must have full rank")
    return xp.asarray(s[0] / s[-1])
