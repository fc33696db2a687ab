r"""The bound behind CPPO: what a token surrogate does not see grows with early changes and with drift.

For an answer of T tokens from the sampling policy :math:`\mu`, with token ratios :math:`\rho_t`, the ratio of the whole
answer is what the token surrogate sees and a residual that it does not:

.. math::
    :label: cppo-bound-residual

    \prod_t \rho_t - 1 = \sum_t (\rho_t - 1) - \sum_t (\rho_t - 1) (1 - \rho_{t+1:T})

so that :math:`J(\pi) - J(\mu) = L' - \Delta`, the means of both terms times the reward. With :math:`|R| \le \xi`, the
mean total variation :math:`u_t` before token t and its largest value :math:`\ell_t`,

.. math::
    :label: cppo-bound-bound

    |\Delta| \le 4 \xi \sum_{t<T} u_t \sum_{j>t} \ell_j \le 4 \xi\, \bar\ell \sum_{t<T} (T - t)\, u_t

A change early in an answer counts T - t times.

If :math:`w_t D_t \le c_t`, every prefix keeps :math:`\sum_{t \le m} w_t D_t \le \delta_b \sum_{t \le m} w_t`, and
:math:`(T - t)/w_t` does not rise, then

.. math::
    :label: cppo-bound-theorem

    J(\pi) - J(\mu) \ge L' - 2 \xi\, T (T - 1)\, \bar\ell\, \delta_b, \qquad \bar\ell = \max_t \frac{c_t}{w_t}

A uniform threshold has :math:`\delta^2` for :math:`\bar\ell \delta_b`. The condition allows the falling weights, and
constant or rising ones as well; it does not single them out.

**Where implementations differ.** Nobody computes the residual in training; the rule that follows from the bound is
:mod:`trref.tokens.cppo`, whose first threshold is weaker than the theorem's condition.

**Provenance.** Confirmed: by the paper's text; the identity, both bounds and the theorem are checked by enumeration.

Mao et al., *Beyond Uniform Token-Level Trust Region in LLM Reinforcement Learning*, 2026, arXiv:2606.10968.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    B,
    Fraction,
    LogProb,
    Mask,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    T,
    checked,
)


class Parts(NamedTuple):
    """Of each answer's ratio: the difference of the two is the ratio minus 1."""

    surrogate: Real[B]
    residual: Real[B]


class ResidualBounds(NamedTuple):
    """With each position's largest total variation, and with the largest of all."""

    by_position: Scalar
    uniform: Scalar


def _near_together(log_prob, old_log_prob, mask, **_):
    """Answers whose tokens together differ by more than 100 (in single precision 80) in log-probability."""
    bound = 100.0 if log_prob.dtype.itemsize == 8 else 80.0
    return [
        (
            lambda: (abs(mask * (log_prob - old_log_prob)).sum(1) <= bound).all(),
            f"log_prob must be within {bound:g} of old_log_prob in all tokens of an answer",
        )
    ]


@checked(also=_near_together)
def parts_of_the_ratio(
    log_prob: LogProb[B, T], old_log_prob: LogProb[B, T], mask: Mask[B, T]
) -> Parts:
    """Split the ratio of each answer into what a token surrogate sees and the residual."""
    d = mask * (log_prob - old_log_prob)
    # eq. cppo-bound-residual
    moved, later = xp.expm1(d), xp.cumsum(d[:, ::-1], axis=1)[:, ::-1] - d
    return Parts(moved.sum(1), -(moved * xp.expm1(later)).sum(1))


@checked
def residual_bound(
    mean_variation: Prob[T],
    largest_variation: Prob[T],
    *,
    reward_bound: PositiveFloat = 1.0,
) -> ResidualBounds:
    """Bounds of the residual times the reward.

    Parameters
    ----------
    mean_variation, largest_variation
        Mean and largest total variation of the policy from the sampling one before each token.
    reward_bound
        Here ξ, the largest absolute reward.
    """
    # eq. cppo-bound-bound
    after = xp.cumsum(largest_variation[::-1])[::-1] - largest_variation
    uniform = largest_variation.max() * _left(mean_variation)
    tight, loose = (mean_variation * after).sum(), (mean_variation * uniform).sum()
    return ResidualBounds(4 * reward_bound * tight, 4 * reward_bound * loose)


def _left(per_token):
    """Number of tokens after each."""
    return xp.asarray(range(len(per_token) - 1, -1, -1), dtype=per_token.dtype)


def _falls_slowly(position_weight, **_):
    """Weights below 1e-6, or that fall faster than the number of tokens left."""
    left = _left(position_weight)

    def slowly():
        w = position_weight
        return (left[1:] * w[:-1] <= left[:-1] * w[1:] * (1 + 1e-6)).all()

    return [
        (
            lambda: (position_weight >= 1e-6).all(),
            "position_weight must be at least 1e-6",
        ),
        (slowly, "position_weight must not fall faster than the number of tokens left"),
    ]


@checked(also=_falls_slowly)
def improvement_penalty(
    position_weight: Prob[T],
    threshold: Prob[T],
    *,
    mean_radius: Fraction = 0.015,
    reward_bound: PositiveFloat = 1.0,
) -> Scalar:
    """What the theorem takes off the surrogate: the improvement is at least the surrogate minus this.

    Parameters
    ----------
    position_weight, threshold
        Here w and c of each position.
    mean_radius
        Here δ_b, the largest weighted mean of the divergences over any prefix.
    """
    # eq. cppo-bound-theorem
    T, worst = len(threshold), (threshold / position_weight).max()
    return 2 * reward_bound * T * (T - 1) * mean_radius * worst
