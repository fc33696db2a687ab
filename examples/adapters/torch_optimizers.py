"""torch.optim's Adam as it is: a class with ``step`` needs no adapter, only the names of its constants.

trref verify adam.update examples/adapters/torch_optimizers.py:Adam --map 'beta1=betas[0]' --map 'beta2=betas[1]'

AdamW decays the weights by default; without that it is Adam.
"""

import torch
from torch.optim import Adam as Adam


class AdamWithoutDecay(torch.optim.AdamW):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=0.0)
