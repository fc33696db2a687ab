"""The brake, the multiplier's saddle point, and the tabular optimum against SciPy."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.special import log_softmax, softmax

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.f_divergences import divergence_from_samples, divergence_rows
from trref.tokens.r2vpo import dual_step, r2vpo, tabular_optimum
from trref.tokens.terms import logit_gradient


def _table(seed, V=7):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(V), rng.dirichlet(np.ones(V))


# ---- the loss


def test_loss_by_hand():
    """Ratios 2 and 0.5, advantages 1 and -1, multiplier 0.25: 2 - 0.25 and -0.5 - 0.0625, each plus 0.25 * 0.1."""
    log_prob = np.log([[2.0], [0.5]])
    loss, gradient = r2vpo(
        log_prob, np.zeros((2, 1)), np.array([1.0, -1.0]), np.ones((2, 1)), variance_weight=0.25, target=0.1
    )
    assert loss == pytest.approx(-(1.75 - 0.5625 + 0.05) / 2, rel=1e-14)
    assert gradient == pytest.approx(np.array([[-2 * (1 - 0.5)], [-0.5 * (-1 + 0.25)]]) / 2, rel=1e-14)


def test_the_gradient_turns_round_where_the_brake_wins():
    advantage, weight = 0.6, 0.5
    at = math.log(1 + advantage / (2 * weight))
    for shift, sign in ((-1e-6, -1), (1e-6, 1)):
        _, gradient = r2vpo(
            np.array([[at + shift]]), np.zeros((1, 1)), np.array([advantage]), np.ones((1, 1)), variance_weight=weight
        )
        assert np.sign(gradient[0, 0]) == sign


def test_tokens_without_advantage_are_pulled_back():
    log_prob = np.array([[0.3, -0.3]])
    _, gradient = r2vpo(log_prob, np.zeros((1, 2)), np.array([0.0]), np.ones((1, 2)))
    assert gradient[0, 0] > 0 > gradient[0, 1]


def test_smooth_in_the_logits():
    rng = np.random.default_rng(1)
    logits, actions = rng.standard_normal((3, 4, 5)), rng.integers(0, 5, (3, 4))
    _, old, advantage, mask = token_batch(1, B=3, T=4)

    def log_prob(z):
        return np.take_along_axis(log_softmax(z, -1), actions[..., None], 2)[..., 0]

    gradient = logit_gradient(logits, actions, r2vpo(log_prob(logits), old, advantage, mask, variance_weight=0.3)[1])
    check_gradient(
        lambda z: r2vpo(log_prob(z), old, advantage, mask, variance_weight=0.3)[0], logits, gradient, rng=rng
    )


def test_a_buffer_of_two_sampling_policies_is_the_mean_of_both_parts():
    log_prob, old, advantage, _ = token_batch(3)
    mask, staler = np.ones_like(old), old - 0.4
    both = r2vpo(np.tile(log_prob, (2, 1)), np.vstack([old, staler]), np.tile(advantage, 2), np.tile(mask, (2, 1)))
    parts = [r2vpo(log_prob, o, advantage, mask) for o in (old, staler)]
    assert both[0] == pytest.approx((parts[0][0] + parts[1][0]) / 2, rel=1e-12)
    assert np.allclose(both[1], np.vstack([p[1] for p in parts]) / 2, rtol=1e-12)


def test_deviations_where_they_agree():
    by_name = {d.name: d.f for d in find("r2vpo.r2vpo").deviations}
    batch = token_batch(4)
    ours = r2vpo(*batch)
    clamped, constant = (by_name[n](*batch) for n in by_name)
    assert np.allclose(clamped[1], ours[1], rtol=1e-12) and clamped[0] == pytest.approx(ours[0], rel=1e-12)
    assert np.allclose(constant[1], ours[1], rtol=1e-12) and abs(constant[0] - ours[0]) > 1e-3


# ---- the variance and the multiplier


def test_the_variance_is_chi_square():
    """By enumeration of all tokens, weighted by the old policy."""
    rng = np.random.default_rng(5)
    z, w = rng.standard_normal((2, 12))
    log_p, log_q = log_softmax(z), log_softmax(w)
    q, ratio = np.exp(log_q), np.exp(log_p - log_q)
    assert q @ ratio == pytest.approx(1)
    chi = float(divergence_rows(log_p, log_q, "pearson")[0])
    assert q @ (ratio - 1) ** 2 == pytest.approx(chi) and q @ ratio**2 - 1 == pytest.approx(chi)


def test_the_known_mean_is_used():
    """Two equal ratios have no sample variance; the estimate is their squared distance from 1, as of Pearson's."""
    log_prob, old = np.log([[1.5, 1.5]]), np.zeros((1, 2))
    assert dual_step(log_prob, old, np.ones((1, 2)), variance_weight=0.0, target=0.0) == pytest.approx(0.25)
    batch = token_batch(6)
    chi = divergence_from_samples(batch[0], batch[1], batch[3], kind="pearson")[0]
    assert dual_step(batch[0], batch[1], batch[3], variance_weight=0.3, target=0.1, lr=2.0) == pytest.approx(
        max(0.3 + 2 * (chi - 0.1), 0)
    )


TOKENS = np.repeat(np.arange(4), (1, 3, 4, 2))  # as often as the old policy takes them: sums over them are exact


def _primal_dual(advantage, target):
    """Gradient steps of `r2vpo` over a softmax policy of four actions, and a `dual_step` after each."""
    log_q = np.log(np.bincount(TOKENS) / 10)
    z, weight, mask = log_q, 0.5, np.ones((10, 1))
    for _ in range(4000):
        batch = log_softmax(z)[TOKENS][:, None], log_q[TOKENS][:, None]
        _, gradient = r2vpo(*batch, advantage[TOKENS], mask, variance_weight=weight, target=target)
        z = z - 0.7 * logit_gradient(np.tile(z, (10, 1, 1)), TOKENS[:, None], gradient).sum((0, 1))
        weight = float(
            dual_step(log_softmax(z)[TOKENS][:, None], batch[1], mask, variance_weight=weight, target=target, lr=0.1)
        )
    return softmax(z) / np.exp(log_q), weight


def _most_advantage(advantage, q, delta):
    """SciPy's solution of the constrained problem itself, over ratios of mean 1."""
    return minimize(
        lambda r: -q @ (r * advantage),
        np.ones(len(q)),
        jac=lambda r: -q * advantage,
        method="SLSQP",
        bounds=[(0, None)] * len(q),
        constraints=[
            {"type": "eq", "fun": lambda r: q @ r - 1, "jac": lambda r: q},
            {"type": "ineq", "fun": lambda r: delta - q @ (r - 1) ** 2, "jac": lambda r: -2 * q * (r - 1)},
        ],
        options={"ftol": 1e-15, "maxiter": 500},
    )


@pytest.mark.parametrize("target", [0.05, 0.3])
def test_primal_and_dual_steps_solve_the_constrained_problem(target):
    """To the ratios of SciPy's solution; the multiplier is the price of the variance, by a difference of its values."""
    advantage, q = np.array([1.0, 0.2, -0.4, -0.8]), np.bincount(TOKENS) / 10
    ratio, weight = _primal_dual(advantage, target)
    assert ratio == pytest.approx(_most_advantage(advantage, q, target).x, abs=1e-4)
    more, less = (-_most_advantage(advantage, q, target + h).fun for h in (1e-3, -1e-3))
    assert weight == pytest.approx((more - less) / 2e-3, rel=1e-3)


def test_a_variance_that_is_not_reached_costs_nothing():
    """All to the best action is a variance of 9: a target above leaves the multiplier at 0."""
    _, weight = _primal_dual(np.array([1.0, 0.2, -0.4, -0.8]), 9.5)
    assert weight == 0


def test_where_the_target_is_far_there_is_no_multiplier():
    log_prob, old, _, mask = token_batch(7)
    assert dual_step(log_prob, old, mask, variance_weight=0.2, target=1e6) == 0


# ---- the tabular optimum


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("delta", [0.02, 0.3, 1.5])
def test_optimum_by_constrained_optimisation(seed, delta):
    A, q = _table(seed)
    ours = tabular_optimum(A, q, target=delta)
    assert (ours >= 0).all() and q @ ours == pytest.approx(1) and q @ (ours - 1) ** 2 <= delta * (1 + 1e-9)
    assert -_most_advantage(A, q, delta).fun == pytest.approx(q @ (ours * A), abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_optimum_by_water_filling(seed):
    """At the multiplier of the support's formula, the threshold that makes the mean 1 gives the same ratios."""
    A, q = _table(seed)
    ours = tabular_optimum(A, q, target=0.8)
    S = ours > 0
    P = q[S].sum()
    m = q[S] @ A[S] / P
    v = q[S] @ (A[S] - m) ** 2 / P
    weight = P / 2 * math.sqrt(v / (1.8 * P - 1))
    at = brentq(lambda nu: q @ np.maximum(1 + (A - nu) / (2 * weight), 0) - 1, A.min() - 9, A.max() + 9, xtol=1e-14)
    assert ours == pytest.approx(np.maximum(1 + (A - at) / (2 * weight), 0), abs=1e-9)


def test_small_balls_have_the_closed_form():
    A, q = _table(8)
    mean, sigma = q @ A, math.sqrt(q @ (A - q @ A) ** 2)
    ours = tabular_optimum(A, q, target=1e-3)
    assert ours == pytest.approx(1 + math.sqrt(1e-3) * (A - mean) / sigma)
    assert q @ (ours * A) == pytest.approx(mean + math.sqrt(1e-3) * sigma), "the robust bound, its sign turned round"


def test_a_huge_ball_leaves_the_best_action_alone():
    A, q = np.array([1.0, 3.0, 2.0, 3.0]), np.array([0.4, 0.1, 0.3, 0.2])
    assert tabular_optimum(A, q, target=100.0) == pytest.approx([0, 1 / 0.3, 0, 1 / 0.3])
    assert tabular_optimum(np.full(4, 2.0), q) == pytest.approx(np.ones(4))
    rounds = np.array([0.11, 0.12, 0.13, 0.14, 0.5])  # the mean of five times 0.3 is not quite 0.3
    assert tabular_optimum(np.full(5, 0.3), rounds) == pytest.approx(np.ones(5)), "ties are exact"


def test_only_differences_of_the_advantage_matter():
    A, q = _table(9)
    ours = tabular_optimum(A, q, target=0.5)
    assert tabular_optimum(3 * A + 7, q, target=0.5) == pytest.approx(ours, rel=1e-9)
    order = np.random.default_rng(0).permutation(7)
    assert tabular_optimum(A[order], q[order], target=0.5) == pytest.approx(ours[order], rel=1e-12)


def test_it_must_be_a_distribution():
    with pytest.raises(ValueError, match="prob must have the sum 1"):
        tabular_optimum(np.ones(2), np.array([0.5, 0.6]))
