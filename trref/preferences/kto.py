r"""KTO: a thumb up or down for each answer, against a point of reference, with less weight far from it.

Labels are single, no pairs. An answer is worth its log-ratio to the reference policy,

.. math::
    :label: kto-reward

    r_i = \log\pi(y_i|x_i) - \log\pi_{ref}(y_i|x_i)

and people, after Kahneman and Tversky, judge by the distance from a point of reference, with less and less sense for
more on either side. The point is an estimate of the policy's divergence from the reference, by other prompts' answers
:math:`y'` to these prompts, at least 0:

.. math::
    :label: kto-reference-point

    z_0 = \max\Big\{ 0,\; \frac1M \sum_j \big( \log\pi(y'_j|x_j) - \log\pi_{ref}(y'_j|x_j) \big) \Big\}

It is *one constant* for the batch: nothing is differentiated through it, which is why it is an argument here. With
:math:`s_i = 1` for a desirable answer and -1 for an undesirable one, and a weight for either,

.. math::
    :label: kto-loss

    L = \frac1B \sum_i \lambda_{s_i} \big( 1 - \sigma(v_i) \big), \qquad v_i = s_i\, \beta (r_i - z_0)

.. math::
    :label: kto-gradient

    \frac{\partial L}{\partial \log\pi(y_i|x_i)} = -\frac{\lambda_{s_i} s_i \beta}{B}\, \sigma(v_i)\, \sigma(-v_i)

The weight :math:`\sigma(v)\sigma(-v) \le \frac14` is largest at the point of reference and falls on *both* sides:
answers far on the wrong side are given up as noise, where DPO's weight tends to 1. Moving all log-ratios and
:math:`z_0` by the same changes nothing; moving the log-ratios alone does. The paper asks for
:math:`\lambda_D n_D / (\lambda_U n_U)` between 1 and 4/3, with the numbers :math:`n` of either label. :math:`z_0` is in
nats, :math:`\beta` multiplies it as well. A batch may hold one label only.

==================  ====================
:math:`z_0`         ``reference_point``
:math:`\lambda_D`   ``desirable_weight``
:math:`\lambda_U`   ``undesirable_weight``
==================  ====================

**Where implementations differ.** Over which answers :math:`z_0` is the mean: TRL averages each device, then over
devices, then clamps; HALOs divides the sum over all devices by the number of log-ratios that are not exactly 0; a clamp
in each micro-batch before the mean makes :math:`z_0` too large. TRL pairs each prompt with one fixed other answer for
all epochs, and its ``apo_zero_unpaired`` has :math:`z_0 = 0`. The Elixir package Edifice has the wrong sign of
:math:`z_0` for undesirable answers. OpenRLHF's form for pairs is a deviation of :func:`trref.preferences.dpo.dpo`.

**Provenance.** Confirmed by the authors' code (HALOs train/trainers.py), TRL, which cites the equations 7 and 8, and
OpenRLHF; the gradient is derived, the range of weights is the paper's equation 8 by TRL's warning.

Ethayarajh, Xu, Muennighoff, Jurafsky and Kiela, *KTO: Model Alignment as Prospect Theoretic Optimization*, 2024,
arXiv:2402.01306.
"""

from trref.backend import special, xp
from trref.signature import (
    B,
    Binary,
    M,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


@checked
def kto(
    log_prob: Real[B],
    ref_log_prob: Real[B],
    desirable: Binary[B],
    reference_point: Scalar,
    *,
    beta: PositiveFloat = 0.1,
    desirable_weight: NonNegativeFloat = 1.0,
    undesirable_weight: NonNegativeFloat = 1.0,
) -> tuple[Scalar, Real[B]]:
    """Loss of labels of single answers; log-probabilities are sums over tokens.

    Parameters
    ----------
    desirable
        1 for a thumb up, 0 for a thumb down.
    reference_point
        Such as `reference_point` of mismatched answers, in nats.
    beta
        How fast the sense for more fades.
    desirable_weight, undesirable_weight
        Of either label.
    """
    B = len(log_prob)
    r = log_prob - ref_log_prob  # eq. kto-reward
    s = 2 * desirable - 1
    weight = desirable_weight * desirable + undesirable_weight * (1 - desirable)

    v = s * beta * (r - reference_point)
    L = (weight * special.expit(-v)).sum() / B  # eq. kto-loss
    # eq. kto-gradient
    return L, -weight * s * beta * special.expit(v) * special.expit(-v) / B


@checked
def reference_point(
    mismatched_log_prob: Real[M], mismatched_ref_log_prob: Real[M]
) -> Scalar:
    """Estimate of the divergence from the reference, from answers to other prompts.

    Parameters
    ----------
    mismatched_log_prob
        Log-probabilities of other prompts' answers to these prompts.
    mismatched_ref_log_prob
        The same under the reference policy.
    """
    mean = (mismatched_log_prob - mismatched_ref_log_prob).sum() / len(
        mismatched_log_prob
    )
    return xp.maximum(mean, 0)  # eq. kto-reference-point
