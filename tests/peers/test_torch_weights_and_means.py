"""Clipped weights, soft gates, and ratios of whole answers, against autograd of PyTorch, to 1e-10."""

import pytest

from tests.peers.by_autograd import compare, seq_mean, token_data, token_mean
from trref.tokens import cispo

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _ratio(x):
    return torch.exp(x["log_prob"] - x["old_log_prob"])


def _cispo(x, low, high, mean):
    return mean(-_ratio(x).clamp(low, high).detach() * x["advantage"][:, None] * x["log_prob"], x)


CASES = {
    "cispo": (cispo.cispo, {}, lambda x: _cispo(x, 0, 5, token_mean)),
    "cispo, bounds of PPO": (
        cispo.cispo,
        {"clip_low": 0.2, "clip_high": 0.2, "aggregation": "seq_mean"},
        lambda x: _cispo(x, 0.8, 1.2, seq_mean),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("spread", [0.05, 0.4, 1.5])
def test_objective(name, spread):
    ours, hyper, theirs = CASES[name]
    compare(ours, hyper, theirs, token_data(0, spread=spread))
