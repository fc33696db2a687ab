"""Stable-Baselines3's rollout buffer, filled as its collector fills it.

trref verify gae.gae examples/adapters/stable_baselines3_gae.py:gae

The buffer knows one kind of end. Where a time limit ended an episode, the collector adds the value of the state reached
to the reward, and so does this.
"""

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer


def gae(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    def rows(x):
        return x.reshape(len(x), -1).astype(reward.dtype)

    bootstrap = gamma * rows(next_value) * rows(truncated) * (1 - rows(terminated))
    ended = np.maximum(rows(terminated), rows(truncated))
    space = spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(len(reward), space, space, device="cpu", gae_lambda=lam, gamma=gamma, n_envs=ended.shape[1])
    buffer.rewards, buffer.values = rows(reward) + bootstrap, rows(value)
    buffer.episode_starts = np.vstack([np.zeros_like(ended[:1]), ended[:-1]])
    buffer.advantages = np.zeros_like(buffer.rewards)
    buffer.compute_returns_and_advantage(torch.tensor(rows(next_value)[-1]), ended[-1])
    return buffer.advantages.reshape(reward.shape)
