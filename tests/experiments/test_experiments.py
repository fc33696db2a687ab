"""Attacks, task sequences, federated rounds, one-batch and tabular policies, diffusion, preferences, distillation."""

import numpy as np
import pytest

from trref.experiments import (
    attacks,
    continual,
    diffusion,
    distillation,
    federated,
    one_batch,
    preferences,
    tabular_policies,
)
from trref.experiments.training import Rule
from trref.manifolds import gossip
from trref.nn import mlp
from trref.nn.heads import log_softmax
from trref.policy.ppo import clipped_surrogate
from trref.problems import mdp as processes
from trref.problems import mixtures, token_trees
from trref.problems.denoisers import TimeNetwork, WithParameters
from trref.problems.mixtures import MixtureVelocity
from trref.problems.networks import random_classifier
from trref.problems.preferences import AnswerPolicy, PreferenceBandit
from trref.problems.rewards import QuadraticReward
from trref.problems.rows import RowLoss


def _rng(seed=0):
    return np.random.default_rng(seed)


# ---- attacks


def test_robust_accuracy_of_a_linear_classifier_in_closed_form():
    """A margin m survives a change of at most r in each pixel if m > r times the 1-norm of the weights' difference."""
    rng = _rng(1)
    W, x = rng.standard_normal((4, 2)), rng.uniform(0.3, 0.7, (200, 4))
    theta, labels = np.r_[W.ravel(), -W[:, 0].sum() / 2, -W[:, 1].sum() / 2], rng.integers(0, 2, 200)
    rows = RowLoss(theta, labels, (4, 2))
    assert np.array_equal(rows.logits(x).argmax(1), ((x - 0.5) @ W).argmax(1))
    difference, sign, radius = W[:, 1] - W[:, 0], 2 * labels - 1, 0.1
    margins = sign * ((x - 0.5) @ difference)

    def attack(score_and_grad, x, start):
        return np.clip(x + radius * np.sign(score_and_grad(start)[1]), x - radius, x + radius)

    found = attacks.robust_accuracy(rows, x, attack, radius=radius, restarts=2)
    assert found == (margins > radius * abs(difference).sum()).mean()
    assert 0 < found < (margins > 0).mean()
    nothing = attacks.robust_accuracy(rows, x, lambda f, x, start: x, radius=radius)
    assert nothing == (margins > 0).mean()
    with pytest.raises(ValueError, match="must stay within the radius"):
        attacks.robust_accuracy(rows, x, lambda f, x, start: x + 1, radius=radius)


def test_starts_lie_in_the_ball_and_in_the_box():
    rows, x, starts = RowLoss(np.zeros(6), np.zeros(5, int), (2, 2)), _rng(2).random((5, 2)), []
    attacks.robust_accuracy(rows, x, lambda f, x, start: starts.append(start) or start, radius=0.3, restarts=3)
    assert len(starts) == 3 and not np.array_equal(starts[0], starts[1])
    for start in starts:
        assert abs(start - x).max() <= 0.3 and start.min() >= 0 and start.max() <= 1


# ---- sequences


def test_a_learner_that_remembers_the_last_task_only():
    theta, accuracies = continual.sequence(
        ["a", "b", "c"], (), lambda theta, task, t: (task, t), lambda theta, task: float(theta[0] == task)
    )
    assert theta == ("c", 2) and np.array_equal(accuracies, np.eye(3)) and continual.forgetting(accuracies) == 1
    assert continual.forgetting(np.array([[0.9, 0.1], [0.7, 0.8]])) == pytest.approx(0.2)


# ---- federated rounds


def test_one_local_step_is_gradient_descent_on_the_whole():
    """Clients of any size that take one step, weighed by their counts, are one step on all data together."""
    loss = random_classifier(_rng(3), points=40)
    parts, theta = federated.client_losses(_rng(4), loss, 5, 0.5), 0.3 * _rng(5).standard_normal(31)
    assert sum(len(part) for part in parts) == 40 and min(len(part) for part in parts) > 0
    rounds = []

    def client(k, r, theta):
        rounds.append((r, k))
        return theta - 0.1 * parts[k](theta)[1], np.array(float(len(parts[k])))

    def server(theta, thetas, counts):
        return (counts[:, None] * thetas).sum(0) / counts.sum()

    found, watched = federated.federate(
        federated.Together(5), client, server, theta, 3, watch=lambda theta: float(loss(theta)[0])
    )
    for r in range(3):
        theta = theta - 0.1 * loss(theta)[1]
        assert watched[r] == pytest.approx(loss(theta)[0], rel=1e-13)
    assert np.allclose(found, theta, atol=1e-14)
    assert rounds == [(r, k) for r in range(3) for k in range(5)]


def test_mixing():
    weights, x = np.array([[0.5, 0.5, 0], [0.5, 0.25, 0.25], [0, 0.25, 0.75]]), _rng(6).standard_normal((3, 2, 4))
    network = gossip.Together(weights)
    assert np.allclose(network.mix(x), np.einsum("ij,jab->iab", weights, x)) and network.gather(x) is x
    assert np.allclose(network.mix(x).mean(0), x.mean(0)), "the weights keep the mean"


# ---- one batch


def test_one_batch_and_its_curves():
    batch = one_batch.one_batch(0, states=64, features=3, actions=4, hidden=(8,))
    old = np.exp(log_softmax(batch.logits))
    assert np.allclose((old * batch.advantage).sum(1), 0, atol=1e-14)
    assert (batch.advantage**2).mean() == pytest.approx(1)
    slope = one_batch.surrogate_slope(clipped_surrogate, clip=0.2)
    curves = one_batch.improve(batch, slope, steps=30, lr=1e-2)
    assert curves.gain.shape == (31,) and curves.kl[0] == curves.gain[0] == curves.largest[0] == 0
    assert curves.gain[-1] > 0 and curves.surrogate[-1] > curves.surrogate[0] and curves.kl[-1] > 0
    # the last row by hand
    new = np.exp(log_softmax(batch.policy(curves.theta, batch.states)))
    rows = np.arange(64)
    ratio = new[rows, batch.actions] / old[rows, batch.actions]
    assert curves.largest[-1] == pytest.approx(abs(ratio - 1).max())
    assert curves.mean[-1] == pytest.approx(abs(ratio - 1).mean())
    assert curves.kl[-1] == pytest.approx((old * np.log(old / new)).sum(1).mean())
    assert curves.surrogate[-1] == pytest.approx((ratio * batch.advantage[rows, batch.actions]).mean())
    assert curves.gain[-1] == pytest.approx(((new - old) * batch.advantage).sum(1).mean())


def test_the_slope_of_a_surrogate_is_its_derivative_by_the_logits():
    batch = one_batch.one_batch(1, states=5, features=2, actions=3, hidden=())
    slope = one_batch.surrogate_slope(clipped_surrogate, clip=0.3)
    z, h = batch.logits + 0.1 * _rng(7).standard_normal((5, 3)), 1e-6
    _, gradient = slope(batch, z)
    for i, j in np.ndindex(5, 3):
        e = np.zeros_like(z)
        e[i, j] = h
        difference = (slope(batch, z + e)[0] - slope(batch, z - e)[0]) / (2 * h)
        assert gradient[i, j] == pytest.approx(difference, abs=1e-8)


# ---- tabular iterations


def test_mirror_steps_never_fall_and_greedy_ones_reach_the_optimum():
    process = processes.random_mdp(_rng(8), states=6, actions=3, gamma=0.8)
    mirror = tabular_policies.iterate(process, lambda log_p, e, k: log_p + 0.5 * e.advantage, steps=40)
    assert mirror.log_action_probs.shape == (41, 6, 3) and np.allclose(mirror.log_action_probs[0], -np.log(3))
    assert (np.diff(mirror.returns) > -1e-12).all() and mirror.divergences.min() > 0
    best = process(processes.optimal_policy(process)).expected_return
    greedy = tabular_policies.iterate(process, lambda log_p, e, k: 1e3 * e.advantage, steps=20)
    assert greedy.returns[-1] == pytest.approx(best, abs=1e-6) and mirror.returns[-1] <= best + 1e-12
    first = np.exp(mirror.log_action_probs[:2])
    visits = process(first[0]).visits
    kl = (first[0] * np.log(first[0] / first[1])).sum(1)
    assert mirror.divergences[0] == pytest.approx((visits * kl).sum() / visits.sum(), rel=1e-12)


# ---- diffusion


def test_energy_distance_on_the_line_and_its_expectation():
    rng = _rng(9)
    x, y = rng.standard_normal((40, 1)), rng.standard_normal((30, 1)) + 0.5
    pairs = [abs(a - b) for a in x[:, 0] for b in y[:, 0]]
    within = [[abs(a - b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j] for z in (x[:, 0], y[:, 0])]
    expected = 2 * np.mean(pairs) - np.mean(within[0]) - np.mean(within[1])
    assert diffusion.energy_distance(x, y) == pytest.approx(expected, rel=1e-12)
    same = [diffusion.energy_distance(*rng.standard_normal((2, 50, 2))) for _ in range(200)]
    assert abs(np.mean(same)) < 5 * np.std(same) / np.sqrt(200), "unbiased: 0 for equal laws"


def test_mode_shares():
    means = np.array([[0.0, 0.0], [1.0, 0.0]])
    x = np.array([[0.1, 3.0], [0.9, -1.0], [5.0, 0.0], [0.6, 0.0]])
    assert diffusion.mode_shares(x, means).tolist() == [0.25, 0.75]


def test_rollouts_follow_an_exact_velocity_to_the_data():
    """One Gaussian: the deterministic path ends at mean + std x exactly, and noise keeps the law."""
    one = mixtures.GaussianMixture(np.ones(1), np.array([[1.0, -2.0]]), 0.25 * np.eye(2)[None])
    velocity, x = MixtureVelocity(one), _rng(10).standard_normal((4000, 2))
    path = diffusion.flow_rollout(velocity, x[:50], steps=400)
    assert path.shape == (401, 50, 2) and np.array_equal(path[0], x[:50])
    assert np.allclose(path[-1], one.mean() + 0.5 * x[:50], atol=0.02)
    noisy = diffusion.flow_rollout(velocity, x, steps=200, spread=lambda u: 0.7 * np.sqrt(u), rng=_rng(11))[-1]
    assert np.allclose(noisy.mean(0), one.mean(), atol=0.05) and np.allclose(noisy.std(0), 0.5, atol=0.03)
    assert abs(noisy[:50] - path[-1]).max() > 0.2, "the noise is there"


class ExactAndLinear:
    """An exact model, row by row, plus x A with theta = A: at A = 0 the mean gradient of the right regression is 0."""

    def __init__(self, exact):
        self.exact = exact

    def forward(self, theta, x, t):
        rows = [self.exact(x[i : i + 1], t[i : i + 1]) for i in range(len(x))]
        return np.concatenate(rows) + x @ theta.reshape(2, 2), x

    def vjp(self, x, cotangent):
        return (x.T @ cotangent).ravel(), None


@pytest.mark.parametrize(
    ("schedule", "target", "model"),
    [
        ("vp", "noise", mixtures.MixtureNoise),
        ("vp", "data", mixtures.MixtureDenoiser),
        ("flow", "velocity", mixtures.MixtureVelocity),
    ],
)
def test_the_exact_model_is_where_training_rests(schedule, target, model):
    """The residual of a conditional mean is orthogonal to every function of x: Student's t of each entry is small."""
    mixture, seen = mixtures.three_components(), []

    def update(params, grads, state, *, lr):
        seen.append(grads[0])
        return params, state

    exact = model(mixture) if target == "velocity" else model(mixture, schedule)
    how = {"rule": Rule(lambda params: None, update), "steps": 30, "batch": 100, "lr": 1.0}
    diffusion.train_network(
        ExactAndLinear(exact), np.zeros(4), mixture.sample, _rng(12), schedule=schedule, target=target, **how
    )
    right = np.mean(seen, 0) / np.std(seen, 0) * np.sqrt(30)
    assert abs(right).max() < 6, "six standard errors"
    seen.clear()
    wrong = {"noise": "data", "data": "noise", "velocity": "noise"}[target]
    diffusion.train_network(
        ExactAndLinear(exact), np.zeros(4), mixture.sample, _rng(12), schedule=schedule, target=wrong, **how
    )
    assert abs(np.mean(seen, 0) / np.std(seen, 0) * np.sqrt(30)).max() > 12, "another target is noticed"


def test_a_network_learns():
    mixture, network, rng = mixtures.ring(3), TimeNetwork(2, (16,)), _rng(12)
    run = diffusion.train_network(network, network.init(rng), mixture.sample, rng, steps=150, lr=1e-2)
    assert run.losses.shape == (150,) and run.losses[-30:].mean() < 0.7 * run.losses[0]
    x = rng.standard_normal((5, 2))
    assert np.isfinite(WithParameters(network, run.theta)(x, np.full(5, 0.5))).all()


def test_finetuning_to_a_reward_by_hand():
    """A generator x + theta whose reward is -‖x + theta - goal‖² learns theta = goal, as the noise has mean 0."""
    reward = QuadraticReward(np.array([0.7, -0.4]))

    def objective(theta, x, rng):
        values, gradients = reward(x + theta)
        return -values.mean(), -gradients.mean(0)

    run = diffusion.finetune(objective, np.zeros(2), seed=0, draws=64, steps=400, lr=0.02)
    # the mean of 64 draws has standard deviation 1/8, averaged by Adam over about ten steps
    assert np.allclose(run.theta, reward.goal, atol=0.2) and run.losses[-20:].mean() < run.losses[:20].mean()


# ---- preferences


def _logistic(chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob, *, beta=1.0):
    """The mean of log(1 + exp(-h)), h = beta times the difference of log-ratios, written for this test."""
    h = beta * (chosen_log_prob - rejected_log_prob - ref_chosen_log_prob + ref_rejected_log_prob)
    slope = -beta / (1 + np.exp(h)) / len(h)
    return np.logaddexp(0, -h).mean(), (slope, -slope)


def test_training_on_comparisons_explains_them():
    """Where the loss is least, each answer is expected to win as often as it did, whatever the reference."""
    bandit, policy, beta = PreferenceBandit(np.array([[1.0, 0.0, -0.5, 0.3]])), AnswerPolicy.table(1, 4), 0.5
    comparisons, reference = bandit.compare(_rng(13), 2000), _rng(14).standard_normal(4)
    run = preferences.train_pairs(
        _logistic,
        policy,
        comparisons,
        reference,
        hyper={"beta": beta},
        steps=300,
        lr=0.2,
        schedule=lambda k: 0.97**k,
    )
    implicit = beta * (policy.log_prob(run.theta) - policy.log_prob(reference))[0]
    _, chosen, rejected = comparisons
    wins = np.bincount(chosen, minlength=4)
    met, expected = np.zeros((4, 4)), np.zeros(4)
    np.add.at(met, (chosen, rejected), 1)
    for a, b in np.ndindex(4, 4):
        expected[a] += (met[a, b] + met[b, a]) / (1 + np.exp(implicit[b] - implicit[a]))
    assert np.allclose(expected, wins, atol=0.5) and wins.min() > 100
    # and the rewards come out, up to a constant: a difference has a standard error below 0.1
    assert np.allclose(implicit - implicit.mean(), bandit.reward[0] - bandit.reward.mean(), atol=0.4)
    assert run.losses[0] == pytest.approx(np.log(2)) and run.losses[-1] < run.losses[0]


def test_batches_and_moving_references():
    policy, seen = AnswerPolicy.table(2, 3), []
    comparisons = PreferenceBandit(_rng(15).standard_normal((2, 3))).compare(_rng(16), 50)

    def objective(chosen_log_prob, ref_chosen_log_prob):
        seen.append((len(chosen_log_prob), abs(chosen_log_prob - ref_chosen_log_prob).max()))
        return chosen_log_prob.mean(), (np.ones(len(chosen_log_prob)), np.zeros(len(chosen_log_prob)))

    preferences.train_pairs(
        objective,
        policy,
        comparisons,
        np.zeros(6),
        reference=lambda ref, theta, step: theta,
        batch=8,
        rng=_rng(17),
        steps=3,
        lr=0.1,
    )
    assert seen == [(8, 0.0)] * 3, "the reference is the policy itself, at each step"
    seen.clear()
    preferences.train_pairs(objective, policy, comparisons, np.zeros(6), steps=3, lr=0.1)
    assert [n for n, _ in seen] == [50] * 3 and seen[0][1] == 0 and seen[2][1] > 0


# ---- distillation


def _reverse_kl(logits, teacher_logits, mask):
    """KL(student‖teacher) row by row, mean over sequences, with its gradient by the logits."""
    log_p, log_q = log_softmax(logits), log_softmax(teacher_logits)
    p = np.exp(log_p)
    kl = (p * (log_p - log_q)).sum(-1)
    return kl.sum(1).mean(), p * (log_p - log_q - kl[..., None]) / len(logits)


def test_a_student_finds_the_teacher():
    tree = token_trees.full_tree(3, 3)
    teacher, theta = _rng(18).standard_normal((2, tree.size))
    found = distillation.distil(_reverse_kl, tree, teacher, theta, seed=0, draws=64, steps=150, lr=0.1)
    assert found.from_teacher[0] == pytest.approx(tree.kl(theta, teacher)) and found.from_start[0] == 0
    assert tree.kl(found.theta, teacher) < 0.02 * found.from_teacher[0] and found.from_start[-1] > 0
    assert found.from_teacher.shape == (150,)


def test_what_an_objective_is_given():
    tree, seen = token_trees.gold_path((1, 0), 3), []
    teacher, theta = token_trees.gold_teacher((1, 0), 3), np.zeros(12)

    def objective(log_prob, old_log_prob, ref_log_prob, teacher_log_prob, actions, advantage):
        seen.append([actions, advantage, log_prob - old_log_prob, log_prob - ref_log_prob])
        assert np.array_equal(teacher_log_prob, tree.log_prob(teacher, actions))
        return -(advantage[:, None] * log_prob).mean(), -np.ones_like(log_prob) * advantage[:, None]

    distillation.distil(
        objective,
        tree,
        teacher,
        theta,
        seed=1,
        draws=6,
        steps=4,
        lr=0.1,
        epochs=2,
        reward=lambda tokens: (tokens == 1).sum(1).astype(float),
    )
    assert np.array_equal(seen[0][0], seen[1][0]) and not np.array_equal(seen[1][0], seen[2][0]), "two steps a round"
    assert all(abs(advantage.mean()) < 1e-15 for _, advantage, _, _ in seen)
    assert not seen[0][2].any() and seen[1][2].any() and np.allclose(seen[2][2], 0, atol=1e-15) and seen[3][3].any()


def test_catalogued_objectives_of_tokens_can_be_distilled():
    """GRPO on one group whose reward is the first token: the student learns to say it."""
    from trref.tokens.grpo import grpo

    tree = token_trees.positions(3, 2)
    found = distillation.distil(
        grpo,
        tree,
        np.zeros(6),
        np.zeros(6),
        seed=3,
        draws=32,
        steps=60,
        lr=0.1,
        reward=lambda tokens: (tokens[:, 0] == 2).astype(float),
    )
    first = np.exp(log_softmax(found.theta.reshape(2, 3)))[0]
    assert first[2] > 0.8 and np.array_equal(found.from_teacher, found.from_start), "the teacher is where it started"


def test_blended_samples():
    tree = token_trees.gold_path((1, 0, 2), 3)
    teacher, draws = token_trees.gold_teacher((1, 0, 2), 3, confidence=0.999), []

    def objective(log_prob, actions):
        draws.append(actions)
        return log_prob.mean(), np.zeros_like(log_prob)

    def mix(round_):
        return (lambda logits, states: tree.table(teacher)[states]) if round_ == 0 else None

    distillation.distil(objective, tree, teacher, np.zeros(18), seed=2, draws=40, steps=2, lr=0.1, mix=mix)
    on_path = [(tokens == (1, 0, 2)).all(1).mean() for tokens in draws]
    assert on_path[0] > 0.9 and on_path[1] < 0.3


# ---- the digits


def test_training_a_classifier_on_the_digits():
    pytest.importorskip("sklearn")
    from trref.experiments.classifiers import at_random, digits_task, train

    task = digits_task(points=100, noise=0.3, sizes=(64, 8, 10))
    run = train(task, seed=0, epochs=3, lr=3e-3)
    assert len(run.losses) == 3 and run.gradients == [2, 4, 6] and run.losses[2] < run.losses[0]
    assert run.losses[-1] == task.loss(run.theta)[0] and run.curvature > 0
    again = train(task, seed=0, epochs=3, lr=3e-3, gradient=at_random(0.0))
    assert np.allclose(again.losses[0], run.losses[0], rtol=0.2), "a ball of radius 0, but other batches are drawn"
    assert mlp.size(task.loss.sizes) == len(run.theta)
