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

==================  ===========================================
:math:`C^+,\; C^-`  `budget_up`, `budget_down`
:math:`C_g,\; C_D`  these times `group_factor`, `domain_factor`
==================  ===========================================

**Where implementations differ.** The formula has the same :math:`C^\pm` at each level, while the text speaks of
independent budgets: here those of prompt and domain are multiples of the answer's, 1 by default.

**Provenance.** Confirmed: the definition by the full text (version 1). The Jacobian is derived and checked. The paper
has no training run.

Li, Tsu, Zhang, Xue and He, *Fibration Policy Optimization*, 2026, arXiv:2603.08239.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    B,
    Index,
    LogProb,
    Mask,
    NonNegative,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.fiberpo import (
    aggregate_gate,
    fiber_residual,
    residual_pullback,
    sign_channels,
)
from trref.tokens.terms import group_mean, per_token, seq_mean


class GatedDrift(NamedTuple):
    """The gated drift of each answer, and the slopes of the three gates that it went through."""

    value: Real[B]
    domain_slope: Real[B]
    group_slope: Real[B]
    answer_slope: Real[B]


@checked
def drift_hierarchy(
    drift: Real[B],
    length: NonNegative[B],
    group: Index[B],
    domain: Index[B],
    *,
    domain_budget: PositiveFloat,
    group_budget: PositiveFloat,
    answer_budget: PositiveFloat,
) -> GatedDrift:
    """Gate the drift of one channel, level by level.

    Parameters
    ----------
    drift
        Mean of each answer.
    length
        Number of tokens of each answer.
    domain_budget
        C of a domain's drift.
    group_budget
        C of what a prompt adds to its domain's drift.
    answer_budget
        C of what an answer adds to its prompt's drift.
    """
    # eq. fiberpo-domain-aggregates
    (S_g, n_g), (S_D, n_D) = group_mean(drift, group), group_mean(drift, domain)
    T_g, T_D = group_mean(length, group)[0] * n_g, group_mean(length, domain)[0] * n_D
    # eq. fiberpo-domain-base
    levels = (
        (S_D, domain_budget, T_D),
        (S_g - S_D, group_budget, T_g),
        (drift - S_g, answer_budget, length),
    )
    gates = [aggregate_gate.unchecked(x, C, xp.maximum(n, 1)) for x, C, n in levels]
    (top, at_D), (middle, at_g), (bottom, at_i) = gates
    return GatedDrift(top + middle + bottom, at_D, at_g, at_i)


@checked
def hierarchy_pullback(
    cotangent: Real[B], gated: GatedDrift, group: Index[B], domain: Index[B]
) -> Real[B]:
    """Take cotangents of the gated drifts to the drifts.

    Parameters
    ----------
    cotangent
        Of the gated drifts.
    gated
        Of `drift_hierarchy`.
    """
    # eq. fiberpo-domain-jacobian
    at_D, at_g, at_i = (cotangent * slope for slope in gated[1:])
    return group_mean(at_D - at_g, domain)[0] + group_mean(at_g - at_i, group)[0] + at_i


@checked
def fiberpo_domain(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    group: Index[B],
    domain: Index[B],
    *,
    budget_up: PositiveFloat = 0.3,
    budget_down: PositiveFloat = 0.25,
    residual_clip: PositiveFloat = 0.2,
    group_factor: PositiveFloat = 1.0,
    domain_factor: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[B, T]]:
    """FiberPO loss with budgets on four levels.

    Parameters
    ----------
    budget_up
        C upwards of what an answer adds to its prompt's drift, in nats.
    budget_down
        C downwards of the same.
    residual_clip
        By how much a token's log-ratio may deviate from its answer's drift.
    group_factor
        The budget of prompts, in those of answers.
    domain_factor
        The budget of domains, in those of answers.

    Returns
    -------
    loss
    gradient
        At a log-ratio of 0, the derivative to the right.
    """
    x = mask * (log_prob - old_log_prob)
    up, down, length = sign_channels.unchecked(x, mask)

    def gated(drift, budget):
        return drift_hierarchy.unchecked(
            drift,
            mask.sum(1),
            group,
            domain,
            domain_budget=budget * domain_factor,
            group_budget=budget * group_factor,
            answer_budget=budget,
        )

    rise, fall = gated(up, budget_up), gated(down, budget_down)
    residual = fiber_residual.unchecked(x, up, down, residual_clip)
    log_G = (rise.value - fall.value)[:, None] + residual.value
    terms = seq_mean(mask) * xp.exp(log_G) * per_token(advantage)
    J = terms.sum()

    of_up, of_down = (
        hierarchy_pullback.unchecked(terms.sum(1), each, group, domain)[:, None]
        for each in (rise, fall)
    )
    through_base = xp.where(x >= 0, of_up, of_down) / length[:, None]
    through_residual = residual_pullback.unchecked(
        terms, x, length, residual.own, residual.other
    )
    dJ = mask * (through_base + through_residual)
    return -J, -dJ
