"""What is known of `trref.tokens.gtpo_conflicts`."""

from trref.backend import xp
from trref.catalog import Estimator, Method
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE, with_edges
from trref.tokens.gtpo_conflicts import (
    back_conflicts,
    conflict_weights,
    front_conflicts,
)


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
    sides = [
        _runs_by_sets(advantage, mask, actions, group, backwards=side)
        for side in (False, True)
    ]
    of = [boost if a > 0 else penalty if a < 0 else 1.0 for a in advantage.tolist()]
    return [
        [of[i] ** (sides[0][i][t] + sides[1][i][t]) for t in range(mask.shape[1])]
        for i in range(len(advantage))
    ]


def _hand():
    """Three answers, padded at different places."""
    return {
        "advantage": xp.array([1.0, -1.0, -1.0]),
        "mask": xp.array([[1.0] * 6, [1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 1, 1]]),
        "actions": xp.array(
            [[7, 7, 1, 2, 9, 8], [7, 7, 3, 9, 8, 0], [7, 4, 7, 1, 9, 8]]
        ),
        "group": xp.array([2, 2, 2]),
    }


def _undecided():
    """An answer with no advantage shares its first token with a good and a bad one."""
    return {**_hand(), "advantage": xp.array([1.0, -1.0, 0.0])}


BATCH = with_edges(
    TOKEN_OBJECTIVE,
    *TOKEN_OBJECTIVE.edges,
    **{"shared ends": _hand, "an answer without advantage": _undecided},
)
METHOD = Method(
    key="simoni2025gtpo",
    provenance="confirmed",
    functions=(
        Estimator(f=front_conflicts, interface=BATCH, brute_force=_runs_by_sets),
        Estimator(f=back_conflicts, interface=BATCH, brute_force=_back_by_sets),
        Estimator(
            f=conflict_weights,
            interface=BATCH,
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
