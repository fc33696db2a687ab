r"""GCond: conflicts of accumulated gradients, resolved pair by pair.

The gradients of N tasks, at the same parameters and already multiplied by the weights of their losses, are too noisy
on one small batch to tell whether they conflict. They are accumulated first, over K of them,

.. math::
    :label: gcond-accumulate

    \hat g_i = \frac1K \sum_{k=1}^K g_i(\theta; b_k),

which divides their variance by K. In the *stochastic* mode each batch is asked for one task, in turn, so that each has
K / N of them: as little work as one task, and N times the variance.

How a pair with cosine c is treated depends on how severe its conflict is. The *effective angle* grows from 0 at
:math:`\theta_w` to :math:`\pi/2` at :math:`\theta_m`, and to :math:`\pi` at :math:`\theta_c`:

.. math::
    :label: gcond-angle

    \alpha(c) = \begin{cases}
    0 & c \ge \theta_w \\
    \frac\pi2 \big(1 - \frac{c - \theta_m}{\theta_w - \theta_m}\big) & \theta_m \le c < \theta_w \\
    \frac\pi2 + \frac\pi2 \big(\frac{c - \theta_m}{\theta_c - \theta_m}\big)^p & \theta_c \le c < \theta_m \\
    \pi & c < \theta_c
    \end{cases}

One of the two wins, and is corrected by the strength :math:`s_w`, the other by :math:`s_l`, both from the old vectors:

.. math::
    :label: gcond-pair

    s_w = \sin \alpha, \quad s_l = \sin \min(\alpha, \tfrac\pi2), \qquad
    g_w' = g_w - s_w \frac{g_w \cdot g_l}{\|g_l\|^2}\, g_l, \qquad
    g_l' = g_l - s_l \frac{g_w \cdot g_l}{\|g_w\|^2}\, g_w

So mild conflicts are corrected on both sides alike; in the worst the winner is left alone and the loser made orthogonal
to it. Afterwards :math:`g_w' \cdot g_l' = g_w \cdot g_l\, (1 - s_w - s_l + s_w s_l c^2)`. The winner is the one that
kept its direction and is unusually long,

.. math::
    :label: gcond-score

    \text{score}_i = 0.8 \max(0, S_i) + 0.2\, \frac{a_i}{a_i + a_j}, \qquad
    S_i = \cos(\hat g_i, \hat g_i^{\,previous}), \qquad a_i = \frac{\|\hat g_i\|}{\bar n_i + \epsilon},

.. math::
    :label: gcond-norm

    \bar n_i \leftarrow \beta\, \bar n_i + (1 - \beta)\, \|\hat g_i\|,

unless it has won the last three decisions on this pair: then the other one wins. At most 2N times the pair with the
smallest cosine is resolved, until none is below :math:`\theta_w`. The direction is the sum, no mean:

.. math::
    :label: gcond-direction

    g = \sum_i g_i'

It goes through a momentum, and in one form of the optimiser through signs, tensor by tensor:

.. math::
    :label: gcond-momentum

    m \leftarrow \beta m + (1 - \beta)\, g, \qquad \hat m = \frac{m}{1 - \beta^t}

.. math::
    :label: gcond-signs

    \operatorname{sign}(\hat m)\; \kappa\, \min\Big( \frac{\|\theta\|}{\|\hat m\|}, 100 \Big)

Without conflicts, with one task, and at :math:`\theta_w = -1` the direction is the plain sum; the last because the test
comes before the angle. With two tasks and :math:`c = \theta_m` it is that of PCGrad. Gradients of 0 are in no pair. A
cosine within 1e-6 of :math:`\theta_w` counts as not below it, so that rounding resolves nothing. Equal scores let the
first of the pair win. Where there is no previous gradient, or it is 0, :math:`S_i = 0`.

**Where implementations differ.** The authors' code keeps, as the previous gradients, the ones that it has just
corrected in place, and takes scores of what earlier corrections have left of the gradients. Its older mode, on the flow
chart the one where the winner takes all, has zones: below :math:`\theta_c` the loser is set to 0, below
:math:`\theta_m` it alone is made orthogonal, and in a milder conflict both are corrected in full.

**Provenance.** Equations are confirmed in the paper's text and the authors' code. That code keeps one history of
winners for all pairs; here each pair has its own.

Alves Limarenko et al., *GCond: Gradient Conflict Resolution via Accumulation-based Stabilization for Large-Scale
Multi-Task Learning*, 2025, arXiv:2509.07252.
"""

import math
from typing import Annotated, NamedTuple

from trref.backend import xp
from trref.gradients.terms import unit
from trref.krylov.terms import floats
from trref.signature import (
    Decay,
    Fraction,
    K,
    M,
    N,
    NonNegative,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)

Cosine = Annotated[float, "[-1, 0]"]


class Pair(NamedTuple):
    """Two gradients after their conflict was resolved."""

    winner: Real[P]
    loser: Real[P]


class Resolved(NamedTuple):
    """The direction, the gradients that it is the sum of, and what the next call needs."""

    direction: Real[P]
    gradients: Real[M, P]
    """After all conflicts were resolved."""
    previous: Real[M, P]
    """As they were before."""
    norm_average: NonNegative[M]
    wins: NonNegative[M, M]
    """How many decisions against each other task the row has won in a row."""


class Momentum(NamedTuple):
    """The running mean, and the same without its bias to 0."""

    average: Real[P]
    corrected: Real[P]


def _a_share_for_each(gradients, *, stochastic, **_):
    """Batches that cannot be shared out evenly."""
    if stochastic and len(gradients) % gradients.shape[1]:
        raise ValueError(
            f"gradients must be of a multiple of {gradients.shape[1]} batches where stochastic is true"
        )
    return []


@checked(also=_a_share_for_each)
def accumulated(gradients: Real[K, M, P], *, stochastic: bool = False) -> Real[M, P]:
    """The mean of each task's gradient over small batches.

    Parameters
    ----------
    gradients
        Of K batches and M tasks, at the same P parameters.
    stochastic
        Whether batch k counts for task k mod M alone.
    """
    # eq. gcond-accumulate
    if not stochastic:
        return gradients.mean(0)
    tasks = range(gradients.shape[1])
    return xp.stack([gradients[i :: len(tasks), i].mean(0) for i in tasks])


def _in_order(*, weak, main, crit, **_):
    """Thresholds that do not fall."""
    if not weak > main > crit:
        raise ValueError(f"main must lie below weak={weak:g} and above crit={crit:g}")
    return []


@checked(also=_in_order)
def conflict_angle(
    cosine: Real[N],
    *,
    weak: Cosine = 0.0,
    main: Cosine = -0.5,
    crit: Cosine = -0.8,
    power: PositiveFloat = 2.0,
) -> NonNegative[N]:
    """The effective angle of conflicts.

    Parameters
    ----------
    cosine
        Of pairs of gradients.
    weak
        From here on there is no conflict.
    main
        Where both are corrected in full.
    crit
        Below it the winner is left alone.
    power
        How the angle grows between `main` and `crit`.
    """
    # eq. gcond-angle
    mild = math.pi / 2 * (1 - (cosine - main) / (weak - main))
    share = xp.clip((cosine - main) / (crit - main), 0, 1)
    severe = math.pi / 2 * (1 + share**power)
    angle = xp.where(cosine < main, severe, mild)
    return xp.where(cosine >= weak, 0, angle)


@checked(also=_in_order)
def resolve_pair(
    winner: Real[P],
    loser: Real[P],
    *,
    weak: Cosine = 0.0,
    main: Cosine = -0.5,
    crit: Cosine = -0.8,
    power: PositiveFloat = 2.0,
) -> Pair:
    """Two gradients, corrected as far as their conflict is severe.

    Parameters
    ----------
    winner, loser
        Gradients.
    """
    u_w, u_l = unit(xp.stack([winner, loser]))
    how = {"weak": weak, "main": main, "crit": crit, "power": power}
    angle = conflict_angle.unchecked((u_w * u_l).sum(), **how)
    # eq. gcond-pair
    s_w, s_l = xp.sin(angle), xp.sin(xp.minimum(angle, math.pi / 2))
    return Pair(
        winner - s_w * (winner @ u_l) * u_l,
        loser - s_l * (loser @ u_w) * u_w,
    )


@checked(also=_in_order)
def resolve(
    gradients: Real[M, P],
    previous: Real[M, P],
    norm_average: NonNegative[M],
    wins: NonNegative[M, M],
    *,
    weak: Cosine = 0.0,
    main: Cosine = -0.5,
    crit: Cosine = -0.8,
    power: PositiveFloat = 2.0,
    stability_weight: Fraction = 0.8,
    beta: Decay = 0.95,
    window: PositiveInt = 3,
    eps: PositiveFloat = 1e-8,
) -> Resolved:
    """Resolve the worst conflict again and again, and sum up.

    Parameters
    ----------
    gradients
        Accumulated, one a row.
    previous
        Those of the call before; 0 if there was none.
    norm_average
        Running mean of the norms; 1 at first.
    wins
        How many decisions against each other task the row has won in a row; 0 at first.
    stability_weight
        Weight of a constant direction in the score; the rest is that of the norm.
    beta
        Of the mean of the norms.
    window
        Who has won so many decisions loses the next.
    eps
        Added to the mean of the norms.
    """
    lengths = xp.sqrt((gradients * gradients).sum(1))
    average = beta * norm_average + (1 - beta) * lengths  # eq. gcond-norm
    stable = floats(*(unit(gradients) * unit(previous)).sum(1))
    long = floats(*(lengths / (average + eps)))
    streaks, M = [floats(*row) for row in wins], len(gradients)

    rows = list(gradients)
    for _ in range(2 * M):
        worst = _worst_pair(rows)
        if worst is None or worst[0] >= weak - 1e-6:
            break
        _, i, j = worst
        # eq. gcond-score
        scores = [
            stability_weight * max(0.0, stable[k])
            + (1 - stability_weight) * long[k] / (long[i] + long[j])
            for k in (i, j)
        ]
        w, l = (i, j) if scores[0] >= scores[1] else (j, i)
        w, l = (l, w) if streaks[w][l] >= window else (w, l)
        streaks[w][l], streaks[l][w] = streaks[w][l] + 1, 0.0
        rows[w], rows[l] = resolve_pair.unchecked(
            rows[w], rows[l], weak=weak, main=main, crit=crit, power=power
        )
    after = xp.stack(rows)
    history = xp.asarray(streaks, dtype=wins.dtype)
    # eq. gcond-direction
    return Resolved(after.sum(0), after, gradients.copy(), average, history)


def _worst_pair(rows):
    """The smallest cosine and its pair, the first of equals."""
    M, G = len(rows), unit(xp.stack(rows))
    cosines = floats(*(G @ G.T).ravel())
    pairs = [(cosines[i * M + j], i, j) for i in range(M) for j in range(i + 1, M)]
    return min(pairs, default=None)


@checked
def momentum(
    average: Real[P], direction: Real[P], *, step: PositiveInt, beta: Decay = 0.9
) -> Momentum:
    """The running mean of directions.

    Parameters
    ----------
    average
        Before this step; 0 at first.
    direction
        Of this step.
    step
        Its number, from 1.
    beta
        Of the mean; 0.85 in the authors' code.
    """
    average = beta * average + (1 - beta) * direction  # eq. gcond-momentum
    return Momentum(average, average / (1 - beta**step))


@checked
def signed_step(
    theta: Real[P], corrected: Real[P], *, kappa: PositiveFloat = 1e-4
) -> Real[P]:
    """Signs of a momentum, scaled by the parameters' norm, for one tensor.

    Parameters
    ----------
    corrected
        The momentum.
    kappa
        Step size.
    """
    # eq. gcond-signs
    lengths = [xp.sqrt((x * x).sum()) for x in (theta, corrected)]
    ratio = lengths[0] / xp.where(lengths[1] > 0, lengths[1], 1)
    return xp.sign(corrected) * kappa * xp.minimum(ratio, 100)
