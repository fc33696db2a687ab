r"""A-3PO: a proximal policy for asynchronous training that costs no forward pass.

When sampling and training run side by side, the policy that sampled, :math:`\pi_b`, is several versions old. Clipping
ratios around it would freeze most tokens. Decoupled PPO clips around a *proximal* policy :math:`\pi_p`, the weights
just before the update, and corrects for the age of the data by a weight that is not differentiated:

.. math::
    :label: a3po-decoupled

    J = \sum_{i,t} \frac{m_{i,t}}{\sum_j |y_j|}\, w_{i,t} \min\big\{ r \hat A,\;
    \mathrm{clip}(r, 1-\epsilon, 1+\epsilon)\, \hat A \big\}_{i,t}, \qquad
    w = \mathrm{sg}\Big[\frac{\pi_p}{\pi_b}\Big], \quad r = \frac{\pi}{\mathrm{sg}[\pi_p]}

.. math::
    :label: a3po-gradient

    \frac{\partial J}{\partial \log\pi_{i,t}} = \frac{m_{i,t}}{\sum_j |y_j|}\, w r \hat A\,
    [\text{not clipped}], \qquad w r = \frac{\pi}{\pi_b}

The anchor cancels from the size of the gradient: all that it decides is which tokens are clipped. Computing it exactly
takes one more forward pass. A-3PO interpolates between the two log-probabilities that are at hand anyway, by the
version that each token was sampled from, :math:`v_b`, and that in training, :math:`v`, with :math:`v_p = v - 1`:

.. math::
    :label: a3po-weight

    \alpha = \frac{v_p - v_b}{v - v_b} = 1 - \frac1d, \qquad d = v - v_b \ge 1, \qquad \alpha = 0
    \text{ elsewhere}

.. math::
    :label: a3po-loglinear

    \log\pi_p \approx \log\pi_b + \alpha\,(\mathrm{sg}[\log\pi] - \log\pi_b)

An alternative interpolates probabilities:

.. math::
    :label: a3po-linear

    \log\pi_p \approx \log\big( (1-\alpha)\,\pi_b + \alpha\,\mathrm{sg}[\pi] \big)

With the first one :math:`r = (\pi/\pi_b)^{1/d}`, so that the *total* ratio is clipped to
:math:`[(1-\epsilon)^d, (1+\epsilon)^d]`: a trust region that widens with the age of the data. At :math:`d = 1`, and
with :math:`\pi_p = \pi_b` in general (``"rollout"``), this is PPO on the sampling policy. Very large weights are left
out of the sum, or capped:

.. math::
    :label: a3po-cap

    w \leftarrow w\,[w \le c] \ (\text{mask}), \qquad w \leftarrow \min(w, c) \ (\text{clamp})

**Where implementations differ.** AReaL multiplies by w only where its configuration has ``rejection_sampling``; without
it ``use_decoupled_loss`` silently clips around the proximal policy with no weight. Tokens that it masks still count in
the mean, as here. It offers "linear" in its metrics only. Forgetting to stop the gradient at the interpolation leaves
unclipped tokens as they are, but gives every clipped token a gradient.

**Provenance.** Confirmed: by the code and documentation of AReaL and the author's blog; :math:`\alpha` is AReaL's
letter for the weight of the current policy. The gradient and the equivalent clip range are derived and checked.

Li et al., *A-3PO: Accelerating Asynchronous LLM Training with Staleness-aware Proximal Policy Approximation*, 2025,
arXiv:2512.06547.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Limit, Method, Objective
from trref.catalog.tokens.places import OVER_TOKENS
from trref.tokens._a3po_cases import (
    all_equal,
    around_the_sampling_policy,
    proximal_by_loops,
    sampled_by_the_old_policy,
)
from trref.tokens.deviations import a3po as deviations
from trref.tokens.interfaces import token_objective
from trref.tokens.terms import clip_surrogate, token_weights

__all__ = ["INTERPOLATIONS", "OVER_CAP", "a3po", "decoupled", "interpolation_weight", "proximal_approximation"]

INTERPOLATIONS = ("loglinear", "linear", "rollout")
OVER_CAP = ("mask", "clamp")
STALE = token_objective("behavior_log_prob")
VERSIONED = token_objective("behavior_log_prob", "version", without=("old_log_prob",))
WITH_ANCHOR = {**VERSIONED.inputs, "proximal_log_prob": Input("B T", "log_prob", optional=True)}
ANCHOR = token_objective("behavior_log_prob", "version", without=("old_log_prob", "advantage", "mask"))


def interpolation_weight(version, current_version, dtype):
    """Building block, unchecked: the weight in [0, 1) of the current policy, for each token's version (B, T)."""
    d = current_version - version.astype(dtype)
    return 1 - 1 / xp.maximum(d, 1)  # eq. a3po-weight


def _proximal(log_prob, behavior_log_prob, version, current_version, interpolation):
    if interpolation == "rollout":
        return behavior_log_prob
    alpha, d = interpolation_weight(version, current_version, log_prob.dtype), log_prob - behavior_log_prob
    if interpolation == "linear":
        return behavior_log_prob + xp.log((1 - alpha) + alpha * xp.exp(d))  # eq. a3po-linear
    return behavior_log_prob + alpha * d  # eq. a3po-loglinear


def proximal_approximation(log_prob, behavior_log_prob, version, *, current_version, interpolation="loglinear"):
    """Approximate log-probabilities under the proximal policy, without a forward pass.

    Parameters
    ----------
    log_prob, behavior_log_prob : array (B, T)
        Under the policy in training and under the one that sampled.
    version : array (B, T), integer
        Of the policy that sampled the token; one answer may hold several.
    current_version : int
        Of the policy in training, in [0, inf): one more than that of the weights before the update.
    interpolation : {"loglinear", "linear", "rollout"}
        Of log-probabilities, of probabilities, or the sampling policy itself.

    Returns
    -------
    array (B, T)
        Between the two log-probabilities.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, negative versions, an
        unknown interpolation.
    """
    validate.inputs(ANCHOR.inputs, log_prob, behavior_log_prob, version)
    validate.integer("[0, inf)", current_version=current_version)
    validate.choice(INTERPOLATIONS, interpolation=interpolation)
    return _proximal(log_prob, behavior_log_prob, version, current_version, interpolation).copy()


def _decoupled(log_prob, proximal_log_prob, advantage, mask, behavior_log_prob, clip, weight_cap, over_cap):
    # eq. a3po-decoupled
    w = xp.exp(proximal_log_prob - behavior_log_prob)
    if weight_cap is not None:
        w = xp.minimum(w, weight_cap) if over_cap == "clamp" else w * (w <= weight_cap)  # eq. a3po-cap
    term, derivative = clip_surrogate(log_prob, proximal_log_prob, advantage, clip, clip)
    weight = token_weights(mask, "token_mean") * w
    J = (weight * term).sum()

    return -J, -weight * derivative  # eq. a3po-gradient


def decoupled(
    log_prob, old_log_prob, advantage, mask, behavior_log_prob, *, clip=0.2, weight_cap=None, over_cap="mask"
):
    """Decoupled PPO loss with the exact proximal policy.

    Parameters
    ----------
    log_prob : array (B, T)
        Log-probabilities of the tokens under the policy in training.
    old_log_prob : array (B, T)
        Under the proximal policy, the weights before the update: one more forward pass.
    advantage : array (B,) or (B, T)
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    behavior_log_prob : array (B, T)
        Under the policy that sampled.
    clip : float
        Half-width of the interval around 1 in which the ratio to the proximal policy earns, in (0, inf).
    weight_cap : float, optional
        Largest weight, in (0, inf); 5 in an example of AReaL.
    over_cap : {"mask", "clamp"}
        What becomes of tokens whose weight is larger.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `clip` or `weight_cap` not
        positive, an unknown `over_cap`.
    """
    validate.inputs(STALE.inputs, log_prob, old_log_prob, advantage, mask, behavior_log_prob)
    validate.interval("(0, inf)", clip=clip, weight_cap=1.0 if weight_cap is None else weight_cap)
    validate.choice(OVER_CAP, over_cap=over_cap)
    return _decoupled(log_prob, old_log_prob, advantage, mask, behavior_log_prob, clip, weight_cap, over_cap)


def a3po(
    log_prob,
    advantage,
    mask,
    behavior_log_prob,
    version,
    *,
    current_version,
    clip=0.2,
    interpolation="loglinear",
    weight_cap=None,
    over_cap="mask",
    proximal_log_prob=None,
):
    """A-3PO loss: decoupled PPO with the proximal policy interpolated.

    Parameters
    ----------
    log_prob, advantage, mask, behavior_log_prob, clip, weight_cap, over_cap
        As in `decoupled`.
    version, current_version, interpolation
        As in `proximal_approximation`.
    proximal_log_prob : array (B, T), optional
        The anchor, held constant; that of `proximal_approximation` if not given.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        As `decoupled` and `proximal_approximation`.
    """
    validate.inputs(WITH_ANCHOR, log_prob, advantage, mask, behavior_log_prob, version, proximal_log_prob)
    validate.integer("[0, inf)", current_version=current_version)
    validate.choice(INTERPOLATIONS, interpolation=interpolation)
    validate.interval("(0, inf)", clip=clip, weight_cap=1.0 if weight_cap is None else weight_cap)
    validate.choice(OVER_CAP, over_cap=over_cap)
    if proximal_log_prob is None:
        proximal_log_prob = _proximal(log_prob, behavior_log_prob, version, current_version, interpolation)
    return _decoupled(log_prob, proximal_log_prob, advantage, mask, behavior_log_prob, clip, weight_cap, over_cap)


def _of_the_last_version(inputs):
    """the last version sampled, PPO's old policy"""
    return {**around_the_sampling_policy(inputs), "version": xp.full_like(inputs["version"], 5)}


def _around_the_interpolation(inputs):
    """the proximal policy is the interpolated one"""
    known = {name: inputs[name] for name in ANCHOR.inputs}
    return {**inputs, "old_log_prob": proximal_approximation(**known, **NOW)}


NOW = {"current_version": 6}
PPO = {"clip_low": 0.2, "clip_high": 0.2}
MASKED, CLAMPED = {"weight_cap": 1.1}, {"weight_cap": 1.3, "over_cap": "clamp"}
METHOD = Method(
    key="li2025a3po",
    provenance="confirmed",
    functions=(
        Estimator(
            f=proximal_approximation,
            interface=ANCHOR,
            settings={
                "default": NOW,
                "probability": {**NOW, "interpolation": "linear"},
                "just sampled": {"current_version": 3},
                "probe": {"current_version": 3, "interpolation": "rollout"},
            },
            brute_force=proximal_by_loops,
        ),
        Objective(
            f=decoupled,
            interface=STALE,
            wrt="log_prob",
            settings={"default": {}, "masked": MASKED, "probe": {"clip": 0.35, **CLAMPED}},
            limits=(
                Limit("dapo.dapo_over_batch", {}, PPO, where=sampled_by_the_old_policy),
                Limit("reinforce.reinforce", {}, OVER_TOKENS, where=all_equal, gradient_only=True),
            ),
            deviations=(deviations.WEIGHT_ABSENT,),
        ),
        Objective(
            f=a3po,
            interface=VERSIONED,
            wrt="log_prob",
            stopped={"proximal_log_prob": proximal_approximation},
            settings={
                "default": NOW,
                "probability": {**NOW, "interpolation": "linear"},
                "just sampled": {"current_version": 3},
                "masked": {**NOW, **MASKED},
                "probe": {"current_version": 4, "clip": 0.35, "interpolation": "rollout", **CLAMPED},
            },
            limits=(
                Limit("a3po.decoupled", NOW, where=_around_the_interpolation),
                Limit("dapo.dapo_over_batch", NOW, PPO, where=_of_the_last_version),
                Limit("dapo.dapo_over_batch", {"interpolation": "rollout"}, PPO, where=around_the_sampling_policy),
                Limit("reinforce.reinforce", NOW, OVER_TOKENS, where=all_equal, gradient_only=True),
            ),
            deviations=(deviations.ANCHOR_DIFFERENTIATED,),
        ),
    ),
)
