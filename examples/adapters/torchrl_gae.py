"""TorchRL's generalised advantages: environments first, time second, a column of features last; Boolean flags.

trref verify gae.gae examples/adapters/torchrl_gae.py:gae
"""

import torch
from torchrl.objectives.value.functional import generalized_advantage_estimate


def gae(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
    def there(x):
        return x.reshape(len(x), -1).T[..., None]

    # as Python numbers they would be rounded to float32
    gamma, lam = (torch.tensor(x, dtype=reward.dtype) for x in (gamma, lam))
    ended, final = there(terminated + truncated) > 0, there(terminated) > 0
    advantage, _ = generalized_advantage_estimate(
        gamma, lam, there(value), there(next_value), there(reward), done=ended, terminated=final
    )
    return advantage[..., 0].T.reshape(reward.shape)
