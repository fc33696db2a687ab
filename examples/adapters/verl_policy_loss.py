"""verl's policy loss: a config object, a Boolean mask, an advantage for every token, and the sizes of the batch.

trref verify dapo.dapo_over_batch examples/adapters/verl_policy_loss.py:loss

It deviates: 'dual clip at 3 and log-ratios clamped to ±20'.
"""

from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.workers.config import ActorConfig


def loss(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    clip = {"clip_ratio_low": clip_low, "clip_ratio_high": clip_high}
    config = ActorConfig(strategy="fsdp", rollout_n=1, use_dynamic_bsz=True, **clip)
    config.global_batch_info.update(dp_size=1, batch_num_tokens=max(int(mask.sum()), 1), global_batch_size=len(mask))
    tokens = advantage if advantage.ndim == 2 else advantage[:, None] * mask
    compute = get_policy_loss_fn("vanilla")
    return compute(old_log_prob, log_prob, tokens, mask.bool(), loss_agg_mode="token-mean", config=config)[0]
