r"""Sharpness-aware minimisation.

Instead of the loss at the weights, minimise the worst loss in a ball of radius :math:`\rho` around them. The worst
point of the linearised loss is

.. math::
    :label: sam-perturbation

    \hat\epsilon(w) = \rho\, \frac{\nabla L(w)}{\|\nabla L(w)\|_2}, \qquad \hat\epsilon(w) = 0
    \text{ where } \nabla L(w) = 0,

with one norm over all parameters. In a ball of another norm, :math:`\|\epsilon\|_p \le \rho` with
:math:`1/p + 1/q = 1`, it is

.. math::
    :label: sam-general-norm

    \hat\epsilon(w) = \rho\, \mathrm{sign}(g)\, \frac{|g|^{q-1}}{\big(\|g\|_q^q\big)^{1/p}}, \qquad g = \nabla L(w),

which is the former for :math:`p = 2`, and :math:`\rho\,\mathrm{sign}(g)` for :math:`p = \infty`. The linearised loss
rises by :math:`\rho \|g\|_q` there. The gradient at that point, with the perturbation held constant,

.. math::
    :label: sam-gradient

    g_{SAM}(w) = \nabla L(w')\big|_{w' = w + \hat\epsilon(w)},

is what a base optimiser gets, at the unperturbed :math:`w`. With several devices each perturbs by its own share of the
batch, and the gradients are averaged. That is *m-sharpness*, for shares :math:`B_k` of m of the N examples:

.. math::
    :label: sam-shares

    g_m(w) = \sum_k \frac{|B_k|}{N}\, \nabla L_{B_k}(w')\big|_{w' = w + \hat\epsilon_{B_k}(w)}

How sharp a point is, :math:`\max_{\|\epsilon\| \le \rho} L(w + \epsilon) - L(w)`, is estimated from below by repeated
steps to the worst point of the linearised loss, each time linearised where the last one ended:

.. math::
    :label: sam-sharpness

    \epsilon_{k+1} = \hat\epsilon(w + \epsilon_k), \quad \epsilon_0 = 0, \qquad S = L(w + \epsilon_K) - L(w)

For a convex loss no step falls.

**Where implementations differ.** The derivative of :math:`L(w + \hat\epsilon(w))` has a second term,
:math:`\frac{\rho}{\|g\|} H (g' - \hat g \langle\hat g, g'\rangle)`, that SAM drops: frameworks must stop the gradient
at the perturbation. Public code adds 1e-12 (davda54/sam) or 1e-16 (SamsungLabs/ASAM) to the norm; here a zero gradient
gives no perturbation instead. A norm per tensor is another method. Subtracting the perturbation again, instead of
keeping the weights, leaves rounding behind.

**Provenance.** Confirmed in davda54/sam, SamsungLabs/ASAM, pytorch_optimizer and optax; the general norm, the shares
and the repeated ascent from memory of the paper and standard theory, checked.

Foret, Kleiner, Mobahi and Neyshabur, *Sharpness-Aware Minimization for Efficiently Improving Generalization*, 2020,
arXiv:2010.01412.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Limit, Method, Objective
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss, random_classifier
from trref.sharpness.interfaces import PERTURBED_GRADIENT, WITH_PERTURBATION

__all__ = ["perturbation", "perturbed_gradient", "share_gradient", "share_perturbations", "sharpness"]

WITH_SHARES = {**PERTURBED_GRADIENT.inputs, "perturbations": Input("K P", optional=True)}


def _check(rho, p):
    validate.interval("[0, inf)", rho=rho)
    if p != "inf":
        validate.interval("(1, inf)", p=p)


def perturbation(loss_and_grad, theta, *, rho=0.05, p=2.0):
    """Return the worst point of the linearised loss in the ball of radius rho, relative to theta (P,)."""
    _, g = validate.loss_and_grad(loss_and_grad, theta)
    largest = abs(g).max()  # of no effect on the result, but powers of tiny gradients would vanish
    u = abs(g) / xp.where(largest > 0, largest, 1)
    # eq. sam-perturbation, sam-general-norm
    q = 1.0 if p == "inf" else p / (p - 1)
    return rho * xp.sign(g) * u ** (q - 1) / xp.maximum((u**q).sum(), 1) ** (1 - 1 / q)


def perturbed_gradient(loss_and_grad, theta, *, rho=0.05, p=2.0, perturbation=None):
    """Loss and gradient at the perturbed point.

    Parameters
    ----------
    loss_and_grad : callable
        ``loss_and_grad(theta) -> (loss, gradient (P,))``, the same batch in both calls.
    theta : array (P,)
    rho : float
        Radius, in [0, inf); 0.05 in the paper.
    p : float or "inf"
        Which norm bounds the perturbation, in (1, inf), or the largest entry; 2 in the paper's experiments.
    perturbation : array (P,), optional
        The perturbation to use, held constant by the gradient; computed by `perturbation` when not given.

    Returns
    -------
    loss : scalar array
        At ``theta + perturbation``.
    gradient : array (P,)
        There, too.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, negative `rho`, `p` not above 1.
    """
    validate.inputs(WITH_PERTURBATION, loss_and_grad, theta, perturbation)
    _check(rho, p)
    if perturbation is None:
        perturbation = _worst_direction(loss_and_grad, theta, rho=rho, p=p)
    return validate.loss_and_grad(loss_and_grad, theta + perturbation)  # eq. sam-gradient


_worst_direction = perturbation


def share_perturbations(loss_and_grad, theta, *, share, rho=0.05, p=2.0):
    """Return each share's own perturbation (K, P)."""
    return xp.stack([perturbation(part, theta, rho=rho, p=p) for part in _shares(loss_and_grad, share)])


def _shares(loss_and_grad, share):
    points = len(loss_and_grad.labels)
    return [loss_and_grad.on(slice(start, min(start + share, points))) for start in range(0, points, share)]


def share_gradient(loss_and_grad, theta, *, share, rho=0.05, p=2.0, perturbations=None):
    """Loss and gradient with a perturbation for each share of the batch (m-sharpness).

    Parameters
    ----------
    loss_and_grad : callable
        A mean over examples, with ``labels`` (N,) and ``on(rows)``, such as `trref.problems.networks.ClassifierLoss`.
    theta : array (P,)
    share : int
        Examples in a share, m in the paper, at least 1; the last share may be smaller.
    rho, p
        As in `perturbed_gradient`.
    perturbations : array (K, P), optional
        Held constant by the gradient; computed by `share_perturbations` when not given.

    Returns
    -------
    loss : scalar array
    gradient : array (P,)

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, negative `rho`, `p` not above 1, `share` below 1.
    """
    validate.inputs(WITH_SHARES, loss_and_grad, theta, perturbations)
    _check(rho, p)
    validate.integer("[1, inf)", share=share)
    if perturbations is None:
        perturbations = share_perturbations(loss_and_grad, theta, share=share, rho=rho, p=p)
    parts = _shares(loss_and_grad, share)
    if len(parts) != len(perturbations):
        raise ValueError(f"perturbations must have {len(parts)} rows, one a share, not {len(perturbations)}")
    # eq. sam-shares
    loss, gradient = 0.0, 0.0
    for part, moved in zip(parts, perturbations, strict=True):
        value, g = validate.loss_and_grad(part, theta + moved)
        weight = len(part.labels) / len(loss_and_grad.labels)
        loss, gradient = loss + weight * value, gradient + weight * g

    return loss, gradient


def sharpness(loss_and_grad, theta, *, rho=0.05, p=2.0, steps=1):
    """How far the loss rises within the ball, from below: by steps to the worst point of the linearised loss.

    Parameters
    ----------
    loss_and_grad, theta, rho, p
        As in `perturbed_gradient`.
    steps : int
        At least 1, which is SAM's own estimate.

    Returns
    -------
    scalar array

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, negative `rho`, `p` not above 1, `steps` below 1.
    """
    validate.inputs(PERTURBED_GRADIENT.inputs, loss_and_grad, theta)
    _check(rho, p)
    validate.integer("[1, inf)", steps=steps)
    # eq. sam-sharpness
    moved = xp.zeros_like(theta)
    for _ in range(steps):
        moved = perturbation(loss_and_grad, theta + moved, rho=rho, p=p)
    return loss_and_grad(theta + moved)[0] - loss_and_grad(theta)[0]


def _classifier(rng, size):
    loss = random_classifier(rng, points=max(3, size), hidden=max(2, size // 8))
    return {"loss_and_grad": loss, "theta": mlp.init(rng, loss.sizes)}


def _batch_of(points):
    """Three features, the first always 0, and two classes."""
    X = xp.sin(xp.arange(3.0 * points)).reshape(points, 3) * xp.array([0.0, 1.0, 1.0])
    loss = ClassifierLoss(X, xp.arange(points) % 2, (3, 2, 2))
    return {"loss_and_grad": loss, "theta": xp.cos(xp.arange(14.0))}


def _sharpness_by_hand(loss_and_grad, theta, *, rho=0.05, p=2.0, steps=1):
    """Along the direction in the unit ball of the p-norm that has the largest product with the gradient."""
    point = theta
    for _ in range(steps):
        g = loss_and_grad(point)[1]
        direction = xp.sign(g) if p == "inf" else xp.sign(g) * abs(g) ** (1 / (p - 1))
        length = abs(direction).max() if p == "inf" else (abs(direction) ** p).sum() ** (1 / p)
        point = theta + rho * direction / (float(length) or 1.0)
    return loss_and_grad(point)[0] - loss_and_grad(theta)[0]


METHOD = Method(
    title="Sharpness-Aware Minimization for Efficiently Improving Generalization",
    key="foret2020sharpness",
    arxiv="2010.01412",
    provenance={"confirmed": ("perturbation", "gradient"), "partly": ("general-norm", "shares", "sharpness")},
    functions=(
        Objective(
            f=perturbed_gradient,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            stopped={"perturbation": perturbation},
            settings={
                "default": {},
                "a wider ball": {"rho": 0.3},
                "largest entry": {"p": "inf"},
                "probe": {"rho": 0.3, "p": 3.0},
            },
        ),
        Objective(
            f=share_gradient,
            inputs=PERTURBED_GRADIENT.inputs,
            example=_classifier,
            edges={"a last share of one": lambda: _batch_of(9), "less than a share": lambda: _batch_of(2)},
            wrt="theta",
            stopped={"perturbations": share_perturbations},
            settings={
                "default": {"share": 3},
                "largest entry": {"share": 3, "p": "inf"},
                "probe": {"rho": 0.3, "share": 5, "p": 3.0},
            },
            limits=(
                Limit("sam.perturbed_gradient", {"share": 1000}),
                Limit("sam.perturbed_gradient", {"rho": 0.0}, {"rho": 0.0}),
            ),
        ),
        Estimator(
            f=sharpness,
            inputs=PERTURBED_GRADIENT.inputs,
            example=PERTURBED_GRADIENT.example,
            edges=PERTURBED_GRADIENT.edges,
            settings={"default": {}, "largest entry": {"p": "inf"}, "probe": {"rho": 0.3, "p": 3.0, "steps": 3}},
            brute_force=_sharpness_by_hand,
        ),
    ),
)
