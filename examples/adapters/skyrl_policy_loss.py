"""SkyRL's policy loss: the advantages are scaled first, so that its sum over tokens is the mean that is configured.

trref verify grpo.grpo examples/adapters/skyrl_policy_loss.py:loss

It deviates: 'log-ratios clamped to ±20', and the ratio is computed in float32.
"""

import types

from skyrl.backends.skyrl_train.utils import ppo_utils


def loss(log_prob, old_log_prob, advantage, mask, clip=0.2):
    tokens = advantage if advantage.ndim == 2 else advantage[:, None] * mask
    scale = ppo_utils.apply_loss_reduction_to_advantages_minibatch
    tokens = scale(tokens, mask, "sequence_mean", len(mask), mask.shape[1])
    config = types.SimpleNamespace(
        policy_loss_type="regular", eps_clip_low=clip, eps_clip_high=clip, off_policy_correction=None
    )
    return ppo_utils.ppo_policy_loss(log_prob, old_log_prob, tokens, config, mask)[0]
