"""Theorems and limits of adaptive sharpness-aware minimisation."""

import numpy as np
import pytest

from trref.catalog import find
from trref.nn import mlp
from trref.problems.convex import Quadratic, logistic
from trref.problems.networks import ClassifierLoss
from trref.sharpness import sam
from trref.sharpness.asam import perturbed_gradient, worst_perturbation


def _problem(seed=0):
    rng = np.random.default_rng(seed)
    return logistic(rng, points=20, dims=6), rng.standard_normal(6), rng


@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_the_constraint_is_active_and_nothing_in_the_ball_is_worse(eta):
    f, w, rng = _problem()
    g, T, e = f(w)[1], abs(w) + eta, worst_perturbation(f, w, rho=0.4, offset=eta)
    assert np.linalg.norm(e / T) == pytest.approx(0.4, rel=1e-12)
    assert g @ e == pytest.approx(0.4 * np.linalg.norm(T * g), rel=1e-12)
    for _ in range(200):
        unit = rng.standard_normal(6)
        assert g @ (0.4 * T * unit / np.linalg.norm(unit)) <= g @ e


def test_by_hand():
    """w = (2, -1), g = (1, 2): T g = (2, 2), T² g = (4, 2), of norm 2 √2."""
    f = Quadratic(np.diag([0.5, -2.0]), np.zeros(2))
    assert f(np.array([2.0, -1.0]))[1].tolist() == [1.0, 2.0]
    expected = 0.5 * np.array([4.0, 2.0]) / np.sqrt(8)
    assert worst_perturbation(f, np.array([2.0, -1.0]), rho=0.5, offset=0.0) == pytest.approx(expected, rel=1e-14)


def _rescaled(theta, sizes, c):
    """The first layer times c, the second divided by it: the same function of a ReLU network."""
    (d, h, k), w = sizes, theta.copy()
    w[: d * h + h] *= c
    w[d * h + h : d * h + h + h * k] /= c
    return w


@pytest.mark.parametrize("c", [3.0, 0.2])
def test_rescaled_layers_are_as_sharp_as_before(c):
    rng = np.random.default_rng(1)
    loss = ClassifierLoss(rng.standard_normal((20, 4)), rng.integers(0, 3, 20), (4, 6, 3), "relu")
    w = mlp.init(rng, loss.sizes) + 0.1 * rng.standard_normal(mlp.size(loss.sizes))
    other = _rescaled(w, loss.sizes, c)
    assert loss(other)[0] == pytest.approx(loss(w)[0], rel=1e-12), "the function is the same"
    adaptive = [perturbed_gradient(loss, x, rho=0.5, offset=0.0)[0] for x in (w, other)]
    fixed = [sam.perturbed_gradient(loss, x, rho=0.5)[0] for x in (w, other)]
    assert adaptive[1] == pytest.approx(adaptive[0], rel=1e-12)
    assert abs(fixed[1] / fixed[0] - 1) > 0.01


def test_without_the_offset_zero_weights_stay():
    f, w, _ = _problem()
    w[2] = 0.0
    assert worst_perturbation(f, w, offset=0.0)[2] == 0 != worst_perturbation(f, w, offset=0.01)[2]


def test_nothing_to_climb():
    f = Quadratic(np.eye(3), np.zeros(3))
    assert not worst_perturbation(f, np.zeros(3)).any()
    assert not worst_perturbation(Quadratic(np.eye(2), np.ones(2)), np.zeros(2), offset=0.0).any(), "all weights are 0"


def test_the_public_variant_agrees_but_for_the_offset():
    f, w, _ = _problem()
    public, _ = find("asam.perturbed_gradient").deviations
    assert np.allclose(public.f(f, w, rho=0.4)[1], perturbed_gradient(f, w, rho=0.4, offset=0.0)[1], rtol=1e-9)


def test_bad_input():
    f, w, _ = _problem()
    for bad in ({"rho": -0.1}, {"offset": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
            perturbed_gradient(f, w, **bad)
