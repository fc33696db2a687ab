"""Losses with a teacher against PyTorch's autograd, written as trainers write them."""

import numpy as np
import pytest

from tests.peers.by_autograd import close, compare, seq_mean, token_data, token_mean
from tests.tokens.batches import vocabulary_batch
from trref.catalog import find
from trref.distillation.erpd import stage_one, stage_two
from trref.distillation.rlad import rlad, rlad_with_kl
from trref.distillation.trapo import population_loss, trapo
from trref.distillation.trb import opd
from trref.distillation.tropd import tropd

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer


def _taught(seed, spread):
    """The teacher's log-probabilities beside those of `token_data`."""
    data = token_data(seed)
    rng = np.random.default_rng([seed, 1])
    teacher = data["old_log_prob"] + spread * rng.standard_normal(data["mask"].shape)
    return data | {"teacher_log_prob": -abs(teacher)}


def _rlad(x, share, clamp, low, high, kl_weight=0.0):
    to_teacher = torch.clamp(x["log_prob"] - x["teacher_log_prob"], -clamp, clamp)
    ratio = torch.exp(share * (x["log_prob"] - x["old_log_prob"]) + (1 - share) * to_teacher)
    A = x["advantage"][:, None]
    loss = torch.maximum(-A * ratio, -A * torch.clamp(ratio, 1 - low, 1 + high))
    d = x["ref_log_prob"] - x["log_prob"]
    return seq_mean(loss + kl_weight * (torch.exp(d) - d - 1), x)


@pytest.mark.parametrize(("share", "clamp"), [(0.5, 1.0), (0.2, 0.3), (0.9, 5.0), (0.0, 1.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_rlad(seed, share, clamp):
    hyper = {"old_share": share, "teacher_clip": clamp}
    compare(rlad, hyper, lambda x: _rlad(x, share, clamp, 0.2, 0.28), _taught(seed, 1.0))
    full = hyper | {"kl_weight": 0.3, "clip_low": 0.1, "clip_high": 0.4}
    compare(rlad_with_kl, full, lambda x: _rlad(x, share, clamp, 0.1, 0.4, 0.3), _taught(seed, 1.0))


@pytest.mark.parametrize("hyper", [{"top_k": 3}, {"outlier": "mask"}, {"outlier": "clip", "tau": 0.4}])
@pytest.mark.parametrize("seed", [0, 1])
def test_tropd(seed, hyper):
    """Detached rewards, `topk` and `gather`, as in a trainer."""
    logits, teacher_logits, actions, _, mask = vocabulary_batch(seed, B=6, T=5, V=7, spread=1.5)
    rng = np.random.default_rng(seed)
    accepted, prefix = ((rng.random(mask.shape) < 0.5).astype(float) for _ in range(2))
    z, z_teacher, y, m, coin, given = (
        torch.tensor(v) for v in (logits, teacher_logits, actions, mask, accepted, prefix)
    )
    z.requires_grad_()
    log_q, log_p = torch.log_softmax(z, -1), torch.log_softmax(z_teacher, -1)
    taken, theirs = (v.gather(2, y[..., None])[..., 0] for v in (log_q, log_p))
    reward = (theirs - taken).detach()
    top = log_p.topk(3, -1).indices
    forward = (log_p.gather(2, top).exp() * (log_p.gather(2, top) - log_q.gather(2, top))).sum(-1)
    outlier = {"mask": 0 * forward, "clip": -reward.clamp(min=-0.4) * taken}.get(hyper.get("outlier"), forward)
    loss = token_mean(torch.where(coin == 1, -reward * taken, outlier), {"mask": m * (1 - given)})
    loss = loss - 0.2 * token_mean(taken, {"mask": m * given})
    loss.backward()
    value, gradient = tropd(logits, teacher_logits, actions, accepted, prefix, mask, guidance_weight=0.2, **hyper)
    close(value, loss)
    close(gradient, z.grad)


@pytest.mark.parametrize("top_k", [None, 3])
def test_opd(top_k):
    """`kl_div` of the whole vocabulary, or the sum over a detached list."""
    logits, teacher_logits, _, _, mask = vocabulary_batch(3, B=6, T=5, V=7, spread=1.5)
    z, z_teacher, m = (torch.tensor(v) for v in (logits, teacher_logits, mask))
    z.requires_grad_()
    log_q, log_p = torch.log_softmax(z, -1), torch.log_softmax(z_teacher, -1)
    if top_k is None:
        term = torch.nn.functional.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    else:
        top = log_q.detach().topk(top_k, -1).indices
        term = (log_q.gather(2, top).exp() * (log_q.gather(2, top) - log_p.gather(2, top))).sum(-1)
    loss = token_mean(term, {"mask": m})
    loss.backward()
    value, gradient = opd(logits, teacher_logits, mask, top_k=top_k)
    close(value, loss)
    close(gradient, z.grad)


@pytest.mark.parametrize("kind", ["ratio", "ce", "mse"])
def test_erpd(kind):
    """The two stages; the second with the signal as an advantage a token."""

    def first(x):
        A, d = x["advantage"][:, None], x["log_prob"] - x["old_log_prob"]
        losses = {"ratio": -A * torch.exp(d), "ce": -A * x["log_prob"], "mse": (d - A / 0.7) ** 2 / 2}
        return token_mean(losses[kind], x)

    data = token_data(4)
    compare(stage_one, {"kind": kind, "tau": 0.7}, first, data)
    data["signal"] = np.clip(np.random.default_rng(5).standard_normal(data["mask"].shape), -1, 1)

    def second(x):
        ratio, D = torch.exp(x["log_prob"] - x["old_log_prob"]), x["signal"]
        return token_mean(torch.maximum(-D * ratio, -D * ratio.clamp(0.8, 1.2)), x)

    compare(stage_two, {}, second, data)


@pytest.mark.parametrize("clip", [None, 0.2])
def test_trapo(clip):
    """The authors' surrogate with a detached denominator: another value, the same gradient."""
    data = token_data(6)
    rng = np.random.default_rng(6)
    for name in ("prefix", "supervised"):
        data[name] = (rng.random(data["mask"].shape) < 0.5).astype(float)

    def surrogate(x):
        p, A = torch.exp(x["log_prob"]), x["advantage"][:, None]
        ratio = torch.exp(x["log_prob"] - x["old_log_prob"])
        own = -A * ratio
        if clip:
            own = torch.maximum(own, -A * ratio.clamp(1 - clip, 1 + clip))
        shown = -x["supervised"] * p / p.detach().clamp(min=0.1)
        terms = (1 - x["prefix"]) * own + x["prefix"] * shown
        return (x["mask"] * terms).sum() / (7.0 * len(A))

    compare(trapo, {"max_length": 7.0, "clip": clip}, surrogate, data, value=False)


def test_trsft_of_a_law():
    rng = np.random.default_rng(7)
    logits, expert = 2 * rng.standard_normal((5, 6)), rng.dirichlet(np.ones(6), 5)
    z, e = torch.tensor(logits, requires_grad=True), torch.tensor(expert)
    q = torch.softmax(z, -1)
    phi = torch.where(q >= 0.2, -torch.log(q), 1 - np.log(0.2) - q / 0.2)
    loss = (e * phi).sum(-1).mean()
    loss.backward()
    value, gradient = population_loss(logits, expert, alpha=0.2)
    close(value, loss)
    close(gradient, z.grad)


def test_a_renormalised_list_is_that_of_trl():
    """The deviation of TrOPD, on tokens that are all rejected, with the tokens of no other kind."""
    trainer = pytest.importorskip("trl.experimental.iw_opd.iw_opd_trainer").IWOPDTrainer
    logits, teacher_logits, actions, _, mask = vocabulary_batch(5, B=4, T=3, V=7, spread=1.5)
    z, z_teacher, m = (torch.tensor(v) for v in (logits, teacher_logits, mask))
    z.requires_grad_()
    labels = torch.where(m.bool(), 0, -100)
    loss = trainer.generalized_jsd_loss(z, z_teacher, labels, beta=0, top_k=3, add_tail=False)
    loss.backward()
    deviation = next(d for d in find("tropd.tropd").deviations if d.name == "the list is renormalised")
    none = np.zeros_like(mask)
    value, gradient = deviation.f(logits, teacher_logits, actions, none, none, mask, top_k=3)
    close(value, loss)
    close(gradient, z.grad)
