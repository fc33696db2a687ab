r"""Identity preference optimisation: log-ratios by least squares, so that certain preferences have an answer, too.

DPO's loss is a logistic regression (:mod:`trref.preferences.dpo`): if one answer always wins, its margin is driven to
infinity, and the tie to the reference is lost. IPO regresses the margin of the pair

.. math::
    :label: ipo-loss

    L = \frac1B \sum \Big( h - \frac1{2\tau} \Big)^2, \qquad
    h = \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}

on a finite target. Above it the chosen answer is pushed *down*:

.. math::
    :label: ipo-gradient

    \frac{\partial L}{\partial \log\pi(y_w)} = \frac2B \Big( h - \frac1{2\tau} \Big)
    = -\frac{\partial L}{\partial \log\pi(y_l)}

Normalised by length, each log-ratio is divided by its number of tokens first:

.. math::
    :label: ipo-length-normalised

    h = \frac1{|y_w|} \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \frac1{|y_l|} \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}

In a table of one prompt's K answers, with :math:`P_{ij}` the probability that i beats j and weights :math:`W_{ij}`,

.. math::
    :label: ipo-population

    L = \sum_{ij} W_{ij} P_{ij} \Big( h_{ij} - \frac1{2\tau} \Big)^2, \qquad
    \frac{\partial L}{\partial z_k} = \sum_j \big( C_{kj} - C_{jk} \big), \quad
    C = 2 W P \Big( h - \frac1{2\tau} \Big)

Where all pairs are equally frequent and :math:`P_{ij} + P_{ji} = 1`, its minimum is

.. math::
    :label: ipo-optimum

    \pi^*(i) \propto \pi_{ref}(i)\; e^{p_i/\tau}, \qquad p_i = \frac1K \sum_j P_{ij}

the policy that maximises the *probability of winning* less :math:`\tau\,\mathrm{KL}(\pi\|\pi_{ref})`. No reward is
assumed, and none is found: where Bradley and Terry's law holds this is not the policy of the reward. Of two answers the
margin is :math:`(2P - 1)/(2\tau)`; a tie has the reference as its optimum.

**Where implementations differ.** Sum or mean: the DPO authors' repository and OpenRLHF sum over tokens, as the equation
says; TRL since January 2024, HALOs and LLaMA-Factory take the mean, which TRL reports as what the authors' experiments
had. The same :math:`\tau` then differs by the length. It is called ``beta`` in TRL, OpenRLHF and LLaMA-Factory; the
larger, the smaller the margin. TRL's ``CPOTrainer`` with ``loss_type="ipo"`` has no reference at all: it regresses the
means of log-probabilities themselves. HALOs counts only those tokens whose log-ratio is not exactly 0, which at the
first step are none.

**Provenance.** Confirmed by the DPO authors' repository, TRL, OpenRLHF and HALOs, which cite the paper's equation 17;
the mean by TRL and HALOs. The optimum is from memory of the paper and checked by least squares.

Azar, Rowland, Piot, Guo, Calandriello, Valko and Munos, *A General Theoretical Paradigm to Understand Learning from
Human Preferences*, 2023, arXiv:2310.12036.
"""

from trref.nn.heads import log_softmax
from trref.preferences.terms import (
    PairGradient,
    log_ratio_margin,
    of_pairs,
    table_gradient,
)
from trref.signature import (
    B,
    K,
    NonNegative,
    Positive,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    checked,
)


@checked
def ipo(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    ref_chosen_log_prob: Real[B],
    ref_rejected_log_prob: Real[B],
    *,
    tau: PositiveFloat = 0.1,
) -> tuple[Scalar, PairGradient]:
    """Squared distance of the margins from their target.

    Parameters
    ----------
    tau
        Weight of the divergence from the reference; the target is ``1 / (2 tau)``.
    """
    h = log_ratio_margin(
        chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob
    )
    error = h - 1 / (2 * tau)  # eq. ipo-loss
    return of_pairs(error * error, 2 * error)  # eq. ipo-gradient


@checked
def length_normalised(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    ref_chosen_log_prob: Real[B],
    ref_rejected_log_prob: Real[B],
    chosen_length: Positive[B],
    rejected_length: Positive[B],
    *,
    tau: PositiveFloat = 0.1,
) -> tuple[Scalar, PairGradient]:
    """Squared distance of margins of mean log-ratios; the log-probabilities are sums, as elsewhere."""
    # eq. ipo-length-normalised
    chosen = (chosen_log_prob - ref_chosen_log_prob) / chosen_length
    rejected = (rejected_log_prob - ref_rejected_log_prob) / rejected_length
    error = chosen - rejected - 1 / (2 * tau)

    L, (d_chosen, d_rejected) = of_pairs(error * error, 2 * error)
    return L, PairGradient(d_chosen / chosen_length, d_rejected / rejected_length)


@checked
def population_loss(
    logits: Real[K],
    ref_logits: Real[K],
    preference: Prob[K, K],
    pair_weight: NonNegative[K, K],
    *,
    tau: PositiveFloat = 0.1,
) -> tuple[Scalar, Real[K]]:
    """Expected loss over all pairs of a prompt's answers."""
    ratio = log_softmax(logits) - log_softmax(ref_logits)
    error = ratio[:, None] - ratio[None, :] - 1 / (2 * tau)
    # eq. ipo-population
    wins = pair_weight * preference
    return (wins * error * error).sum(), table_gradient(2 * wins * error)


@checked
def optimal_policy(
    ref_logits: Real[K], preference: Prob[K, K], *, tau: PositiveFloat = 0.1
) -> Real[K]:
    """Log-probabilities of the optimum, where all pairs meet equally often."""
    p = preference.sum(1) / len(ref_logits)
    return log_softmax(log_softmax(ref_logits) + p / tau)  # eq. ipo-optimum
