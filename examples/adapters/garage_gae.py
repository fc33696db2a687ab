"""garage's advantages: an episode a row, padded, in float32.

trref verify gae.gae examples/adapters/garage_gae.py:gae --rows

It deviates: 'float32 inside', which its convolution asks for.
"""

from garage.torch._functions import compute_advantages


def gae(reward, value, mask, gamma=0.99, lam=0.95):
    return compute_advantages(gamma, lam, reward.shape[1], value.float(), reward.float()) * mask
