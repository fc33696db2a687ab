"""The identity of two losses, the floor that labels leave, and the split that adds up."""

import numpy as np
import pytest

from trref.diffusion.score_estimation_ntk import error_split, parametric_score, score_loss, truncate
from trref.diffusion.tangent_kernel import kernel_descent, limit_kernel
from trref.problems.mixtures import MixtureDenoiser, three_components, vp_schedule

MIXTURE = three_components()


def _draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def _noisy(seed, n):
    """Data, noisy data at their own times, and signal levels."""
    rng = np.random.default_rng(seed)
    x0, t = MIXTURE.sample(rng, n), rng.uniform(0.1, 0.9, n)
    alpha, sigma = vp_schedule(t)
    return x0, alpha[:, None] * x0 + sigma[:, None] * rng.standard_normal((n, 2)), alpha, t


def test_by_hand():
    """alpha 0.6, h 0.64: (0.6·2 - 1)/0.64 = 0.3125."""
    one = np.array([0.6])
    assert parametric_score(np.array([[2.0]]), np.array([[1.0]]), one) == pytest.approx(0.3125)
    # (0.64·0.3125 + 1)/0.6 = 2, two above x0 = 0
    loss, gradient = score_loss(np.array([[0.3125]]), np.array([[0.0]]), np.array([[1.0]]), one)
    assert loss == pytest.approx(4.0) and gradient == pytest.approx(2 * 0.64 / 0.6 * 2)


def test_the_weighted_loss_of_the_score_is_the_denoisers():
    """Point by point, for any prediction: h²/alpha² |s - score of the noise|² = |f - x0|²."""
    x0, x, alpha, _ = _noisy(0, 40)
    f = x0 + _draws(1, 40, 2)
    s, h = parametric_score(f, x, alpha), (1 - alpha**2)[:, None]
    weighted = (h / alpha[:, None]) ** 2 * (s - (alpha[:, None] * x0 - x) / h) ** 2
    assert np.allclose(weighted.sum(1), ((f - x0) ** 2).sum(1), rtol=1e-10)
    loss, gradient = score_loss(s, x0, x, alpha)
    assert loss == pytest.approx(((f - x0) ** 2).sum(1).mean(), rel=1e-12)
    # the chain rule: d s / d f = alpha / h
    assert np.allclose(gradient * alpha[:, None] / h, 2 * (f - x0) / 40, rtol=1e-11)


def test_the_best_denoiser_gives_the_score():
    x, t = _draws(2, 6, 2), np.full(6, 0.4)
    alpha, sigma = (float(level) for level in vp_schedule(t[0]))
    f = MixtureDenoiser(MIXTURE)(x, t)
    assert np.allclose(
        parametric_score(f, x, np.full(6, alpha)), MIXTURE.noised(alpha, sigma).score(x), rtol=0, atol=1e-11
    )


def test_the_floor_is_the_mean_posterior_covariance():
    """E|x0 - f*|² = E tr Cov(x0|x) = E h/alpha² tr(I + h grad score), within five standard errors."""
    n, t = 40_000, 0.4
    alpha, sigma = (float(level) for level in vp_schedule(np.array(t)))
    rng = np.random.default_rng(3)
    x0 = MIXTURE.sample(rng, n)
    x = alpha * x0 + sigma * rng.standard_normal((n, 2))
    square = ((x0 - MixtureDenoiser(MIXTURE)(x, np.full(n, t))) ** 2).sum(1)
    h = sigma**2
    trace = h / alpha**2 * (2 + h * np.trace(MIXTURE.noised(alpha, sigma).score_jacobian(x), axis1=1, axis2=2))
    each = square - trace
    assert abs(each.mean()) < 5 * each.std() / n**0.5
    assert trace.min() > 0


def _split(seed, noise=1.0, steps=40):
    Z, queries = _draws(seed, 15, 3), _draws(seed + 1, 6, 3)
    kernel, query_kernel = limit_kernel(Z, Z), limit_kernel(Z, queries)
    coefficients = _draws(seed + 2, 15, 2)
    fit, query_fit = kernel @ coefficients, query_kernel @ coefficients
    target, query_target = fit + 0.1 * _draws(seed + 3, 15, 2), query_fit + 0.1 * _draws(seed + 4, 6, 2)
    Y = target + noise * _draws(seed + 5, 15, 2)
    lr = 1 / np.linalg.eigvalsh(kernel)[-1]
    given = {
        "predicted": _draws(seed + 6, 6, 2),
        "kernel": kernel,
        "query_kernel": query_kernel,
        "Y": Y,
        "target": target,
        "fit": fit,
        "query_target": query_target,
        "query_fit": query_fit,
    }
    return given, error_split(**given, lr=lr, steps=steps), lr


def test_the_parts_add_up():
    given, parts, _ = _split(10)
    assert np.allclose(sum(parts), given["predicted"] - given["query_target"], rtol=0, atol=1e-12)


def test_the_second_part_is_the_descent_on_the_difference():
    given, parts, lr = _split(20)
    both = [
        kernel_descent(given["kernel"], given["query_kernel"], labels, lr=lr, steps=40)
        for labels in (given["Y"], given["fit"] + given["Y"] - given["target"])
    ]
    assert np.allclose(parts.label_mismatch, both[0] - both[1], rtol=0, atol=1e-12)


def test_without_noise_more_steps_are_always_better_on_the_data():
    given, _, lr = _split(30, noise=0.0)
    at_data = {**given, "query_kernel": given["kernel"], "query_fit": given["fit"], "query_target": given["target"]}
    at_data["predicted"] = given["target"]
    left = [(error_split(**at_data, lr=lr, steps=k).early_stopping ** 2).sum() for k in (0, 1, 5, 40, 1000)]
    assert (np.diff(left) < 0).all()


def test_with_noise_they_are_not():
    """The third part at the queries falls and rises again, on average over draws of the labels."""
    left = np.zeros(4)
    for seed in range(8):
        given, _, lr = _split(100 + 10 * seed, noise=3.0)
        for i, k in enumerate((0, 3, 30, 10**6)):
            left[i] += (error_split(**given, lr=lr, steps=k).early_stopping ** 2).mean() / 8
    assert left[1:3].min() < left[0] and left[1:3].min() < left[3]


def test_truncation_keeps_the_direction_and_what_is_inside():
    x = np.array([[0.3, 0.4], [30.0, -40.0]])
    assert truncate(x, radius=1.0) == pytest.approx(np.array([[0.3, 0.4], [0.6, -0.8]]))


def test_bad_input():
    x = np.ones((2, 2))
    with pytest.raises(ValueError, match="alpha must be below 1"):
        parametric_score(x, x, np.array([0.5, 1.0]))
    with pytest.raises(ValueError, match="alpha must be at least"):
        score_loss(x, x, x, np.array([0.5, 1e-12]))
    with pytest.raises(ValueError, match="lr must be at most one over"):
        error_split(x, 3 * np.eye(2), x, x, x, x, x, x, lr=1.0)
