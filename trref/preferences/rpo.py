r"""RPO: the best policy against the worst reward that still explains the comparisons is DPO with a likelihood term.

An adversary lowers the reward of the policy against that of a baseline, and pays for it by the comparisons that it
explains less well. With weights :math:`W_{ij}` of ordered pairs and :math:`P_{ij}` the probability that i beats j,

.. math::
    :label: rpo-adversary

    \phi(\pi, r) = \eta \big( E_\pi r - E_{\pi_{base}} r - \beta\, \mathrm{KL}(\pi\|\pi_{ref}) \big)
    - \sum_{ij} W_{ij} P_{ij} \log\sigma(r_i - r_j), \qquad \max_\pi \min_r\; \phi(\pi, r)

Exchanging the two, the inner maximum has a closed form, and what is left is convex in r:

.. math::
    :label: rpo-dual

    \eta \Big( \beta \log \sum_i \pi_{ref}(i)\, e^{r_i/\beta} - E_{\pi_{base}} r \Big)
    - \sum_{ij} W_{ij} P_{ij} \log\sigma(r_i - r_j)

with :math:`\hat\pi \propto \pi_{ref}\, e^{\hat r/\beta}` at its minimum. Written for that policy, it is the loss of DPO
(:mod:`trref.preferences.dpo`) plus an imitation of the baseline,

.. math::
    :label: rpo-population

    L = -\sum_{ij} W_{ij} P_{ij} \log\sigma(\beta h_{ij}) - \eta\beta\, E_{\pi_{base}} \log\pi

up to the constant :math:`\eta\beta E_{\pi_{base}} \log\pi_{ref}`. In practice the chosen answers are the baseline:

.. math::
    :label: rpo-loss

    L = -\frac1B \sum \log\sigma(\beta h) - \frac{\eta\beta}B \sum \log\pi(y_w)

.. math::
    :label: rpo-gradient

    \frac{\partial L}{\partial \log\pi(y_w)} = -\frac\beta B \big( \sigma(-\beta h) + \eta \big), \qquad
    \frac{\partial L}{\partial \log\pi(y_l)} = +\frac\beta B\, \sigma(-\beta h)

The slope of the chosen answer never vanishes. With a baseline that gives every answer some probability the loss has a
minimum even where comparisons are certain, and DPO's has none; with the chosen answers as the baseline an answer that
always loses is still driven to 0. In the variant that the authors recommend later the likelihood is a mean over tokens,
and its weight :math:`\eta` alone:

.. math::
    :label: rpo-per-token

    L = -\frac1B \sum \log\sigma(\beta h) - \frac\eta B \sum \frac{\log\pi(y_w)}{|y_w|}

**Where implementations differ.** The authors' two code bases are the two losses: their trainer for the alignment
handbook has the sum, with :math:`\eta\beta`, their branch of OpenRLHF the mean. LLaMA-Factory's ``pref_ftx`` is the
second. TRL's ``["sigmoid", "sft"]`` (formerly ``rpo_alpha``, after another paper of the same abbreviation, Iterative
Reasoning Preference Optimization) takes one mean over all tokens of the batch. A third RPO is NVIDIA's reward-aware
preference optimisation. The authors' trainer treats :math:`\eta` below 1e-6 as 0.

**Provenance.** Both losses confirmed by the authors' code (alignment-handbook/scripts/rpo_trainer.py,
OpenRLHF/openrlhf/trainer/dpo_trainer.py) and the defaults by their configurations; the adversary and its dual follow
the abstract and memory of the paper, and their equivalence is checked. Bounds for finite samples are not here.

Liu, Lu, Zhang, Liu, Guo, Yang, Blanchet and Wang, *Provably Mitigating Overoptimization in RLHF: Your SFT Loss is
Implicitly an Adversarial Regularizer*, 2024, arXiv:2405.16436.
"""

from trref.backend import special, xp
from trref.nn.heads import log_softmax
from trref.preferences.dpo import dpo
from trref.preferences.dpo import population_loss as comparison_loss
from trref.preferences.terms import PairGradient, softplus, table_gradient
from trref.signature import (
    B,
    K,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    Simplex,
    checked,
)


@checked
def rpo(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    ref_chosen_log_prob: Real[B],
    ref_rejected_log_prob: Real[B],
    *,
    beta: PositiveFloat = 0.01,
    eta: NonNegativeFloat = 0.005,
) -> tuple[Scalar, PairGradient]:
    """Loss of DPO and the likelihood of the chosen answers.

    Parameters
    ----------
    beta
        Weight of the divergence from the reference.
    eta
        Weight of the adversary's game beside the comparisons.
    """
    B = len(chosen_log_prob)
    pairs = (
        chosen_log_prob,
        rejected_log_prob,
        ref_chosen_log_prob,
        ref_rejected_log_prob,
    )
    loss, (d_chosen, d_rejected) = dpo.unchecked(*pairs, beta=beta)
    L = loss - eta * beta * chosen_log_prob.sum() / B  # eq. rpo-loss
    return L, PairGradient(d_chosen - eta * beta / B, d_rejected)  # eq. rpo-gradient


@checked
def rpo_per_token(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    ref_chosen_log_prob: Real[B],
    ref_rejected_log_prob: Real[B],
    chosen_length: Positive[B],
    *,
    beta: PositiveFloat = 0.5,
    eta: NonNegativeFloat = 0.2,
) -> tuple[Scalar, PairGradient]:
    """Loss of DPO on sums, and the chosen answers' mean log-probability of a token."""
    B = len(chosen_log_prob)
    pairs = (
        chosen_log_prob,
        rejected_log_prob,
        ref_chosen_log_prob,
        ref_rejected_log_prob,
    )
    loss, (d_chosen, d_rejected) = dpo.unchecked(*pairs, beta=beta)
    # eq. rpo-per-token
    L = loss - eta * (chosen_log_prob / chosen_length).sum() / B
    return L, PairGradient(d_chosen - eta / (B * chosen_length), d_rejected)


@checked
def population_loss(
    logits: Real[K],
    ref_logits: Real[K],
    preference: Prob[K, K],
    pair_weight: NonNegative[K, K],
    base_prob: Simplex[K],
    *,
    beta: PositiveFloat = 0.01,
    eta: NonNegativeFloat = 0.005,
) -> tuple[Scalar, Real[K]]:
    """Expected loss over all pairs of a prompt's answers.

    Parameters
    ----------
    base_prob
        The baseline's probabilities of the answers.
    """
    loss, gradient = comparison_loss.unchecked(
        logits, ref_logits, preference, pair_weight, beta=beta
    )
    log_prob = log_softmax(logits)
    # eq. rpo-population
    L = loss - eta * beta * (base_prob * log_prob).sum()
    return L, gradient - eta * beta * (base_prob - xp.exp(log_prob))


@checked
def dual_reward_objective(
    reward: Real[K],
    ref_logits: Real[K],
    preference: Prob[K, K],
    pair_weight: NonNegative[K, K],
    base_prob: Simplex[K],
    *,
    beta: PositiveFloat = 0.01,
    eta: NonNegativeFloat = 0.005,
) -> tuple[Scalar, Real[K]]:
    """What the adversary minimises when the policy answers with its best.

    Parameters
    ----------
    reward
        Of each answer.
    """
    loss, gradient = _comparisons(reward, preference, pair_weight)
    tilted = log_softmax(ref_logits) + reward / beta
    top = tilted.max()
    best = top + xp.log(xp.exp(tilted - top).sum())
    # eq. rpo-dual
    value = eta * (beta * best - (base_prob * reward).sum()) + loss
    return value, eta * (xp.exp(log_softmax(tilted)) - base_prob) + gradient


@checked
def adversarial_value(
    reward: Real[K],
    logits: Real[K],
    ref_logits: Real[K],
    preference: Prob[K, K],
    pair_weight: NonNegative[K, K],
    base_prob: Simplex[K],
    *,
    beta: PositiveFloat = 0.01,
    eta: NonNegativeFloat = 0.005,
) -> tuple[Scalar, Real[K]]:
    """Value of the game: the policy maximises it, the reward minimises it."""
    loss, gradient = _comparisons(reward, preference, pair_weight)
    log_prob = log_softmax(logits)
    p = xp.exp(log_prob)
    kl = (p * (log_prob - log_softmax(ref_logits))).sum()
    # eq. rpo-adversary
    value = eta * (((p - base_prob) * reward).sum() - beta * kl) + loss
    return value, eta * (p - base_prob) + gradient


def _comparisons(reward, preference, pair_weight):
    """Minus the expected log-likelihood of comparisons by Bradley and Terry, and its gradient."""
    margin, wins = reward[:, None] - reward[None, :], pair_weight * preference
    return (wins * softplus(-margin)).sum(), table_gradient(
        -wins * special.expit(-margin)
    )
