r"""PSGD: a preconditioner that is fitted to products of the Hessian, inside a group of matrices.

Probe the curvature with a random v, :math:`h = \nabla^2 L\, v`. A good preconditioner :math:`P = Q^\top Q` turns the
covariance of h back into that of v. It minimises the expectation of

.. math::
    :label: psgd-criterion

    c(Q) = h^\top P h + v^\top P^{-1} v = \|a\|^2 + \|b\|^2, \qquad a = Q h, \quad b = Q^{-\top} v ,

whose derivative is

.. math::
    :label: psgd-gradient

    \frac{\partial c}{\partial Q} = 2\, (a a^\top - b b^\top)\, Q^{-\top} .

For normal v the minimum is :math:`P = (\nabla^2 L)^{-2 \cdot 1/2} = |\nabla^2 L|^{-1}`: Newton's scale, positive where
the curvature is not. With gradients for h, and v apart from them, it is :math:`(\mathbb E\, g g^\top)^{-1/2}`. Q moves
by factors near the identity and so stays invertible, whatever is drawn; the length of the move is set by a second
derivative, a sum where the slope has a difference. **Dense**, or upper triangular (the upper triangle of the
difference):

.. math::
    :label: psgd-dense

    Q \leftarrow Q - \mu\, \frac{a a^\top - b b^\top}{\|a\|^2 + \|b\|^2}\, Q .

**Diagonal**, :math:`Q = \mathrm{diag}(q)`:

.. math::
    :label: psgd-diagonal

    q \leftarrow q \odot \Bigl( 1 - \mu\, \frac{(q h)^2 - (v / q)^2}{\max_i [(q_i h_i)^2 + (v_i / q_i)^2]} \Bigr) .

**Matrix-free**, a diagonal :math:`\alpha` and an antidiagonal :math:`\beta`, with :math:`\tilde x` for x reversed:

.. math::
    :label: psgd-matrix-free

    a = \alpha h + \beta \tilde h, \quad
    b = \frac{\tilde\alpha v - \tilde\beta \tilde v}{\alpha \tilde\alpha - \beta \tilde\beta}, \quad
    A = a^2 - b^2, \quad B = a \tilde a - b \tilde b, \quad \mu' = \frac{\mu}{\max (a^2 + b^2)}, \\
    \alpha \leftarrow \alpha - \mu' (A \alpha + B \tilde\beta), \qquad
    \beta \leftarrow \beta - \mu' (A \beta + B \tilde\alpha),

where the middle entries of B and :math:`\beta` stay 0. **Low rank**, :math:`Q = (I + U V^\top)\, \mathrm{diag}(d)`, for
which everything costs as much as r vectors: with :math:`C = I + V^\top U` and :math:`x = v / d`

.. math::
    :label: psgd-low-rank

    P h = d \odot (a + V U^\top a), \quad b = x - V C^{-\top} U^\top x, \quad
    P^{-1} v = (b - U C^{-1} V^\top b) / d, \\
    d \leftarrow d - \mu'\, d \odot \bigl[ (P h) h - v (P^{-1} v) \bigr], \quad
    \mu' = \mu \min_i \bigl[ (Ph)^2 + v^2 \bigr]_i^{-1/2} \bigl[ h^2 + (P^{-1} v)^2 \bigr]_i^{-1/2}, \\
    U \leftarrow U - \mu\, \frac{\bigl( a a^\top V - b b^\top V \bigr)\, C}{\|a\| \|V V^\top a\| + \|b\| \|V V^\top b\|}
    \quad \text{or} \quad
    V \leftarrow V - \mu\, \frac{(I + V U^\top) \bigl( a a^\top U - b b^\top U \bigr)}
    {\|a\| \|U U^\top a\| + \|b\| \|U U^\top b\|} ,

never both at once. **Kronecker**, for a matrix of parameters, with upper triangular :math:`Q_1, Q_2`:

.. math::
    :label: psgd-kronecker

    A = Q_1\, h\, Q_2^\top, \quad B = Q_2^{-\top} v^\top Q_1^{-1}, \quad
    Q_1 \leftarrow Q_1 - \mu\, \frac{\mathrm{triu}(A A^\top - B^\top B)}{\|A A^\top + B^\top B\|_2}\, Q_1, \quad
    Q_2 \leftarrow Q_2 - \mu\, \frac{\mathrm{triu}(A^\top A - B B^\top)}{\|A^\top A + B B^\top\|_2}\, Q_2 .

Then the parameters move, all of them one vector but for the last kind:

.. math::
    :label: psgd-step

    m_t = \beta_1\, m_{t-1} + (1 - \beta_1)\, g_t, \qquad
    \theta_t = \theta_{t-1} - \eta\, \min\Bigl( 1, \frac{\rho}{\|P m_t\|} \Bigr)\, P m_t .

Before the first step Q is a multiple of the identity (:math:`U, V` small), by default

.. math::
    :label: psgd-start

    Q = \bigl( \overline{v^2} \bigr)^{1/4}\, \bigl( \overline{h^4} \bigr)^{-1/8} I .

Without a probe and a product (both 0) the preconditioner stays as it is; a start from one of 0
has the scale 1.

====================  =================================
:math:`v, h`          `probe`, `product`; `v`, `h`
:math:`\mu`           `fit_rate`
:math:`\eta`          `lr`
:math:`\beta_1`       `momentum`
:math:`\rho`          `radius`
:math:`r`             `rank`
====================  =================================

**Where implementations differ.** The authors' first option divides the dense step by the largest entry of the
difference, not by the sum of squares.

**Provenance.** Criterion, all groups, step lengths and start are confirmed in the second author's code
(lixilinx/psgd_torch); the derivatives are checked here. Which low-rank factor moves alternates here, where the code
draws it, and its start is fixed: no step draws.

Pooladzandi and Li, *Curvature-Informed SGD via General Purpose Lie-Group Preconditioners*, 2024, arXiv:2402.04553.
"""

import math
from typing import Literal, NamedTuple

from trref.backend import linalg, xp
from trref.nn import flat
from trref.signature import (
    Arrays,
    Decay,
    K,
    M,
    N,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

Group = Literal[
    "dense", "triangular", "diagonal", "matrix_free", "low_rank", "kronecker"
]


def _invertible(**given):
    """Factors that are singular up to rounding."""
    found = []
    for name in ("q", "left", "right"):
        if name in given:
            a = given[name]
            eps = float(xp.finfo(a.dtype).eps)

            def above(a=a, eps=eps):
                s = linalg.svd(xp.where(xp.isfinite(a), a, 0), compute_uv=False)
                return s[-1] > eps * s[0]

            found.append((above, f"{name} must be invertible"))
    return found


def _over(value, size):
    """A quotient, 0 where the divisor is."""
    return value / xp.where(size > 0, size, 1)


@checked(also=_invertible)
def criterion(q: Real[N, N], v: Real[N], h: Real[N]) -> tuple[Scalar, Real[N, N]]:
    """How badly the preconditioner fits a pair.

    Parameters
    ----------
    q
        The factor Q.
    v
        The probe.
    h
        The Hessian times the probe.
    """
    # eq. psgd-criterion
    a, b = q @ h, linalg.solve(q.T, v)
    # eq. psgd-gradient
    slope = 2 * (xp.outer(a, h) - xp.outer(b, linalg.solve(q, b)))
    return (a * a).sum() + (b * b).sum(), slope


@checked(also=_invertible)
def dense_step(
    q: Real[N, N],
    v: Real[N],
    h: Real[N],
    *,
    fit_rate: Decay = 0.1,
    triangular: bool = False,
) -> Real[N, N]:
    """The factor after a pair.

    Parameters
    ----------
    fit_rate
        Step length, relative to the second derivative.
    triangular
        Whether Q is upper triangular, and stays so.
    """
    # eq. psgd-dense
    a, b = q @ h, linalg.solve(q.T, v)
    slope = xp.outer(a, a) - xp.outer(b, b)
    slope = xp.triu(slope) if triangular else slope
    return q - fit_rate * _over(slope, (a * a).sum() + (b * b).sum()) @ q


def _not_tiny(d, **_):
    """A diagonal with entries that are 0 up to rounding."""
    eps = float(xp.finfo(d.dtype).eps)
    above = lambda: (d > eps * d.max()).all() & (d > 1e-15).all()  # noqa: E731
    return [(above, "d must be invertible")]


@checked(also=_not_tiny)
def diagonal_step(
    d: Positive[N], v: Real[N], h: Real[N], *, fit_rate: Decay = 0.1
) -> Real[N]:
    """The diagonal factor after a pair.

    Parameters
    ----------
    d
        The diagonal of Q.
    """
    # eq. psgd-diagonal
    a, b = (d * h) ** 2, (v / d) ** 2
    return d * (1 - fit_rate * _over(a - b, (a + b).max()))


class MatrixFree(NamedTuple):
    """Diagonal and antidiagonal of Q."""

    alpha: Real[N]
    beta: Real[N]


def _determinants(alpha, beta, **_):
    """Pairs of entries that cancel."""
    sizes = abs(alpha * alpha[::-1]) + abs(beta * beta[::-1])
    gap = abs(alpha * alpha[::-1] - beta * beta[::-1])
    return [
        (lambda: (gap > 1e-6 * sizes).all(), "alpha and beta must be an invertible Q")
    ]


@checked(also=_determinants)
def matrix_free_step(
    alpha: Real[N],
    beta: Real[N],
    v: Real[N],
    h: Real[N],
    *,
    fit_rate: Decay = 0.1,
) -> MatrixFree:
    """Diagonal and antidiagonal after a pair.

    Parameters
    ----------
    alpha, beta
        Diagonal and antidiagonal of Q; of an odd length the middle entry of beta is not used.
    """
    N = len(alpha)
    beta = xp.where(2 * xp.arange(N) == N - 1, 0, beta)
    back, cross = alpha[::-1], beta[::-1]
    # eq. psgd-matrix-free
    a = alpha * h + beta * h[::-1]
    b = (back * v - cross * v[::-1]) / (alpha * back - beta * cross)
    A, B = a * a - b * b, a * a[::-1] - b * b[::-1]
    B = xp.where(2 * xp.arange(N) == N - 1, 0, B)
    A, B = (fit_rate * _over(x, (a * a + b * b).max()) for x in (A, B))
    return MatrixFree(alpha - (A * alpha + B * cross), beta - (A * beta + B * back))


class LowRank(NamedTuple):
    """The parts of Q = (I + U V') diag(d)."""

    d: Real[N]
    U: Real[N, K]
    V: Real[N, K]


def _low_rank_invertible(d, U, V, **_):
    """A diagonal, or I + V'U, that is singular up to rounding."""
    eps = float(xp.finfo(U.dtype).eps)

    def above():
        C = V.T @ U
        C = xp.where(xp.isfinite(C), C, 0) + xp.eye(U.shape[1], dtype=U.dtype)
        s = linalg.svd(C, compute_uv=False)
        return s[-1] > eps * s[0]

    return [*_not_tiny(d), (above, "U and V must make I + V'U invertible")]


@checked(also=_low_rank_invertible)
def low_rank_step(
    d: Positive[N],
    U: Real[N, K],
    V: Real[N, K],
    v: Real[N],
    h: Real[N],
    *,
    fit_rate: Decay = 0.1,
    moved: Literal["U", "V"] = "U",
) -> LowRank:
    """The parts of a low-rank factor after a pair.

    Parameters
    ----------
    d, U, V
        The parts of Q.
    moved
        Which of the two factors moves, beside d.
    """
    C = xp.eye(U.shape[1], dtype=U.dtype) + V.T @ U
    # eq. psgd-low-rank
    a, x = d * h, v / d
    a = a + U @ (V.T @ a)
    Ph = d * (a + V @ (U.T @ a))
    b = x - V @ linalg.solve(C.T, U.T @ x)
    back = (b - U @ linalg.solve(C, V.T @ b)) / d
    size = xp.sqrt((Ph * Ph + v * v) * (h * h + back * back)).max()
    new = d - fit_rate * d * _over(Ph * h - v * back, size)
    fixed = V if moved == "U" else U
    slope = xp.outer(a, a @ fixed) - xp.outer(b, b @ fixed)
    norm = lambda y: xp.sqrt((y * y).sum())  # noqa: E731
    size = sum(norm(y) * norm(fixed @ (fixed.T @ y)) for y in (a, b))
    slope = fit_rate * _over(slope, size)
    if moved == "U":
        return LowRank(new, U - slope @ C, V.copy())
    return LowRank(new, U.copy(), V - (slope + V @ (U.T @ slope)))


class Kronecker(NamedTuple):
    """The factors of Q, upper triangular."""

    left: Real[M, M]
    right: Real[N, N]


@checked(also=_invertible)
def kronecker_step(
    left: Real[M, M],
    right: Real[N, N],
    v: Real[M, N],
    h: Real[M, N],
    *,
    fit_rate: Decay = 0.1,
) -> Kronecker:
    """Both factors after a pair of matrices.

    Parameters
    ----------
    left, right
        The factors of Q, upper triangular.
    """
    # eq. psgd-kronecker
    A = left @ h @ right.T
    B = linalg.solve(right.T, linalg.solve(left.T, v).T)

    def step(Q, one, other):
        size = linalg.eigvalsh(one + other)[-1]
        return Q - fit_rate * _over(xp.triu(one - other), size) @ Q

    return Kronecker(step(left, A @ A.T, B.T @ B), step(right, A.T @ A, B @ B.T))


class PsgdState(NamedTuple):
    """Number of steps, the factors of all parameters (Kronecker: of each array), and the momentum."""

    step: int
    factors: list
    m: Arrays


def init(params: Arrays) -> PsgdState:
    """Return the state before the first step: no factors yet, momentum zero."""
    return PsgdState(0, [], [xp.zeros_like(p) for p in params])


def _waves(n, rank, phase, dtype):
    """The small start of U or V."""
    table = xp.outer(xp.arange(1, n + 1), xp.arange(1, rank + 1)).astype(dtype)
    return xp.cos(table + phase) / math.sqrt(n * (rank + 10))


def _start(group, scale, size, rank, dtype):
    """Factors that are the scale times the identity, or nearly so."""
    ones = xp.ones(size, dtype=dtype)
    if group in ("dense", "triangular"):
        return (scale * xp.eye(size, dtype=dtype),)
    if group == "diagonal":
        return (scale * ones,)
    if group == "matrix_free":
        return MatrixFree(scale * ones, 0 * ones)
    U, V = (_waves(size, rank, phase, dtype) for phase in (0, 1))
    return LowRank(scale * ones, U, V)


def _fit(group, factors, v, h, fit_rate, step):
    """The factors after a pair."""
    if group in ("dense", "triangular"):
        how = {"fit_rate": fit_rate, "triangular": group == "triangular"}
        (Q,) = factors
        return (dense_step.unchecked(Q, v, h, **how),)
    if group == "diagonal":
        (q,) = factors
        return (diagonal_step.unchecked(q, v, h, fit_rate=fit_rate),)
    if group == "matrix_free":
        alpha, beta = factors
        return matrix_free_step.unchecked(alpha, beta, v, h, fit_rate=fit_rate)
    how = {"fit_rate": fit_rate, "moved": "V" if step % 2 else "U"}
    d, U, V = factors
    return low_rank_step.unchecked(d, U, V, v, h, **how)


def _applied(group, factors, g):
    """The preconditioner P = Q'Q times a vector."""
    if group in ("dense", "triangular"):
        return factors[0].T @ (factors[0] @ g)
    if group == "diagonal":
        return factors[0] ** 2 * g
    if group == "matrix_free":
        alpha, beta = factors
        Qg = alpha * g + beta * g[::-1]
        return alpha * Qg + (beta * Qg)[::-1]
    d, U, V = factors
    Qg = d * g + U @ (V.T @ (d * g))
    return d * (Qg + V @ (U.T @ Qg))


def _kronecker(factors, v, h, g, scale, fit_rate):
    """New factors of one array, taken for a matrix, and its preconditioned gradient."""
    rows = (len(g), g.size // len(g))
    if factors is None:
        root = xp.sqrt(scale)
        factors = [root * xp.eye(n, dtype=g.dtype) for n in rows]
    pair = (x.reshape(rows) for x in (v, h))
    left, right = kronecker_step.unchecked(*factors, *pair, fit_rate=fit_rate)
    step = left.T @ (left @ g.reshape(rows) @ right.T) @ right
    return Kronecker(left, right), step.reshape(g.shape)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: PsgdState,
    *,
    probe: Arrays,
    product: Arrays,
    group: Group = "dense",
    lr: PositiveFloat = 0.01,
    momentum: Decay = 0.0,
    fit_rate: Decay = 0.1,
    radius: PositiveFloat | None = None,
    rank: PositiveInt = 10,
    initial_scale: PositiveFloat | None = None,
) -> tuple[Arrays, PsgdState]:
    """Take one step of PSGD.

    Parameters
    ----------
    probe
        What the Hessian was multiplied with.
    product
        The Hessian times the probe.
    group
        Of the preconditioner's factor.
    momentum
        Decay of the averaged gradient.
    radius
        Preconditioned steps are at most this long, before the rate; unbounded if None.
    rank
        Columns of U and V, of the low-rank group.
    initial_scale
        Of the factor; from the first pair if None.

    Returns
    -------
    params
    state
    """
    # eq. psgd-step
    new = 1 - momentum
    m = [momentum * a + new * g for a, g in zip(state.m, grads, strict=True)]
    v, h = flat.join(probe), flat.join(product)
    # eq. psgd-start
    if initial_scale is None:
        fourth = xp.sqrt((h * h * h * h).mean())
        seen = _over((v * v).mean(), fourth) * (fourth > 0)
        scale = xp.where(seen > 0, seen, 1) ** 0.25
    else:
        scale = xp.asarray(initial_scale, dtype=v.dtype)

    if group == "kronecker":
        before = state.factors or [None] * len(params)
        each = zip(before, probe, product, m, strict=True)
        pairs = [_kronecker(*arrays, scale, fit_rate) for arrays in each]
        factors, steps = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    else:
        first = _start(group, scale, v.size, rank, v.dtype)
        factors = _fit(group, state.factors or first, v, h, fit_rate, state.step)
        shapes = [p.shape for p in params]
        steps = flat.split(_applied(group, factors, flat.join(m)), shapes)
        factors = list(factors)

    if radius is not None:
        size = xp.sqrt(sum((s * s).sum() for s in steps))
        lr = lr * radius / xp.maximum(size, radius)
    params = [p - lr * s for p, s in zip(params, steps, strict=True)]
    return params, PsgdState(state.step + 1, factors, m)
