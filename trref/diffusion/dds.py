r"""DDS: a few conjugate gradients on the estimate of the data, instead of a gradient through the model.

To recover data from measurements :math:`y = Ax + n` a diffusion sampler can be led towards them at each step. DDS takes
the model's estimate of the data, improves its agreement with y by a few steps of conjugate gradients, and goes on from
there; nothing is differentiated. With :math:`\hat x_0` the estimate that belongs to the predicted noise
:math:`\hat\varepsilon` (:func:`trref.diffusion.score_models.denoise`), the systems are

.. math::
    :label: dds-noiseless

    A^\top\! A\, x = A^\top y \qquad \text{(measurements without noise)}

.. math::
    :label: dds-noisy

    (I + \gamma A^\top\! A)\, x = \hat x_0 + \gamma A^\top y, \quad \text{that is} \quad
    \min_x \tfrac\gamma2 \|y - Ax\|^2 + \tfrac12 \|x - \hat x_0\|^2,

both from :math:`x^{(0)} = \hat x_0`, a row a system, by

.. math::
    :label: dds-cg

    a = \frac{r^\top r}{p^\top \mathcal A p}, \quad x \leftarrow x + a p, \quad r \leftarrow r - a \mathcal A p, \quad
    p \leftarrow r + \frac{r^\top r}{r_{old}^\top r_{old}}\, p, \qquad r = p = b - \mathcal A x^{(0)}.

After :math:`l` steps of either, :math:`x^{(l)}` is the minimiser over
:math:`\hat x_0 + \mathcal K_l(A^\top\! A,\; A^\top(y - A\hat x_0))`: the two residuals point the same way, and
:math:`I + \gamma A^\top\! A` makes the same Krylov space. If that space lies in the tangent space of the data at
:math:`\hat x_0`, the correction stays in it. All the way,

.. math::
    :label: dds-exact

    x^* = \hat x_0 + \gamma A^\top (I + \gamma A A^\top)^{-1} (y - A \hat x_0)

.. math::
    :label: dds-projection

    x^* = \hat x_0 + A^+ (y - A \hat x_0) \qquad (\gamma \to \infty)

and what A does not see of :math:`\hat x_0` stays. The step of the sampler puts the noise back that was predicted,

.. math::
    :label: dds-step

    x_s = \sqrt{\bar\alpha_s}\,\hat x_0' + \sqrt{1 - \bar\alpha_s - \eta^2\tilde\beta^2}\;\hat\varepsilon +
    \eta\tilde\beta z, \qquad
    \tilde\beta^2 = \frac{1-\bar\alpha_s}{1-\bar\alpha_t} \Big( 1 - \frac{\bar\alpha_t}{\bar\alpha_s} \Big),

with :math:`\hat x_0'` the corrected estimate; or, where noise is added to the data as they are (VE),

.. math::
    :label: dds-step-ve

    x_s = \hat x_0' + \sqrt{\sigma_s^2 - \eta^2\tilde\beta^2}\;\hat\varepsilon + \eta\tilde\beta z, \qquad
    \hat x_0 = x_t - \sigma_t \hat\varepsilon, \qquad
    \tilde\beta^2 = \frac{\sigma_s^2 (\sigma_t^2 - \sigma_s^2)}{\sigma_t^2} .

**Volumes.** Slices of a volume are rows, and their neighbours are tied by the total variation across slices, with
:math:`(Dx)_n = x_{n+1} - x_n` around a circle. One iteration of ADMM, whose :math:`z` and :math:`w` are carried over to
the next step of the sampler, is

.. math::
    :label: dds-admm

    (A^\top\! A + \rho D^\top\! D)\, x = A^\top y + \rho D^\top (z - w), \qquad
    z \leftarrow \mathrm{soft}\Big( Dx + w,\; \frac\lambda\rho \Big), \qquad w \leftarrow w + Dx - z,

with conjugate gradients from :math:`\hat x_0` on all rows as one system.

**What it replaces.** Diffusion posterior sampling (DPS) follows the gradient through the model, at the cost of its
Jacobian :math:`J = \frac{\sqrt{\bar\alpha}}{1-\bar\alpha} \mathrm{Cov}(x_0|x)`:

.. math::
    :label: dds-dps

    \nabla_x \tfrac12 \|y - A \hat x_0(x)\|^2 = -J^\top A^\top (y - A \hat x_0)

A row of conjugate gradients ends where its residual is no more than rounding: what A does not see is in it then, and
would be divided by nothing. A row that agrees with y from the start, and :math:`l = 0`, leave the estimate as it is.
Measurements that no x gives have no noiseless solution: then the steps approach the least squares.

**Where implementations differ.** The authors' conjugate gradients take one step length for a whole batch (their
batches are single images, or one volume) and stop at a residual of 1e-5. Their sampler splits the noise as
:math:`\eta\sqrt{1-\bar\alpha_s}\,z + \sqrt{1-\eta^2}\sqrt{1-\bar\alpha_s}\;\hat\varepsilon`, of the same variance; its
last step comes one call too early, and the model then denoises a finished sample. Where a pseudo-inverse is cheap
(magnetic resonance with one coil) it stands in the place of conjugate gradients.

**Provenance.** Confirmed by the authors' solvers: systems, conjugate gradients, ADMM and step; the split of the noise
by the posterior's variance is from memory of the paper. Krylov spaces, limits and DPS's gradient are derived here and
checked. The numbers that are defaults here, beside the 5 iterations, are those of the authors' scripts from memory.

Chung, Lee and Ye, *Decomposed Diffusion Sampler for Accelerating Large-Scale Inverse Problems*, 2023, arXiv:2303.05754.
"""

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.diffusion.score_models import denoise, renoise
from trref.diffusion.terms import predicted, pulled, to_less_noise
from trref.problems.protocols import DenoisingModel, Measurement
from trref.signature import (
    D,
    Fraction,
    M,
    N,
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


class Volume(NamedTuple):
    """A volume in ADMM: slices, and the two variables of its constraint."""

    x: Real[N, D]
    """The slices."""
    split: Real[N, D]
    """Their differences, shrunk."""
    dual: Real[N, D]
    """The scaled multipliers."""


def _applied(name, function, x, shape):
    value = function(x)
    validate.returned(name, value, shape, finite=True)
    if value.dtype != x.dtype:
        raise TypeError(
            f"{name} must return {x.dtype} for {x.dtype}, not {value.dtype}"
        )
    return value


def _pair(measurement, x0, y):
    """The measurement and its adjoint, whose answers are looked at."""
    return (
        lambda x: _applied("measurement", measurement, x, y.shape),
        lambda r: _applied("measurement.adjoint", measurement.adjoint, r, x0.shape),
    )


@checked
def row_cg(
    operator: Callable,
    b: Real[N, D],
    x0: Real[N, D],
    *,
    iterations: NonNegativeInt = 5,
) -> Real[N, D]:
    """Take a number of conjugate gradient steps on one system a row.

    Parameters
    ----------
    operator
        ``operator(x (N, D)) -> (N, D)``: a symmetric positive semi-definite matrix times each row.
    b
        Right-hand sides; where the matrix is singular, in its range up to rounding.
    x0
        Where the rows start.
    iterations
        Steps; a row of which the residual is rounding takes no more.

    Raises
    ------
    ValueError
        An `operator` whose result has another shape or is not finite.
    """
    # eq. dds-cg
    Ax = _applied("operator", operator, x0, x0.shape)
    x, r = x0.copy(), b - Ax
    p, rr, going = r, (r * r).sum(1), True
    rounding = (100 * float(xp.finfo(x.dtype).eps)) ** 2 * (b * b + Ax * Ax).sum(1)
    for _ in range(iterations):
        Ap = _applied("operator", operator, p, x.shape)
        pAp = (p * Ap).sum(1)
        going = going & (rr > rounding) & (pAp > 0)
        a = xp.where(going, rr / xp.where(going, pAp, 1), 0)[:, None]
        x = x + a * p
        r = r - a * Ap
        rr, old = (r * r).sum(1), rr
        p = r + xp.where(going, rr / xp.where(going, old, 1), 0)[:, None] * p
    return x


@checked
def dc_noiseless(
    measurement: Measurement,
    x0: Real[N, D],
    y: Real[N, M],
    *,
    iterations: NonNegativeInt = 5,
) -> Real[N, D]:
    """Move estimates towards agreement with measurements.

    Parameters
    ----------
    measurement
        Such as `trref.problems.measurements.LinearMeasurement`.
    x0
        Estimates of the data.
    y
        What was measured.
    iterations
        Steps of conjugate gradients.

    Raises
    ------
    ValueError
        A `measurement` or adjoint whose result has another shape or is not finite.
    """
    A, AT = _pair(measurement, x0, y)
    # eq. dds-noiseless
    return row_cg.unchecked(lambda x: AT(A(x)), AT(y), x0, iterations=iterations)


@checked
def dc_noisy(
    measurement: Measurement,
    x0: Real[N, D],
    y: Real[N, M],
    *,
    gamma: PositiveFloat = 5.0,
    iterations: NonNegativeInt = 5,
) -> Real[N, D]:
    """Move estimates towards noisy measurements, but not all the way.

    Parameters
    ----------
    gamma
        Weight of the measurements against the estimate.

    Raises
    ------
    ValueError
        A `measurement` or adjoint whose result has another shape or is not finite.
    """
    A, AT = _pair(measurement, x0, y)
    # eq. dds-noisy
    b = x0 + gamma * AT(y)
    return row_cg.unchecked(
        lambda x: x + gamma * AT(A(x)), b, x0, iterations=iterations
    )


@checked
def exact_consistency(
    A: Real[M, D], x0: Real[N, D], y: Real[N, M], *, gamma: PositiveFloat = 5.0
) -> Real[N, D]:
    """What `dc_noisy` tends to with more iterations.

    Parameters
    ----------
    A
        The matrix of the measurement.
    """
    # eq. dds-exact
    gram = xp.eye(len(A), dtype=A.dtype) + gamma * A @ A.T
    return x0 + gamma * linalg.solve(gram, (y - x0 @ A.T).T).T @ A


@checked
def full_projection(A: Real[M, D], x0: Real[N, D], y: Real[N, M]) -> Real[N, D]:
    """What `dc_noiseless` tends to with more iterations."""
    rcond = max(A.shape) * float(xp.finfo(A.dtype).eps)
    # eq. dds-projection
    return x0 + (y - x0 @ A.T) @ linalg.pinv(A, rcond=rcond).T


def _corrected(measurement, x0, y, gamma, iterations):
    if gamma is None:
        return dc_noiseless.unchecked(measurement, x0, y, iterations=iterations)
    how = {"gamma": gamma, "iterations": iterations}
    return dc_noisy.unchecked(measurement, x0, y, **how)


@checked(also=to_less_noise)
def dds_step(
    measurement: Measurement,
    x: Real[N, D],
    noise: Real[N, D],
    z: Real[N, D],
    y: Real[N, M],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: Annotated[float, "(0, 1]"] = 0.8,
    eta: Fraction = 0.85,
    gamma: PositiveFloat | None = None,
    iterations: NonNegativeInt = 5,
) -> Real[N, D]:
    """Take one step of the sampler towards data that agree with measurements.

    Parameters
    ----------
    x
        Where it is.
    noise
        The model's estimate of the noise in `x`.
    z
        Fresh standard normal noise; without effect for eta 0.
    alpha_bar, next_alpha_bar
        Squared signal level now and after the step, the second not below the first; 1 for the corrected estimate.
    eta
        0 for DDIM, 1 for DDPM with the posterior variance.
    gamma
        As by `dc_noisy`; None for measurements without noise.

    Raises
    ------
    ValueError
        A `measurement` or adjoint whose result has another shape or is not finite.
    """
    x0 = denoise.unchecked(x, noise, alpha_bar=alpha_bar)
    x0 = _corrected(measurement, x0, y, gamma, iterations)
    # eq. dds-step
    levels = {"alpha_bar": alpha_bar, "next_alpha_bar": next_alpha_bar}
    return renoise.unchecked(x0, noise, z, **levels, eta=eta)


def _less_noise(sigma, next_sigma, **_):
    """A step to more noise."""
    message = f"next_sigma must not be above sigma = {sigma}"
    return [(lambda: next_sigma <= sigma, message)]


@checked(also=_less_noise)
def dds_step_ve(
    measurement: Measurement,
    x: Real[N, D],
    noise: Real[N, D],
    z: Real[N, D],
    y: Real[N, M],
    *,
    sigma: PositiveFloat = 1.0,
    next_sigma: NonNegativeFloat = 0.5,
    eta: Fraction = 0.85,
    gamma: PositiveFloat | None = None,
    iterations: NonNegativeInt = 5,
) -> Real[N, D]:
    """Take one such step where noise was added to the data as they are.

    Parameters
    ----------
    sigma, next_sigma
        Noise level now and after the step, the second not above the first; 0 for the corrected estimate.
    eta
        0 for none of the noise drawn afresh, 1 for that of the posterior.
    gamma
        As by `dc_noisy`; None for measurements without noise.

    Raises
    ------
    ValueError
        A `measurement` or adjoint whose result has another shape or is not finite.
    """
    x0 = _corrected(measurement, x - sigma * noise, y, gamma, iterations)
    # eq. dds-step-ve
    left = (next_sigma / sigma) ** 2
    fresh = eta * math.sqrt(1 - left) * next_sigma
    kept = next_sigma * math.sqrt(1 - eta**2 * (1 - left))
    return x0 + kept * noise + fresh * z


@checked
def admm_tv(
    measurement: Measurement,
    x0: Real[N, D],
    y: Real[N, M],
    split: Real[N, D],
    dual: Real[N, D],
    *,
    rho: PositiveFloat = 10.0,
    tv_weight: NonNegativeFloat = 0.04,
    iterations: NonNegativeInt = 5,
) -> Volume:
    """Take one iteration of ADMM on a volume whose slices are rows.

    Parameters
    ----------
    x0
        Estimates of the slices.
    split, dual
        From the iteration before; 0 at the start.
    rho
        Weight of the constraint that ties the differences of slices to `split`.
    tv_weight
        Of the total variation across slices.

    Raises
    ------
    ValueError
        A `measurement` or adjoint whose result has another shape or is not finite.
    """
    A, AT = _pair(measurement, x0, y)
    shape = x0.shape

    def system(x):
        x = x.reshape(shape)
        return (AT(A(x)) + rho * _difference_adjoint(_difference(x))).reshape(1, -1)

    # eq. dds-admm
    b = AT(y) + rho * _difference_adjoint(split - dual)
    start = x0.reshape(1, -1)
    x = row_cg.unchecked(system, b.reshape(1, -1), start, iterations=iterations)
    x = x.reshape(shape)
    moved = _difference(x) + dual
    split = xp.sign(moved) * xp.maximum(abs(moved) - tv_weight / rho, 0)
    return Volume(x, split, moved - split)


def _difference(x):
    return xp.roll(x, -1, 0) - x


def _difference_adjoint(x):
    return xp.roll(x, 1, 0) - x


@checked
def dps_loss(
    model: DenoisingModel,
    measurement: Measurement,
    x: Real[N, D],
    y: Real[N, M],
    *,
    time: Fraction = 0.5,
) -> tuple[Scalar, Real[N, D]]:
    """Misfit of the model's estimate, added up over the rows, and its gradient through the model.

    Parameters
    ----------
    model
        The estimate of the data, at points (N, D) and noise times (N,).
    x
        Noisy data.
    time
        Their noise time.

    Raises
    ------
    ValueError
        A `model`, `measurement` or derivative whose result has another shape or is not finite.
    """
    x0 = predicted(model, x, time)
    A, AT = _pair(measurement, x0, y)
    r = A(x0) - y
    # eq. dds-dps
    return (r * r).sum() / 2, pulled(model, x, time, AT(r))
