"""Decision processes: soft values, occupancies, grids, corridors, and all trajectories as a table."""

import itertools

import numpy as np
import pytest

from tests.problems.agreement import same_on_strict
from trref.problems import mdp as problems
from trref.problems.trajectories import all_trajectories


def _rng(seed=0):
    return np.random.default_rng(seed)


def _softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


@pytest.mark.parametrize(("gamma", "temperature", "scale"), [(0.9, 1.0, 1.0), (0.99, 1.0, 10.0), (0.5, 0.1, 1.0)])
def test_soft_values_are_the_fixed_point(gamma, temperature, scale):
    rng = _rng(1)
    mdp = problems.random_mdp(rng, states=6, actions=3, gamma=gamma)
    reward = scale * rng.uniform(-1, 1, (6, 3))
    value, q, log_action_prob = problems.soft_values(mdp, reward, temperature)
    again = temperature * np.log(np.exp((q - q.max(1, keepdims=True)) / temperature).sum(1)) + q.max(1)
    size = scale / (1 - gamma)  # of the values; rounding is relative to them
    assert np.allclose(value, again, atol=1e-13 * size, rtol=1e-9)
    assert np.allclose(q, reward + gamma * mdp.transition @ value, atol=1e-13 * size, rtol=1e-9)
    assert np.allclose(log_action_prob, (q - value[:, None]) / temperature, atol=1e-13 * size / temperature, rtol=1e-9)
    more = problems.soft_values(mdp, reward, temperature, steps=40)
    assert np.allclose(more.q, q, atol=1e-12 * size, rtol=1e-9), "15 steps are enough"


def test_soft_values_by_value_iteration():
    rng = _rng(2)
    mdp = problems.random_mdp(rng, states=4, actions=3, gamma=0.7)
    V = np.zeros(4)
    for _ in range(200):  # 0.7^200 is 1e-31
        V = np.log(np.exp(mdp.reward + 0.7 * mdp.transition @ V).sum(1))
    assert np.allclose(problems.soft_values(mdp, mdp.reward).value, V, atol=1e-12, rtol=1e-9)
    with pytest.raises(ValueError, match=r"reward must have shape \(4, 3\)"):
        problems.soft_values(mdp, mdp.reward[:2])


def test_occupancy_is_where_one_is():
    rng = _rng(3)
    mdp = problems.random_mdp(rng, states=5, actions=2, gamma=0.8)
    policy = _softmax(rng.standard_normal((5, 2)))
    found = problems.occupancy(mdp, policy)
    state, expected, weight = mdp.start, np.zeros((5, 2)), 0.2
    for _ in range(250):  # 0.8^250 is 1e-24
        expected += weight * state[:, None] * policy
        state, weight = np.einsum("s,sa,sat->t", state, policy, mdp.transition), 0.8 * weight
    assert np.allclose(found, expected, atol=1e-14, rtol=1e-9) and found.sum() == pytest.approx(1, rel=1e-13)
    assert (found * mdp.reward).sum() / 0.2 == pytest.approx(mdp(policy).expected_return, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_optimal_policy_beats_all_deterministic_ones(seed):
    mdp = problems.random_mdp(_rng(seed), states=4, actions=3, gamma=0.9)
    best = mdp(problems.optimal_policy(mdp)).value
    for actions in itertools.product(range(3), repeat=4):
        assert (best >= mdp(np.eye(3)[list(actions)]).value - 1e-12).all()


def test_gridworld():
    # . . G      the wall makes the way longer: right is blocked from the start's cell
    # . # .
    # S . .
    mdp = problems.gridworld(3, 3, goal=(0, 2), start=(2, 0), walls=[(1, 1)], gamma=0.9)
    assert np.allclose(mdp.transition.sum(2), 1, rtol=1e-9)
    evaluation = mdp(problems.optimal_policy(mdp))
    assert evaluation.expected_return == pytest.approx(0.9**3), "four moves, the last of which is paid"
    assert evaluation.value.reshape(3, 3)[0].tolist() == pytest.approx([0.9, 1.0, 0.0])
    assert mdp.transition[3, 3, 3] == 1 and mdp.transition[0, 0, 0] == 1, "walls and borders stop"
    slippery = problems.gridworld(3, 3, goal=(0, 2), slip=0.4)
    assert slippery.transition[1, 3].tolist() == pytest.approx([0.1, 0.1, 0.7, 0, 0.1, 0, 0, 0, 0])
    assert slippery.reward[1].tolist() == pytest.approx([0.1, 0.1, 0.1, 0.7])
    with pytest.raises(ValueError, match="must be cells of the grid"):
        problems.gridworld(3, 3, goal=(3, 0))


def test_the_additive_optimum_stops_before_the_hazard():
    """33.43: five moves, then standing still for ever; paid by progress the optimum always goes."""
    additive = problems.corridor()
    policy = problems.optimal_policy(additive)
    assert additive(policy).expected_return == pytest.approx(33.43, abs=0.005)
    assert policy[:10, 0].tolist() == [1, 1, 1, 1, 1, 0, 1, 1, 1, 0]
    assert additive.reward[[0, 5, 10, 11]].tolist() == [[1, 0.3], [pytest.approx(0.8), 0.3], [0, 0], [0, 0]]
    progress = problems.corridor(moved=10.0, stopped=0.0)
    assert (problems.optimal_policy(progress)[:10, 0] == 1).all()


def test_what_is_no_process():
    mdp = problems.random_mdp(_rng(), states=2, actions=2)
    for gamma in (0.0, 1.0):
        with pytest.raises(ValueError, match="gamma must lie in"):
            problems.TabularMDP(mdp.transition, mdp.reward, mdp.start, gamma)
    with pytest.raises(ValueError, match="transition and start must have shapes"):
        problems.TabularMDP(mdp.transition[:1], mdp.reward, mdp.start, 0.9)


def test_all_trajectories():
    rng = _rng(4)
    mdp = problems.random_mdp(rng, states=2, actions=2, gamma=0.9)
    table = all_trajectories(mdp, 3)
    policy = _softmax(rng.standard_normal((2, 2)))
    p = table.probabilities(policy)
    assert table.states.shape == (64, 3) and p.sum() == pytest.approx(1, rel=1e-13)
    assert len({tuple(r) for r in np.concatenate([table.states, table.actions], 1)}) == 64
    state, expected = mdp.start, 0.0
    for h in range(3):
        expected += 0.9**h * (state[:, None] * policy * mdp.reward).sum()
        state = np.einsum("s,sa,sat->t", state, policy, mdp.transition)
    assert (p * table.returns(mdp.reward)).sum() == pytest.approx(expected, rel=1e-13)
    plain = table.returns(mdp.reward, discounted=False)
    s, a = table.states[7], table.actions[7]
    assert plain[7] == pytest.approx(sum(mdp.reward[s[h], a[h]] for h in range(3)), rel=1e-14)
    one = all_trajectories(problems.corridor(3, hazard=1), 2)
    assert set(map(tuple, one.states)) == {(0, 0), (0, 1)}, "what cannot occur is left out"


def test_strict_device():
    rng = _rng(5)
    mdp, policy = problems.random_mdp(rng, states=3, actions=2), np.full((3, 2), 0.5)
    table = all_trajectories(mdp, 2)

    def everything(mdp, policy, table):
        soft = problems.soft_values(mdp, mdp.reward, 0.5)
        sums = (table.probabilities(policy), table.returns(mdp.reward), table.returns(mdp.reward, discounted=False))
        return (*soft, problems.occupancy(mdp, policy), *sums)

    same_on_strict(everything, mdp, policy, table)
    same_on_strict(problems.optimal_policy, mdp, waits=True)
