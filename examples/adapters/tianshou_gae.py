"""tianshou's generalised advantages, an environment at a time.

trref verify gae.gae examples/adapters/tianshou_gae.py:gae

Its caller sets the value that follows an end to 0, and marks ends and cuts by one flag, as here.
"""

import numpy as np
from tianshou.algorithm.algorithm_base import _gae


def gae(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    r, v, follows, d, c = (x.reshape(len(x), -1) for x in (reward, value, next_value, terminated, truncated))
    columns = zip(v.T, (follows * (1 - d)).T, r.T, (np.maximum(d, c) > 0).T, strict=True)
    return np.stack([_gae(*each, gamma, lam) for each in columns], 1).reshape(reward.shape)
