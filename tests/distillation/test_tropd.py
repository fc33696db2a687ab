"""Theorems and limits of tropd."""

import math

import numpy as np
import pytest

from trref.distillation.tropd import accept, k1_reward, prefix_length, tropd, trust_probability
from trref.tokens.f_divergences import divergence
from trref.tokens.kl_estimators import kl_in_reward

ONE, NONE = np.ones((1, 1)), np.zeros((1, 1))


def _log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def _rows(seed, V=7, scale=1.5):
    return np.random.default_rng(seed).normal(0, scale, (2, V))


def _one(student, teacher, action, accepted, **hyper):
    """The loss of one token."""
    z, z_teacher = student[None, None], teacher[None, None]
    return tropd(z, z_teacher, np.array([[action]]), np.full((1, 1), float(accepted)), NONE, ONE, **hyper)


def _mean_gradient(student, teacher, **hyper):
    """The exact mean over tokens of the student and over the coin, token by token."""
    q, chance = np.exp(_log_softmax(student)), np.exp(np.minimum(_log_softmax(teacher) - _log_softmax(student), 0))
    total = np.zeros_like(student)
    for x in range(len(q)):
        for coin, weight in ((1, chance[x]), (0, 1 - chance[x])):
            total += q[x] * weight * _one(student, teacher, x, coin, **hyper)[1][0, 0]
    return total


def test_numbers_by_hand():
    """Student (1/2, 1/2), teacher (3/4, 1/4). Accepted 0: R = log 1.5; rejected with k = 1: 3/4 log 1.5."""
    student, teacher = np.zeros(2), np.log([0.75, 0.25])
    loss, gradient = _one(student, teacher, 0, 1)
    assert loss == pytest.approx(math.log(1.5) * math.log(2))
    assert gradient[0, 0] == pytest.approx(math.log(1.5) * np.array([-0.5, 0.5]))
    loss, gradient = _one(student, teacher, 1, 0, top_k=1)
    assert loss == pytest.approx(0.75 * math.log(1.5))
    assert gradient[0, 0] == pytest.approx(np.array([0.375 - 0.75, 0.375]))
    assert _one(student, teacher, 1, 0, outlier="mask")[0] == 0
    loss = _one(student, teacher, 1, 0, outlier="clip", tau=0.1)[0]
    assert loss == pytest.approx(-0.1 * math.log(2)), "the reward of log 0.5 counts as -0.1"


def test_the_mean_of_the_accepted_reward_is_the_reverse_divergence():
    """If every token is accepted, whatever the coin says: the gradient of KL(student‖teacher)."""
    student, teacher = _rows(0)
    q = np.exp(_log_softmax(student))
    mean = sum(q[x] * _one(student, teacher, x, 1)[1][0, 0] for x in range(len(q)))
    kl = divergence(student[None, None], teacher[None, None], ONE, kind="reverse_kl")[1][0, 0]
    assert np.allclose(mean, kl, rtol=1e-12, atol=1e-15)


def test_accepted_it_is_the_divergence_in_the_reward():
    """Another module's k1 with the teacher as reference, through the logits."""
    rng = np.random.default_rng(1)
    z, z_teacher, y = *rng.standard_normal((2, 3, 4, 5)), rng.integers(0, 5, (3, 4))
    mask = (rng.random((3, 4)) < 0.8).astype(float)
    ours = tropd(z, z_teacher, y, np.ones((3, 4)), np.zeros((3, 4)), mask)
    new, teacher = (np.take_along_axis(_log_softmax(v), y[..., None], 2)[..., 0] for v in (z, z_teacher))
    loss, coefficient = kl_in_reward(new, mask, teacher)
    assert ours[0] == pytest.approx(float(loss))
    by_hand = coefficient[..., None] * (np.eye(5)[y] - np.exp(_log_softmax(z)))
    assert np.allclose(ours[1], by_hand, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("k", [2, 7])
def test_the_mean_gradient_in_closed_form(k):
    """-Σ q P R (e - q) + (1 - Σ q P) dF."""
    student, teacher = _rows(2)
    log_q, log_p = _log_softmax(student), _log_softmax(teacher)
    q, R = np.exp(log_q), log_p - log_q
    P = np.exp(np.minimum(R, 0))
    top = np.argsort(-teacher)[:k]
    kept = np.where(np.isin(np.arange(7), top), np.exp(log_p), 0)
    dF = q * kept.sum() - kept
    closed = -(q * P * R) @ (np.eye(7) - q) + (1 - q @ P) * dF
    assert np.allclose(_mean_gradient(student, teacher, top_k=k), closed, rtol=1e-12, atol=1e-14)


def test_acceptance_is_one_less_the_total_variation():
    student, teacher = _rows(3)
    log_q, log_p = _log_softmax(student), _log_softmax(teacher)
    mean = float(np.exp(log_q) @ trust_probability(log_q[None], log_p[None])[0])
    assert mean == pytest.approx(np.minimum(np.exp(log_q), np.exp(log_p)).sum())
    variation = divergence(student[None, None], teacher[None, None], ONE, kind="total_variation")[0]
    assert mean == pytest.approx(1 - float(variation))


def test_accepted_tokens_have_the_law_of_the_minimum():
    """Pearson's statistic of 20,000 tokens with 6 degrees of freedom: below 22.46 in 999 of 1,000 samples."""
    student, teacher = _rows(4)
    log_q, log_p = _log_softmax(student), _log_softmax(teacher)
    rng = np.random.default_rng(5)
    x = rng.choice(7, (1, 20_000), p=np.exp(log_q))
    kept = x[accept(rng, log_q[x], log_p[x]) == 1]
    law = np.minimum(np.exp(log_q), np.exp(log_p))
    expected = len(kept) * law / law.sum()
    assert ((np.bincount(kept, minlength=7) - expected) ** 2 / expected).sum() < 22.46


def test_the_tail_is_bounded():
    """Given R < 0 the mean of M |R| is at most 1/e, wherever the teacher stands."""
    R = -np.linspace(0.01, 29, 400)
    mean = trust_probability(np.zeros((1, 400)) - 0.5, R[None] - 0.5)[0] * -R
    assert mean.max() == pytest.approx(math.exp(-1), abs=1e-3) and (mean <= math.exp(-1)).all()


def test_a_forbidden_token():
    """The sampled reward grows like log 1/p; the mean gradient with the gate does not."""
    norms = {}
    for depth in (5.0, 10.0, 20.0):
        student, teacher = np.zeros(4), np.array([0.0, 0.0, 0.0, -depth])
        q = np.exp(_log_softmax(student))
        plain = [np.linalg.norm(_one(student, teacher, x, 1)[1]) for x in range(4)]
        gated = _mean_gradient(student, teacher)
        norms[depth] = (
            max(plain),
            np.linalg.norm(gated),
            q @ trust_probability(_log_softmax(student)[None], _log_softmax(teacher)[None])[0],
        )
    assert norms[20.0][0] > 3 * norms[5.0][0], "without the coin"
    assert norms[20.0][1] == pytest.approx(norms[10.0][1], rel=1e-2), "with it"
    assert norms[20.0][2] == pytest.approx(0.75, abs=1e-6)


def test_student_and_teacher_agree():
    student = _rows(6)[0]
    assert trust_probability(student[None] - 9, student[None] - 9).tolist() == [[1.0] * 7]
    loss, gradient = _one(student, student, 3, 1)
    assert loss == 0 and not gradient.any()
    assert np.abs(_mean_gradient(student, student)).max() < 1e-15


def test_a_full_list_pulls_to_the_teacher_and_a_short_one_to_its_head():
    """The gradient of F vanishes at the teacher, and at its top tokens renormalised."""
    teacher = _rows(7)[1]
    p = np.exp(_log_softmax(teacher))
    assert np.abs(_one(teacher, teacher, 0, 0)[1]).max() < 1e-15
    top = np.argsort(-p)[:3]
    head = np.full(7, -25.0)
    head[top] = np.log(p[top])
    near, d = _one(head, teacher, 0, 0, top_k=3)
    assert np.abs(d).max() < 1e-9
    assert near == pytest.approx(p[top].sum() * math.log(p[top].sum()), abs=1e-9)


def test_the_mean_is_over_all_tokens_of_the_continuations():
    """One rejected among three: a third of its divergence. The prefix is averaged by itself, with its weight."""
    rng = np.random.default_rng(8)
    z, z_teacher, y = *rng.standard_normal((2, 1, 5, 4)), rng.integers(0, 4, (1, 5))
    prefix, mask = np.array([[1.0, 1, 0, 0, 0]]), np.ones((1, 5))
    accepted = np.array([[0.0, 1, 0, 1, 1]])
    loss, gradient = tropd(z, z_teacher, y, accepted, prefix, mask, guidance_weight=0.5)
    log_q, log_p = _log_softmax(z)[0], _log_softmax(z_teacher)[0]
    taken = log_q[np.arange(5), y[0]]
    R = (log_p - log_q)[np.arange(5), y[0]]
    F = (np.exp(log_p[2]) * (log_p - log_q)[2]).sum()
    expected = (F - R[3] * taken[3] - R[4] * taken[4]) / 3 - 0.5 * (taken[0] + taken[1]) / 2
    assert loss == pytest.approx(expected)
    alone = tropd(z, z_teacher, y, accepted, prefix, prefix, guidance_weight=0.5)
    assert np.array_equal(alone[1][0, :2], gradient[0, :2]) and not alone[1][0, 2:].any()


def test_nothing_there():
    z, z_teacher = np.random.default_rng(9).standard_normal((2, 2, 3, 4))
    tokens = np.zeros((2, 3), dtype=int)
    loss, gradient = tropd(z, z_teacher, tokens, np.ones((2, 3)), np.zeros((2, 3)), np.zeros((2, 3)))
    assert loss == 0 and not gradient.any()


def test_the_schedule():
    """All at first, half halfway, nothing at the end and after it."""
    length = np.array([10.0, 3.0])
    for step, share in ((0, 1.0), (100, 0.5), (200, 0.0), (500, 0.0)):
        assert prefix_length(length, step=step) == pytest.approx(share * length, abs=1e-12)
    shares = [prefix_length(length, step=k, steps=50)[0] for k in range(51)]
    assert (np.diff(shares) < 0).all()


def test_refused():
    z, tokens, one = np.zeros((1, 2, 3)), np.zeros((1, 2), dtype=int), np.ones((1, 2))
    with pytest.raises(TypeError, match="tau"):
        tropd(z, z, tokens, one, one, one, outlier="clip")
    with pytest.raises(ValueError, match="actions"):
        tropd(z, z, tokens + 3, one, one, one)
    with pytest.raises(ValueError, match="teacher_logits"):
        tropd(z, z + np.array([0.0, 40.0, 0.0]), tokens, one, one, one)
    assert k1_reward(z, z, tokens).tolist() == [[0.0, 0.0]]
