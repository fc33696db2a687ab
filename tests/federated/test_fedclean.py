"""Medians against a search, the divergence by draws, chains of trust, and what each attack does to them."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.federated.fedavg import average
from trref.federated.fedclean import (
    aggregate,
    geometric_median,
    normalised_maps,
    reconstruction_errors,
    trusted,
    vae_objective,
)


def test_the_median_against_a_search_and_of_a_triangle():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((7, 3))
    points[0] *= 50
    cost = lambda z: np.linalg.norm(points - z, axis=1).sum()  # noqa: E731
    found = minimize(cost, points.mean(0), tol=1e-14)
    told = geometric_median(points)
    assert told.converged and cost(told.point) <= found.fun + 1e-10
    triangle = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, np.sqrt(3)]])
    assert np.allclose(geometric_median(triangle).point, triangle.mean(0), atol=1e-9, rtol=1e-9)
    wide = np.array([[0.0, 0.0], [1.0, 0.1], [-1.0, 0.1]])
    assert np.array_equal(geometric_median(wide).point, wide[0]), "an angle above 120 degrees"


def test_it_leaves_a_point_at_which_the_mean_is_but_not_the_median():
    points = np.array([[0.0, 0.0], [8.0, 0.0], [-2.0, 1.0], [-2.0, -1.0], [-4.0, 0.0]])
    for dtype, close in ((np.float64, 1e-9), (np.float32, 1e-4)):
        told = geometric_median(points.astype(dtype))
        assert told.converged and np.allclose(told.point, [1 / np.sqrt(3) - 2, 0], atol=close, rtol=close)


def test_it_moves_and_turns_with_the_points_and_stays_with_the_majority():
    rng = np.random.default_rng(1)
    points, Q = rng.standard_normal((9, 3)), np.linalg.qr(rng.standard_normal((3, 3)))[0]
    at = geometric_median(points).point
    assert np.allclose(geometric_median(5 * points @ Q + 7).point, 5 * at @ Q + 7, atol=1e-8, rtol=1e-9)
    for far in (1e3, 1e6):
        moved = np.concatenate([points[:5], points[5:] + far])
        assert np.linalg.norm(geometric_median(moved).point - points[:5].mean(0)) < 20


def test_normalised_maps():
    maps = np.array([[[1.0, 2.0]], [[1.0, 2.0 + np.log(3)]]])
    assert np.allclose(normalised_maps(maps, maps[0]), [[[0.5, 0.5]], [[0.5, 0.75]]], rtol=1e-9)


def _vae(seed=0, N=5, H=3, C=2, L=2, E=4):
    rng = np.random.default_rng(seed)
    theta = 0.5 * rng.standard_normal(E * (2 * H + 2 * C + 3 * L + 2) + 2 * L + H)
    return rng, theta, rng.random((N, H)), np.eye(C)[rng.integers(0, C, N)], rng.standard_normal((N, L))


def test_without_noise_and_divergence_it_is_the_error():
    _, theta, a, c, _ = _vae()
    noise = np.zeros((5, 2))
    value, _ = vae_objective(theta, a, c, noise, beta=0.0)
    assert reconstruction_errors(theta, a[None], c, noise)[0] == pytest.approx(2 * float(value) / 3)


def test_the_divergence_by_draws():
    """KL of N(mu, sigma²) from N(0, 1), from the log densities at many draws of the latents."""
    rng, theta, a, c, noise = _vae(1, N=1)
    ends = [float(vae_objective(theta, a, c, noise, beta=beta)[0]) for beta in (0.0, 1.0)]
    E, H, C, L = 4, 3, 2, 2
    W1, rest = theta[: (H + C) * E].reshape(H + C, E), theta[(H + C) * E :]
    u = np.tanh(np.concatenate([a[0], c[0]]) @ W1 + rest[:E])
    code = u @ rest[E : E + E * 2 * L].reshape(E, 2 * L) + rest[E + E * 2 * L : E + E * 2 * L + 2 * L]
    mu, sigma = code[:L], np.exp(code[L:] / 2)
    z = mu + sigma * rng.standard_normal((400000, L))
    logs = (-((z - mu) ** 2) / (2 * sigma**2) - np.log(sigma) + z**2 / 2).sum(1)
    assert ends[1] - ends[0] == pytest.approx(logs.mean(), abs=4.5 * logs.std() / 400000**0.5)


def test_a_linear_autoencoder_loses_more_than_principal_components():
    """One latent, beta 1: at its stationary point each row loses the rest of the variance and 1/eigenvalue."""
    rng, tiny = np.random.default_rng(3), 1e-4
    a = rng.standard_normal((40, 3)) * np.array([3.0, 0.5, 0.4])
    a -= a.mean(0)
    values, vectors = np.linalg.eigh(a.T @ a / 40)
    v, value = vectors[:, 2], values[2]
    into = np.sqrt(value - 1) / value * v  # the mean of the latent; its variance is 1 / value
    parts = (
        [tiny * np.append(into, 0.0), [0.0], [1 / tiny, 0.0], [0.0, -np.log(value)]],
        [[tiny, 0.0], [0.0], np.sqrt(value - 1) / tiny * v, np.zeros(3)],
    )
    theta = np.concatenate([np.ravel(p) for part in parts for p in part])
    one = np.ones((40, 1))
    ends = [vae_objective(theta, a, one, s * one, beta=1.0)[1] for s in (1.0, -1.0)]  # noise of variance 1
    slope = (ends[0] + ends[1]) / 2
    scale = np.repeat([tiny, 1.0, tiny, 1.0], [5, 4, 3, 6])  # of what large weights lie behind
    assert abs(slope * scale).max() < 1e-5
    loss = 3 * reconstruction_errors(theta, a[None], one, 0 * one)[0]
    assert loss == pytest.approx(values[0] + values[1] + 1 / value, rel=1e-5)


@pytest.mark.parametrize("bias", [-1e4, 1e4])
def test_extreme_variances(bias):
    """The second half of b2 are logarithms of variances; they are kept within 60 of 0, and rest there."""
    _, theta, a, c, noise = _vae(2)
    at = (3 + 2) * 4 + 4 + 4 * 4 + 2
    theta[at : at + 2] = bias
    value, gradient = vae_objective(theta, a, c, noise, beta=1.0)
    bound = np.sign(bias) * 60
    expected = np.exp(bound) - 1 - bound
    # what is reconstructed and the means add a few units
    assert value == pytest.approx(expected, abs=20 + 1e-9 * expected) and not gradient[at : at + 2].any()


def test_chains_of_trust():
    errors = np.array([1.1, 9.0, 1.0, 1.4, 9.1])
    assert np.array_equal(trusted(errors), [1, 0, 1, 1, 0])
    order = np.array([3, 0, 4, 2, 1])
    assert np.array_equal(trusted(errors[order]), trusted(errors)[order])
    assert np.array_equal(trusted(5 * errors - 2), trusted(errors))
    assert trusted(errors, share=1.0).all() and trusted(np.ones(4), share=0.0).all()
    assert np.array_equal(trusted(np.array([1.0, 5.0, 5.1, 5.2, 9.0]), majority=True), [1, 1, 1, 1, 0])
    assert np.array_equal(trusted(np.array([1.0, 5.0, 5.1, 5.2, 9.0])), [1, 0, 0, 0, 0]), "the seed may be the attacker"


def test_somebody_is_flagged_below_1_over_k_less_1():
    rng, grows = np.random.default_rng(2), []
    for _ in range(50):
        errors = rng.random(6)
        kept = [trusted(errors, share=s).sum() for s in (0.19, 0.3, 0.6, 1.0)]
        grows.append(kept)
        assert kept[0] < 6 and kept[-1] == 6
    assert (np.diff(np.array(grows), axis=1) >= 0).all()


def test_the_average_of_those_who_are_left():
    thetas, counts = np.arange(6.0).reshape(3, 2), np.array([1.0, 2.0, 3.0])
    errors = np.array([0.1, 8.0, 0.2])
    assert np.allclose(aggregate(thetas, counts, errors), average(thetas[[0, 2]], counts[[0, 2]]), rtol=1e-9)


def test_bad_input():
    _, theta, a, c, noise = _vae()
    with pytest.raises(ValueError, match="theta must be the parameters"):
        vae_objective(theta[:-1], a, c, noise, beta=1.0)
    with pytest.raises(ValueError, match="share must"):
        trusted(np.ones(2), share=-0.1)
