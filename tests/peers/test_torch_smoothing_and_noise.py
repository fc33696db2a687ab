"""Objectives with smoothed ratios, noisy rewards and conflict tokens, against autograd of PyTorch, to 1e-10."""

import numpy as np
import pytest

from tests.peers.by_autograd import compare, seq_mean, token_data, token_mean
from trref.tokens import gtpo, noisy_rlvr, pspo

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


# ---- PSPO


def _smoothed(x, alpha):
    p, q = x["log_prob"].exp(), x["old_log_prob"].exp()
    return ((1 - alpha) * p + alpha * q) / q


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_pspo(alpha, seed):
    x = token_data(seed)
    for name, mean in (("seq_mean", seq_mean), ("token_mean", token_mean)):
        theirs = lambda y, mean=mean: -mean(_smoothed(y, alpha) * y["advantage"][:, None], y)  # noqa: E731
        compare(pspo.pspo, {"alpha": alpha, "aggregation": name}, theirs, x)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_pspo_extensions(alpha, seed):
    def product(y):
        ratio = torch.where(y["mask"] > 0, _smoothed(y, alpha), torch.ones_like(y["mask"]))
        return -(ratio.prod(-1) * y["advantage"]).mean()

    def clipped(y):
        r, A = _smoothed(y, alpha), y["advantage"][:, None]
        return -seq_mean(torch.minimum(r * A, r.clamp(0.8, 1.2) * A), y)

    compare(pspo.pspo_sequence, {"alpha": alpha}, product, token_data(seed))
    compare(pspo.pspo_clipped, {"alpha": alpha, "clip": 0.2}, clipped, token_data(seed))


# ---- noisy rewards


@pytest.mark.parametrize("correction", ["backward", "forward", "naive"])
@pytest.mark.parametrize("baseline", ["none", "group_mean"])
def test_noisy_rlvr(correction, baseline):
    rng, B = np.random.default_rng(4), 12
    x = token_data(4) | {"rho0": 0.3 * rng.random(B), "rho1": 0.4 * rng.random(B)}

    def theirs(y):
        r = y["reward"]
        channel = torch.stack([torch.stack([1 - y["rho0"], y["rho0"]]), torch.stack([y["rho1"], 1 - y["rho1"]])])
        clean = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(B, 2)
        table = torch.linalg.solve(channel.permute(2, 0, 1), clean)
        s = {"backward": table.gather(1, r.long()[:, None])[:, 0], "forward": r - 1 + y["rho1"], "naive": r}[correction]
        if baseline == "group_mean":
            s = (s.reshape(3, 4) - s.reshape(3, 4).mean(1, keepdim=True)).reshape(-1)
        return -(s * (y["log_prob"] * y["mask"]).sum(1)).mean()

    compare(noisy_rlvr.corrected_gradient, {"correction": correction, "baseline": baseline}, theirs, x)


# ---- GTPO


def _in_conflict(x):
    """Weights by Python's sets, for full masks of one prompt."""
    rows, A = x["actions"].tolist(), x["advantage"].tolist()

    def run(rows):
        sides = [
            {(t, y) for row, a in zip(rows, A, strict=True) if s * a > 0 for t, y in enumerate(row)} for s in (1, -1)
        ]
        both = sides[0] & sides[1]
        return [[all((s, row[s]) in both for s in range(t + 1)) for t in range(len(row))] for row in rows]

    front, back = run(rows), [r[::-1] for r in run([row[::-1] for row in rows])]
    factor = [2.0 if a > 0 else 0.0 for a in A]
    return torch.tensor(
        [
            [f ** (int(a) + int(b)) for a, b in zip(p, q, strict=True)]
            for p, q, f in zip(front, back, factor, strict=True)
        ],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("seed", range(3))
def test_gtpo(seed):
    rng, x = np.random.default_rng(seed), token_data(seed)
    x["mask"][:] = 1
    x |= {"actions": rng.integers(0, 3, (12, 8)), "group": np.zeros(12, int), "entropy": 1.4 * rng.random((12, 8))}

    def theirs(y):
        mean = y["entropy"].mean(1)
        A = (mean <= np.log(2)) * (y["advantage"] - 0.1 * mean)
        return -seq_mean(torch.exp(y["log_prob"] - y["old_log_prob"]) * A[:, None] * _in_conflict(y), y)

    compare(gtpo.gtpo, {}, theirs, x)
