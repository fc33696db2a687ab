"""Training of tables of answers: determinism, what it hands to objectives, one step by hand."""

import numpy as np
import pytest

from trref.experiments.tokens import tempting_prompts, train_bandit
from trref.tokens.apo import apo
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.terms import logit_gradient

START, RIGHT = np.random.default_rng(0).standard_normal((3, 5)), np.eye(5)[[0, 2, 4]]


def test_one_seed_is_one_run():
    first, again, other = (train_bandit(grpo, START, RIGHT, seed=s, iterations=4) for s in (0, 0, 1))
    assert np.array_equal(first.probabilities, again.probabilities)
    assert not np.array_equal(first.probabilities, other.probabilities)
    assert first.probabilities.shape == (5, 3, 5) and np.allclose(first.probabilities.sum(2), 1, rtol=1e-9)


def test_one_step_by_hand():
    """Plain gradient descent on the sum over prompts of the mean over answers."""
    seen = []

    def objective(log_prob, old_log_prob, advantage, mask, actions, group, reward):
        assert np.array_equal(reward, RIGHT[group, actions[:, 0]])
        result = grpo(log_prob, old_log_prob, advantage, mask)
        seen.append(logit_gradient(START[group][:, None], actions, result[1])[:, 0])
        return result

    run = train_bandit(objective, START, RIGHT, seed=2, answers=6, iterations=1, lr=0.7)
    expected = START - 0.7 * 3 * seen[0].reshape(3, 6, 5).sum(1)
    assert np.allclose(run.logits, expected, rtol=1e-14) and abs(run.logits - START).max() > 0.01


def test_a_full_distribution_objective_is_the_same_run():
    plain = {"push": 1.0, "pull": 0.0}
    ours = train_bandit(apo, START, RIGHT, seed=3, iterations=8, epochs=2, hyper=plain)
    other = train_bandit(grpo, START, RIGHT, seed=3, iterations=8, epochs=2)
    assert np.allclose(ours.logits, other.logits, atol=1e-10, rtol=1e-9)


def test_it_learns():
    run = train_bandit(grpo, START, RIGHT, seed=4, iterations=60)
    success = (run.probabilities * RIGHT).sum(2).mean(1)
    assert success[-1] > 0.9 > 0.4 > success[0]


def test_a_verifier_may_err():
    rewards = []

    def advantage(reward, group):
        rewards.append(reward)
        return group_advantage(reward, group)

    train_bandit(grpo, START, np.full((3, 5), 0.25), seed=5, answers=200, iterations=4, lr=0.0, advantage=advantage)
    assert np.mean(rewards) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 2400))


def test_tempting_prompts():
    """Distributions in which the right and the tempting answer start where the docstring says."""
    start, right, tempting = tempting_prompts(6, prompts=6, answers=9)
    p = np.exp(start)
    assert np.allclose(p.sum(1), 1, rtol=1e-9) and (right.sum(1) == 1).all() and (tempting.sum(1) == 1).all()
    assert not (right * tempting).any(), "the tempting answer is wrong"
    assert np.allclose((p * right).sum(1), [0.15] * 3 + [0.01] * 3, rtol=1e-9) and np.allclose(
        (p * tempting).sum(1), 0.3, rtol=1e-9
    )
