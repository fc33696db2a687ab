"""NeMo-RL's loss: a class, and a dictionary of tensors whose first column it drops.

trref verify gspo.gspo examples/adapters/nemo_rl_loss.py:loss

It deviates: 'a small number in a denominator', the 1e-8 that it adds to the number of tokens.
"""

import torch
from nemo_rl.algorithms.loss.loss_functions import ClippedPGLossConfig, ClippedPGLossFn


def loss(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
    config = ClippedPGLossConfig(
        ratio_clip_min=clip_low,
        ratio_clip_max=clip_high,
        reference_policy_kl_penalty=0.0,
        token_level_loss=False,
        sequence_level_importance_ratios=True,
    )
    tokens = advantage if advantage.ndim == 2 else advantage[:, None] * mask
    columns = {"token_mask": mask, "advantages": tokens, "prev_logprobs": old_log_prob}
    data = {name: torch.nn.functional.pad(x, (1, 0)) for name, x in columns.items()}
    data |= {"generation_logprobs": data["prev_logprobs"], "sample_mask": torch.ones(len(mask), dtype=mask.dtype)}
    return ClippedPGLossFn(config)(log_prob, data, torch.tensor(float(len(mask))), mask.sum())[0]
