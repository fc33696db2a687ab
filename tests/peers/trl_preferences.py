"""The losses of TRL's trainers as released, run on log-probabilities: only the model and the logging are stand-ins."""

import collections
import types

import numpy as np

__all__ = ["cpo_loss", "dpo_loss", "gradients", "orpo_loss"]


def _accelerator():
    return types.SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x)


def _tokens(sums, lengths, width):
    """Tokens of equal log-probability that add up to the sums, and their mask."""
    import torch

    mask = (torch.arange(width) < lengths[:, None]).to(sums.dtype)
    return mask * (sums / lengths)[:, None], mask


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, *, loss_type, beta, label_smoothing=0.0, lengths=None):
    """`DPOTrainer._compute_loss` of tensors (B,): its mean over the batch."""
    import torch
    from trl.trainer.dpo_trainer import DPOTrainer

    sums = torch.cat([chosen, rejected])
    lengths = torch.ones_like(sums) if lengths is None else torch.cat(lengths)
    width = int(lengths.max())
    per_token, mask = _tokens(sums, lengths, width)
    completion = torch.cat([torch.zeros(len(sums), 1), mask], 1).long()  # a prompt of one token
    nothing = torch.zeros_like(mask)
    outputs = types.SimpleNamespace(
        log_probs=per_token, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool(), log_sum_sq_probs=nothing
    )

    def model(**_):
        return outputs

    model.training = True
    trainer = types.SimpleNamespace(
        model=model,
        accelerator=_accelerator(),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=label_smoothing,
        use_weighting=False,
        args=types.SimpleNamespace(discopop_tau=0.05),
        _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {
        "input_ids": torch.zeros_like(completion),
        "attention_mask": torch.ones_like(completion),
        "completion_mask": completion,
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }
    return DPOTrainer._compute_loss(trainer, model, inputs, False)


def cpo_loss(chosen, rejected, *, loss_type, beta, label_smoothing=0.0, simpo_gamma=0.5):
    """`CPOTrainer.cpo_loss`: its mean over the batch."""
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    trainer = types.SimpleNamespace(
        alpha=0.0,
        beta=beta,
        loss_type=loss_type,
        label_smoothing=label_smoothing,
        simpo_gamma=simpo_gamma,
        accelerator=_accelerator(),
    )
    return CPOTrainer.cpo_loss(trainer, chosen, rejected)[0].mean()


def orpo_loss(chosen, rejected, *, beta):
    """`ORPOTrainer.odds_ratio_loss` of means over tokens, in its float32: minus the mean, as the trainer takes it."""
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    trainer = types.SimpleNamespace(beta=beta, accelerator=_accelerator())
    return -ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)[0].mean()


def gradients(loss, *arrays):
    """A loss of tensors, and its gradients by the first two, as arrays."""
    import torch

    tensors = [torch.tensor(x, requires_grad=i < 2) for i, x in enumerate(arrays)]
    value = loss(*tensors)
    found = torch.autograd.grad(value, tensors[:2], allow_unused=True)
    return float(value.detach()), *(
        np.zeros(t.shape) if g is None else g.numpy() for g, t in zip(found, tensors, strict=False)
    )
