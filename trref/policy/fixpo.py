r"""FixPO: a penalty with a learned weight, and a second phase that ends only inside the trust region.

A penalty on the divergence keeps a policy nearly in its trust region. FixPO adds a *fixup phase* after each epoch,
which takes steps on the penalty alone until every state of the batch satisfies the bound. The primary phase lowers

.. math::

    L = -\frac1N \sum_n r_n \hat A_n + \beta\, \frac1N \sum_n D_n, \qquad
    D_n = D_{KL}\big( \pi_{old}(\cdot|s_n) \,\|\, \pi_\theta(\cdot|s_n) \big)

(:func:`trref.policy.ppo_penalty.kl_penalty_objective`, no clipping), on minibatches of the batch. After each step the
weight :math:`\beta` takes one on its own loss, with the divergences held constant,

.. math::
    :label: fixpo-multiplier

    L_\beta = \beta \big( \varepsilon - C\, \max_n D_n \big), \qquad
    \frac{d L_\beta}{d \beta} = \varepsilon - C\, \max_n D_n,

and is cut off at 0: it rises exactly while the largest divergence (or, as an option, the mean) is above
:math:`\varepsilon / C`. C > 1 aims inside the region, because the largest of a minibatch is not the largest of the
batch. The region is left if

.. math::
    :label: fixpo-violated

    \max_n D_n > \varepsilon .

Then the fixup phase goes over the minibatches in order; on each that violates the bound it takes a step of Adam on

.. math::
    :label: fixpo-fixup

    \beta\, \frac1M \sum_{n \in \text{minibatch}} D_n

and one on the weight. It ends when it has seen all minibatches since its last step, none of them in violation: the
bound then holds in every state of the batch.

===================  ==================
:math:`\beta`        `kl_weight`
:math:`\varepsilon`  `radius`
:math:`C`            `margin`
===================  ==================

On the bound a state is inside. With a weight of 0 the first steps do not move the policy, until the weight has risen.

**Where implementations differ.** Nothing public but the authors' code; its three default values of C are 2, 2 or 3, and
1 to 10. It has one optimiser for both phases, whose momentum still points outward at first; here the phase has its own.
A reference that tests divergences from before a later minibatch's step would end too soon.

**Provenance.** Confirmed by the authors' code: all of it, with its defaults; the paper's text was not seen. The cap on
the number of minibatches is ours.

Zentner et al., *Guaranteed Trust Region Optimization via Two-Phase KL Penalization*, 2023, arXiv:2312.05405.
"""

import warnings
from typing import Literal, NamedTuple

from trref.backend import xp
from trref.optimizers.adam import init, update
from trref.problems.protocols import Policy
from trref.signature import (
    D,
    K,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)
from trref.validate import ConvergenceWarning

Statistic = Literal["max", "mean"]


class MultiplierLoss(NamedTuple):
    """The loss of the weight, and its derivative in the weight."""

    loss: Scalar
    slope: Scalar


class Fixup(NamedTuple):
    """Parameters inside the region, the weight at the end, and the largest divergence of each minibatch seen.

    `iterations` are minibatches seen, `updates` those on which steps were taken.
    """

    theta: Real[P]
    kl_weight: NonNegative[()]
    largest: list[float]
    updates: int
    iterations: int
    converged: bool


def _fitting(policy, theta, states, old_outputs, **_):
    """Parameters that the policy refuses, and outputs of another width than the policy's."""
    width = policy(theta, states[:1]).shape[1]
    if old_outputs.shape[1] != width:
        raise ValueError(
            f"old_outputs must have {width} columns, as the policy's outputs have, not {old_outputs.shape[1]}"
        )
    return policy.requirements(theta)


@checked
def multiplier_loss(
    kl_weight: NonNegative[()],
    kl: NonNegative[N],
    *,
    radius: PositiveFloat = 0.5,
    margin: PositiveFloat = 2.0,
    statistic: Statistic = "max",
) -> MultiplierLoss:
    """Loss of the weight.

    Parameters
    ----------
    kl_weight
        Of the penalty.
    kl
        Divergence KL(old‖new) of each state; a constant.
    radius
        Largest divergence that is allowed.
    margin
        The weight aims at a divergence of the radius over this.
    statistic
        Of the divergences.
    """
    slope = radius - margin * (kl.max() if statistic == "max" else kl.mean())
    return MultiplierLoss(kl_weight * slope, slope)  # eq. fixpo-multiplier


@checked
def violated(
    kl: NonNegative[N],
    *,
    radius: PositiveFloat = 0.5,
    statistic: Statistic = "max",
) -> Mask[()]:
    """1 where the bound is broken."""
    # eq. fixpo-violated
    worst = kl.max() if statistic == "max" else kl.mean()
    return (worst > radius).astype(kl.dtype)


@checked(also=_fitting)
def fixup_phase(
    policy: Policy,
    theta: Real[P],
    states: Real[N, D],
    old_outputs: Real[N, K],
    *,
    kl_weight: NonNegativeFloat = 1.0,
    radius: PositiveFloat = 0.5,
    margin: PositiveFloat = 2.0,
    batch: PositiveInt = 1024,
    lr: PositiveFloat = 3e-3,
    kl_weight_lr: PositiveFloat = 0.01,
    max_iter: PositiveInt = 1000,
) -> Fixup:
    """Lower the divergence until no state of the batch is outside.

    Parameters
    ----------
    theta
        Where the primary phase has ended.
    old_outputs
        Of the policy that sampled, in the same states.
    kl_weight
        Where the primary phase has left it.
    batch
        States of a minibatch; the last one may be smaller.
    lr, kl_weight_lr
        Step lengths of the two instances of Adam.
    max_iter
        Most minibatches that are looked at.

    Returns
    -------
    Fixup
        Where it has not converged, the last parameters.

    Warns
    -----
    ConvergenceWarning
        States are outside after `max_iter` minibatches.
    """
    parts = [slice(start, start + batch) for start in range(0, len(states), batch)]
    weight = xp.full_like(theta[0], kl_weight)
    theta = theta.copy()
    state, weight_state = init([theta]), init([weight])
    largest, updates, clean = [], 0, 0
    for seen in range(1, max_iter + 1):
        part = parts[(seen - 1) % len(parts)]
        outputs, cache = policy.forward(theta, states[part])
        kl, d_kl = policy.kl(old_outputs[part], outputs)
        largest.append(float(kl.max()))
        # a minibatch that is inside is left alone; all of them in a row are the end
        if largest[-1] <= radius:
            clean += 1
            if clean == len(parts):
                return Fixup(theta, weight, largest, updates, seen, True)
            continue
        clean, updates = 0, updates + 1
        gradient = policy.vjp(cache, weight * d_kl / len(kl))  # eq. fixpo-fixup
        (theta,), state = update.unchecked([theta], [gradient], state, lr=lr)
        slope = multiplier_loss.unchecked(
            weight, kl, radius=radius, margin=margin
        ).slope
        (weight,), weight_state = update.unchecked(
            [weight], [slope], weight_state, lr=kl_weight_lr
        )
        weight = xp.asarray(xp.maximum(weight, 0))
    warnings.warn(
        f"fixup_phase: states are outside after {max_iter} minibatches",
        ConvergenceWarning,
        stacklevel=3,
    )
    return Fixup(theta, weight, largest, updates, max_iter, False)
