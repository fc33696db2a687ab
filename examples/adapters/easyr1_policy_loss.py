"""EasyR1's policy loss over the tokens of the batch, with a dual clip that nothing reaches.

trref verify dapo.dapo_over_batch examples/adapters/easyr1_policy_loss.py:loss

It deviates: 'log-ratios clamped to ±20', and 1e-8 is added to the number of tokens.
"""

from verl.trainer.core_algos import compute_policy_loss  # EasyR1's package has this name


def loss(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    tokens = advantage if advantage.ndim == 2 else advantage[:, None] * mask
    constants = {"clip_ratio_low": clip_low, "clip_ratio_high": clip_high, "clip_ratio_dual": 1e30}
    constants |= {"tau_positive": 1.0, "tau_negative": 1.05}  # of its SAPO
    kinds = {"loss_type": "default", "loss_avg_mode": "token"}
    return compute_policy_loss(old_log_prob, log_prob, tokens, mask, **constants, **kinds)[0]
