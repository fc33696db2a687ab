r"""The tangent kernel of a two-layer network, and gradient descent with a kernel.

Gradient descent moves the outputs of a wide network (:mod:`trref.diffusion.two_layer`) as if it were linear in its
weights: by a kernel, the inner product of the derivatives of outputs i and k at two inputs. With m units,

.. math::
    :label: tangent-kernel-empirical

    H^{ik}(z, z') = \frac{z^\top z'}m \sum_r a_r^i a_r^k\; \mathbf 1[w_r^\top z > 0,\; w_r^\top z' > 0]

and for :math:`m \to \infty` it is a scalar kernel for all outputs, up to :math:`O(m^{-1/2})`:

.. math::
    :label: tangent-kernel-limit

    H \to \kappa I, \qquad \kappa(z, z') = z^\top z'\; \frac{\pi - \vartheta}{2\pi}, \qquad
    \cos\vartheta = \frac{z^\top z'}{\|z\|\,\|z'\|}

The angle is computed from half the difference and half the sum of the two directions, which is exact for parallel
ones. On the diagonal :math:`\kappa = \|z\|^2/2`; an input of 0 has the kernel 0.

k steps of gradient descent on :math:`\frac12\sum_j \|f(z_j) - y_j\|^2` from 0 give, with the kernel matrix K of the
inputs and :math:`K_q` from queries to them,

.. math::
    :label: tangent-kernel-descent

    f_k(z_q) = K_q\, K^{-1} \big( I - (I - \eta K)^k \big)\, Y, \qquad \eta \le \frac1{\lambda_{max}(K)}

by the eigenvalues of K, with :math:`k\eta` in the place of the quotient where one is 0.

Labels are noisy, and the descent must stop early. A rule for kernels with the eigenvalues :math:`\hat\lambda_i` of
:math:`K/n`, steps :math:`\eta'` of the mean loss, :math:`\eta_t = \eta' t`, and label noise :math:`\sigma`:

.. math::
    :label: tangent-kernel-stop

    \hat T = \min\Big\{ t : \Big[ \frac1n \sum_i \min\big( \hat\lambda_i, \tfrac1{\eta_t} \big) \Big]^{1/2} >
    \frac1{2e\sigma\eta_t} \Big\} - 1

The squared condition is a least of n + 1 parabolas in :math:`\eta_t`, one for each number of eigenvalues that are cut
off; the largest of their roots divided by :math:`\eta'`, rounded down, is :math:`\hat T`. It grows without bound as
:math:`\sigma \to 0`.

**Where implementations differ.** Some follow K, some K/n: a step of the mean loss is n times one of the sum. No code of
the authors was found.

**Provenance.** Reconstructed: the kernels are standard theory of wide networks, from memory, checked; the stopping rule
is that of Raskutti, Wainwright and Yu (2014) for kernel regression, from memory. Reviews of the paper say that it
assumes a stopping time and names such a rule as the model.

Han, Razaviyayn and Xu, *Neural Network-Based Score Estimation in Diffusion Models: Optimization and Generalization*,
2024, arXiv:2401.15604.
"""

import math
from typing import Annotated

from trref import validate
from trref.backend import linalg, xp
from trref.gradients.terms import unit
from trref.signature import (
    D,
    M,
    N,
    NonNegative,
    NonNegativeInt,
    P,
    PositiveFloat,
    Q,
    Real,
    Scalar,
    checked,
)


@checked
def empirical_kernel(
    W: Real[M, P], a: Real[M, D], Z: Real[N, P], queries: Real[Q, P]
) -> Real[Q, N, D, D]:
    """The tangent kernel of a network with respect to its first layer.

    Parameters
    ----------
    W, a
        First and second layer, a row a unit.
    Z
        Inputs.
    queries
        Other inputs, or the same.
    """
    on, on_queries = ((z @ W.T > 0).astype(W.dtype) for z in (Z, queries))
    pairs = (a[:, :, None] * a[:, None]).reshape(len(a), -1)
    # eq. tangent-kernel-empirical
    shared = (on_queries[:, None] * on) @ pairs / len(W)
    H = (queries @ Z.T)[:, :, None] * shared
    return H.reshape(*H.shape[:2], a.shape[1], a.shape[1])


@checked
def limit_kernel(Z: Real[N, P], queries: Real[Q, P]) -> Real[Q, N]:
    """The tangent kernel of a network of infinite width, for each output.

    Parameters
    ----------
    queries
        Other inputs, or the same.
    """
    u, v = unit(queries)[:, None], unit(Z)
    apart, together = (linalg.norm(w, axis=2) for w in (u - v, u + v))
    # eq. tangent-kernel-limit
    angle = 2 * xp.arctan2(apart, together)
    return queries @ Z.T * (math.pi - angle) / (2 * math.pi)


def _symmetric(kernel, **_):
    """A kernel that is not symmetric, to 1e-4 of its largest entry."""
    off = lambda: (abs(kernel - kernel.T) <= 1e-4 * abs(kernel).max()).all()  # noqa: E731
    return [(off, "kernel must be symmetric")]


@checked(also=_symmetric)
def kernel_descent(
    kernel: Real[N, N],
    query_kernel: Real[Q, N],
    Y: Real[N, D],
    *,
    lr: PositiveFloat = 0.01,
    steps: NonNegativeInt = 100,
) -> Real[Q, D]:
    """Predict after some steps of gradient descent from 0.

    Parameters
    ----------
    kernel
        Of the training inputs, symmetric and positive semi-definite.
    query_kernel
        From queries to training inputs.
    Y
        Labels.
    lr
        Step of the summed loss, at most one over the largest eigenvalue.

    Raises
    ------
    ValueError
        An `lr` that is too large for the kernel; a `kernel` with an eigenvalue below 0.
    """
    values, V = linalg.eigh(kernel)
    validate.require(
        (
            lambda: lr * values[-1] <= 1 + 1e-4,
            "lr must be at most one over the largest eigenvalue of kernel",
        ),
        (
            lambda: values[0] >= -1e-4 * abs(values[-1]),
            "kernel must be positive semi-definite",
        ),
    )
    # eq. tangent-kernel-descent
    x = xp.clip(lr * values, 0, 1 - float(xp.finfo(values.dtype).eps))
    done = -xp.expm1(steps * xp.log1p(-x))
    share = xp.where(x > 0, done / xp.where(x > 0, x, 1), steps)
    return query_kernel @ (V @ (lr * share[:, None] * (V.T @ Y)))


def _some(eigenvalues, **_):
    """Eigenvalues that are all 0."""
    return [(lambda: eigenvalues.max() > 0, "eigenvalues must not all be 0")]


@checked(also=_some)
def early_stop(
    eigenvalues: NonNegative[N],
    *,
    noise: Annotated[float, "[1e-6, inf)"] = 1.0,
    lr: Annotated[float, "[1e-10, inf)"] = 0.1,
) -> Scalar:
    """The number of steps after which the rule stops.

    Parameters
    ----------
    eigenvalues
        Of the kernel matrix divided by the number of samples, in any order.
    noise
        Standard deviation of the labels, or a bound.
    lr
        Step of the mean loss.
    """
    values = xp.sort(eigenvalues)
    n = len(values)
    wanted = n / (2 * math.e * noise) ** 2
    # eq. tangent-kernel-stop
    below = xp.concatenate([xp.zeros_like(values[:1]), xp.cumsum(values)])
    cut = xp.arange(n, -1, -1).astype(values.dtype)
    root = cut + xp.sqrt(cut * cut + 4 * wanted * below)
    eta = (2 * wanted / root).max()
    return xp.floor(eta / lr)
