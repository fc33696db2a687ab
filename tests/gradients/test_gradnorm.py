"""Targets by hand, and the slopes of the weights."""

import numpy as np
import pytest

from trref.gradients.gradnorm import renormalised, targets, weight_objective


def test_numbers_by_hand():
    """Norms 4 and 2 of mean 3; ratios 1/2 and 1, over their mean 2/3 and 4/3."""
    args = [np.array(x) for x in ([2.0, 1.0], [2.0, 2.0], [1.0, 5.0], [2.0, 5.0])]
    assert np.allclose(targets(*args, alpha=2.0), [3 * 4 / 9, 3 * 16 / 9], rtol=1e-9)
    value, gradient = weight_objective(*args, alpha=2.0)
    assert value == pytest.approx(4 - 12 / 9 + 48 / 9 - 2) and np.array_equal(gradient, [2, -2])
    assert np.allclose(renormalised(np.array([1.0, 3.0])), [0.5, 1.5], rtol=1e-9)


def test_descent_brings_norms_together():
    norms, losses = np.array([5.0, 1.0, 0.2]), np.ones(3)
    w = np.ones(3)
    for k in range(4000):
        w = renormalised(w - 2e-2 / (1 + k / 40) * weight_objective(w, norms, losses, losses)[1] / norms)
    assert np.ptp(w * norms) < 0.05 * (w * norms).mean()


def test_bad_input():
    with pytest.raises(ValueError, match="weights must be positive"):
        targets(np.array([0.0]), np.ones(1), np.ones(1), np.ones(1))
