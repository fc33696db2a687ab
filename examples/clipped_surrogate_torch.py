"""The same loss in PyTorch: value by the function, gradient by autograd."""

import torch


def loss(log_prob, old_log_prob, advantage, clip=0.2):
    ratio = torch.exp(log_prob - old_log_prob)
    return -torch.min(ratio * advantage, torch.clamp(ratio, 1 - clip, 1 + clip) * advantage).mean()
