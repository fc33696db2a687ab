"""GRPO and its variants, penalties and divergences against PyTorch's autograd, to 1e-10 in float64."""

import numpy as np
import pytest

from tests.peers.by_autograd import close, compare, seq_mean, token_data, token_mean
from trref.tokens import (
    dapo,
    dr_grpo,
    dual_clip,
    f_divergences,
    grpo,
    gspo,
    kl_estimators,
    reduced_divergences,
    reinforce,
    terms,
)

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.peer


def _clipped(x, low, high, level="token"):
    d = x["log_prob"] - x["old_log_prob"]
    if level == "sequence":
        d = ((d * x["mask"]).sum(-1) / x["mask"].sum(-1).clamp(min=1))[:, None]
    A, ratio = x["advantage"][:, None], torch.exp(d)
    return -torch.min(ratio * A, torch.clamp(ratio, 1 - low, 1 + high) * A) + 0 * x["mask"]


def _dapo(x):
    l = _clipped(x, 0.2, 0.28)
    prompts = [x["group"] == g for g in x["group"].unique()]
    return torch.stack([(l[g] * x["mask"][g]).sum() / x["mask"][g].sum() for g in prompts]).mean()


def _dual(x):
    l = _clipped(x, 0.2, 0.2)
    A = x["advantage"][:, None]
    return seq_mean(torch.where(A < 0, torch.min(l, -3 * A), l), x)


def _two_sided(x):
    A, ratio = x["advantage"][:, None], torch.exp(x["log_prob"] - x["old_log_prob"])
    clipped = torch.clamp(ratio, 0.8, 1.2)
    return seq_mean(-torch.min(torch.clamp(ratio, max=3.0) * A, clipped * A), x)


def _k(x, kind):
    d = x["ref_log_prob"] - x["log_prob"]
    return {"k1": -d, "k2": d**2 / 2, "k3": torch.exp(d) - d - 1}[kind]


def _in_reward(x):
    return token_mean(_k(x, "k1").detach() * x["log_prob"], x)


def _off_policy(x):
    return token_mean(torch.exp(x["log_prob"] - x["old_log_prob"]) * _k(x, "k3"), x)


def _score(mean):
    return lambda x: mean(-x["advantage"][:, None] * x["log_prob"], x)


def _answers(l, x):
    return (l * x["mask"]).sum(-1).mean()


CASES = {
    "reinforce": (reinforce.reinforce, {}, _score(_answers)),
    "reinforce, answers": (reinforce.reinforce, {"aggregation": "seq_mean"}, _score(seq_mean)),
    "reinforce, tokens": (reinforce.reinforce, {"aggregation": "token_mean"}, _score(token_mean)),
    "grpo": (grpo.grpo, {}, lambda x: seq_mean(_clipped(x, 0.2, 0.2), x)),
    "dapo": (dapo.dapo, {}, _dapo),
    "dapo over batch": (dapo.dapo_over_batch, {}, lambda x: token_mean(_clipped(x, 0.2, 0.28), x)),
    "dr_grpo": (
        dr_grpo.dr_grpo,
        {"max_length": 9},
        lambda x: (_clipped(x, 0.2, 0.2) * x["mask"]).sum() / (len(x["mask"]) * 9),
    ),
    "gspo": (gspo.gspo, {"clip_low": 0.1, "clip_high": 0.2}, lambda x: seq_mean(_clipped(x, 0.1, 0.2, "sequence"), x)),
    "dual clip": (dual_clip.dual_clip, {}, _dual),
    "two-sided clip": (dual_clip.two_sided_clip, {}, _two_sided),
    "k1": (kl_estimators.kl_in_loss, {"estimator": "k1"}, lambda x: token_mean(_k(x, "k1"), x)),
    "k2": (kl_estimators.kl_in_loss, {"estimator": "k2"}, lambda x: token_mean(_k(x, "k2"), x)),
    "k3": (kl_estimators.kl_in_loss, {}, lambda x: token_mean(_k(x, "k3"), x)),
    "k1 in the reward": (kl_estimators.kl_in_reward, {}, _in_reward),
    "unbiased k3": (kl_estimators.kl_off_policy, {}, _off_policy),
    "grpo with k3": (
        kl_estimators.grpo_with_kl,
        {"kl_weight": 0.3},
        lambda x: seq_mean(_clipped(x, 0.2, 0.2) + 0.3 * _k(x, "k3"), x),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("spread", [0.05, 0.4, 1.5])
def test_objective(name, spread):
    ours, hyper, theirs = CASES[name]
    compare(ours, hyper, theirs, token_data(0, spread=spread))


def test_chain_rule():
    rng = np.random.default_rng(1)
    logits, actions, c = rng.standard_normal((3, 4, 5)), rng.integers(0, 5, (3, 4)), rng.standard_normal((3, 4))
    z = torch.tensor(logits, requires_grad=True)
    (torch.tensor(c) * torch.log_softmax(z, -1).gather(-1, torch.tensor(actions)[..., None])[..., 0]).sum().backward()
    close(terms.logit_gradient(logits, actions, c), z.grad)


EXACT = {
    "reverse_kl": lambda p, q: (p * (p / q).log()).sum(-1),
    "forward_kl": lambda p, q: (q * (q / p).log()).sum(-1),
    "total_variation": lambda p, q: (p - q).abs().sum(-1) / 2,
    "pearson": lambda p, q: ((p - q) ** 2 / q).sum(-1),
    "neyman": lambda p, q: ((p - q) ** 2 / p).sum(-1),
    "jensen_shannon": lambda p, q: (p * (2 * p / (p + q)).log() + q * (2 * q / (p + q)).log()).sum(-1) / 2,
    "hellinger": lambda p, q: 1 - (p * q).sqrt().sum(-1),
}


def _logits(seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((4, 5, 6)), rng.standard_normal((4, 5, 6)), rng.integers(0, 6, (4, 5)), np.ones((4, 5))


@pytest.mark.parametrize("kind", f_divergences.DIVERGENCES)
def test_divergence(kind):
    logits, old, _, mask = _logits(2)
    z = torch.tensor(logits, requires_grad=True)
    value = EXACT[kind](torch.softmax(z, -1), torch.softmax(torch.tensor(old), -1)).mean()
    value.backward()
    ours = f_divergences.divergence(logits, old, mask, kind=kind)
    close(ours[0], value)
    close(ours[1], z.grad)


@pytest.mark.parametrize("kind", f_divergences.DIVERGENCES)
def test_top_k_divergence(kind):
    logits, old, actions, mask = _logits(3)
    z, q, y = (
        torch.tensor(logits, requires_grad=True),
        torch.softmax(torch.tensor(old), -1),
        torch.tensor(actions)[..., None],
    )
    top = q.topk(3, -1).indices
    last = torch.where((top == y).any(-1, keepdim=True), top[..., 2:], y)
    kept = torch.cat([top[..., :2], last], -1)
    cells = []
    for x in (torch.softmax(z, -1), q):
        inside = x.gather(-1, kept)
        cells.append(torch.cat([inside, 1 - inside.sum(-1, keepdim=True)], -1))
    value = EXACT[kind](*cells).mean()
    value.backward()
    ours = reduced_divergences.top_k_divergence(logits, old, actions, mask, K=3, kind=kind)
    close(ours[0], value)
    close(ours[1], z.grad)
