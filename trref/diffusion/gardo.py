r"""GARDO: a divergence for samples whose reward looks wrong, an advantage for samples that differ, a fresh reference.

A penalty on every sample slows learning and ties the policy to a weak reference. GARDO penalises few samples, those
that the reward R likes and cheap auxiliary rewards do not. With the share of the other samples that one beats, ties
counting half,

.. math::
    :label: gardo-win-rate

    w(R)_i = \frac{1}{n-1} \Big[ \#\{j : R_j < R_i\} + \tfrac12 \#\{j \ne i : R_j = R_i\} \Big],

a sample's uncertainty and the gate are

.. math::
    :label: gardo-uncertainty

    U_i = w(R)_i - \frac1K \sum_k w(R^{(k)})_i \in [-1, 1]

.. math::
    :label: gardo-gate

    g_i = \mathbb 1[U_i > \tau], \qquad \tau \text{ the } 100(1-\rho) \text{ percentile of the } U_j \ge 0 .

The share :math:`\rho` follows the mean :math:`\bar U_+` of the :math:`U_j \ge 0`: up where it exceeds all of the last
20 means, down where it is below all of them,

.. math::
    :label: gardo-controller

    \rho_k = \mathrm{clip}\Big( \rho_{k-1} \cdot \begin{cases} 1.1 & \bar U_{+,k} > \max \\ 0.9 & \bar U_{+,k} < \min
    \end{cases},\; 0.02,\; 0.2 \Big), \qquad \rho_0 = 0.1 .

With features :math:`\phi` of the samples of one prompt and :math:`\hat\phi = \phi/\|\phi\|`, the distance from the
nearest other sample

.. math::
    :label: gardo-distance

    d_i = \min_{j \ne i} \big( 1 - \hat\phi_i^\top \hat\phi_j \big)

raises the advantage of a good sample that is alone, and takes it from duplicates:

.. math::
    :label: gardo-advantage

    A_i = \mathrm{clip}\big( (R_i - \bar R)\, m_i,\; -c,\; c \big), \qquad
    m_i = \begin{cases} d_i / \bar d & R_i \ge \bar R \\ 1 & \text{else}, \end{cases}

without a division by the deviation. The loss is Flow-GRPO's (:mod:`trref.diffusion.flow_grpo`) and a penalty on the
steps of gated samples alone,

.. math::
    :label: gardo-objective

    L = \frac1N \sum_n \max\big\{ -A_n r_n,\; -A_n\, \mathrm{clip}(r_n, 1-\epsilon, 1+\epsilon) \big\} + \beta K

.. math::
    :label: gardo-kl

    K = \frac{1}{\sum_n g_n} \sum_n g_n\, \frac{\|\mu_n - \mu_{ref,n}\|^2}{2 \varsigma_n^2 D}, \qquad
    \frac{\partial K}{\partial v_n} = \frac{g_n}{\sum_j g_j}\, \frac{\gamma_n^2}{\varsigma_n^2 D}\, (v_n - v_{ref,n})

(0 where nothing is gated). The policy becomes the reference after a round whose K was above a threshold, or when more
than 15 rounds have passed since it last did:

.. math::
    :label: gardo-reset

    \text{reset}_k = [K_k > \epsilon_{KL}] \;\lor\; [k - k_{last} > 15] .

========================  ========================
:math:`R^{(k)}`           `auxiliary`
:math:`\rho`              `share`
:math:`\bar U_+`          `risk`
:math:`c`                 `largest`
:math:`\epsilon`          `clip`
:math:`\beta`             `kl_weight`
:math:`\epsilon_{KL}`     `threshold`
========================  ========================

Ties may leave the gate empty. A sample without another one of its prompt has the distance 0; where all distances are 0,
good samples have no advantage. Features of length 0 are at the distance 1/2 from all that have one.

**Where implementations differ.** The released scripts rank each reward from the best, and gate large values of the
proxy's rank less the mean of the auxiliary ones: with that sign the most over-rated sample has the most negative value
and is never gated. Here a large value means that the proxy likes what the others do not. Another advantage that they
offer is Flow-GRPO's (:func:`trref.diffusion.flow_grpo.flow_advantage`). They also weigh each step's surrogate by
:math:`\varsigma` over its mean in the minibatch, which is 1 where all its steps are at one time.

**Provenance.** Distances, advantages, gate, controller, penalty and resets were confirmed in the authors' scripts; the
uncertainty by win rates, and its sign, are reconstructed from the words of the abstract.

He et al., *GARDO: Reinforcing Diffusion Models without Reward Hacking*, 2025, arXiv:2512.24138.
"""

from trref.backend import xp
from trref.diffusion.flow_grpo import (
    flow_grpo,
    flow_sde_gain,
    flow_sde_std,
    near_the_old_policy,
)
from trref.diffusion.terms import bounds_in_order, towards_the_data
from trref.signature import (
    B,
    D,
    Fraction,
    Index,
    K,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    checked,
)
from trref.tokens.grpo import group_advantage
from trref.tokens.terms import group_mean

FLOOR = 1e-6  # under the mean distance


@checked
def win_rate(reward: Real[B]) -> Prob[B]:
    """Share of the other samples that each one beats, ties counting half; 0 for a sample alone."""
    beaten = (reward[:, None] > reward).astype(reward.dtype).sum(1)
    tied = (reward[:, None] == reward).astype(reward.dtype).sum(1) - 1
    return (beaten + tied / 2) / max(len(reward) - 1, 1)  # eq. gardo-win-rate


@checked
def uncertainty(reward: Real[B], auxiliary: Real[K, B]) -> Real[B]:
    """How much better a sample is by the reward than by others.

    Parameters
    ----------
    reward
        Of each sample of the batch: the one that is trained on.
    auxiliary
        Other rewards of the same samples.
    """
    others = [win_rate.unchecked(each) for each in auxiliary]
    return win_rate.unchecked(reward) - sum(others) / len(
        others
    )  # eq. gardo-uncertainty


@checked
def risk_gate(risk: Real[B], *, share: Fraction = 0.1) -> Mask[B]:
    """Choose the samples that are penalised.

    Parameters
    ----------
    risk
        The `uncertainty` of each sample.
    share
        Of the samples with an uncertainty of at least 0.
    """
    # eq. gardo-gate
    counts = risk >= 0
    count = counts.sum()
    # the percentile lies between two neighbours among the last `count`, of which the lower one decides; a place that
    # is whole but for rounding is whole
    place = len(risk) - count + (1 - share) * (count - 1)
    place = xp.clip(xp.around(place, 9), 0, len(risk) - 1)
    threshold = xp.take(xp.sort(risk), xp.floor(place).astype(int))
    return (counts & (risk > threshold)).astype(risk.dtype)


@checked(also=bounds_in_order)
def risk_shares(
    risk: NonNegative[K],
    *,
    start: OpenFraction = 0.1,
    rate: OpenFraction = 0.1,
    window: PositiveInt = 20,
    smallest: OpenFraction = 0.02,
    largest: OpenFraction = 0.2,
) -> Prob[K]:
    """Shares of the samples to be gated, round by round.

    Parameters
    ----------
    risk
        The mean of the uncertainties of at least 0 in each round.
    start
        The share in the first round.
    rate
        By which it rises or falls, relative to itself.
    window
        How many earlier rounds are looked at.
    smallest, largest
        Bounds of the share.
    """
    # eq. gardo-controller
    share, shares = xp.clip(xp.full_like(risk[0], start), smallest, largest), []
    for k in range(len(risk)):
        if k:
            seen = risk[max(k - window, 0) : k]
            up = (risk[k] > seen.max()).astype(risk.dtype)
            down = (risk[k] < seen.min()).astype(risk.dtype)
            share = xp.clip(share * (1 + rate * (up - down)), smallest, largest)
        shares.append(share)
    return xp.stack(shares)


@checked
def nearest_distance(features: Real[B, K], group: Index[B]) -> NonNegative[B]:
    """Cosine distance of each sample from the nearest other one of its prompt; 0 for a sample alone.

    Parameters
    ----------
    features
        Of each sample, whatever their length.
    group
        The prompt of each sample: any numbers.
    """
    # eq. gardo-distance
    length = xp.sqrt((features * features).sum(1, keepdims=True))
    unit = features / xp.where(length > 0, length, 1)
    # half the squared distance of unit vectors: exactly 0 for duplicates
    distance = ((unit[:, None] - unit) ** 2).sum(2) / 2
    other = (group[:, None] == group) & ~xp.eye(len(group), dtype=bool)
    nearest = xp.where(other, distance, xp.inf).min(1)
    return xp.where(other.any(1), nearest, 0)


@checked
def gardo_advantage(
    reward: Real[B],
    features: Real[B, K],
    group: Index[B],
    *,
    largest: PositiveFloat = 5.0,
) -> Real[B]:
    """Advantage of each sample among those of its prompt, more of it where it is alone.

    Parameters
    ----------
    reward
        Of each sample.
    largest
        Advantages are cut off at plus and minus this.
    """
    # eq. gardo-advantage
    distance = nearest_distance.unchecked(features, group)
    mean_distance = xp.maximum(group_mean(distance, group)[0], FLOOR)
    centred = group_advantage.unchecked(reward, group, std="none")
    A = centred * xp.where(centred >= 0, distance / mean_distance, 1)
    return xp.clip(A, -largest, largest)


@checked(also=towards_the_data)
def gated_kl(
    velocity: Real[N, D],
    ref_velocity: Real[N, D],
    gate: Mask[N],
    u: Prob[N],
    next_u: Prob[N],
    *,
    noise_level: PositiveFloat = 0.7,
) -> tuple[Scalar, Real[N, D]]:
    """Divergence of the gated steps from a reference.

    Parameters
    ----------
    velocity
        Of noise time, noise - data: what the model says at each step's start.
    ref_velocity
        What the reference model says there.
    gate
        1 for the steps of samples that are penalised.
    u, next_u
        Noise time before and after each step: 0 data, 1 noise.
    noise_level
        How much noise the path has.

    Returns
    -------
    divergence
    gradient
        With respect to `velocity`.
    """
    # eq. gardo-kl
    s = flow_sde_std.unchecked(u, next_u, noise_level=noise_level)
    gain = flow_sde_gain.unchecked(u, next_u, noise_level=noise_level)
    share = gate / xp.maximum(gate.sum(), 1)
    scale = share * gain**2 * (u - next_u) / (s * s * velocity.shape[1])
    apart = velocity - ref_velocity
    return (scale * (apart * apart).sum(1)).sum() / 2, scale[:, None] * apart


@checked(also=near_the_old_policy)
def gardo(
    x: Real[N, D],
    next_x: Real[N, D],
    velocity: Real[N, D],
    old_log_prob: Real[N],
    advantage: Real[N],
    gate: Mask[N],
    ref_velocity: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
    *,
    noise_level: PositiveFloat = 0.7,
    clip: PositiveFloat = 1e-5,
    kl_weight: NonNegativeFloat = 0.04,
) -> tuple[Scalar, Real[N, D]]:
    """GARDO loss of N steps.

    Parameters
    ----------
    x, next_x
        Where each step began and ended.
    old_log_prob
        `trref.diffusion.flow_grpo.step_log_prob` under the velocity that sampled.
    advantage
        Of the sample that each step belongs to, as `gardo_advantage`.

    Returns
    -------
    loss
    gradient
        With respect to `velocity`. At a kink, the derivative of the unclipped term.
    """
    # eq. gardo-objective
    L, dL = flow_grpo.unchecked(
        x,
        next_x,
        velocity,
        old_log_prob,
        advantage,
        u,
        next_u,
        noise_level=noise_level,
        clip=clip,
    )
    K, dK = gated_kl.unchecked(
        velocity, ref_velocity, gate, u, next_u, noise_level=noise_level
    )
    return L + kl_weight * K, dL + kl_weight * dK


@checked
def reference_resets(
    divergence: NonNegative[K],
    *,
    threshold: PositiveFloat = 3e-4,
    patience: PositiveInt = 15,
) -> Mask[K]:
    """After which rounds the policy becomes the reference.

    Parameters
    ----------
    divergence
        The largest penalty that was measured in each round.
    threshold
        Above it the reference is too old.
    patience
        The reference is replaced when more rounds than these have passed.
    """
    # eq. gardo-reset
    since, resets = xp.zeros_like(divergence[0]), []
    for measured in divergence:
        since = since + 1
        reset = ((measured > threshold) | (since > patience)).astype(divergence.dtype)
        since = since * (1 - reset)
        resets.append(reset)
    return xp.stack(resets)
