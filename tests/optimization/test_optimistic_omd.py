"""Optimistic descent: its bound on every run, both ends of the guesses, guarantees of leaders, projections by SciPy."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.optimization.optimistic_omd import (
    exp_concave_descent,
    leader_descent,
    linear_regret,
    mirror_descent,
    multiplicative_descent,
    regret_bound,
    sea_quantities,
)
from trref.problems.online import LinearLosses, QuadraticLosses


def _losses(seed, T=200, n=3):
    """Of norm at most 1: random, constant or alternating."""
    rng = np.random.default_rng(seed)
    C = rng.standard_normal((T, n))
    kind = seed % 3
    if kind == 1:
        C = np.tile(C[:1], (T, 1))
    if kind == 2:
        C = C[:1] * (-1.0) ** np.arange(T)[:, None]
    return LinearLosses(C / np.linalg.norm(C, axis=1).max()), rng


def _play(losses, start=None, **how):
    T, n = losses.C.shape
    return mirror_descent(losses, np.zeros(n) if start is None else start, np.arange(T), **how)


def _guesses(play):
    return np.r_[np.zeros((1, play.gradients.shape[1])), play.gradients[:-1]]


def test_by_hand():
    """Gradients 1, 1 in [-1, 1], delta = 0, G = 1: lengths 2/√4 and 2/√5; 0, then 1 back and 2/√5 more: at the end."""
    play = _play(LinearLosses(np.array([[1.0], [1.0]])), delta=0.0)
    assert np.allclose(play.points[:, 0], [0, -1]) and np.allclose(play.kept[:, 0], [0, -1])
    assert np.allclose(play.lengths, [1, 2 / np.sqrt(5)])
    assert linear_regret(play.gradients, play.points) == pytest.approx(-1 + 2)


@pytest.mark.parametrize("rule", ["convex", "root", "horizon", "strong"])
@pytest.mark.parametrize("guess", ["last", "none", "true"])
def test_the_bound_holds_on_every_run(rule, guess):
    """For any losses, guesses and non-increasing lengths, and against every fixed point."""
    for seed in range(15):
        losses, rng = _losses(seed)
        start = rng.standard_normal(3)
        play = _play(losses, 0.9 * start / np.linalg.norm(start), rule=rule, guess=guess)
        guesses = {"last": _guesses(play), "none": 0 * play.points, "true": play.gradients}[guess]
        bound = regret_bound(play.gradients, guesses, play.points, play.kept, play.lengths)
        assert linear_regret(play.gradients, play.points) <= bound + 1e-9
        assert (np.diff(play.lengths) <= 0).all() and (np.linalg.norm(play.points, axis=1) <= 1 + 1e-12).all()


def test_without_a_guess_it_is_gradient_descent():
    losses, _ = _losses(0)
    play = _play(losses, guess="none", rule="root")
    assert np.allclose(play.points, play.kept, rtol=0, atol=1e-15)
    x = np.zeros(3)
    for t, c in enumerate(losses.C):
        assert np.allclose(play.points[t], x, atol=1e-13)
        x = x - 2 / np.sqrt(t + 1) * c
        x = x / max(1, np.linalg.norm(x))


def test_true_guesses_have_constant_regret():
    """At most D²/2 eta, whatever the number of rounds; with a constant length."""
    for T in (100, 1000):
        losses, _ = _losses(3, T=T)
        play = _play(losses, guess="true", rule="horizon", bound=1 / np.sqrt(T))
        assert np.allclose(play.lengths, 2) and linear_regret(play.gradients, play.points) <= 4 / 4 + 1e-9


def test_one_loss_for_all_rounds():
    """Nothing is ever wrong but the first guess: the length stays, and the regret is bounded by a constant."""
    regrets = []
    for T in (100, 400, 1600):
        play = _play(LinearLosses(np.tile([[0.6, 0.8]], (T, 1))))
        assert np.ptp(play.lengths[1:]) == 0
        regrets.append(float(linear_regret(play.gradients, play.points)))
    # D²/2 eta_T + eta_1 ‖g_1‖²/2, with eta_T = 2/√6 and eta_1 = 2/√5
    assert max(regrets) < np.sqrt(6) + 1 / np.sqrt(5) and np.ptp(regrets) < 1e-9


def test_rates():
    """Pure noise: regret as √T, by the slope over a factor of 16 in T; strong convexity: as log T."""
    lengths, seeds = (250, 1000, 4000), range(6)
    linear, strong = np.zeros((2, 3))
    for k, T in enumerate(lengths):
        for seed in seeds:
            rng = np.random.default_rng([T, seed])
            losses = LinearLosses(rng.standard_normal((T, 5)) / np.sqrt(5))
            play = _play(losses, bound=2.0)
            linear[k] += float(linear_regret(play.gradients, play.points)) / len(seeds)
            goals = 0.3 + 0.5 * rng.standard_normal((T, 2)) / np.sqrt(2)
            quadratic = QuadraticLosses(goals)
            points = mirror_descent(quadratic, np.zeros(2), np.arange(T), rule="strong").points
            best = goals.mean(0)
            excess = ((points - goals) ** 2).sum() - ((best - goals) ** 2).sum()
            strong[k] += excess / 2 / len(seeds)
    slope = np.log(linear[2] / linear[0]) / np.log(16)
    assert 0.35 < slope < 0.65
    # logarithmic: a factor of four adds the same each time, not a factor
    steps = np.diff(strong)
    assert (strong > 0).all() and (steps < 1.5).all() and strong[2] < 2 * strong[0]


def test_leader_keeps_its_promise():
    """At most 3√2 D G √T + 4 D G at nu = 2 D G, on any losses."""
    for seed in range(30):
        losses, _ = _losses(seed)
        T = len(losses.C)
        play = leader_descent(losses, np.zeros(3), np.arange(T))
        assert linear_regret(play.gradients, play.points) <= 6 * np.sqrt(2 * T) + 8


def test_leaders_by_scipy():
    """Both are minima of what they are defined as."""
    losses, rng = _losses(4, T=6)
    ball = {"type": "ineq", "fun": lambda x: 1 - x @ x, "jac": lambda x: -2 * x}
    play = leader_descent(losses, np.zeros(3), np.arange(6), first=1.0)
    for t in range(6):
        total = play.gradients[:t].sum(0) + (play.gradients[t - 1] if t else 0)
        value = lambda x, total=total, t=t: total @ x + x @ x / play.lengths[t]  # noqa: E731
        best = minimize(value, np.zeros(3), constraints=[ball], method="SLSQP", options={"ftol": 1e-14})
        assert np.allclose(play.points[t], best.x, atol=1e-6)
    quadratic = QuadraticLosses(rng.standard_normal((6, 3)), 0.5)
    play = leader_descent(quadratic, np.full(3, 0.1), np.arange(6), convexity=0.5)
    for t in range(1, 6):
        past, g = play.points[:t], play.gradients[:t]

        def value(x, past=past, g=g):
            return (g * (x - past)).sum() + 0.25 * ((x - past) ** 2).sum() + g[-1] @ x

        best = minimize(value, np.zeros(3), constraints=[ball], method="SLSQP", options={"ftol": 1e-14})
        assert np.allclose(play.points[t], best.x, atol=1e-6)


def test_projections_in_a_norm_by_scipy():
    losses, _ = _losses(6, T=5)
    play = exp_concave_descent(losses, np.zeros(3), np.arange(5), diameter=0.4)
    beta = min(1 / (4 * 0.4), 1) / 2
    H = (1 + beta / 2) * np.eye(3)
    ball = {"type": "ineq", "fun": lambda x: 0.04 - x @ x, "jac": lambda x: -2 * x}
    for t in range(5):
        guess = play.gradients[t - 1] if t else np.zeros(3)
        value = lambda x, t=t, H=H, guess=guess: guess @ x + (x - play.kept[t]) @ H @ (x - play.kept[t]) / 2  # noqa: E731
        best = minimize(value, np.zeros(3), constraints=[ball], method="SLSQP", options={"ftol": 1e-14})
        assert np.allclose(play.points[t], best.x, atol=1e-6)
        H = H + beta / 2 * np.outer(play.gradients[t], play.gradients[t])


def test_entropy():
    """Without losses the weights stay; a constant loss makes the best choice certain; regret within log K / lr."""
    rng = np.random.default_rng(7)
    losses = np.tile([0.5, 0.1, 0.9], (300, 1))
    played = multiplicative_descent(losses, np.full(3, 1 / 3), lr=0.5)
    regret = (losses * played).sum() - 300 * 0.1
    # right guesses but for the first: log K / lr + lr ‖first‖²/2 in the largest norm
    assert regret <= np.log(3) / 0.5 + 0.5 * 0.9**2 / 2 and played[-1, 1] > 1 - 1e-12
    shifted = multiplicative_descent(losses + rng.standard_normal((300, 1)), np.full(3, 1 / 3), lr=0.5)
    assert np.allclose(shifted, played, atol=1e-12), "what is added to all losses does not matter"


def test_quantities_by_hand():
    """Two losses ±e of each round: noise ‖e‖² a round; means 0 then 2: drift 4."""
    rounds = np.array([[[[0.5]], [[-0.5]]], [[[2.5]], [[1.5]]], [[[2.5]], [[1.5]]]])
    found = sea_quantities(rounds)
    assert [float(v) for v in found] == pytest.approx([0.75, 4, 0.25, 4])


def test_scaled_losses_are_played_alike():
    losses, _ = _losses(9)
    scaled = _play(LinearLosses(7 * losses.C), bound=7.0, delta=49.0)
    assert np.allclose(scaled.points, _play(losses).points, atol=1e-12)


def test_dynamic_regret_and_refusals():
    losses, _ = _losses(2)
    play = _play(losses)
    others = np.roll(play.points, 1, axis=0)
    dynamic = linear_regret(play.gradients, play.points, others)
    assert dynamic == pytest.approx((losses.C * (play.points - others)).sum())
    with pytest.raises(ValueError, match="x0 must be within 1 of 0"):
        _play(losses, np.ones(3))
    with pytest.raises(ValueError, match="weights must be positive"):
        multiplicative_descent(np.ones((1, 2)), np.array([0.0, 1.0]))
