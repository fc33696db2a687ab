"""A policy loss as trainers of language models have it: names of its own, a config object, several results.

trref verify dapo.dapo_over_batch examples/adapters/trainer_with_config.py:policy_loss \\
    --map log_prob=logprobs --map old_log_prob=old_logprobs --map advantage=advantages --map mask=response_mask \\
    --map clip_low=config.clip_ratio_low --map clip_high=config.clip_ratio_high \\
    --theirs config.loss_agg_mode=token-mean --mask bool --return 0 --assume answers

It takes one advantage an answer: what it does with others, --assume answers leaves aside.
"""

import torch


def masked_mean(values, mask):
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def policy_loss(old_logprobs, logprobs, advantages, response_mask, config):
    assert config.loss_agg_mode == "token-mean"
    ratio = torch.exp(logprobs - old_logprobs)
    unclipped = ratio * advantages[:, None]
    low, high = 1 - config.clip_ratio_low, 1 + config.clip_ratio_high
    clipped = ratio.clamp(low, high) * advantages[:, None]
    losses = -torch.minimum(unclipped, clipped)
    clip_fraction = masked_mean((clipped < unclipped).double(), response_mask)
    return masked_mean(losses, response_mask), {"clip_fraction": clip_fraction.item()}
