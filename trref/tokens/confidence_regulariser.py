r"""The penalty that ACE descends: softplus of the confidence shift, on wrong answers only.

ACE (:mod:`trref.tokens.ace`) enlarges the advantages of wrong answers by :math:`1 + \alpha\,\mathrm{softplus}(c)`. What
does that do on average? For a policy over answers y, and :math:`c = (\log\pi(y) - \log\pi^{ref}(y))/T` with T the
length that the shift is divided by (1 for the shift of the whole answer), consider

.. math::
    :label: confidence-regulariser-value

    R = E_{y\sim\pi}\big[ \mathbb 1_{wrong}\, \mathrm{softplus}(c) \big]

a reverse divergence from the reference in which right answers, and wrong ones that have become unlikely, hardly count.
As :math:`\nabla c = \nabla\log\pi / T`,

.. math::
    :label: confidence-regulariser-gradient

    \nabla R = E_\pi\big[ \mathbb 1_{wrong} \big( \mathrm{softplus}(c) + \tfrac1T \sigma(c) \big) \nabla\log\pi \big]

so that ACE's additional update on fresh samples, per unit of :math:`\alpha` and of the penalty underneath, is descent
on R up to a residual:

.. math::
    :label: confidence-regulariser-decomposition

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

import math
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Method, Objective
from trref.nn.heads import log_softmax

__all__ = ["Decomposition", "decomposition", "selective_regulariser"]

ENUMERATED = {"logits": Input("N V"), "ref_logits": Input("N V"), "wrong": Input("N V", "mask")}


class Decomposition(NamedTuple):
    """In the logits, each (N, V): the additional update, the regulariser's gradient, and the residual."""

    extra: Any
    regulariser: Any
    residual: Any


def _of_each_answer(logits, ref_logits, length):
    log_p = log_softmax(logits)
    c = (log_p - log_softmax(ref_logits)) / length
    return xp.exp(log_p), xp.logaddexp(0, c), xp.exp(-xp.logaddexp(0, -c)) / length


def _mean_score(p, weight):
    """E[weight ∇log π] in the logits, for a weight of each answer."""
    return p * (weight - (p * weight).sum(1, keepdims=True))


def selective_regulariser(logits, ref_logits, wrong, *, length=1.0):
    """Penalty on the wrong answers that are likelier than under the reference, exactly; the mean over prompts.

    Parameters
    ----------
    logits, ref_logits : array (N, V)
        Of the V possible answers to N prompts.
    wrong : array (N, V), 0 or 1
    length : float
        T, by which log-ratios are divided, in (0, inf).

    Returns
    -------
    loss : scalar array
    gradient : array (N, V)
        With respect to `logits`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, `length` not positive.
    """
    N = validate.inputs(ENUMERATED, logits, ref_logits, wrong)["N"]
    validate.interval("(0, inf)", length=length)
    p, softplus, slope = _of_each_answer(logits, ref_logits, length)
    R = (p * wrong * softplus).sum() / N  # eq. confidence-regulariser-value
    return R, _mean_score(p, wrong * (softplus + slope)) / N  # eq. confidence-regulariser-gradient


def decomposition(logits, ref_logits, wrong, *, length=1.0):
    """What ACE adds to the expected update, and its two parts, exactly; for a penalty and an alpha of 1.

    Parameters
    ----------
    logits, ref_logits, wrong, length
        As in `selective_regulariser`.

    Returns
    -------
    Decomposition
        ``extra = -regulariser + residual``.

    Raises
    ------
    ValueError
        As `selective_regulariser`.
    """
    validate.inputs(ENUMERATED, logits, ref_logits, wrong)
    validate.interval("(0, inf)", length=length)
    p, softplus, slope = _of_each_answer(logits, ref_logits, length)
    parts = -wrong * softplus, wrong * (softplus + slope), wrong * slope
    return Decomposition(*(_mean_score(p, part) for part in parts))  # eq. confidence-regulariser-decomposition


def _example(rng, size):
    reference = float(rng.choice((0.3, 1.0, 3.0))) * rng.standard_normal((size, 6))
    logits = reference + float(rng.choice((0.05, 0.4, 1.5))) * rng.standard_normal((size, 6))
    return {"logits": logits, "ref_logits": reference, "wrong": (rng.random((size, 6)) < 0.6).astype(float)}


def _edge(step, wrong):
    reference = xp.array([[0.5, -0.25, 1.0], [0.0, 2.0, -1.0]])
    return {"logits": reference + xp.array(step), "ref_logits": reference, "wrong": xp.array(wrong, dtype=float)}


EDGES = {
    "the reference itself": lambda: _edge([0.0, 0.0, 0.0], [[1, 0, 1], [0, 1, 1]]),
    "nothing wrong": lambda: _edge([0.5, -0.5, 0.0], [[0, 0, 0], [0, 0, 0]]),
    "everything wrong": lambda: _edge([0.5, -0.5, 0.0], [[1, 1, 1], [1, 1, 1]]),
    "certain of a wrong answer": lambda: _edge([5.0, 0.0, -1.0], [[1, 0, 0], [1, 0, 1]]),
    "certain of a right answer": lambda: _edge([5.0, 0.0, -1.0], [[0, 1, 1], [0, 1, 1]]),
}


def _decomposition_by_answers(logits, ref_logits, wrong, *, length=1.0):
    log_p, log_q = log_softmax(logits), log_softmax(ref_logits)
    parts = xp.zeros((3, *logits.shape))
    for n in range(logits.shape[0]):
        for y in range(logits.shape[1]):
            c = float(log_p[n, y] - log_q[n, y]) / length
            softplus, slope = max(c, 0.0) + math.log1p(math.exp(-abs(c))), 1 / (1 + math.exp(-c)) / length
            score = -xp.exp(log_p[n])
            score[y] += 1
            weights = xp.array([-softplus, softplus + slope, slope])
            parts[:, n] += math.exp(log_p[n, y]) * float(wrong[n, y]) * weights[:, None] * score
    return parts


LENGTHS = {"default": {}, "probe": {"length": 7.5}}
METHOD = Method(
    key="xu2026overconfident",
    provenance="partly",
    functions=(
        Objective(
            f=selective_regulariser,
            inputs=ENUMERATED,
            example=_example,
            edges=EDGES,
            wrt="logits",
            settings=LENGTHS,
        ),
        Estimator(
            f=decomposition,
            inputs=ENUMERATED,
            example=_example,
            edges=EDGES,
            settings=LENGTHS,
            brute_force=_decomposition_by_answers,
        ),
    ),
)
