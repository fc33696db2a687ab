"""Update rules against torch.optim, and what torch computes instead, step by step in float64."""

import numpy as np
import pytest

from trref import catalog
from trref.optimizers import adam, adamomentum, adamp, adan, amsgrad, diffgrad, lion, muon, sgd

torch = pytest.importorskip("torch")

SHAPES = [(3, 2), (4,), (2, 3, 2)]


def _agree(make, rule, init, hyper, *, steps=40, shapes=SHAPES):
    """Run both on the same gradients, of changing scale."""
    rng = np.random.default_rng(8)
    params = [rng.standard_normal(s) for s in shapes]
    theirs = [torch.tensor(p, requires_grad=True) for p in params]
    optimizer, state = make(theirs), init(params)
    for step in range(steps):
        gradients = [rng.standard_normal(s) * (0.3, 1.0, 2.0)[step % 3] for s in shapes]
        params, state = rule(params, gradients, state, **hyper)
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        for ours, p in zip(params, theirs, strict=True):
            assert np.allclose(ours, p.detach().numpy(), rtol=1e-11, atol=1e-12), step


def _deviation(function, name):
    return next(d.f for d in catalog.find(function).deviations if d.name == name)


@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.7, "weight_decay": 0.3},
        {"momentum": 0.7, "weight_decay": 0.3, "nesterov": True},
    ],
)
def test_sgd(hyper):
    ours = {"lr": 0.05, "decoupled_weight_decay": False, **hyper}
    _agree(lambda p: torch.optim.SGD(p, lr=0.05, **hyper), sgd.update, sgd.init, ours)


def test_dampening_spares_the_first_gradient():
    ours = {"lr": 0.05, "momentum": 0.8, "averaging": "ema"}
    rule = _deviation("sgd.update", "first gradient undamped")
    _agree(lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, dampening=0.8), rule, sgd.init, ours)


ADAM = {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
IN_TORCH = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_with_both_decays(decoupled):
    decay = {"weight_decay": 0.2, "decoupled_weight_decay": decoupled}
    _agree(lambda p: torch.optim.Adam(p, **IN_TORCH, **decay), adam.update, adam.init, {**ADAM, **decay})


def test_adamw():
    ours = {**ADAM, "weight_decay": 0.2}
    _agree(lambda p: torch.optim.AdamW(p, **IN_TORCH, weight_decay=0.2), adam.update, adam.init, ours)


def test_fixed_decay():
    """AdamP without projection; its place of epsilon does not matter at 1e-14."""
    public = pytest.importorskip("pytorch_optimizer")
    rule = _deviation("adam.update", "decay without the rate")
    theirs = {**IN_TORCH, "eps": 1e-14, "weight_decay": 0.02, "delta": 0.0, "fixed_decay": True}
    _agree(lambda p: public.AdamP(p, **theirs), rule, adam.init, {**ADAM, "eps": 1e-14, "weight_decay": 0.02})


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_diffgrad(decay):
    public = pytest.importorskip("pytorch_optimizer")
    theirs = {**IN_TORCH, "weight_decay": decay, "weight_decouple": False}
    ours = {**ADAM, "weight_decay": decay}
    _agree(lambda p: public.DiffGrad(p, **theirs), diffgrad.update, diffgrad.init, ours)


def test_diffgrad_decays_apart_by_default():
    public = pytest.importorskip("pytorch_optimizer")
    rule = _deviation("diffgrad.update", "decoupled decay")
    ours = {**ADAM, "weight_decay": 0.2}
    _agree(lambda p: public.DiffGrad(p, **IN_TORCH, weight_decay=0.2), rule, diffgrad.init, ours)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 1.0, 9.0])
@pytest.mark.parametrize("nesterov", [False, True])
def test_adamp(threshold, nesterov):
    """Public epsilon hat is on record; the thresholds let nothing, little, much and everything pass."""
    public = pytest.importorskip("pytorch_optimizer")
    shared = {"weight_decay": 0.2, "nesterov": nesterov}
    theirs = {**IN_TORCH, **shared, "delta": threshold, "wd_ratio": 0.3}
    ours = {**ADAM, **shared, "threshold": threshold, "decay_ratio": 0.3}
    rule = _deviation("adamp.update", "epsilon hat")
    _agree(lambda p: public.AdamP(p, **theirs), rule, adamp.init, ours)
    tiny = {"eps": 1e-14}
    _agree(lambda p: public.AdamP(p, **theirs | tiny), adamp.update, adamp.init, ours | tiny)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 1.0, 9.0])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgdp(threshold, nesterov):
    public = pytest.importorskip("pytorch_optimizer")
    shared = {"lr": 0.05, "momentum": 0.7, "weight_decay": 0.2, "nesterov": nesterov, "eps": 1e-3}
    theirs = {**shared, "delta": threshold, "wd_ratio": 0.3}
    ours = {**shared, "threshold": threshold, "decay_ratio": 0.3}
    _agree(lambda p: public.SGDP(p, **theirs), adamp.sgdp_update, adamp.init, ours)


class AdaMomentumInTorch(torch.optim.Optimizer):
    """Written after the paper's algorithm with torch's own primitives: no public package has it."""

    def __init__(self, params, lr, betas, eps, weight_decay):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["t"] += 1
                state["m"].lerp_(p.grad, 1 - group["betas"][0])
                state["v"].lerp_(state["m"].square(), 1 - group["betas"][1]).add_(group["eps"])
                corrections = [1 - beta ** state["t"] for beta in group["betas"]]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                root = (state["v"] / corrections[1]).sqrt()
                p.addcdiv_(state["m"], root, value=-group["lr"] / corrections[0])


def test_adamomentum():
    make = lambda p: AdaMomentumInTorch(p, **IN_TORCH, weight_decay=0.2)  # noqa: E731
    _agree(make, adamomentum.update, adamomentum.init, {**ADAM, "weight_decay": 0.2})


def test_amsgrad():
    ours = {**ADAM, "corrected": "maximum"}
    _agree(lambda p: torch.optim.Adam(p, **IN_TORCH, amsgrad=True), amsgrad.update, amsgrad.init, ours)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_lion(decay):
    public = pytest.importorskip("pytorch_optimizer")
    shared = {"lr": 0.02, "weight_decay": decay}
    ours = {**shared, "beta1": 0.8, "beta2": 0.95}
    _agree(lambda p: public.Lion(p, **shared, betas=(0.8, 0.95)), lion.update, lion.init, ours)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("proximal", [True, False])
def test_adan(decay, proximal):
    public = pytest.importorskip("pytorch_optimizer")
    shared = {"lr": 0.02, "eps": 1e-3, "weight_decay": decay}
    theirs = {**shared, "betas": (0.8, 0.7, 0.9), "weight_decouple": not proximal}
    ours = {**shared, "beta1": 0.8, "beta2": 0.7, "beta3": 0.9, "proximal": proximal}
    _agree(lambda p: public.Adan(p, **theirs), adan.update, adan.init, ours)


@pytest.mark.parametrize(("theirs", "scale"), [("original", "muon"), ("match_rms_adamw", "adam")])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_to_the_precision_of_bfloat16(theirs, scale, nesterov):
    """Torch iterates in bfloat16 (8 bits): 5 % of a step of 6 × 3, in the Frobenius norm, step by step."""
    rng, hyper = np.random.default_rng(9), {"lr": 0.1, "momentum": 0.8, "nesterov": nesterov, "weight_decay": 0.1}
    params = [rng.standard_normal((6, 3))]
    weight = torch.tensor(params[0], requires_grad=True)
    optimizer, state = torch.optim.Muon([weight], adjust_lr_fn=theirs, **hyper), muon.init(params)
    for _ in range(8):
        g, before, torch_before = rng.standard_normal((6, 3)), params[0], weight.detach().numpy().copy()
        params, state = muon.update(params, [g], state, **hyper, scale=scale)
        weight.grad = torch.tensor(g)
        optimizer.step()
        ours, others = params[0] - 0.99 * before, weight.detach().numpy() - 0.99 * torch_before
        assert np.linalg.norm(ours - others) < 0.05 * np.linalg.norm(ours)
