r"""Conflict tokens: what right and wrong answers to one prompt have in common, at their beginnings and at their ends.

What differs from GRPO: a token that right and wrong answers share, such as a tag, is pushed up by the ones and down by
the others; GTPO (:mod:`trref.tokens.gtpo`) gives it a weight of its own. To be exact, a token is in conflict if the
same token stands at the same place in an answer with positive and in one with negative advantage, of the same group.
Only an unbroken run counts, from the first token onwards,

.. math::
    :label: conflict-tokens-front

    F_{i,t} = \prod_{s \le t} \mathbb 1\big[\exists\, j, k \in g(i):\; \hat A_j > 0 > \hat A_k,\;
    y_{j,s} = y_{k,s} = y_{i,s}\big]

or from the last one backwards, :math:`B_{i,t}`, with answers aligned at their ends:

.. math::
    :label: conflict-tokens-back

    B_{i,t} = F_{i,\,|y_i| - 1 - t} \text{ of the reversed answers}

.. math::
    :label: conflict-tokens-weights

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

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Method
from trref.tokens.interfaces import token_objective

__all__ = ["back_conflicts", "back_runs", "conflict_weights", "front_conflicts", "front_runs", "weigh"]

ANSWERS = token_objective("actions", "group", advantage="B", without=("log_prob", "old_log_prob"))


def front_conflicts(advantage, mask, actions, group):
    """Tokens of the run of conflicts that starts at an answer's first token.

    Parameters
    ----------
    advantage : array (B,)
        Only its sign counts.
    mask : array (B, T), 0 or 1
        The tokens of the answers; where there are gaps, the tokens count in their order.
    actions : array (B, T), integer
        The tokens.
    group : array (B,), integer

    Returns
    -------
    array (B, T), 0 or 1

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite.
    """
    validate.inputs(ANSWERS.inputs, advantage, mask, actions, group)
    return front_runs(advantage, mask, actions, group)


def back_conflicts(advantage, mask, actions, group):
    """Tokens of the run of conflicts that ends at an answer's last token; parameters as in `front_conflicts`.

    Parameters
    ----------
    advantage, mask, actions, group : array

    Returns
    -------
    array (B, T), 0 or 1

    Raises
    ------
    ValueError
        As `front_conflicts`.
    """
    validate.inputs(ANSWERS.inputs, advantage, mask, actions, group)
    return back_runs(advantage, mask, actions, group)


def front_runs(advantage, mask, actions, group):
    """Building block, unchecked: `front_conflicts`."""
    # eq. conflict-tokens-front
    place = xp.cumsum(mask, 1)  # of each token among those of its answer
    same_group = group[:, None] == group[None, :]
    same = same_group[:, None, :, None] & (place[:, :, None, None] == place[None, None])
    same = same & (actions[:, :, None, None] == actions[None, None]) & (mask[None, None] == 1)
    right, wrong = ((same & answers[None, None, :, None]).any((2, 3)) for answers in (advantage > 0, advantage < 0))
    ends = mask * ~(right & wrong)

    return mask * (xp.cumsum(ends, 1) == 0)


def back_runs(advantage, mask, actions, group):
    """Building block, unchecked: `back_conflicts`."""
    reversed_answers = xp.flip(mask, 1), xp.flip(actions, 1)
    return xp.flip(front_runs(advantage, *reversed_answers, group), 1)  # eq. conflict-tokens-back


def conflict_weights(advantage, mask, actions, group, *, boost=2.0, penalty=0.0):
    """Weight of each token: 1 where there is no conflict.

    Parameters
    ----------
    advantage, mask, actions, group : array
        As in `front_conflicts`.
    boost, penalty : float
        In [0, inf): weights of conflict tokens of right and of wrong answers, a side.

    Returns
    -------
    array (B, T)
        1 where the mask is 0.

    Raises
    ------
    ValueError
        As `front_conflicts`; or `boost` or `penalty` out of range.
    """
    validate.inputs(ANSWERS.inputs, advantage, mask, actions, group)
    validate.interval("[0, inf)", boost=boost, penalty=penalty)
    return weigh(advantage, mask, actions, group, boost, penalty)


def weigh(advantage, mask, actions, group, boost, penalty):
    """Building block, unchecked: `conflict_weights`."""
    batch = advantage, mask, actions, group
    # eq. conflict-tokens-weights
    each = xp.where(advantage > 0, boost, xp.where(advantage < 0, penalty, 1.0)).astype(mask.dtype)
    return each[:, None] ** (front_runs(*batch) + back_runs(*batch))


def _runs_by_sets(advantage, mask, actions, group, *, backwards=False):
    rows = [
        [y for y, m in zip(tokens, here, strict=True) if m]
        for tokens, here in zip(actions.tolist(), mask.tolist(), strict=True)
    ]
    rows = [row[::-1] for row in rows] if backwards else rows
    A, prompts, result = advantage.tolist(), group.tolist(), []
    for i, here in enumerate(mask.tolist()):
        seen = {
            sign: {
                (t, y)
                for row, a, g in zip(rows, A, prompts, strict=True)
                if g == prompts[i] and sign * a > 0
                for t, y in enumerate(row)
            }
            for sign in (1, -1)
        }
        run = 0
        while run < len(rows[i]) and (run, rows[i][run]) in seen[1] & seen[-1]:
            run += 1
        flags = [float(t < run) for t in range(len(rows[i]))]
        places = iter(flags[::-1] if backwards else flags)
        result.append([next(places) if m else 0.0 for m in here])
    return result


def _back_by_sets(advantage, mask, actions, group):
    return _runs_by_sets(advantage, mask, actions, group, backwards=True)


def _weights_by_sets(advantage, mask, actions, group, *, boost=2.0, penalty=0.0):
    sides = [_runs_by_sets(advantage, mask, actions, group, backwards=side) for side in (False, True)]
    of = [boost if a > 0 else penalty if a < 0 else 1.0 for a in advantage.tolist()]
    return [[of[i] ** (sides[0][i][t] + sides[1][i][t]) for t in range(mask.shape[1])] for i in range(len(advantage))]


def _hand():
    """Three answers, padded at different places."""
    return {
        "advantage": xp.array([1.0, -1.0, -1.0]),
        "mask": xp.array([[1.0] * 6, [1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 1, 1]]),
        "actions": xp.array([[7, 7, 1, 2, 9, 8], [7, 7, 3, 9, 8, 0], [7, 4, 7, 1, 9, 8]]),
        "group": xp.array([2, 2, 2]),
    }


def _undecided():
    """An answer with no advantage shares its first token with a good and a bad one."""
    return {**_hand(), "advantage": xp.array([1.0, -1.0, 0.0])}


EDGES = {**ANSWERS.edges, "shared ends": _hand, "an answer without advantage": _undecided}
METHOD = Method(
    key="simoni2025gtpo",
    provenance="confirmed",
    functions=(
        Estimator(f=front_conflicts, interface=ANSWERS, edges=EDGES, brute_force=_runs_by_sets),
        Estimator(f=back_conflicts, interface=ANSWERS, edges=EDGES, brute_force=_back_by_sets),
        Estimator(
            f=conflict_weights,
            interface=ANSWERS,
            edges=EDGES,
            settings={
                "default": {},
                "protect only": {"boost": 1.0},
                "boost only": {"penalty": 1.0},
                "probe": {"boost": 1.5, "penalty": 0.4},
            },
            brute_force=_weights_by_sets,
        ),
    ),
)
