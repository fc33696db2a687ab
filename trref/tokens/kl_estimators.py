r"""Estimates of a KL divergence from samples: as a value, in the loss, in the reward.

With :math:`d = \log\pi_{ref} - \log\pi` of a sampled token, three estimates of :math:`KL(\pi\|\pi_{ref})` are in use,

.. math::
    :label: kl-estimators-values

    k_1 = -d, \qquad k_2 = \tfrac12 d^2, \qquad k_3 = e^d - d - 1 \ge 0 .

On tokens drawn from :math:`\pi`, :math:`k_1` and :math:`k_3` have the right mean; :math:`k_2` is right to second order.
In a loss they are differentiated with the sample held fixed:

.. math::
    :label: kl-estimators-derivatives

    k_1' = 1, \qquad k_2' = -d, \qquad k_3' = 1 - e^d

and now the means of the gradients are :math:`E[\nabla k_1] = 0`, :math:`E[\nabla k_2] = \nabla KL(\pi\|\pi_{ref})`,
and :math:`E[\nabla k_3] = \nabla KL(\pi_{ref}\|\pi)`: a right value is not a right gradient. With weights :math:`w`
that average over tokens,

.. math::
    :label: kl-estimators-loss

    L = \sum_{i,t} w_{i,t}\, k_{i,t}

is the penalty in the loss, and

.. math::
    :label: kl-estimators-reward

    L = \sum_{i,t} w_{i,t}\, \mathrm{sg}[k_{i,t}] \log\pi_{i,t}

the surrogate of a penalty in the reward (each token pays its own :math:`k`): there :math:`k_1` and :math:`k_3` are
charges with the right mean and :math:`k_1` gives the right gradient, that of :math:`k_2` in the loss. On tokens of an
old policy the ratio :math:`\rho = \pi/\pi_{old}`, not held constant, makes value and gradient of :math:`k_3` right:

.. math::
    :label: kl-estimators-corrected

    L = \sum_{i,t} w_{i,t}\, \rho_{i,t} k_{3,i,t}, \qquad
    \frac{\partial L}{\partial\log\pi_{i,t}} = -w_{i,t}\, \rho_{i,t}\, d_{i,t}

GRPO as published subtracts an estimate from its clipped terms :math:`\ell` (:mod:`trref.tokens.grpo`):

.. math::
    :label: kl-estimators-grpo

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|}\, \big(\ell_{i,t} - \beta\, k_{i,t}\big)

On-policy that is REINFORCE where the reference is the policy, too, and not with :math:`k_1`, whose derivative is 1.

**Where implementations differ.** TRL penalises with plain :math:`k_3`, uncorrected off policy unless
``use_bias_correction_kl``; its default :math:`\beta` is 0. verl clamps :math:`k_3` to ±10, and its ``k3+`` takes the
value of :math:`k_3` and the gradient of :math:`k_2`.

**Provenance.** Confirmed: the estimates, the corrected form (DeepSeek-V3.2) and GRPO's penalty by the loss code and
documentation of TRL and verl. The table of mean gradients is derived here and checked by enumeration.

Schulman, *Approximating KL Divergence*, 2020, http://joschu.net/blog/kl-approx.html.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Limit, Method, Objective
from trref.catalog.tokens.places import OVER_ANSWERS, OVER_TOKENS, at_the_reference, on_policy
from trref.tokens.deviations import kl_estimators as deviations
from trref.tokens.interfaces import token_objective
from trref.tokens.terms import clip_surrogate, token_weights

__all__ = ["ESTIMATORS", "grpo_with_kl", "kl_estimate", "kl_in_loss", "kl_in_reward", "kl_off_policy", "reward_charge"]

ESTIMATORS = ("k1", "k2", "k3")
PENALTY = token_objective("ref_log_prob", without=("old_log_prob", "advantage"))
WITH_CHARGE = {**PENALTY.inputs, "charge": Input("B T", optional=True)}
OFF_POLICY = token_objective("ref_log_prob", without=("advantage",))
WITH_REFERENCE = token_objective("ref_log_prob")


def kl_estimate(log_prob, ref_log_prob, estimator):
    """Building block, unchecked: an estimate of each token's KL(policy ‖ reference), and its derivative.

    Parameters
    ----------
    log_prob, ref_log_prob : array (B, T)
    estimator : {"k1", "k2", "k3"}

    Returns
    -------
    estimate, derivative : array (B, T)
    """
    # eq. kl-estimators-values, kl-estimators-derivatives
    d = ref_log_prob - log_prob
    if estimator == "k1":
        return -d, xp.ones_like(d)
    if estimator == "k2":
        return d * d / 2, -d
    growth = xp.expm1(d)
    return growth - d, -growth


def kl_in_loss(log_prob, mask, ref_log_prob, *, estimator="k3"):
    """Mean estimate over all tokens, differentiated with the tokens held fixed.

    Parameters
    ----------
    log_prob : array (B, T)
    mask : array (B, T), 0 or 1
    ref_log_prob : array (B, T)
    estimator : {"k1", "k2", "k3"}
        Right in the mean on policy: k2.

    Returns
    -------
    loss : scalar array
    gradient : array (B, T)
        With respect to `log_prob`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, an unknown estimator.
    """
    validate.inputs(PENALTY.inputs, log_prob, mask, ref_log_prob)
    validate.choice(ESTIMATORS, estimator=estimator)
    k, dk = kl_estimate(log_prob, ref_log_prob, estimator)
    w = token_weights(mask, "token_mean")
    return (w * k).sum(), w * dk  # eq. kl-estimators-loss


def reward_charge(log_prob, ref_log_prob, *, estimator="k1"):
    """Building block, unchecked: the estimate (B, T) that `kl_in_reward` charges each token."""
    return kl_estimate(log_prob, ref_log_prob, estimator)[0]


def kl_in_reward(log_prob, mask, ref_log_prob, *, estimator="k1", charge=None):
    """Surrogate of a reward of minus the estimate: the estimate is a number, the policy is differentiated.

    Parameters
    ----------
    log_prob, mask, ref_log_prob
        As in `kl_in_loss`.
    estimator : {"k1", "k2", "k3"}
        Right in the mean on policy: k1.
    charge : array (B, T), optional
        The estimates, held constant; those of `reward_charge` if not given.

    Returns
    -------
    loss : scalar array
        Its gradient matters, not its value.
    gradient : array (B, T)

    Raises
    ------
    ValueError
        As `kl_in_loss`.
    """
    validate.inputs(WITH_CHARGE, log_prob, mask, ref_log_prob, charge)
    validate.choice(ESTIMATORS, estimator=estimator)
    if charge is None:
        charge = reward_charge(log_prob, ref_log_prob, estimator=estimator)
    weighted = token_weights(mask, "token_mean") * charge
    return (weighted * log_prob).sum(), weighted  # eq. kl-estimators-reward


def kl_off_policy(log_prob, old_log_prob, mask, ref_log_prob):
    """Mean of ratio times k3 over all tokens of an old policy: unbiased in value and in gradient.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Under the current policy and the one that sampled.
    mask : array (B, T), 0 or 1
    ref_log_prob : array (B, T)

    Returns
    -------
    loss : scalar array
    gradient : array (B, T)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart.
    """
    validate.inputs(OFF_POLICY.inputs, log_prob, old_log_prob, mask, ref_log_prob)
    d = ref_log_prob - log_prob
    weighted = token_weights(mask, "token_mean") * xp.exp(log_prob - old_log_prob)
    return (weighted * (xp.expm1(d) - d)).sum(), -weighted * d  # eq. kl-estimators-corrected


def grpo_with_kl(log_prob, old_log_prob, advantage, mask, ref_log_prob, *, clip=0.2, beta=0.04, estimator="k3"):
    """GRPO loss as published: with the divergence from a reference policy inside the mean.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, clip
        As in `trref.tokens.grpo.grpo`.
    ref_log_prob : array (B, T)
    beta : float
        Weight of the divergence, in [0, inf).
    estimator : {"k1", "k2", "k3"}
        k3 in the paper.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        As `kl_in_loss`; `clip` not positive, `beta` negative.
    """
    validate.inputs(WITH_REFERENCE.inputs, log_prob, old_log_prob, advantage, mask, ref_log_prob)
    validate.interval("(0, inf)", clip=clip)
    validate.interval("[0, inf)", beta=beta)
    validate.choice(ESTIMATORS, estimator=estimator)
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    k, dk = kl_estimate(log_prob, ref_log_prob, estimator)
    w = token_weights(mask, "seq_mean")
    J = (w * (term - beta * k)).sum()  # eq. kl-estimators-grpo
    return -J, -w * (derivative - beta * dk)


def _from_the_old_policy(inputs):
    """the reference is the old policy"""
    return {**inputs, "ref_log_prob": inputs["old_log_prob"]}


def _all_equal(inputs):
    """all policies are equal"""
    return on_policy(_from_the_old_policy(inputs))


def _charged(inputs):
    """REINFORCE's advantage is minus the estimate"""
    return {**inputs, "advantage": -reward_charge(inputs["log_prob"], inputs["ref_log_prob"])}


EACH = {k: {"estimator": k} for k in ESTIMATORS}
METHOD = Method(
    key="schulman2020approximating",
    provenance="confirmed",
    functions=(
        Objective(
            f=kl_in_loss,
            interface=PENALTY,
            wrt="log_prob",
            settings={"default": {}, "k1": EACH["k1"], "k2": EACH["k2"], "probe": EACH["k2"]},
            limits=(Limit("kl_estimators.kl_in_reward", EACH["k2"], EACH["k1"], gradient_only=True),),
            deviations=(deviations.K3_CLAMP, deviations.K3_STRAIGHT_THROUGH, deviations.ABSOLUTE),
        ),
        Objective(
            f=kl_in_reward,
            interface=PENALTY,
            wrt="log_prob",
            stopped={"charge": reward_charge},
            settings={"default": {}, "k2": EACH["k2"], "k3": EACH["k3"], "probe": EACH["k3"]},
            limits=(Limit("reinforce.reinforce", {}, OVER_TOKENS, where=_charged),),
        ),
        Objective(
            f=kl_off_policy,
            interface=OFF_POLICY,
            wrt="log_prob",
            limits=(
                Limit("f_divergences.divergence_from_samples", {}, where=_from_the_old_policy),
                Limit("kl_estimators.kl_in_loss", {}, EACH["k2"], where=on_policy, gradient_only=True),
            ),
            deviations=(deviations.UNCORRECTED_K3,),
        ),
        Objective(
            f=grpo_with_kl,
            interface=WITH_REFERENCE,
            wrt="log_prob",
            settings={"default": {}, "k1": EACH["k1"], "probe": {"clip": 0.35, "beta": 0.3, "estimator": "k2"}},
            limits=(
                Limit("grpo.grpo", {"beta": 0.0}),
                *(Limit("grpo.grpo", EACH[k], where=at_the_reference) for k in ("k2", "k3")),
                Limit("reinforce.reinforce", {}, OVER_ANSWERS, where=_all_equal, gradient_only=True),
            ),
        ),
    ),
)
