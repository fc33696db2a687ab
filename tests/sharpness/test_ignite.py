"""The constraint by hand, its difference against its derivative, the multiplier, and what cannot be regularised."""

import numpy as np
import pytest

from trref.nn import mlp
from trref.problems.convex import Quadratic
from trref.problems.networks import MeanOutput, RegressionLoss
from trref.sharpness import sam
from trref.sharpness.ignite import (
    multiplier_step,
    output_perturbation,
    output_sharpness,
    penalised_fit,
    penalised_fit_exact,
)


def _network(seed=0, sizes=(3, 6, 1)):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((20, sizes[0]))
    return RegressionLoss(X, X[:, :1] ** 2, sizes), MeanOutput(X, sizes), mlp.init(rng, sizes)


def test_numbers_by_hand():
    """L = |w|²/2 and G = x² + 2 y² at (3/2, 1): g = (3, 4), and H u = (2 · 3/5, 4 · 4/5)."""
    loss, output = Quadratic(np.eye(2), np.zeros(2)), Quadratic(np.diag([2.0, 4.0]), np.zeros(2))
    w, how = np.array([1.5, 1.0]), {"penalty_weight": 0.5, "rho": 0.2, "threshold": 0.3}
    assert output_sharpness(output, w, rho=0.2) == pytest.approx(1.0, rel=1e-14)
    value, gradient = penalised_fit_exact(loss, output, w, **how)
    assert value == pytest.approx(1.625 + 0.5 * (1.0 - 0.3), rel=1e-14)
    assert np.allclose(gradient, [1.5 + 0.5 * 0.2 * 1.2, 1.0 + 0.5 * 0.2 * 3.2], rtol=1e-14)
    # d = (0.06, 0.08): G rises by 0.5 + 0.06² + 2 · 0.08², and rho / r = 2
    value, gradient = penalised_fit(loss, output, w, inner_rho=0.1, **how)
    assert value == pytest.approx(1.625 + 0.5 * (2 * (0.5 + 0.0036 + 0.0128) - 0.3), rel=1e-13)
    assert np.allclose(gradient, [1.5 + 0.5 * 2 * 2 * 0.06, 1.0 + 0.5 * 2 * 4 * 0.08], rtol=1e-13)


def test_the_difference_tends_to_the_derivative():
    """Linearly in r."""
    loss, output, w = _network()
    how = {"penalty_weight": 1.0, "rho": 0.3}
    exact = penalised_fit_exact(loss, output, w, **how)[1]
    error = [np.linalg.norm(penalised_fit(loss, output, w, inner_rho=r, **how)[1] - exact) for r in (1e-2, 1e-3)]
    assert error[0] / error[1] == pytest.approx(10, rel=0.05)


def test_the_ascent_is_sam_s_of_the_output():
    _, output, w = _network(1)
    theirs = sam.worst_perturbation(output, w, rho=0.07)
    assert np.allclose(output_perturbation(output, w, inner_rho=0.07), theirs, rtol=1e-12)


def test_a_surrogate_that_is_linear_in_its_weights_is_left_alone():
    """And its sharpness is exact: no ball of weights moves the output by more."""
    loss, output, w = _network(2, sizes=(3, 1))
    for f in (penalised_fit, penalised_fit_exact):
        assert np.allclose(f(loss, output, w, penalty_weight=5.0)[1], loss(w)[1], rtol=0, atol=1e-12)
    worst = output(w + output_perturbation(output, w, inner_rho=0.3))[0] - output(w)[0]
    assert output_sharpness(output, w, rho=0.3) == pytest.approx(float(worst), rel=1e-12)


def test_a_bias_keeps_the_sharpness_above_the_radius():
    _, output, w = _network(3)
    assert output(w)[1][-1] == pytest.approx(1.0, rel=1e-14)
    assert output_sharpness(output, w, rho=0.05) >= 0.05
    multiplier = np.asarray(0.0)
    for k in range(1, 4):
        multiplier = multiplier_step(output, w, multiplier, threshold=0.04, lr=1.0)
        assert multiplier >= k * 0.01 - 1e-14


def test_the_multiplier_rises_where_the_constraint_is_broken_and_stops_at_zero():
    output, w = Quadratic(np.eye(1), np.zeros(1)), np.array([2.0])
    step = lambda threshold, last: multiplier_step(  # noqa: E731
        output, w, np.asarray(last), lr=0.1, rho=0.05, threshold=threshold
    )
    assert step(0.04, 0.02) == pytest.approx(0.026) and step(0.2, 0.02) == pytest.approx(0.01)
    assert step(0.1, 0.02) == pytest.approx(0.02) and step(1.0, 0.02) == 0


def test_bad_input():
    loss, output, w = _network()
    with pytest.raises(TypeError, match="mean_output must be callable"):
        penalised_fit(loss, 1.0, w)
    with pytest.raises(TypeError, match=r"mean_output must have .*hessian_product"):
        penalised_fit_exact(loss, lambda w: output(w), w)
    with pytest.raises(TypeError, match="mean_output must return a tuple"):
        output_sharpness(lambda w: 1.0, w)
    with pytest.raises(ValueError, match="mean_output must return a gradient of shape"):
        penalised_fit(loss, lambda w: (0.0, w[:-1]), w)
    with pytest.raises(ValueError, match="inner_rho must lie in"):
        penalised_fit(loss, output, w, inner_rho=0.0)
