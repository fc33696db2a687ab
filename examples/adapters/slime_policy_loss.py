"""slime's policy loss: one term a token; its trainer, and here the option, takes the mean over each answer.

trref verify grpo.grpo examples/adapters/slime_policy_loss.py:loss --reduce seq_mean
"""

from slime.utils.ppo_utils import compute_policy_loss


def loss(log_prob, old_log_prob, advantage, mask, clip=0.2):
    tokens = advantage if advantage.ndim == 2 else advantage[:, None] * mask
    return compute_policy_loss(old_log_prob - log_prob, tokens, clip, clip)[0]
