"""Theorems and limits of rl_augmentation."""

import numpy as np
import pytest

from trref.policy.rl_augmentation import (
    actor_divergence,
    averaged_target,
    critic_loss,
    implicit_regularisation,
    loss_variance,
    tangent_prop_loss,
    target_variance,
)
from trref.problems.tangent_critic import TangentCritic


def _critic(seed, sizes=(3, 5, 1), N=6):
    rng = np.random.default_rng(seed)
    critic = TangentCritic(sizes)
    theta = 0.6 * rng.standard_normal(critic.size)
    return critic, theta, rng.standard_normal((N, sizes[0])), rng.standard_normal((N, sizes[0]))


def test_targets_by_hand():
    """Two views: the smaller critics' mean is (1 + 3)/2, discounted by 0.9; nothing after the end."""
    one = np.array([[1.0, 5.0], [4.0, 5.0]]), np.array([[2.0, 6.0], [3.0, 7.0]])
    target = averaged_target(np.array([0.5, 1.0]), *one, np.array([0.0, 1.0]), discount=0.9)
    assert target == pytest.approx([0.5 + 0.9 * 2, 1.0])


def test_variances_by_simulation():
    """Targets and losses drawn 20,000 times: their variances, to five standard errors of a variance."""
    rng = np.random.default_rng(0)
    values = rng.exponential(1.0, (40_000, 1))
    for K in (1, 2, 5):
        drawn = 0.9 * rng.choice(values[:, 0], (20_000, K)).mean(1)
        assert drawn.var() == pytest.approx(0.81 * values.var() / K, rel=5 * np.sqrt(8 / 20_000))
    assert target_variance(values, discount=0.9)[0] == pytest.approx(0.81 * values.var() / len(values), rel=1e-4)
    table = rng.exponential(1.0, (50, 8)) * rng.exponential(1.0, 8)
    n, M = 6, 3
    states = rng.integers(0, 8, (20_000, n))
    drawn = table[rng.integers(0, 50, (20_000, n, M)), states[..., None]].mean((1, 2))
    between, within = table.mean(0).var(), table.var(0).mean()
    assert drawn.var() == pytest.approx((between + within / M) / n, rel=5 * np.sqrt(8 / 20_000))
    assert loss_variance(table) == pytest.approx((between + within / 50) / 8)


def test_training_on_transformed_inputs_is_a_penalty_on_variance():
    rng = np.random.default_rng(1)
    q, y = rng.standard_normal((5, 7)), rng.standard_normal(7)
    parts = implicit_regularisation(q, y)
    assert parts.squared_error + parts.variance == pytest.approx(((q - y) ** 2).mean())
    loss, gradient = critic_loss(q, q, y)
    assert loss == pytest.approx(2 * float(parts.squared_error + parts.variance))
    assert np.allclose(gradient.q1, 2 * (q - y) / 35, rtol=1e-9, atol=1e-12) and np.array_equal(
        gradient.q1, gradient.q2
    )


def test_the_variance_of_small_transformations():
    """σ² (∇Q · t)², to first order in σ."""
    critic, theta, x, t = _critic(2)
    rng = np.random.default_rng(3)
    mu = rng.standard_normal(4001)
    slope = critic(theta, x, t)[0]
    for sigma, allowance in ((1e-1, 0.3), (1e-3, 3e-3)):
        q = np.stack([critic.value(theta, x + sigma * m * t)[0] for m in mu])
        assert implicit_regularisation(q, 0 * x[:, 0]).variance == pytest.approx(
            sigma**2 * mu.var() * (slope**2).mean(), rel=allowance
        )


@pytest.mark.parametrize("sizes", [(3, 5, 1), (3, 4, 4, 1)])
def test_tangent_prop_by_differences(sizes):
    """Slopes against differences along the tangent, and the loss' gradient against differences in the parameters."""
    critic, theta, x, t = _critic(4, sizes)
    counts = np.array([1.0, 0, 1, 1, 0, 1])
    slope = critic(theta, x, t)[0]
    e = 1e-6
    by_differences = (critic.value(theta, x + e * t)[0] - critic.value(theta, x - e * t)[0]) / (2 * e)
    assert np.allclose(slope, by_differences, atol=1e-8, rtol=1e-9)
    loss, gradient = tangent_prop_loss(theta, critic, x, t, counts)
    assert loss == pytest.approx((counts * slope**2).mean())
    for k in range(len(theta)):
        step = 1e-6 * np.eye(len(theta))[k]
        up, down = (tangent_prop_loss(theta + s, critic, x, t, counts)[0] for s in (step, -step))
        assert (up - down) / 2e-6 == pytest.approx(gradient[k], abs=1e-7)


def test_one_layer_in_closed_form():
    """z = x W + b, H = tanh z: the gradient by the output weights is the hidden tangent times twice the slope."""
    critic, theta, x, t = _critic(5)
    W, b, w = theta[:15].reshape(3, 5), theta[15:20], theta[20:25]
    H = np.tanh(x @ W + b)
    hidden = (1 - H**2) * (t @ W)
    slope = hidden @ w
    _, gradient = tangent_prop_loss(theta, critic, x, t, np.ones(6))
    assert np.allclose(gradient[20:25], hidden.T @ (2 * slope / 6), rtol=1e-9, atol=1e-12) and gradient[25] == 0
    curve = np.outer(2 * slope / 6, w)
    through = curve * (t @ W) * (-2 * H * (1 - H**2))
    assert np.allclose(gradient[:15].reshape(3, 5), t.T @ (curve * (1 - H**2)) + x.T @ through, rtol=1e-9, atol=1e-12)


def test_an_invariant_critic_pays_nothing():
    """One that sees only the sum of its inputs, along tangents that keep it."""
    critic, theta, x, t = _critic(6)
    theta[:15] = np.tile(theta[:5], 3)
    t = t - t.mean(1, keepdims=True)
    loss, gradient = tangent_prop_loss(theta, critic, x, t, np.ones(6))
    assert loss < 1e-28 and np.abs(gradient).max() < 1e-13


def test_the_actors_views():
    """The divergence of two Gaussians of one deviation, mean over entries."""
    first, second = np.array([[0.1, 0.3]]), np.array([[0.2, 0.1]])
    loss, gradient = actor_divergence(second, first, std=0.2)
    assert loss == pytest.approx((0.01 + 0.04) / (2 * 0.04) / 2)
    assert gradient == pytest.approx(np.array([[0.1, -0.2]]) / 0.04 / 2)


def test_refused():
    critic, theta, x, t = _critic(7)
    with pytest.raises(ValueError, match="theta"):
        tangent_prop_loss(theta[:-1], critic, x, t, np.ones(6))
    with pytest.raises(ValueError, match="std"):
        actor_divergence(x, x, std=0.0)
