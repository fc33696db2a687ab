"""Theorems and limits of trb."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.distillation.trb import blend, blended_rollout, budget, opd, skd_rollout, trust_region_blend
from trref.problems.next_token import NextToken
from trref.problems.token_trees import full_tree


def _log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def _kl(log_p, log_q):
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def _pair(seed, V=6, away=1.5):
    rng = np.random.default_rng(seed)
    student = rng.standard_normal((1, V))
    return student, student + away * rng.standard_normal((1, V))


def test_numbers_by_hand():
    """Student (1/2, 1/2), teacher (4/5, 1/5): the even blend is (2/3, 1/3)."""
    student, teacher = np.zeros((1, 2)), np.log([[0.8, 0.2]])
    assert np.exp(blend(student, teacher)) == pytest.approx(np.array([[2 / 3, 1 / 3]]))
    loss, gradient = opd(student[None], teacher[None], np.ones((1, 1)))
    a = np.log([0.5 / 0.8, 0.5 / 0.2])
    assert loss == pytest.approx(a.mean())
    assert gradient[0, 0] == pytest.approx(0.5 * (a - a.mean()))
    loss, gradient = opd(student[None], teacher[None], np.ones((1, 1)), top_k=1)
    assert loss == pytest.approx(a[0] / 2), "of equal tokens the first is on the list"
    assert gradient[0, 0] == pytest.approx((a[0] + 1) * np.array([0.25, -0.25]))


@pytest.mark.parametrize("radius", [0.005, 0.1, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_the_region_against_slsqp(seed, radius):
    """The problem as it is stated, on the simplex, by a general solver."""
    student, teacher = (_log_softmax(v)[0] for v in _pair(seed))
    found = trust_region_blend(student[None], teacher[None], radius=radius)
    ball = {"type": "ineq", "fun": lambda m: radius - (m * (np.log(m) - student)).sum()}
    total = {"type": "eq", "fun": lambda m: m.sum() - 1}
    best = minimize(
        lambda m: (m * (np.log(m) - teacher)).sum(),
        np.exp(student),
        method="SLSQP",
        bounds=[(1e-9, 1)] * 6,
        constraints=[ball, total],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert np.exp(found.log_prob[0]) == pytest.approx(best.x, abs=2e-5)
    slack = radius - _kl(found.log_prob[0], student)
    assert slack == pytest.approx(0, abs=1e-12) if found.beta[0] < 1 else slack > 0


@pytest.mark.parametrize("seed", range(3))
def test_divergences_along_the_blend(seed):
    """d KL(μ‖student) = β Var, d KL(μ‖teacher) = -(1-β) Var: by differences."""
    student, teacher = (_log_softmax(v) for v in _pair(seed))
    for beta in (0.2, 0.5, 0.9):
        mu = blend(student, teacher, beta=beta)
        u = teacher - student
        variance = (np.exp(mu) * (u - (np.exp(mu) * u).sum()) ** 2).sum()
        up, down = (blend(student, teacher, beta=beta + e) for e in (1e-5, -1e-5))
        assert (_kl(up, student) - _kl(down, student))[0] / 2e-5 == pytest.approx(beta * variance, rel=1e-6)
        assert (_kl(up, teacher) - _kl(down, teacher))[0] / 2e-5 == pytest.approx(-(1 - beta) * variance, rel=1e-6)


def test_a_small_ball():
    student, teacher = _pair(4)
    q, u = np.exp(_log_softmax(student)), _log_softmax(teacher) - _log_softmax(student)
    variance = (q * (u - (q * u).sum()) ** 2).sum()
    for radius in (1e-5, 1e-7):
        beta = trust_region_blend(student, teacher, radius=radius).beta[0]
        assert beta == pytest.approx(math.sqrt(2 * radius / variance), rel=0.02)


def test_the_ends():
    student, teacher = _pair(5)
    at_zero = trust_region_blend(student, teacher, radius=0.0)
    assert np.array_equal(at_zero.log_prob, _log_softmax(student)) and at_zero.beta == 0
    all_in = trust_region_blend(student, teacher, radius=50.0)
    assert np.array_equal(all_in.log_prob, _log_softmax(teacher)) and all_in.beta == 1
    for radius in (0.0, 0.01):
        assert trust_region_blend(student, student, radius=radius).beta == 1


def test_a_sequence_is_at_most_t_radii_from_the_students():
    """By the chain rule, over all sequences of a full tree."""
    tree, rng, radius = full_tree(3, 3), np.random.default_rng(6), 0.05
    student = rng.standard_normal(tree.children.shape)
    teacher = student + 2 * rng.standard_normal(tree.children.shape)
    mixed = trust_region_blend(student, teacher, radius=radius).log_prob
    own, law = {}, {}
    for tokens in itertools.product(range(3), repeat=3):
        states = tree.states(np.array([tokens]))[0]
        own[tokens], law[tokens] = (_log_softmax(t)[states, list(tokens)].sum() for t in (student, mixed))
    total = sum(math.exp(law[y]) * (law[y] - own[y]) for y in own)
    rows = tree.reach(mixed.ravel()) @ _kl(mixed, _log_softmax(student))
    assert total == pytest.approx(rows) and total <= 3 * radius + 1e-12


def test_the_gradient_by_differences():
    rng = np.random.default_rng(7)
    z, z_teacher, mask = *rng.standard_normal((2, 2, 3, 4)), np.array([[1.0, 1, 0], [1, 0, 0]])
    for top_k in (None, 2):
        gradient = opd(z, z_teacher, mask, top_k=top_k)[1]
        for at in np.ndindex(z.shape):
            step = np.zeros_like(z)
            step[at] = 1e-6
            slope = (
                opd(z + step, z_teacher, mask, top_k=top_k)[0] - opd(z - step, z_teacher, mask, top_k=top_k)[0]
            ) / 2e-6
            assert slope == pytest.approx(gradient[at], abs=1e-8)


def test_at_the_teacher_nothing_is_left():
    z = np.random.default_rng(8).standard_normal((2, 3, 4))
    loss, gradient = opd(z, z, np.ones((2, 3)))
    assert loss == 0 and not gradient.any()
    loss, gradient = opd(z, z + 1, np.zeros((2, 3)))
    assert loss == 0 and not gradient.any()


def test_the_budget():
    assert budget(np.array([0.0, 5.0, 25.0, 100.0]), radius=0.02, steps=25) == pytest.approx(
        np.array([0.02, 0.016, 0, 0])
    )


def _policies():
    rng = np.random.default_rng(9)
    tree = full_tree(4, 2)
    student = rng.standard_normal(tree.children.shape)
    return (NextToken(tree.children, t) for t in (student, student + 2 * rng.standard_normal(student.shape)))


def test_rollouts_follow_their_law():
    """Pearson's statistic over all 16 sequences: below 37.7 in 999 of 1,000 samples."""
    student, teacher = _policies()
    q, p = (np.exp(_log_softmax(v.table)) for v in (student, teacher))
    mixed = np.exp(trust_region_blend(student.table, teacher.table, radius=0.2).log_prob)
    listed = p >= np.sort(p, 1)[:, -2:-1]
    listing = np.where(listed, q, 0) + np.where(listed, 0, q).sum(1, keepdims=True) * p
    for draw, rows, seed in (
        (lambda rng: blended_rollout(rng, student, teacher, draws=20_000, length=2, radius=0.2), mixed, 1),
        (lambda rng: blended_rollout(rng, student, teacher, draws=20_000, length=2, radius=0.0), q, 2),
        (lambda rng: blended_rollout(rng, student, teacher, draws=20_000, length=2, radius=99.0), p, 3),
        (lambda rng: skd_rollout(rng, student, teacher, draws=20_000, length=2, top_k=2), listing, 4),
    ):
        tokens = draw(np.random.default_rng(seed))
        seen = np.bincount(tokens @ [4, 1], minlength=16)
        expected = 20_000 * (rows[0][:, None] * rows[1:5]).ravel()
        assert ((seen - expected) ** 2 / expected).sum() < 37.7


def test_refused():
    z = np.zeros((1, 2, 3))
    with pytest.raises(ValueError, match="radius"):
        trust_region_blend(z, z, radius=-1.0)
    with pytest.raises(ValueError, match="teacher_logits"):
        opd(z, z + np.array([0.0, 40.0, 0.0]), np.ones((1, 2)))
    student, _ = _policies()
    with pytest.raises(ValueError, match="two axes"):
        student(np.zeros(3, dtype=int))
    with pytest.raises(TypeError, match="teacher"):
        blended_rollout(np.random.default_rng(0), student, None)
