"""Theorems and limits of GRPO-Guard."""

import numpy as np
import pytest

from trref.catalog.diffusion.interfaces import FLOW_POLICY, flow_steps
from trref.diffusion.flow_grpo import flow_grpo, flow_sde_gain, flow_sde_mean, flow_sde_std, step_kl, step_log_prob
from trref.diffusion.grpo_guard import grpo_guard, log_ratio_norm, ratio_moments


def _steps(N, D, *, away, u=0.5, step=0.1, seed=0, z=None):
    """N noises of one step of one policy, or each its own if u is an array."""
    rng = np.random.default_rng(seed)
    x, v, ahead = (np.tile(row, (N, 1)) for row in rng.standard_normal((3, D)))
    return flow_steps(
        x=x,
        z=rng.standard_normal((N, D)) if z is None else z,
        old_velocity=v,
        velocity=v + away * ahead,
        u=np.broadcast_to(u, N),
        next_u=np.broadcast_to(u, N) - step,
        advantage=np.ones(N),
    )


def _of(f, steps, *without, **hyper):
    names = [n for n in f.inputs if n not in without]
    return f(**{n: steps[n] for n in names}, **hyper)


def _log_ratio(steps):
    return _of(step_log_prob, steps) - steps["old_log_prob"]


@pytest.mark.parametrize("D", [1, 4, 16])
def test_moments_by_many_draws(D):
    """Mean and deviation of both logarithms, and the mean of Flow-GRPO's ratio, within five standard errors."""
    N = 40_000
    steps = _steps(N, D, away=0.8)
    plain, normalised = _log_ratio(steps), _of(log_ratio_norm, steps)
    moments = [float(m[0]) for m in _of(ratio_moments, steps)]
    error = 5 * moments[1] / np.sqrt(N)
    assert abs(plain.mean() - moments[0]) < error and moments[0] < 0
    assert abs(plain.std() - moments[1]) < error
    ratio = np.exp(plain)
    assert abs(ratio.mean() - moments[2]) < 5 * ratio.std() / np.sqrt(N)
    assert moments[2] == pytest.approx(1, abs=1e-12) if D == 1 else moments[2] < 0.99
    s = float(flow_sde_std(steps["u"], steps["next_u"])[0])
    far = s * D * moments[1]  # the length of the move
    assert abs(normalised.mean()) < 5 * far / D / np.sqrt(N)
    assert normalised.std() == pytest.approx(far / D, rel=5 / np.sqrt(2 * N))


def test_a_true_ratio_of_densities_has_the_mean_1():
    """With the sum over dimensions in the place of the mean, by quadrature along the move."""
    z, D = np.linspace(-12, 12, 2001), 3
    steps = _steps(len(z), D, away=0.8)
    gain = flow_sde_gain(steps["u"], steps["next_u"])[0]
    ahead = -gain * (steps["velocity"] - steps["old_velocity"])[0]
    along = z[:, None] * ahead / np.linalg.norm(ahead)
    steps = _steps(len(z), D, away=0.8, z=along)
    weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    assert weight @ np.exp(D * _log_ratio(steps)) == pytest.approx(1, abs=1e-12)
    assert weight @ np.exp(_log_ratio(steps)) == pytest.approx(float(_of(ratio_moments, steps).mean[0]), abs=1e-12)


def test_the_normalised_ratio_is_the_move_along_the_noise():
    """By its definition, with the quadratic term of the card; and in closed form."""
    rng = np.random.default_rng(3)
    steps = FLOW_POLICY.example(rng, 12)
    times = (steps["u"], steps["next_u"])
    s, D = flow_sde_std(*times), steps["x"].shape[1]
    g = flow_sde_mean(steps["x"], steps["velocity"], *times) - flow_sde_mean(steps["x"], steps["old_velocity"], *times)
    added = (g**2).sum(1) / (2 * D * s**2)
    closed = (g * steps["z"]).sum(1) / D
    assert s * (_log_ratio(steps) + added) == pytest.approx(closed, abs=1e-12)
    assert _of(log_ratio_norm, steps) == pytest.approx(closed, abs=1e-12)
    assert added == pytest.approx(step_kl(steps["velocity"], steps["old_velocity"], *times) / D)


def test_no_step_is_louder_than_another():
    """At the old policy, for equal noise and advantages: after the first step all gradients have one size."""
    K = 10
    u = 1 - np.arange(K) / K
    rng = np.random.default_rng(0)
    v = rng.standard_normal((K, 5))
    steps = flow_steps(
        x=rng.standard_normal((K, 5)),
        z=np.ones((K, 5)),
        old_velocity=v,
        velocity=v,
        u=u,
        next_u=np.maximum(u - 1 / K, 0),
        advantage=np.ones(K),
    )
    guard = np.linalg.norm(_of(grpo_guard, steps)[1], axis=1)
    plain = np.linalg.norm(_of(flow_grpo, steps, "ref_velocity")[1], axis=1)
    assert guard[1:] == pytest.approx(np.full(K - 1, guard[1]), rel=1e-12)
    assert guard[0] == pytest.approx(guard[1] / 1.245)
    assert guard[1] == pytest.approx(1.245 / (K * 5) * np.sqrt(5))
    assert plain[-1] > 5 * plain[1], "Flow-GRPO's late steps are"


def test_at_the_old_policy_the_quadratic_term_has_no_slope():
    """The same direction as Flow-GRPO for each step, s/δ times as long."""
    steps = FLOW_POLICY.edges["on-policy"]()
    scale = flow_sde_std(steps["u"], steps["next_u"]) / (steps["u"] - steps["next_u"])
    plain = _of(flow_grpo, steps, "ref_velocity")[1]
    guard = _of(grpo_guard, steps, "ref_velocity")[1]
    assert np.allclose(guard, scale[:, None] * plain, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("sign", [1, -1])
def test_only_ratios_that_earned_enough_are_clipped(sign):
    steps = _steps(64, 4, away=0.5, seed=5)
    steps["advantage"] = sign * steps["advantage"]
    log_ratio, clip = _of(log_ratio_norm, steps), 0.01
    gradient = _of(grpo_guard, steps, "ref_velocity", clip=clip)[1]
    ratio = np.exp(log_ratio)
    flat = ratio > 1 + clip if sign > 0 else ratio < 1 - clip
    assert 5 < flat.sum() < 59 and ((abs(gradient).max(1) == 0) == flat).all()


def test_the_loss_weighs_each_step_by_its_length():
    """One sample with ratio 1 and advantage 1: the loss is minus the mean of 1/δ."""
    steps = _steps(2, 3, away=0.0)
    steps["next_u"] = steps["u"] - np.array([0.1, 0.25])
    steps["velocity"] = steps["old_velocity"]
    assert _of(grpo_guard, steps)[0] == pytest.approx(-(10 + 4) / 2)


def test_refused():
    steps = _steps(3, 2, away=0.1)
    with pytest.raises(ValueError, match="log-ratios within 30"):
        _of(grpo_guard, {**steps, "velocity": steps["velocity"] + 1e4})
    with pytest.raises(ValueError, match="u must be above next_u"):
        _of(grpo_guard, {**steps, "next_u": steps["u"]})
