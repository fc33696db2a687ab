"""open-instruct's loss: one term a token, from the ratio; its trainer, and here the option, takes the mean over tokens.

trref verify dapo.dapo_over_batch examples/adapters/open_instruct_loss.py:loss --reduce token_mean
"""

from types import SimpleNamespace

import torch
from open_instruct.grpo_utils import GRPOLossType, compute_grpo_loss


def loss(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    tokens = advantage if advantage.ndim == 2 else advantage[:, None] * mask
    ratio = torch.exp(log_prob - old_log_prob)
    config = SimpleNamespace(loss_fn=GRPOLossType.dapo, clip_lower=clip_low, clip_higher=clip_high)
    return compute_grpo_loss(log_prob, ratio, tokens, None, config, torch.ones_like(ratio))[0]
