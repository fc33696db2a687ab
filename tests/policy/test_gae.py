"""Theorems and limits of generalised advantage estimation."""

import itertools

import numpy as np
import pytest
from scipy.signal import lfilter

from trref.policy.gae import gae, lambda_return


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


def test_lambda_zero_and_one():
    reward, value, following, *flags = _segment(1)
    delta = reward + 0.9 * following - value
    assert np.allclose(gae(reward, value, following, *flags, gamma=0.9, lam=0.0), delta)
    discounted = np.array([sum(0.9**l * reward[t + l] for l in range(50 - t)) for t in range(50)])
    bootstrap = 0.9 ** np.arange(50, 0, -1) * following[-1]
    assert np.allclose(gae(reward, value, following, *flags, gamma=0.9, lam=1.0), discounted + bootstrap - value)


def test_termination_and_truncation_differ_by_the_bootstrap():
    reward, value, following, zeros, _ = _segment(2, T=6)
    end = np.array([0.0, 0, 1, 0, 0, 0])
    terminated = gae(reward, value, following, end, zeros)
    truncated = gae(reward, value, following, zeros, end)
    assert np.allclose(terminated[3:], truncated[3:])
    decay = (0.99 * 0.95) ** np.array([2, 1, 0])
    assert np.allclose(truncated[:3] - terminated[:3], decay * 0.99 * following[2])


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


def test_lambda_return_is_advantage_plus_value():
    segment = _segment(5)
    assert np.array_equal(lambda_return(*segment), gae(*segment) + segment[1])


@pytest.mark.parametrize("name", ["gamma", "lam"])
@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_out_of_range(name, bad):
    with pytest.raises(ValueError, match=f"{name} must lie in"):
        gae(*_segment(0), **{name: bad})
