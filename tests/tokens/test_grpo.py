"""Theorems and limits of GRPO and its building blocks; expectations by enumeration."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import binom, zscore

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.grpo import aggregation_weights, group_advantage, grpo
from trref.tokens.terms import clip_surrogate, logit_gradient, token_weights

# ---- advantages


@pytest.mark.parametrize(("std", "ddof"), [("sample", 1), ("population", 0)])
def test_advantage_is_a_standard_score(std, ddof):
    rng = np.random.default_rng(0)
    reward, group = rng.standard_normal(12), np.repeat([4, 1, 7], 4)
    expected = np.concatenate([zscore(reward[i : i + 4], ddof=ddof) for i in (0, 4, 8)])
    assert np.allclose(group_advantage(reward, group, std=std), expected, rtol=1e-12)


def test_advantage_by_hand():
    """One of four right: 3/4 and -1/4, over 1/2 (sample) or sqrt(3)/4 (population)."""
    reward, group = np.array([1.0, 0, 0, 0]), np.zeros(4, int)
    assert group_advantage(reward, group) == pytest.approx([1.5, -0.5, -0.5, -0.5])
    assert group_advantage(reward, group, std="population") == pytest.approx([math.sqrt(3), *[-1 / math.sqrt(3)] * 3])
    assert group_advantage(reward, group, std="none", baseline="leave_one_out") == pytest.approx(
        [1, -1 / 3, -1 / 3, -1 / 3]
    )
    assert group_advantage(reward, group, eps=0.25)[0] == pytest.approx(1.0)


def test_one_over_deviation_plus_eps_differs_between_trainers():
    reward, group = np.array([0.5, 0.5001]), np.zeros(2, int)
    ours, trl, verl = (abs(group_advantage(reward, group, eps=e)[0]) for e in (0.0, 1e-4, 1e-6))
    assert ours == pytest.approx(math.sqrt(0.5), rel=1e-9)
    assert trl == pytest.approx(5e-5 / (1e-4 * math.sqrt(0.5) + 1e-4), rel=1e-9)
    assert trl < 0.6 * ours < 0.6 * 1.05 * verl


@pytest.mark.parametrize("std", ["sample", "population", "batch", "none"])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_equal_rewards_have_no_advantage(std, baseline, eps):
    """Exactly 0, although the mean of three times 0.1 is not 0.1."""
    reward, group = np.array([0.1, 0.1, 0.1, 0.7, 1e-9, 1.0]), np.array([0, 0, 0, 1, 2, 2])
    advantage = group_advantage(reward, group, std=std, baseline=baseline, eps=eps)
    assert not advantage[:4].any() and advantage[4:].all()
    everything_equal = group_advantage(np.full(5, 0.3), np.zeros(5, int), std=std, baseline=baseline, eps=eps)
    assert not everything_equal.any()


def test_leave_one_out_is_a_factor():
    rng = np.random.default_rng(1)
    reward, group = rng.standard_normal(10), np.repeat([0, 1], 5)
    others = [(reward[group == g].sum() - r) / 4 for r, g in zip(reward, group, strict=True)]
    loo = group_advantage(reward, group, std="none", baseline="leave_one_out")
    assert np.allclose(loo, reward - others, rtol=1e-12)
    assert np.allclose(loo, 5 / 4 * group_advantage(reward, group, std="none"), rtol=1e-12)


def test_groups_may_come_in_any_order():
    rng = np.random.default_rng(2)
    reward, group, order = rng.standard_normal(9), np.repeat([0, 1, 2], 3), rng.permutation(9)
    together = group_advantage(reward, group)
    assert np.allclose(group_advantage(reward[order], 100 - group[order]), together[order], rtol=1e-12)


def test_group_of_one():
    raw = next(d for d in find("grpo.group_advantage").deviations if "raw" in d.name)
    reward, group = np.array([0.7, 1.0, 0.0]), np.array([0, 1, 1])
    assert group_advantage(reward, group)[0] == 0 and raw.f(reward, group)[0] == 0.7
    assert np.allclose(group_advantage(reward, group)[1:], raw.f(reward, group)[1:], rtol=1e-9)


# ---- weights


@pytest.mark.parametrize("aggregation", ["seq_mean", "token_mean", "group_token_mean"])
def test_weights_are_an_average(aggregation):
    mask, group = token_batch(3, B=12)[3], np.repeat([0, 1, 2], 4)
    w = token_weights(mask, aggregation, group=group)
    assert w.sum() == pytest.approx(1) and (w[mask == 0] == 0).all() and (w[mask == 1] > 0).all()


def test_weights_by_hand():
    """Lengths 1, 3 and 2, 0; the third group of answers is empty."""
    mask, group = np.array([[1.0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]]), np.array([0, 0, 1, 2])
    expected = {
        "seq_mean": [1 / 4, 1 / 12, 1 / 8],
        "token_mean": [1 / 6, 1 / 6, 1 / 6],
        "group_token_mean": [1 / 12, 1 / 12, 1 / 6],
        "constant": [1 / 20, 1 / 20, 1 / 20],
    }
    for aggregation, weights in expected.items():
        w = token_weights(mask, aggregation, group=group, max_length=5)
        assert np.allclose(w[:3], np.array(weights)[:, None] * mask[:3], rtol=1e-14) and not w[3].any()
    with pytest.raises(ValueError, match="aggregation must be one of"):
        token_weights(mask, "mean")


def test_the_constant_has_no_default():
    mask, group = np.ones((2, 3)), np.zeros(2, int)
    assert np.allclose(aggregation_weights(mask, group, aggregation="constant", max_length=4), 1 / 8, rtol=1e-9)
    with pytest.raises(TypeError, match="max_length must be a number"):
        aggregation_weights(mask, group, aggregation="constant")
    with pytest.raises(ValueError, match="aggregation must be one of"):
        aggregation_weights(mask, group, aggregation="mean")


def test_the_aggregations_agree_on_equal_lengths():
    mask, group = np.ones((6, 5)), np.repeat([0, 1], 3)
    first, *others = (
        token_weights(mask, a, group=group, max_length=5)
        for a in ("seq_mean", "token_mean", "group_token_mean", "constant")
    )
    assert all(np.allclose(first, other, rtol=1e-15) for other in others)


# ---- the loss


def test_loss_by_hand():
    """Answers of one and two tokens; ratios 1.5 | 0.5, 1.1; advantages 1 and -1."""
    log_prob = np.log([[1.5, 9.0], [0.5, 1.1]])
    mask = np.array([[1.0, 0.0], [1.0, 1.0]])
    loss, gradient = grpo(log_prob, np.zeros((2, 2)), np.array([1.0, -1.0]), mask)
    assert loss == pytest.approx(-(1.2 + (-0.8 - 1.1) / 2) / 2, rel=1e-14)
    assert np.allclose(gradient, [[0, 0], [0, 1.1 / 4]], rtol=1e-14)


def test_on_fresh_data_no_clip_is_active():
    _, old, advantage, mask = token_batch(5)
    loss, gradient = grpo(old, old, advantage, mask, clip=1e-6)
    assert loss == pytest.approx(-advantage.mean(), rel=1e-13)
    assert np.allclose(gradient, -mask * (advantage / mask.sum(1))[:, None] / len(mask), rtol=1e-13)


def test_an_advantage_an_answer_or_a_token():
    log_prob, old, advantage, mask = token_batch(6)
    for one, other in zip(
        grpo(log_prob, old, advantage, mask), grpo(log_prob, old, advantage[:, None] + 0 * mask, mask), strict=True
    ):
        assert np.array_equal(one, other)


def test_clip_bounds_may_differ_between_tokens():
    log_prob, old, advantage, _ = token_batch(7)
    width = np.random.default_rng(7).uniform(0.1, 0.4, log_prob.shape)
    term, derivative = clip_surrogate(log_prob, old, advantage, width, 2 * width)
    for i, t in itertools.product(range(8), range(5)):
        r, A = math.exp(log_prob[i, t] - old[i, t]), advantage[i]
        low, high = 1 - width[i, t], 1 + 2 * width[i, t]
        assert term[i, t] == pytest.approx(min(r * A, min(max(r, low), high) * A))
        clipped = (A > 0 and r > high) or (A < 0 and r < low)
        assert derivative[i, t] == pytest.approx(0 if clipped else r * A)


def test_gradient_in_the_logits():
    rng = np.random.default_rng(8)
    logits, actions = rng.standard_normal((3, 4, 5)), rng.integers(0, 5, (3, 4))
    _, old, advantage, mask = token_batch(8, B=3, T=4)

    def log_prob(z):
        return np.take_along_axis(log_softmax(z, -1), actions[..., None], 2)[..., 0]

    gradient = logit_gradient(logits, actions, grpo(log_prob(logits), old, advantage, mask)[1])
    check_gradient(lambda z: grpo(log_prob(z), old, advantage, mask)[0], logits, gradient, rng=rng)
    assert np.allclose(gradient.sum(-1), 0, atol=1e-15, rtol=1e-9)


def test_deviations_where_they_agree():
    """Each one differs only where its note says so."""
    by_name = {d.name: d.f for d in find("grpo.grpo").deviations}
    batch = token_batch(9, spread=0.05)
    reference = grpo(*batch)
    assert set(by_name) > {"without the minimum", "log-ratios clamped to ±20", "mean over all tokens of the batch"}
    for name, f in by_name.items():
        same = all(np.allclose(a, b, rtol=1e-12) for a, b in zip(f(*batch), reference, strict=True))
        assert same == (name != "mean over all tokens of the batch"), name
    far = np.log([[4.0]]), np.zeros((1, 1)), np.array([-1.0]), np.ones((1, 1))
    assert grpo(*far)[1] == pytest.approx(4.0)
    assert by_name["dual clip at 3 and log-ratios clamped to ±20"](*far) == (pytest.approx(3.0), pytest.approx(0.0))
    assert by_name["without the minimum"](*far) == (pytest.approx(1.2), pytest.approx(0.0))


# ---- expectations, by enumeration of all groups


def _policy(seed, V=3, T=2):
    """All sequences of a small autoregressive policy: tokens, probabilities, and the logits before each token."""
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((T, V, V))
    sequences = np.array(list(itertools.product(range(V), repeat=T)))
    previous = np.concatenate([np.zeros((len(sequences), 1), int), sequences[:, :-1]], 1)
    logits = table[np.arange(T), previous]
    log_p = np.take_along_axis(log_softmax(logits, -1), sequences[..., None], 2)[..., 0]
    return table, sequences, previous, logits, log_p


def _expected_gradient(seed, G, right, advantage):
    """E of the ascent direction of a group of G answers, in the table of logits, and the gradient of P(right)."""
    table, sequences, previous, logits, log_p = _policy(seed)
    T, p = sequences.shape[1], np.exp(log_p.sum(1))
    score = np.zeros((len(sequences), *table.shape))  # of each sequence
    for i in range(len(sequences)):
        rows = logit_gradient(logits[i : i + 1], sequences[i : i + 1], np.ones((1, T)))[0]
        for t in range(T):
            score[i, t, previous[i, t]] += rows[t]
    true = np.einsum("n,n,nijk->ijk", p, right, score)
    mean = np.zeros_like(table)
    for chosen in itertools.product(range(len(sequences)), repeat=G):
        chosen = list(chosen)
        A = advantage(right[chosen], np.zeros(G, int))
        _, gradient = grpo(log_p[chosen], log_p[chosen], A, np.ones((G, T)))
        # equal lengths: T times the loss is the mean over answers of the sum over tokens
        coefficient = -T * gradient[:, 0]
        mean += np.prod(p[chosen]) * np.einsum("n,nijk->ijk", coefficient, score[chosen])
    return mean, true, float(p @ right)


RIGHT = np.array([1.0, 0, 0, 0, 1, 0, 0, 1, 0])


@pytest.mark.parametrize("G", [2, 3])
def test_the_mean_as_baseline_shrinks_the_gradient(G):
    mean, true, _ = _expected_gradient(0, G, RIGHT, lambda r, g: group_advantage(r, g, std="none"))
    assert np.allclose(mean, (1 - 1 / G) * true, atol=1e-12, rtol=1e-9) and abs(true).max() > 0.01


@pytest.mark.parametrize("G", [2, 3])
def test_leaving_one_out_does_not(G):
    mean, true, _ = _expected_gradient(
        1, G, RIGHT, lambda r, g: group_advantage(r, g, std="none", baseline="leave_one_out")
    )
    assert np.allclose(mean, true, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("G", [2, 3, 4])
def test_dividing_by_the_deviation_is_another_objective(G):
    mean, true, P = _expected_gradient(2, G, RIGHT, lambda r, g: group_advantage(r, g, std="population"))
    k = np.arange(G + 1)
    factor = (binom.pmf(k, G, P) * np.sqrt(k / G * (1 - k / G))).sum() / (P * (1 - P))
    assert np.allclose(mean, factor * true, atol=1e-12, rtol=1e-9)
    assert factor == pytest.approx(1) if G == 2 else factor > 1.05  # of two, one right: 2 P (1 - P) / 2


def test_for_large_groups_it_is_the_arcsine():
    """The factor tends to d/dP of 2 arcsin sqrt(P)."""
    for P in (0.1, 0.5, 0.9):
        k, G = np.arange(4001), 4000
        factor = (binom.pmf(k, G, P) * np.sqrt(k / G * (1 - k / G))).sum() / (P * (1 - P))
        slope = (math.asin(math.sqrt(P + 1e-6)) - math.asin(math.sqrt(P - 1e-6))) / 1e-6
        assert factor == pytest.approx(slope, rel=2e-3)


def test_probabilities_of_the_small_policy():
    *_, logits, log_p = _policy(3)
    assert np.exp(log_p.sum(1)).sum() == pytest.approx(1) and softmax(logits, -1).sum(-1) == pytest.approx(1)
