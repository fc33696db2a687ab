"""Soft gates, prefix budgets, consistency and confident errors, against autograd of PyTorch, to 1e-10."""

import pytest

from tests.peers.by_autograd import compare, token_data, token_mean
from trref.tokens import copo, cppo, lens, maspo

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


# ---- MASPO


def _maspo(x, detach, sigma=1.0, alpha=0.3, high=10.0, beta=0.03):
    A, ratio = x["advantage"][:, None], torch.exp(x["log_prob"] - x["old_log_prob"])
    mass = torch.clamp(sigma / torch.exp(x["old_log_prob"]) ** alpha, sigma, high)
    up, down = torch.clamp(1 + beta * A, 0.1, 10), torch.clamp(1 / (1 - beta * A), 0.1, 10)
    moved = ratio.detach() if detach else ratio
    gates = [torch.exp(-((moved - 1) ** 2) / 2 / (mass * risk) ** 2) for risk in (up, down)]
    gated = torch.where((A > 0) & (ratio > 1), gates[0] * ratio, ratio)
    gated = torch.where((A < 0) & (ratio < 1), gates[1] * ratio, gated)
    return -token_mean(gated * A, x)


def _differentiated(log_prob, old_log_prob, advantage, mask):
    width = maspo.mass_width(old_log_prob) * maspo.risk_width(advantage)[:, None]
    return maspo.maspo_differentiated(log_prob, old_log_prob, advantage, mask, width)


# ---- CPPO


def _cppo(x, D, delta, delta_b, w_min, dynamic):
    """Answer by answer, tokens packed."""
    ratio, A = torch.exp(x["log_prob"] - x["old_log_prob"]), x["advantage"][:, None]
    keep = torch.zeros_like(x["mask"])
    for i, n in enumerate(x["mask"].sum(1).int().tolist()):
        d = D[i, :n].detach()
        w = torch.linspace(1, w_min, n, dtype=d.dtype) if n > 1 else torch.ones(1, dtype=d.dtype)
        b = torch.quantile(d, 0.9).clamp(delta_b, 2 * delta_b) if dynamic else delta_b
        S, W = torch.cumsum(w * d, 0) - w * d, torch.cumsum(w, 0) - w
        keep[i, :n] = ((A[i] * (ratio[i, :n] - 1) <= 0) | (w * d <= (delta + b * W - S).clamp(max=delta))).double()
    return -token_mean(ratio * A * keep, x)


# ---- COPO


def _clip_mean(x, A, clip):
    ratio = torch.exp(x["log_prob"] - x["old_log_prob"])
    term = torch.minimum(ratio * A[:, None], torch.clamp(ratio, 1 - clip, 1 + clip) * A[:, None])
    return -(term * x["mask"]).sum(-1) / x["mask"].sum(-1).clamp(min=1)


def _copo(x, gamma, threshold, blend, clip=0.2):
    groups = x["group"].unique()
    R = torch.stack([x["reward"][x["group"] == g].mean() for g in groups])
    z = (R - R.mean()) / R.std(correction=0)
    H = []
    for g in groups:
        f = torch.unique(x["answer"][x["group"] == g], return_counts=True)[1].double()
        H.append(torch.distributions.Categorical(probs=f).entropy())
    w, A = torch.sigmoid(gamma * (torch.stack(H) - threshold))[x["group"]], z[x["group"]]
    if blend:
        return _clip_mean(x, w * x["advantage"] + (1 - w) * A, clip).mean()
    return (w * _clip_mean(x, x["advantage"], clip) + (1 - w) * _clip_mean(x, A, clip)).mean()


# ---- LENS


def _lens(x, alpha):
    log_p = (x["mask"] * x["old_log_prob"]).sum(1) / x["mask"].sum(1).clamp(min=1)
    A = torch.zeros_like(x["reward"])
    for g in x["group"].unique():
        rows = x["group"] == g
        p, r = log_p[rows].exp(), x["reward"][rows]
        D = torch.maximum(2 * p.max(), 1 / (r / p).mean()) if r.any() else 2 * p.max()
        calibrated = r - (1 - r) * p / (D - p) / len(r)
        centred = calibrated - calibrated.mean()
        A[rows] = 0 * r if r.all() else centred / calibrated.std() if r.any() else alpha * centred
    return _clip_mean(x, A, 0.2).mean()


CASES = {
    "lens": (lens.lens, {}, lambda x: _lens(x, 0.25)),
    "copo": (copo.copo, {"gamma": 3.0, "threshold": 1.0}, lambda x: _copo(x, 3.0, 1.0, False)),
    "copo, blended": (
        copo.copo,
        {"gamma": 3.0, "threshold": 1.0, "blend": "advantages"},
        lambda x: _copo(x, 3.0, 1.0, True),
    ),
    "cppo": (cppo.cppo, {}, lambda x: _cppo(x, x["divergence"], 0.15, 0.015, 0.8, False)),
    "cppo, dynamic": (
        cppo.cppo,
        {"radius": 0.1, "mean_radius": 0.02, "w_min": 0.5, "budget": "dynamic"},
        lambda x: _cppo(x, x["divergence"], 0.1, 0.02, 0.5, True),
    ),
    "cppo, binary": (
        cppo.cppo_binary,
        {"radius": 0.2, "mean_radius": 0.02, "budget": "dynamic"},
        lambda x: _cppo(x, abs(x["log_prob"].exp() - x["old_log_prob"].exp()), 0.2, 0.02, 0.8, True),
    ),
    "maspo": (maspo.maspo, {}, lambda x: _maspo(x, True)),
    "maspo, narrow": (
        maspo.maspo,
        {"sigma": 0.2, "alpha": 0.5, "sigma_high": 1.0, "beta_pos": 0.4, "beta_neg": 0.4},
        lambda x: _maspo(x, True, 0.2, 0.5, 1.0, 0.4),
    ),
    "maspo, gate differentiated": (_differentiated, {}, lambda x: _maspo(x, False)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("spread", [0.05, 0.4, 1.5])
def test_objective(name, spread):
    ours, hyper, theirs = CASES[name]
    compare(ours, hyper, theirs, token_data(0, spread=spread))
