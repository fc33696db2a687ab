"""Conflict tokens: the example worked out by hand, symmetries, padding."""

import numpy as np
import pytest

from trref.tokens.gtpo_conflicts import back_conflicts, conflict_weights, front_conflicts

ROWS = [[7, 7, 1, 2, 9, 8], [7, 7, 3, 9, 8], [7, 7, 1, 9, 8]]
A = np.array([1.0, -1.0, -1.0])


def _padded(rows, fill=0, width=7):
    actions = np.full((len(rows), width), fill)
    mask = np.zeros((len(rows), width))
    for i, row in enumerate(rows):
        actions[i, : len(row)], mask[i, : len(row)] = row, 1
    return mask, actions


def _weights(rows, advantage, group=None, fill=0, f=conflict_weights, **hyper):
    mask, actions = _padded(rows, fill)
    result = f(advantage, mask, actions, np.zeros(len(rows), int) if group is None else group, **hyper)
    return [list(result[i, : len(row)]) for i, row in enumerate(rows)]


def _random(seed, B=8):
    rng = np.random.default_rng(seed)
    rows = [list(rng.integers(0, 3, rng.integers(1, 7))) for _ in range(B)]
    return rows, rng.choice([-1.5, 0.0, 0.7], B), rng.integers(0, 2, B)


def test_by_hand():
    """The third answer is wrong, and protected throughout."""
    assert _weights(ROWS, A) == [[2, 2, 2, 1, 2, 2], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]


def test_only_unbroken_runs_count():
    """The second 7 of the first answer also stands where it does in the first one, seen from the back: no run."""
    back = _weights(ROWS, A, f=back_conflicts)
    assert back[0] == [0, 0, 0, 0, 1, 1] and back[2][:3] == [0, 0, 0]
    front = _weights([[1, 5, 2], [1, 6, 2]], np.array([1.0, -1.0]), f=front_conflicts)
    assert front == [[1, 0, 0], [1, 0, 0]]


def test_matched_from_both_sides():
    rows = [[4, 5], [4, 5]]
    assert _weights(rows, np.array([0.3, -2.0])) == [[4, 4], [0, 0]]
    assert _weights(rows, np.array([0.3, -2.0]), boost=1.5, penalty=0.5) == [[2.25] * 2, [0.25] * 2]


@pytest.mark.parametrize("seed", range(6))
def test_permuting_answers_permutes_and_reversing_exchanges(seed):
    rows, advantage, group = _random(seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    weights = _weights(rows, advantage, group)
    assert _weights([rows[i] for i in order], advantage[order], group[order]) == [weights[i] for i in order]
    front = _weights([row[::-1] for row in rows], advantage, group, f=front_conflicts)
    assert [row[::-1] for row in front] == _weights(rows, advantage, group, f=back_conflicts)


@pytest.mark.parametrize("seed", range(4))
def test_padding_makes_no_conflicts(seed):
    """Whatever stands behind an answer, even a token that others end with."""
    rows, advantage, group = _random(seed)
    assert all(_weights(rows, advantage, group, fill=f) == _weights(rows, advantage, group) for f in (1, 2))


def test_groups_are_kept_apart():
    rows, advantage = [[1, 2], [1, 2]], np.array([1.0, -1.0])
    assert _weights(rows, advantage, np.array([0, 1])) == [[1, 1], [1, 1]]


@pytest.mark.parametrize("advantage", [[1.0, 2.0, 0.5], [-1.0, -2.0, -0.5], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
def test_without_both_kinds_there_is_no_conflict(advantage):
    assert _weights(ROWS, np.array(advantage)) == [[1] * len(row) for row in ROWS]


def test_answers_without_advantage_are_left_alone():
    rows = [[1, 2], [1, 2], [1, 2]]
    assert _weights(rows, np.array([1.0, -1.0, 0.0]))[2] == [1, 1]
