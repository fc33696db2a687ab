"""Theorems and limits of RPO."""

import functools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.nn.heads import log_softmax
from trref.preferences import dpo
from trref.preferences.rpo import adversarial_value, dual_reward_objective, population_loss, rpo, rpo_per_token


def _one(*numbers):
    return [np.array([float(x)]) for x in numbers]


def _game(seed, K=5):
    rng = np.random.default_rng(seed)
    P = np.tril(rng.random((K, K)), -1)
    P = P + np.triu(1 - P.T, 1) + 0.5 * np.eye(K)
    table = {"ref_logits": rng.standard_normal(K), "preference": P, "pair_weight": rng.exponential(1.0, (K, K))}
    return rng, {**table, "base_prob": rng.dirichlet(np.ones(K))}


HYPER = {"beta": 0.7, "eta": 0.4}


def test_numbers_by_hand():
    """Margin log 3 at β = 1, log π(y_w) = -5, η = 1/2: log 4/3 + 5/2; slopes -(1/4 + 1/2) and 1/4."""
    loss, gradient = rpo(*_one(-5, -7, -5 - math.log(3), -7), beta=1.0, eta=0.5)
    assert loss == pytest.approx(math.log(4 / 3) + 2.5, rel=1e-14)
    assert gradient.chosen_log_prob == pytest.approx([-3 / 4]) and gradient.rejected_log_prob == pytest.approx([1 / 4])


def test_per_token_by_hand():
    """The mean of five tokens is -1, and its weight is not multiplied by β."""
    loss, gradient = rpo_per_token(*_one(-5, -7, -5, -7, 5), beta=0.1, eta=0.5)
    assert loss == pytest.approx(math.log(2) + 0.5) and gradient.chosen_log_prob == pytest.approx([-0.05 - 0.1])


def test_the_chosen_answer_never_stops_being_raised():
    gradient = rpo(*_one(400, 0, 0, 0), beta=1.0, eta=0.3)[1]
    assert gradient.chosen_log_prob == pytest.approx([-0.3]) and gradient.rejected_log_prob == pytest.approx([0.0])


def _minimum(f, start, **given):
    fit = minimize(functools.partial(f, **given), start, jac=True, options={"gtol": 1e-11, "maxiter": 2000})
    return fit.x, fit.fun


@pytest.mark.parametrize("seed", range(3))
def test_the_two_minima_are_one(seed):
    """BFGS on the dual and on the loss: π ∝ π_ref exp(r/β), and the values differ by ηβ E_base log π_ref."""
    _, game = _game(seed)
    reward, dual = _minimum(dual_reward_objective, np.zeros(5), **game, **HYPER)
    logits, loss = _minimum(population_loss, np.zeros(5), **game, **HYPER)
    log_ref = log_softmax(game["ref_logits"])
    assert log_softmax(logits) == pytest.approx(log_softmax(log_ref + reward / 0.7), abs=1e-6)
    assert dual - loss == pytest.approx(0.4 * 0.7 * game["base_prob"] @ log_ref, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_saddle_point(seed):
    """Neither side gains: the reward's slope is 0, and 200 other policies do worse against that reward."""
    rng, game = _game(seed)
    reward, dual = _minimum(dual_reward_objective, np.zeros(5), **game, **HYPER)
    policy = log_softmax(log_softmax(game["ref_logits"]) + reward / 0.7)
    value, gradient = adversarial_value(reward, policy, **game, **HYPER)
    assert value == pytest.approx(dual, rel=1e-9) and abs(gradient).max() < 1e-7
    others = [adversarial_value(reward, z, **game, **HYPER)[0] for z in 2 * rng.standard_normal((200, 5))]
    assert max(others) < value


def test_certain_comparisons_have_an_optimum_with_a_baseline_of_full_support():
    P, W = np.array([[0.5, 1.0], [0.0, 0.5]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    base, ref = np.array([0.5, 0.5]), np.zeros(2)
    slopes = [population_loss(np.array([m, 0.0]), ref, P, W, base, beta=0.5, eta=0.4)[1][0] for m in (0.0, 20.0)]
    assert slopes[0] < 0 < slopes[1]
    assert dpo.population_loss(np.array([20.0, 0.0]), ref, P, W, beta=0.5)[1][0] < 0
    # the winner alone as the baseline: the loser is driven to 0 as before
    assert population_loss(np.array([20.0, 0.0]), ref, P, W, np.array([1.0, 0.0]), beta=0.5, eta=0.4)[1][0] < 0


def test_a_large_weight_is_the_likelihood_of_the_baseline():
    _, game = _game(4)
    at_base = np.log(game["base_prob"])
    gradient = population_loss(at_base, **game, beta=0.7, eta=1e12)[1] / (0.7e12)
    assert abs(gradient).max() < 1e-11


def test_out_of_range():
    _, game = _game(0)
    with pytest.raises(ValueError, match="base_prob"):
        population_loss(np.zeros(5), **{**game, "base_prob": 2 * game["base_prob"]})
