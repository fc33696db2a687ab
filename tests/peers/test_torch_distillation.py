"""Losses with a teacher against PyTorch's autograd, written as trainers write them."""

import numpy as np
import pytest

from tests.peers.by_autograd import compare, seq_mean, token_data
from trref.distillation.rlad import rlad, rlad_with_kl

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _taught(seed, spread):
    """The teacher's log-probabilities beside those of `token_data`."""
    data = token_data(seed)
    rng = np.random.default_rng([seed, 1])
    teacher = data["old_log_prob"] + spread * rng.standard_normal(data["mask"].shape)
    return data | {"teacher_log_prob": -abs(teacher)}


def _rlad(x, share, clamp, low, high, kl_weight=0.0):
    to_teacher = torch.clamp(x["log_prob"] - x["teacher_log_prob"], -clamp, clamp)
    ratio = torch.exp(share * (x["log_prob"] - x["old_log_prob"]) + (1 - share) * to_teacher)
    A = x["advantage"][:, None]
    loss = torch.maximum(-A * ratio, -A * torch.clamp(ratio, 1 - low, 1 + high))
    d = x["ref_log_prob"] - x["log_prob"]
    return seq_mean(loss + kl_weight * (torch.exp(d) - d - 1), x)


@pytest.mark.parametrize(("share", "clamp"), [(0.5, 1.0), (0.2, 0.3), (0.9, 5.0), (0.0, 1.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_rlad(seed, share, clamp):
    hyper = {"old_share": share, "teacher_clip": clamp}
    compare(rlad, hyper, lambda x: _rlad(x, share, clamp, 0.2, 0.28), _taught(seed, 1.0))
    full = hyper | {"kl_weight": 0.3, "clip_low": 0.1, "clip_high": 0.4}
    compare(rlad_with_kl, full, lambda x: _rlad(x, share, clamp, 0.1, 0.4, 0.3), _taught(seed, 1.0))
