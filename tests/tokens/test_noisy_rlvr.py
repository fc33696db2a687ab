"""Corrections of noisy rewards: unbiased by exact enumeration, their directions, and what standardising does."""

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from trref.catalog import find
from trref.tokens.grpo import group_advantage
from trref.tokens.noisy_rlvr import (
    backward_reward,
    corrected_advantage,
    corrected_gradient,
    forward_weight,
    residual_reward,
)
from trref.tokens.noisy_rlvr_verifier import channel_mean

V = 10
RATES = [(0.0, 0.0), (0.1, 0.2), (0.3, 0.4), (0.45, 0.5)]


def _full(x, n=1):
    return np.full(n, float(x))


def _enumerated(f, truth, rho0, rho1):
    """Mean of f(observed) over the channel."""
    accept = channel_mean(_full(truth), _full(rho0), _full(rho1))[0]
    return accept * f(_full(1)) + (1 - accept) * f(_full(0))


def _expected_gradient(z, truth, rho0, rho1, correction):
    """Mean over answers and observations of the update of one answer, in the logits: exact."""
    p, total = softmax(z), np.zeros(V)
    for answer in range(V):
        for shown in (0.0, 1.0):
            accept = rho0[answer] if truth[answer] == 0 else 1 - rho1[answer]
            chance = p[answer] * (accept if shown else 1 - accept)
            _, g = corrected_gradient(
                log_softmax(z)[answer].reshape(1, 1),
                np.ones((1, 1)),
                _full(shown),
                np.zeros(1, int),
                rho0[answer : answer + 1],
                rho1[answer : answer + 1],
                correction=correction,
            )
            total += chance * -g[0, 0] * (np.eye(V)[answer] - p)
    return total


def _clean(z, truth):
    p = softmax(z)
    return p * (truth - p @ truth)


@pytest.mark.parametrize(("rho0", "rho1"), RATES)
def test_rewards_by_enumeration(rho0, rho1):
    J = 1 - rho0 - rho1
    for truth in (0.0, 1.0):
        back = _enumerated(lambda r: backward_reward(r, _full(rho0), _full(rho1))[0], truth, rho0, rho1)
        assert back == pytest.approx(truth, abs=1e-14)
        square = _enumerated(lambda r: backward_reward(r, _full(rho0), _full(rho1))[0] ** 2, truth, rho0, rho1)
        q = rho0 + J * truth
        assert square - truth**2 == pytest.approx(q * (1 - q) / J**2, abs=1e-12)
        weight = _enumerated(lambda r: forward_weight(r, _full(rho1))[0], truth, rho0, rho1)
        assert weight == pytest.approx(-J * (1 - truth), abs=1e-14)


def test_against_the_inverse_of_the_channel():
    rho0, rho1 = 0.15, 0.35
    channel = np.array([[1 - rho0, rho0], [rho1, 1 - rho1]])
    solved = np.linalg.solve(channel, [0.0, 1.0])
    assert backward_reward(np.array([0.0, 1.0]), _full(rho0, 2), _full(rho1, 2)) == pytest.approx(solved)
    assert forward_weight(np.array([0.0, 1.0]), _full(rho1, 2)) == pytest.approx([rho1 - 1, rho1])


@pytest.mark.parametrize(("rho0", "rho1"), RATES)
@pytest.mark.parametrize("seed", range(3))
def test_expected_gradients(rho0, rho1, seed):
    """Backward is the clean gradient; forward and naive are its multiple by 1 - rho0 - rho1."""
    rng = np.random.default_rng(seed)
    z, truth = rng.standard_normal(V), (np.arange(V) < 2).astype(float)
    clean, rates = _clean(z, truth), (_full(rho0, V), _full(rho1, V))
    for correction, scale in (("backward", 1.0), ("forward", 1 - rho0 - rho1), ("naive", 1 - rho0 - rho1)):
        assert np.allclose(_expected_gradient(z, truth, *rates, correction), scale * clean, rtol=0, atol=1e-15)


def test_rates_of_prompts_are_weights_unless_inverted():
    rng = np.random.default_rng(0)
    z, truth = rng.standard_normal(V), np.eye(V)[3]
    for rho0, rho1 in ((0.05, 0.05), (0.4, 0.5)):
        rates = _full(rho0, V), _full(rho1, V)
        size = [np.linalg.norm(_expected_gradient(z, truth, *rates, c)) for c in ("backward", "forward", "naive")]
        ratio = np.array(size) / np.linalg.norm(_clean(z, truth))
        assert ratio == pytest.approx([1, 1 - rho0 - rho1, 1 - rho0 - rho1])


def test_noise_that_depends_on_the_answer_stays_a_hack():
    """One wrong answer is always accepted, the corrections believe in 0.1 for all: each pushes the hack up."""
    z, truth, hack = np.zeros(V), np.eye(V)[0], 5
    believed, actual = _full(0.1, V), _full(0.1, V)
    actual[hack] = 1.0
    p = softmax(z)
    for correction in ("backward", "forward", "naive"):
        total = np.zeros(V)
        for answer in range(V):
            accept = 1 - 0.2 if truth[answer] else actual[answer]
            for shown, chance in ((1.0, accept), (0.0, 1 - accept)):
                inputs = _full(shown), np.zeros(1, int), believed[:1], _full(0.2)
                s = corrected_advantage(*inputs, correction=correction)[0]
                total += p[answer] * chance * s * (np.eye(V)[answer] - p)
        assert total[hack] > total[0] > 0, "more than the right answer"


@pytest.mark.parametrize("seed", range(3))
def test_the_residual_of_rates_that_depend_on_the_answer(seed):
    """By enumeration: backward ascends E[r] + E[residual], forward J times both, with random rates of each answer."""
    rng = np.random.default_rng(seed)
    z, truth, (rho0, rho1) = rng.standard_normal(V), (np.arange(V) < 3).astype(float), (0.15, 0.3)
    actual = rng.random(V), rng.random(V)
    residual = residual_reward(truth, *actual, _full(rho0, V), _full(rho1, V))
    accept = np.where(truth == 1, 1 - actual[1], actual[0])
    wanted = _clean(z, truth) + _clean(z, residual)
    for correction, scale in (("backward", 1.0), ("forward", 1 - rho0 - rho1)):
        s = [
            corrected_advantage(_full(x, V), np.zeros(V, int), _full(rho0, V), _full(rho1, V), correction=correction)
            for x in (0.0, 1.0)
        ]
        mean = (1 - accept) * s[0] + accept * s[1]
        assert np.allclose(_clean(z, mean), scale * wanted, rtol=0, atol=1e-15)
        assert abs(wanted - _clean(z, truth)).max() > 0.01


def test_a_residual_that_is_the_same_for_all_answers_is_no_bias():
    """Rates that are off by 0.1 either way: right answers are rejected less, wrong ones accepted more."""
    truth = (np.arange(V) < 3).astype(float)
    residual = residual_reward(truth, _full(0.3, V), _full(0.1, V), _full(0.2, V), _full(0.2, V))
    assert residual == pytest.approx(_full(0.1 / 0.6, V))
    assert abs(_clean(np.arange(V) / 5, residual)).max() < 1e-16


def test_the_others_mean_is_a_baseline_without_bias():
    """Over all observations of three answers: the mean advantage is the clean one; that of the group's mean is less."""
    truth, group, G = np.array([1.0, 0.0, 0.0]), np.zeros(3, int), 3
    rates, mean = (_full(0.1, G), _full(0.3, G)), {"leave_one_out": 0.0, "group_mean": 0.0}
    for shown in itertools.product((0.0, 1.0), repeat=G):
        chance = np.prod([c if s else 1 - c for s, c in zip(shown, channel_mean(truth, *rates), strict=True)])
        for name in mean:
            mean[name] = mean[name] + chance * corrected_advantage(np.array(shown), group, *rates, baseline=name)
    assert mean["leave_one_out"] == pytest.approx(truth - np.array([0.0, 0.5, 0.5]))
    assert mean["group_mean"] == pytest.approx((1 - 1 / G) * mean["leave_one_out"])
    one = corrected_advantage(_full(1), np.zeros(1, int), _full(0.1), _full(0.3), baseline="leave_one_out")
    assert one == 0, "nobody else"


@pytest.mark.parametrize("std", ["sample", "population"])
def test_standardised_all_three_are_one(std):
    rng = np.random.default_rng(1)
    reward, group = (rng.random(24) < 0.5).astype(float), np.repeat([0, 1, 2], 8)
    rates = np.repeat([0.1, 0.2, 0.05], 8), np.repeat([0.3, 0.1, 0.6], 8)
    advantages = [
        group_advantage(corrected_advantage(reward, group, *rates, correction=c), group, std=std)
        for c in ("backward", "forward", "naive")
    ]
    assert np.allclose(advantages[0], advantages[2], rtol=1e-12) and np.allclose(
        advantages[1], advantages[2], rtol=1e-9
    )
    (standardised,) = find("noisy_rlvr.corrected_advantage").deviations
    seen = [standardised.f(reward, group, *rates, correction=c) for c in ("backward", "forward")]
    assert np.allclose(*seen, rtol=2e-3)


def test_forward_is_a_baseline_and_with_another_one_is_lost():
    rng = np.random.default_rng(2)
    reward, group = (rng.random(16) < 0.5).astype(float), np.repeat([0, 1], 8)
    rates = 0.3 * rng.random(16), np.repeat([0.2, 0.4], 8)
    forward = corrected_advantage(reward, group, *rates, correction="forward")
    assert forward == pytest.approx(reward - (1 - rates[1]))
    below = [
        corrected_advantage(reward, group, *rates, correction=c, baseline="group_mean") for c in ("forward", "naive")
    ]
    assert np.allclose(*below, atol=1e-15, rtol=1e-9)


def test_below_the_mean_backward_is_naive_over_the_scale():
    """So that a learning rate divided by 1 - rho0 - rho1 is the same correction."""
    rng = np.random.default_rng(3)
    reward, group = (rng.random(16) < 0.5).astype(float), np.repeat([0, 1], 8)
    rates = _full(0.3, 16), _full(0.4, 16)
    back, naive = (
        corrected_advantage(reward, group, *rates, correction=c, baseline="group_mean") for c in ("backward", "naive")
    )
    assert back == pytest.approx(naive / 0.3)


def test_without_noise_backward_is_the_reward_and_forward_one_less():
    reward = np.array([0.0, 1.0, 1.0])
    assert np.array_equal(backward_reward(reward, _full(0, 3), _full(0, 3)), reward)
    assert np.array_equal(forward_weight(reward, _full(0, 3)), reward - 1)


def test_groups_that_are_all_rejected():
    """A negative constant, which a baseline removes exactly."""
    inputs = np.zeros(5), np.zeros(5, int), _full(0.3, 5), _full(0.1, 5)
    assert corrected_advantage(*inputs) == pytest.approx(_full(-0.5, 5))
    assert not corrected_advantage(*inputs, baseline="group_mean").any()


def test_the_variance_explodes_towards_chance_and_the_floor_bounds_it():
    reward = np.array([0.0, 1.0])
    rates = _full(0.5, 2), _full(0.499, 2)
    assert abs(backward_reward(reward, *rates)).max() > 400
    assert abs(backward_reward(reward, *rates, floor=0.1)).max() == pytest.approx(5)
    assert np.array_equal(
        backward_reward(reward, _full(0.1, 2), _full(0.2, 2), floor=0.1),
        backward_reward(reward, _full(0.1, 2), _full(0.2, 2)),
    )


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.7, 0.6)])
def test_a_verifier_no_better_than_chance_is_refused(rates):
    rho0, rho1 = (_full(r, 2) for r in rates)
    with pytest.raises(ValueError, match="rho0 and rho1 must sum to less than 1"):
        backward_reward(np.array([0.0, 1.0]), rho0, rho1)
    with pytest.raises(ValueError, match="rho0 and rho1 must sum to less than 1"):
        corrected_gradient(np.zeros((2, 1)), np.ones((2, 1)), np.array([0.0, 1.0]), np.zeros(2, int), rho0, rho1)


def test_loss_by_hand():
    """Accepted at rates 0.1, 0.4: 0.9 / 0.5; rejected: -0.1 / 0.5; answers of two tokens and one."""
    log_prob, mask = np.array([[-1.0, -2.0], [-3.0, 9.0]]), np.array([[1.0, 1.0], [1.0, 0.0]])
    inputs = np.array([1.0, 0.0]), np.zeros(2, int), _full(0.1, 2), _full(0.4, 2)
    loss, gradient = corrected_gradient(log_prob, mask, *inputs)
    assert loss == pytest.approx(-(1.8 * -3 - 0.2 * -3) / 2)
    assert np.allclose(gradient, [[-0.9, -0.9], [0.1, 0]], rtol=1e-9)
