r"""CFG-MP: classifier-free guidance from where the condition makes no difference.

Where the velocities with and without a condition agree, the scale of guidance has no effect. CFG-MP moves a sample
towards such places before each guided step: half a step back with the unconditional velocity, half a step forward with
the conditional one, a few times at the same noise time; CFG-MP+ accelerates this fixed-point iteration.

Time runs from data at u = 0 to noise at u = 1, :math:`x = (1-u)\,x_0 + u\,\varepsilon`, and :math:`v(x, u) =
E[\varepsilon - x_0 \mid x]`; a sampler goes to :math:`u' < u` by :math:`x - h v`, :math:`h = u - u'`. (The paper's time
is :math:`1 - u` and its velocity :math:`-v`.)

**The view behind it.** For data :math:`X = \{x_j\}` the softened half squared distance of x from the scaled data,

.. math::
    :label: cfg-manifold-projection-distance

    f_u(x) = -u^2 \log \frac1M \sum_j \exp\Big( -\frac{\|x - (1-u)\,x_j\|^2}{2u^2} \Big)

.. math::
    :label: cfg-manifold-projection-gradient

    \nabla f_u(x) = x - (1-u)\, \hat x_0(x), \qquad
    \hat x_0 = \sum_j \mathrm{softmax}_j\Big( -\frac{\|x - (1-u)\,x_j\|^2}{2u^2} \Big)\, x_j

is an antiderivative of the velocity, :math:`\nabla f_u = u\,(x + (1-u)\,v)`. So :math:`v_c - v_u` is the difference of
two such gradients, and guidance

.. math::
    :label: cfg-manifold-projection-velocity

    v_w = v_u + w\,(v_c - v_u)

descends on one distance relative to another. Its sensitivity to w is the gap, :math:`\partial v_w/\partial w =
v_c - v_u`.

**The projection.** One of the two maps, G or, where noise is all (:math:`u \ge 0.95`), H,

.. math::
    :label: cfg-manifold-projection-maps

    G(z) = z' - \tfrac h2\, v_c(z', u), \quad z' = z + \tfrac h2\, v_u(z, u), \qquad
    H(z) = z' + \tfrac h2\, v_u(z', u), \quad z' = z - \tfrac h2\, v_c(z, u)

is iterated, :math:`z_{k+1} = G(z_k)`. G leaves z where :math:`v_c(z + \tfrac h2 v_u(z)) = v_u(z)`, and
:math:`G(z) - z = -\tfrac h2 (v_c - v_u)(z) + O(h^2)`: the sample moves along the gap until that vanishes. Anderson's
acceleration combines the last iterates, at most m + 1, by the residuals :math:`F_j = G(z_j) - z_j`:

.. math::
    :label: cfg-manifold-projection-weights

    \gamma = \arg\min_\gamma \Big\| F_k - \sum_{j<k} \gamma_j (F_k - F_j) \Big\|^2 + \rho^2 \|\gamma\|^2, \qquad
    \alpha_j = \gamma_j, \quad \alpha_k = 1 - \sum_{j<k} \gamma_j

.. math::
    :label: cfg-manifold-projection-anderson

    z_{k+1} = (1 - \beta) \sum_j \alpha_j z_j + \beta \sum_j \alpha_j\, G(z_j)

Weights are each sample's own. Where residuals hardly change from one iterate to the next, weights are large: the ridge
that bounds them is in the units of the residuals, and in single precision 1e-4 is too small for residuals near 1. Then
one guided step follows from the last iterate,

.. math::
    :label: cfg-manifold-projection-step

    x_{u'} = z_K - h\, v_w(z_K, u)

With :math:`v_c = v_u` the maps are half a step back and forth, which is z only up to :math:`O(h^2)`. A step costs
:math:`2K + 2` evaluations instead of 2.

===============  =============
:math:`w`        `scale`
:math:`K`        `steps`
:math:`m`        `window`
:math:`\beta`    `damping`
:math:`\rho`     `ridge`
===============  =============

**Where implementations differ.** The authors have two: that for SD3.5 is the one here, with H; that for DiT solves
:math:`\alpha \propto (F^\top F + \rho I)^{-1} \mathbf 1`, whose ridge pulls the weights together instead of towards the
newest iterate (the two agree for :math:`\rho = 0` only), takes the first iterate undamped, and never uses H. Windows
of 1 and 2, damping of 0.7 and 1, and thresholds of 0.4 to 0.6 are found side by side.

**Provenance.** Confirmed by the authors' code: maps, iterations, weights, step. The distance is what the abstract says
in words, written down here and checked. The paper's equations were not read.

Cai, Liu, Su and Wang, *Improving Classifier-Free Guidance of Flow Matching via Manifold Projection*, 2026,
arXiv:2601.21892.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from trref import validate
from trref.backend import linalg, xp
from trref.diffusion.adaptive_projected_guidance import cfg
from trref.signature import (
    D,
    FiniteFloat,
    Fraction,
    K,
    M,
    N,
    NonNegativeFloat,
    NonNegativeInt,
    Real,
    Scalar,
    checked,
)

Time = Annotated[float, "[0.001, 1]"]
Ridge = Annotated[float, "[1e-10, inf)"]
Map = Literal["G", "H"]


@checked
def smoothed_distance(
    x: Real[N, D], data: Real[M, D], *, u: Time = 0.5
) -> tuple[Scalar, Real[N, D]]:
    """Softened half squared distances from the scaled data, added up over the points.

    Parameters
    ----------
    x
        Points.
    data
        What a flow of these data alone would lead to.
    u
        Noise time: 0 data, 1 noise.
    """
    square = ((x[:, None] - (1 - u) * data) ** 2).sum(2) / (2 * u**2)
    near = square.min(1, keepdims=True)
    weight = xp.exp(near - square)
    total = weight.sum(1, keepdims=True)
    # eq. cfg-manifold-projection-distance
    f = u**2 * (near - xp.log(total / len(data)))
    # eq. cfg-manifold-projection-gradient
    return f.sum(), x - (1 - u) * (weight / total) @ data


def _towards_the_data(u, next_u, **_):
    """A step away from the data."""
    return [(lambda: next_u <= u, f"next_u must not be above u = {u}")]


def _velocity(name, model, x, u):
    v = model(x, xp.full(len(x), u, dtype=x.dtype))
    validate.returned(name, v, x.shape, finite=True)
    if v.dtype != x.dtype:
        raise TypeError(f"{name} must return {x.dtype} for {x.dtype}, not {v.dtype}")
    return v


def _mapped(conditional, unconditional, z, u, h, kind):
    # eq. cfg-manifold-projection-maps
    if kind == "G":
        z = z + h / 2 * _velocity("unconditional", unconditional, z, u)
        return z - h / 2 * _velocity("conditional", conditional, z, u)
    z = z - h / 2 * _velocity("conditional", conditional, z, u)
    return z + h / 2 * _velocity("unconditional", unconditional, z, u)


@checked(also=_towards_the_data)
def picard(
    conditional: Callable,
    unconditional: Callable,
    x: Real[N, D],
    *,
    u: Time = 0.8,
    next_u: Fraction = 0.6,
    steps: NonNegativeInt = 2,
    kind: Map = "G",
) -> Real[N, D]:
    """Iterate the map: the projection of CFG-MP.

    Parameters
    ----------
    conditional, unconditional
        ``velocity(x (N, D), t (N,)) -> (N, D)`` at noise time t.
    u, next_u
        The noise time now, at which all velocities are asked, and after the guided step that follows, not above it.
    kind
        Back and forth (G), or forth and back (H).

    Raises
    ------
    ValueError
        A velocity of another shape, or that is not finite.
    """
    z = x.copy()
    for _ in range(steps):
        z = _mapped(conditional, unconditional, z, u, u - next_u, kind)
    return z


@checked
def anderson_weights(residuals: Real[K, N, D], *, ridge: Ridge = 1e-4) -> Real[N, K]:
    """Weights of K iterates, of sum 1, whose mean residual is small; each sample has its own.

    Parameters
    ----------
    residuals
        ``G(z) - z`` of the iterates, the newest last.
    ridge
        Pulls towards the newest iterate, in the units of the residuals.
    """
    newest, m = residuals[-1], len(residuals) - 1
    if not m:
        return xp.ones_like(newest[:, :1])
    # eq. cfg-manifold-projection-weights
    Y = (newest - residuals[:-1]).transpose(1, 2, 0)
    penalty = xp.broadcast_to(ridge * xp.eye(m, dtype=Y.dtype), (len(Y), m, m))
    Q, R = linalg.qr(xp.concatenate([Y, penalty], 1))
    right = xp.swapaxes(Q[:, : Y.shape[1]], 1, 2) @ newest[:, :, None]
    gamma = linalg.solve(R, right)[:, :, 0]
    return xp.concatenate([gamma, 1 - gamma.sum(1, keepdims=True)], 1)


@checked(also=_towards_the_data)
def anderson(
    conditional: Callable,
    unconditional: Callable,
    x: Real[N, D],
    *,
    u: Time = 0.8,
    next_u: Fraction = 0.6,
    steps: NonNegativeInt = 2,
    kind: Map = "G",
    window: NonNegativeInt = 1,
    damping: Fraction = 1.0,
    ridge: Ridge = 1e-4,
) -> Real[N, D]:
    """Iterate the map with Anderson's acceleration: the projection of CFG-MP+.

    Parameters
    ----------
    window
        How many iterates beside the newest are combined.
    damping
        Share of the maps in the next iterate, 1 for all.
    ridge
        As by `anderson_weights`.

    Raises
    ------
    ValueError
        A velocity of another shape, or that is not finite.
    """
    z, seen, mapped = x.copy(), [], []
    for _ in range(steps):
        seen = [*seen, z][-window - 1 :]
        G = _mapped(conditional, unconditional, z, u, u - next_u, kind)
        mapped = [*mapped, G][-window - 1 :]
        Z, G = xp.stack(seen), xp.stack(mapped)
        alpha = anderson_weights.unchecked(G - Z, ridge=ridge).T[:, :, None]
        # eq. cfg-manifold-projection-anderson
        z = ((1 - damping) * alpha * Z + damping * alpha * G).sum(0)
    return z


@checked(also=_towards_the_data)
def cfgmp_step(
    conditional: Callable,
    unconditional: Callable,
    x: Real[N, D],
    *,
    u: Time = 0.8,
    next_u: Fraction = 0.6,
    scale: FiniteFloat = 4.0,
    steps: NonNegativeInt = 2,
    window: NonNegativeInt = 1,
    damping: Fraction = 1.0,
    ridge: Ridge = 1e-4,
    threshold: NonNegativeFloat = 0.5,
    switch: NonNegativeFloat = 0.95,
) -> Real[N, D]:
    """Project, then take one guided step towards the data.

    Parameters
    ----------
    scale
        Of guidance: 1 is the conditional model.
    steps
        Of the projection; 0 for none.
    window
        As by `anderson`; 0, with a damping of 1, is CFG-MP without acceleration.
    damping, ridge
        As by `anderson`.
    threshold
        Noise time above which there is a projection.
    switch
        Noise time from which on the map is H; above 1, never.

    Raises
    ------
    ValueError
        A velocity of another shape, or that is not finite.
    """
    if u > threshold:
        kind = "H" if u >= switch else "G"
        how = {"steps": steps, "window": window, "damping": damping, "ridge": ridge}
        x = anderson.unchecked(
            conditional, unconditional, x, u=u, next_u=next_u, kind=kind, **how
        )
    v_c = _velocity("conditional", conditional, x, u)
    v_u = _velocity("unconditional", unconditional, x, u)
    v = cfg.unchecked(v_c, v_u, scale=scale)  # eq. cfg-manifold-projection-velocity
    return x - (u - next_u) * v  # eq. cfg-manifold-projection-step
