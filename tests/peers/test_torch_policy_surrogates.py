"""Surrogates of policies against PyTorch's autograd, written as trainers write them."""

import numpy as np
import pytest

from tests.peers.by_autograd import compare
from trref.policy.spo import penalised_surrogate

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _samples(seed, N=40):
    rng = np.random.default_rng(seed)
    old = -rng.exponential(1.5, N)
    return {
        "log_prob": old + 0.4 * rng.standard_normal(N),
        "old_log_prob": old,
        "advantage": rng.standard_normal(N),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_spo(seed):
    """As the authors' trainer has it."""

    def loss(x):
        ratio, A = torch.exp(x["log_prob"] - x["old_log_prob"]), x["advantage"]
        return -(ratio * A - A.abs() * (ratio - 1).pow(2) / (2 * 0.3)).mean()

    compare(penalised_surrogate, {"radius": 0.3}, loss, _samples(seed))
