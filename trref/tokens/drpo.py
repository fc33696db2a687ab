r"""DRPO, with its parents DPPO and SPO: trust regions in probabilities, not in ratios.

What differs from GRPO: the distance of a token from its old probability is :math:`|\pi - \mu|`, not the ratio
:math:`\rho = \pi/\mu`, because a rare token has a huge ratio after a tiny change. :math:`\mu` is the probability under
the policy that sampled, at the temperature at which it sampled. DPPO drops a token when a divergence D with two cells,
this token and any other, has passed a radius in the harmful direction,

.. math::
    :label: drpo-mask

    M = 0 \;\text{ where }\; (\hat A > 0,\, \rho > 1,\, D > d_h) \;\text{ or }\; (\hat A < 0,\, \rho < 1,\, D > d_l),
    \qquad M = 1 \;\text{ elsewhere}

with D the total variation :math:`|\pi - \mu|` or :math:`KL(\mu\|\pi)` (:mod:`trref.tokens.reduced_divergences`). The
mask is a constant, and the gradient's ratio is truncated at C:

.. math::
    :label: drpo-dppo

    J_{DPPO} = \frac1{BL} \sum_{i,t} m\, M \hat A\, \tau(\rho), \qquad
    \tau(\rho) = \begin{cases} \rho & \rho \le C \\ C\,(1 + \log(\rho / C)) & \text{else} \end{cases}, \qquad
    \frac{\partial \tau}{\partial \log\pi} = \min\{\rho, C\}

SPO replaces PPO's clip by a quadratic penalty on the ratio,

.. math::
    :label: drpo-spo

    J_{SPO} = \frac1{BL} \sum_{i,t} m \Big[ \rho \hat A - \frac{|\hat A|}{2\epsilon}\, (\rho - 1)^2 \Big], \qquad
    \frac{\partial}{\partial \log\pi} = \rho \hat A \Big[ 1 - \mathrm{sign}(\hat A)\, \frac{\rho - 1}\epsilon \Big]

and DRPO weighs it with the old probability, so that DPPO's 0/1 mask becomes a slope:

.. math::
    :label: drpo-objective

    J_{DRPO} = \frac1{BL} \sum_{i,t} m \Big[ \rho \hat A - \frac{|\hat A|}{2\delta}\, \mu\, (\rho - 1)^2 \Big]

.. math::
    :label: drpo-gradient

    \frac{\partial}{\partial \log\pi} = \rho \hat A\, w, \qquad
    w = 1 - \mathrm{sign}(\hat A)\, \frac{\pi - \mu}\delta \;\in\; \Big[1 - \frac1\delta,\, 1 + \frac1\delta\Big]

In one probability alone it is highest at :math:`\mathrm{clip}(\mu + \mathrm{sign}(\hat A)\,\delta, 0, 1)`. In the
mean over :math:`\mu` DRPO's penalty is :math:`\sum_a (\pi_a - \mu_a)^2` and SPO's is chi-square. The released radius is
12.5, where :math:`w` stays within 0.92 and 1.08 and the radius can't be reached: next to no regulariser.
For :math:`\delta \to \infty` all three are the importance-weighted policy gradient.

**Where implementations differ.** TRL's former trainer takes DPPO's coefficient as a constant times the log-probability
(same gradient, other value) and truncates at 10. UniRL clamps log-ratios to ±20, and averages over all tokens
unless told to divide by a horizon. verl's ``dppo_tv`` and ``dppo_kl`` measure from whatever the old log-probabilities
hold; Stable-RL offers both the sampler's and recomputed ones. Where the advantage is 0 these codes test the direction
as if it were negative: the loss is 0 there.

**Provenance.** Confirmed: by Stable-RL, verl and TRL (DPPO) and the authors' UniRL (SPO, DRPO); the truncated value
:math:`\tau` is ours, its derivative theirs; the optimum for one token is derived here.

Yao et al., *Rethinking the Divergence Regularization in LLM RL*, 2026, arXiv:2606.09821. DPPO: Qi et al., 2026,
arXiv:2602.04879. SPO: Xie et al., 2024, arXiv:2401.16025.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Objective
from trref.catalog.tokens.places import measured_by_the_token, on_policy
from trref.tokens import _drpo_cases as cases
from trref.tokens.deviations import drpo as deviations
from trref.tokens.interfaces import TOKEN_OBJECTIVE, token_objective
from trref.tokens.reduced_divergences import binary_rows
from trref.tokens.terms import token_weights

__all__ = ["dppo", "dppo_measured", "drpo", "drpo_weight", "keep_mask", "spo"]

MEASURED = token_objective("divergence")
KINDS = ("total_variation", "forward_kl")


def _column(advantage):
    return advantage[:, None] if advantage.ndim == 1 else advantage


def keep_mask(divergence, log_ratio, A, d_low, d_high):
    """Building block, unchecked: 0 (B, T) on tokens that have passed the radius in the harmful direction, else 1."""
    # eq. drpo-mask
    up, down = (A > 0) & (log_ratio > 0) & (divergence > d_high), (A < 0) & (log_ratio < 0) & (divergence > d_low)
    return (~(up | down)).astype(log_ratio.dtype)


def dppo(
    log_prob, old_log_prob, advantage, mask, *, max_length, d_low=0.15, d_high=0.15, kind="total_variation", bound=20.0
):
    """DPPO loss with the divergence of the sampled token from any other.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current policy and the sampler.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.dr_grpo.centred_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    max_length : float
        L, in (0, inf): a constant, not the width of the batch.
    d_low, d_high : float
        Radii for negative and positive advantages, in (0, inf): 0.15 for total variation, 0.05 for KL.
    kind : {"total_variation", "forward_kl"}
        The divergence; KL is that of the old policy from the new one.
    bound : float
        C, in (1, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`, the mask of the trust region held constant; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, numbers out of range, an
        unknown kind.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", max_length=max_length, d_low=d_low, d_high=d_high)
    validate.interval("(1, inf)", bound=bound)
    validate.choice(KINDS, kind=kind)
    d, A = log_prob - old_log_prob, _column(advantage)
    keep = keep_mask(binary_rows.unchecked(log_prob, old_log_prob, kind)[0], d, A, d_low, d_high)
    return _masked(d, keep * A, token_weights(mask, "constant", max_length=max_length), bound)


def dppo_measured(
    log_prob, old_log_prob, advantage, mask, divergence, *, max_length, d_low=0.15, d_high=0.15, bound=20.0
):
    """DPPO loss with a divergence that was measured before, such as that of the top-K tokens.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, max_length, d_low, d_high, bound
        As in `dppo`.
    divergence : array (B, T)
        Of the current policy from the sampler's, before each token: data.

    Returns
    -------
    loss, gradient
        As of `dppo`.

    Raises
    ------
    ValueError
        As `dppo`.
    """
    validate.inputs(MEASURED.inputs, log_prob, old_log_prob, advantage, mask, divergence)
    validate.interval("(0, inf)", max_length=max_length, d_low=d_low, d_high=d_high)
    validate.interval("(1, inf)", bound=bound)
    d, A = log_prob - old_log_prob, _column(advantage)
    keep = keep_mask(divergence, d, A, d_low, d_high)
    return _masked(d, keep * A, token_weights(mask, "constant", max_length=max_length), bound)


def _masked(d, A, w, bound):
    # eq. drpo-dppo
    ratio = xp.minimum(xp.exp(d), bound)
    value = ratio + bound * xp.maximum(d - math.log(bound), 0)
    return -(w * (value * A)).sum(), -w * (ratio * A)


def spo(log_prob, old_log_prob, advantage, mask, *, max_length, eps=0.2):
    """SPO loss: the quadratic penalty in ratios.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, max_length
        As in `dppo`.
    eps : float
        Where the gradient ends in ratios: 1 ± eps; in (0, inf).

    Returns
    -------
    loss, gradient
        As of `dppo`; smooth everywhere, and without bound for rare tokens.

    Raises
    ------
    ValueError
        As `dppo`.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", max_length=max_length, eps=eps)
    d, A = log_prob - old_log_prob, _column(advantage)
    ratio, moved = xp.exp(d), xp.expm1(d)
    w = token_weights(mask, "constant", max_length=max_length)
    # eq. drpo-spo
    J = (w * (ratio * A - abs(A) / (2 * eps) * moved**2)).sum()
    return -J, -w * ratio * (A - abs(A) * moved / eps)


def drpo_weight(log_prob, old_log_prob, A, delta):
    """Building block, unchecked: what DRPO leaves of a token's gradient; negative beyond the radius."""
    change = xp.exp(old_log_prob) * xp.expm1(log_prob - old_log_prob)
    return 1 - xp.sign(A) * change / delta  # eq. drpo-gradient


def drpo(log_prob, old_log_prob, advantage, mask, *, max_length, delta=12.5):
    """DRPO loss: the quadratic penalty in probabilities.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, max_length
        As in `dppo`.
    delta : float
        Radius in probability, in (0, inf).

    Returns
    -------
    loss, gradient
        As of `dppo`; smooth everywhere.

    Raises
    ------
    ValueError
        As `dppo`.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", max_length=max_length, delta=delta)
    d, A = log_prob - old_log_prob, _column(advantage)
    ratio, mu = xp.exp(d), xp.exp(old_log_prob)
    w = token_weights(mask, "constant", max_length=max_length)
    J = (w * (ratio * A - abs(A) / (2 * delta) * mu * xp.expm1(d) ** 2)).sum()  # eq. drpo-objective
    return -J, -w * ratio * A * drpo_weight(log_prob, old_log_prob, A, delta)


LENGTH = {"max_length": 6}
FREE = {"max_length": 6, "clip": 1e14}  # no clip, no penalty
FRESH = Limit("reinforce.reinforce", LENGTH, LENGTH, where=on_policy, gradient_only=True)
METHOD = Method(
    key="yao2026rethinking",
    provenance="confirmed",
    functions=(
        Objective(
            f=dppo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": LENGTH,
                "kl": {**LENGTH, "d_low": 0.05, "d_high": 0.05, "kind": "forward_kl"},
                "probe": {"max_length": 4.5, "d_low": 0.02, "d_high": 0.03, "kind": "forward_kl", "bound": 2.5},
            },
            limits=(Limit("dr_grpo.dr_grpo", {**LENGTH, "d_low": 1.5, "d_high": 1.5, "bound": 1e14}, FREE), FRESH),
            deviations=(deviations.DPPO_LOG_PROB, deviations.DPPO_TOKEN_MEAN, deviations.DPPO_VERL),
        ),
        Objective(
            f=dppo_measured,
            interface=MEASURED,
            wrt="log_prob",
            settings={"default": LENGTH, "probe": {"max_length": 4.5, "d_low": 0.05, "d_high": 0.08, "bound": 2.5}},
            limits=(Limit("drpo.dppo", LENGTH, LENGTH, where=measured_by_the_token), FRESH),
        ),
        Objective(
            f=spo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": LENGTH, "probe": {"max_length": 4.5, "eps": 0.7}},
            limits=(
                Limit("dr_grpo.dr_grpo", {**LENGTH, "eps": 1e14}, FREE, where=cases.moderate_ratios),
                Limit("r2vpo.r2vpo", {**LENGTH, "eps": 0.4}, {"variance_weight": 1.0, "target": 0.0}, where=cases.equal_sizes),
                FRESH,
            ),
        ),
        Objective(
            f=drpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": LENGTH, "tight": {**LENGTH, "delta": 0.1}, "probe": {"max_length": 4.5, "delta": 0.3}},
            limits=(
                Limit("dr_grpo.dr_grpo", {**LENGTH, "delta": 1e14}, FREE),
                Limit("drpo.spo", {**LENGTH, "delta": 0.2}, {**LENGTH, "eps": 0.2}, where=cases.certain_before),
                FRESH,
            ),
            deviations=(deviations.DRPO_CLAMPED,),
        ),
    ),
)
