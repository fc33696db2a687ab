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
import warnings

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Limit, Method, Solver
from trref.optimization.interfaces import SUBPROBLEM, ExactStep, boundary_steps, convex, dense_inputs, floats

__all__ = ["SETTINGS", "TIGHT", "eigen_step", "optimality", "pencil_step"]


def optimality(result, g, B, *, radius, **_):
    """The conditions that hold at a global minimiser and nowhere else, relative to the sizes of g, B and the step.

    ``(B + λI) p = -g``, ``B + λI`` positive semidefinite, ``λ >= 0``, ``‖p‖ <= radius``, ``λ (radius - ‖p‖) = 0``.
    The last multiplier tried is λ.
    """
    # eq. trust-region-subproblem-optimality
    p, lam = result.p, result.multiplier
    length, size = float(xp.sqrt((p * p).sum())), float(abs(linalg.eigvalsh(B)).max()) + abs(lam)
    scale = float(xp.sqrt((g * g).sum())) + size * radius or 1.0
    residual = B @ p + lam * p + g
    return {
        "stationarity": float(xp.sqrt((residual * residual).sum())) / scale,
        "feasibility": length / radius - 1,
        "complementarity": lam * abs(radius - length) / scale,
        "indefiniteness": -(float(linalg.eigvalsh(B).min()) + lam) / (size or 1.0),
        "negative multiplier": -lam / (size or 1.0),
        "last multiplier tried": abs(result.multipliers[-1] - lam) / (size or 1.0),
    }


def eigen_step(g, B, *, radius):
    """Solve the subproblem by the eigenvalues of B: the most accurate way, for n up to some hundred.

    Parameters
    ----------
    g : array (n,)
        Gradient of the model.
    B : array (n, n)
        Symmetric.
    radius : float
        In (0, inf).

    Returns
    -------
    ExactStep
        Fields p, multiplier, status, multipliers, iterations, converged. A coordinate of g below n·eps ‖g‖ counts as
        zero in the eigenspace of the smallest eigenvalue.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, `B` not symmetric, `radius` out of range.
    """
    dense_inputs(g, B, radius)
    w, Q = linalg.eigh((B + B.T) / 2)
    w, c = xp.stack([w, Q.T @ g]).tolist()
    tiny = len(w) * float(xp.finfo(B.dtype).eps)
    least = max(0.0, -w[0])  # the smallest multiplier that makes B + λI positive semidefinite
    gap = [d if d > tiny * max(map(abs, w)) else 0.0 for d in (w_i + least for w_i in w)]
    c = [0.0 if d == 0 and abs(c_i) <= tiny * math.hypot(*c) else c_i for c_i, d in zip(c, gap, strict=True)]
    free = all(c_i == 0 for c_i, d in zip(c, gap, strict=True) if d == 0)

    shift, shifts, status, converged = 0.0, [0.0], "interior", True
    if not free or _length(c, gap, 0.0) > radius:
        shift, shifts, converged = _secular(c, gap, radius)
        status = "boundary"
    p = [-c_i / (d + shift) if c_i else 0.0 for c_i, d in zip(c, gap, strict=True)]
    if status == "interior" and least > 0:
        # eq. trust-region-subproblem-hard
        p[0] = math.sqrt(max(0.0, radius**2 - math.hypot(*p) ** 2))
        status = "hard case"

    multipliers = [least + s for s in shifts]
    _warn("eigen_step", converged, len(shifts))
    p = Q @ xp.asarray(p, dtype=B.dtype)
    return ExactStep(p, least + shift, status, multipliers, len(shifts), converged)


def _length(c, gap, shift):
    return math.hypot(*(c_i / (d + shift) for c_i, d in zip(c, gap, strict=True) if c_i))


def _secular(c, gap, radius, max_iter=100):
    """Return the shift at which the step has the length of the radius, all that were tried, and the verdict.

    The reciprocal of the length is concave in the shift: from where the step is too long Newton's method climbs to the
    root without overshooting. One coordinate alone gives such a start, at most √n times too long.
    """
    tried = [max(0.0, *(abs(c_i) / radius - d for c_i, d in zip(c, gap, strict=True)))]
    while True:
        shift = tried[-1]
        # eq. trust-region-subproblem-secular
        length = _length(c, gap, shift)
        slope = sum((c_i / (d + shift)) ** 2 / (d + shift) for c_i, d in zip(c, gap, strict=True) if c_i)

        new = shift + length * length / slope * (length - radius) / radius  # eq. trust-region-subproblem-newton
        if not new > shift or len(tried) == max_iter:
            return shift, tried, abs(length - radius) <= 1e-12 * radius
        tried.append(new)


def pencil_step(g, B, *, radius):
    """Solve the subproblem by one eigenvalue problem of twice the size.

    Parameters
    ----------
    g, B, radius
        As in `eigen_step`.

    Returns
    -------
    ExactStep
        Fields p, multiplier, status, multipliers, iterations, converged.

    Raises
    ------
    ValueError
        As `eigen_step`.
    """
    dense_inputs(g, B, radius)
    n, dtype = len(g), B.dtype
    size = float(abs(B).sum(1).max() + xp.sqrt(g @ g) / radius)
    if size == 0:
        return ExactStep(xp.zeros_like(g), 0.0, "interior", [0.0], 1, True)
    g, B = g / (size * radius), B / size  # now the radius is 1
    small = float(xp.finfo(dtype).eps) ** (1 / 3)
    # eq. trust-region-subproblem-pencil
    M = xp.concatenate([xp.concatenate([-B, xp.outer(g, g)], 1), xp.concatenate([xp.eye(n, dtype=dtype), -B], 1)])
    values, vectors = linalg.eig(M)
    y = vectors.real[:, xp.argmax(values.real)]
    y1, y2 = y[:n], y[n:]

    multiplier, y1_norm, y_norm, side = floats(values.real.max(), xp.sqrt(y1 @ y1), xp.sqrt(y @ y), g @ y2)
    if multiplier < -10 * n * float(xp.finfo(dtype).eps):
        p, multiplier, status = -linalg.solve(B, g), 0.0, "interior"
    elif y1_norm > small * y_norm:
        p, status = -math.copysign(1 / y1_norm, side) * y1, "boundary"
    else:
        # eq. trust-region-subproblem-hard
        v = -math.copysign(1.0, side) * y2 / xp.sqrt(y2 @ y2)
        multiplier = -float(v @ (B @ v))
        w, Q = linalg.eigh(B + multiplier * xp.eye(n, dtype=dtype))
        p = -Q @ (xp.where(w > small, 1 / xp.maximum(w, small), 0.0) * (Q.T @ g))
        p, status = p + boundary_steps(*floats(p @ p, p @ v, v @ v), 1.0)[1] * v, "hard case"

    multiplier = max(multiplier, 0.0) * size
    return ExactStep(radius * p, multiplier, status, [multiplier], 1, True)


def _warn(name, converged, iterations):
    if not converged:
        message = f"{name} stopped after {iterations} iterations away from the solution"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)


SETTINGS = {"default": {"radius": 1.0}, "short": {"radius": 0.05}, "long": {"radius": 40.0}, "probe": {"radius": 0.7}}
CONDITIONS = ("stationarity", "feasibility", "complementarity", "indefiniteness", "negative multiplier")
TIGHT = {**dict.fromkeys(CONDITIONS, 1e-11), "last multiplier tried": 1e-10}

METHOD = Method(
    key="adachi2017solving",
    provenance={
        "confirmed": ("newton", "secular", "hard", "pencil"),
        "partly": ("optimality",),
    },
    functions=(
        Solver(
            f=eigen_step,
            interface=SUBPROBLEM,
            settings=SETTINGS,
            certificate=optimality,
            tolerances=TIGHT,
        ),
        Solver(
            f=pencil_step,
            interface=SUBPROBLEM,
            settings={"default": {"radius": 1.0}, "probe": {"radius": 0.7}},
            certificate=optimality,
            tolerances=dict.fromkeys(TIGHT, 1e-5),
            limits=(Limit("trust_region_subproblem.eigen_step", {}, {"radius": 1.0}, where=convex),),
        ),
    ),
)
