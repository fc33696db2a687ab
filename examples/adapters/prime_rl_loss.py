"""prime-rl's default loss: DPPO, a sum over tokens, which its trainer divides; here by a constant for each answer.

trref verify drpo.dppo examples/adapters/prime_rl_loss.py:loss --set max_length=6 \\
    --reference kind=total_variation --reference bound=1e15
"""

from types import SimpleNamespace

from prime_rl.trainer.rl.loss import default_loss_fn


def loss(log_prob, old_log_prob, advantage, mask, max_length, radius_low=0.15, radius_high=0.15):
    config = SimpleNamespace(dppo_mask_low=radius_low, dppo_mask_high=radius_high, adv_tau=1.0, kl_tau=0.0)
    inputs = SimpleNamespace(
        trainer_logprobs=log_prob,
        inference_logprobs=old_log_prob,
        advantages=advantage if advantage.ndim == 2 else advantage[:, None] * mask,
        loss_mask=mask.bool(),
        loss_weights=None,
    )
    return default_loss_fn(inputs, config).loss / (max_length * max(len(mask), 1))
