r"""FiberPO-Domain: drift budgets for the domain, the prompt, the answer, and a clip for the token.

FiberPO (:mod:`trref.tokens.fiberpo`) gates the drift of each answer. Over several domains, whole domains and whole
prompts drift, too. FiberPO-Domain splits the drift :math:`S^\pm_i = \log s^\pm_i` of an answer i into that of its
domain, what its prompt adds, and what it adds itself:

.. math::
    :label: fiberpo-domain-aggregates

    S^\pm_g = \frac1{n_g} \sum_{i \in g} S^\pm_i, \qquad S^\pm_D = \frac1{n_D} \sum_{i \in D} S^\pm_i

and gates each part, with the total numbers of tokens :math:`T_D` and :math:`T_g` for the slopes of the rollback:

.. math::
    :label: fiberpo-domain-base

    b_i = \sum_{l = \pm} l \big[ g(S^l_D, C^l_D, T_D) + g(S^l_g - S^l_D, C^l_g, T_g) + g(S^l_i - S^l_g, C^l, T_i) \big]

The differences may be negative; the gate is odd. Residuals and objective are those of FiberPO: unsaturated,
:math:`\log G_t = x_t` exactly. The derivative of :math:`b_i` with respect to the drift of an answer j is

.. math::
    :label: fiberpo-domain-jacobian

    \frac{\partial b_i}{\partial (l S^l_j)} = g'_D \frac{[j \in D]}{n_D}
    + g'_g \Big( \frac{[j \in g]}{n_g} - \frac{[j \in D]}{n_D} \Big) + g'_i \Big( [j = i] - \frac{[j \in g]}{n_g} \Big)

with D and g those of i: as soon as a domain's or a prompt's gate leaves its first regime, answers are coupled within
the domain; between domains they never are. With one answer a prompt and one prompt a domain this is FiberPO.

**Where implementations differ.** The formula has the same :math:`C^\pm` at each level, while the text speaks of
independent budgets: here those of prompt and domain are multiples of the answer's, 1 by default.

**Provenance.** Confirmed: the definition by the full text (version 1). The Jacobian is derived and checked. The paper
has no training run.

Li, Tsu, Zhang, Xue and He, *Fibration Policy Optimization*, 2026, arXiv:2603.08239.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Objective
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS
from trref.tokens.fiberpo import aggregate_gate, fiber_residual, residual_pullback, sign_channels, uneven
from trref.tokens.interfaces import token_objective
from trref.tokens.terms import group_mean, token_weights

__all__ = ["drift_hierarchy", "fiberpo_domain"]

NESTED = token_objective("group", "domain")


def drift_hierarchy(drift, length, group, domain, budgets):
    """Building block, unchecked: the gated drift (B,) of one channel, and its derivative's adjoint.

    Parameters
    ----------
    drift, length : array (B,)
        Mean drift and number of tokens of each answer.
    group, domain : array (B,), integer
    budgets : tuple of float
        Of domain, prompt and answer.

    Returns
    -------
    gated : array (B,)
    pull : callable
        Takes cotangents (B,) of the gated drifts to those of the drifts.
    """

    def of_group(values):
        return group_mean(values, group)[0]

    def of_domain(values):
        return group_mean(values, domain)[0]

    S_g, S_D = of_group(drift), of_domain(drift)  # eq. fiberpo-domain-aggregates
    T_g, T_D = (xp.maximum(mean * count, 1) for mean, count in (group_mean(length, n) for n in (group, domain)))
    # eq. fiberpo-domain-base
    top, slope_D = aggregate_gate(S_D, budgets[0], T_D)
    middle, slope_g = aggregate_gate(S_g - S_D, budgets[1], T_g)
    bottom, slope_i = aggregate_gate(drift - S_g, budgets[2], xp.maximum(length, 1))

    def pull(cotangent):
        # eq. fiberpo-domain-jacobian
        at_D, at_g, at_i = cotangent * slope_D, cotangent * slope_g, cotangent * slope_i
        return of_domain(at_D - at_g) + of_group(at_g - at_i) + at_i

    return top + middle + bottom, pull


def fiberpo_domain(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    group,
    domain,
    *,
    budget_up=0.3,
    budget_down=0.25,
    clip=0.2,
    group_factor=1.0,
    domain_factor=1.0,
):
    """FiberPO loss with budgets on four levels.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    group, domain : array (B,), integer
        The prompt of each answer, and the domain of the prompt.
    budget_up, budget_down : float
        C of the two channels for an answer's drift from its prompt's, in (0, inf).
    clip : float
        ε, by which a token's log-ratio may deviate from its answer's drift, in (0, inf).
    group_factor, domain_factor : float
        The budgets of prompts and domains, in those of answers; in (0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0. At a log-ratio of 0, the derivative to the right.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, numbers out of range.
    """
    validate.inputs(NESTED.inputs, log_prob, old_log_prob, advantage, mask, group, domain)
    validate.interval("(0, inf)", budget_up=budget_up, budget_down=budget_down, clip=clip)
    validate.interval("(0, inf)", group_factor=group_factor, domain_factor=domain_factor)
    x = mask * (log_prob - old_log_prob)
    up, down, T = sign_channels(x, mask)
    levels = domain_factor, group_factor, 1.0
    nested = mask.sum(1), group, domain
    gated_up, pull_up = drift_hierarchy(up[:, 0], *nested, [budget_up * f for f in levels])
    gated_down, pull_down = drift_hierarchy(down[:, 0], *nested, [budget_down * f for f in levels])
    residual, own, other = fiber_residual(x, up, down, clip)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    terms = token_weights(mask, "seq_mean") * xp.exp((gated_up - gated_down)[:, None] + residual) * A
    J = terms.sum()

    answers = terms.sum(1)
    through_base = xp.where(x >= 0, pull_up(answers)[:, None], pull_down(answers)[:, None]) / T
    gradient = mask * (through_base + residual_pullback(terms, x, T, own, other))
    return -J, -gradient


def _alone(inputs):
    """one answer a prompt, one prompt a domain"""
    each = xp.arange(len(inputs["group"]))
    return {**inputs, "group": each, "domain": each}


OPEN = {"budget_up": 1e3, "budget_down": 1e3}
METHOD = Method(
    key="li2026fibration",
    provenance="confirmed",
    functions=(
        Objective(
            f=fiberpo_domain,
            interface=NESTED,
            edges=uneven(NESTED.edges),
            wrt="log_prob",
            settings={
                "default": {},
                "probe": {
                    "budget_up": 0.2,
                    "budget_down": 0.13,
                    "clip": 0.35,
                    "group_factor": 0.7,
                    "domain_factor": 0.4,
                },
            },
            limits=(
                Limit("fiberpo.fiberpo", {}, where=_alone),
                Limit("fiberpo.fiberpo", OPEN, OPEN),
                Limit("grpo.grpo", {**OPEN, "clip": 1e3}, {"clip": 1e14}),
                REINFORCE_OVER_ANSWERS,
            ),
        ),
    ),
)
