"""Theorems and limits of carl."""

import numpy as np
import pytest
from scipy.optimize import linprog

from trref.policy.carl import additive_reward, carl_reward, completion, route_progress, soft_penalties
from trref.problems.mdp import corridor, optimal_policy

ROUTE = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0], [9.0, 3.0]])


def _calm(T, **changed):
    base = {
        "outside": np.zeros(T),
        "distance": np.zeros(T),
        "junction": np.zeros(T),
        "speed": np.full(T, 10.0),
        "limit": np.full(T, 10.0),
        "collision_course": np.zeros(T),
        "discomfort": np.zeros((T, 6)),
    }
    return base | changed


def test_progress_by_hand():
    """On the first leg, around the corner, beyond the end and before the start."""
    position = np.array([[2.5, 1.0], [4.5, 1.0], [20.0, 3.5], [-2.0, 0.0]])
    assert route_progress(position, ROUTE) == pytest.approx([2.5, 5.0, 12.0, 0.0])


def test_progress_against_a_fine_polyline():
    """The nearest of 200,000 points of the route."""
    rng = np.random.default_rng(0)
    position = rng.uniform([-1, -2], [10, 5], (40, 2))
    ends = np.cumsum([0.0, 4.0, 3.0, 5.0])
    s = np.linspace(0, 12, 200_001)
    points = np.stack([np.interp(s, ends, ROUTE[:, k]) for k in (0, 1)], 1)
    nearest = np.array([((points - x) ** 2).sum(1).argmin() for x in position])
    assert route_progress(position, ROUTE) == pytest.approx(s[nearest], abs=1e-4)


@pytest.mark.parametrize("ticks", [2, 7, 500])
def test_the_sum_of_completion_does_not_depend_on_speed_or_time_step(ticks):
    """A detour back in the middle earns nothing: in the end it is the share of the route."""
    forth = np.concatenate([np.linspace(0, 8, ticks + 1), np.linspace(8, 3, ticks), np.linspace(3, 9, ticks)])
    earned = completion(forth, length=12.0)
    assert earned.sum() == pytest.approx(75.0) and (earned >= 0).all()
    assert not completion(np.full(ticks + 1, 5.0)).any(), "standing earns exactly nothing"


def test_penalties_by_hand():
    found = soft_penalties(
        **_calm(
            3,
            outside=np.array([0.0, 1.0, 0.0]),
            distance=np.array([0.875, 0.875, 5.0]),
            junction=np.array([0.0, 1.0, 0.0]),
            speed=np.array([9.0, 11.115, 20.0]),
            collision_course=np.array([0.0, 1.0, 0.0]),
            discomfort=np.array([[0, 0, 0, 0, 0, 0], [1.0, 1, 0, 0, 0, 0], [0, 1.0, 1, 0, 0, 0]]),
        )
    )
    assert found.outside == pytest.approx([1, 0, 1])
    assert found.centre == pytest.approx([0.5, 1.0, 0.0])
    assert found.speed == pytest.approx([1, 0.5, 0])
    assert found.collision == pytest.approx([1, 0.5, 0.5])
    assert found.comfort == pytest.approx([1, 1 - 1 / 6, 0.75])


def test_infractions_last():
    course = np.zeros(10)
    course[2] = 1
    assert soft_penalties(**_calm(10, collision_course=course), lasting=3).collision.tolist() == [
        1, 1, 0.5, 0.5, 0.5, 1, 1, 1, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_an_episode_is_worth_between_minus_t_and_100(seed):
    rng = np.random.default_rng(seed)
    s = np.concatenate([[0.0], np.minimum(np.cumsum(rng.exponential(1.0, 60)), 40.0)])
    done = completion(s, length=40.0)
    penalty = rng.random((60, 3))
    crash, ended = ((rng.random(60) < 0.02).astype(float) for _ in range(2))
    total = carl_reward(done, penalty, crash, ended, crash_cost=5.0).sum()
    assert -5.0 <= total <= 100.0
    clean = carl_reward(done, np.ones((60, 1)), np.zeros(60), np.zeros(60)).sum()
    assert clean == pytest.approx(done.sum())
    finished = completion(np.linspace(0, 40, 61), length=40.0)
    assert carl_reward(finished, np.ones((60, 2)), np.zeros(60), np.zeros(60)).sum() == pytest.approx(100)


def test_factors_multiply():
    """One of 0 takes all, the order is of no effect, and 1 is none."""
    done, none = np.array([2.0, 3.0]), np.zeros(2)
    p = np.array([[0.5, 0.4], [0.0, 1.0]])
    assert carl_reward(done, p, none, none) == pytest.approx([0.4, 0.0])
    assert np.array_equal(carl_reward(done, p[:, ::-1], none, none), carl_reward(done, p, none, none))
    more = np.concatenate([p, np.ones((2, 3))], 1)
    assert np.array_equal(carl_reward(done, more, none, none), carl_reward(done, p, none, none))


def test_the_episode_ends_at_the_first_major_infraction():
    done, p = np.full(4, 1.0), np.ones((4, 1))
    crash, ended = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 0.0])
    assert carl_reward(done, p, crash, ended, crash_cost=3.0) == pytest.approx([1, -2, 0, 0])
    assert carl_reward(done, p, 0 * crash, ended) == pytest.approx([1, 1, 1, 0]), "the tick itself is paid"


def test_standing_still_earns_where_rewards_are_added():
    """11/16 of 100 over the horizon, and nothing of CaRL's."""
    none = np.zeros(2000)
    assert additive_reward(none, none, none, none).sum() == pytest.approx(100 * 11 / 16)
    assert carl_reward(none, np.ones((2000, 1)), none, none).sum() == 0


def _value(mdp, policy):
    return float(mdp(policy).expected_return)


def test_which_optimum_stops_before_the_hazard():
    """From the sixth cell on it pays to stop before it (33.43 in the sixth); the fifth is a near tie. Progress goes."""
    for hazard in range(10):
        added = corridor(10, hazard=hazard)
        going = added.reward[hazard, 0] + 0.9 * 0.99 * added(optimal_policy(added)).value[hazard + 1]
        standing = 0.3 / (1 - 0.99)
        assert (going < standing) == (hazard >= 4) and (hazard != 4 or standing - going < 0.05), hazard
        assert optimal_policy(corridor(10, hazard=hazard, moved=10.0, stopped=0.0))[:10, 0].all()
    assert _value(corridor(10), optimal_policy(corridor(10))) == pytest.approx(33.43, abs=0.01)


def test_the_optimum_against_linprog():
    """The smallest values that no action exceeds."""
    mdp = corridor(10)
    S, A = mdp.reward.shape
    bound = (np.eye(S)[:, None] - mdp.gamma * mdp.transition).reshape(S * A, S)
    found = linprog(np.ones(S), A_ub=-bound, b_ub=-mdp.reward.ravel(), bounds=[(None, None)] * S)
    assert mdp(optimal_policy(mdp)).value == pytest.approx(found.x, abs=1e-6)


def test_refused():
    with pytest.raises(ValueError, match="route"):
        route_progress(np.zeros((1, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="slack"):
        soft_penalties(**_calm(2), slack=1.75)
    with pytest.raises(ValueError, match="penalty"):
        carl_reward(np.ones(1), np.full((1, 1), 1.5), np.zeros(1), np.zeros(1))
