r"""Conflict tokens: what right and wrong answers to one prompt have in common, at their beginnings and at their ends.

What differs from GRPO: a token that right and wrong answers share, such as a tag, is pushed up by the ones and down by
the others; GTPO (:mod:`trref.tokens.gtpo`) gives it a weight of its own. To be exact, a token is in conflict if the
same token stands at the same place in an answer with positive and in one with negative advantage, of the same group.
Only an unbroken run counts, from the first token onwards,

.. math::
    :label: gtpo-conflicts-front

    F_{i,t} = \prod_{s \le t} \mathbb 1\big[\exists\, j, k \in g(i):\; \hat A_j > 0 > \hat A_k,\;
    y_{j,s} = y_{k,s} = y_{i,s}\big]

or from the last one backwards, :math:`B_{i,t}`, with answers aligned at their ends:

.. math::
    :label: gtpo-conflicts-back

    B_{i,t} = F_{i,\,|y_i| - 1 - t} \text{ of the reversed answers}

.. math::
    :label: gtpo-conflicts-weights

    \lambda_{i,t} = c_i^{F_{i,t} + B_{i,t}}, \qquad c_i = 2 \text{ for } \hat A_i > 0,\quad
    0 \text{ for } \hat A_i < 0,\quad 1 \text{ for } \hat A_i = 0

With :math:`0^0 = 1`, tokens without conflict have weight 1. A token that is matched from both sides has weight 4 in a
right answer. Answers of advantage 0 neither make conflicts nor are weighted. Runs from both sides can cover a short
answer: a wrong answer that is a beginning and an end of right ones has weight 0 throughout.

**Where implementations differ.** The authors' code marks valid tokens by a padding id; masks do not mistake a token for
padding.

**Provenance.** Confirmed: the run rule, the alignment and the constants by the authors' code; the weight of wrong
answers is 0 there, other values are for comparison.

Simoni, Fontana et al., *GTPO: Trajectory-Based Policy Optimization in Large Language Models*, 2025, arXiv:2508.03772.
"""

from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    Index,
    Mask,
    NonNegative,
    NonNegativeFloat,
    Real,
    T,
    checked,
)


@checked
def front_conflicts(
    advantage: Real[B], mask: Mask[B, T], actions: Index[B, T], group: Index[B]
) -> Binary[B, T]:
    """Tokens of the run of conflicts that starts at an answer's first token."""
    # eq. gtpo-conflicts-front
    place = xp.cumsum(mask, 1)  # of each token among those of its answer
    same_group = group[:, None] == group[None, :]
    same = same_group[:, None, :, None] & (place[:, :, None, None] == place[None, None])
    same = same & (actions[:, :, None, None] == actions[None, None])
    same = same & (mask[None, None] == 1)
    right, wrong = (
        (same & answers[None, None, :, None]).any((2, 3))
        for answers in (advantage > 0, advantage < 0)
    )
    ends = mask * ~(right & wrong)

    return mask * (xp.cumsum(ends, 1) == 0)


@checked
def back_conflicts(
    advantage: Real[B], mask: Mask[B, T], actions: Index[B, T], group: Index[B]
) -> Binary[B, T]:
    """Tokens of the run of conflicts that ends at an answer's last token."""
    # eq. gtpo-conflicts-back
    reversed_answers = xp.flip(mask, 1), xp.flip(actions, 1)
    return xp.flip(front_conflicts.unchecked(advantage, *reversed_answers, group), 1)


@checked
def conflict_weights(
    advantage: Real[B],
    mask: Mask[B, T],
    actions: Index[B, T],
    group: Index[B],
    *,
    boost: NonNegativeFloat = 2.0,
    penalty: NonNegativeFloat = 0.0,
) -> NonNegative[B, T]:
    """Weight of each token: 1 where there is no conflict, or where the mask is 0.

    Parameters
    ----------
    boost, penalty
        Weights of conflict tokens of right and of wrong answers, a side.
    """
    batch = advantage, mask, actions, group
    # eq. gtpo-conflicts-weights
    of_wrong = xp.where(advantage < 0, penalty, 1.0)
    each = xp.where(advantage > 0, boost, of_wrong).astype(mask.dtype)
    sides = front_conflicts.unchecked(*batch) + back_conflicts.unchecked(*batch)
    return each[:, None] ** sides
