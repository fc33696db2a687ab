r"""The penalty that ACE descends: softplus of the confidence shift, on wrong answers only.

ACE (:mod:`trref.tokens.ace`) enlarges the advantages of wrong answers by :math:`1 + \alpha\,\mathrm{softplus}(c)`. What
does that do on average? For a policy over answers y, and :math:`c = (\log\pi(y) - \log\pi^{ref}(y))/T` with T the
length that the shift is divided by (1 for the shift of the whole answer), consider

.. math::
    :label: ace-regulariser-value

    R = E_{y\sim\pi}\big[ \mathbb 1_{wrong}\, \mathrm{softplus}(c) \big]

a reverse divergence from the reference in which right answers, and wrong ones that have become unlikely, hardly count.
As :math:`\nabla c = \nabla\log\pi / T`,

.. math::
    :label: ace-regulariser-gradient

    \nabla R = E_\pi\big[ \mathbb 1_{wrong} \big( \mathrm{softplus}(c) + \tfrac1T \sigma(c) \big) \nabla\log\pi \big]

so that ACE's additional update on fresh samples, per unit of :math:`\alpha` and of the penalty underneath, is descent
on R up to a residual:

.. math::
    :label: ace-regulariser-decomposition

    -E_\pi\big[ \mathbb 1_{wrong}\, \mathrm{softplus}(c)\, \nabla\log\pi \big]
    = -\nabla R + E_\pi\big[ \mathbb 1_{wrong}\, \tfrac1T \sigma(c)\, \nabla\log\pi \big]

The residual points the other way with a weight in (0, 1/T): it moderates, and vanishes for long answers. In logits
:math:`E_\pi[u \nabla\log\pi] = \pi \odot (u - \langle \pi, u \rangle)`.

**Where implementations differ.** ACE is implemented by the factor on advantages alone; nobody is known to descend R.
Doing so is what differentiating through the shift amounts to.

**Provenance.** Partly: reviews of the paper state the theorem (on fresh samples, for large groups, with the shift held
constant in ACE). Its exact form was not seen; it is derived here and checked.

Xu, Sang, Zhou, He and Wang, *Overconfident Errors Need Stronger Correction: Asymmetric Confidence Penalties for
Reinforcement Learning*, 2026, arXiv:2602.21420.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.signature import Binary, N, PositiveFloat, Real, Scalar, V, checked


class Decomposition(NamedTuple):
    """In the logits: ``extra = -regulariser + residual``."""

    extra: Real[N, V]
    regulariser: Real[N, V]
    residual: Real[N, V]


def _of_each_answer(logits, ref_logits, length):
    log_p = log_softmax(logits)
    c = (log_p - log_softmax(ref_logits)) / length
    return xp.exp(log_p), xp.logaddexp(0, c), xp.exp(-xp.logaddexp(0, -c)) / length


def _mean_score(p, weight):
    """E[weight ∇log π] in the logits, for a weight of each answer."""
    return p * (weight - (p * weight).sum(1, keepdims=True))


@checked
def selective_regulariser(
    logits: Real[N, V],
    ref_logits: Real[N, V],
    wrong: Binary[N, V],
    *,
    length: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[N, V]]:
    """Penalty on the wrong answers that are likelier than under the reference, exactly; the mean over prompts.

    Parameters
    ----------
    logits
        Of each prompt's answers.
    wrong
        Which answers are wrong.
    length
        Here T, by which log-ratios are divided.
    """
    N = len(logits)
    p, softplus, slope = _of_each_answer(logits, ref_logits, length)
    R = (p * wrong * softplus).sum() / N  # eq. ace-regulariser-value
    # eq. ace-regulariser-gradient
    return R, _mean_score(p, wrong * (softplus + slope)) / N


@checked
def decomposition(
    logits: Real[N, V],
    ref_logits: Real[N, V],
    wrong: Binary[N, V],
    *,
    length: PositiveFloat = 1.0,
) -> Decomposition:
    """What ACE adds to the expected update, and its two parts, exactly; for a penalty and an alpha of 1."""
    p, softplus, slope = _of_each_answer(logits, ref_logits, length)
    # eq. ace-regulariser-decomposition
    parts = -wrong * softplus, wrong * (softplus + slope), wrong * slope
    return Decomposition(*(_mean_score(p, part) for part in parts))
