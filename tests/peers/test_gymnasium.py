"""Cart-pole and pendulum step for step with Gymnasium, to 1e-6 over 200 steps."""

import numpy as np
import pytest

from trref.problems import control

gymnasium = pytest.importorskip("gymnasium")
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore:.*You are calling 'step:UserWarning")]


@pytest.mark.parametrize("seed", range(3))
def test_cartpole(seed):
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=seed)
    state, rng = np.array([env.state], dtype=float), np.random.default_rng(seed)
    ended = False
    for _ in range(200):
        # a rough controller keeps it up for a while, then it may fall and go on falling
        action = int(state[0, 2] + 0.3 * state[0, 3] + 0.3 * rng.standard_normal() > 0)
        observation, reward, terminated, _, _ = env.step(action)
        step = control.cartpole_step(state, np.array([action]))
        assert np.allclose(step.state[0], env.state, atol=1e-6, rtol=1e-9) and np.allclose(
            observation, step.state[0], atol=1e-5, rtol=1e-9
        )
        assert step.terminated[0] == terminated
        if not ended:
            assert step.reward[0] == reward
        ended |= terminated
        state = step.state


def test_cartpole_past_termination():
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=7)
    state, ends = np.array([env.state], dtype=float), []
    for _ in range(60):
        env.step(1)
        state, _, terminated = control.cartpole_step(state, np.array([1]))
        assert np.allclose(state[0], env.state, atol=1e-6 * max(1, abs(state).max()), rtol=1e-9)
        ends.append(terminated[0])
    assert ends[0] == 0 and ends[-1] == 1


@pytest.mark.parametrize("seed", range(3))
def test_pendulum(seed):
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=seed)
    state, rng = np.array([env.state], dtype=float), np.random.default_rng(seed)
    for _ in range(200):
        torque = rng.uniform(-3, 3)
        observation, reward, terminated, _, _ = env.step(np.array([torque]))
        step = control.pendulum_step(state, np.array([torque]))
        assert np.allclose(step.state[0], env.state, atol=1e-6, rtol=1e-9)
        assert np.allclose(control.pendulum_observation(step.state)[0], observation, atol=1e-5, rtol=1e-9)
        assert step.reward[0] == pytest.approx(reward, abs=1e-6) and not terminated
        state = step.state


def test_many_at_once_are_many_alone():
    rng = np.random.default_rng(0)
    together = control.cartpole_reset(rng, 5)
    alone = [row[None] for row in together]
    for _ in range(30):
        action = rng.integers(0, 2, 5)
        together = control.cartpole_step(together, action).state
        alone = [control.cartpole_step(s, action[i : i + 1]).state for i, s in enumerate(alone)]
    assert np.array_equal(together, np.concatenate(alone))
