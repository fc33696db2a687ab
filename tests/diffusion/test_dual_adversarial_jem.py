"""Losses by hand and at their minimum, attacks on hills, and the schedule's share against scikit-learn's."""

import math

import numpy as np
import pytest
from scipy import optimize, special

from trref.diffusion.dual_adversarial_jem import (
    attack,
    contrast,
    dual_adversarial_loss,
    energy,
    generate,
    separation,
    step_schedule,
)
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss
from trref.problems.rows import LinearScore, QuadraticScore, RowLoss, RowScore

RNG = np.random.default_rng(0)


def test_energy_against_scipy():
    logits = 5 * RNG.standard_normal((6, 4))
    value, gradient = energy(logits)
    assert value == pytest.approx(-special.logsumexp(logits, axis=1).mean(), rel=1e-13)
    assert np.allclose(gradient, -special.softmax(logits, axis=1) / 6, rtol=1e-12, atol=1e-15)


def test_a_shift_moves_the_energy_and_no_class():
    logits = RNG.standard_normal((3, 4))
    assert energy(logits + 2.0)[0] == pytest.approx(energy(logits)[0] - 2.0, rel=1e-12)
    assert np.allclose(energy(logits + 2.0)[1], energy(logits)[1], rtol=1e-12, atol=1e-15)


def test_contrast_by_hand():
    """Logits ln 1 and ln 2 sum to 3, so s = ln 3: a datum costs ln(4/3), a contrastive sample ln 4."""
    real = contrastive = np.log([[1.0, 2.0]])
    loss, (d_real, d_other) = contrast(real, contrastive)
    assert loss == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-14)
    p = np.array([[1 / 3, 2 / 3]])
    assert np.allclose(d_real, -p / 4 / 2, rtol=1e-13) and np.allclose(d_other, 3 / 4 * p / 2, rtol=1e-13)


def test_what_is_told_apart_stops_pushing():
    loss, (d_real, d_other) = contrast(np.array([[900.0, 0.0]]), np.array([[-900.0, -950.0]]))
    assert loss == 0 and not d_real.any() and not d_other.any()
    loss, (d_real, d_other) = contrast(np.array([[-900.0, -950.0]]), np.array([[900.0, 0.0]]))
    assert loss == pytest.approx(900.0) and d_real.sum() == pytest.approx(-0.5) and d_other.sum() == pytest.approx(0.5)


def test_the_minimum_is_a_ratio_of_densities():
    """On four points, data and contrastive samples of two laws, as many draws: s = log p/q, found by BFGS."""
    counts = np.array([8, 4, 2, 2]), np.array([2, 2, 4, 8])
    rows = [np.repeat(np.arange(4), c) for c in counts]

    def loss(s):
        value, gradients = contrast(s[rows[0], None], s[rows[1], None])
        slope = np.zeros(4)
        for where, g in zip(rows, gradients, strict=True):
            np.add.at(slope, where, g[:, 0])
        return float(value), slope

    found = optimize.minimize(loss, np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-10}).x
    assert np.allclose(found, np.log(counts[0] / counts[1]), atol=1e-7, rtol=0)


def test_the_score_s_slope_is_the_mean_of_the_logits_slopes():
    """By x: sum of p(y|x) times the slope of f_y, and by differences."""
    sizes = (2, 6, 3)
    theta, x = 2 * mlp.init(RNG, sizes), RNG.standard_normal((5, 2))
    labels = np.zeros(5, int)
    logits = RowScore(theta, labels, sizes).logits
    slopes = np.stack([RowScore(theta, labels + y, sizes)(x)[1] for y in range(3)], 1)
    slope = (special.softmax(logits(x), axis=1)[:, :, None] * slopes).sum(1)
    for e in np.eye(2) * 1e-6:
        ahead, behind = (special.logsumexp(logits(x + h * e), axis=1) for h in (1, -1))
        assert np.allclose((ahead - behind) / 2e-6, slope @ e * 1e6, rtol=1e-6, atol=1e-8)


def test_steps_by_hand():
    """A slope of (3, 4): steps of 0.3 and 0.4 at a rate of 0.5, up to the end of the range, or of the ball."""
    slope, x = LinearScore(np.array([3.0, 4.0])), np.array([[0.2, 0.1]])
    assert np.allclose(generate(slope, x, steps=1, lr=0.5), [[0.5, 0.5]], atol=1e-10)
    assert np.allclose(generate(slope, x, steps=2, lr=0.5), [[0.8, 0.9]], atol=1e-10)
    assert np.allclose(generate(slope, x, steps=9, lr=0.5), [[1.0, 1.0]], atol=1e-10)
    assert np.allclose(attack(slope, x, steps=3, lr=0.5, radius=0.25), [[0.35, 0.3]], atol=1e-10)
    assert np.array_equal(generate(slope, x, steps=0), x) and np.array_equal(attack(slope, x, radius=0.0), x)


def test_a_hill_is_climbed_and_left_at_its_top():
    hill, x = QuadraticScore(np.eye(2), np.array([0.5, 0.5])), RNG.random((20, 2))
    values = [hill(generate(hill, x, steps=k, lr=0.02))[0] for k in range(8)]
    far = np.linalg.norm(x - 0.5, axis=1) > 0.15
    assert (np.diff(np.array(values)[:, far], axis=0) > 0).all()
    top = np.full((1, 2), 0.5)
    assert np.array_equal(generate(hill, top), top)


def _network(rows=30):
    rng, sizes = np.random.default_rng(2), (3, 8, 3)
    theta, labels = 2 * mlp.init(rng, sizes), rng.integers(0, 3, rows)
    return theta, labels, sizes, rng.random((rows, 3))


def test_nobody_leaves_ball_or_box_and_the_loss_rises_with_the_radius():
    theta, labels, sizes, x = _network()
    loss, last = RowLoss(theta, labels, sizes), -1.0
    for radius in (0.0, 0.05, 0.1, 0.2, 0.4):
        end = attack(loss, x, radius=radius, lr=radius / 4 + 1e-3, steps=20)
        assert np.linalg.norm(end - x, axis=1).max() <= radius + 1e-12
        assert end.min() >= 0 and end.max() <= 1
        assert loss(end)[0].mean() > last
        last = loss(end)[0].mean()


def test_a_step_has_its_length_inside_the_box():
    theta, labels, sizes, x = _network()
    x = 0.3 + 0.4 * x
    moved = generate(RowScore(theta, labels, sizes), x, steps=1, lr=0.01) - x
    assert np.allclose(np.linalg.norm(moved, axis=1), 0.01, rtol=1e-8)


def test_the_share_of_pairs_is_the_area_under_the_curve():
    metrics = pytest.importorskip("sklearn.metrics")
    real, other = RNG.standard_normal((9, 3)) + 0.5, RNG.standard_normal((7, 3))
    labels, targets = RNG.integers(0, 3, 9), RNG.integers(0, 3, 7)
    truth = np.repeat([1, 0], [9, 7])
    scores = {
        "density": np.concatenate([special.logsumexp(real, axis=1), special.logsumexp(other, axis=1)]),
        "label": np.concatenate([real[np.arange(9), labels], other[np.arange(7), targets]]),
    }
    shares = {by: float(separation(real, other, labels, targets, by=by)) for by in scores}
    for by, score in scores.items():
        assert shares[by] == pytest.approx(metrics.roc_auc_score(truth, score), rel=1e-12)
    assert shares["density"] != shares["label"]


def test_ties_count_half():
    real, other = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [3.0, 0.0]])
    where = np.array([0, 0]), np.array([1, 0])
    assert separation(real, other, *where) == 0.25  # s ties with the first, loses to the second, for both
    assert separation(real, other, *where, by="label") == 0.125  # 1 = 1 counts half, the others are lost


def test_samples_take_a_step_more_when_they_are_easy():
    always = step_schedule(np.ones(10), window=3, most=2)
    assert always.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2], "three rounds each, and no more than two"
    assert step_schedule(np.zeros(5), window=1).tolist() == [0] * 5
    # the mean of three is 0.8 for the first time in round 4; what was seen before does not count again
    shares = np.array([0.6, 0.7, 0.8, 0.95, 0.7, 0.8, 0.95])
    assert step_schedule(shares, window=3).tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert step_schedule(shares, window=3, threshold=0.85).tolist() == [0] * 7


def test_the_whole_loss_is_the_sum_and_its_gradient_that_of_differences():
    theta, labels, sizes, x = _network(8)
    problem = ClassifierLoss(x, labels, sizes)
    other, moved = RNG.standard_normal((5, 3)), x + 0.1
    value, gradient = dual_adversarial_loss(problem, theta, other, moved)
    parts = lambda t: (  # noqa: E731
        contrast(problem.logits(t), problem.at(other).logits(t))[0] + problem.at(moved)(t)[0]
    )
    assert value == pytest.approx(parts(theta), rel=1e-13)
    direction = RNG.standard_normal(theta.shape)
    slope = (parts(theta + 1e-5 * direction) - parts(theta - 1e-5 * direction)) / 2e-5
    assert gradient @ direction == pytest.approx(slope, rel=1e-7)


def test_bad_input():
    x, slope = np.array([[0.5, 0.5]]), LinearScore(np.ones(2))
    for f in (generate, attack):
        with pytest.raises(ValueError, match="low must be less than high"):
            f(slope, x, low=1.0)
        with pytest.raises(ValueError, match="x must lie between low = 0 and high = 1"):
            f(slope, x + 1)
        with pytest.raises(TypeError, match="score_and_grad must return a tuple"):
            f(lambda x: x, x)
    with pytest.raises(ValueError, match="labels must be less than 2"):
        separation(x, x, np.array([2]), np.array([0]))
    with pytest.raises(ValueError, match="targets must be less than 2"):
        separation(x, x, np.array([1]), np.array([2]))
    with pytest.raises(ValueError, match="contrastive must have shape"):
        contrast(x, np.ones((3, 3)))
    theta, labels, sizes, X = _network(4)
    with pytest.raises(ValueError, match=r"attacked must have shape \(4, 3\), as the data"):
        dual_adversarial_loss(ClassifierLoss(X, labels, sizes), theta, X, X[:1])
