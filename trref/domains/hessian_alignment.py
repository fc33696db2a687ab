r"""Hessian alignment: heads that see the same curvature in every domain.

With the features fixed, domains differ for a softmax head :math:`\Theta` only through their losses
:math:`L_e`, to second order through the head's gradient and Hessian. In domain e with features Z (n rows; a constant
1 is the bias), one-hot labels Y and probabilities :math:`P = \operatorname{softmax}(Z\Theta)`,

.. math::
    :label: hessian-alignment-gradient

    g = \frac1n Z^\top (P - Y)

.. math::
    :label: hessian-alignment-product

    H V = \frac1n Z^\top J(Z V), \qquad
    J(A) = P \circ (A - \langle P, A\rangle) = (\operatorname{diag} p - p p^\top)\, a \text{ for each row.}

Nobody needs to form H, which has :math:`(DK)^2` entries. Either one compares products with the gradient (HGP),

.. math::
    :label: hessian-alignment-hgp

    H g = \tfrac12 \nabla_\Theta \|g\|^2,

or the diagonal, estimated from q random signs :math:`z_r` or, for this head, exactly:

.. math::
    :label: hessian-alignment-hutchinson

    \hat D = \frac1q \sum_{r=1}^q z_r \circ (H z_r), \qquad
    \operatorname{Var} \hat D_i = \frac1q \sum_{j \ne i} H_{ij}^2

.. math::
    :label: hessian-alignment-diagonal

    D_{ak} = \frac1n \sum_i z_{ia}^2\, p_{ik} (1 - p_{ik})

The objective adds, to the mean loss of the E domains, how far these and the gradients are from their means,

.. math::
    :label: hessian-alignment-objective

    \mathcal L = \frac1E \sum_e \Big[ L_e + \alpha\, \|a_e - \bar a\|^2 + \beta\, \|g_e - \bar g\|^2 \Big], \qquad
    a_e = H_e g_e \text{ or } D_e.

Its gradient needs third derivatives of the loss in one direction. As deviations from a mean sum to 0, the means may be
held constant or not. With :math:`R = 2\alpha(a_e - \bar a)` and :math:`U = 2\beta(g_e - \bar g)`, let
:math:`\tilde A = A - \langle P, A \rangle` and

.. math::
    :label: hessian-alignment-cumulant

    \kappa = P \circ \big( \tilde A_g \circ \tilde A_r - \langle P, \tilde A_g \circ \tilde A_r \rangle \big),
    \qquad A_g = Z g, \quad A_r = Z R, \qquad W = H R + U.

Then one domain's part of E times the gradient is, beside that of :math:`L_e`, for products

.. math::
    :label: hessian-alignment-product-gradient

    \nabla_\Theta = H W + \frac1n Z^\top \kappa, \qquad
    \nabla_Z = \frac1n \big[ J(A_g) R^\top + J(A_r) g^\top + \kappa \Theta^\top + (P - Y) W^\top
    + J(Z W) \Theta^\top \big],

and for the diagonal, with :math:`B = (Z \circ Z) R` and :math:`W = U`,

.. math::
    :label: hessian-alignment-diagonal-gradient

    \nabla_\Theta = H W + \frac1n Z^\top J\big(B \circ (1 - 2P)\big), \qquad
    \nabla_Z = \frac1n \big[ J(B \circ (1 - 2P)) \Theta^\top + 2 Z \circ \big((P \circ (1 - P)) R^\top\big)
    + (P - Y) W^\top + J(Z W) \Theta^\top \big].

The derivative by the features goes on into whatever made them.

Why Hessians: let the source's loss be :math:`\mu`-strongly convex, with the same minimiser as the target's. For heads
within :math:`\delta` of the least source loss, what the target loses more than the source is at most

.. math::
    :label: hessian-alignment-transfer

    \frac{\delta}{\mu} \|H_T - H_S\|_2 + o(\delta), \qquad \text{for quadratics exactly} \quad
    \delta \max\big(\lambda_{\max}(H_S^{-1/2} H_T H_S^{-1/2}) - 1,\, 0\big).

At a finite :math:`\delta` the first may be exceeded where losses are not quadratic. At :math:`\Theta = 0` the Hessian
knows the features' second moments and nothing else. Penalties grow with the features' fourth power: normalise them. The
same probes serve all domains, since noise of its own would keep two equal ones apart.

**Where implementations differ.** The authors' code compares the products with :math:`\bar H \bar g`, of the pooled
loss, held constant, in the place of the mean of :math:`H_e g_e`; for the diagonal the two are the same.

**Provenance.** Products, probes and weights are confirmed in the authors' code; the conditions of the bound by others
who read it, its constant is derived; the closed forms for the softmax head are derived and checked here.

Hemati, Zhang, Estiri and Chen, *Understanding Hessian Alignment for Domain Generalization*, 2023, arXiv:2308.11778.
"""

from typing import Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.domains.terms import (
    HeadGradient,
    bend,
    classes_there_are,
    cross_entropies,
    excess,
    probabilities,
    pull,
)
from trref.signature import (
    D,
    E,
    Index,
    K,
    N,
    NonNegativeFloat,
    P,
    PositiveFloat,
    R,
    Real,
    Scalar,
    checked,
)


class Transfer(NamedTuple):
    """How much more a target may lose than its source."""

    bound: Scalar
    """By the spectral norm of the Hessians' difference."""
    quadratic: Scalar
    """Exactly, if both losses are quadratic."""


@checked(also=classes_there_are)
def head_gradient(
    theta: Real[D, K], features: Real[E, N, D], labels: Index[E, N]
) -> Real[E, D, K]:
    """Each domain's gradient by the head.

    Parameters
    ----------
    theta
        The head: D features to K classes.
    features
        Of N rows in each of E domains.
    labels
        Class of each row.
    """
    error = excess(probabilities(theta, features), labels)
    return pull(features, error)  # eq. hessian-alignment-gradient


@checked
def hessian_product(
    theta: Real[D, K], features: Real[E, N, D], V: Real[E, D, K]
) -> Real[E, D, K]:
    """Each domain's Hessian by the head, times its V.

    Parameters
    ----------
    V
        What is multiplied.
    """
    return _product(probabilities(theta, features), features, V)


def _product(p, features, V):
    return pull(features, bend(p, features @ V))  # eq. hessian-alignment-product


@checked(also=classes_there_are)
def gradient_product(
    theta: Real[D, K], features: Real[E, N, D], labels: Index[E, N]
) -> Real[E, D, K]:
    """Each domain's Hessian times its gradient."""
    p = probabilities(theta, features)
    # eq. hessian-alignment-hgp
    return _product(p, features, pull(features, excess(p, labels)))


@checked
def hessian_diagonal(theta: Real[D, K], features: Real[E, N, D]) -> Real[E, D, K]:
    """The diagonal of each domain's Hessian."""
    p = probabilities(theta, features)
    return pull(features**2, p * (1 - p))  # eq. hessian-alignment-diagonal


@checked
def hutchinson_diagonal(
    theta: Real[D, K], features: Real[E, N, D], probes: Real[R, D, K]
) -> Real[E, D, K]:
    """An estimate of that diagonal, from products with random signs.

    Parameters
    ----------
    probes
        R times random signs, the same for all domains.
    """
    # eq. hessian-alignment-hutchinson
    p = probabilities(theta, features)
    each = [z * _product(p, features, z) for z in probes]
    return xp.stack(each).mean(0)


@checked(also=classes_there_are)
def alignment_objective(
    theta: Real[D, K],
    features: Real[E, N, D],
    labels: Index[E, N],
    *,
    alpha: NonNegativeFloat,
    beta: NonNegativeFloat,
    kind: Literal["product", "diagonal"] = "product",
) -> tuple[Scalar, HeadGradient]:
    """The mean loss, and how far the domains' Hessians and gradients are apart.

    Parameters
    ----------
    alpha
        Weight of the Hessians' differences: in DomainBed 1e-4 for products, 1e-3 for
        the diagonal.
    beta
        Weight of the gradients' differences: 5e-3.
    kind
        What is compared of a Hessian: its product with the gradient, or its diagonal.
    """
    Z, n = features, features.shape[1]
    p = probabilities(theta, Z)
    error = excess(p, labels)
    g = pull(Z, error)
    a = _product(p, Z, g) if kind == "product" else pull(Z**2, p * (1 - p))
    # eq. hessian-alignment-objective
    apart_a, apart_g = a - a.mean(0), g - g.mean(0)
    each = alpha * (apart_a**2).sum((1, 2)) + beta * (apart_g**2).sum((1, 2))
    value = cross_entropies(theta, Z, labels).mean() + each.mean()

    R, W = 2 * alpha * apart_a, 2 * beta * apart_g
    if kind == "product":
        W = W + _product(p, Z, R)
        # eq. hessian-alignment-cumulant
        A_g, A_r = Z @ g, Z @ R
        both = (A_g - (p * A_g).sum(-1, keepdims=True)) * (
            A_r - (p * A_r).sum(-1, keepdims=True)
        )
        bent = bend(p, both)

        own = bend(p, A_g) @ _T(R) + bend(p, A_r) @ _T(g)
    else:
        bent = bend(p, (Z**2 @ R) * (1 - 2 * p))
        own = 2 * Z * ((p * (1 - p)) @ _T(R))
    # eq. hessian-alignment-product-gradient, hessian-alignment-diagonal-gradient
    slopes = error + bend(p, Z @ W) + bent  # by the logits, in all places
    d_theta = pull(Z, slopes).mean(0)
    d_features = (slopes @ theta.T + own + error @ _T(W)) / n / len(Z)
    return value, HeadGradient(d_theta, d_features)


def _T(A):
    return xp.swapaxes(A, 1, 2)


def _curvatures(source, target, **_):
    """Matrices that are not symmetric, or a source that is not positive definite."""
    same = lambda H: abs(H - H.T).max() <= 1e-6 * abs(H).max()  # noqa: E731
    known = xp.where(abs(source) <= validate.LARGEST[source.dtype.itemsize], source, 0)
    return [
        (lambda: same(source), "source must be symmetric"),
        (lambda: same(target), "target must be symmetric"),
        (
            lambda: xp.linalg.eigvalsh(known).min() > 0,
            "source must be positive definite",
        ),
    ]


@checked(also=_curvatures)
def transfer_bound(
    source: Real[P, P], target: Real[P, P], *, delta: PositiveFloat
) -> Transfer:
    """How much more the target may lose, for heads that are nearly best in the source.

    Parameters
    ----------
    source, target
        Hessians at the minimiser that both share.
    delta
        How far from the least loss the head may be in the source.
    """
    # eq. hessian-alignment-transfer
    spectral = abs(xp.linalg.eigvalsh(target - source)).max()
    bound = delta * spectral / xp.linalg.eigvalsh(source)[0]
    L = xp.linalg.cholesky(source)
    relative = xp.linalg.solve(L, xp.linalg.solve(L, target).T)
    largest = xp.linalg.eigvalsh(relative)[-1]
    return Transfer(bound, delta * xp.maximum(largest - 1, 0))
