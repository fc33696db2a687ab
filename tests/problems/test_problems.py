"""Problems: gradients, exact scores, exact success probabilities, and fixed data."""

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import trref
from trref.backend import to_host, xp
from trref.checks import check_gradient
from trref.problems import control, convex, digits, mixtures
from trref.problems.tokens import TokenTask


def _rng(seed=0):
    return np.random.default_rng(seed)


# ---- digits


def test_digits_are_fixed():
    pytest.importorskip("sklearn")
    data = digits.digits()
    assert data.X_train.shape == (1000, 64) and data.X_test.shape == (797, 64)
    assert data.X_train.min() == 0 and data.X_train.max() == 1
    assert data.y_train[:8].tolist() == digits.digits().y_train[:8].tolist()
    assert set(data.y_train.tolist()) == set(range(10))
    assert np.array_equal(np.concatenate([data.y_train, data.y_test]), np.concatenate(digits.digits(train=5)[1::2]))
    with pytest.raises(ValueError, match="train must lie in"):
        digits.digits(train=0)


def test_pairs_are_distributions():
    pytest.importorskip("sklearn")
    a, b, cost = digits.pair(3, 8)
    assert a.sum() == pytest.approx(1) and b.sum() == pytest.approx(1) and a.min() > 0
    assert np.array_equal(cost, cost.T) and cost.max() == 1 and not np.diag(cost).any()
    assert cost[0, 9] == pytest.approx(2 / 98)  # one pixel down and one to the right
    assert not np.allclose(a, b) and digits.pair(3, 8, floor=0.0).a.min() == 0


# ---- control (against Gymnasium: tests/peers)


def test_cartpole_goes_on_past_termination():
    state = control.cartpole_reset(_rng(), 3)
    for _ in range(100):
        state, reward, terminated = control.cartpole_step(state, np.ones(3, int))
    assert terminated.tolist() == [1, 1, 1] and reward.tolist() == [1, 1, 1] and np.isfinite(state).all()


def test_control_runs_on_the_strict_device():
    state = control.cartpole_reset(_rng(), 2)
    host = control.cartpole_step(state, np.array([0, 1])).state
    with trref.use_backend("strict"):
        device = control.cartpole_step(control.cartpole_reset(_rng(), 2), xp.asarray(np.array([0, 1]))).state
        assert np.array_equal(to_host(device), host)
        pendulum = control.pendulum_step(control.pendulum_reset(_rng(), 2), xp.zeros(2)).state
        assert control.pendulum_observation(pendulum).shape == (2, 3)


def test_pendulum_stands_upright_and_swings():
    up = np.zeros((1, 2))
    assert np.array_equal(control.pendulum_step(up, np.zeros(1)).state, up)
    tilted = control.pendulum_step(np.array([[0.1, 0.0]]), np.zeros(1))
    assert tilted.state[0, 0] > 0.1 and tilted.reward[0] == pytest.approx(-0.01)
    hard = [control.pendulum_step(up, np.array([u])).state for u in (2.0, 50.0)]
    assert np.array_equal(*hard)


# ---- mixtures


def test_density_by_scipy():
    mixture, x = mixtures.three_components(), _rng().standard_normal((20, 2))
    density = sum(
        w * multivariate_normal(m, S).pdf(x)
        for w, m, S in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    )
    assert np.allclose(mixture.log_density(x), np.log(density), rtol=1e-9)


def test_score_and_its_jacobian():
    mixture, x, h = mixtures.three_components(), _rng(1).standard_normal((6, 2)), 1e-5
    for i, e in enumerate(np.eye(2)):
        slope = (mixture.log_density(x + h * e) - mixture.log_density(x - h * e)) / (2 * h)
        assert np.allclose(mixture.score(x)[:, i], slope, rtol=1e-6, atol=1e-6)
        bend = (mixture.score(x + h * e) - mixture.score(x - h * e)) / (2 * h)
        assert np.allclose(mixture.score_jacobian(x)[:, i], bend, rtol=1e-5, atol=1e-5)


def test_far_from_all_modes():
    far = np.array([[1e4, -1e4]])
    assert np.isfinite(mixtures.three_components().score(far)).all()


def test_noised_mixture_and_noise_model():
    mixture, rng = mixtures.ring(), _rng(2)
    x0, noise = mixture.sample(rng, 200_000), rng.standard_normal((200_000, 2))
    alpha, sigma = mixtures.vp_schedule(np.array(0.3))
    x = alpha * x0 + sigma * noise
    noised = mixture.noised(alpha, sigma)
    assert np.allclose(np.cov(x.T), noised.covariance(), atol=0.02, rtol=1e-9)
    # the model is the conditional mean of the noise: its error is orthogonal to itself
    predicted = mixtures.MixtureNoise(mixture)(x, np.full(len(x), 0.3))
    assert abs(((noise - predicted) * predicted).mean()) < 0.005
    near = np.linalg.norm(x - x[0], axis=1) < 0.1
    assert np.allclose(noise[near].mean(0), predicted[near].mean(0), atol=5 / np.sqrt(near.sum()), rtol=1e-9)


def test_schedule():
    alpha, sigma = mixtures.vp_schedule(np.array([0.0, 0.5, 1.0]))
    assert np.allclose(alpha**2 + sigma**2, 1, rtol=1e-9) and alpha[0] == 1 and sigma[0] == 0 and alpha[2] < 0.01
    t, h = 0.4, 1e-6
    rate = -2 * (np.log(mixtures.vp_schedule(np.array(t + h))[0]) - np.log(mixtures.vp_schedule(np.array(t - h))[0]))
    assert rate / (2 * h) == pytest.approx(0.1 + t * 19.9, rel=1e-6)


# ---- convex and smooth


@pytest.mark.parametrize(
    ("f", "n"),
    [
        (convex.Quadratic(convex.spd_matrix(_rng(3), convex.spectrum(5, 1e3)), np.arange(5.0)), 5),
        (convex.logistic(_rng(4), points=10, dims=4), 4),
        (convex.Rosenbrock(), 6),
    ],
    ids=["quadratic", "logistic", "rosenbrock"],
)
def test_gradients(f, n):
    for seed in range(5):
        x = _rng(seed).standard_normal(n)
        check_gradient(lambda x: f(x)[0], x, f(x)[1], rng=_rng(seed))


def test_rosenbrock_by_scipy():
    from scipy.optimize import rosen, rosen_der

    x = _rng(5).standard_normal(7)
    value, gradient = convex.Rosenbrock()(x)
    assert value == pytest.approx(rosen(x)) and np.allclose(gradient, rosen_der(x), rtol=1e-9)


def test_logistic_at_extremes():
    f = convex.Logistic(np.array([[1.0]]), np.array([-1.0]))
    assert f(np.array([900.0]))[0] == 900.0 and f(np.array([-900.0]))[0] == 0.0


def test_spectrum_and_poisson():
    A = convex.spd_matrix(_rng(6), convex.spectrum(6, 50.0))
    assert np.linalg.cond(A) == pytest.approx(50.0)
    dense = np.stack([convex.PoissonOperator(4)(e) for e in np.eye(16)])
    one = 2 * np.eye(4) - np.eye(4, k=1) - np.eye(4, k=-1)
    assert np.array_equal(dense, np.kron(one, np.eye(4)) + np.kron(np.eye(4), one))


# ---- tokens


@pytest.fixture
def task():
    return TokenTask(levels=(1, 2), vocabulary=4, length=3)


def _enumerate(task):
    """All responses: tokens after the end token are 0."""
    rows = [r for r in np.ndindex(*(task.vocabulary,) * task.length)]
    rows = [r for r in rows if all(b == 0 for a, b in itertools.pairwise(r) if a == 0)]
    tokens = np.array(rows)
    mask = np.cumprod(np.concatenate([np.ones((len(rows), 1)), (tokens > 0)[:, :-1]], 1), 1)
    return tokens, mask


def test_success_probability_by_enumeration(task):
    from trref.problems.tokens import Responses

    theta = _rng(7).standard_normal(task.size)
    tokens, mask = _enumerate(task)
    for prompt in (0, 1):
        prompts = np.full(len(tokens), prompt)
        log_prob = task.log_prob(theta, prompts, tokens) * mask
        p = np.exp(log_prob.sum(1))
        assert p.sum() == pytest.approx(1)
        reward = task.reward(Responses(prompts, tokens, mask, log_prob))
        assert (p * reward).sum() == pytest.approx(task.success_probability(theta)[prompt])


def test_rewards_by_hand(task):
    from trref.problems.tokens import Responses

    tokens = np.array([[2, 0, 0], [1, 3, 0], [3, 1, 0], [1, 2, 3], [2, 2, 0], [0, 0, 0]])
    mask = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 0.0]])
    for prompt, expected in [(0, [1, 0, 0, 0, 0, 0]), (1, [0, 1, 0, 0, 0, 0])]:
        responses = Responses(np.full(6, prompt), tokens, mask, None)
        assert task.reward(responses).tolist() == expected


def test_samples_follow_the_policy(task):
    theta = _rng(8).standard_normal(task.size)
    responses = task.sample(_rng(9), theta, np.repeat([0, 1], 20_000))
    share = task.reward(responses).reshape(2, -1).mean(1)
    assert np.allclose(share, task.success_probability(theta), atol=0.015, rtol=1e-9)
    again = task.log_prob(theta, responses.prompts, responses.tokens) * responses.mask
    assert np.allclose(again, responses.log_prob, atol=1e-14, rtol=1e-9)


def test_log_prob_gradient(task):
    rng = _rng(10)
    theta = rng.standard_normal(task.size)
    responses = task.sample(rng, theta, np.array([0, 1, 1]))
    weights = rng.standard_normal((3, 3)) * responses.mask
    value = lambda t: (weights * task.log_prob(t, responses.prompts, responses.tokens)).sum()  # noqa: E731
    gradient = task.log_prob_vjp(theta, responses.prompts, responses.tokens, weights)
    check_gradient(value, theta, gradient, rng=rng)


def test_levels_that_do_not_fit():
    with pytest.raises(ValueError, match="levels must lie between"):
        TokenTask(levels=(6,), length=6)
