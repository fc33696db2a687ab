"""TRPO and PPO solve cart-pole; environments and episode ends are what they should be."""

import numpy as np
import pytest

from trref.experiments.control import GAMMA, POLICY, VALUE, CartPoles, _Value, evaluate, learn_cartpole


def test_trpo_solves_cart_pole_within_its_bound():
    """A mean return of 475 over 100 episodes, after at most 150,000 steps, in at least 4 of 5 seeds."""
    returns = []
    for seed in range(5):
        run = learn_cartpole("trpo", seed=seed, steps=100_000, delta=0.01)
        assert run.steps[-1] <= 150_000
        assert max(run.divergences) <= 0.01 * (1 + 1e-12), "no update leaves the trust region"
        assert min(run.gains) >= -1e-12, "and none makes its surrogate worse"
        assert np.mean(run.accepted) > 0.9, "nearly all are made"
        episodes = evaluate(run.theta, seed=[seed, 1], episodes=100)
        assert episodes.shape == (100,)
        returns.append(episodes.mean())
    assert sum(r >= 475 for r in returns) >= 4, returns


def test_ppo_learns():
    run = learn_cartpole("ppo", seed=0, steps=60_000)
    assert evaluate(run.theta, seed=1).mean() > 5 * np.mean(run.returns[:2])


def test_one_seed_is_one_run():
    one, other = (learn_cartpole("trpo", seed=3, steps=4096) for _ in range(2))
    assert one.theta.tobytes() == other.theta.tobytes() and one.returns == other.returns


def test_episodes_end_and_start():
    rng = np.random.default_rng(0)
    environment, theta = CartPoles(rng, 8), POLICY.init(rng)
    batch, lengths = environment.collect(theta, 200)
    ended = batch.terminated + batch.truncated
    assert ended.max() == 1 and lengths.sum() + environment.age.sum() == 200 * 8
    following, now = batch.next_observation[:-1], batch.observation[1:]
    assert np.array_equal(following[ended[:-1] == 0], now[ended[:-1] == 0])
    fresh = now[ended[:-1] == 1]
    assert (abs(fresh) <= 0.05 / np.array([0.4, 1.0, 0.1, 1.0]) + 1e-15).all()


def test_a_time_limit_truncates():
    environment = CartPoles(np.random.default_rng(0), 4)
    environment.age = environment.age + 498
    batch, _ = environment.collect(POLICY.init(np.random.default_rng(1)), 3)
    assert batch.truncated[1].all() and not batch.terminated.any() and not batch.truncated[[0, 2]].any()


def test_learning_keeps_failure_and_the_time_limit_apart():
    """Where an episode ends the estimate is one residual: with the value of the state reached, or without."""
    environment, value = CartPoles(np.random.default_rng(0), 4), _Value(np.random.default_rng(2))
    environment.age = environment.age + 498
    batch, _ = environment.collect(POLICY.init(np.random.default_rng(1)), 60)
    advantage, target = value.estimates(batch)
    now, reached = (VALUE(value.phi, x.reshape(-1, 4)).reshape(60, 4) for x in (batch[0], batch.next_observation))
    limit, failure = batch.truncated == 1, batch.terminated == 1
    assert limit.any() and failure.any()
    assert np.allclose(advantage[limit], ((1 - GAMMA) * batch.reward + GAMMA * reached - now)[limit], rtol=1e-12)
    assert np.allclose(advantage[failure], ((1 - GAMMA) * batch.reward - now)[failure], rtol=1e-12)
    assert np.array_equal(target, advantage + now)


def test_unknown_method():
    with pytest.raises(ValueError, match="method must be"):
        learn_cartpole("sarsa", seed=0)
