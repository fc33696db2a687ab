"""Objectives for stale data, elastic clips, confident errors and support, against autograd of PyTorch, to 1e-10."""

import numpy as np
import pytest

from tests.peers.by_autograd import close, compare, seq_mean, token_data, token_mean
from trref.tokens import a3po, ace, ace_regulariser, apo, etr, fiberpo, fiberpo_censoring, fiberpo_domain

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _clip(ratio, A, low, high):
    return torch.minimum(ratio * A, torch.clamp(ratio, 1 - low, 1 + high) * A)


# ---- A-3PO


def _anchored(x, anchor, cap=None, clamp=False):
    anchor = anchor.detach()
    w = torch.exp(anchor - x["behavior_log_prob"])
    if cap is not None:
        w = w.clamp(max=cap) if clamp else torch.where(w > cap, 0.0, w)
    return -token_mean(w * _clip(torch.exp(x["log_prob"] - anchor), x["advantage"][:, None], 0.2, 0.2), x)


def _interpolated(x, now=6, linear=False, **cap):
    d = (now - x["version"]).double()
    alpha = torch.where(d > 0, (d - 1) / d, torch.zeros_like(d)).clamp(0, 1)
    p, b = x["log_prob"].exp(), x["behavior_log_prob"].exp()
    anchor = (alpha * p + (1 - alpha) * b).log() if linear else torch.lerp(x["behavior_log_prob"], x["log_prob"], alpha)
    return _anchored(x, anchor, **cap)


# ---- ACE


def _ace(x, shape, low=0.2, high=0.2, mean=seq_mean):
    d = (x["log_prob"] - x["ref_log_prob"]).detach() * x["mask"]
    c = d.sum(-1) / x["mask"].sum(-1).clamp(min=1)
    A = torch.where(x["advantage"] < 0, x["advantage"] * (1 + shape(c)), x["advantage"])
    return -mean(_clip(torch.exp(x["log_prob"] - x["old_log_prob"]), A[:, None], low, high), x)


# ---- ETR


def _etr(x, matched=False):
    p = torch.stack([x["reward"][x["group"] == g].mean() for g in x["group"]])
    scale = (1 + 0.5 * torch.tanh(x["advantage"].abs())) * (1 + 2 * p * (1 - p))
    scale = scale / scale.mean() if matched else scale
    low, high = (0.2 * scale).clamp(max=0.95)[:, None], 0.2 * scale[:, None]
    ratio, A = torch.exp(x["log_prob"] - x["old_log_prob"]), x["advantage"][:, None]
    clipped = torch.maximum(torch.minimum(ratio, 1 + high), 1 - low)
    return -seq_mean(torch.minimum(ratio * A, clipped * A), x)


# ---- FiberPO


def _gate(x, C, T):
    inside = torch.sign(x) * (T + 1) * C - T * x
    return torch.where(x.abs() <= C, x, torch.where(x.abs() < (1 + 1 / T) * C, inside, torch.zeros_like(x)))


def _fiber(x, C_up=0.3, C_down=0.25, clip=0.2, nested=False):
    d = torch.where(x["mask"] > 0, x["log_prob"] - x["old_log_prob"], 0.0)
    T = x["mask"].sum(-1)
    s = {1: d.relu().sum(-1) / T, -1: (-d).relu().sum(-1) / T}
    base = 0
    for l, C in ((1, C_up), (-1, C_down)):
        if nested:
            same = (x["group"][:, None] == x["group"][None, :]).double()
            S, total = same @ s[l] / same.sum(-1), same @ T  # here each domain has one prompt
            base = base + l * (_gate(S, 0.4 * C, total) + _gate(s[l] - S, C, T))
        else:
            base = base + l * _gate(s[l], C, T)
    up = d >= 0
    own = torch.where(up, d - s[1][:, None], d + s[-1][:, None]).clamp(-clip, clip)
    other = torch.where(up, -s[-1][:, None], s[1][:, None]).clamp(-clip, clip)
    return -seq_mean(torch.exp(base[:, None] + own - other) * x["advantage"][:, None], x)


CASES = {
    "decoupled": (a3po.decoupled, {}, lambda x: _anchored(x, x["old_log_prob"])),
    "decoupled, masked": (a3po.decoupled, {"weight_cap": 1.2}, lambda x: _anchored(x, x["old_log_prob"], 1.2)),
    "a3po": (a3po.a3po, {"current_version": 6}, _interpolated),
    "a3po, linear": (
        a3po.a3po,
        {"current_version": 6, "interpolation": "linear"},
        lambda x: _interpolated(x, linear=True),
    ),
    "a3po, clamped": (
        a3po.a3po,
        {"current_version": 3, "weight_cap": 1.2, "over_cap": "clamp"},
        lambda x: _interpolated(x, 3, cap=1.2, clamp=True),
    ),
    "ace": (ace.ace, {}, lambda x: _ace(x, torch.nn.functional.softplus)),
    "ace, relu over DAPO": (
        ace.ace,
        {"shape": "relu", "clip_high": 0.28, "aggregation": "token_mean"},
        lambda x: _ace(x, torch.relu, high=0.28, mean=token_mean),
    ),
    "etr": (etr.etr, {}, _etr),
    "fiberpo": (fiberpo.fiberpo, {}, _fiber),
    "fiberpo, small budgets": (
        fiberpo.fiberpo,
        {"budget_up": 0.12, "budget_down": 0.05, "residual_clip": 0.04},
        lambda x: _fiber(x, 0.12, 0.05, 0.04),
    ),
    "fiberpo by domain": (fiberpo_domain.fiberpo_domain, {"domain_factor": 0.4}, lambda x: _fiber(x, nested=True)),
    "etr, matched": (etr.etr, {"budget": "matched"}, lambda x: _etr(x, True)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("spread", [0.05, 0.4, 1.5])
def test_objective(name, spread):
    ours, hyper, theirs = CASES[name]
    compare(ours, hyper, theirs, token_data(0, spread=spread))


@pytest.mark.parametrize("length", [1.0, 6.0])
def test_selective_regulariser(length):
    rng = np.random.default_rng(1)
    logits, reference, wrong = (
        rng.standard_normal((4, 6)),
        rng.standard_normal((4, 6)),
        rng.integers(0, 2, (4, 6)) + 0.0,
    )
    z = torch.tensor(logits, requires_grad=True)
    log_p = torch.log_softmax(z, -1)
    c = (log_p - torch.log_softmax(torch.tensor(reference), -1)) / length
    value = (log_p.exp() * torch.tensor(wrong) * torch.nn.functional.softplus(c)).sum(-1).mean()
    value.backward()
    ours = ace_regulariser.selective_regulariser(logits, reference, wrong, length=length)
    close(ours[0], value)
    close(ours[1], z.grad)


@pytest.mark.parametrize(("clipping", "K"), [("push", 2), ("push", 8), ("all", 3)])
def test_apo(clipping, K):
    rng, B, T, V = np.random.default_rng(2), 6, 5, 7
    old, A, actions = rng.standard_normal((B, T, V)), rng.standard_normal(B), rng.integers(0, V, (B, T))
    logits, ref = (old + 0.4 * rng.standard_normal((B, T, V)) for _ in range(2))
    mask = (np.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    z, y = torch.tensor(logits, requires_grad=True), torch.tensor(actions)[..., None]
    log_p, log_old, q = (torch.log_softmax(x, -1) for x in (z, torch.tensor(old), torch.tensor(ref)))
    ratio = (log_p - log_old).gather(-1, y)[..., 0].exp()
    chosen = torch.zeros(B, T, V).double().scatter(-1, q.topk(min(K, V), -1).indices, 1.0).scatter(-1, y, 0.0)
    anchor = (chosen * log_p.exp()).sum(-1) / (chosen * q.exp()).sum(-1)
    anchor = torch.where((chosen * q.exp()).sum(-1) < 0.01, 0.0, anchor)
    column = torch.tensor(A)[:, None]
    if clipping == "push":
        wrong = 1.05 * _clip(ratio, column, 0.2, 0.2) - 0.1 * anchor * column
    else:
        wrong = _clip(1.05 * ratio - 0.1 * anchor, column, 0.2, 0.2)
    term = torch.where(column < 0, wrong, _clip(ratio, column, 0.2, 0.2))
    loss = -seq_mean(term, {"mask": torch.tensor(mask)})
    loss.backward()
    ours = apo.apo(logits, old, actions, A, mask, ref, K=K, clipping=clipping)
    close(ours[0], loss)
    close(ours[1], z.grad)


@pytest.mark.parametrize("delta", [0.05, 0.3])
def test_apc(delta):
    rng = np.random.default_rng(3)
    ratio, A, state = np.exp(0.2 * rng.standard_normal(20)), rng.standard_normal(20), rng.integers(0, 6, 20)
    r, total = torch.tensor(ratio, requires_grad=True), 0
    for i in range(20):
        same = torch.tensor(state == state[i])
        others = same & (torch.arange(20) != i)
        B = (same.double().sum() * delta - (r[others] - 1).abs().sum()).clamp(min=0)
        total = total + (torch.minimum(torch.maximum(r[i] - 1, -B), B) + 1) * A[i]
    loss = -total / 20
    loss.backward()
    ours = fiberpo_censoring.apc(ratio, A, state, radius=delta)
    close(ours[0], loss)
    close(ours[1], r.grad)
