"""The training loop: determinism, what it hands to objectives, and that it learns."""

import numpy as np
import pytest

from trref.experiments.tokens import train
from trref.problems.tokens import TokenTask
from trref.tokens.dr_grpo import centred_advantage
from trref.tokens.grpo import grpo
from trref.tokens.kl_estimators import grpo_with_kl
from trref.tokens.terms import logit_gradient


def test_one_seed_is_one_run():
    first, again, other = (train(grpo, seed=s, iterations=5) for s in (0, 0, 1))
    assert np.array_equal(first.theta, again.theta) and first[1:] == again[1:]
    assert not np.array_equal(first.theta, other.theta)
    assert all(len(history) == 5 for history in first[1:])


def test_it_learns_and_ratios_move():
    run = train(grpo, seed=0)
    assert run.success[-1] > 0.6 > 0.1 > run.success[0]
    assert run.pass_at_k[-1] >= run.success[-1] and run.entropy[-1] < 0.6 * run.entropy[0]
    assert max(run.clip_fraction) > 0.1 and run.kl[-1] > 1


def test_a_penalty_keeps_it_near_the_start():
    free, held = (train(grpo_with_kl, seed=0, hyper={"kl_weight": weight}) for weight in (0.0, 1.0))
    assert held.kl[-1] < 0.5 * free.kl[-1]
    assert np.array_equal(free.theta, train(grpo, seed=0).theta)


def test_the_metrics_are_exact():
    task = TokenTask(levels=(1, 2), vocabulary=4, length=3)
    run = train(grpo, seed=2, task=task, iterations=3, k=4)
    p = task.success_probability(run.theta)
    assert run.success[-1] == pytest.approx(p.mean())
    assert run.pass_at_k[-1] == pytest.approx((1 - (1 - p) ** 4).mean())


def test_a_full_distribution_objective_is_the_same_run():
    def full(logits, old_logits, actions, advantage, mask):
        taken = [
            np.take_along_axis(z - np.log(np.exp(z).sum(-1, keepdims=True)), actions[..., None], 2)[..., 0]
            for z in (logits, old_logits)
        ]
        loss, gradient = grpo(*taken, advantage, mask)
        return loss, logit_gradient(logits, actions, gradient)

    ours, other = train(grpo, seed=3, iterations=10), train(full, seed=3, iterations=10)
    assert np.allclose(ours.theta, other.theta, atol=1e-8, rtol=1e-9)


def test_what_an_objective_may_ask_for():
    seen = []

    def objective(
        log_prob,
        old_log_prob,
        advantage,
        mask,
        ref_log_prob,
        behavior_log_prob,
        version,
        group,
        reward,
        answer,
        domain,
        entropy,
        divergence,
        current_version,
    ):
        seen.append((version.max(), current_version))
        assert log_prob.shape == ref_log_prob.shape == behavior_log_prob.shape == entropy.shape == divergence.shape
        assert (entropy >= 0).all() and (divergence >= 0).all() and set(np.unique(reward)) <= {0, 1}
        assert group.shape == reward.shape == answer.shape == domain.shape
        same = answer[:, None] == answer[None, :]
        assert (reward[:, None] == reward[None, :])[same & (domain[:, None] == domain[None, :])].all()
        return grpo(log_prob, old_log_prob, advantage, mask)

    train(objective, seed=4, iterations=5, lag=2)
    assert {c: v for v, c in seen} == {0: 0, 1: 0, 2: 0, 3: 1, 4: 2}


def test_hooks():
    def no_reward(rng, reward):
        return 0 * reward

    still = train(grpo, seed=5, iterations=4, observe=no_reward)
    assert not still.theta.any()
    frozen = train(grpo, seed=5, iterations=4, change_gradient=lambda g: 0 * g)
    assert not frozen.theta.any()
    other = train(grpo, seed=5, iterations=4, advantage=centred_advantage)
    assert other.theta.any()


def test_lagging_samples_have_moved():
    """With a lag the sampling policy is another one, and the first ratios differ from 1."""
    ratios = []

    def objective(log_prob, old_log_prob, behavior_log_prob, advantage, mask):
        ratios.append(float(abs(mask * (old_log_prob - behavior_log_prob)).max()))
        return grpo(log_prob, old_log_prob, advantage, mask)

    train(objective, seed=6, iterations=3, lag=0)
    assert max(ratios) < 1e-12
    train(objective, seed=6, iterations=3, lag=1)
    assert max(ratios) > 1e-3
