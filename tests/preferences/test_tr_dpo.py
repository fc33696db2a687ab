"""Theorems and limits of TR-DPO."""

import functools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.nn.heads import log_softmax
from trref.preferences.dpo import dpo, optimal_policy, population_loss
from trref.preferences.tr_dpo import reference_path, soft_update


def test_by_hand():
    assert soft_update(np.array([0.0, 4.0]), np.array([1.0, 2.0]), alpha=0.25) == pytest.approx([0.25, 3.5])


def test_twice_is_once_with_a_larger_weight():
    ref_theta, theta = np.random.default_rng(0).standard_normal((2, 5))
    twice = soft_update(soft_update(ref_theta, theta, alpha=0.3), theta, alpha=0.3)
    assert twice == pytest.approx(soft_update(ref_theta, theta, alpha=1 - 0.7**2), rel=1e-13)


def _pairs(theta, ref_theta):
    p, q = log_softmax(theta), log_softmax(ref_theta)
    return p[:-1], p[1:], q[:-1], q[1:]


def test_after_a_hard_update_the_weights_are_one_half_again():
    ref_theta, theta = 5 * np.random.default_rng(1).standard_normal((2, 6))
    updated = soft_update(ref_theta, theta, alpha=1.0)
    loss, gradient = dpo(*_pairs(theta, updated), beta=0.2)
    assert loss == pytest.approx(math.log(2)) and gradient.chosen_log_prob == pytest.approx(np.full(5, -0.1 / 5))


def test_a_soft_update_of_a_table_shrinks_every_margin_alike():
    ref_theta, theta = np.random.default_rng(2).standard_normal((2, 6))

    def h(ref):
        p, q, ref_p, ref_q = _pairs(theta, ref)
        return p - ref_p - q + ref_q

    assert h(soft_update(ref_theta, theta, alpha=0.3)) == pytest.approx(0.7 * h(ref_theta), rel=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_the_path_by_training_each_stretch_to_its_end(alpha):
    """DPO's population loss by BFGS, then the update of the logits: three times."""
    rng, beta = np.random.default_rng(3), 0.7
    reward, first = rng.standard_normal((2, 4))
    P, W = 1 / (1 + np.exp(reward[None] - reward[:, None])), np.ones((4, 4))
    ref = first
    for k in range(1, 4):
        loss = functools.partial(population_loss, ref_logits=ref, preference=P, pair_weight=W, beta=beta)
        fit = minimize(loss, ref, jac=True, options={"gtol": 1e-10})
        ref = soft_update(ref, fit.x, alpha=alpha)
        stated = reference_path(first, reward, beta=beta, alpha=alpha, updates=k)
        assert log_softmax(ref) == pytest.approx(stated, abs=1e-6)


def test_updates_divide_beta():
    reward, first = np.random.default_rng(4).standard_normal((2, 5))
    three = reference_path(first, reward, beta=0.6, alpha=1.0, updates=3)
    assert three == pytest.approx(optimal_policy(first, reward, beta=0.2), rel=1e-12)
    assert reference_path(first, reward, updates=0) == pytest.approx(log_softmax(first))


def test_an_update_after_every_step_has_no_end():
    """The margin is 0 before each step, so that every step raises it by the same: β lr for a pair of logits."""

    def pair(theta):
        return log_softmax(theta)[:, None]

    theta, margins = np.zeros(2), []
    for _ in range(50):
        ref = soft_update(np.zeros(2), theta, alpha=1.0)
        gradient = dpo(*pair(theta), *pair(ref), beta=0.4)[1]
        theta = theta - 0.5 * np.concatenate(gradient)  # the softmax has no part in it: their sum is 0
        margins.append(theta[0] - theta[1])
    assert np.diff(margins) == pytest.approx(np.full(49, 0.4 * 0.5), rel=1e-12)


def test_without_the_new_parameters_it_is_dpo():
    ref_theta, theta = np.random.default_rng(5).standard_normal((2, 5))
    assert (soft_update(ref_theta, theta, alpha=0.0) == ref_theta).all()


def test_out_of_range():
    with pytest.raises(ValueError, match="alpha must lie in"):
        soft_update(np.zeros(2), np.zeros(2), alpha=1.5)
