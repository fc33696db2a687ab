"""TRL's GRPO loss: a method of its trainer, which gets its log-probabilities from a model; here they are handed to it.

trref verify grpo.grpo examples/adapters/trl_grpo.py:loss
"""

import collections
from types import SimpleNamespace

import torch
from trl.trainer.grpo_trainer import GRPOTrainer


def loss(log_prob, old_log_prob, advantage, mask, clip=0.2):
    def kept(x, **_):
        return x

    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_prob, torch.zeros_like(log_prob), None),
        _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
        _entropy_bonus_enabled=False,
        accelerator=SimpleNamespace(num_processes=1, reduce=kept, gather=kept, gather_for_metrics=kept),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        aux_loss_enabled=False,
        beta=0.0,
        current_gradient_accumulation_steps=1,
        epsilon_low=clip,
        epsilon_high=clip,
        importance_sampling_level="token",
        loss_type="grpo",
        model=SimpleNamespace(training=False),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_vllm=False,
    )
    ids = torch.zeros(mask.shape, dtype=torch.long)
    inputs = dict.fromkeys(("prompt_ids", "prompt_mask", "completion_ids"), ids)
    inputs |= {"completion_mask": mask, "advantages": advantage, "old_per_token_logps": old_log_prob}
    inputs["num_items_in_batch"] = mask.sum()
    return GRPOTrainer._compute_loss(trainer, None, inputs)
