"""AReaL's policy loss: an advantage for every token, a Boolean mask, and the log-probabilities of a proximal policy.

trref verify dapo.dapo_over_batch examples/adapters/areal_policy_loss.py:loss
"""

from areal.utils.functional import ppo_actor_loss_fn


def loss(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    tokens = advantage if advantage.ndim == 2 else advantage[:, None] * mask
    clip = {"eps_clip": clip_low, "eps_clip_higher": clip_high}
    return ppo_actor_loss_fn(log_prob, old_log_prob, old_log_prob, tokens, loss_mask=mask.bool(), **clip)[0]
