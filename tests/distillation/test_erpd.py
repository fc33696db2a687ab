"""Theorems and limits of erpd."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.distillation.erpd import stage_one, stage_two, tilt, token_signal
from trref.policy.ppo import clipped_surrogate


def _log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def _kl(log_p, log_q):
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def _pair(seed, V=5, away=1.0):
    rng = np.random.default_rng(seed)
    base = _log_softmax(rng.standard_normal((1, V)))
    return base, _log_softmax(base + away * rng.standard_normal((1, V)))


def test_numbers_by_hand():
    """Two tokens of probability 0.5 under the base, now 0.6 and 0.4, with advantages 1 and -2."""
    new, old, one = np.log([[0.6, 0.4]]), np.log([[0.5, 0.5]]), np.ones((1, 2))
    A = np.array([[1.0, -2.0]])
    loss, gradient = stage_one(new, old, A, one)
    assert loss == pytest.approx(-(1.2 - 1.6) / 2) and gradient == pytest.approx(np.array([[-0.6, 0.8]]))
    loss, gradient = stage_one(new, old, A, one, kind="ce")
    assert loss == pytest.approx(-(math.log(0.6) - 2 * math.log(0.4)) / 2)
    assert gradient == pytest.approx(np.array([[-0.5, 1.0]]))
    miss = np.log([1.2, 0.8]) - np.array([0.5, -1.0])
    loss, gradient = stage_one(new, old, A, one, kind="mse", tau=2.0)
    assert loss == pytest.approx((miss**2).sum() / 4) and gradient == pytest.approx(miss[None] / 2)


def test_the_signal_by_hand():
    """Teachers at e times and e⁻⁴ times the reference, bounded by 2: (1 - 2)/2."""
    assert token_signal(np.array([[[-1.0]], [[-6.0]]]), np.array([[-2.0]]), bound=2.0) == pytest.approx(-0.5)


def test_the_base_as_teacher_moves_nothing():
    rng = np.random.default_rng(0)
    old = -rng.exponential(1.0, (3, 4))
    D = token_signal(old[None], old)
    loss, gradient = stage_two(old - 0.1, old, D, np.ones((3, 4)))
    assert loss == 0 and not gradient.any()


def test_stage_two_is_ppo_with_the_signal_as_advantage():
    rng = np.random.default_rng(1)
    old = -rng.exponential(1.0, (3, 4))
    new, D = old + 0.4 * rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    ours = stage_two(new, old, D, np.ones((3, 4)))
    theirs = clipped_surrogate(new.ravel(), old.ravel(), D.ravel(), clip=0.2)
    assert ours[0] == pytest.approx(float(theirs[0])) and np.allclose(ours[1].ravel(), theirs[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("radius", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_tilt_against_slsqp(seed, radius):
    """The problem as it is stated, on the simplex, with a signal that is nobody's log-ratio."""
    base, _ = _pair(seed)
    D = np.random.default_rng([seed, 1]).standard_normal(5)
    found = tilt(base, D[None], radius=radius, cap=1e4)
    best = minimize(
        lambda p: -(p @ D),
        np.exp(base[0]),
        method="SLSQP",
        bounds=[(1e-9, 1)] * 5,
        constraints=[
            {"type": "ineq", "fun": lambda p: radius - (p * (np.log(p) - base[0])).sum()},
            {"type": "eq", "fun": lambda p: p.sum() - 1},
        ],
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    assert np.exp(found.log_prob[0]) @ D == pytest.approx(-best.fun, abs=1e-6)
    assert np.exp(found.log_prob[0]) == pytest.approx(best.x, abs=2e-3)
    assert _kl(found.log_prob, base)[0] == pytest.approx(radius, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_along_the_path(seed):
    """d KL = β Var, d E[D] = Var, by differences."""
    base, _ = _pair(seed)
    D = np.random.default_rng([seed, 2]).standard_normal((1, 5))

    def at(beta):
        log_p = tilt(base, D, radius=1e3, cap=beta).log_prob
        return _kl(log_p, base)[0], float((np.exp(log_p) * D).sum()), np.exp(log_p)

    for beta in (0.3, 1.0, 2.5):
        p = at(beta)[2]
        variance = float((p * (D - (p * D).sum()) ** 2).sum())
        slopes = [(x - y) / 2e-5 for x, y in zip(at(beta + 1e-5)[:2], at(beta - 1e-5)[:2], strict=True)]
        assert slopes == pytest.approx([beta * variance, variance], rel=1e-6)


def test_a_cap_of_one_stops_at_the_teacher():
    """Its ball is larger than the teacher is away: uncapped the path runs past it, and earns more of the signal."""
    base, teacher = _pair(3)
    D, radius = teacher - base, 2 * _kl(teacher, base)[0]
    capped, free = tilt(base, D, radius=radius), tilt(base, D, radius=radius, cap=100.0)
    assert np.allclose(capped.log_prob, teacher, rtol=1e-12, atol=1e-13) and capped.beta == 1
    assert free.beta[0] > 1.2 and (np.exp(free.log_prob) * D).sum() > (np.exp(teacher) * D).sum()
    inside = tilt(base, D, radius=radius / 8)
    assert 0 < inside.beta[0] < 1
    path = _log_softmax((1 - inside.beta[0]) * base + inside.beta[0] * teacher)
    assert np.allclose(inside.log_prob, path, rtol=1e-10, atol=1e-12)


def test_a_constant_of_the_state():
    """It leaves the tilt as it is, and changes stage two."""
    base, _ = _pair(4)
    D = np.random.default_rng(5).standard_normal((1, 5))
    one, other = tilt(base, D, radius=0.1), tilt(base, D + 3, radius=0.1)
    assert np.allclose(one.log_prob, other.log_prob, rtol=1e-10, atol=1e-12)
    new, old = base + 0.05, base
    assert stage_two(new, old, D, np.ones((1, 5)))[0] != pytest.approx(stage_two(new, old, D + 3, np.ones((1, 5)))[0])


def test_the_ends():
    base, _ = _pair(6)
    none = tilt(base, np.ones((1, 5)), radius=0.1, cap=2.0)
    assert np.allclose(none.log_prob, base, rtol=1e-9, atol=1e-12) and none.beta == 2.0
    still = tilt(base, np.arange(5.0)[None], radius=0.0)
    assert np.allclose(still.log_prob, base, rtol=1e-9, atol=1e-12) and still.beta == 0.0
    mask = np.zeros((1, 5))
    for kind in ("ratio", "ce", "mse"):
        loss, gradient = stage_one(base, base - 0.1, np.ones(1), mask, kind=kind)
        assert loss == 0 and not gradient.any()


def test_refused():
    base = np.zeros((1, 3))
    with pytest.raises(ValueError, match="cap"):
        tilt(base, base, cap=0.0)
    with pytest.raises(ValueError, match="kind"):
        stage_one(base, base, np.ones(1), np.ones((1, 3)), kind="sapo")
    with pytest.raises(ValueError, match="ref_log_prob"):
        token_signal(np.zeros((2, 1, 3)), np.zeros((1, 4)))
