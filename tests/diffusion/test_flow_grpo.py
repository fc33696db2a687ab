"""Theorems and limits of Flow-GRPO."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from trref.catalog.diffusion.interfaces import FLOW_POLICY
from trref.diffusion.flow_grpo import (
    flow_advantage,
    flow_grpo,
    flow_sde_gain,
    flow_sde_mean,
    flow_sde_std,
    flow_sde_step,
    step_kl,
    step_log_prob,
)
from trref.problems.denoisers import TimeNetwork


def _times(*pairs):
    u, next_u = np.array(pairs).T
    return {"u": u, "next_u": next_u}


def _loss(steps, **hyper):
    names = ("x", "next_x", "velocity", "old_log_prob", "advantage", "u", "next_u", "ref_velocity")
    return flow_grpo(**{n: steps[n] for n in names}, **hyper)


def test_numbers_by_hand():
    """From 1/2 to 1/4 with a = 0.7: ς = 0.7, s = 0.35; the score at x = 1 with v = 1/2 is -2.5."""
    half = _times((0.5, 0.25))
    assert flow_sde_std(**half) == pytest.approx([0.35]) and flow_sde_gain(**half) == pytest.approx([0.31125])
    mean = flow_sde_mean(np.array([[1.0]]), np.array([[0.5]]), **half)
    assert mean[0, 0] == pytest.approx(1 - 0.25 * (0.5 + 0.245 * 2.5))
    log_prob = step_log_prob(np.array([[1.0]]), mean + 0.35, np.array([[0.5]]), **half)
    assert log_prob == pytest.approx([-0.5 - math.log(0.35) - math.log(2 * math.pi) / 2])


def test_the_first_step():
    """The time after it stands in the denominator alone: ς² = 0.49/0.1, and the gain is the length of the step."""
    first = _times((1.0, 0.9))
    assert flow_sde_std(**first) == pytest.approx([0.7]) and flow_sde_gain(**first) == pytest.approx([0.1])
    later = _times((0.9, 0.8), (0.2, 0.1), (0.1, 0.0))
    assert flow_sde_gain(**later) == pytest.approx([0.1 * 1.245] * 3), "elsewhere it is δ (1 + a²/2)"


def test_the_log_probability_against_scipy():
    rng = np.random.default_rng(0)
    steps = FLOW_POLICY.example(rng, 9)
    seen = {n: steps[n] for n in ("x", "velocity", "u", "next_u")}
    mean, s = flow_sde_mean(**seen), flow_sde_std(steps["u"], steps["next_u"])
    expected = norm.logpdf(steps["next_x"], mean, s[:, None]).mean(1)
    assert step_log_prob(next_x=steps["next_x"], **seen) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("u", [0.9, 0.5, 0.1])
def test_the_divergence(u):
    """In both forms of the paper, and by quadrature of two densities."""
    a, delta, v, w = 0.7, 0.05, 0.4, -0.3
    times = _times((u, u - delta))
    K = float(step_kl(np.array([[v]]), np.array([[w]]), **times)[0])
    rate = a * math.sqrt(u / (1 - u))
    assert delta / 2 * (rate * (1 - u) / (2 * u) + 1 / rate) ** 2 * (v - w) ** 2 == pytest.approx(K)
    p, q = (
        norm(flow_sde_mean(np.ones((1, 1)), np.array([[y]]), **times)[0, 0], flow_sde_std(**times)[0]) for y in (v, w)
    )
    low, high = p.mean() - 12 * p.std(), p.mean() + 12 * p.std()
    integral = quad(lambda y: p.pdf(y) * (p.logpdf(y) - q.logpdf(y)), low, high, epsabs=1e-12)[0]
    assert integral == pytest.approx(K, abs=1e-9)


def _after(u, delta, *, m, spread, noise_level):
    """Errors of mean and variance after one step from the right law, for Gaussian data: exactly, without a draw."""
    times = _times((u, u - delta))
    variance = (1 - u) ** 2 * spread**2 + u**2
    share = (u - (1 - u) * spread**2) / variance  # v = E[noise - data | x] is affine

    def move(x):
        v = share * (x - (1 - u) * m) - m
        return float(flow_sde_mean(np.array([[x]]), np.array([[v]]), noise_level=noise_level, **times)[0, 0])

    mean, s = (1 - u) * m, float(flow_sde_std(noise_level=noise_level, **times)[0])
    wanted = (1 - u + delta) ** 2 * spread**2 + (u - delta) ** 2
    return move(mean) - (1 - u + delta) * m, (move(mean + 1) - move(mean)) ** 2 * variance + s**2 - wanted


@pytest.mark.parametrize("noise_level", [1e-9, 0.7, 1.5])
@pytest.mark.parametrize("u", [0.95, 0.5, 0.1])
def test_noise_leaves_the_marginals_alone(u, noise_level):
    """For Gaussian data: the mean exactly, the variance but for an error of second order in the step."""
    errors = []
    for delta in (4e-3, 2e-3, 1e-3):
        mean, variance = _after(u, delta, m=0.8, spread=0.6, noise_level=noise_level)
        assert abs(mean) < 1e-14
        errors.append(variance)
    for before, after in itertools.pairwise(errors):
        assert after == pytest.approx(before / 4, rel=0.15, abs=1e-13)


def test_the_first_step_makes_the_law_too_wide():
    """Its noise does not shrink with the step: from N(0, 1) to 1 + a⁴/4, beside the flow's own."""
    for delta in (0.1, 1e-3):
        _, error = _after(1.0, delta, m=0.0, spread=1e-6, noise_level=0.7)
        slope = 1 - 0.7**2 / 2
        assert error + (1 - delta) ** 2 == pytest.approx((slope - delta) ** 2 + 0.49, abs=1e-9)
        assert error == pytest.approx(0.7**4 / 4, abs=2.5 * delta)


def test_without_noise_it_is_the_flow():
    steps = FLOW_POLICY.edges["far apart"]()
    seen = {n: steps[n] for n in ("x", "velocity", "u", "next_u")}
    delta = (steps["u"] - steps["next_u"])[:, None]
    step = flow_sde_step(z=steps["z"], noise_level=1e-9, **seen)
    assert np.allclose(step, steps["x"] - delta * steps["velocity"], rtol=0, atol=1e-8)


def test_on_policy_it_is_the_policy_gradient():
    """Late steps are loudest: the size of a step's gradient is γ |z| |A| / (N D s)."""
    steps = FLOW_POLICY.edges["on-policy"]()
    loss, gradient = _loss({**steps, "ref_velocity": None})
    N, D = steps["x"].shape
    s, gain = flow_sde_std(steps["u"], steps["next_u"]), flow_sde_gain(steps["u"], steps["next_u"])
    expected = (steps["advantage"] * gain / (N * D * s))[:, None] * steps["z"]
    assert loss == pytest.approx(-steps["advantage"].mean()) and np.allclose(gradient, expected, rtol=1e-12, atol=1e-15)


def test_what_has_moved_too_far_gets_no_gradient():
    """The ratio of the first step is beyond the interval on the side where it earns, that of the second is not."""
    steps = FLOW_POLICY.edges["far apart"]()
    seen = {n: steps[n] for n in ("x", "next_x", "velocity", "u", "next_u")}
    log_ratio = step_log_prob(**seen) - steps["old_log_prob"]
    earns = np.where(log_ratio > 0, 1.0, -1.0)
    for sign, moves in ((1, False), (-1, True)):
        gradient = _loss({**steps, "advantage": sign * earns, "ref_velocity": None}, clip=1e-6)[1]
        assert (abs(gradient).max(1) > 0).tolist() == [moves] * 4


def test_the_gradient_reaches_the_parameters():
    """Through a network, off-policy, by differences."""
    network, rng = TimeNetwork(dims=2, hidden=(8,)), np.random.default_rng(1)
    steps = FLOW_POLICY.edges["far apart"]()
    theta = network.init(rng) + 0.3 * rng.standard_normal(network.size)

    def loss(theta):
        velocity, cache = network.forward(theta, steps["x"], steps["u"])
        value, slope = _loss({**steps, "velocity": velocity}, clip=0.2, kl_weight=0.3)
        return value, network.vjp(cache, slope)[0]

    direction = rng.standard_normal(network.size)
    h, slope = 1e-5, loss(theta)[1] @ direction
    assert (loss(theta + h * direction)[0] - loss(theta - h * direction)[0]) / (2 * h) == pytest.approx(slope, rel=1e-6)


def test_advantages():
    reward, group = np.array([1.0, 0.0, 4.0, 7.0, 7.0]), np.array([2, 2, 2, 9, 9])
    A = flow_advantage(reward, group)
    assert A[3:].tolist() == [0, 0] and A[:3].sum() == pytest.approx(0, abs=1e-14)
    assert A[0] == pytest.approx((1 - 5 / 3) / (np.std([1.0, 0.0, 4.0]) + 1e-4))
    lucky = flow_advantage(np.array([1.0] + [0.0] * 99), np.zeros(100, int))
    assert lucky[0] == 5 and lucky[1] == pytest.approx(-0.01 / (np.sqrt(0.0099) + 1e-4))


def test_refused():
    steps = FLOW_POLICY.edges["far apart"]()
    with pytest.raises(ValueError, match="u must be above next_u"):
        flow_sde_std(np.array([0.5]), np.array([0.5]))
    with pytest.raises(ValueError, match="next_u must lie in"):
        flow_sde_gain(np.array([0.5]), np.array([-0.1]))
    with pytest.raises(ValueError, match="old_log_prob must be within 30"):
        _loss({**steps, "old_log_prob": steps["old_log_prob"] - 40})
    with pytest.raises(ValueError, match="ref_velocity"):
        _loss({**steps, "ref_velocity": steps["velocity"][:2]})
