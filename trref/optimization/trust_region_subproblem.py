r"""The trust-region subproblem, solved exactly.

Minimise the model :math:`m(p) = g^\top p + \tfrac12 p^\top B p` over :math:`\|p\| \le \Delta`, for any symmetric
:math:`B`. Although the model need not be convex, its global minimisers can be told by looking at them: :math:`p` is
one if and only if a multiplier :math:`\lambda` exists with

.. math::
    :label: trust-region-subproblem-optimality

    (B + \lambda I)\, p = -g, \qquad B + \lambda I \succeq 0, \qquad \lambda \ge 0, \qquad
    \lambda\, (\Delta - \|p\|) = 0 .

Unless the unconstrained minimiser lies inside, this is one equation in :math:`\lambda > \max(0, -\lambda_1)`, nearly
linear in the form :math:`1/\Delta - 1/\|p(\lambda)\| = 0`. With the eigenvalues :math:`w_i` of :math:`B` and the
coordinates :math:`c_i` of :math:`g` in its eigenvectors

.. math::
    :label: trust-region-subproblem-secular

    \|p\|^2 = \sum_i \frac{c_i^2}{(w_i + \lambda)^2}, \qquad \|w\|^2 = \sum_i \frac{c_i^2}{(w_i + \lambda)^3},

and Newton's step for that form is

.. math::
    :label: trust-region-subproblem-newton

    \lambda \leftarrow \lambda + \frac{\|p\|^2}{\|w\|^2}\, \frac{\|p\| - \Delta}{\Delta} .

In the hard case :math:`\lambda_1 \le 0`, :math:`g` is orthogonal to the eigenvectors of :math:`\lambda_1`, and
:math:`\|(B - \lambda_1 I)^\dagger g\| \le \Delta`. Then :math:`\lambda = -\lambda_1` and, for either sign of
:math:`\tau`,

.. math::
    :label: trust-region-subproblem-hard

    p = -(B - \lambda_1 I)^\dagger g + \tau v_1, \qquad \|p\| = \Delta .

The multiplier is also the rightmost eigenvalue of a matrix of twice the size,

.. math::
    :label: trust-region-subproblem-pencil

    \begin{pmatrix} -B & gg^\top/\Delta^2 \\ I & -B \end{pmatrix}
    \begin{pmatrix} y_1 \\ y_2 \end{pmatrix} = \lambda \begin{pmatrix} y_1 \\ y_2 \end{pmatrix}, \qquad
    p = -\mathrm{sign}(g^\top y_2)\, \Delta\, \frac{y_1}{\|y_1\|},

where :math:`y_1 \approx 0` tells the hard case, with :math:`v_1` in :math:`y_2`.

Near the hard case :math:`\lambda` cannot be told from :math:`-\lambda_1` in floating point. `eigen_step` avoids that:
its unknown is the difference :math:`\lambda + \lambda_1`, which is resolved however small. `pencil_step` loses up to
two thirds of the digits there. :func:`trref.optimization.more_sorensen.more_sorensen` needs no eigenvalues.

========================  ===============
:math:`\Delta`            `radius`
:math:`\lambda`           `multiplier`
:math:`\lambda_1`         the smallest eigenvalue of `B`
========================  ===============

Where both signs of :math:`\tau` give a minimiser, in the hard case, `eigen_step` takes the eigenvector as it comes. A
gradient of zero has the zero step where the model is convex. Both solvers work in units in which radius and matrix are
near 1 (`trref.optimization.terms.in_units`).

**Where implementations differ.** SciPy's ``trust-exact`` stops when :math:`|\,\|p\| - \Delta| \le 0.1 \Delta`, or at a
relative error of 0.2 of the model's value in the hard case: enough for convergence, but model values are up to 13 %
off.

**Provenance.** Newton's step and the hard case are confirmed by SciPy's sources, the eigenvalue problem by
Nakatsukasa's script in TRS.jl; the conditions of optimality are textbook, and checked here on thousands of random
problems.

Adachi, Iwata, Nakatsukasa and Takeda, *Solving the Trust-Region
Subproblem by a Generalized Eigenvalue Problem*, 2017.
"""

import math

from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.optimization.terms import (
    ExactStep,
    boundary_steps,
    in_units,
    well_posed,
)
from trref.signature import N, PositiveFloat, Real, checked


@checked(also=well_posed)
def eigen_step(g: Real[N], B: Real[N, N], *, radius: PositiveFloat) -> ExactStep:
    """Solve the subproblem by the eigenvalues of B: the most accurate way, for n up to some hundred.

    Parameters
    ----------
    g
        Gradient of the model.
    B
        Its Hessian.

    Returns
    -------
    ExactStep
        A coordinate of g below n·eps ‖g‖ counts as zero in the eigenspace of the smallest eigenvalue.
    """
    g, B, radius, units = in_units(g, B, radius)
    w, Q = linalg.eigh((B + B.T) / 2)
    w, c = xp.stack([w, Q.T @ g]).tolist()
    tiny = len(w) * float(xp.finfo(B.dtype).eps)
    least = max(0.0, -w[0])  # of the multipliers that make B + λI semidefinite
    size, norm = max(map(abs, w)), math.hypot(*c)
    gap = [d if d > tiny * size else 0.0 for d in (w_i + least for w_i in w)]
    pairs = list(zip(c, gap, strict=True))
    pairs = [(0.0 if d == 0 and abs(x) <= tiny * norm else x, d) for x, d in pairs]

    if any(c_i and not d for c_i, d in pairs) or _length(pairs, 0.0) > radius:
        # the minimiser of the model, if it has one, is outside
        shift, shifts = _secular(pairs, radius)
        status = "boundary"
    else:
        shift, shifts = 0.0, [0.0]
        status = "hard case" if least > 0 else "interior"
    # eq. trust-region-subproblem-optimality
    p = [-c_i / (d + shift) if c_i else 0.0 for c_i, d in pairs]
    if status == "hard case":
        # eq. trust-region-subproblem-hard
        p[0] = math.sqrt(max(0.0, radius**2 - math.hypot(*p) ** 2))

    p = units.step(Q @ xp.asarray(p, dtype=B.dtype))
    multipliers = [units.multiplier(least + s) for s in shifts]
    return ExactStep(p, multipliers[-1], status, multipliers, len(shifts), True)


def _length(pairs, shift):
    return math.hypot(*(c_i / (d + shift) for c_i, d in pairs if c_i))


def _secular(pairs, radius):
    """Return the shift at which the step has the length of the radius, and all that were tried.

    The reciprocal of the length is concave in the shift: from where the step is too long Newton's method climbs to the
    root without overshooting. One coordinate alone gives such a start, at most √n times too long.
    """
    tried = [max(0.0, *(abs(c_i) / radius - d for c_i, d in pairs))]
    while True:
        shift = tried[-1]
        # eq. trust-region-subproblem-secular
        length = _length(pairs, shift)
        slope = sum((c_i / (d + shift)) ** 2 / (d + shift) for c_i, d in pairs if c_i)

        # eq. trust-region-subproblem-newton
        new = shift + length * length / slope * (length - radius) / radius
        if not new > shift:
            return shift, tried
        tried.append(new)


@checked(also=well_posed)
def pencil_step(g: Real[N], B: Real[N, N], *, radius: PositiveFloat) -> ExactStep:
    """Solve the subproblem by one eigenvalue problem of twice the size."""
    g, B, radius, units = in_units(g, B, radius)
    n, dtype = len(g), B.dtype
    size = float(abs(B).sum(1).max() + xp.sqrt(g @ g) / radius)
    if size == 0:
        return ExactStep(xp.zeros_like(g), 0.0, "interior", [0.0], 1, True)
    g, B = g / (size * radius), B / size  # now the radius is 1
    small = float(xp.finfo(dtype).eps) ** (1 / 3)
    # eq. trust-region-subproblem-pencil
    above = xp.concatenate([-B, xp.outer(g, g)], 1)
    below = xp.concatenate([xp.eye(n, dtype=dtype), -B], 1)
    values, vectors = linalg.eig(xp.concatenate([above, below]))
    real = xp.real(values)
    y = xp.real(vectors)[:, xp.argmax(real)]
    y1, y2 = y[:n], y[n:]

    multiplier, y1_norm, y_norm, side = floats(
        real.max(), xp.sqrt(y1 @ y1), xp.sqrt(y @ y), g @ y2
    )
    if multiplier < -10 * n * float(xp.finfo(dtype).eps):
        # no multiplier is needed: the model is convex, and its minimiser inside
        p, multiplier, status = -linalg.solve(B, g), 0.0, "interior"
    elif y1_norm > small * y_norm:
        p, status = -math.copysign(1 / y1_norm, side) * y1, "boundary"
    else:
        # eq. trust-region-subproblem-hard
        v = -math.copysign(1.0, side) * y2 / xp.sqrt(y2 @ y2)
        multiplier = -float(v @ (B @ v))
        w, Q = linalg.eigh(B + multiplier * xp.eye(n, dtype=dtype))
        p = -Q @ (xp.where(w > small, 1 / xp.maximum(w, small), 0.0) * (Q.T @ g))
        pp, pv, vv = floats(p @ p, p @ v, v @ v)
        tau = boundary_steps(pp, pv, vv, 1.0)[1]
        p, status = p + tau * v, "hard case"

    multiplier = units.multiplier(max(multiplier, 0.0) * size)
    p = units.step(radius * p)
    return ExactStep(p, multiplier, status, [multiplier], 1, True)
