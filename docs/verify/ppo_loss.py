"""A policy loss, as a trainer has it."""

import torch


def loss(log_prob, old_log_prob, advantage, clip=0.2):
    ratio = torch.exp(log_prob - old_log_prob)
    unclipped = ratio * advantage
    clipped = unclipped.clamp(1 - clip, 1 + clip)
    return -torch.min(unclipped, clipped).mean()
