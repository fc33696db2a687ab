"""The same loss, repaired."""

import torch


def loss(log_prob, old_log_prob, advantage, clip=0.2):
    ratio = torch.exp(log_prob - old_log_prob)
    unclipped = ratio * advantage
    clipped = ratio.clamp(1 - clip, 1 + clip) * advantage
    return -torch.min(unclipped, clipped).mean()
