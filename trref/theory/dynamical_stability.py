r"""Dynamical stability: which minima SGD can stay at, by the second moments of its noise.

Near a minimum that fits all samples, with the loss :math:`\frac1{2n} \sum_i (f(x_i) - y_i)^2` and
:math:`g_i = \nabla_\theta f(x_i)`, the Hessian is :math:`G = \frac1n \sum_i g_i g_i^\top`, and SGD with a batch S of B
samples is the random linear recursion :math:`\delta \leftarrow (I - \eta\, \hat G_S)\, \delta` with
:math:`\hat G_S = \frac1B \sum_{i \in S} g_i g_i^\top`. The second moment :math:`M = E\, \delta \delta^\top` moves by

.. math::
    :label: dynamical-stability-map

    \mathcal T(M) = M - \eta\, (G M + M G) + \eta^2 \Big[ c_1 \frac1n \sum_i (g_i^\top M g_i)\, g_i g_i^\top +
    c_2\, G M G \Big]

.. math::
    :label: dynamical-stability-batch

    c_1 = \tfrac1B \;\text{ with replacement,} \quad c_1 = \frac{n - B}{B (n - 1)} \;\text{ without,} \quad
    c_2 = 1 - c_1 .

The map is self-adjoint for :math:`\langle M, N \rangle = \mathrm{tr}\, M N`, and maps positive semidefinite matrices to
such, so its spectral radius is its largest eigenvalue. With :math:`\mathcal T = I - \eta \mathcal A + \eta^2 \mathcal
B` it is at most 1 where :math:`\eta\, \mathcal B \preceq \mathcal A`: the largest stable step is

.. math::
    :label: dynamical-stability-critical

    \eta^* = 1 / \lambda_{max}\big( \mathcal A^{-1/2}\, \mathcal B\, \mathcal A^{-1/2} \big)

on the span of the gradients (elsewhere nothing moves). In the eigenvectors of G, with eigenvalues :math:`\lambda_j`,
:math:`\mathcal A` multiplies entry (j, k) by :math:`\lambda_j + \lambda_k`. Asking that one step shrink every
:math:`\delta` in the mean square is more:

.. math::
    :label: dynamical-stability-one-step

    (I - \eta G)^2 + \eta^2 c_1 \Sigma \preceq I, \qquad \Sigma = \frac1n \sum_i \|g_i\|^2 g_i g_i^\top - G^2

The inner product of :math:`\mathcal T(I)` with I bounds the step from above, by the fourth powers of the norms, and,
since :math:`\hat G_S` has at most rank B, by the trace, that is the flatness of the minimum:

.. math::
    :label: dynamical-stability-squares

    \eta\, \Big( c_1 \frac1n \sum_i \|g_i\|^4 + c_2 \|G\|_F^2 \Big) \le 2\, \mathrm{tr}\, G

.. math::
    :label: dynamical-stability-trace

    \mathrm{tr}\, G \le \frac{2 B}\eta

where gradient descent needs no more than

.. math::
    :label: dynamical-stability-gd

    \lambda_{max}(G) \le \frac2\eta .

Another notion, of the loss, bounds the Frobenius norm. If the noise of the gradient is aligned with G,

.. math::
    :label: dynamical-stability-alignment

    \mathrm{tr}\big( \Sigma(\delta)\, G \big) = 2 \mu\, L\, \|G\|_F^2, \qquad
    \Sigma(\delta) = \frac1n \sum_i (g_i^\top \delta)^2\, g_i g_i^\top - G \delta \delta^\top G, \quad
    L = \tfrac12 \delta^\top G\, \delta,

then a loss that does not grow needs :math:`\|G\|_F \le \frac1\eta \sqrt{B/\mu}` (with replacement). For small
networks the trace is a norm of the function. Two layers of ReLU, :math:`f = \sum_j a_j \max(w_j^\top x, 0)` at
normal inputs in d dimensions:

.. math::
    :label: dynamical-stability-relu

    \mathrm{tr}\, G = \frac12 \sum_j \big( \|w_j\|^2 + d\, a_j^2 \big) \ge \sqrt d \sum_j |a_j|\, \|w_j\|

the *path norm* on the right. Diagonal linear networks, :math:`f = \sum_j a_j b_j x_j` at white inputs, and
:math:`f = \sum_j (u_j^2 - v_j^2)\, x_j`:

.. math::
    :label: dynamical-stability-diagonal

    \mathrm{tr}\, G = \sum_j (a_j^2 + b_j^2) \ge 2 \sum_j |a_j b_j|

.. math::
    :label: dynamical-stability-difference

    \mathrm{tr}\, G = 4 \sum_j (u_j^2 + v_j^2) \ge 4 \sum_j |u_j^2 - v_j^2|

with equality for balanced layers in the first, and in the second where u or v is 0 for each j.

==================  ==============================
:math:`B`           ``batch``
:math:`\delta`      ``displacement``
==================  ==============================

**Where implementations differ.** A loss without the factor ½ has the Hessian 2 G, and all bounds halve. For large
batches "the trace is at most :math:`2/\eta`" is not true. The conditions on the trace are necessary, not sufficient;
and above :math:`\eta^*` most runs may still converge while their second moment explodes, so medians of simulations do
not show it.

**Provenance.** The bounds on trace, eigenvalue and Frobenius norm are confirmed by the abstract; :math:`c_1` without
replacement and the condition of one step by the first author's lecture slides; everything else is derived here, the
closed form of :math:`\eta^*` included.

Wu and Su, *The Implicit Regularization of Dynamical Stability in Stochastic Gradient Descent*, 2023, arXiv:2305.17490.
"""

from typing import NamedTuple

from trref.backend import linalg, xp
from trref.signature import (
    D,
    H,
    N,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


class StepBounds(NamedTuple):
    """Steps above which SGD is not stable, by the fourth powers and by the trace; and gradient descent is not."""

    by_squares: Scalar
    by_trace: Scalar
    gradient_descent: Scalar


class TraceBound(NamedTuple):
    """The trace of G, and the norm of the function that it is never below."""

    trace: Scalar
    norm: Scalar


def _drawn(gradients, batch, replacement, **_):
    """A batch larger than the number of samples that are drawn from without replacement; gradients that are all 0."""
    if not replacement and batch > len(gradients):
        raise ValueError(
            f"batch must be at most the {len(gradients)} rows of gradients without replacement, not {batch}"
        )
    return [(lambda: (gradients != 0).any(), "gradients must not all be 0")]


def _noise_share(n, batch, replacement):
    """c₁ of one batch."""
    # eq. dynamical-stability-batch
    return 1 / batch if replacement else (n - batch) / (batch * max(n - 1, 1))


@checked(also=_drawn)
def second_moment_map(
    M: Real[P, P],
    gradients: Real[N, P],
    *,
    lr: PositiveFloat = 0.1,
    batch: PositiveInt = 1,
    replacement: bool = True,
) -> Real[P, P]:
    """Second moment of the distance to the minimum after one step.

    Parameters
    ----------
    M
        The second moment before.
    gradients
        Of the model's output at each sample, one a row.
    batch
        Samples a step.
    replacement
        Whether they are drawn with replacement.
    """
    n = len(gradients)
    c1 = _noise_share(n, batch, replacement)
    G = gradients.T @ gradients / n
    GM = G @ M
    along = ((gradients @ M) * gradients).sum(1)
    noise = (gradients.T * along) @ gradients / n
    # eq. dynamical-stability-map
    return M - lr * (GM + M @ G) + lr**2 * (c1 * noise + (1 - c1) * GM @ G)


@checked(also=_drawn)
def critical_step(
    gradients: Real[N, P], *, batch: PositiveInt = 1, replacement: bool = True
) -> Scalar:
    """Largest step at which SGD is stable in the mean square."""
    gradients, unit = _in_units(gradients)
    c1 = _noise_share(len(gradients), batch, replacement)
    eigenvalues, g = _principal(gradients)
    # eq. dynamical-stability-critical
    sums = eigenvalues[:, None] + eigenvalues
    roots = 1 / xp.sqrt(xp.where(sums > 0, sums, 1))  # g is 0 where the sum is
    moments = (g[:, :, None] * g[:, None] * roots).reshape(len(g), sums.size)
    mean = eigenvalues[:, None] * eigenvalues * roots**2
    noise = c1 * moments.T @ moments / len(g) + (1 - c1) * xp.diag(mean.ravel())
    return 1 / _largest(noise) / unit**2


@checked(also=_drawn)
def one_step_critical(
    gradients: Real[N, P], *, batch: PositiveInt = 1, replacement: bool = True
) -> Scalar:
    """Largest step that shrinks every displacement in the mean square at once."""
    gradients, unit = _in_units(gradients)
    c1 = _noise_share(len(gradients), batch, replacement)
    eigenvalues, g = _principal(gradients)
    roots = 1 / xp.sqrt(xp.where(eigenvalues > 0, eigenvalues, 1))
    lengths = (g * g).sum(1)
    fourth = (g.T * lengths) @ g / len(g)
    # eq. dynamical-stability-one-step
    square = c1 * fourth + (1 - c1) * xp.diag(eigenvalues**2)
    return 2 / _largest(roots[:, None] * square * roots) / unit**2


def _in_units(x):
    """Entries of at most 1, whose powers neither over- nor underflow, and their unit."""
    unit = abs(x).max()
    return x / unit, unit


def _principal(gradients):
    """Eigenvalues of G, those of rounding 0, and the gradients in its eigenvectors."""
    eigenvalues, basis = linalg.eigh(gradients.T @ gradients / len(gradients))
    eps = xp.finfo(gradients.dtype).eps
    rounding = 10 * len(eigenvalues) * eps * eigenvalues[-1]
    inside = eigenvalues > rounding
    return xp.where(inside, eigenvalues, 0), xp.where(inside, gradients @ basis, 0)


def _largest(symmetric):
    return linalg.eigvalsh(symmetric)[-1]


@checked(also=_drawn)
def step_bounds(
    gradients: Real[N, P], *, batch: PositiveInt = 1, replacement: bool = True
) -> StepBounds:
    """Upper bounds of the stable step."""
    gradients, unit = _in_units(gradients)
    c1 = _noise_share(len(gradients), batch, replacement)
    G = gradients.T @ gradients / len(gradients)
    trace = xp.trace(G)
    fourth = ((gradients * gradients).sum(1) ** 2).mean()
    # eq. dynamical-stability-squares
    by_squares = 2 * trace / (c1 * fourth + (1 - c1) * (G * G).sum())
    by_trace = 2 * batch / trace  # eq. dynamical-stability-trace
    descent = 2 / _largest(G)  # eq. dynamical-stability-gd
    return StepBounds(by_squares / unit**2, by_trace / unit**2, descent / unit**2)


def _seen(gradients, displacement):
    """A displacement that no gradient sees: the loss is 0 there."""
    message = "displacement must change the output at some sample"
    return [(lambda: (gradients @ displacement != 0).any(), message)]


@checked(also=_seen)
def alignment(gradients: Real[N, P], displacement: Real[P]) -> Scalar:
    r"""How much of the gradient's noise lies along the curvature, :math:`\mu`.

    Parameters
    ----------
    displacement
        From the minimum.
    """
    gradients, displacement = _in_units(gradients)[0], _in_units(displacement)[0]
    n, residuals = len(gradients), gradients @ displacement
    G = gradients.T @ gradients / n
    mean = gradients.T @ residuals / n
    loss = (residuals * residuals).mean() / 2
    curvature = ((gradients @ G) * gradients).sum(1)
    noise = (residuals**2 * curvature).mean() - mean @ G @ mean
    return noise / (2 * loss * (G * G).sum())  # eq. dynamical-stability-alignment


@checked
def relu_trace(a: Real[H], W: Real[H, D]) -> TraceBound:
    """Trace of G for two layers of ReLU at standard normal inputs.

    Parameters
    ----------
    a
        Weights of the output.
    W
        Weights of each hidden unit, one a row.
    """
    d, lengths = W.shape[1], xp.sqrt((W * W).sum(1))
    trace = (lengths**2 + d * a**2).sum() / 2
    # eq. dynamical-stability-relu
    return TraceBound(trace, d**0.5 * (abs(a) * lengths).sum())


@checked
def diagonal_trace(a: Real[D], b: Real[D]) -> TraceBound:
    """Trace of G for a diagonal linear network at white inputs.

    Parameters
    ----------
    a, b
        Weights of the two layers.
    """
    # eq. dynamical-stability-diagonal
    return TraceBound((a * a + b * b).sum(), 2 * abs(a * b).sum())


@checked
def difference_trace(u: Real[D], v: Real[D]) -> TraceBound:
    """Trace of G for the difference of two squared layers at white inputs.

    Parameters
    ----------
    u, v
        Weights of the two layers.
    """
    # eq. dynamical-stability-difference
    return TraceBound(4 * (u * u + v * v).sum(), 4 * abs(u * u - v * v).sum())
