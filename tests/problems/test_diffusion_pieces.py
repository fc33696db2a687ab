"""Exact models of mixtures, networks of time, rewards and measurements."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tests.problems.agreement import same_on_strict
from trref.checks import check_gradient
from trref.nn import mlp
from trref.problems import mixtures
from trref.problems.denoisers import Residual, TimeNetwork, WithParameters
from trref.problems.measurements import LinearMeasurement
from trref.problems.mixtures import MixtureDenoiser, MixtureNoise, MixtureVelocity
from trref.problems.rewards import BumpReward, QuadraticReward


def _rng(seed=0):
    return np.random.default_rng(seed)


def _at(u, n=6):
    return np.full(n, u)


# ---- schedules


def test_schedules():
    t = np.linspace(0, 1, 5)
    assert [a.tolist() for a in mixtures.flow_schedule(t)] == [(1 - t).tolist(), t.tolist()]
    alpha, sigma = mixtures.ve_schedule(t, 0.1, 10.0)
    assert (alpha == 1).all() and np.allclose(np.diff(np.log(sigma)), np.log(100) / 4, rtol=1e-9)
    assert sigma[0] == pytest.approx(0.1) and sigma[-1] == pytest.approx(10.0)
    alpha_bar = mixtures.ddpm_schedule()
    assert alpha_bar[0] == pytest.approx(1 - 1e-4) and (np.diff(alpha_bar) < 0).all()
    # the sum of the logarithms, by the trapezoidal rule: exp(-1000 * 0.01005) and a little
    assert alpha_bar[-1] == pytest.approx(np.exp(np.log1p(-np.linspace(1e-4, 0.02, 1000)).sum()), rel=1e-12)


# ---- exact models

MODELS = [
    *((kind, schedule) for kind in (MixtureNoise, MixtureDenoiser) for schedule in mixtures.SCHEDULES),
    (MixtureVelocity, None),
]


def _model(kind, schedule, mixture=None):
    mixture = mixture or mixtures.three_components()
    return kind(mixture) if schedule is None else kind(mixture, schedule)


@pytest.mark.parametrize(("kind", "schedule"), MODELS)
@pytest.mark.parametrize("u", [0.2, 0.7])
def test_models_by_conditioning_each_component(kind, schedule, u):
    """Oracle: (data, x) is jointly Gaussian a component; SciPy gives the densities."""
    mixture, x = mixtures.three_components(), _rng(1).standard_normal((6, 2))
    alpha, sigma = mixtures.SCHEDULES[schedule or "flow"](np.array(u))
    density, data = np.empty((6, 3)), np.empty((6, 3, 2))
    for k in range(3):
        m, S = mixture.means[k], mixture.covariances[k]
        C = alpha**2 * S + sigma**2 * np.eye(2)
        density[:, k] = mixture.weights[k] * multivariate_normal(alpha * m, C).pdf(x)
        data[:, k] = m + alpha * (x - alpha * m) @ np.linalg.solve(C, S)
    x0 = (density[..., None] * data).sum(1) / density.sum(1, keepdims=True)
    noise = (x - alpha * x0) / sigma
    expected = {MixtureNoise: noise, MixtureDenoiser: x0, MixtureVelocity: noise - x0}[kind]
    assert np.allclose(_model(kind, schedule)(x, _at(u)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kind", "schedule"), MODELS)
def test_vjp(kind, schedule):
    rng = _rng(2)
    model, x, cotangent = _model(kind, schedule), rng.standard_normal((6, 2)), rng.standard_normal((6, 2))
    for u in (0.3, 0.8):
        check_gradient(lambda x, u=u: (cotangent * model(x, _at(u))).sum(), x, model.vjp(x, _at(u), cotangent), rng=rng)
    same_on_strict(lambda m, x, t, c: (m(x, t), m.vjp(x, t, c)), model, x, _at(0.4), cotangent)


def test_noise_is_minus_sigma_times_the_score():
    mixture, x = mixtures.ring(), _rng(3).standard_normal((6, 2))
    alpha, sigma = mixtures.vp_schedule(np.array(0.4))
    assert np.allclose(
        MixtureNoise(mixture)(x, _at(0.4)), -sigma * mixture.noised(alpha, sigma).score(x), atol=1e-12, rtol=1e-9
    )


def test_ends_of_time():
    mixture, x = mixtures.three_components(), _rng(4).standard_normal((6, 2))
    velocity = MixtureVelocity(mixture)
    assert np.allclose(velocity(x, _at(1.0)), x - mixture.mean(), atol=1e-12, rtol=1e-9), "at pure noise the noise is x"
    assert np.allclose(velocity(x, _at(0.0)), -x, atol=1e-12, rtol=1e-9), "at the data the data are x"
    assert np.isfinite(velocity.vjp(x, _at(1.0), x)).all() and np.isfinite(velocity.vjp(x, _at(0.0), x)).all()
    with pytest.raises(ValueError, match="schedule must be one of"):
        MixtureNoise(mixture, "linear")


def test_moments_of_a_mixture_by_its_samples():
    mixture = mixtures.three_components()
    x = mixture.sample(_rng(13), 200_000)
    assert np.allclose(x.mean(0), mixture.mean(), atol=0.01, rtol=1e-9) and np.allclose(
        np.cov(x.T), mixture.covariance(), atol=0.02, rtol=1e-9
    )


def test_conditions_and_guidance():
    mixture, rng = mixtures.ring(), _rng(5)
    some = mixture.subset(np.array([0, 3]))
    assert some.weights.sum() == pytest.approx(1) and len(some.means) == 2
    x, c = rng.standard_normal((6, 2)), rng.standard_normal((6, 2))
    conditional, plain = MixtureNoise(some), MixtureNoise(mixture)
    model = mixtures.GuidedModel(conditional, plain, 3.0)
    assert np.allclose(model(x, _at(0.3)), 3 * conditional(x, _at(0.3)) - 2 * plain(x, _at(0.3)), rtol=1e-9)
    check_gradient(lambda x: (c * model(x, _at(0.3))).sum(), x, model.vjp(x, _at(0.3), c), rng=rng)
    one = mixtures.GuidedModel(conditional, plain, 1.0)
    assert np.allclose(one(x, _at(0.3)), conditional(x, _at(0.3)), atol=1e-14, rtol=1e-9)
    same_on_strict(lambda m, x, t: (m(x, t), m.vjp(x, t, x)), model, x, _at(0.3))


def test_mixtures_of_subspaces_and_of_images():
    low = mixtures.low_rank_mixture(_rng(6), components=3, dims=10, rank=2, spread=0.1)
    values = np.linalg.eigvalsh(low.covariances)
    assert np.allclose(values[:, :8], 0.01, rtol=1e-9) and np.allclose(values[:, 8:], 1.01, rtol=1e-9)
    images = mixtures.template_images(_rng(7))
    assert images.means.shape == (60, 64) and set(np.unique(images.means)) == {-1.0, 1.0}
    # a row or a column, both, a frame or a block of 3 or 4 by 3 or 4 pixels
    sizes = set((images.means == 1).sum(1))
    assert len(np.unique(images.means, axis=0)) > 30 and sizes <= {8, 15, 10, 12, 9, 16} and len(sizes) > 4
    assert np.array_equal(images.means, mixtures.template_images(_rng(7)).means)
    x = images.sample(_rng(8), 20)
    clean = MixtureDenoiser(images)(x, np.full(20, 0.05))
    distance = np.sqrt(((clean[:, None] - images.means) ** 2).sum(2)).min(1)
    assert distance.max() < 8 * 0.1 * 1.5, "the denoiser leads to a template, within the spread of 64 pixels"


# ---- networks of time


def test_network_of_time():
    rng, network = _rng(9), TimeNetwork(2, (8, 8))
    theta = network.init(rng)
    x, t, c = rng.standard_normal((6, 2)), rng.random(6), rng.standard_normal((6, 2))
    assert theta.shape == (network.size,) == (5 * 8 + 8 + 72 + 18,) and not network.forward(theta, x, t)[0].any()
    theta = theta + 0.3 * rng.standard_normal(theta.shape)
    d_theta, d_x = network.vjp(network.forward(theta, x, t)[1], c)
    check_gradient(lambda w: (c * network.forward(w, x, t)[0]).sum(), theta, d_theta, rng=rng)
    check_gradient(lambda x: (c * network.forward(theta, x, t)[0]).sum(), x, d_x, rng=rng)
    inputs = np.column_stack([x, t, np.cos(np.pi * t), np.sin(np.pi * t)])
    assert np.allclose(network.forward(theta, x, t)[0], mlp.forward(theta, inputs, (5, 8, 8, 2), "silu")[0], rtol=1e-9)
    with pytest.raises(ValueError, match="x and t must have shapes"):
        network.forward(theta, x, t[:3])
    same_on_strict(lambda w, x, t: network.vjp(network.forward(w, x, t)[1], x), theta, x, t)


def test_residual():
    rng = _rng(10)
    model = Residual(MixtureNoise(mixtures.three_components()), TimeNetwork(2, (6,)))
    theta, x, c = model.init(rng), rng.standard_normal((6, 2)), rng.standard_normal((6, 2))
    assert np.array_equal(model.forward(theta, x, _at(0.4))[0], model.base(x, _at(0.4))), "it starts as the exact model"
    theta = theta + 0.3 * rng.standard_normal(theta.shape)
    d_theta, d_x = model.vjp(model.forward(theta, x, _at(0.4))[1], c)
    check_gradient(lambda w: (c * model.forward(w, x, _at(0.4))[0]).sum(), theta, d_theta, rng=rng)
    plain = WithParameters(model, theta)
    check_gradient(lambda x: (c * plain(x, _at(0.4))).sum(), x, d_x, rng=rng)
    assert np.array_equal(plain.vjp(x, _at(0.4), c), d_x) and model.size == theta.size
    same_on_strict(lambda m, x, t: (m(x, t), m.vjp(x, t, x)), plain, x, _at(0.4))


# ---- rewards and measurements


def test_rewards():
    rng = _rng(11)
    true = QuadraticReward(np.array([1.0, -0.5]), 2.0)
    reward = BumpReward(true, np.array([-1.0, 0.5]), 3.0, 0.4)
    x, w = rng.standard_normal((6, 2)), rng.standard_normal(6)
    for f in (true, reward, reward.bump):
        check_gradient(lambda x, f=f: (w * f(x)[0]).sum(), x, w[:, None] * f(x)[1], rng=rng)
    assert true(true.goal[None])[0] == 0 and reward.bump(reward.centre[None])[0] == 3.0
    assert np.allclose(true(x)[0], [-2 * ((r - true.goal) ** 2).sum() for r in x], rtol=1e-9)
    assert np.allclose(
        reward(x)[0] - reward.true(x)[0], 3 * np.exp(-((x - reward.centre) ** 2).sum(1) / 0.32), rtol=1e-9
    )
    same_on_strict(lambda f, x: (f(x), f.true(x)), reward, x)
    with pytest.raises(ValueError, match=r"x must have shape \(N, 2\)"):
        reward(x[:, :1])


def test_linear_measurement():
    rng = _rng(12)
    f, x, y = LinearMeasurement(rng.standard_normal((3, 5))), rng.standard_normal((4, 5)), rng.standard_normal((4, 3))
    assert np.allclose(f(x), [f.A @ r for r in x], rtol=1e-9)
    assert (f(x) * y).sum() == pytest.approx((x * f.adjoint(y)).sum(), rel=1e-12)
    assert np.allclose(f.normal(x), x @ f.A.T @ f.A, rtol=1e-9)
    w = rng.standard_normal(4)
    check_gradient(lambda x: (w * f.misfit(x, y)[0]).sum(), x, w[:, None] * f.misfit(x, y)[1], rng=rng)
    same_on_strict(lambda f, x, y: (f(x), f.adjoint(y), f.normal(x), f.misfit(x, y)), f, x, y)
    with pytest.raises(ValueError, match=r"y must have shape \(N, 3\)"):
        f.adjoint(x)
