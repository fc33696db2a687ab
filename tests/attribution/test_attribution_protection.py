"""Completeness, SciPy's correlation, the arcsine law by simulation, both gradients from differences, and limits."""

import numpy as np
import pytest
from scipy import special, stats

from trref.attribution.attribution_protection import (
    activation_agreement,
    attack_objective,
    cosine_penalty,
    expected_kendall,
    igr_penalty,
    integrated_gradients,
    kendall,
    top_overlap,
)
from trref.nn import mlp
from trref.problems.rows import LinearScore, RowScore


def test_numbers_by_hand():
    """Of three pairs two agree and one does not; the two largest of either share one."""
    a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]])
    assert kendall(a, b) == pytest.approx([1 / 3])
    assert top_overlap(a, b, k=1) == pytest.approx([0.0]) and top_overlap(a, b, k=2) == pytest.approx([1.0])
    value, gradient = cosine_penalty(np.array([[2.0, 0.0]]), np.array([[1.0, 1.0]]))
    assert value == pytest.approx(1 - np.sqrt(0.5))
    assert np.allclose(gradient.first, [[0.0, -np.sqrt(0.5) / 2]], rtol=1e-9)


def test_of_a_linear_score_one_point_is_enough():
    rng = np.random.default_rng(0)
    w, x, start = rng.standard_normal(4), rng.random((3, 4)), rng.random((3, 4))
    for m in (1, 7):
        assert np.allclose(integrated_gradients(LinearScore(w), x, start, points=m), w * (x - start), rtol=1e-13)


def test_completeness():
    """The entries sum to the difference of the scores; four times the points, a sixteenth of the error."""
    rng, sizes = np.random.default_rng(1), (4, 6, 3)
    score = RowScore(2 * mlp.init(rng, sizes), rng.integers(0, 3, 8), sizes)
    x, start = rng.standard_normal((2, 8, 4))
    difference = score(x)[0] - score(start)[0]
    error = [np.linalg.norm(integrated_gradients(score, x, start, points=m).sum(1) - difference) for m in (20, 80)]
    assert error[0] / error[1] == pytest.approx(16, rel=0.05) and error[1] < 1e-3


def test_kendall_with_scipy():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, (2, 5, 12)).astype(float)
    expected = [stats.kendalltau(p, q).statistic for p, q in zip(a, b, strict=True)]
    assert np.allclose(kendall(a, b), expected, rtol=1e-12)
    a, b = rng.standard_normal((2, 5, 12))
    assert np.allclose(kendall(a, b, kind="tau-a"), kendall(a, b), rtol=1e-13)


def test_the_arcsine_law():
    """40 draws of 300 pairs; the mean within 5 standard errors."""
    rng = np.random.default_rng(3)
    for rho in (-0.5, 0.3, 0.9):
        a = rng.standard_normal((40, 300))
        b = rho * a + np.sqrt(1 - rho**2) * rng.standard_normal((40, 300))
        tau = kendall(a, b)
        assert abs(tau.mean() - expected_kendall(np.array([rho]))[0]) < 5 * tau.std() / np.sqrt(40)
    assert expected_kendall(np.array([0.6]))[0] == pytest.approx(0.4097, abs=1e-4)


def test_a_length_is_free():
    """h = 2g has the same order and the same direction, at a distance of |g|."""
    g = np.random.default_rng(4).standard_normal((1, 9))
    assert kendall(g, 2 * g)[0] == 1 and cosine_penalty(g, 2 * g)[0] == pytest.approx(0, abs=1e-15)
    value, gradient = cosine_penalty(3 * g, g[:, ::-1].copy())
    assert value == pytest.approx(cosine_penalty(g, g[:, ::-1].copy())[0])
    assert (g * gradient.first).sum() == pytest.approx(0, abs=1e-14)


def test_an_attribution_of_0_has_no_direction():
    value, gradient = cosine_penalty(np.zeros((1, 3)), np.ones((1, 3)))
    assert value == 1 and not gradient.first.any() and not gradient.second.any()


def _network(seed=5, N=4, H=5, D=3, K=3):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.3, 1, (N, D))
    given = {"U": rng.standard_normal((H, D)), "bias": rng.standard_normal(H), "head": rng.standard_normal((K, H))}
    return {**given, "x": x, "moved": x + 0.1 * rng.uniform(-1, 1, x.shape), "labels": rng.integers(0, K, N)}


def _score(given):
    """The same network with softplus units, as a function of inputs."""
    U, b, head = given["U"], given["bias"], given["head"]
    theta = np.concatenate([U.T.ravel(), b, head.T.ravel(), np.zeros(len(head))])
    return RowScore(theta, given["labels"], (U.shape[1], len(U), len(head)), "softplus")


def test_the_penalty_is_the_cosine_of_integrated_gradients():
    given = _network()
    zero = np.zeros_like(given["x"])
    maps = [integrated_gradients(_score(given), given[z], zero, points=8) for z in ("x", "moved")]
    assert igr_penalty(**given)[0] == pytest.approx(cosine_penalty(*maps)[0], rel=1e-10)
    value, _ = attack_objective(**given, loss_weight=0.0)
    assert value == pytest.approx(4 * cosine_penalty(*maps)[0], rel=1e-10)


def test_gradients_against_differences():
    given = _network(6)
    for f, names in ((igr_penalty, ("U", "bias", "head")), (attack_objective, ("moved",))):
        _, gradient = f(**given)
        for name in names:
            slope = getattr(gradient, name) if f is igr_penalty else gradient
            v = np.random.default_rng(7).standard_normal(given[name].shape)
            ends = [f(**{**given, name: given[name] + s * 1e-5 * v})[0] for s in (1, -1)]
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx((slope * v).sum(), rel=1e-6, abs=1e-9)


def test_the_attack_keeps_the_class():
    given = _network(8)
    a = given["moved"] @ given["U"].T + given["bias"]
    log_p = special.log_softmax(np.logaddexp(a, 0) @ given["head"].T, 1)[range(4), given["labels"]]
    apart = attack_objective(**given, loss_weight=0.7)[0] - attack_objective(**given, loss_weight=0.0)[0]
    assert apart == pytest.approx(0.7 * log_p.sum())


def test_where_nothing_moves_there_is_no_penalty():
    given = _network(9)
    given["moved"] = given["x"]
    value, gradient = igr_penalty(**given)
    assert value == pytest.approx(0, abs=1e-14) and all(abs(g).max() < 1e-13 for g in gradient)


def test_units_on_the_same_side():
    U, b = np.array([[1.0], [1.0], [-1.0]]), np.array([0.0, -1.0, 0.5])
    assert activation_agreement(U, b, np.array([[0.2]]), np.array([[0.8]])) == pytest.approx([2 / 3])


def test_bad_input():
    with pytest.raises(ValueError, match="rho must lie in"):
        expected_kendall(np.array([1.2]))
    given = _network(10)
    with pytest.raises(ValueError, match="labels"):
        igr_penalty(**{**given, "labels": given["labels"] + 3})
