"""Theorems and limits of Muon."""

import numpy as np
import pytest
import scipy.linalg

from trref.optimizers.muon import init, update


def _run(gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = update(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path)


def test_two_exact_steps_by_hand():
    """Gradients diag(4, 1) and diag(-6, 1), μ = ½: m = diag(2, ½), diag(-2, ¾); with Nesterov b = diag(-4, 7/8)."""
    gradients = [np.diag([4.0, 1.0]), np.diag([-6.0, 1.0])]
    path = _run(gradients, np.zeros((2, 2)), lr=0.1, momentum=0.5, factor="svd")
    assert np.allclose(path[1:], [np.diag([-0.1, -0.1]), np.diag([0.0, -0.2])], rtol=1e-9)


def test_nesterov_by_hand():
    """A second gradient of -1.5 after 4: m = 2, then 0.25; looking ahead 0.125 - 0.75 < 0."""
    gradients = [np.array([[4.0]]), np.array([[-1.5]])]
    for nesterov, second in ((False, -0.2), (True, 0.0)):
        path = _run(gradients, np.zeros((1, 1)), lr=0.1, momentum=0.5, factor="svd", nesterov=nesterov)
        assert path.ravel() == pytest.approx([0.0, -0.1, second])


@pytest.mark.parametrize("shape", [(8, 2), (2, 8), (3, 3)])
def test_scales_of_the_step(shape):
    """Times the polar factor: the root of m/n where that is above 1, 0.2 times the root of the longer side, or 1."""
    m, n = shape
    g = np.random.default_rng(0).standard_normal(shape)
    wanted = {"muon": max(1, m / n) ** 0.5, "adam": 0.2 * max(m, n) ** 0.5, "none": 1.0}
    for scale, size in wanted.items():
        moved = _run([g], np.zeros(shape), lr=1.0, factor="svd", scale=scale)[1]
        assert np.allclose(moved, -size * scipy.linalg.polar(g)[0], rtol=0, atol=1e-12)


def test_adam_s_scale_gives_entries_of_adam_s_size():
    """Root mean square 0.2 for any shape of full rank: a polar factor has the squared norm min(m, n)."""
    for shape in ((8, 2), (5, 20)):
        g = np.random.default_rng(1).standard_normal(shape)
        moved = _run([g], np.zeros(shape), lr=1.0, factor="svd", scale="adam")[1]
        assert np.sqrt((moved**2).mean()) == pytest.approx(0.2)


def test_singular_values_of_the_default_step_are_in_muon_s_band():
    g = np.random.default_rng(2).standard_normal((6, 6))
    s = np.linalg.svd(g, compute_uv=False)
    assert s[-1] > 0.01 * np.linalg.norm(s), "as the band asks"
    step = np.linalg.svd(_run([g], np.zeros((6, 6)), lr=1.0)[1], compute_uv=False)
    assert step.min() > 0.68 and step.max() < 1.14


def test_the_scale_of_the_gradient_does_not_matter():
    gradients = np.random.default_rng(3).standard_normal((10, 4, 3))
    for factor in ("svd", "muon", "polar_express"):
        a, b = (_run(c * gradients, np.zeros((4, 3)), factor=factor, eps=1e-200) for c in (1.0, 1e3))
        assert np.allclose(a, b, rtol=0, atol=1e-9)


def test_decay_by_hand_and_vectors():
    path = _run([np.zeros((2, 2))], np.ones((2, 2)), lr=0.1, weight_decay=0.5)
    assert np.allclose(path[1], 0.95, rtol=1e-9)
    moved = _run([np.array([3.0, 4.0])], np.zeros(2), lr=1.0, factor="svd", scale="none")[1]
    assert np.allclose(moved, [-0.6, -0.8], rtol=1e-9)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"momentum": 1.0}, {"eps": 0.0}, {"weight_decay": -1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run([np.ones((2, 2))], np.ones((2, 2)), **bad)
