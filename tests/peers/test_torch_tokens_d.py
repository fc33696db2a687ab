"""Objectives with smoothed ratios, noisy rewards and conflict tokens, against autograd of PyTorch, to 1e-10."""

import numpy as np
import pytest

from trref.tokens import pspo, pspo_extensions

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
