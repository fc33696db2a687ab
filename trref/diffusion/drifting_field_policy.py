r"""Drifting field policy (DFP): one-step actions drift towards the best of the old policy's, and away from each other.

A one-step policy turns noise into an action, :math:`x = f_\theta(\epsilon)`. To bring the law of its actions nearer to
a target, nothing needs to be integrated: each action is moved by a field, and the network learns to give the moved
ones. The field is made of mean shifts with the kernel :math:`k(x, y) = \exp(-\|x-y\|^2/2h^2)`,

.. math::
    :label: drifting-field-policy-mean-shift

    V_Y(x) = \frac{\sum_j k(x, y_j)\, (y_j - x)}{\sum_j k(x, y_j)},

towards samples P of the target and away from samples Q of the policy,

.. math::
    :label: drifting-field-policy-field

    V_{P,Q}(x) = V_P(x) - V_Q(x) = \frac{\sum_{jl} k(x, p_j)\, k(x, q_l)\, (p_j - q_l)}
    {\sum_j k(x, p_j) \sum_l k(x, q_l)} .

For any bandwidth it is :math:`h^2 [\nabla\log \hat p(x) - \nabla\log \hat q(x)]` of the two kernel density estimates:
the direction in the space of laws in which KL(q‖p) of the smoothed ones falls fastest, by Wasserstein's distance. It is
antisymmetric in P and Q, and 0 for equal samples. The loss holds the moved actions constant,

.. math::
    :label: drifting-field-policy-target

    y_n = \mathrm{sg}[x_n + V_{P,Q}(x_n)]

.. math::
    :label: drifting-field-policy-loss

    L_{drift} = \frac1N \sum_n \| x_n - y_n \|^2, \qquad
    \frac{\partial L_{drift}}{\partial x_n} = \frac2N (x_n - y_n) = -\frac2N V_{P,Q}(x_n) .

Its value is the mean of :math:`\|V\|^2`, and its gradient is not that mean's. As Q serve the generated actions
themselves, each without itself.

To climb a critic Q and stay near the old policy means :math:`\pi^+ \propto \pi_{old}\, e^{Q/\alpha}`, and for small h
:math:`V_{\pi^+, \pi} \approx \frac{h^2}{\alpha} \nabla Q + h^2 (\nabla\log\pi_{old} - \nabla\log\pi)`. In practice the
K best of some actions of the old policy stand for it,

.. math::
    :label: drifting-field-policy-best

    P_K = \{ \text{the K candidates of highest value} \},

and beside it data are positives in a term of their own:

.. math::
    :label: drifting-field-policy-objective

    L = L_{drift}(\mathcal D, \pi_\theta) + \lambda\, L_{drift}(P_K, \pi_\theta) .

======================================  ==============
:math:`h`                               `bandwidth`
:math:`P,\; \mathcal D,\; P_K`          `positives, data, best`
:math:`Q` (of the field)                `negatives`
:math:`K,\; \lambda`                    `count, best_weight`
======================================  ==============

Where all kernels vanish but for rounding, the nearest sample wins. One action alone is not repelled. Of candidates of
equal value the first is taken; with fewer than K candidates, all.

**Where implementations differ.** The released code has another kernel, :math:`e^{-d/R}` of the distance over its mean,
multiplies the softmax over the targets by that over the actions and takes the root, puts a floor of 0.001 under the
result (also of an action with itself), multiplies attraction by the sum of the repelling affinities and the other way
round, and divides the field by its own root mean square: the value of its loss says nothing. Its default temperature is
0.1.

**Provenance.** All equations were confirmed in the paper, the released field in the authors' code.

Koo et al., *Drifting Field Policy: A One-Step Generative Policy via Wasserstein Gradient Flow*, 2026, arXiv:2605.07727.
"""

from typing import Annotated, Any

from trref.backend import xp
from trref.signature import (
    D,
    K,
    M,
    N,
    NonNegativeFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

Bandwidth = Annotated[float, "[1e-3, 1e6]"]


def _shift(x, targets, bandwidth, excluded: Any = 0):
    """The mean shift; an infinity among the excluded takes a target from an action."""
    away = targets - x[:, None]
    square = (away * away).sum(2) + excluded
    square = square - square.min(1, keepdims=True)
    k = xp.exp(-square / (2 * bandwidth * bandwidth))
    return (k[:, :, None] * away).sum(1) / k.sum(1, keepdims=True)


@checked
def mean_shift(
    x: Real[N, D], targets: Real[M, D], *, bandwidth: Bandwidth = 0.05
) -> Real[N, D]:
    """Where the kernel mean of some targets lies, seen from each point.

    Parameters
    ----------
    x
        Where it is seen from.
    targets
        What it is the mean of.
    bandwidth
        Of the kernel.
    """
    return _shift(x, targets, bandwidth)  # eq. drifting-field-policy-mean-shift


@checked
def drift_field(
    x: Real[N, D],
    positives: Real[M, D],
    negatives: Real[K, D] | None = None,
    *,
    bandwidth: Bandwidth = 0.05,
) -> Real[N, D]:
    """The field that moves actions.

    Parameters
    ----------
    x
        Generated actions.
    positives
        Samples of the target.
    negatives
        Samples of the policy; the actions themselves if None, each without itself.
    """
    # eq. drifting-field-policy-field
    towards = _shift(x, positives, bandwidth)
    if negatives is not None:
        return towards - _shift(x, negatives, bandwidth)
    if len(x) == 1:
        return towards
    itself = xp.where(xp.eye(len(x), dtype=bool), xp.inf, 0).astype(x.dtype)
    return towards - _shift(x, x, bandwidth, itself)


@checked
def drift_target(
    x: Real[N, D],
    positives: Real[M, D],
    negatives: Real[K, D] | None = None,
    *,
    bandwidth: Bandwidth = 0.05,
) -> Real[N, D]:
    """Return the moved actions, which the loss holds constant."""
    # eq. drifting-field-policy-target
    return x + drift_field.unchecked(x, positives, negatives, bandwidth=bandwidth)


@checked
def drift_loss(
    x: Real[N, D],
    positives: Real[M, D],
    negatives: Real[K, D] | None = None,
    *,
    bandwidth: Bandwidth = 0.05,
    target: Real[N, D] | None = None,
) -> tuple[Scalar, Real[N, D]]:
    """Mean squared distance of actions from the moved ones.

    Parameters
    ----------
    target
        The moved actions, if they are known.

    Returns
    -------
    loss
    gradient
        With respect to `x`.
    """
    if target is None:
        target = drift_target.unchecked(x, positives, negatives, bandwidth=bandwidth)
    # eq. drifting-field-policy-loss
    apart = x - target
    return (apart * apart).sum() / len(x), 2 * apart / len(x)


@checked
def top_positives(
    candidates: Real[N, D], q_value: Real[N], *, count: PositiveInt = 4
) -> Real[K, D]:
    """Choose the best of some candidates, in falling order.

    Parameters
    ----------
    candidates
        Actions of the old policy in one state.
    count
        How many.
    """
    best = xp.argsort(-q_value, kind="stable")[:count]
    return candidates[best]  # eq. drifting-field-policy-best


@checked
def data_target(
    x: Real[N, D], data: Real[M, D], *, bandwidth: Bandwidth = 0.05
) -> Real[N, D]:
    """Return the actions, moved towards the data.

    Parameters
    ----------
    data
        Actions of the data in the same state; as a rule one.
    """
    return drift_target.unchecked(x, data, bandwidth=bandwidth)


@checked
def best_target(
    x: Real[N, D], best: Real[K, D], *, bandwidth: Bandwidth = 0.05
) -> Real[N, D]:
    """Return the actions, moved towards the best candidates.

    Parameters
    ----------
    best
        Actions of the old policy, as `top_positives` chooses them.
    """
    return drift_target.unchecked(x, best, bandwidth=bandwidth)


@checked
def dfp_loss(
    x: Real[N, D],
    data: Real[M, D],
    best: Real[K, D],
    *,
    bandwidth: Bandwidth = 0.05,
    best_weight: NonNegativeFloat = 0.5,
    towards_data: Real[N, D] | None = None,
    towards_best: Real[N, D] | None = None,
) -> tuple[Scalar, Real[N, D]]:
    """DFP loss of the actions of one state.

    Parameters
    ----------
    best_weight
        Weight of the second term.
    towards_data, towards_best
        The moved actions of each term, if they are known.

    Returns
    -------
    loss
    gradient
        With respect to `x`.
    """
    # eq. drifting-field-policy-objective
    L, dL = drift_loss.unchecked(x, data, bandwidth=bandwidth, target=towards_data)
    L_best, dL_best = drift_loss.unchecked(
        x, best, bandwidth=bandwidth, target=towards_best
    )
    return L + best_weight * L_best, dL + best_weight * dL_best
