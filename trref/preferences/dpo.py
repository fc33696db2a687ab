r"""Direct preference optimisation: a classification loss on the policy itself, in the place of reward and sampling.

Maximising a reward with a penalty on the divergence from a reference has a closed solution,

.. math::
    :label: dpo-optimum

    \max_\pi\; E_\pi[r] - \beta\, \mathrm{KL}(\pi \| \pi_{ref}) \quad\text{at}\quad
    \pi^*(y) = \frac{\pi_{ref}(y)\, e^{r(y)/\beta}}{\sum_{y'} \pi_{ref}(y')\, e^{r(y')/\beta}}

Read backwards, every policy is the optimum of its implicit reward,

.. math::
    :label: dpo-reward

    \hat r(y) = \beta \log\frac{\pi(y)}{\pi_{ref}(y)}

up to a constant of the prompt, which a comparison by Bradley and Terry, :math:`\Pr(y_w \succ y_l) = \sigma(r(y_w) -
r(y_l))`, does not see. So the reward model's maximum likelihood becomes a loss of the policy. With the log-probability
of an answer, the *sum* over its tokens,

.. math::
    :label: dpo-sequence

    \log\pi(y|x) = \sum_t \log\pi(y_t|x, y_{<t})

and the margin of a pair

.. math::
    :label: dpo-margin

    h = \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}

it is logistic regression on :math:`\beta h`:

.. math::
    :label: dpo-loss

    L = -\frac1B \sum \log\sigma(\beta h)

.. math::
    :label: dpo-gradient

    \frac{\partial L}{\partial \log\pi(y_w)} = -\frac{\beta}{B}\, \sigma(-\beta h) =
    -\frac{\partial L}{\partial \log\pi(y_l)}

Only differences count: both answers may become less likely while the margin grows. Where a share :math:`s` of the
labels is wrong, the *conservative* loss expects as much,

.. math::
    :label: dpo-conservative

    L = \frac1B \sum \big[ -(1-s) \log\sigma(\beta h) - s \log\sigma(-\beta h) \big]

with its minimum at :math:`\beta h = \log\frac{1-s}s`; a tie is a label with :math:`s = \frac12`. The *robust* loss has
the expectation, over labels flipped with probability s, of the loss of the right ones:

.. math::
    :label: dpo-robust

    L = \frac1B \sum \frac{ -(1-s) \log\sigma(\beta h) + s \log\sigma(-\beta h) }{1 - 2s}

It is unbounded below, with a slope that is negative everywhere. *Reference-free*, the reference is taken to be equally
likely to give both answers,

.. math::
    :label: dpo-reference-free

    h = \log\pi(y_w) - \log\pi(y_l),

and *normalised by length*, each log-ratio is a mean over tokens:

.. math::
    :label: dpo-length-normalised

    h = \frac1{|y_w|} \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \frac1{|y_l|} \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}

Each of these is a function of its own below, for they are different methods: the sum follows from the objective above,
the mean does not, and its :math:`\beta` must be larger by about the length. A margin that earns nothing beyond 1 makes
the hinge loss

.. math::
    :label: dpo-hinge

    L = \frac1B \sum \max(0,\; 1 - \beta h)

For a table of logits z of one prompt's answers, :math:`P_{ij}` the probability that i beats j and weights
:math:`W_{ij}` of the ordered pairs, the expected loss is

.. math::
    :label: dpo-population

    L = -\sum_{ij} W_{ij} P_{ij} \log\sigma(\beta h_{ij}), \qquad
    \frac{\partial L}{\partial z_k} = \sum_j \big( C_{kj} - C_{jk} \big), \quad
    C = -\beta\, W P\, \sigma(-\beta h)

With :math:`P` of Bradley and Terry, symmetric W, and all answers connected, its minimum is :eq:`dpo-optimum`; with
certain preferences there is none, :math:`h \to \infty` for every :math:`\beta`.

==================  ===========================================
:math:`\log\pi`     ``chosen_log_prob``, ``rejected_log_prob``
:math:`s`           ``label_smoothing``
:math:`|y|`         ``chosen_length``, ``rejected_length``
:math:`W, P`        ``pair_weight``, ``preference``
==================  ===========================================

**Where implementations differ.** Whether log-probabilities are summed or averaged is disputed wherever this loss is
implemented: the authors, TRL's ``sigmoid``, OpenRLHF, open-instruct's ``dpo`` and LLaMA-Factory's ``sigmoid`` sum;
open-instruct's ``dpo_norm``, TRL's ``sigmoid_norm`` and minimind average. Code that takes the log-probabilities of
answers cannot tell by itself; what it is handed decides. The authors' ``label_smoothing`` is the conservative form, as
are OpenRLHF's and open-instruct's; so was that of TRL's ``sigmoid`` up to version 0.24, which LLaMA-Factory calls. Now
TRL's ``sigmoid`` ignores it, and its ``robust`` is :eq:`dpo-robust`. Other losses hide behind the same trainer's
``loss_type``: ``nca_pair``, ``bco_pair``, ``sppo_hard``, ``apo_zero`` and ``apo_down``, all of which hold an answer's
own log-ratio against a constant; ``exo_pair`` and ``discopop``, which are other functions of the margin; ``aot`` and
``aot_unpaired``, which sort the batch before they pair. Its ``ld_alpha`` and ``f_divergence_type`` change the
log-ratios themselves. minimind divided by the width of the padded batch at first, which is a sum with another
:math:`\beta`; PaddleFormers divided sums without the end-of-sequence token by lengths with it. OpenRLHF's loss for KTO
on pairs takes the other side's mean log-ratio as the point of reference, and does not hold it constant. Two tokenisers,
or a mask with the prompt in it, change :math:`h` before any of this. The optimiser was RMSprop.

**Provenance.** Confirmed by the authors' code (trainers.py: ``preference_loss``, sums over tokens, label smoothing,
reference-free form), TRL and OpenRLHF; the population's form and its gradient are derived. The robust form is
Chowdhury, Kini and Natarajan, 2024, arXiv:2403.00409, read in TRL; the hinge is from Zhao et al., 2023,
arXiv:2305.10425, in the form of TRL.

Rafailov, Sharma, Mitchell, Ermon, Manning and Finn, *Direct Preference Optimization: Your Language Model is Secretly a
Reward Model*, 2023, arXiv:2305.18290.
"""

from typing import Annotated

from trref.backend import special, xp
from trref.nn.heads import log_softmax
from trref.preferences.terms import (
    PairGradient,
    counted,
    log_ratio_margin,
    logistic_loss,
    of_pairs,
    softplus,
    table_gradient,
)
from trref.signature import (
    B,
    K,
    LogProb,
    Mask,
    NonNegative,
    Positive,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    T,
    checked,
)


@checked
def sequence_log_prob(
    log_prob: LogProb[B, T], mask: Mask[B, T], *, average: bool = False
) -> Real[B]:
    """Log-probabilities of whole answers; of an answer without tokens 0.

    Parameters
    ----------
    average
        Whether to divide by the number of tokens, which DPO does not.
    """
    total = (log_prob * mask).sum(1)  # eq. dpo-sequence
    return total / xp.maximum(mask.sum(1), 1) if average else total


@checked
def dpo(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    ref_chosen_log_prob: Real[B],
    ref_rejected_log_prob: Real[B],
    *,
    beta: PositiveFloat = 0.1,
    label_smoothing: Annotated[float, "[0, 0.5]"] = 0.0,
) -> tuple[Scalar, PairGradient]:
    """Loss of direct preference optimisation; with smoothing the conservative one.

    Parameters
    ----------
    beta
        Weight of the divergence from the reference: the larger, the nearer to it.
    """
    # in the family's terms: eq. dpo-margin, dpo-conservative, dpo-gradient
    h = log_ratio_margin(
        chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob
    )
    # eq. dpo-loss
    loss, slope = logistic_loss(beta * h, label_smoothing)
    return of_pairs(loss, beta * slope)


@checked
def robust(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    ref_chosen_log_prob: Real[B],
    ref_rejected_log_prob: Real[B],
    *,
    beta: PositiveFloat = 0.1,
    label_smoothing: Annotated[float, "[0, 0.5)"] = 0.1,
) -> tuple[Scalar, PairGradient]:
    """Unbiased loss under labels of which a known share is flipped; it may be negative."""
    h = beta * log_ratio_margin(
        chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob
    )
    s = label_smoothing
    # eq. dpo-robust
    loss = ((1 - s) * softplus(-h) - s * softplus(h)) / (1 - 2 * s)
    slope = -((1 - s) * special.expit(-h) + s * special.expit(h)) / (1 - 2 * s)
    return of_pairs(loss, beta * slope)


@checked
def reference_free(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    *,
    beta: PositiveFloat = 0.1,
    label_smoothing: Annotated[float, "[0, 0.5]"] = 0.0,
) -> tuple[Scalar, PairGradient]:
    """Loss with a reference that gives both answers the same probability."""
    h = chosen_log_prob - rejected_log_prob  # eq. dpo-reference-free
    loss, slope = logistic_loss(beta * h, label_smoothing)
    return of_pairs(loss, beta * slope)


@checked(also=counted)
def length_normalised(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    ref_chosen_log_prob: Real[B],
    ref_rejected_log_prob: Real[B],
    chosen_length: Positive[B],
    rejected_length: Positive[B],
    *,
    beta: PositiveFloat = 2.0,
    label_smoothing: Annotated[float, "[0, 0.5]"] = 0.0,
) -> tuple[Scalar, PairGradient]:
    """Loss of mean log-ratios over tokens; the log-probabilities are sums, as elsewhere."""
    chosen = (chosen_log_prob - ref_chosen_log_prob) / chosen_length
    rejected = (rejected_log_prob - ref_rejected_log_prob) / rejected_length
    h = chosen - rejected  # eq. dpo-length-normalised
    loss, slope = logistic_loss(beta * h, label_smoothing)
    L, (d_chosen, d_rejected) = of_pairs(loss, beta * slope)
    return L, PairGradient(d_chosen / chosen_length, d_rejected / rejected_length)


@checked
def hinge(
    chosen_log_prob: Real[B],
    rejected_log_prob: Real[B],
    ref_chosen_log_prob: Real[B],
    ref_rejected_log_prob: Real[B],
    *,
    beta: PositiveFloat = 0.1,
) -> tuple[Scalar, PairGradient]:
    """Hinge loss of the margin; at the kink the gradient is 0."""
    h = beta * log_ratio_margin(
        chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob
    )
    # eq. dpo-hinge
    return of_pairs(xp.maximum(1 - h, 0), beta * xp.where(h < 1, -1, 0).astype(h.dtype))


@checked
def population_loss(
    logits: Real[K],
    ref_logits: Real[K],
    preference: Prob[K, K],
    pair_weight: NonNegative[K, K],
    *,
    beta: PositiveFloat = 0.1,
) -> tuple[Scalar, Real[K]]:
    """Expected loss over all pairs of a prompt's answers."""
    ratio = log_softmax(logits) - log_softmax(ref_logits)
    h = beta * (ratio[:, None] - ratio[None, :])
    wins = pair_weight * preference
    # eq. dpo-population
    loss = (wins * softplus(-h)).sum()
    return loss, table_gradient(-beta * wins * special.expit(-h))


@checked
def optimal_policy(
    ref_logits: Real[K], reward: Real[K], *, beta: PositiveFloat = 0.1
) -> Real[K]:
    """Log-probabilities of the policy that a reward and a reference ask for."""
    return log_softmax(log_softmax(ref_logits) + reward / beta)  # eq. dpo-optimum


@checked
def implicit_reward(
    log_prob: Real[B], ref_log_prob: Real[B], *, beta: PositiveFloat = 0.1
) -> Real[B]:
    """Reward of which the policy is the optimum, up to a constant of the prompt."""
    return beta * (log_prob - ref_log_prob)  # eq. dpo-reward
