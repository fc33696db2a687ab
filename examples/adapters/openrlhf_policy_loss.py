"""OpenRLHF's policy loss: a module, an advantage for every token, and the sizes that its trainer hands it.

trref verify dapo.dapo_over_batch examples/adapters/openrlhf_policy_loss.py:loss

It deviates: 'log-ratios clamped to ±20'.
"""

from openrlhf.models.loss import PolicyLoss


def loss(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    tokens = advantage if advantage.ndim == 2 else advantage[:, None] * mask
    sizes = {"batch_num_tokens": mask.sum().clamp(min=1), "global_batch_size": len(mask)}
    return PolicyLoss(clip_low, clip_high)(log_prob, old_log_prob, tokens, mask, **sizes)[0]
