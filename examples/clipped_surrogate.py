"""PPO's clipped surrogate as a trainer might write it, in NumPy. ``trref verify`` says that it conforms."""

import numpy as np


def loss(log_prob, old_log_prob, advantage, clip=0.2):
    ratio = np.exp(log_prob - old_log_prob)
    return np.mean(np.maximum(-advantage * ratio, -advantage * np.clip(ratio, 1 - clip, 1 + clip)))
