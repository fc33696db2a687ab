"""The gradient through a chain: by hand for a linear model, as a discrete adjoint, and against the policy gradient."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from trref.diffusion.alignprop import chain, ddpo, predictions, reward_of_chain, sample_truncation
from trref.diffusion.score_models import ddim_from_noise
from trref.experiments.adapters import Adapted
from trref.problems.denoisers import Residual, TimeNetwork, WithParameters
from trref.problems.mixtures import MixtureNoise, three_components, vp_schedule
from trref.problems.rewards import QuadraticReward


@dataclasses.dataclass(frozen=True)
class Slope:
    """The noise is theta x: all numbers of the chain are known."""

    def forward(self, theta, x, t):
        return theta[0] * x, (theta, x)

    def vjp(self, cache, cotangent):
        theta, x = cache
        return np.array([(cotangent * x).sum()]), theta[0] * cotangent


def _grid(steps, start=1.0, end=0.2):
    times = np.linspace(start, end, steps + 1) ** 2
    return times, vp_schedule(times)[0] ** 2


def _plane(steps=5, draws=6, seed=0):
    rng = np.random.default_rng(seed)
    model = Residual(MixtureNoise(three_components()), TimeNetwork(2, (5, 4)))
    theta = 0.7 * rng.standard_normal(model.size)
    x, z = rng.standard_normal((draws, 2)), rng.standard_normal((steps, draws, 2))
    return model, theta, x, z, *_grid(steps)


REWARD = QuadraticReward(np.array([0.8, -0.3]))


def _factors(theta, alpha_bar):
    """c + d theta of each deterministic step, and d."""
    now, then = alpha_bar[:-1], alpha_bar[1:]
    c = np.sqrt(then / now)
    d = np.sqrt(1 - then) - c * np.sqrt(1 - now)
    return c + d * theta, d


def test_one_step_by_hand():
    """From level 0.36 to 0.64: c = 4/3, d = 0.6 - 4/3 · 0.8 = -7/15; x = 2 and theta 3 end at 8/3 - 14/5 = -2/15."""
    inputs = np.array([3.0]), np.array([[2.0]]), np.zeros((1, 1, 1)), np.array([0.6, 0.3]), np.array([0.36, 0.64])
    assert chain(Slope(), *inputs, eta=0.0)[1] == pytest.approx(-2 / 15, rel=1e-12)
    loss, gradient = reward_of_chain(Slope(), *inputs, np.ones(1), QuadraticReward(np.ones(1)), eta=0.0)
    assert loss == pytest.approx((17 / 15) ** 2, rel=1e-12)
    assert gradient == pytest.approx(2 * (-17 / 15) * (-7 / 15) * 2, rel=1e-12)


def test_fresh_noise_by_hand():
    """The same step with eta 1: 0.36/0.64 · (1 - 0.5625) of variance 0.2461, and what is left of the noise."""
    variance = 0.36 / 0.64 * (1 - 0.5625)
    inputs = np.array([3.0]), np.array([[2.0]]), np.full((1, 1, 1), 0.5), np.array([0.6, 0.3]), np.array([0.36, 0.64])
    data = (2.0 - 0.8 * 6.0) / 0.6
    wanted = 0.8 * data + math.sqrt(0.36 - variance) * 6.0 + math.sqrt(variance) * 0.5
    assert chain(Slope(), *inputs)[1] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kept", [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]])
def test_a_product_of_factors(kept):
    """x_K = x Π(c + d theta); a kept step contributes d x_k times the later steps, where dropped ones count as c."""
    times, alpha_bar = _grid(4)
    theta, x, kept = 0.7, np.array([[1.3], [-0.4]]), np.array(kept, float)
    factors, d = _factors(theta, alpha_bar)
    end = x * factors.prod()
    through = factors - (1 - kept) * d * theta
    slope = sum(kept[k] * d[k] * factors[:k].prod() * through[k + 1 :].prod() for k in range(4))
    inputs = Slope(), np.array([theta]), x, np.zeros((4, 2, 1)), times, alpha_bar
    loss, gradient = reward_of_chain(*inputs, kept, QuadraticReward(np.array([0.5])), eta=0.0)
    assert loss == pytest.approx(((end - 0.5) ** 2).mean(), rel=1e-12)
    assert gradient == pytest.approx((2 * (end - 0.5) * x * slope).mean(), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_chain_ends_where_the_sampler_does(eta):
    model, theta, x, z, times, alpha_bar = _plane()
    path = chain(model, theta, x, z, times, alpha_bar, eta=eta)
    end = ddim_from_noise(WithParameters(model, theta), x, z, times, alpha_bar, eta=eta)
    assert np.array_equal(path[0], x) and np.allclose(path[-1], end, rtol=1e-11, atol=1e-12)
    seen = predictions(model, theta, x, z, times, alpha_bar, eta=eta)
    for k in range(5):
        assert np.allclose(seen[k], model.forward(theta, path[k], np.full(6, times[k]))[0], rtol=1e-11, atol=1e-12)


def test_without_noise_it_is_euler_s_method_and_its_adjoint():
    """In y = x/alpha and rho = sigma/alpha a step is y + h noise: the adjoint of y falls by the model's part alone."""
    model, theta, x, z, times, alpha_bar = _plane()
    alpha = np.sqrt(alpha_bar)
    rho = np.sqrt(1 - alpha_bar) / alpha
    y, caches = x / alpha[0], []
    for k in range(5):
        noise, cache = model.forward(theta, alpha[k] * y, np.full(6, times[k]))
        y = y + (rho[k + 1] - rho[k]) * noise
        caches.append(cache)
    values, slopes = REWARD(alpha[5] * y)
    adjoint, gradient = -slopes * alpha[5] / 6, 0.0
    for k in reversed(range(5)):
        d_theta, d_x = model.vjp(caches[k], (rho[k + 1] - rho[k]) * adjoint)
        gradient, adjoint = gradient + d_theta, adjoint + alpha[k] * d_x
    loss, ours = reward_of_chain(model, theta, x, z, times, alpha_bar, np.ones(5), REWARD, eta=0.0)
    assert loss == pytest.approx(-values.mean(), rel=1e-11)
    assert np.allclose(ours, gradient, rtol=1e-9, atol=1e-11 * abs(gradient).max())


@pytest.mark.parametrize("every", [2, 3, 5, 9])
def test_what_is_stored_does_not_matter(every):
    model, theta, x, z, times, alpha_bar = _plane()
    inputs = model, theta, x, z, times, alpha_bar, np.array([0.0, 1.0, 1.0, 0.0, 1.0]), REWARD
    plain, stored = reward_of_chain(*inputs), reward_of_chain(*inputs, every=every)
    assert plain[0] == stored[0] and np.allclose(plain[1], stored[1], rtol=1e-13, atol=1e-14 * abs(plain[1]).max())


def test_differences_that_move_the_kept_steps_only():
    """Two models: the early steps with theta, the kept ones with theta + h; moving all of them is another number."""
    model, theta, x, z, times, alpha_bar = _plane()
    direction = np.random.default_rng(5).standard_normal(theta.shape)

    def loss(h, first):
        early = chain(model, theta, x, z[:first], times[: first + 1], alpha_bar[: first + 1])[-1] if first else x
        late = chain(model, theta + h * direction, early, z[first:], times[first:], alpha_bar[first:])
        return -REWARD(late[-1])[0].mean()

    inputs = model, theta, x, z, times, alpha_bar
    slopes = []
    for first in (0, 2, 4):
        gradient = reward_of_chain(*inputs, (np.arange(5) >= first).astype(float), REWARD)[1]
        slope = (loss(1e-5, first) - loss(-1e-5, first)) / 2e-5
        assert gradient @ direction == pytest.approx(slope, rel=1e-6)
        slopes.append(slope)
    assert abs(slopes[0] - slopes[1]) > 1e-3 * abs(slopes[0])


def test_the_target_stops_the_chase():
    """Below the target the gradient is that of the reward, above its opposite, at it 0."""
    model, theta, x, z, times, alpha_bar = _plane(draws=1)
    inputs = model, theta, x, z, times, alpha_bar, np.ones(5), REWARD
    plain = reward_of_chain(*inputs)
    value = -float(plain[0])
    for target, sign in ((value + 1, 1), (value - 1, -1), (value, 0)):
        loss, gradient = reward_of_chain(*inputs, kind="target", target=target)
        assert loss == pytest.approx(abs(value - target)) and np.array_equal(gradient, sign * plain[1])


def test_the_log_density_is_scipy_s():
    model, theta, x, z, times, alpha_bar = _plane()
    path, advantage = chain(model, theta, x, z, times, alpha_bar), np.array([1.0, -2.0, 0.5, 0.0, 3.0, 1.5])

    def loss(theta):
        total = 0.0
        for k in range(5):
            t, s = alpha_bar[k], alpha_bar[k + 1]
            variance = (1 - s) / (1 - t) * (1 - t / s)
            noise = model.forward(theta, path[k], np.full(6, times[k]))[0]
            mean = np.sqrt(s / t) * (path[k] - np.sqrt(1 - t) * noise) + np.sqrt(1 - s - variance) * noise
            for n in range(6):
                total -= advantage[n] * stats.multivariate_normal(mean[n], variance).logpdf(path[k + 1, n]) / 6
        return total

    value, gradient = ddpo(model, theta, path, times, alpha_bar, advantage)
    assert value == pytest.approx(loss(theta), rel=1e-10)
    direction = np.random.default_rng(6).standard_normal(theta.shape)
    slope = (loss(theta + 1e-5 * direction) - loss(theta - 1e-5 * direction)) / 2e-5
    assert gradient @ direction == pytest.approx(slope, rel=1e-6)


def test_both_gradients_have_one_mean():
    """Through the reward, or by the log-densities of the paths: 40,000 paths, five standard errors."""
    rng, N = np.random.default_rng(7), 40_000
    times, alpha_bar = _grid(3, 0.6)
    theta, reward = np.array([0.6]), QuadraticReward(np.array([1.0]))
    x, z = rng.standard_normal((N, 1)), rng.standard_normal((3, N, 1))
    inputs = Slope(), theta, x, z, times, alpha_bar
    path = chain(*inputs)
    advantage = reward(path[-1])[0]
    advantage = advantage - advantage.mean()
    parts = []  # N gradients of one path each would be slow: 200 batches of 200
    for rows in np.split(np.arange(N), 200):
        batch = Slope(), theta, x[rows], z[:, rows], times, alpha_bar
        through = reward_of_chain(*batch, np.ones(3), reward)[1]
        scored = ddpo(Slope(), theta, path[:, rows], times, alpha_bar, advantage[rows])[1]
        parts.append([through[0], scored[0]])
    through, scored = np.array(parts).T
    error = (through - scored).std() / math.sqrt(200)
    assert abs(through.mean()) > 10 * error, "the test can tell a wrong factor"
    assert abs(through.mean() - scored.mean()) < 5 * error
    assert through.std() < scored.std() / 3, "and the first is far less noisy"


def test_truncation_by_hand():
    """The generator's first numbers below 4, as rows of steps."""
    first = np.random.default_rng(3).integers(0, 4, 6)
    kept = sample_truncation(np.random.default_rng(3), draws=6, steps=4)
    assert kept.tolist() == [[float(k >= s) for k in range(4)] for s in first]
    assert set(sample_truncation(np.random.default_rng(0), draws=200, steps=3).sum(1)) == {1, 2, 3}


def test_adapters_inside_the_chain():
    """Differences by the factors; before training the gradient by A is 0 and by B it is not."""
    rng = np.random.default_rng(8)
    _, _, x, z, times, alpha_bar = _plane()
    network = TimeNetwork(2, (5, 4))
    adapted = Adapted(network, rng.standard_normal(network.size), rank=2, alpha=3.0, strength=0.8)
    model = Residual(MixtureNoise(three_components()), adapted)
    rest = x, z, times, alpha_bar, np.ones(5), REWARD
    factors = adapted.init(rng)
    start, gradient = reward_of_chain(model, factors, *rest)
    plain = reward_of_chain(Residual(model.base, network), adapted.theta, *rest)
    assert start == pytest.approx(plain[0], rel=1e-13)
    for k, (shape, part) in enumerate(zip(adapted.shapes, _split(gradient, adapted.shapes), strict=True)):
        assert part.shape == shape and (abs(part).max() > 0) == bool(k % 2)
    factors = factors + 0.3 * rng.standard_normal(factors.shape)
    gradient = reward_of_chain(model, factors, *rest)[1]
    direction = rng.standard_normal(factors.shape)
    ahead, behind = (reward_of_chain(model, factors + h * direction, *rest)[0] for h in (1e-5, -1e-5))
    assert gradient @ direction == pytest.approx((ahead - behind) / 2e-5, rel=1e-6)


def _split(theta, shapes):
    ends = np.cumsum([math.prod(s) for s in shapes])[:-1]
    return [part.reshape(s) for part, s in zip(np.split(theta, ends), shapes, strict=True)]


def test_bad_input():
    model, theta, x, z, times, alpha_bar = _plane()
    rest = np.ones(5), REWARD
    with pytest.raises(ValueError, match="times must not rise"):
        reward_of_chain(model, theta, x, z, times[::-1].copy(), alpha_bar, *rest)
    with pytest.raises(ValueError, match="alpha_bar must not fall"):
        chain(model, theta, x, z, times, alpha_bar[::-1].copy())
    with pytest.raises(ValueError, match="alpha_bar must be positive"):
        chain(model, theta, x, z, times, np.array([0.0, *alpha_bar[1:]]))
    with pytest.raises(ValueError, match="alpha_bar must be below 1 before"):
        chain(model, theta, x, z, times, np.array([*alpha_bar[:-2], 1.0, 1.0]))
    with pytest.raises(ValueError, match="alpha_bar must lie between 0 and 1"):
        ddpo(model, theta, np.zeros((6, 6, 2)), times, np.array([*alpha_bar[:-1], 1.0]), np.ones(6))
    with pytest.raises(ValueError, match="alpha_bar must rise"):
        ddpo(model, theta, np.zeros((6, 6, 2)), times, np.full(6, 0.5), np.ones(6))
    with pytest.raises(ValueError, match="eta must lie in"):
        ddpo(model, theta, np.zeros((6, 6, 2)), times, alpha_bar, np.ones(6), eta=0.0)

    @dataclasses.dataclass(frozen=True)
    class Wrong:
        forward_answer: object
        vjp_answer: object

        def forward(self, theta, x, t):
            return self.forward_answer

        def vjp(self, cache, cotangent):
            return self.vjp_answer

    for forward, vjp, error, words in (
        (None, None, TypeError, "model.forward must return a pair"),
        ((x[:, :1], None), None, ValueError, "model.forward"),
        ((x.astype(np.float32), None), None, TypeError, "model.forward returns float32"),
        ((x, None), x, TypeError, "model.vjp must return a pair"),
        ((x, None), (theta[:2], x), ValueError, "model.vjp"),
        ((x, None), (theta, np.full_like(x, np.nan)), ValueError, "model.vjp"),
    ):
        with pytest.raises(error, match=words):
            reward_of_chain(Wrong(forward, vjp), theta, x, z, times, alpha_bar, *rest)
    with pytest.raises(TypeError, match="reward must return a tuple"):
        reward_of_chain(model, theta, x, z, times, alpha_bar, np.ones(5), lambda x: x)
