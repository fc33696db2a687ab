"""The smoother's mean and likelihood against scikit-learn's Gaussian process."""

import numpy as np
import pytest

from trref.dynamics.gradient_smoother import likelihood, smoother

pytestmark = pytest.mark.peer
sklearn = pytest.importorskip("sklearn.gaussian_process")


@pytest.mark.parametrize("seed", range(3))
def test_mean_and_likelihood(seed):
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    rng = np.random.default_rng(seed)
    t, y, t2 = np.sort(rng.uniform(0, 6, 15)), rng.standard_normal(15), rng.uniform(-1, 7, 5)
    hyper = rng.uniform(-0.5, 0.5, 3) - np.array([0, 0, 1])
    length, signal, noise = np.exp(hyper)
    kernel = ConstantKernel(signal**2) * RBF(length) + WhiteKernel(noise**2)
    process = sklearn.GaussianProcessRegressor(kernel, optimizer=None, alpha=0).fit(t[:, None], y)
    hyper = [np.array(p) for p in hyper]
    assert smoother(t, y, t2, *hyper).mean == pytest.approx(process.predict(t2[:, None]), abs=1e-9)
    value, gradient = likelihood(t, y, *hyper)
    # theirs: half of it, negative, with the constant; parameters log s_f², log length, log s_n²
    theirs, slopes = process.log_marginal_likelihood(kernel.theta, eval_gradient=True)
    assert value == pytest.approx(-2 * theirs - 15 * np.log(2 * np.pi), rel=1e-10)
    assert gradient == pytest.approx((-2 * slopes[1], -4 * slopes[0], -4 * slopes[2]), rel=1e-8)
