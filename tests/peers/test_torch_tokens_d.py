"""Objectives with smoothed ratios, noisy rewards and conflict tokens, against autograd of PyTorch, to 1e-10."""

import numpy as np
import pytest

from trref.tokens import gtpo, noisy_rlvr, pspo, pspo_extensions

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _batch(seed, B=10, T=8, spread=0.5):
    rng = np.random.default_rng(seed)
    old = -rng.exponential(1.5, (B, T))
    mask = (np.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    return {
        "log_prob": old + spread * rng.standard_normal((B, T)),
        "old_log_prob": old,
        "advantage": rng.standard_normal(B),
        "mask": mask,
    }


def _compare(ours, theirs, x, **hyper):
    loss, gradient = ours(**x, **hyper)
    tensors = {name: torch.tensor(value) for name, value in x.items()}
    tensors["log_prob"].requires_grad_(True)
    value = theirs(tensors)
    value.backward()
    assert loss == pytest.approx(value.item(), rel=1e-10, abs=1e-12)
    assert np.allclose(gradient, tensors["log_prob"].grad.numpy(), rtol=1e-10, atol=1e-13)


def _seq_mean(term, x):
    return -((term * x["mask"]).sum(-1) / x["mask"].sum(-1).clamp(min=1)).mean()


def _token_mean(term, x):
    return -(term * x["mask"]).sum() / x["mask"].sum().clamp(min=1)


# ---- PSPO


def _smoothed(x, alpha):
    p, q = x["log_prob"].exp(), x["old_log_prob"].exp()
    return ((1 - alpha) * p + alpha * q) / q


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_pspo(alpha, seed):
    x = _batch(seed)
    for name, mean in (("seq_mean", _seq_mean), ("token_mean", _token_mean)):
        _compare(
            pspo.pspo,
            lambda y, mean=mean: mean(_smoothed(y, alpha) * y["advantage"][:, None], y),
            x,
            alpha=alpha,
            aggregation=name,
        )


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_pspo_extensions(alpha, seed):
    def product(y):
        ratio = torch.where(y["mask"] > 0, _smoothed(y, alpha), torch.ones_like(y["mask"]))
        return -(ratio.prod(-1) * y["advantage"]).mean()

    def clipped(y):
        r, A = _smoothed(y, alpha), y["advantage"][:, None]
        return _seq_mean(torch.minimum(r * A, r.clamp(0.8, 1.2) * A), y)

    _compare(pspo_extensions.pspo_sequence, product, _batch(seed), alpha=alpha)
    _compare(pspo_extensions.pspo_clipped, clipped, _batch(seed), alpha=alpha, clip=0.2)


# ---- noisy rewards


@pytest.mark.parametrize("correction", ["backward", "forward", "naive"])
@pytest.mark.parametrize("baseline", ["none", "group_mean"])
def test_noisy_rlvr(correction, baseline):
    rng, B = np.random.default_rng(4), 10
    x = {name: value for name, value in _batch(4).items() if name in ("log_prob", "mask")}
    x |= {"reward": (rng.random(B) < 0.5).astype(float), "group": np.repeat([0, 1], 5)}
    x |= {"rho0": 0.3 * rng.random(B), "rho1": 0.4 * rng.random(B)}

    def theirs(y):
        r = y["reward"]
        channel = torch.stack([torch.stack([1 - y["rho0"], y["rho0"]]), torch.stack([y["rho1"], 1 - y["rho1"]])])
        clean = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(B, 2)
        table = torch.linalg.solve(channel.permute(2, 0, 1), clean)
        s = {"backward": table.gather(1, r.long()[:, None])[:, 0], "forward": r - 1 + y["rho1"], "naive": r}[correction]
        if baseline == "group_mean":
            s = (s.reshape(2, 5) - s.reshape(2, 5).mean(1, keepdim=True)).reshape(-1)
        return -(s * (y["log_prob"] * y["mask"]).sum(1)).mean()

    _compare(noisy_rlvr.corrected_gradient, theirs, x, correction=correction, baseline=baseline)


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
    rng, x = np.random.default_rng(seed), _batch(seed)
    x["mask"][:] = 1
    x |= {"actions": rng.integers(0, 3, (10, 8)), "group": np.zeros(10, int), "entropy": 1.4 * rng.random((10, 8))}

    def theirs(y):
        mean = y["entropy"].mean(1)
        A = (mean <= np.log(2)) * (y["advantage"] - 0.1 * mean)
        return _seq_mean(torch.exp(y["log_prob"] - y["old_log_prob"]) * A[:, None] * _in_conflict(y), y)

    _compare(gtpo.gtpo, theirs, x)
