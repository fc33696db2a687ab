r"""Trust-region continual learning: stay near old optima, replay old tasks, and meta-learn without knowing it.

A new task t is learned after others, of each of which remain the parameters :math:`\theta_i^*` that solved it, how much
its loss minds a change of them, :math:`F_i`, and something to replay it from. Two cures for forgetting are combined:

.. math::
    :label: trust-region-continual-objective

    L(\theta) = L_t(\theta) + \beta\, L_{replay}(\theta) +
    \frac\lambda2 \sum_{i<t} (\theta - \theta_i^*)^\top F_i\, (\theta - \theta_i^*)

The last term alone is elastic weight consolidation (EWC): the Lagrangian of a trust region around the old optima. F is
the Fisher matrix, the mean of outer products of gradients of single samples,

.. math::
    :label: trust-region-continual-fisher

    F = \frac1N \sum_{s=1}^N g_s g_s^\top, \qquad \operatorname{diag} F = \frac1N \sum_s g_s^2,

of which the diagonal is kept, or one direction,

.. math::
    :label: trust-region-continual-rank-one

    F \approx \rho\, u u^\top, \qquad u = \frac{\bar g}{\|\bar g\|}, \qquad
    \rho = u^\top F u \quad \text{or} \quad \rho = \operatorname{tr} F,

the first :math:`\rho` the nearest to F for that u. The penalty is then

.. math::
    :label: trust-region-continual-rank-one-penalty

    \frac\lambda2 \sum_i \rho_i\, \big(u_i \cdot (\theta - \theta_i^*)\big)^2.

What an old task contributes to the gradient is

.. math::
    :label: trust-region-continual-old-task

    \beta\, \nabla L_i(\theta) + \lambda F_i (\theta - \theta_i^*).

Compare with meta-learning (MAML), which minimises the loss after a step of descent,

.. math::
    :label: trust-region-continual-meta

    M(\theta) = L^{test}\big(\theta - \alpha \nabla L^{train}(\theta)\big), \qquad
    \nabla M = (I - \alpha H^{train}(\theta))\, \nabla L^{test}(\theta').

On a quadratic task with Hessian :math:`F = \rho u u^\top` and :math:`\delta = \theta - \theta^*` these are
:math:`(\beta + \lambda) F\delta` and :math:`(1 - \alpha\rho)^2 F\delta`: the same direction, whenever
:math:`\alpha\rho \ne 1`. So who stays near old optima and replays also stays where old tasks are learned again in few
steps. The agreement is one of directions, not of terms: in an expansion the curvature enters with :math:`-\alpha` on
one side and with :math:`+\lambda` on the other. With another Hessian the two differ.

Samples must come from the model for F to be the mean Hessian of its negative log-likelihood; with labels of the data
that holds only at an optimum that fits. Where the mean gradient is 0, u is 0 and nothing is held.

**Where implementations differ.** The paper's expansion takes the test gradient at :math:`\theta`, before the step: then
the factor is :math:`1 - \alpha\rho`, and the direction is reversed for :math:`\alpha\rho > 1`. First-order MAML leaves
the Hessian out.

**Provenance.** Equations are confirmed in the paper's text; the agreement on quadratics is derived and checked here.
EWC (arXiv:1612.00796) and MAML (arXiv:1703.03400) are from memory.

Wang et al., *Trust Region Continual Learning as an Implicit Meta-Learner*, 2026, arXiv:2602.02417.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from trref import validate
from trref.gradients.terms import unit
from trref.problems.protocols import CurvedLoss
from trref.signature import (
    N,
    NonNegative,
    NonNegativeFloat,
    P,
    Real,
    Scalar,
    T,
    checked,
)


class RankOne(NamedTuple):
    """One direction of a Fisher matrix."""

    direction: Real[P]
    scale: Scalar


@checked
def fisher_diagonal(gradients: Real[N, P]) -> NonNegative[P]:
    """The diagonal of the Fisher matrix.

    Parameters
    ----------
    gradients
        Of single samples, one a row.
    """
    return (gradients**2).mean(0)  # eq. trust-region-continual-fisher


@checked
def fisher_rank_one(
    gradients: Real[N, P], *, scale: Literal["nearest", "trace"] = "nearest"
) -> RankOne:
    """The Fisher matrix along the mean gradient.

    Parameters
    ----------
    scale
        The factor for which the result is nearest to the matrix, or its trace.
    """
    # eq. trust-region-continual-rank-one
    u = unit(gradients.mean(0)[None])[0]
    if scale == "trace":
        return RankOne(u, (gradients**2).sum(1).mean())
    return RankOne(u, ((gradients @ u) ** 2).mean())


@checked
def penalty(
    theta: Real[P],
    anchors: Real[T, P],
    fishers: NonNegative[T, P],
    *,
    weight: NonNegativeFloat,
) -> tuple[Scalar, Real[P]]:
    """Elastic weight consolidation, with diagonal Fisher matrices.

    Parameters
    ----------
    anchors
        Where each old task was solved.
    fishers
        How much each minds a change of each parameter.
    weight
        Of the penalty.
    """
    moved = theta - anchors
    # eq. trust-region-continual-objective
    value = weight / 2 * (fishers * moved**2).sum()
    return value, weight * (fishers * moved).sum(0)


@checked
def rank_one_penalty(
    theta: Real[P],
    anchors: Real[T, P],
    directions: Real[T, P],
    scales: NonNegative[T],
    *,
    weight: NonNegativeFloat,
) -> tuple[Scalar, Real[P]]:
    """The same with one direction a task.

    Parameters
    ----------
    directions, scales
        Of each task, from `fisher_rank_one`.
    """
    along = (directions * (theta - anchors)).sum(1)
    # eq. trust-region-continual-rank-one-penalty
    value = weight / 2 * (scales * along**2).sum()
    return value, weight * (scales * along) @ directions


@checked
def old_task_gradient(
    replay: Callable,
    theta: Real[P],
    anchor: Real[P],
    fisher: NonNegative[P],
    *,
    beta: NonNegativeFloat = 1.0,
    weight: NonNegativeFloat,
) -> Real[P]:
    """What one old task contributes to the gradient.

    Parameters
    ----------
    replay
        ``replay(theta) -> (loss, gradient)`` on replayed samples.
    anchor, fisher
        Of the task.
    beta
        Weight of the replayed loss.
    """
    _, g = validate.loss_and_grad(replay, theta, "replay", finite=True)
    # eq. trust-region-continual-old-task
    return beta * g + weight * fisher * (theta - anchor)


@checked
def objective(
    current: Callable,
    replay: Callable,
    theta: Real[P],
    anchors: Real[T, P],
    fishers: NonNegative[T, P],
    *,
    beta: NonNegativeFloat = 1.0,
    weight: NonNegativeFloat,
) -> tuple[Scalar, Real[P]]:
    """The current loss, the replayed one, and the penalty.

    Parameters
    ----------
    current
        ``current(theta) -> (loss, gradient)`` of the new task.
    """
    new = validate.loss_and_grad(current, theta, "current", finite=True)
    old = validate.loss_and_grad(replay, theta, "replay", finite=True)
    held = penalty.unchecked(theta, anchors, fishers, weight=weight)
    # eq. trust-region-continual-objective
    value, gradient = (a + beta * b + c for a, b, c in zip(new, old, held, strict=True))
    return value, gradient


@checked
def meta_objective(
    train: CurvedLoss, test: Callable, theta: Real[P], *, inner_lr: NonNegativeFloat
) -> tuple[Scalar, Real[P]]:
    """The loss after a step of descent, and its gradient through that step.

    Parameters
    ----------
    train
        What the step descends on, with ``hessian_product(theta, v)``.
    test
        ``test(theta) -> (loss, gradient)``, after the step.
    inner_lr
        Of the step.
    """
    _, g = validate.loss_and_grad(train, theta, "train", finite=True)
    value, ahead = validate.loss_and_grad(
        test, theta - inner_lr * g, "test", finite=True
    )
    # eq. trust-region-continual-meta
    return value, ahead - inner_lr * train.hessian_product(theta, ahead)
