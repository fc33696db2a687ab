r"""Extensions of PSPO: the smoothed ratio of whole answers, and the smoothed ratio under a clip.

What differs from :mod:`trref.tokens.pspo`, whose :math:`\tilde\rho = (1-\alpha)\rho + \alpha` this uses: neither of
the two is PSPO, and neither is in the paper. There smoothing changes the step size only. A product of smoothed ratios
changes the direction, too: each token is weighted by how far it moved,

.. math::
    :label: pspo-extensions-sequence

    J = \frac1B \sum_i \hat A_i \prod_t \tilde\rho_{i,t}^{\,m_{i,t}}, \qquad
    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}B\, \hat A_i\,
    \frac{(1 - \alpha)\, \rho_{i,t}}{\tilde\rho_{i,t}} \prod_s \tilde\rho_{i,s}^{\,m_{i,s}}

An answer without tokens contributes nothing. A clip of the smoothed ratio,

.. math::
    :label: pspo-extensions-clip

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|} \min\big\{ \tilde\rho \hat A,\;
    \mathrm{clip}(\tilde\rho, 1-\epsilon, 1+\epsilon)\, \hat A \big\}

has the gradient of a clip of the plain ratio at :math:`1 \pm \epsilon/(1-\alpha)`, times :math:`1-\alpha`: it is a
wider clip.

**Where implementations differ.** No public code of either was found.

**Provenance.** Reconstructed: both are derived here, to show what smoothing does where it is more than a step size.

Dwyer et al., *It's Not You, It's Clipping: A Soft Trust-Region via Probability Smoothing for LLM RL*, 2025,
arXiv:2509.21282, for the smoothed ratio.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Objective
from trref.catalog.tokens.places import OVER_ANSWERS, of_one_token, on_policy
from trref.tokens.interfaces import TOKEN_OBJECTIVE, token_objective
from trref.tokens.pspo import smooth
from trref.tokens.terms import token_weights

__all__ = ["pspo_clipped", "pspo_sequence"]

ANSWERS = token_objective(advantage="B")


def pspo_sequence(log_prob, old_log_prob, advantage, mask, *, alpha=0.1):
    """The smoothed ratio of the whole answer, a product over its tokens.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
    advantage : array (B,)
    mask : array (B, T), 0 or 1
    alpha : float
        In [0, 1).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `alpha` out of range, a
        product beyond exp(30).
    """
    _, flags = validate.deferred(ANSWERS.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("[0, 1)", alpha=alpha)
    bound = validate.LOG_RATIO_BOUND
    too_large = f"log_prob must give no answer a product of smoothed ratios above exp({bound:g})"
    validate.require(*flags, (lambda: (log_product(log_prob - old_log_prob, mask, alpha) <= bound).all(), too_large))
    # eq. pspo-extensions-sequence
    log_ratio = log_prob - old_log_prob
    product = xp.exp(log_product(log_ratio, mask, alpha))
    each = advantage * product * mask.any(1) / len(mask)
    J = each.sum()
    dJ = mask * each[:, None] * xp.exp(log_ratio + math.log1p(-alpha) - log_smooth(log_ratio, alpha))

    return -J, -dJ


def log_smooth(log_ratio, alpha):
    """Building block, unchecked: the logarithm of the smoothed ratio."""
    return (
        xp.logaddexp(log_ratio + math.log1p(-alpha), xp.full_like(log_ratio, math.log(alpha))) if alpha else log_ratio
    )


def log_product(log_ratio, mask, alpha):
    """Building block, unchecked: the logarithm (B,) of each answer's product of smoothed ratios."""
    return (mask * log_smooth(log_ratio, alpha)).sum(1)


def pspo_clipped(log_prob, old_log_prob, advantage, mask, *, alpha=0.1, clip=0.2):
    """The smoothed ratio under GRPO's clip, which is a wider clip of the plain one.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
    advantage : array (B,) or (B, T)
    mask : array (B, T), 0 or 1
    alpha : float
        In [0, 1).
    clip : float
        Half-width of the interval around 1 in which the smoothed ratio earns, in (0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `alpha` out of range,
        `clip` not positive.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("[0, 1)", alpha=alpha)
    validate.interval("(0, inf)", clip=clip)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    ratio, w = xp.exp(log_prob - old_log_prob), token_weights(mask, "seq_mean")
    # eq. pspo-extensions-clip
    smoothed = smooth(ratio, alpha)
    unclipped, clipped = smoothed * A, xp.clip(smoothed, 1 - clip, 1 + clip) * A
    J = (w * xp.minimum(unclipped, clipped)).sum()
    dJ = (1 - alpha) * w * ratio * A * (unclipped <= clipped)

    return -J, -dJ


METHOD = Method(
    key="dwyer2025clipping",
    provenance="reconstructed",
    functions=(
        Objective(
            f=pspo_sequence,
            interface=ANSWERS,
            edges={name: edge for name, edge in ANSWERS.edges.items() if name != "far off policy"},
            wrt="log_prob",
            settings={"default": {}, "unsmoothed": {"alpha": 0.0}, "probe": {"alpha": 0.3}},
            limits=(
                Limit("pspo.pspo", {}, where=of_one_token),
                Limit("reinforce.reinforce", {"alpha": 0.0}, {}, where=on_policy, gradient_only=True),
            ),
        ),
        Objective(
            f=pspo_clipped,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"alpha": 0.3, "clip": 0.35}},
            limits=(
                Limit("grpo.grpo", {"alpha": 0.0, "clip": 0.2}),
                Limit("pspo.pspo", {"clip": 1e14}),
                Limit("reinforce.reinforce", {"alpha": 0.0}, OVER_ANSWERS, where=on_policy, gradient_only=True),
            ),
        ),
    ),
)
