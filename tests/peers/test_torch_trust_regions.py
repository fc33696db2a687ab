"""BandPO, R2VPO, DPPO, SPO, DRPO, TROLL and TRE against PyTorch's autograd, to 1e-9 in float64."""

import numpy as np
import pytest

from tests.peers.by_autograd import close, compare, seq_mean, token_mean
from tests.tokens.batches import vocabulary_batch
from trref.tokens import bandpo, drpo, r2vpo, tre, troll, troll_projection, troll_sparse

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _batch(seed, spread=0.5):
    logits, old_logits, actions, advantage, mask = vocabulary_batch(seed, B=10, T=8, V=7, spread=spread)

    def taken(z):
        z = z - np.log(np.exp(z).sum(-1, keepdims=True))
        return np.take_along_axis(z, actions[..., None], 2)[..., 0]

    return {
        "log_prob": taken(logits),
        "old_log_prob": taken(old_logits),
        "logits": logits,
        "old_logits": old_logits,
        "actions": actions,
        "advantage": advantage,
        "mask": mask,
    }


def _ratio(x):
    return torch.exp(x["log_prob"] - x["old_log_prob"])


def _constant(l, x):
    return (l * x["mask"]).sum() / (len(x["mask"]) * 9)


def _band(kind):
    def loss(x):
        p, A = torch.exp(x["old_log_prob"]), x["advantage"][:, None]
        step = 0.05 / p if kind == "total_variation" else torch.sqrt(0.05 * (1 - p) / p)
        low, high = (1 - step).clamp(min=0), torch.minimum(1 + step, 1 / p).clamp(max=100)
        ratio = _ratio(x)
        return seq_mean(-torch.min(ratio * A, torch.maximum(torch.minimum(ratio, high), low) * A), x)

    return loss


def _r2vpo(x):
    ratio, A = _ratio(x), x["advantage"][:, None]
    return token_mean(-(ratio * A - 0.3 * ((ratio - 1) ** 2 - 0.02)), x)


def _r2vpo_sequence(x):
    d = ((x["log_prob"] - x["old_log_prob"]) * x["mask"]).sum(-1) / x["mask"].sum(-1).clamp(min=1)
    return -(torch.exp(d) * x["advantage"] - 0.3 * ((torch.exp(d) - 1) ** 2 - 0.02)).mean()


def _dppo(kind):
    """The masked policy gradient as trainers have it: the same gradient, another value."""

    def loss(x):
        pi, mu, A = torch.exp(x["log_prob"]), torch.exp(x["old_log_prob"]), x["advantage"][:, None]
        if kind == "total_variation":
            D, radius = (pi - mu).abs(), 0.15
        else:
            D, radius = mu * (mu / pi).log() + (1 - mu) * ((1 - mu) / (1 - pi)).log(), 0.05
        dropped = ((A > 0) & (pi > mu) & (D > radius)) | ((A < 0) & (pi < mu) & (D > radius))
        weight = torch.where(dropped, 0.0, _ratio(x).clamp(max=20)).detach()
        return _constant(-weight * A * x["log_prob"], x)

    return loss


def _quadratic(mu_weighted, radius):
    def loss(x):
        ratio, A = _ratio(x), x["advantage"][:, None]
        weight = torch.exp(x["old_log_prob"]).detach() if mu_weighted else 1.0
        return _constant(-A * ratio + A.abs() * weight * (ratio - 1) ** 2 / (2 * radius), x)

    return loss


TOKEN = {
    "band, total variation": (bandpo.bandpo, {"ball": "total_variation"}, _band("total_variation"), True),
    "band, pearson": (bandpo.bandpo, {"ball": "pearson"}, _band("pearson"), True),
    "r2vpo": (r2vpo.r2vpo, {"variance_weight": 0.3}, _r2vpo, True),
    "r2vpo, sequence": (r2vpo.r2vpo_sequence, {"variance_weight": 0.3}, _r2vpo_sequence, True),
    "dppo, tv": (drpo.dppo, {"max_length": 9}, _dppo("total_variation"), False),
    "dppo, kl": (
        drpo.dppo,
        {"max_length": 9, "radius_low": 0.05, "radius_high": 0.05, "kind": "forward_kl"},
        _dppo("forward_kl"),
        False,
    ),
    "spo": (drpo.spo, {"max_length": 9, "radius": 0.3}, _quadratic(False, 0.3), True),
    "drpo": (drpo.drpo, {"max_length": 9, "radius": 0.1}, _quadratic(True, 0.1), True),
}


@pytest.mark.parametrize("name", TOKEN)
@pytest.mark.parametrize("spread", [0.05, 0.4, 1.5])
def test_token_objective(name, spread):
    ours, hyper, theirs, same_value = TOKEN[name]
    compare(ours, hyper, theirs, _batch(0, spread=spread), value=same_value, tolerance=1e-9)


class _Projection(torch.autograd.Function):
    """Logits to log-probabilities of the projection; backwards by the implicit function theorem and autograd."""

    @staticmethod
    def forward(ctx, z, b, radius):
        def path(z, eta):
            return torch.log_softmax((torch.log_softmax(z, -1) + eta * b) / (1 + eta), -1)

        def kl(z, eta):
            s = path(z, eta)
            return (s.exp() * (s - b)).sum(-1)

        low, high = torch.zeros(z.shape[0], 1, dtype=z.dtype), torch.full((z.shape[0], 1), 1e6, dtype=z.dtype)
        for _ in range(200):
            middle = torch.where(high > 1, torch.sqrt((low + 1) * (high + 1)) - 1, (low + high) / 2)
            outside = kl(z, middle)[:, None] > radius
            low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
        eta = torch.where(kl(z, torch.zeros_like(high))[:, None] > radius, high, 0.0)
        with torch.enable_grad():
            z1, eta1 = z.detach().requires_grad_(), eta.detach().requires_grad_()
            dz, deta = torch.autograd.grad(kl(z1, eta1).sum(), (z1, eta1))
        slope = torch.where(eta > 0, -dz / deta, torch.zeros_like(dz))  # d eta / d z
        ctx.save_for_backward(z, b, eta, slope)
        return path(z, eta)

    @staticmethod
    def backward(ctx, g):
        z, b, eta, slope = ctx.saved_tensors
        with torch.enable_grad():
            z, eta = z.detach().requires_grad_(), eta.detach().requires_grad_()
            s = torch.log_softmax((torch.log_softmax(z, -1) + eta * b) / (1 + eta), -1)
            dz, deta = torch.autograd.grad((s * g).sum(), (z, eta))
        return dz + deta * slope, None, None


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("spread", [0.05, 0.4, 1.5])
def test_projection_and_troll(spread, sparse):
    """Through the multiplier by the implicit function theorem, in the place of the closed form."""
    batch = _batch(1, spread=spread)
    V = batch["logits"].shape[-1]
    names = ("logits", "old_logits", "actions", "advantage", "mask")
    keep = troll_sparse.support(*(batch[n] for n in names[:3]), K=3, mass=0.8)

    def row(logits):
        log_p = torch.log_softmax(logits, -1)
        floor = torch.full_like(log_p, 1e-3).log()
        return torch.log_softmax(torch.where(torch.tensor(keep) > 0, log_p, floor), -1) if sparse else log_p

    z = torch.tensor(batch["logits"], requires_grad=True)
    log_p, b = row(z), row(torch.tensor(batch["old_logits"]))
    log_pi = _Projection.apply(log_p.reshape(-1, V), b.reshape(-1, V), 0.05).reshape(z.shape)
    close(troll_projection.project_kl(log_p.detach().numpy(), b.numpy()), log_pi, 1e-7)
    y = torch.tensor(batch["actions"])[..., None]
    ratio = (log_pi - b).gather(-1, y)[..., 0].exp()
    pull = (log_p.exp() * (log_p - log_pi.detach())).sum(-1)
    x = {"mask": torch.tensor(batch["mask"])}
    loss = token_mean(-(ratio * torch.tensor(batch["advantage"])[:, None] - pull), x)
    loss.backward()
    inputs = [batch[n] for n in names]
    value, gradient = troll_sparse.troll_sparse(*inputs, keep, floor=1e-3) if sparse else troll.troll(*inputs)
    close(value, loss, 1e-7)
    close(gradient, z.grad, 1e-6)


@pytest.mark.parametrize("rule", ["top_k", "top_p"])
def test_tre(rule):
    batch = _batch(2)
    names = ("logits", "old_logits", "actions", "advantage", "mask")
    x = {n: torch.tensor(batch[n]) for n in names}
    z = x["logits"].requires_grad_()
    ranked = torch.sort(z, -1, descending=True).values
    p = torch.softmax(ranked, -1)
    kept = (torch.arange(7) < 3).expand(p.shape) if rule == "top_k" else p.cumsum(-1) - p < 0.8
    inside = torch.softmax(torch.where(kept, ranked, torch.tensor(-1e10, dtype=z.dtype)), -1)
    H = -(inside * torch.where(kept, inside, torch.ones_like(inside)).log()).sum(-1)
    size = kept.sum(-1)
    H = torch.where(size > 1, H * np.log(7) / torch.log(size.clamp(min=2).double()), 0.0)
    y = x["actions"][..., None]
    ratio = (torch.log_softmax(z, -1) - torch.log_softmax(x["old_logits"], -1)).gather(-1, y)[..., 0].exp()
    A = x["advantage"][:, None]
    loss = token_mean(-torch.min(ratio * A, ratio.clamp(0.8, 1.2) * A) - 0.3 * H, x)
    loss.backward()
    value, gradient = tre.tre(*(batch[n] for n in names), entropy_weight=0.3, rule=rule, K=3, P=0.8)
    close(value, loss, 1e-9)
    close(gradient, z.grad, 1e-9)
