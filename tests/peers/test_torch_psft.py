"""PSFT and supervised fine-tuning against PyTorch: PPO's clipped loss with advantages of 1, and its cross-entropy."""

import numpy as np
import pytest

from tests.peers.by_autograd import close, compare, token_data, token_mean
from tests.tokens.batches import vocabulary_batch
from trref.distillation.psft import clipped_share, psft, sft

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _ppo(x, low=0.2, high=0.28):
    """As trainers write it: the larger of two losses, both bounds, an advantage that here is 1."""
    ratio, advantage = torch.exp(x["log_prob"] - x["old_log_prob"]), torch.ones_like(x["log_prob"])
    return token_mean(torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - low, 1 + high)), x)


@pytest.mark.parametrize("high", [0.05, 0.28, 3.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_psft(seed, high):
    batch = token_data(seed)
    compare(psft, {"clip_high": high}, lambda x: _ppo(x, high=high), batch)
    ratio = np.exp(batch["log_prob"] - batch["old_log_prob"])
    share = (ratio > 1 + high)[batch["mask"] == 1].mean()
    assert clipped_share(*(batch[n] for n in ("log_prob", "old_log_prob", "mask")), clip_high=high) == pytest.approx(
        share
    )


def test_psft_by_the_logits():
    """Through log_softmax and gather, as in training."""
    logits, old_logits, actions, _, mask = vocabulary_batch(3, B=6, T=5, V=7)
    z, z_old, y, m = (torch.tensor(v) for v in (logits, old_logits, actions, mask))
    z.requires_grad_()
    taken = [torch.log_softmax(v, -1).gather(2, y[..., None])[..., 0] for v in (z, z_old)]
    loss = _ppo({"log_prob": taken[0], "old_log_prob": taken[1], "mask": m})
    loss.backward()
    value, coefficient = psft(*(t.detach().numpy() for t in taken), mask)
    close(value, loss)
    q = np.exp(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    close(coefficient[..., None] * (np.eye(7)[actions] - q), z.grad)


def test_sft_is_cross_entropy():
    logits, _, actions, _, mask = vocabulary_batch(4, B=6, T=5, V=7)
    labels = torch.tensor(np.where(mask == 1, actions, -100))
    theirs = torch.nn.functional.cross_entropy(torch.tensor(logits).flatten(0, 1), labels.flatten())
    log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    close(sft(np.take_along_axis(log_q, actions[..., None], 2)[..., 0], mask)[0], theirs)
    compare(sft, {}, lambda x: token_mean(-x["log_prob"], x), token_data(5))
