"""Clipped weights, soft gates, and ratios of whole answers, against autograd of PyTorch, to 1e-10."""

import numpy as np
import pytest

from tests.peers.by_autograd import close, compare, seq_mean, token_data, token_mean
from trref.tokens import (
    cispo,
    covariance_clip,
    gmpo,
    gspo_token,
    lite_ppo,
    luspo,
    rloo,
    rollout_correction,
    sapo,
    value_loss,
    vespo,
)

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _ratio(x):
    return torch.exp(x["log_prob"] - x["old_log_prob"])


def _cispo(x, low, high, mean):
    return mean(-_ratio(x).clamp(low, high).detach() * x["advantage"][:, None] * x["log_prob"], x)


def _log_s(x):
    d = (x["log_prob"] - x["old_log_prob"]) * x["mask"]
    return (d.sum(-1) / x["mask"].sum(-1).clamp(min=1))[:, None]


def _clip(ratio, x, low, high):
    A = x["advantage"][:, None]
    return -torch.min(ratio * A, ratio.clamp(1 - low, 1 + high) * A)


def _luspo(x):
    return (_clip(torch.exp(_log_s(x)), x, 0.1, 0.2) * x["mask"]).sum(-1).mean()


def _gspo_token(x):
    ratio = torch.exp(_log_s(x).detach() + (x["log_prob"] - x["log_prob"].detach()))
    return seq_mean(_clip(ratio, x, 0.1, 0.2), x)


def _gmpo(x):
    d, A = x["log_prob"] - x["old_log_prob"], x["advantage"][:, None]
    sign = torch.sign(A)
    cut = sign * torch.min(sign * d, sign * d.clamp(-0.4, 0.4))
    s = torch.exp((cut * x["mask"]).sum(-1) / x["mask"].sum(-1).clamp(min=1))
    return -(s * x["advantage"] * (x["mask"].sum(-1) > 0)).mean()


def _sapo(x):
    A = x["advantage"][:, None]
    tau = 1.0 + 0.05 * (A <= 0).double()
    return seq_mean(-4 / tau * torch.sigmoid(tau * (_ratio(x) - 1)) * A, x)


def _vespo(x):
    log_W, A = ((x["log_prob"] - x["old_log_prob"]) * x["mask"]).sum(-1, keepdim=True), x["advantage"][:, None]
    k, rate = 2.0 + (A < 0).double(), 3.0 - (A < 0).double()
    weight = torch.exp(k * log_W + rate - rate * torch.exp(log_W)).detach()
    return token_mean(-weight * A * x["log_prob"], x)


def _lite_ppo(x):
    same = (x["group"][:, None] == x["group"][None, :]).double()
    A = (x["reward"] - same @ x["reward"] / same.sum(-1)) / (x["reward"].std() + 1e-6)
    return token_mean(_clip(_ratio(x), {**x, "advantage": A}, 0.2, 0.2), x)


def _rloo(x):
    R = torch.exp(((x["log_prob"] - x["old_log_prob"]) * x["mask"]).sum(-1))
    A = x["advantage"]
    return -torch.min(R * A, R.clamp(0.8, 1.2) * A).mean()


def _corrected(x, level, masked):
    d = x["old_log_prob"] - x["behavior_log_prob"]
    d = d if level == "token" else (d * x["mask"]).sum(-1, keepdim=True)
    W = torch.exp(d)
    W = W * ((W >= 0.5) & (W <= 5)) if masked else W.clamp(max=2)
    return token_mean(W * _clip(_ratio(x), x, 0.2, 0.2), x)


def _kl_cov(x):
    A, d = x["advantage"][:, None], x["log_prob"] - x["old_log_prob"]
    return token_mean(-torch.exp(d) * A + 0.7 * x["chosen"] * d.abs(), x)


def _clip_cov(x):
    return token_mean(_clip(_ratio(x), x, 0.2, 0.2) * (1 - x["dropped"]), x)


CASES = {
    "cispo": (cispo.cispo, {}, lambda x: _cispo(x, 0, 5, token_mean)),
    "cispo, bounds of PPO": (
        cispo.cispo,
        {"clip_low": 0.2, "clip_high": 0.2, "aggregation": "seq_mean"},
        lambda x: _cispo(x, 0.8, 1.2, seq_mean),
    ),
    "luspo": (luspo.luspo, {"clip_low": 0.1, "clip_high": 0.2}, _luspo),
    "gspo_token": (gspo_token.gspo_token, {"clip_low": 0.1, "clip_high": 0.2}, _gspo_token),
    "gmpo": (gmpo.gmpo, {}, _gmpo),
    "sapo": (sapo.sapo, {}, _sapo),
    "rloo": (rloo.rloo, {}, _rloo),
    "vespo": (vespo.vespo, {}, _vespo),
    "lite_ppo": (lite_ppo.lite_ppo, {}, _lite_ppo),
    "truncated weights of tokens": (
        rollout_correction.rollout_corrected,
        {},
        lambda x: _corrected(x, "token", masked=False),
    ),
    "IcePop": (
        rollout_correction.rollout_corrected,
        {"rule": "mask", "lower": 0.5, "upper": 5.0},
        lambda x: _corrected(x, "token", masked=True),
    ),
    "truncated weights of answers": (
        rollout_correction.rollout_corrected,
        {"level": "sequence"},
        lambda x: _corrected(x, "sequence", masked=False),
    ),
    "kl_cov": (covariance_clip.kl_cov, {"kl_weight": 0.7}, _kl_cov),
    "clip_cov": (covariance_clip.clip_cov, {}, _clip_cov),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("spread", [0.05, 0.4, 1.5])
def test_objective(name, spread):
    ours, hyper, theirs = CASES[name]
    batch = token_data(0, spread=spread)
    some = (np.random.default_rng(0).random(batch["mask"].shape) < 0.3).astype(float)
    compare(ours, hyper, theirs, batch | {"dropped": some, "chosen": some})


@pytest.mark.parametrize("kind", ["max", "min", "clipped"])
def test_value_loss(kind):
    rng = np.random.default_rng(1)
    value, old, target = rng.standard_normal((3, 6, 5))
    mask = (np.arange(5) < rng.integers(1, 6, (6, 1))).astype(float)
    V, old_V, R = torch.tensor(value, requires_grad=True), torch.tensor(old), torch.tensor(target)
    clipped = old_V + (V - old_V).clamp(-0.2, 0.2)
    u, u_clipped = (V - R) ** 2, (clipped - R) ** 2
    each = {"max": torch.max(u, u_clipped), "min": torch.min(u, u_clipped), "clipped": u_clipped}[kind]
    loss = 0.5 * token_mean(each, {"mask": torch.tensor(mask)})
    loss.backward()
    ours = value_loss.value_loss(value, old, target, mask, kind=kind)
    close(ours[0], loss)
    close(ours[1], V.grad)
