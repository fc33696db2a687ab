"""Calls as people have them: classes, methods, config objects, several results, terms of tokens, Boolean masks."""

import numpy as np
import pytest

from trref.conformance import LoadError, Options, rows, verify

NAME = "grpo.grpo"
SOURCE = """
import dataclasses
import functools

import numpy as np


def terms(log_prob, old_log_prob, advantage, mask, clip=0.2):
    a = advantage if advantage.ndim == 2 else advantage[:, None]
    r = np.exp(log_prob - old_log_prob)
    return -np.minimum(r * a, np.clip(r, 1 - clip, 1 + clip) * a)


def loss(log_prob, old_log_prob, advantage, mask, clip=0.2):
    each = terms(log_prob, old_log_prob, advantage, mask, clip)
    return ((each * mask).sum(1) / np.maximum(mask.sum(1), 1)).mean()


def by_name(**given):
    return {"kl": 0.0, "loss": loss(**given)}


def in_order(**given):
    return "nothing", loss(**given)


@dataclasses.dataclass
class Result:
    metrics: dict
    loss: float


def in_a_dataclass(**given):
    return Result({}, loss(**given))


def of_booleans(log_prob, old_log_prob, advantage, mask, clip=0.2):
    assert mask.dtype == bool
    each = np.where(mask, terms(log_prob, old_log_prob, advantage, mask, clip), 0)
    return (each.sum(1) / np.maximum(mask.sum(1), 1)).mean()


def with_config(log_prob, old_log_prob, advantage, mask, config):
    assert config["mode"] == "answers"
    return loss(log_prob, old_log_prob, advantage, mask, config.clip_ratio)


class Loss:
    def __init__(self, clip, width=1):
        assert width == 3
        self.clip = clip

    def __call__(self, log_prob, old_log_prob, advantage, mask):
        return loss(log_prob, old_log_prob, advantage, mask, self.clip)

    def policy_loss(self, log_prob, old_log_prob, advantage, mask):
        return self(log_prob, old_log_prob, advantage, mask)


fixed = Loss(0.2, 3)
part = functools.partial(lambda scale, **given: scale * loss(**given), 1.0)
"""
TORCH = """
import torch


def terms(log_prob, old_log_prob, advantage, mask, clip=0.2):
    a = advantage if advantage.ndim == 2 else advantage[:, None]
    r = torch.exp(log_prob - old_log_prob)
    return -torch.minimum(r * a, r.clamp(1 - clip, 1 + clip) * a)


class Loss(torch.nn.Module):
    def __init__(self, clip=0.2):
        super().__init__()
        self.clip = clip

    def forward(self, log_prob, old_log_prob, advantage, mask):
        each = terms(log_prob, old_log_prob, advantage, mask, self.clip)
        return ((each * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


module = Loss()
"""


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return lambda name: f"{path}:{name}"


def _conforms(implementation, name=NAME, **options):
    verdict = verify(name, implementation, Options(**options), seeds=(0,), sizes=(4, 8))
    assert verdict.conforms, str(verdict)
    return verdict


CALLS = {
    "by_name": {"returns": "loss"},
    "in_order": {"returns": "1"},
    "in_a_dataclass": {"returns": "loss"},
    "terms": {"reduce": "seq_mean"},
    "of_booleans": {"mask": "bool"},
    "with_config": {"names": {"clip": "config.clip_ratio"}, "theirs": {"config.mode": "answers"}},
    "Loss": {"init": {"clip": "{clip}", "width": 3}},
    "Loss.policy_loss": {"init": {"clip": "{clip}", "width": 3}},
    "part": {},
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name, target):
    assert _conforms(target(name), **CALLS[name]).settings == ("default", "probe")


def test_an_instance_has_its_own_constants(target):
    for name in ("fixed", "fixed.policy_loss"):
        assert _conforms(target(name)).skipped == ("probe",)


def test_other_reductions(target):
    _conforms(
        target("terms"),
        "dapo.dapo_over_batch",
        names={"clip_low": "clip"},
        reference={"clip_high": 0.2},
        constants={"clip_low": 0.2},
        reduce="token_mean",
    )
    assert not verify(NAME, target("terms"), Options(reduce="sum"), explain=False).conforms
    assert not verify(NAME, target("terms"), Options(reduce="mean"), explain=False).conforms
    verdict = verify(NAME, target("terms"), explain=False)
    assert verdict.status == "deviates" and "value has shape" in str(verdict)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("by_name", {"returns": "losses"}, "returned nothing called losses"),
        ("by_name", {"returns": "kl"}, "value is 0"),
        ("in_order", {"returns": "7"}, "returned nothing called 7"),
        ("by_name", {}, "returned dict"),
        ("Loss", {"init": {"clip": "{clip}"}}, "AssertionError"),
        ("Loss", {}, "returned no instance"),
    ],
)
def test_calls_that_fail(name, options, message, target):
    verdict = verify(NAME, target(name), Options(**options), explain=False, seeds=(0,), sizes=(4,))
    assert not verdict.conforms and message in str(verdict), str(verdict)


def test_a_field_of_no_argument(target):
    with pytest.raises(LoadError, match=r"takes no settings\.mode"):
        verify(NAME, target("with_config"), Options(theirs={"settings.mode": 1}, names={"clip": "config.clip"}))


def test_modules_of_torch(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "mine.py"
    path.write_text(TORCH)
    verdict = _conforms(f"{path}:Loss", init={"clip": "{clip}"})
    assert verdict.framework == "torch" and verdict.compared == "value, gradient by autograd"
    assert _conforms(f"{path}:module").skipped == ("probe",)
    assert _conforms(f"{path}:terms", reduce="seq_mean").compared == "value, gradient by autograd"


def test_in_a_notebook():
    def loss(log_prob, old_log_prob, advantage, clip=0.2):
        return 0.0

    shown = verify("ppo.clipped_surrogate", loss, explain=False)._repr_html_()
    assert "DEVIATES" in shown and "crimson" in shown and "smallest" not in shown


def test_a_gradient_without_its_value():
    """A policy gradient written as the ratio to itself, held constant: another value, and the gradient that counts."""
    torch = pytest.importorskip("torch")

    def loss(log_prob, advantage, mask, max_length=1.0):
        a = advantage if advantage.ndim == 2 else advantage[:, None]
        ratio = torch.exp(log_prob - log_prob.detach())
        return -(ratio * a * mask).sum(1).mean() / max_length

    verdict = verify("reinforce.reinforce", loss, Options(framework="torch"))
    assert verdict.conforms and "its value is another; the gradient is what counts" in verdict.notes, str(verdict)
    doubled = verify("reinforce.reinforce", lambda **given: 2 * loss(**given), Options(framework="torch"))
    assert not doubled.conforms


def test_what_autograd_cannot_take():
    torch = pytest.importorskip("torch")

    def project(x, z):
        return torch.tensor((z - x @ (x.mT @ z + z.mT @ x) / 2).detach().numpy(), requires_grad=True) + 0 * z.detach()

    def fails(x, z):
        class Once(torch.autograd.Function):
            @staticmethod
            def forward(ctx, z):
                return z - x @ (x.mT @ z + z.mT @ x) / 2

            @staticmethod
            def backward(ctx, g):
                raise RuntimeError("no derivative is implemented")

        return Once.apply(z)

    assert "--no-gradient compares values alone" in str(verify("stiefel.project", fails, Options(framework="torch")))
    assert verify("stiefel.project", fails, Options(framework="torch", gradient=False)).conforms
    detached = verify("stiefel.project", project, Options(framework="torch"), explain=False)
    assert not detached.conforms and "vjp" in str(detached), "a derivative that is not there is a wrong one"


GRADIENTS_ACCUMULATED = """
def over_tokens(log_prob, old_log_prob, advantage, mask, clip=0.2):
    return (terms(log_prob, old_log_prob, advantage, mask, clip) * mask).sum() / max(mask.sum(), 1)


def token_mean_in_torch(log_prob, old_log_prob, advantage, mask, clip=0.2):
    import torch

    a = advantage if advantage.ndim == 2 else advantage[:, None]
    r = torch.exp(log_prob - old_log_prob)
    each = -torch.minimum(r * a, r.clamp(1 - clip, 1 + clip) * a)
    return (each * mask).sum() / mask.sum().clamp(min=1)
"""


SIZES = (4, 8)


def test_micro_batches(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE + GRADIENTS_ACCUMULATED)
    halves = Options(micro_batches=2)
    verdict = verify(NAME, f"{path}:loss", halves, sizes=SIZES)
    assert verdict.conforms, "a mean over answers does not hang on how the batch is cut"
    clips = Options(names={"clip_low": "clip"}, reference={"clip_high": 0.2})
    assert verify("dapo.dapo_over_batch", f"{path}:over_tokens", clips, sizes=SIZES).conforms
    cut = Options(names={"clip_low": "clip"}, reference={"clip_high": 0.2}, micro_batches=2)
    verdict = verify("dapo.dapo_over_batch", f"{path}:over_tokens", cut, sizes=SIZES)
    assert "over the tokens of micro-batches of 2" in str(verdict), str(verdict)
    with pytest.raises(LoadError, match="no objective"):
        verify("grpo.group_advantage", lambda reward, group: reward, halves)


def test_micro_batches_by_autograd(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "mine.py"
    path.write_text(SOURCE + GRADIENTS_ACCUMULATED)
    cut = Options(names={"clip_low": "clip"}, reference={"clip_high": 0.2}, micro_batches=4)
    verdict = verify("dapo.dapo_over_batch", f"{path}:token_mean_in_torch", cut, sizes=SIZES)
    assert "gradient by autograd" in verdict.compared
    assert "over the tokens of micro-batches of 4" in str(verdict), str(verdict)


def _gae_of_rows(reward, value, mask, gamma=0.99, lam=0.95):
    """As trainers of language models have it: nothing follows the last token of a row."""
    found, after = np.zeros_like(reward), np.zeros(len(reward))
    for t in reversed(range(reward.shape[1])):
        follows = value[:, t + 1] if t + 1 < reward.shape[1] else 0.0
        delta = reward[:, t] + gamma * follows - value[:, t]
        after = (delta + gamma * lam * after) * mask[:, t]
        found[:, t] = after
    return found


def test_padded_rows():
    of_rows = Options(rows=True)
    assert verify("gae.gae", _gae_of_rows, of_rows, sizes=SIZES).conforms

    def with_padding(reward, value, mask, gamma=0.99, lam=0.95):
        return _gae_of_rows(reward, value + (1 - mask), np.ones_like(mask), gamma, lam)

    assert verify("gae.gae", with_padding, of_rows, sizes=SIZES, explain=False).status == "deviates"
    verdict = verify("gae.gae", lambda reward, value, mask: reward[:, :0], of_rows, sizes=(4,), explain=False)
    assert verdict.status == "could not run" and "an array of shape" in str(verdict), str(verdict)
    with pytest.raises(LoadError, match="--rows has no place"):
        verify("grpo.group_advantage", lambda reward, group: reward, of_rows)


def test_how_rows_are_made():
    columns = {name: np.zeros((3, 2)) for name in ("reward", "value", "next_value", "terminated", "truncated")}
    columns["reward"] += np.arange(6.0).reshape(3, 2)
    columns["next_value"] += 10
    columns["truncated"][0, 0] = columns["terminated"][2, 0] = 1
    padded, back = rows.padded(columns, 0.5)
    assert padded["mask"].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert padded["reward"].tolist() == [[0 + 5, 0, 0], [2, 4, 0], [1, 3, 5 + 5]]
    assert np.array_equal(back(padded["mask"] * [[1], [2], [3]]), [[1, 3], [2, 3], [2, 3]])
    with pytest.raises(ValueError, match="expected"):
        back(padded["mask"][:1])
    with pytest.raises(ValueError, match="alone"):
        rows.padded({"reward": np.zeros(3)}, 0.5)
    with pytest.raises(ValueError, match="rows need a discount"):
        rows.padded(columns, None)
