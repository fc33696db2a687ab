"""Token trees, prefixes and experts of the token task, preferences."""

import itertools

import numpy as np
import pytest

from tests.problems.agreement import same_on_strict
from trref.backend import to_host
from trref.checks import check_gradient
from trref.problems import token_trees
from trref.problems.preferences import AnswerPolicy, PreferenceBandit
from trref.problems.tokens import TokenTask


def _rng(seed=0):
    return np.random.default_rng(seed)


# ---- trees

TREES = {
    "full": token_trees.full_tree(3, 3),
    "gold": token_trees.gold_path((2, 0, 1), 3),
    "positions": token_trees.positions(3, 3),
}
SEQUENCES = np.array(list(itertools.product(range(3), repeat=3)))


def _state_of(kind, prefix):
    """A state's number, from the definition of each tree."""
    if kind == "full":
        return [0, 1, 4][len(prefix)] + sum(v * 3 ** (len(prefix) - 1 - i) for i, v in enumerate(prefix))
    off = kind == "gold" and tuple(prefix) != (2, 0, 1)[: len(prefix)]
    return len(prefix) + 3 * off


@pytest.mark.parametrize("kind", TREES)
def test_states_and_log_probabilities(kind):
    tree = TREES[kind]
    assert tree.children.shape == ({"full": 13, "gold": 6, "positions": 3}[kind], 3)
    theta = _rng(1).standard_normal(tree.size)
    states = tree.states(SEQUENCES)
    assert states.tolist() == [[_state_of(kind, row[:t]) for t in range(3)] for row in SEQUENCES]
    p = np.exp(theta.reshape(-1, 3))
    p /= p.sum(1, keepdims=True)
    log_prob = tree.log_prob(theta, SEQUENCES)
    assert np.allclose(np.exp(log_prob), p[states, SEQUENCES], rtol=1e-9)
    assert np.exp(log_prob.sum(1)).sum() == pytest.approx(1, rel=1e-13)
    with pytest.raises(ValueError, match="theta must have shape"):
        tree.logits(theta[1:], SEQUENCES)


@pytest.mark.parametrize("kind", TREES)
def test_visits_and_divergences_by_enumeration(kind):
    tree = TREES[kind]
    theta, other = _rng(2).standard_normal((2, tree.size))
    log_prob, log_other = (tree.log_prob(t, SEQUENCES).sum(1) for t in (theta, other))
    p = np.exp(log_prob)
    reach = np.zeros(len(tree.children))
    for row, weight in zip(tree.states(SEQUENCES), p, strict=True):
        np.add.at(reach, row, weight)
    assert np.allclose(tree.reach(theta), reach, atol=1e-14, rtol=1e-9)
    assert tree.kl(theta, other) == pytest.approx((p * (log_prob - log_other)).sum(), rel=1e-12)
    assert tree.kl(theta, theta) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("kind", TREES)
def test_gradients(kind):
    tree, rng = TREES[kind], _rng(3)
    theta, tokens = rng.standard_normal(tree.size), SEQUENCES[::4]
    w, W = rng.standard_normal(tokens.shape), rng.standard_normal((*tokens.shape, 3))
    check_gradient(lambda t: (w * tree.log_prob(t, tokens)).sum(), theta, tree.log_prob_vjp(theta, tokens, w), rng=rng)
    check_gradient(lambda t: (W * tree.logits(t, tokens)).sum(), theta, tree.logits_vjp(tokens, W), rng=rng)


def test_samples_follow_the_tree_and_the_mixture():
    tree, draws = TREES["full"], 20_000
    theta, teacher = _rng(4).standard_normal((2, tree.size))
    tokens, log_prob = tree.sample(_rng(5), theta, draws)
    assert np.allclose(log_prob, tree.log_prob(theta, tokens), atol=1e-13, rtol=1e-9)
    counts = np.bincount(tokens @ [9, 3, 1], minlength=27) / draws
    p = np.exp(tree.log_prob(theta, SEQUENCES).sum(1))
    assert (abs(counts - p) < 5 * np.sqrt(p / draws)).all()
    replaced, log_teacher = tree.sample(_rng(5), theta, 50, mix=lambda logits, s: tree.table(teacher)[s])
    expected, log_expected = tree.sample(_rng(5), teacher, 50)
    assert np.array_equal(replaced, expected) and np.array_equal(log_teacher, log_expected)


def test_the_teacher_of_a_gold_path():
    gold = (1, 7, 0, 3)
    tree, theta = token_trees.gold_path(gold, 8), token_trees.gold_teacher(gold, 8)
    assert np.exp(tree.log_prob(theta, np.array([gold]))).tolist() == [pytest.approx([0.9] * 4)]
    astray = np.exp(tree.logits(theta, np.array([[1, 2, 0, 3]])))[0]
    assert astray[1].tolist() == pytest.approx([0.1 / 7] * 7 + [0.9]) and np.allclose(astray[2:], 1 / 8, rtol=1e-9)


def test_trees_on_the_strict_device():
    tree = TREES["gold"]
    theta = _rng(6).standard_normal(tree.size)

    def everything(tree, theta, tokens):
        log_prob = tree.log_prob(theta, tokens)
        sampled = tree.sample(_rng(7), theta, 6, mix=lambda logits, s: 2 * logits)
        sums = tree.reach(theta), tree.kl(theta, -theta)
        return log_prob, tree.log_prob_vjp(theta, tokens, log_prob), *sampled, *sums

    same_on_strict(everything, tree, theta, SEQUENCES[::5])


# ---- prefixes and experts of the token task


@pytest.fixture
def task():
    return TokenTask(levels=(1, 2), vocabulary=5, length=4)


def test_the_next_logits_are_those_of_the_response(task):
    theta, prompts = _rng(8).standard_normal(task.size), np.array([0, 1, 1])
    tokens = np.array([[3, 0, 0, 0], [1, 4, 2, 0], [0, 0, 0, 0]])
    everything = task.logits(theta, prompts, tokens)
    for t in range(4):
        assert np.array_equal(task.next_logits(theta, prompts, tokens[:, :t]), everything[:, t])


def test_prefixes_are_kept_and_mixtures_sampled_from(task):
    theta, teacher = _rng(9).standard_normal((2, task.size))
    prompts = np.repeat([0, 1], 30)
    tokens, given = task.expert(_rng(10), prompts).tokens, np.zeros((60, 4))
    given[:, :2] = 1
    responses = task.sample(_rng(11), theta, prompts, prefix=(tokens, given))
    assert np.array_equal(responses.tokens[:, :2], tokens[:, :2])
    log_prob = task.log_prob(theta, prompts, responses.tokens) * responses.mask
    assert np.allclose(responses.log_prob, log_prob, atol=1e-13, rtol=1e-9)
    plain = task.sample(_rng(11), theta, prompts)
    free = task.sample(_rng(11), theta, prompts, prefix=(tokens, np.zeros((60, 4))))
    assert np.array_equal(free.tokens, plain.tokens)
    mixed = task.sample(_rng(11), theta, prompts, mix=lambda logits, p, so_far: task.next_logits(teacher, p, so_far))
    taught = task.sample(_rng(11), teacher, prompts)
    assert np.array_equal(mixed.tokens, taught.tokens) and np.array_equal(mixed.log_prob, taught.log_prob)


def test_experts_are_right(task):
    prompts = np.repeat([0, 1], 200)
    responses = task.expert(_rng(12), prompts)
    assert (task.reward(responses) == 1).all()
    assert len(np.unique(responses.tokens[200:], axis=0)) == 6, "all increasing pairs of four symbols come up"
    assert responses.mask.sum(1).tolist() == [2] * 200 + [3] * 200


def test_sampling_on_the_strict_device(task):
    theta = _rng(13).standard_normal(task.size)

    def sample(theta, prompts, tokens, given):
        some = task.sample(_rng(14), theta, prompts, prefix=(tokens, given), mix=lambda z, p, so_far: z / 2)
        return some.tokens, some.mask, some.log_prob

    same_on_strict(sample, theta, np.array([0, 1, 1]), np.array([[2, 0, 0, 0]] * 3), np.eye(3, 4))


# ---- preferences


def test_preferences_follow_bradley_and_terry():
    bandit = PreferenceBandit(np.array([[0.0, 1.0, -0.5], [2.0, 2.0, 0.0]]))
    p = bandit.preference()
    assert p[0, 1, 0] == pytest.approx(1 / (1 + np.exp(-1.0))) and np.allclose(p + np.swapaxes(p, 1, 2), 1, rtol=1e-9)
    assert bandit.expected_reward(np.array([[0.5, 0.5, 0], [0, 0, 1.0]])) == pytest.approx(0.25)
    draws = 30_000
    prompt, chosen, rejected = bandit.compare(_rng(15), draws)
    assert (chosen != rejected).all()
    for m, a, b in [(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 0, 2)]:
        won, lost = (((prompt == m) & (chosen == x) & (rejected == y)).sum() for x, y in ((a, b), (b, a)))
        n = won + lost
        assert abs(n / draws - 1 / 6) < 5 * np.sqrt(1 / 6 / draws), "all pairs are equally likely"
        assert abs(won / n - p[m, a, b]) < 5 * np.sqrt(0.25 / n)


def test_answers_that_are_never_compared():
    bandit = PreferenceBandit(np.zeros((1, 4)))
    _, chosen, rejected = bandit.compare(_rng(16), 2000, law=np.array([[0.5, 0.5, 0.0, 0.0]]))
    assert set(chosen) == set(rejected) == {0, 1}
    _, chosen, rejected = PreferenceBandit(np.zeros((1, 3))).compare(_rng(16), 20_000, law=np.array([[0.6, 0.3, 0.1]]))
    share = (chosen + rejected == 1).mean()  # the first two: in one order or the other, without replacement
    assert share == pytest.approx(0.6 * 0.3 / 0.4 + 0.3 * 0.6 / 0.7, abs=5 * np.sqrt(0.25 / 20_000))


def test_policies_of_answers():
    rng = _rng(17)
    policy, w = AnswerPolicy(rng.standard_normal((2, 4, 3))), rng.standard_normal((2, 4))
    theta = rng.standard_normal(3)
    assert np.allclose(np.exp(policy.log_prob(theta)).sum(1), 1, rtol=1e-9)
    check_gradient(lambda t: (w * policy.log_prob(t)).sum(), theta, policy.log_prob_vjp(theta, w), rng=rng)
    table = AnswerPolicy.table(2, 4)
    z = rng.standard_normal(8)
    assert np.allclose(
        np.exp(table.log_prob(z)), np.exp(z.reshape(2, 4)) / np.exp(z.reshape(2, 4)).sum(1)[:, None], rtol=1e-9
    )
    same_on_strict(lambda f, t, w: (f.log_prob(t), f.log_prob_vjp(t, w)), policy, theta, w)
    with pytest.raises(ValueError, match="theta must have shape"):
        policy.log_prob(z)
    bandit = PreferenceBandit(w)
    same_on_strict(lambda f, p: (f.preference(), f.expected_reward(p)), bandit, np.full((2, 4), 0.25))


def test_comparisons_are_the_same_on_every_backend():
    import trref
    from trref.checks.cases import to_device

    bandit = PreferenceBandit(_rng(18).standard_normal((2, 3)))
    host = bandit.compare(_rng(19), 10)
    with trref.use_backend("strict"):
        device = to_device(bandit).compare(_rng(19), 10)
        assert all(np.array_equal(a, to_host(b)) for a, b in zip(host, device, strict=True))
