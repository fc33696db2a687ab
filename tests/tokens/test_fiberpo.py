"""The gate, the Jacobian, and the limits of FiberPO."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.fiberpo import aggregate_gate, fiber_residual, fiberpo, gate_regimes, residual_pullback, sign_channels
from trref.tokens.grpo import grpo

WIDE = {"budget_up": 50.0, "budget_down": 50.0}


def _log_gate(x, budget_up, budget_down, clip):
    """One answer's log G, token by token, from the definitions."""
    T = len(x)
    s = {1: sum(max(v, 0) for v in x) / T, -1: sum(max(-v, 0) for v in x) / T}

    def g(v, C):
        if abs(v) <= C:
            return v
        return math.copysign((T + 1) * C, v) - T * v if abs(v) < (1 + 1 / T) * C else 0.0

    def cut(v):
        return min(max(v, -clip), clip)

    base = g(s[1], budget_up) - g(s[-1], budget_down)
    labels = [1 if v >= 0 else -1 for v in x]
    return [base + cut(v - l * s[l]) - cut(-l * s[-l]) for v, l in zip(x, labels, strict=True)]


# ---- the gate


def _gate(x, budget, length):
    return aggregate_gate(x, budget, np.full_like(x, length))


def test_gate_by_hand():
    """C = 0.3, T = 2: passes up to 0.3, falls to 0 at 0.45 with slope -2, is odd."""
    x = np.array([0.0, 0.1, 0.3, 0.35, 0.4, 0.45, 0.6])
    value, slope = _gate(x, 0.3, 2)
    assert np.allclose(value, [0, 0.1, 0.3, 0.2, 0.1, 0, 0], atol=1e-15, rtol=1e-9)
    assert slope.tolist() == [1, 1, 1, -2, -2, 0, 0]
    assert np.allclose(_gate(-x, 0.3, 2)[0], -value, rtol=1e-9)


def test_the_gate_is_continuous():
    for T in (1.0, 3.0, 10.0):
        x = np.linspace(-1, 1, 20001)
        value = _gate(x, 0.4, T)[0]
        assert abs(np.diff(value)).max() <= (T + 1e-6) * 1e-4 and abs(value).max() == pytest.approx(0.4)


def test_channels():
    x = np.array([[0.3, -0.1, 0.4, 0.0]])
    up, down, T = sign_channels(x, np.array([[1.0, 1.0, 1.0, 0.0]]))
    assert (up[0], down[0], T[0]) == (pytest.approx(0.7 / 3), pytest.approx(0.1 / 3), 3)


# ---- the product


@pytest.mark.parametrize("hyper", [(0.3, 0.25, 0.2), (0.12, 0.05, 0.04), (0.05, 0.1, 0.3)])
@pytest.mark.parametrize("seed", range(4))
def test_against_the_definitions(seed, hyper):
    log_prob, old, A, mask = token_batch(seed, spread=0.4)
    total = 0.0
    for i in range(8):
        n = int(mask[i].sum())
        total += A[i] * sum(math.exp(v) for v in _log_gate((log_prob - old)[i, :n], *hyper)) / n
    names = dict(zip(("budget_up", "budget_down", "residual_clip"), hyper, strict=True))
    assert fiberpo(log_prob, old, A, mask, **names)[0] == pytest.approx(-total / 8, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_jacobian(seed):
    """Every regime of both gates, and clipped and free residuals, against differences."""
    rng = np.random.default_rng(seed)
    log_prob, old, A, mask = token_batch(seed, B=30, spread=0.25)
    options = {"budget_up": 0.2, "budget_down": 0.12, "residual_clip": 0.1}
    seen = gate_regimes(log_prob, old, mask, budget_up=0.2, budget_down=0.12)
    gradient = fiberpo(log_prob, old, A, mask, **options)[1]
    check_gradient(lambda x: fiberpo(x, old, A, mask, **options)[0], log_prob, gradient, rng=rng)
    assert (seen.sum(0) > 0).all()


def test_the_jacobians_entries():
    """Proposition 5.2, entry by entry, at a point with one channel in rollback and some residuals clipped."""
    x, T, (C_up, C_down, clip) = np.array([0.9, 0.1, -0.3, 0.25]), 4, (0.3, 0.3, 0.2)
    s = {1: 1.25 / 4, -1: 0.3 / 4}
    assert C_up < s[1] < 1.25 * C_up and s[-1] < C_down
    slope, l = {1: -T, -1: 1}, [1, 1, -1, 1]
    expected = np.zeros((4, 4))
    for i in range(4):
        I, J = abs(x[i] - l[i] * s[l[i]]) < clip, s[-l[i]] < clip
        for j in range(4):
            expected[i, j] = slope[l[j]] / T + I * ((i == j) - (l[i] == l[j]) / T) - J * (l[i] != l[j]) / T
    h = 1e-6
    actual = np.array(
        [
            (np.array(_log_gate(x + h * e, C_up, C_down, clip)) - _log_gate(x - h * e, C_up, C_down, clip)) / (2 * h)
            for e in np.eye(4)
        ]
    ).T
    assert np.allclose(actual, expected, atol=1e-8, rtol=1e-9)
    G = np.exp(_log_gate(x, C_up, C_down, clip))
    for A in np.eye(4):
        gradient = fiberpo(
            x[None], np.zeros((1, 4)), A[None], np.ones((1, 4)), budget_up=C_up, budget_down=C_down, residual_clip=clip
        )[1]
        assert np.allclose(gradient[0], -(A * G) @ expected / T, rtol=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0, -0.0])
def test_on_fresh_data_the_jacobian_is_the_identity(sign):
    _, old, A, mask = token_batch(3, spread=0.3)
    _, gradient = fiberpo(old + sign * 1e-12, old, A, mask)
    assert np.allclose(gradient, grpo(old, old, A, mask)[1], rtol=1e-9)


def test_unsaturated_it_is_the_importance_ratio():
    """Not to first order: exactly."""
    log_prob, old, A, mask = token_batch(4, spread=0.08)
    up, down, _ = sign_channels(mask * (log_prob - old), mask)
    x = mask * (log_prob - old)
    residual, own, other = fiber_residual(x, up, down, 0.2)
    assert own.all() and other.all() and np.allclose((up - down)[:, None] + residual, x, atol=1e-15, rtol=1e-9)
    loss, gradient = fiberpo(log_prob, old, A, mask)
    unclipped = grpo(log_prob, old, A, mask, clip=1e9)
    assert loss == pytest.approx(unclipped[0], rel=1e-12) and np.allclose(gradient, unclipped[1], atol=1e-14, rtol=1e-9)


def test_the_gated_ratio_is_bounded():
    """However far the policy moves: |log G| is at most C + 2 epsilon."""
    log_prob, old, _, mask = token_batch(5, B=200, spread=8.0)
    log_prob = np.clip(log_prob, old - 29, old + 29)
    for i in range(200):
        A = np.zeros(200)
        A[i] = 200.0
        assert abs(fiberpo(log_prob, old, A, mask)[0]) <= math.exp(0.3 + 0.4) + 1e-12


def test_answers_do_not_touch_each_other():
    log_prob, old, A, mask = token_batch(6, spread=0.6)
    before = fiberpo(log_prob, old, A, mask)[1]
    log_prob[2] += 0.7
    after = fiberpo(log_prob, old, A, mask)[1]
    others = [0, 1, 3, 4]
    assert np.array_equal(before[others], after[others]) and not np.allclose(before[2], after[2])


def test_rollback_is_a_restoring_force():
    """All tokens moved up equally, a little beyond the budget: each one's derivative of the base is -1."""
    T, drift = 4, 0.33
    x, mask = np.full((1, T), drift), np.ones((1, T))
    assert gate_regimes(x, np.zeros((1, T)), mask).tolist() == [[0, 1, 0], [1, 0, 0]]
    loss, gradient = fiberpo(x, np.zeros((1, T)), np.ones(1), mask)
    base = (T + 1) * 0.3 - T * drift
    assert loss == pytest.approx(-math.exp(base))
    assert np.allclose(gradient.sum(), T * math.exp(base), rtol=1e-9), "to earn more, go back: every log-ratio by -1"


def test_switched_off_channels_leave_the_residual():
    x, mask = np.array([[1.0, -1.2, 0.9, -0.8]]), np.ones((1, 4))
    assert gate_regimes(x, 0 * x, mask).tolist() == [[0, 0, 1], [0, 0, 1]]
    loss, _ = fiberpo(x, 0 * x, np.ones(1), mask, residual_clip=5.0)
    up, down = 1.9 / 4, 2.0 / 4
    residual = x[0] - up + down
    assert loss == pytest.approx(-np.exp(residual).mean())
    assert fiberpo(x, 0 * x, np.ones(1), mask, residual_clip=0.01)[0] == pytest.approx(-1, abs=0.03)


# ---- limits


def test_one_token_is_the_gated_ratio():
    x = np.array([[0.1], [0.35], [0.7], [-0.2], [-0.3], [-0.6]])
    for i, expected in enumerate([0.1, 0.25, 0.0, -0.2, -0.2, 0.0]):
        A = np.zeros(6)
        A[i] = 6.0
        assert fiberpo(x, 0 * x, A, np.ones((6, 1)))[0] == pytest.approx(-math.exp(expected))


def test_open_gates_clip_around_the_drift():
    """A common shift of all tokens is not clipped; deviations from it are."""
    x = 0.8 + np.array([[0.05, -0.05, 0.3, -0.3]])
    _, gradient = fiberpo(x, 0 * x, np.ones(1), np.ones((1, 4)), **WIDE, residual_clip=0.1)
    log_G = 0.8 + np.array([0.05, -0.05, 0.1, -0.1])
    through_mean = np.exp(log_G[2:]).sum() / 4
    assert np.allclose(-4 * gradient[0], np.append(np.exp(log_G[:2]), [0, 0]) + through_mean, rtol=1e-9)


def test_pullback_is_the_adjoint():
    rng = np.random.default_rng(8)
    x, mask, c, v = (
        rng.standard_normal((4, 6)),
        np.ones((4, 6)),
        rng.standard_normal((4, 6)),
        rng.standard_normal((4, 6)),
    )

    def residual(y):
        up, down, _ = sign_channels(y, mask)
        return fiber_residual(y, up, down, 0.4)

    _, own, other = residual(x)
    pushed = (residual(x + 1e-6 * v)[0] - residual(x - 1e-6 * v)[0]) / 2e-6
    T = np.full(4, 6.0)
    assert (c * pushed).sum() == pytest.approx((residual_pullback(c, x, T, own, other) * v).sum(), rel=1e-7)


def test_regimes_by_hand():
    """Drifts of one token: 0.2 passes, 0.4 rolls back, 0.7 is off; downwards 0.1, 0, 0."""
    x = np.array([[0.2], [0.4], [0.7], [-0.1]])
    assert gate_regimes(x, 0 * x, np.ones((4, 1))).tolist() == [[0.5, 0.25, 0.25], [1, 0, 0]]


def test_the_reproduction_has_no_rollback():
    theirs = find("fiberpo.fiberpo").deviations[0].f
    log_prob, old, A, mask = token_batch(9, spread=0.05)
    assert theirs(log_prob, old, A, mask)[0] == pytest.approx(fiberpo(log_prob, old, A, mask)[0], rel=1e-12)
    far = np.full((1, 4), 0.6), np.zeros((1, 4)), np.ones(1), np.ones((1, 4))
    assert theirs(*far)[0] == pytest.approx(-math.exp(0.4)), "clipped twice: the drift comes back as residual"
    assert fiberpo(*far)[0] == pytest.approx(-1)
    rng = np.random.default_rng(9)
    log_prob, old, A, mask = token_batch(10, spread=0.5)
    check_gradient(lambda x: theirs(x, old, A, mask)[0], log_prob, theirs(log_prob, old, A, mask)[1], rng=rng)
