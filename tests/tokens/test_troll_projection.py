"""The projection against SciPy's solution of the same problem, its optimality conditions, dual and derivatives."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.special import log_softmax, rel_entr

from trref.tokens.troll_projection import dual_value, multiplier, project_jvp, project_kl, project_vjp


def _pair(seed, V=6, step=1.5):
    rng = np.random.default_rng(seed)
    old = rng.standard_normal((1, V))
    return old + step * rng.standard_normal((1, V)), old


def _kl(log_p, log_q):
    return float(rel_entr(np.exp(log_p), np.exp(log_q)).sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [0.01, 0.05, 0.3])
def test_against_constrained_optimisation(seed, radius):
    z, old = _pair(seed)
    log_p, log_q = log_softmax(z[0]), log_softmax(old[0])
    ours = project_kl(z, old, radius=radius)[0]
    found = minimize(
        lambda s: _kl(log_softmax(s), log_p),
        0.5 * (log_p + log_q),
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda s: radius - _kl(log_softmax(s), log_q)},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.success and found.fun == pytest.approx(_kl(ours, log_p), abs=1e-7)
    assert np.exp(log_softmax(found.x)) == pytest.approx(np.exp(ours), abs=1e-4)


@pytest.mark.parametrize("radius", [1e-6, 1e-3, 0.05, 0.3, 2.0])
def test_feasible_tight_and_stationary(radius):
    rng = np.random.default_rng(5)
    for old_scale, step in ((0.5, 0.1), (1.5, 1.0), (4.0, 3.0)):
        old = old_scale * rng.standard_normal((200, 8))
        z = old + step * rng.standard_normal((200, 8))
        ours, eta = project_kl(z, old, radius=radius), multiplier(z, old, radius=radius)
        log_p, log_q = log_softmax(z, -1), log_softmax(old, -1)
        for i in range(200):
            kl = _kl(ours[i], log_q[i])
            if eta[i] == 0:
                assert np.array_equal(ours[i], log_p[i]) or ours[i] == pytest.approx(log_p[i], abs=1e-13)
                assert kl <= radius * (1 + 1e-9)
            else:
                assert kl == pytest.approx(radius, rel=1e-7) and _kl(log_p[i], log_q[i]) > radius
                residual = ours[i] - (log_p[i] + eta[i] * log_q[i]) / (1 + eta[i])
                assert np.ptp(residual) < 1e-9


def test_a_first_step_almost_onto_the_old_policy():
    """Newton's first step from the new policy can end at a beta so small that the divergence rounds to 0."""
    old = np.log([[0.0105560, 0.9894440]])
    z = old + np.array([[-1.4552968, 0.01552559]])
    ours, log_q = project_kl(z, old, radius=1e-6)[0], log_softmax(old[0])
    assert _kl(ours, log_q) == pytest.approx(1e-6, rel=1e-6)
    rng = np.random.default_rng(0)
    old = log_softmax(0.5 * rng.standard_normal((2000, 50)), -1).astype(np.float32)
    z = (old + 5 * rng.standard_normal((2000, 50))).astype(np.float32)
    near = abs(log_softmax(z, -1) - old).max(-1) < 29
    for radius in (1e-3, 0.05, 0.3):
        ours = project_kl(z[near], old[near], radius=radius).astype(float)
        kl = (np.exp(ours) * (ours - old[near].astype(float))).sum(-1)
        assert near.sum() > 1000 and kl == pytest.approx(np.full(near.sum(), radius), rel=2e-3, abs=2e-6)


def test_projecting_again_changes_nothing():
    z, old = _pair(6)
    once = project_kl(z, old)
    assert project_kl(once, old) == pytest.approx(once, abs=1e-9)


def test_strong_duality():
    for seed in range(5):
        z, old = _pair(seed)
        log_p, log_q = log_softmax(z, -1), log_softmax(old, -1)
        eta = multiplier(z, old)
        best = float(dual_value(log_p, log_q, eta, 0.05)[0])
        assert best == pytest.approx(_kl(project_kl(z, old)[0], log_p[0]), rel=1e-9)
        around = [float(dual_value(log_p, log_q, eta * f, 0.05)[0]) for f in (0.5, 0.9, 1.1, 2.0)]
        assert max(around) < best


def test_pythagorean_inequality():
    """For every member of the ball: at least as far from p as by way of the projection."""
    rng = np.random.default_rng(7)
    z, old = _pair(7)
    log_p, log_q, ours = log_softmax(z[0]), log_softmax(old[0]), project_kl(z, old)[0]
    inside = 0
    for _ in range(300):
        other = log_softmax(log_q + rng.choice((0.1, 0.3)) * rng.standard_normal(6))
        if _kl(other, log_q) <= 0.05:
            inside += 1
            assert _kl(other, log_p) >= _kl(other, ours) + _kl(ours, log_p) - 1e-12
    assert inside > 50


def test_two_tokens_by_one_root():
    z, old = np.array([[2.0, 0.0]]), np.array([[0.3, 0.0]])
    q = 1 / (1 + math.exp(-0.3))

    def kl(p):
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)) - 0.05

    root = brentq(kl, q, 1 / (1 + math.exp(-2)), xtol=1e-14)
    assert math.exp(project_kl(z, old)[0, 0]) == pytest.approx(root, rel=1e-10)
    # the projection stays where it is, whatever the step
    assert project_vjp(z, old, np.array([[1.0, -0.3]])) == pytest.approx(np.zeros((1, 2)), abs=1e-12)


def test_ratios_stay_within_the_band_of_the_same_ball():
    """The band of one token under KL(new ‖ old), by the root of the binary divergence."""
    rng = np.random.default_rng(8)
    old = rng.standard_normal((300, 5))
    z = old + 3 * rng.standard_normal((300, 5))
    log_q, ours = log_softmax(old, -1), project_kl(z, old)
    for i in range(300):
        for k in range(5):
            q = math.exp(log_q[i, k])

            def g(p, q=q):
                return float(rel_entr(p, q) + rel_entr(1 - p, 1 - q)) - 0.05

            low = brentq(g, 0.0, q) if g(0.0) > 0 else 0.0
            high = brentq(g, q, 1.0) if g(1.0) > 0 else 1.0
            assert low - 1e-9 <= math.exp(ours[i, k]) <= high + 1e-9


def test_vjp_is_orthogonal_to_old_to_new():
    z, old = _pair(9)
    u = log_softmax(z, -1) - log_softmax(old, -1)
    g = project_vjp(z, old, np.random.default_rng(9).standard_normal((1, 6)))
    assert float((g * u).sum()) == pytest.approx(0, abs=1e-12) and float(g.sum()) == pytest.approx(0, abs=1e-12)


def test_jvp_keeps_to_the_surface():
    z, old = _pair(10)
    ours, moved = project_kl(z, old)[0], project_jvp(z, old, np.random.default_rng(0).standard_normal((1, 6)))[0]
    slope = np.exp(ours) @ (moved * (ours - log_softmax(old[0])))
    assert slope == pytest.approx(0, abs=1e-12)


def test_small_and_large_balls():
    z, old = _pair(11)
    assert np.exp(project_kl(z, old, radius=1e-10)[0]) == pytest.approx(np.exp(log_softmax(old[0])), abs=1e-4)
    # up to the order in which the exponentials are added
    assert np.allclose(project_kl(z, old, radius=50.0), log_softmax(z, -1), rtol=z.shape[-1] * 2**-52, atol=0)
    assert multiplier(z, old, radius=50.0) == 0 < multiplier(z, old, radius=1e-4)
