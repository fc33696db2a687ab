"""Theorems of denoising score matching, on a mixture whose score is known."""

import itertools

import numpy as np
import pytest

from trref.catalog.diffusion.score_matching import PREDICTIONS
from trref.diffusion.score_matching import convert_prediction, flow_matching, noise_matching
from trref.problems.mixtures import three_components

ALPHA, SIGMA, ALPHA_RATE, SIGMA_RATE = 0.7, 0.5, -1.3, 0.9
PATH = {"alpha": ALPHA, "sigma": SIGMA, "alpha_rate": ALPHA_RATE, "sigma_rate": SIGMA_RATE}


def test_by_hand():
    """Errors (1, -2) and (0, 3) with weights 2 and 0.5: (2·5 + 0.5·9) / 2."""
    loss, gradient = noise_matching(
        np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([2, 0.5])
    )
    assert loss == pytest.approx(7.25) and gradient.tolist() == [[2.0, -4.0], [0.0, 1.5]]


def test_flow_target_is_the_velocity_of_the_path():
    rng = np.random.default_rng(0)
    x0, noise, h = rng.standard_normal((5, 2)), rng.standard_normal((5, 2)), 1e-4
    path = lambda u: np.cos(u) * x0 + np.sin(u) * noise  # noqa: E731
    velocity = (path(0.4 + h) - path(0.4 - h)) / (2 * h)
    loss, _ = flow_matching(velocity, x0, noise, np.ones(5), alpha_rate=-np.sin(0.4), sigma_rate=np.cos(0.4))
    assert loss < 1e-14


def _mixed(n=400_000):
    mixture, rng = three_components(), np.random.default_rng(1)
    x0, noise = mixture.sample(rng, n), rng.standard_normal((n, 2))
    x = ALPHA * x0 + SIGMA * noise
    return x0, noise, x, mixture.noised(ALPHA, SIGMA).score(x)


def test_the_loss_is_the_error_of_the_score_plus_a_constant():
    """C = d / sigma² - E‖score‖², whatever the model; five standard errors of the difference."""
    _, noise, x, score = _mixed()
    for model in (score + 0.3 * np.sin(x), 0 * x, -x):
        each = ((model + noise / SIGMA) ** 2).sum(1) - ((model - score) ** 2).sum(1) + (score**2).sum(1)
        assert abs(each.mean() - 2 / SIGMA**2) < 5 * each.std() / len(x) ** 0.5
        loss, _ = noise_matching(-SIGMA * model, noise, np.full(len(x), SIGMA**-2))
        assert loss == pytest.approx(((model + noise / SIGMA) ** 2).sum(1).mean(), rel=1e-10)


@pytest.mark.parametrize("given", PREDICTIONS)
def test_conditional_means_convert_into_each_other(given):
    """At a point x: posterior means by components, each a Gaussian that is conditioned by itself."""
    mixture, x = three_components(), np.array([[0.3, -0.4], [1.5, 2.0]])
    x0 = np.zeros_like(x)
    r = mixture.noised(ALPHA, SIGMA).responsibilities(x)
    for k, (m, S) in enumerate(zip(mixture.means, mixture.covariances, strict=True)):
        gain = ALPHA * S @ np.linalg.inv(ALPHA**2 * S + SIGMA**2 * np.eye(2))
        x0 += r[:, k : k + 1] * (m + (x - ALPHA * m) @ gain.T)
    noise = (x - ALPHA * x0) / SIGMA
    means = {"data": x0, "noise": noise, "score": mixture.noised(ALPHA, SIGMA).score(x)}
    means["velocity"] = ALPHA_RATE * x0 + SIGMA_RATE * noise
    for wanted in PREDICTIONS:
        assert np.allclose(
            convert_prediction(means[given], x, given=given, wanted=wanted, **PATH), means[wanted], rtol=1e-9
        )


def test_there_and_back():
    rng = np.random.default_rng(2)
    prediction, x = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    for a, b in itertools.product(PREDICTIONS, repeat=2):
        there = convert_prediction(prediction, x, given=a, wanted=b, **PATH)
        assert np.allclose(convert_prediction(there, x, given=b, wanted=a, **PATH), prediction, rtol=1e-11)


def test_straight_path():
    """x = (1 - u) x0 + u noise, v = noise - x0: x0 = x - u v and score = -(x + (1 - u) v) / u."""
    rng, u = np.random.default_rng(3), 0.3
    v, x = rng.standard_normal((4, 2)), rng.standard_normal((4, 2))
    level = {"given": "velocity", "alpha": 1 - u, "sigma": u}
    assert np.allclose(convert_prediction(v, x, wanted="data", **level), x - u * v, rtol=1e-9)
    assert np.allclose(convert_prediction(v, x, wanted="score", **level), -(x + (1 - u) * v) / u, rtol=1e-9)


def test_bad_input():
    x = np.ones((2, 2))
    with pytest.raises(ValueError, match="given must be one of"):
        convert_prediction(x, x, given="epsilon")
    with pytest.raises(ValueError, match="sigma must lie in"):
        convert_prediction(x, x, sigma=0.0)
    with pytest.raises(ValueError, match="alpha_rate sigma must differ"):
        convert_prediction(x, x, given="velocity", alpha=1.0, sigma=1.0, alpha_rate=1.0, sigma_rate=1.0)
