"""Update rules that trackers dispute against torch.optim, optax and pytorch_optimizer, step by step in float64."""

import types

import numpy as np
import pytest

from trref import catalog
from trref.optimizers import adabelief, adafactor, adamax, adamw, nadam, shampoo, soap

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer
SHAPES = [(3, 2), (4,), (2, 3, 2)]


def _gradients(shapes, steps, seed=8):
    rng = np.random.default_rng(seed)
    params = [rng.standard_normal(s) for s in shapes]
    return params, [[rng.standard_normal(s) * (0.3, 1.0, 2.0)[k % 3] for s in shapes] for k in range(steps)]


def _with_torch(make, module, hyper, *, steps=40, shapes=SHAPES, rtol=1e-11, atol=1e-12):
    params, sequence = _gradients(shapes, steps)
    theirs = [torch.tensor(p, requires_grad=True) for p in params]
    optimizer, state = make(theirs), module.init(params)
    for step, gradients in enumerate(sequence):
        params, state = module.update(params, gradients, state, **hyper)
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        for ours, p in zip(params, theirs, strict=True):
            assert np.allclose(ours, p.detach().numpy(), rtol=rtol, atol=atol), step


def _with_optax(transformation, module, hyper, *, steps=30):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with jax.enable_x64(True):
        params, sequence = _gradients(SHAPES, steps)
        theirs = [jax.numpy.asarray(p) for p in params]
        state, their_state = module.init(params), transformation(optax).init(theirs)
        for step, gradients in enumerate(sequence):
            params, state = module.update(params, gradients, state, **hyper)
            named = [jax.numpy.asarray(g) for g in gradients]
            updates, their_state = transformation(optax).update(named, their_state, theirs)
            theirs = optax.apply_updates(theirs, updates)
            for ours, p in zip(params, theirs, strict=True):
                assert np.allclose(ours, np.asarray(p), rtol=1e-11, atol=1e-12), step


RATES = {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
IN_TORCH = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}
IN_OPTAX = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}


@pytest.mark.parametrize("psi", [0.004, 0.7])
def test_nadam_of_the_report(psi):
    """PyTorch keeps the product of the weights in single precision: an error of about 1e-7 of every step."""
    ours = {**RATES, "psi": psi, "form": "report", "second": False}
    _with_torch(lambda p: torch.optim.NAdam(p, **IN_TORCH, momentum_decay=psi), nadam, ours, rtol=1e-6, atol=1e-6)


def test_nadam_without_schedule():
    _with_optax(lambda o: o.nadam(0.05, **IN_OPTAX), nadam, {**RATES, "form": "constant", "second": False})


def test_adamax():
    ours = {**RATES, "epsilon": "inside"}
    _with_torch(lambda p: torch.optim.Adamax(p, **IN_TORCH), adamax, ours)
    _with_optax(lambda o: o.adamax(0.05, **IN_OPTAX), adamax, ours)


def test_adabelief():
    _with_optax(lambda o: o.adabelief(0.05, **IN_OPTAX, eps_root=1e-3), adabelief, RATES)
    public = pytest.importorskip("pytorch_optimizer")
    _with_torch(lambda p: public.AdaBelief(p, **IN_TORCH, rectify=False), adabelief, RATES)


def test_rectified_adabelief():
    public = pytest.importorskip("pytorch_optimizer")
    ours = {**RATES, "rectified": True}
    _with_torch(lambda p: public.AdaBelief(p, **IN_TORCH, rectify=True, degenerated_to_sgd=True), adabelief, ours)


def test_adafactor():
    """Without decay PyTorch's bounds never act, and its ε₁ of the dtype is replaced by ours."""
    _with_torch(lambda p: torch.optim.Adafactor(p, lr=0.05, eps=(1e-30, 1e-3)), adafactor, {"lr": 0.05}, rtol=1e-9)
    theirs = {"lr": 0.05, "eps": (1e-30, 1e-3), "weight_decay": 0.3}
    rule = next(d.f for d in catalog.find("adafactor.update").deviations if "PyTorch" in d.name)
    named = types.SimpleNamespace(init=adafactor.init, update=rule)
    ours = {"lr": 0.05, "weight_decay": 0.3}
    _with_torch(lambda p: torch.optim.Adafactor(p, **theirs), named, ours, rtol=1e-9)


@pytest.mark.parametrize("relative", [True, False])
def test_adafactor_with_momentum(relative):
    public = pytest.importorskip("pytorch_optimizer")
    theirs = {"lr": 0.05, "betas": (0.7, 0.6), "weight_decay": 0.3, "relative_step": relative}
    ours = {"lr": 0.01 if relative else 0.05, "beta1": 0.7, "longest": 0.6, "weight_decay": 0.3, "relative": relative}
    make = lambda p: public.AdaFactor(p, **theirs, momentum_dtype=torch.float64)  # noqa: E731
    _with_torch(make, adafactor, ours, rtol=1e-9, atol=1e-10)


def test_shampoo():
    """Matrices: of three axes pytorch_optimizer 4.1 folds the gradient in another order."""
    public = pytest.importorskip("pytorch_optimizer")
    theirs = {"lr": 0.05, "matrix_eps": 0.1, "preconditioning_compute_steps": 1}
    shapes = [(3, 2), (4, 4), (2, 5)]
    make = lambda p: public.Shampoo(p, **theirs)  # noqa: E731
    _with_torch(make, shampoo, {"lr": 0.05, "eps": 0.1}, shapes=shapes, steps=15, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("every", [1, 3])
def test_soap(every):
    """Its eigenvectors are of single precision: 1e-7 of a basis, a few times more where eigenvalues are close."""
    public = pytest.importorskip("pytorch_optimizer")
    theirs = {"lr": 0.05, "betas": (0.8, 0.7), "shampoo_beta": 0.6, "eps": 1e-3, "weight_decay": 0.2}
    ours = {"lr": 0.05, "beta1": 0.8, "beta2": 0.7, "shampoo_beta": 0.6, "eps": 1e-3, "weight_decay": 0.2}
    make = lambda p: public.SOAP(p, **theirs, precondition_frequency=every)  # noqa: E731
    shapes = [(3, 3), (4, 3), (5,)]
    _with_torch(make, soap, {**ours, "every": every}, shapes=shapes, steps=12, rtol=0, atol=2e-5)


def test_adamw_along_a_schedule():
    """The paper's form is PyTorch's with the decay over the rate, while a schedule multiplies both."""
    params, sequence = _gradients(SHAPES, 20)
    theirs = [torch.tensor(p, requires_grad=True) for p in params]
    optimizer, state = torch.optim.AdamW(theirs, **IN_TORCH, weight_decay=0.02 / 0.05), adamw.init(params)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / 25)
    for k, gradients in enumerate(sequence):
        params, state = adamw.update(params, gradients, state, **RATES, weight_decay=0.02, schedule=1 - k / 25)
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        falling.step()
        for ours, p in zip(params, theirs, strict=True):
            assert np.allclose(ours, p.detach().numpy(), rtol=1e-11, atol=1e-12), k
