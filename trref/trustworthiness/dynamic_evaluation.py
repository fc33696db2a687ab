r"""Dynamic evaluation: a benchmark that is drawn anew, and the noise of drawing and rewording it.

A fixed benchmark leaks: who has memorised it is right on it and nowhere else. A dynamic one draws n new cases for every
assessment and words each of them in V ways. Answers :math:`x_{mnv}`, right or wrong, of M redraws have the mean
:math:`\bar x`, whose variance from redraw to redraw is seen directly,

.. math::
    :label: dynamic-evaluation-observed

    s^2 = \frac{1}{M - 1} \sum_m (\bar x_m - \bar x)^2,

and splits into what cases and what wordings do, a one-way layout with random effects. With the means
:math:`\bar x_{mn}` of cases, and :math:`N_c = M n` of these,

.. math::
    :label: dynamic-evaluation-components

    \hat\sigma_w^2 = \frac{1}{N_c (V - 1)} \sum_{mnv} (x_{mnv} - \bar x_{mn})^2, \qquad
    \hat\sigma_c^2 = \frac{1}{N_c - 1} \sum_{mn} (\bar x_{mn} - \bar x)^2 - \frac{\hat\sigma_w^2}{V} .

:math:`\sigma_w^2` is the whole variance of one answer to one case: the effect of its wording *and* the chance of being
right. Both estimates are without bias; :math:`\hat\sigma_c^2` can be negative. A design of n cases with V wordings has

.. math::
    :label: dynamic-evaluation-variance

    \text{Var}\, \bar x = \frac{\sigma_c^2}{n} + \frac{\sigma_w^2}{n V} :

more wordings cannot take it below :math:`\sigma_c^2 / n`. A share of N answers has Wilson's interval, with the
quantile z of the level,

.. math::
    :label: dynamic-evaluation-interval

    \frac{p + \frac{z^2}{2N} \pm z \sqrt{\frac{p (1 - p)}{N} + \frac{z^2}{4 N^2}}}{1 + \frac{z^2}{N}} .

**A judge** who calls a share :math:`\alpha` of failures a success and a share :math:`\beta` of successes a failure sees
:math:`p (1 - \beta) + (1 - p)\, \alpha`, from which

.. math::
    :label: dynamic-evaluation-judge

    \hat p = \frac{p_{obs} - \alpha}{1 - \alpha - \beta}, \qquad
    \text{Var}\, \hat p = \frac{\text{Var}\, p_{obs}}{(1 - \alpha - \beta)^2},

without bias, so that it may leave [0, 1]. **Ranks** are stable if rankings of two redraws agree, by Kendall's
:math:`\tau_b` in the mean over pairs of redraws,

.. math::
    :label: dynamic-evaluation-stability

    \tau_{ab} = \frac{\sum_{i<j} \text{sgn}(a_i - a_j)\, \text{sgn}(b_i - b_j)}
    {\sqrt{\sum_{i<j} \text{sgn}^2(a_i - a_j)\, \sum_{i<j} \text{sgn}^2(b_i - b_j)}},

and a model is better than another with the bootstrap probability, over resampled items,

.. math::
    :label: dynamic-evaluation-wins

    P_{kl} = \frac1B \sum_b [\bar x_k^{(b)} > \bar x_l^{(b)}] + \tfrac12 [\bar x_k^{(b)} = \bar x_l^{(b)}] .

Where all scores of a redraw are equal, its :math:`\tau_b` is 0.

**Where implementations differ.** The toolkit reports averages to four digits without an interval, and draws once. The
interval that statsmodels gives by default is the normal one, a single point where all answers are right.

**Provenance.** The paper's platform draws metadata, cases and rewordings; its statistics are reconstructed here.
Wilson's interval, the correction of a judge (Rogan and Gladen) and the ranks are standard.

Huang, Gao, Wu, Wang, Wang, Zhou et al., *On the Trustworthiness of Generative Foundation Models: Guideline, Assessment,
and Perspective*, 2025, arXiv:2502.14296.
"""

from typing import NamedTuple

from trref.backend import special, xp
from trref.signature import (
    B,
    Binary,
    Fraction,
    Index,
    K,
    M,
    N,
    NonNegative,
    OpenFraction,
    Positive,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    V,
    checked,
)


class Dynamic(NamedTuple):
    """The share of right answers; variances of redraws, of cases, of answers to one case, and of the planned design."""

    share: Scalar
    observed: Scalar
    case: Scalar
    wording: Scalar
    planned: Scalar


class Interval(NamedTuple):
    """The lower and the upper end."""

    low: Prob[N]
    high: Prob[N]


class Corrected(NamedTuple):
    """The rate without the judge's errors, and the variance of that."""

    rate: Real[N]
    variance: NonNegative[N]


def _redrawn(correct, **_):
    """One redraw, or one wording, from which no variance can be seen."""
    redraws, _, wordings = correct.shape
    if redraws < 2 or wordings < 2:
        raise ValueError(
            f"correct must have two redraws and two wordings at least, not {redraws} and {wordings}"
        )
    return []


@checked(also=_redrawn)
def dynamic_estimate(
    correct: Binary[M, N, V], *, cases: PositiveInt = 100, wordings: PositiveInt = 1
) -> Dynamic:
    """Share of right answers, and where its noise comes from.

    Parameters
    ----------
    correct
        1 where the answer to wording v of case n in redraw m is right.
    cases, wordings
        Of the design whose variance is planned.
    """
    V, count = correct.shape[2], correct.shape[0] * correct.shape[1]
    by_redraw, by_case = correct.mean((1, 2)), correct.mean(2)
    share = correct.mean()
    # eq. dynamic-evaluation-observed
    observed = ((by_redraw - share) ** 2).sum() / (len(correct) - 1)

    # eq. dynamic-evaluation-components
    wording = ((correct - by_case[..., None]) ** 2).sum() / (count * (V - 1))
    case = ((by_case - share) ** 2).sum() / (count - 1) - wording / V

    planned = case / cases + wording / (
        cases * wordings
    )  # eq. dynamic-evaluation-variance
    return Dynamic(share, observed, case, wording, planned)


@checked
def wilson_interval(
    rate: Prob[N], counts: Positive[N], *, level: OpenFraction = 0.95
) -> Interval:
    """Wilson's interval of a share.

    Parameters
    ----------
    rate
        Shares of right answers.
    counts
        Of how many answers.
    level
        How often an interval should hold the truth.
    """
    z = special.ndtri(xp.asarray(0.5 + level / 2, dtype=rate.dtype))
    # eq. dynamic-evaluation-interval
    ratio = z * z / counts
    half = xp.sqrt(ratio * (rate * (1 - rate) + ratio / 4))
    wrong = 1 - rate
    # the ends are roots of a quadratic: each is the product of both over the larger one
    return Interval(
        rate**2 / (rate + ratio / 2 + half), 1 - wrong**2 / (wrong + ratio / 2 + half)
    )


def _informative(false_positive, false_negative, **_):
    """A judge whose errors sum to 1 says nothing."""
    if abs(1 - false_positive - false_negative) < 1e-6:
        raise ValueError(
            f"false_positive and false_negative must not sum to 1, as {false_positive} and {false_negative} do"
        )
    return []


@checked(also=_informative)
def judge_corrected(
    observed: Prob[N],
    variance: NonNegative[N],
    *,
    false_positive: Fraction = 0.1,
    false_negative: Fraction = 0.1,
) -> Corrected:
    """Rates as they would be without the judge's errors.

    Parameters
    ----------
    observed
        Shares that the judge calls a success.
    variance
        Of these shares.
    false_positive
        Share of failures that the judge calls a success.
    false_negative
        Share of successes that the judge calls a failure.
    """
    kept = 1 - false_positive - false_negative
    # eq. dynamic-evaluation-judge
    return Corrected((observed - false_positive) / kept, variance / kept**2)


def _several(scores, **_):
    """One redraw, which agrees with none."""
    if len(scores) < 2:
        raise ValueError(f"scores must have two redraws at least, not {len(scores)}")
    return []


@checked(also=_several)
def rank_stability(scores: Real[M, K]) -> Scalar:
    """Mean agreement of the rankings of two redraws.

    Parameters
    ----------
    scores
        Of K models in each of M redraws.
    """
    M, K = scores.shape
    signs = xp.sign(scores[:, :, None] - scores[:, None]).reshape(M, K * K)
    common = signs @ signs.T
    untied = xp.sqrt(xp.where(common.diagonal() > 0, common.diagonal(), 1))
    tau = common / untied[:, None] / untied  # eq. dynamic-evaluation-stability
    pairs = xp.arange(M)[:, None] < xp.arange(M)
    return xp.where(pairs, tau, 0).sum() / (M * (M - 1) / 2)


def _items(correct, rows, **_):
    """A row that is no item."""
    N = correct.shape[1]
    return [(lambda: rows.max() < N, f"rows must be less than the {N} items")]


@checked(also=_items)
def win_probability(correct: Binary[K, N], rows: Index[B, M]) -> Prob[K, K]:
    """How often one model beats another on resampled items.

    Parameters
    ----------
    correct
        1 where a model is right on an item.
    rows
        The items of each of B resamples.
    """
    hits = correct[:, rows].sum(2)
    ahead = xp.sign(hits[:, None] - hits)
    return ((1 + ahead) / 2).mean(2)  # eq. dynamic-evaluation-wins
