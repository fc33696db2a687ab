"""Theorems and limits of SAGE-GRPO."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from trref.catalog.diffusion.interfaces import FLOW_POLICY
from trref.catalog.diffusion.sage_grpo import SAGE_POLICY
from trref.diffusion.flow_grpo import flow_sde_std
from trref.diffusion.sage_grpo import (
    cps_step,
    dual_kl,
    equalizer,
    gradient_size,
    kl_weights,
    sage_grpo,
    sage_log_prob,
    sage_mean,
    sage_step,
    score_from_velocity,
    step_variance,
)
from trref.problems.mixtures import MixtureVelocity, three_components


def _variance(u, next_u, **hyper):
    return float(step_variance(np.array([u]), np.array([next_u]), **hyper)[0])


def _of(f, steps, **hyper):
    return f(**{n: steps[n] for n in f.inputs}, **hyper)


@pytest.mark.parametrize(("u", "next_u"), [(0.95, 0.9), (0.5, 0.1), (0.02, 0.0), (0.99, 0.0)])
def test_the_variance_is_an_integral(u, next_u):
    integral = quad(lambda zeta: zeta / (1 - zeta), next_u, u, epsabs=0, epsrel=1e-13)[0]
    assert _variance(u, next_u) == pytest.approx(0.25 * integral, rel=1e-12)


def test_it_adds_up_where_the_rule_of_the_left_end_does_not():
    whole, parts = _variance(0.9, 0.3), [_variance(0.9, 0.55), _variance(0.55, 0.3)]
    assert whole == pytest.approx(sum(parts), rel=1e-13)
    left = {"variance": "left_end"}
    assert _variance(0.9, 0.3, **left) > 1.2 * (_variance(0.9, 0.55, **left) + _variance(0.55, 0.3, **left))


def test_the_left_end_has_more_of_it():
    """1.48 times from 0.95 to 0.9; always at least as much, and equally much for short steps."""
    excess = _variance(0.95, 0.9, variance="left_end") / _variance(0.95, 0.9)
    assert excess == pytest.approx(1.48, abs=0.005)
    rng = np.random.default_rng(0)
    for u in rng.uniform(0.05, 0.99, 50):
        next_u = rng.uniform(0, u - 1e-3)
        assert _variance(u, next_u, variance="left_end") >= _variance(u, next_u)
    short = _variance(0.6, 0.6 - 2e-4, variance="left_end") / _variance(0.6, 0.6 - 2e-4)
    assert short == pytest.approx(1, abs=5e-4)


def test_but_not_at_the_first_step():
    """With the cap: 3.6 η² against Flow-GRPO's 1.0 η² from 1 to 7/8."""
    assert _variance(1.0, 0.875) / 0.25 == pytest.approx(3.6, abs=0.01)
    assert _variance(1.0, 0.875, variance="left_end") / 0.25 == pytest.approx(1.0)
    assert _variance(1.0, 0.875) == pytest.approx(0.25 * (-0.125 + math.log(0.125 / 0.003)))


@pytest.mark.parametrize("variance", ["integral", "left_end"])
def test_the_first_step_makes_noise_too_wide(variance):
    """From N(0, 1), where v = E[noise] - m = x for data at 0: to 1 + Σ²/4, in the limit of a short step of the flow."""
    S = _variance(1.0, 0.875, variance=variance)
    u, next_u, x = np.ones(1), np.full(1, 0.875), np.array([[1.0]])
    slope = float(sage_mean(x, x, u, next_u, variance=variance)[0, 0]) + 0.125  # without the flow's own part
    assert slope**2 + S == pytest.approx(1 + S**2 / 4)


def test_the_score_is_that_of_the_mixture():
    mixture, rng = three_components(), np.random.default_rng(1)
    x, u = rng.standard_normal((9, 2)), np.full(9, 0.4)
    score = score_from_velocity(x, MixtureVelocity(mixture)(x, u), u)
    assert np.allclose(score, mixture.noised(0.6, 0.4).score(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variance", ["integral", "left_end", "constant"])
def test_the_log_probability_against_scipy(variance):
    steps = FLOW_POLICY.example(np.random.default_rng(0), 9)
    S = _of(step_variance, steps, variance=variance)
    expected = norm.logpdf(steps["next_x"], _of(sage_mean, steps, variance=variance), np.sqrt(S)[:, None]).mean(1)
    assert _of(sage_log_prob, steps, variance=variance) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_cps_keeps_the_level_of_the_noise(eta):
    """Data at a point m: from its law at u, every step leads to its law at u', exactly."""
    m, u, next_u = 0.7, np.array([0.8]), np.array([0.5])

    def move(noise, z):
        x = np.array([[0.2 * m + 0.8 * noise]])
        v = np.array([[noise - m]])
        return float(cps_step(x, v, np.array([[z]]), u, next_u, eta=eta)[0, 0])

    assert move(0.0, 0.0) == pytest.approx(0.5 * m)
    kept, fresh = move(1.0, 0.0) - move(0.0, 0.0), move(0.0, 1.0) - move(0.0, 0.0)
    assert kept**2 + fresh**2 == pytest.approx(0.25)
    assert fresh == pytest.approx(0.5 * math.sin(eta * math.pi / 2))


def test_weights_make_all_steps_equally_loud():
    """They span a factor of about 40 over 16 steps before, growing towards the data; the median has the weight 1."""
    u = np.linspace(1, 0, 17)
    size, weight = gradient_size(u[:-1], u[1:], eta=0.7), equalizer(u[:-1], u[1:], eta=0.7)
    assert (np.diff(size) > 0).all() and 20 < size[-1] / size[0] < 80
    assert weight * size == pytest.approx(np.full(16, np.median(size)), rel=1e-13)
    odd = equalizer(u[1:-1], u[2:])
    assert np.sort(odd)[7] == pytest.approx(1.0), "of fifteen, the eighth"


def test_the_divergence_from_the_reference():
    """Of two Gaussians, over D, but for the floor under the variance."""
    steps = SAGE_POLICY.edges["far apart"]()
    S = _of(step_variance, steps)
    reference = {**steps, "velocity": steps["ref_velocity"]}
    apart = _of(sage_mean, steps) - _of(sage_mean, reference)
    expected = ((apart**2).sum(1) / (2 * S) / 2).mean()
    assert _of(dual_kl, steps, step_weight=0.0)[0] == pytest.approx(expected, rel=1e-3)
    assert _of(dual_kl, reference, step_weight=0.0)[0] == 0


def test_at_the_old_policy_the_one_sample_divergence_has_no_slope_on_average():
    """Noise and its opposite give opposite gradients; and the estimate is 0 for each."""
    steps = FLOW_POLICY.edges["on-policy"]()
    seen = {n: steps[n] for n in ("x", "velocity", "u", "next_u")}
    total = 0
    for sign in (1, -1):
        next_x = sage_step(z=sign * steps["z"], **seen)
        old = sage_log_prob(next_x=next_x, **seen)
        value, slope = _of(dual_kl, {**steps, "next_x": next_x, "old_log_prob": old}, moving_weight=0.0)
        assert value == 0 and abs(slope).max() > 0.01
        total = total + slope
    assert np.allclose(total, 0, rtol=0, atol=1e-14)


def test_the_one_sample_divergence_by_quadrature():
    """Its mean over the noise is KL(old‖new) over D, and it is negative for some noise."""
    z = np.linspace(-10, 10, 2001)
    weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    seen = {"x": np.full((2001, 1), 0.4), "u": np.full(2001, 0.6), "next_u": np.full(2001, 0.5)}
    old, new = np.full((2001, 1), 0.3), np.full((2001, 1), 0.9)
    next_x = sage_step(velocity=old, z=z[:, None], **seen)
    estimate = sage_log_prob(velocity=old, next_x=next_x, **seen) - sage_log_prob(velocity=new, next_x=next_x, **seen)
    means = [sage_mean(velocity=v, **seen)[0, 0] for v in (old, new)]
    kl = (means[0] - means[1]) ** 2 / (2 * step_variance(seen["u"], seen["next_u"])[0])
    assert weight @ estimate == pytest.approx(kl, rel=1e-9) and estimate.min() < 0


def test_a_weight_scales_its_step_and_no_other():
    steps = SAGE_POLICY.edges["far apart"]()
    plain = _of(sage_grpo, {**steps, "weight": np.ones(4)}, clip=9.0, kl_weight=0.0)[1]
    weighed = _of(sage_grpo, {**steps, "weight": np.array([1.0, 0.0, 2.0, 0.5])}, clip=9.0, kl_weight=0.0)[1]
    assert np.allclose(weighed, np.array([[1.0], [0.0], [2.0], [0.5]]) * plain, rtol=1e-12)


def test_the_weight_of_the_penalty_by_hand():
    """Two above the target of 1: 2, 4; then below: 2; the bounds are 1 and 5."""
    bounds = {"target": 1.0, "factor": 2.0, "smallest": 1.0, "largest": 5.0}
    assert kl_weights(np.array([3.0, 1.5, 0.5, 9.0, 9.0, 0.0]), **bounds).tolist() == [2, 4, 2, 4, 5, 2.5]


def test_flow_grpo_and_its_noise():
    u, next_u = np.array([1.0, 0.5]), np.array([0.9, 0.4])
    left = step_variance(u, next_u, eta=0.7, variance="left_end")
    assert np.sqrt(left) == pytest.approx(flow_sde_std(u, next_u))
    assert step_variance(u, next_u, eta=0.7, variance="constant") == pytest.approx([0.049, 0.049])


def test_refused():
    with pytest.raises(ValueError, match="next_u must be at most"):
        _variance(1.0, 0.995)
    with pytest.raises(ValueError, match="smallest"):
        kl_weights(np.ones(3), smallest=1e-3, largest=1e-5)
    with pytest.raises(ValueError, match="u must be at least"):
        score_from_velocity(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1))
    steps = SAGE_POLICY.edges["far apart"]()
    with pytest.raises(ValueError, match="old_log_prob must be within 30"):
        _of(sage_grpo, {**steps, "old_log_prob": steps["old_log_prob"] + 31})
