r"""Polar decomposition: the nearest matrix with equal singular values, by SVD, by polynomials, by rational steps.

Every matrix is :math:`A = UH` with a positive semidefinite :math:`H`; the polar factor :math:`U` is what remains when
all singular values are set to one:

.. math::
    :label: polar-decomposition-factor

    U = P V^\top, \qquad H = V \Sigma V^\top, \qquad A = P \Sigma V^\top .

Here singular values that are zero up to rounding stay zero (a partial isometry, the shortest of the possible factors).
The sum of the singular values, the nuclear norm, has the polar factor as its gradient:

.. math::
    :label: polar-decomposition-nuclear

    \|A\|_* = \langle A, U \rangle, \qquad \nabla \|A\|_* = U .

The **Newton-Schulz iteration** needs products only. An odd polynomial of :math:`X` acts on the singular values alone:

.. math::
    :label: polar-decomposition-newton-schulz

    X_0 = \frac{A}{s\, \|A\|_F + \varepsilon}, \qquad
    X \leftarrow a X + \bigl(b\, Y + c\, Y^2\bigr) X, \quad Y = X X^\top .

``cubic`` is :math:`(\frac32, -\frac12, 0)`, ``quintic`` :math:`(\frac{15}{8}, -\frac{10}{8}, \frac38)`: both converge
slowly, as small singular values grow by :math:`a` a step. Muon's :math:`(3.4445, -4.7750, 2.0315)` grow fast and never
converge: after five steps values from 0.01 on lie between 0.68 and 1.14. Polar Express takes other coefficients at each
step, each the best for the interval that the step before leaves (:math:`s = 1.01`, else 1).

**QDWH** takes the best rational function of its kind at each step, from a lower bound :math:`l` of the singular values
of :math:`X_0 = A/\|A\|_F`:

.. math::
    :label: polar-decomposition-weights

    d = \sqrt[3]{4 (1 - l^2) / l^4}, \quad
    a = \sqrt{1 + d} + \tfrac12 \sqrt{8 - 4d + \frac{8 (2 - l^2)}{l^2 \sqrt{1 + d}}}, \quad
    b = \frac{(a - 1)^2}{4}, \quad c = a + b - 1

.. math::
    :label: polar-decomposition-qdwh

    X \leftarrow X (a I + b X^\top X) (I + c X^\top X)^{-1}, \qquad l \leftarrow l\, \frac{a + b\, l^2}{1 + c\, l^2} ,

six steps from :math:`l = 2 \cdot 10^{-16}` on. Where :math:`c > 100` the inverse would lose digits; there

.. math::
    :label: polar-decomposition-qr

    \begin{bmatrix} \sqrt c\, X \\ I \end{bmatrix} = \begin{bmatrix} Q_1 \\ Q_2 \end{bmatrix} R, \qquad
    X \leftarrow \frac bc X + \frac{1}{\sqrt c} \Bigl( a - \frac bc \Bigr) Q_1 Q_2^\top .

**ZOLO-PD** takes a better rational function, of degree 2r + 1, and so needs only two steps. With the elliptic functions
sn and cn of the modulus :math:`\sqrt{1 - l^2}` and its quarter period :math:`K'`,

.. math::
    :label: polar-decomposition-zolotarev

    c_i = l^2\, \frac{\mathrm{sn}^2}{\mathrm{cn}^2} \Bigl( \frac{i K'}{2r + 1} \Bigr), \qquad
    Z(x) = x \prod_{j=1}^r \frac{x^2 + c_{2j}}{x^2 + c_{2j-1}} = x + \sum_{j=1}^r \frac{a_j\, x}{x^2 + c_{2j-1}}, \\
    a_j = - \prod_k (c_{2j-1} - c_{2k}) \Big/ \prod_{k \ne j} (c_{2j-1} - c_{2k-1}) .

.. math::
    :label: polar-decomposition-zolo

    X \leftarrow \frac{1}{Z(1)} \Bigl( X + \sum_j \frac{a_j}{\sqrt{c_{2j-1}}}\, Q_1 Q_2^\top \Bigr), \quad
    \begin{bmatrix} X \\ \sqrt{c_{2j-1}}\, I \end{bmatrix} = \begin{bmatrix} Q_1 \\ Q_2 \end{bmatrix} R, \qquad
    l \leftarrow \frac{Z(l)}{Z(1)} ,

the r factorisations apart from each other, with one cubic step at the end. Degrees of 3, 4, 5, 6, 7 and 8 are enough
for condition numbers of :math:`10^2, 10^3, 10^5, 10^7, 10^{10}` and :math:`10^{16}`; r = 1 is QDWH. The quotient sn/cn
is found by halving (:math:`\tan` and :math:`\sinh` at the ends), beyond the middle as :math:`c_{2r+1-i} = l^2 / c_i`.

The factor of 0 is 0. Scaling :math:`A` changes nothing; turning it on either side turns the factor.

**Where implementations differ.** PyTorch's Muon divides by the larger of norm and epsilon, Jordan's adds epsilon.

**Provenance.** Muon's iteration confirmed (KellerJordan/Muon, PyTorch 2.13); the coefficients of Polar Express, QDWH
and ZOLO-PD confirmed in timlautk/polargrad. The derivative of the iteration is derived here.

Nakatsukasa, Bai and Gygi, *Optimizing Halley's Iteration for Computing the Matrix Polar Decomposition*, 2010;
Nakatsukasa and Freund, *Computing Fundamental Matrix Decompositions Accurately via the Matrix Sign Function in Two
Iterations*, 2016; Jordan,
Jin, Boza, You, Cesista, Newhouse and Bernstein, *Muon: An Optimizer for Hidden Layers in Neural Networks*, 2024; Amsel,
Persson, Musco and Gower, *The Polar Express*, 2025, arXiv:2505.16932.
"""

import math
import warnings
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.signature import (
    M,
    N,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

Coefficients = Literal["muon", "cubic", "quintic", "polar_express"]


@checked
def polar_factor(x: Real[M, N]) -> Real[M, N]:
    """Return the polar factor of any matrix; of a deficient one the partial isometry.

    Parameters
    ----------
    x
        The matrix.
    """
    # eq. polar-decomposition-factor
    U, s, Vt = linalg.svd(x, full_matrices=False)
    rounding = max(x.shape) * float(xp.finfo(x.dtype).eps)
    return (U * (s > rounding * s.max())) @ Vt


def _tall(x):
    return x if x.shape[0] >= x.shape[1] else x.mT


@checked
def nuclear_norm(x: Real[M, N]) -> tuple[Scalar, Real[M, N]]:
    """Sum of the singular values.

    Returns
    -------
    norm
    gradient
        The polar factor; where singular values are zero, the shortest of the subgradients.
    """
    U = polar_factor.unchecked(x)
    return (x * U).sum(), U  # eq. polar-decomposition-nuclear


# ---- by products alone

MUON, CUBIC, QUINTIC = (
    (3.4445, -4.7750, 2.0315),
    (1.5, -0.5, 0.0),
    (1.875, -1.25, 0.375),
)
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
SAFETY = 1.01


def polynomials(coefficients, steps):
    """Return (a, b, c) of each step."""
    if coefficients != "polar_express":
        fixed = {"muon": MUON, "cubic": CUBIC, "quintic": QUINTIC}
        return [fixed[coefficients]] * steps
    safe = [(a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in POLAR_EXPRESS]
    return [safe[k] if k < len(safe) else QUINTIC for k in range(steps)]


def _divisor(x, coefficients, eps):
    safety = SAFETY if coefficients == "polar_express" else 1
    return safety * xp.sqrt((x * x).sum()) + eps


def _bend(x, divisor, eps):
    """The relative derivative of the divisor along x, over x; 0 for x = 0."""
    square = (x * x).sum()
    bend = (divisor - eps) / (divisor * xp.where(square > 0, square, 1))
    return xp.where(square > 0, bend, 0)


def _step(X, a, b, c):
    Y = X @ X.mT
    return a * X + (b * Y + c * Y @ Y) @ X


@checked
def newton_schulz(
    x: Real[M, N],
    *,
    coefficients: Coefficients = "muon",
    steps: PositiveInt = 5,
    eps: PositiveFloat = 1e-7,
) -> Real[M, N]:
    """Approximate the polar factor by a polynomial of the matrix.

    Parameters
    ----------
    coefficients
        Muon's, the two that converge, or those of Polar Express, which depend on the step.
    eps
        Added to the norm by which the matrix is divided.
    """
    # eq. polar-decomposition-newton-schulz
    X = (x if x.shape[0] <= x.shape[1] else x.mT) / _divisor(x, coefficients, eps)
    for abc in polynomials(coefficients, steps):
        X = _step(X, *abc)
    return X if x.shape[0] <= x.shape[1] else X.mT


@checked
def newton_schulz_jvp(
    x: Real[M, N],
    tangent: Real[M, N],
    *,
    coefficients: Coefficients = "muon",
    steps: PositiveInt = 5,
    eps: PositiveFloat = 1e-7,
) -> Real[M, N]:
    """Differential of `newton_schulz` along `tangent`."""
    divisor = _divisor(x, coefficients, eps)
    X, bend = x / divisor, _bend(x, divisor, eps)
    dX = tangent / divisor - bend * (x * tangent).sum() * X
    for a, b, c in polynomials(coefficients, steps):
        Y = X @ X.mT
        dY = dX @ X.mT + X @ dX.mT
        moved = b * dY + c * (dY @ Y + Y @ dY)
        dX = a * dX + (b * Y + c * Y @ Y) @ dX + moved @ X
        X = _step(X, a, b, c)
    return dX


@checked
def newton_schulz_vjp(
    x: Real[M, N],
    cotangent: Real[M, N],
    *,
    coefficients: Coefficients = "muon",
    steps: PositiveInt = 5,
    eps: PositiveFloat = 1e-7,
) -> Real[M, N]:
    """Adjoint of `newton_schulz_jvp`: the steps backwards."""
    divisor = _divisor(x, coefficients, eps)
    iterates, abcs = [x / divisor], polynomials(coefficients, steps)
    for abc in abcs:
        iterates.append(_step(iterates[-1], *abc))
    G = cotangent
    for X, (a, b, c) in zip(iterates[-2::-1], abcs[::-1], strict=True):
        Y, S = X @ X.mT, G @ X.mT
        T = b * S + c * (S @ Y + Y @ S)
        G = a * G + (b * Y + c * Y @ Y) @ G + (T + T.mT) @ X
    bend = _bend(x, divisor, eps)
    return G / divisor - bend * (iterates[0] * G).sum() * x


# ---- by rational functions


class PolarFactors(NamedTuple):
    """The factors of x = U H; how far U was from orthonormal before each step and at the end."""

    U: Real[M, N]
    H: Real[N, N]
    errors: list
    iterations: int
    converged: bool


def weights(lowest):
    """Return a, b, c of one step of QDWH, and the bound of the singular values after it."""
    # eq. polar-decomposition-weights
    square = lowest * lowest
    d = (4 * (1 - square) / square**2) ** (1 / 3)
    root = math.sqrt(1 + d)
    a = root + math.sqrt(8 - 4 * d + 8 * (2 - square) / (square * root)) / 2
    b = (a - 1) ** 2 / 4
    c = a + b - 1
    return a, b, c, min(lowest * (a + b * square) / (1 + c * square), 1.0)


def _by_qr(X, a, b, c):
    # eq. polar-decomposition-qr
    eye = xp.eye(X.shape[1], dtype=X.dtype)
    Q, _ = linalg.qr(xp.concatenate([math.sqrt(c) * X, eye]))
    Q1, Q2 = Q[: len(X)], Q[len(X) :]
    return b / c * X + (a - b / c) / math.sqrt(c) * Q1 @ Q2.mT


def _by_inverse(X, a, b, c):
    # eq. polar-decomposition-qdwh
    eye, gram = xp.eye(X.shape[1], dtype=X.dtype), X.mT @ X
    return linalg.solve(eye + c * gram, (a * eye + b * gram) @ X.mT).mT


@checked
def qdwh(
    x: Real[M, N], *, lowest: OpenFraction = 2e-16, max_iter: PositiveInt = 6
) -> PolarFactors:
    """Compute the polar decomposition by QDWH.

    Parameters
    ----------
    lowest
        No singular value is smaller than this times the Frobenius norm.
    max_iter
        All of these steps are taken.

    Returns
    -------
    PolarFactors
        Of a wide matrix U has orthonormal rows. Of a deficient one it is one of many;
        of 0 it is 0, and not converged.
    """

    def step(X, lowest):
        a, b, c, lowest = weights(lowest)
        return (_by_qr if c > 100 else _by_inverse)(X, a, b, c), lowest

    return _iterated("qdwh", x, step, lowest, max_iter)


def _error(X):
    eye = xp.eye(X.shape[1], dtype=X.dtype)
    return float(xp.sqrt(((X.mT @ X - eye) ** 2).sum()))


def _iterated(name, x, step, lowest, max_iter, finish=None):
    """The polar factors by steps that know a lower bound of the singular values."""
    norm = xp.sqrt((x * x).sum())
    X = _tall(x) / xp.where(norm > 0, norm, 1)
    errors = [_error(X)]
    for _ in range(max_iter):
        X, lowest = step(X, lowest)
        errors.append(_error(X))
    if finish is not None:
        X = finish(X)
        errors.append(_error(X))
    U = X if x.shape[0] >= x.shape[1] else X.mT
    H = U.mT @ x
    rounding = 100 * max(x.shape) * float(xp.finfo(x.dtype).eps)
    converged = errors[-1] <= rounding
    if not converged:
        message = f"{name}: after {max_iter} steps UᵀU is {errors[-1]:.1e} from I"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=4)
    return PolarFactors(U, (H + H.mT) / 2, errors, max_iter, converged)


def _tangent(u, lowest):
    """The quotient sn/cn at u, of the modulus that is complementary to `lowest`."""
    if lowest < 1e-9:
        return math.sinh(u)
    if lowest >= 1:
        return math.tan(u)
    k = (lowest / (1 + math.sqrt((1 - lowest) * (1 + lowest)))) ** 2
    t = _tangent(u / (1 + k), k)
    return (1 + k) * t / (1 - k * t * t)


def _quarter_period(lowest):
    """K', by the mean of arithmetic and geometric means."""
    a, b = 1.0, lowest
    while a - b > 1e-15 * a:
        a, b = (a + b) / 2, math.sqrt(a * b)
    return math.pi / (a + b)


def zolotarev(lowest, degree):
    """Return c with odd numbers, a, Z(1), and the bound of the singular values after the step."""
    # eq. polar-decomposition-zolotarev
    part = _quarter_period(lowest) / (2 * degree + 1)
    first = [(lowest * _tangent(i * part, lowest)) ** 2 for i in range(1, degree + 1)]
    c = first + [lowest**2 / value for value in first[::-1]]
    odd, even = c[::2], c[1::2]
    a = [
        -math.prod(o - e for e in even) / math.prod(o - p for p in odd if p != o)
        for o in odd
    ]

    def Z(x):
        pairs = zip(even, odd, strict=True)
        return x * math.prod((x * x + e) / (x * x + o) for e, o in pairs)

    return odd, a, Z(1.0), min(Z(lowest) / Z(1.0), 1.0)


@checked
def zolopd(
    x: Real[M, N],
    *,
    lowest: OpenFraction = 2e-16,
    degree: PositiveInt = 8,
    max_iter: PositiveInt = 2,
) -> PolarFactors:
    """Compute the polar decomposition by ZOLO-PD.

    Parameters
    ----------
    lowest
        No singular value is smaller than this times the Frobenius norm.
    degree
        Terms of the rational function, each a factorisation.
    max_iter
        All of these steps are taken, and a cubic one.

    Returns
    -------
    PolarFactors
        Of a wide matrix U has orthonormal rows. Of a deficient one it is one of many;
        of 0 it is 0, and not converged.
    """

    def step(X, lowest):
        c, a, one, lowest = zolotarev(lowest, degree)
        eye, moved = xp.eye(X.shape[1], dtype=X.dtype), X
        # eq. polar-decomposition-zolo
        for weight, value in zip(a, c, strict=True):
            root = math.sqrt(value)
            Q, _ = linalg.qr(xp.concatenate([X, root * eye]))
            moved = moved + weight / root * Q[: len(X)] @ Q[len(X) :].mT
        return moved / one, lowest

    cubic = lambda X: 1.5 * X - 0.5 * X @ (X.mT @ X)  # noqa: E731
    return _iterated("zolopd", x, step, lowest, max_iter, cubic)
