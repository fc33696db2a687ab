"""Averages of weights against PyTorch, optax, and the counting of timm and diffusers."""

import numpy as np
import pytest

from trref import catalog
from trref.optimizers.weight_ema import average_path, blend

pytestmark = pytest.mark.peer
PATH = np.random.default_rng(5).standard_normal((25, 4))


def test_torch_copies_and_averages():
    torch = pytest.importorskip("torch")
    swa = pytest.importorskip("torch.optim.swa_utils")
    model = torch.nn.Linear(4, 1, bias=False).double()
    for theirs, decays in (
        (swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9)), np.full(25, 0.9)),
        (swa.AveragedModel(model), np.arange(25) / np.arange(1, 26)),
    ):
        for row, ours in zip(PATH, average_path(PATH, decays), strict=True):
            with torch.no_grad():
                model.weight.copy_(torch.tensor(row[None]))
            theirs.update_parameters(model)
            assert np.allclose(theirs.module.weight.detach().numpy()[0], ours, rtol=1e-12, atol=1e-13)


def test_optax_corrects_and_swaps():
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with jax.enable_x64(True):
        for start, debias in (("debiased", True), ("zero", False)):
            theirs = optax.ema(0.9, debias=debias)
            state = theirs.init(jax.numpy.zeros(4))
            for row, ours in zip(PATH, average_path(PATH, np.full(25, 0.9), start=start), strict=True):
                found, state = theirs.update(jax.numpy.asarray(row), state)
                assert np.allclose(np.asarray(found), ours, rtol=1e-12, atol=1e-13)
        new, old = jax.numpy.asarray(PATH[0]), jax.numpy.asarray(PATH[1])
        swapped = catalog.find("weight_ema.blend").deviations[0].f
        found = np.asarray(optax.incremental_update(new, old, step_size=0.9))
        assert np.allclose(found, swapped(PATH[1], PATH[0], decay=0.9), rtol=1e-13, atol=1e-14)
        assert np.allclose(found, blend(PATH[1], PATH[0], decay=0.1), rtol=1e-13, atol=1e-14)


def test_one_behind_by_hand():
    """The second update of diffusers has TensorFlow's 2/11, and its first two the decay 0 at arguments 0 and 1."""
    behind = catalog.find("weight_ema.warm_decays").deviations[0].f
    assert behind(np.arange(5.0), warmup="tensorflow") == pytest.approx([0, 0, 2 / 11, 0.25, 4 / 13])
