"""Theorems and limits of generalised advantage estimation."""

import itertools

import numpy as np
import pytest
from scipy.signal import lfilter

from trref.catalog import find
from trref.policy.gae import gae, policy_gradient_estimate, response, td_residuals
from trref.problems.mdp import TabularMDP, random_mdp


def _segment(seed, T=50):
    rng = np.random.default_rng(seed)
    value = rng.standard_normal(T + 1)
    return rng.standard_normal(T), value[:-1], value[1:], np.zeros(T), np.zeros(T)


def test_numbers_by_hand():
    """Two steps, gamma 0.5, lambda 0.5: deltas 1 + 0.5·4 - 2 = 1 and 3 + 0.5·6 - 4 = 2; first estimate 1 + 0.25·2."""
    zeros = np.zeros(2)
    result = gae(np.array([1.0, 3.0]), np.array([2.0, 4.0]), np.array([4.0, 6.0]), zeros, zeros, gamma=0.5, lam=0.5)
    assert result.tolist() == [1.5, 2.0]


def test_a_linear_filter_without_ends():
    reward, value, following, *flags = _segment(0)
    delta = reward + 0.99 * following - value
    oracle = lfilter([1], [1, -0.99 * 0.95], delta[::-1])[::-1]
    assert np.allclose(gae(reward, value, following, *flags), oracle, rtol=1e-13)


def test_lambda_one():
    reward, value, following, *flags = _segment(1)
    discounted = np.array([sum(0.9**l * reward[t + l] for l in range(50 - t)) for t in range(50)])
    bootstrap = 0.9 ** np.arange(50, 0, -1) * following[-1]
    assert np.allclose(
        gae(reward, value, following, *flags, gamma=0.9, lam=1.0), discounted + bootstrap - value, rtol=1e-9
    )


def test_termination_and_truncation_differ_by_the_bootstrap():
    reward, value, following, zeros, _ = _segment(2, T=6)
    end = np.array([0.0, 0, 1, 0, 0, 0])
    terminated = gae(reward, value, following, end, zeros)
    truncated = gae(reward, value, following, zeros, end)
    assert np.allclose(terminated[3:], truncated[3:], rtol=1e-9)
    decay = (0.99 * 0.95) ** np.array([2, 1, 0])
    assert np.allclose(truncated[:3] - terminated[:3], decay * 0.99 * following[2], rtol=1e-9)


def test_nothing_flows_back_over_an_end():
    reward, value, following, zeros, _ = _segment(3, T=8)
    end = np.array([0.0, 0, 0, 1, 0, 0, 0, 0])
    changed = reward.copy()
    changed[5] += 10
    for flags in ((end, zeros), (zeros, end)):
        before, after = gae(reward, value, following, *flags), gae(changed, value, following, *flags)
        assert np.array_equal(before[:4], after[:4]) and not np.allclose(before[4:], after[4:])


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.9, 1.0])
def test_unbiased_for_the_true_values(lam):
    """In a random Markov chain with its exact values, the expected estimate is 0 in every state."""
    rng = np.random.default_rng(0)
    P, r, gamma, T = rng.dirichlet(np.ones(4), size=4), rng.standard_normal(4), 0.9, 6
    V = np.linalg.solve(np.eye(4) - gamma * P, r)
    # enumerate all paths of T steps from state 0
    total = 0.0
    for path in np.ndindex(*(4,) * T):
        states = (0, *path)
        p = np.prod([P[a, b] for a, b in itertools.pairwise(states)])
        s, following = np.array(states[:-1]), np.array(states[1:])
        zeros = np.zeros(T)
        total += p * gae(r[s], V[s], V[following], zeros, zeros, gamma=gamma, lam=lam)[0]
    assert abs(total) < 1e-12


def test_columns_are_independent():
    rng = np.random.default_rng(4)
    many = [rng.standard_normal((9, 3)) for _ in range(3)] + [
        (rng.random((9, 3)) < 0.2).astype(float) for _ in range(2)
    ]
    together = gae(*many)
    for i in range(3):
        assert np.array_equal(together[:, i], gae(*(m[:, i].copy() for m in many)))


@pytest.mark.parametrize("name", ["gamma", "lam"])
@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_out_of_range(name, bad):
    with pytest.raises(ValueError, match=f"{name} must lie in"):
        gae(*_segment(0), **{name: bad})


def test_discounted_return_of_the_shaped_reward():
    """With the residuals as reward, no value function and a discount of gamma lambda, lambda = 1 gives the estimate."""
    reward, value, following, *_ = _segment(6)
    rng = np.random.default_rng(6)
    terminated = (rng.random(50) < 0.1).astype(float)
    truncated = (1 - terminated) * (rng.random(50) < 0.1)
    shaped = td_residuals(reward, value, following, terminated, gamma=0.9)
    zeros = np.zeros(50)
    oracle = gae(shaped, zeros, zeros, terminated, truncated, gamma=0.9 * 0.7, lam=1.0)
    expected = gae(reward, value, following, terminated, truncated, gamma=0.9, lam=0.7)
    assert np.allclose(expected, oracle, rtol=1e-13, atol=1e-14)


def _expected_estimates(mdp, policy, wrong, lam):
    """E[estimate | s, a] in an infinite segment: residuals of a wrong value function along the policy's chain."""
    P = np.einsum("sa,sat->st", policy, mdp.transition)
    delta = mdp.reward + mdp.gamma * mdp.transition @ wrong - wrong[:, None]
    later = np.linalg.solve(np.eye(len(P)) - mdp.gamma * lam * P, (policy * delta).sum(1))
    return delta + mdp.gamma * lam * mdp.transition @ later


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_expected_estimate_is_the_advantage_for_true_values(lam):
    rng = np.random.default_rng(7)
    mdp, policy = random_mdp(rng, states=5, actions=3), rng.dirichlet(np.ones(3), size=5)
    V, advantage, *_ = mdp(policy)
    assert np.allclose(_expected_estimates(mdp, policy, V, lam), advantage, atol=1e-12, rtol=1e-9)


def test_wrong_values_bias_the_gradient_less_for_larger_lambda_and_not_at_one():
    rng = np.random.default_rng(8)
    mdp, policy = random_mdp(rng, states=8, actions=3, gamma=0.95), rng.dirichlet(np.ones(3), size=8)
    V, advantage, visits, _ = mdp(policy)
    wrong = V + V.std() * rng.standard_normal(8)

    def gradient(A):
        centred = A - (policy * A).sum(1, keepdims=True)
        return visits[:, None] * policy * centred

    off = []
    for lam in (0.0, 0.5, 0.9, 1.0):
        estimate = _expected_estimates(mdp, policy, wrong, lam)
        off.append(np.linalg.norm(gradient(estimate) - gradient(advantage)) / np.linalg.norm(gradient(advantage)))
    assert off[0] > off[1] > off[2] > 1e-3 and off[3] < 1e-12
    assert not np.allclose(_expected_estimates(mdp, policy, wrong, 1.0), advantage), "off by a constant in each state"


def _process(seed):
    rng = np.random.default_rng(seed)
    return random_mdp(rng, states=5, actions=3, gamma=0.8), rng.dirichlet(np.ones(3), size=5), rng


def test_the_discounted_response_is_the_advantage_whatever_the_potential():
    mdp, policy, rng = _process(11)
    for potential in (np.zeros(5), rng.standard_normal(5)):
        chi = response(policy, potential, mdp, steps=150)
        assert np.allclose(np.tensordot(0.8 ** np.arange(150), chi, 1), mdp(policy).advantage, atol=1e-12, rtol=1e-9)


def test_with_the_true_values_the_response_comes_at_once():
    mdp, policy, _ = _process(12)
    chi = response(policy, mdp(policy).value, mdp, steps=6)
    assert np.allclose(chi[0], mdp(policy).advantage, atol=1e-12, rtol=1e-9) and abs(chi[1:]).max() < 1e-12
    assert abs(response(policy, np.zeros(5), mdp, steps=6)[1:]).max() > 0.01, "unshaped it lasts"


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_the_estimate_discounts_the_response_by_gamma_lambda(lam):
    """In expectation over what follows, up to the constant of each state that the estimate is off by."""
    mdp, policy, rng = _process(13)
    wrong = rng.standard_normal(5)
    discounted = np.tensordot((0.8 * lam) ** np.arange(150), response(policy, wrong, mdp, steps=150), 1)
    expected = _expected_estimates(mdp, policy, wrong, lam)
    assert np.allclose(discounted, expected - (policy * expected).sum(1, keepdims=True), atol=1e-12, rtol=1e-9)


def test_response_by_hand():
    """Two states; action 0 stays, action 1 leaves for good; staying earns 1, and the policy stays with 1/2."""
    transition = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    mdp = TabularMDP(transition, np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([1.0, 0.0]), 0.5)
    chi = response(np.full((2, 2), 0.5), np.zeros(2), mdp, steps=3)
    assert chi[:, 0, 0] == pytest.approx([0.5, 0.25, 0.125]) and chi[:, 0, 1] == pytest.approx([-0.5, -0.25, -0.125])
    assert not chi[:, 1].any()


def test_gradient_estimate_by_hand():
    """Two trajectories of two steps, weights 1 and 0.5: (1·2 + 0.5·3·1 + 1·1 + 0) / 2."""
    score, advantage = np.array([[[2.0], [1.0]], [[1.0], [5.0]]]), np.array([[1.0, 1.0], [3.0, 0.0]])
    assert policy_gradient_estimate(score, advantage, discount=0.5) == pytest.approx([2.25])
    assert policy_gradient_estimate(score, advantage) == pytest.approx([3.0])


def test_the_discounted_estimate_is_the_gradient_of_the_return():
    """Expectation over all trajectories of three steps, in a process that ends after the third."""
    rng = np.random.default_rng(9)
    S, A, T, gamma = 2, 2, 3, 0.7
    P, R, policy = rng.dirichlet(np.ones(S), size=(S, A)), rng.standard_normal((S, A)), rng.dirichlet(np.ones(A), S)
    log_policy = np.log(policy)

    def total(log_policy):
        pi = np.exp(log_policy) / np.exp(log_policy).sum(1, keepdims=True)
        V = np.zeros(S)
        for _ in range(T):
            V = (pi * (R + gamma * P @ V)).sum(1)
        return V[0]

    expected = np.zeros(S * A)
    for path in itertools.product(range(S), range(A), range(S), range(A), range(S), range(A)):
        s, a = np.array((0, *path[2::2]))[:T], np.array(path[1::2])
        if path[0]:
            continue
        p = np.prod(policy[s, a]) * np.prod(P[s[:-1], a[:-1], s[1:]])
        score = np.zeros((T, 1, S, A))
        for t in range(T):
            score[t, 0, s[t], :] -= policy[s[t]]
            score[t, 0, s[t], a[t]] += 1
        end = np.eye(T)[-1]
        estimate = gae(R[s, a], 0 * end, 0 * end, end, 0 * end, gamma=gamma, lam=1.0)
        expected += p * policy_gradient_estimate(score.reshape(T, 1, -1), estimate[:, None], discount=gamma)
    h = 1e-5
    differences = [
        (total(log_policy + h * e) - total(log_policy - h * e)) / (2 * h) for e in np.eye(S * A).reshape(-1, S, A)
    ]
    assert np.allclose(expected, differences, atol=1e-9, rtol=1e-9)


def test_public_slip_on_the_last_step():
    """An episode that truly ends on the last step of a segment: its value must not be bootstrapped."""
    slip = next(d.f for d in find("gae.gae").deviations if d.name.startswith("bootstrap"))
    reward, value, following, zeros, _ = _segment(10, T=3)
    end = np.array([0.0, 0, 1])
    off = slip(reward, value, following, end, zeros) - gae(reward, value, following, end, zeros)
    assert off[-1] == pytest.approx(0.99 * following[-1])


def test_public_slip_of_one_row():
    """The episode ends on the second of four steps; the slip ends it on the first."""
    slip = next(d.f for d in find("gae.gae").deviations if d.name.startswith("flags"))
    reward, value, following, zeros, _ = _segment(14, T=4)
    end = np.array([0.0, 1, 0, 0])
    first = slip(reward, value, following, end, zeros)[0]
    assert first == pytest.approx(reward[0] - value[0]) != gae(reward, value, following, end, zeros)[0]
