"""Logits by angles, invariances, means over drawn margins, and the cases in which the released code differs."""

import numpy as np
import pytest
from scipy import special

from trref.adversarial.elasticface import elastic_margins, elastic_objective, margin_objective, target_cosines


def _faces(seed=0, N=7, K=3, D=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, D)), rng.standard_normal((K, D)), rng.integers(0, K, N), rng


def _by_angles(x, w, y, m, scale, kind):
    """The loss with arccos and log-sum-exp."""
    c = (x / np.linalg.norm(x, axis=1)[:, None]) @ (w / np.linalg.norm(w, axis=1)[:, None]).T
    z, rows = scale * c, np.arange(len(y))
    t = c[rows, y]
    z[rows, y] = scale * (np.cos(np.arccos(t) + m) if kind == "arc" else t - m)
    return (special.logsumexp(z, axis=1) - z[rows, y]).mean()


def test_losses_by_angles():
    x, w, y, rng = _faces()
    m = rng.uniform(0.1, 0.6, 7)
    for kind in ("arc", "cos"):
        value, _ = margin_objective(x, w, y, m, scale=10.0, kind=kind)
        assert value == pytest.approx(_by_angles(x, w, y, m, 10.0, kind), rel=1e-12)


def test_two_classes_by_hand():
    """x at 60 degrees from its centre, at right angles to the other; a margin of 30 degrees makes both logits 0."""
    x, w = np.array([[0.5, np.sqrt(0.75)]]), np.array([[1.0, 0.0], [np.sqrt(0.75), -0.5]])
    value, _ = margin_objective(x, w, np.array([0]), np.array([np.pi / 6]), scale=3.0)
    assert value == pytest.approx(np.log(2))


def test_only_directions_count():
    x, w, y, rng = _faces(1)
    m = rng.uniform(0.1, 0.6, 7)
    value, gradient = margin_objective(x, w, y, m, scale=8.0)
    longer, _ = margin_objective(3 * x, w * np.array([[0.5], [2.0], [7.0]]), y, m, scale=8.0)
    assert longer == pytest.approx(value)
    assert np.allclose((x * gradient.embeddings).sum(1), 0, atol=1e-14, rtol=1e-9)
    assert np.allclose((w * gradient.centres).sum(1), 0, atol=1e-13, rtol=1e-9)


def test_a_larger_margin_is_a_larger_loss():
    """Of cosines always, of angles as long as angle and margin are below pi."""
    x, w, y, _ = _faces(2)
    angle = np.arccos(target_cosines(x, w, y))
    for kind in ("arc", "cos"):
        below = angle < np.pi - 0.6 if kind == "arc" else angle > 0
        values = [
            margin_objective(x[below], w, y[below], np.full(below.sum(), m), scale=8.0, kind=kind)[0]
            for m in np.linspace(0, 0.6, 7)
        ]
        assert (np.diff(values) > 0).all()


def test_beyond_pi_the_logit_rises_again_unless_guarded():
    x, w, y = np.array([[-1.0, 0.2]]), np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0])
    values = {
        guard: [margin_objective(x, w, y, np.array([m]), scale=8.0, guard=guard)[0] for m in (0.3, 0.8)]
        for guard in (False, True)
    }
    assert values[False][1] < values[False][0] and values[True][1] > values[True][0]
    c = -1 / np.sqrt(1.04)
    z = 8 * np.array([c - 0.8 * np.sin(0.8), 0.2 / np.sqrt(1.04)])
    assert values[True][1] == pytest.approx(special.logsumexp(z) - z[0])


def test_at_the_centre_itself_the_gradient_is_finite():
    x, w = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    value, gradient = margin_objective(x, w, np.array([0, 0]), np.array([0.5, 0.5]), scale=8.0)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradient)


def test_a_short_scale_leaves_the_classes_alike():
    x, w, y, _ = _faces(3)
    assert margin_objective(x, w, y, np.full(7, 0.5), scale=1e-9)[0] == pytest.approx(np.log(3))


def test_margins_by_hand():
    """Draws 1, -1, 0 of margin 0.5 + 0.1 e; the nearest, the second, gets the smallest, the farthest the largest."""
    noise, cosines = np.array([1.0, -1.0, 0.0]), np.array([0.2, 0.9, 0.5])
    assert np.allclose(elastic_margins(cosines, noise, std=0.1), [0.6, 0.4, 0.5], rtol=1e-9)
    assert np.allclose(elastic_margins(cosines, noise, std=0.1, matched=True), [0.6, 0.4, 0.5], rtol=1e-9)
    cosines = np.array([0.9, 0.2, 0.5])
    assert np.allclose(elastic_margins(cosines, noise, std=0.1, matched=True), [0.4, 0.6, 0.5], rtol=1e-9)


def test_means_over_draws():
    """The mean logit of an angle is shrunk; the mean loss is at least that of the mean logit. 4,000 draws, 5 errors."""
    x, w, y, rng = _faces(4)
    how = {"scale": 8.0, "mean": 0.4, "std": 0.3}
    noise = rng.standard_normal((4000, 7))
    angle = np.arccos(target_cosines(x, w, y))
    drawn = np.cos(angle + 0.4 + 0.3 * noise)
    error = 5 * drawn.std(0) / np.sqrt(4000)
    assert (abs(drawn.mean(0) - np.exp(-0.045) * np.cos(angle + 0.4)) < error).all()
    losses = np.array([float(elastic_objective(x, w, y, e, kind="cos", **how)[0]) for e in noise])
    fixed = margin_objective(x, w, y, np.full(7, 0.4), scale=8.0, kind="cos")[0]
    assert losses.mean() > fixed - 5 * losses.std() / np.sqrt(4000)
    shrunk = np.arccos(np.exp(-0.045) * np.cos(angle + 0.4)) - angle
    losses = np.array([float(elastic_objective(x, w, y, e, **how)[0]) for e in noise])
    middle = margin_objective(x, w, y, shrunk, scale=8.0)[0]
    assert losses.mean() > middle - 5 * losses.std() / np.sqrt(4000)


def test_bad_input():
    x, w, y, _ = _faces(5)
    with pytest.raises(ValueError, match="embeddings must not have a row of 0"):
        margin_objective(0 * x, w, y, np.zeros(7))
    with pytest.raises(ValueError, match="centres must not have a row of 0"):
        target_cosines(x, 0 * w, y)
    with pytest.raises(ValueError, match="labels"):
        target_cosines(x, w, y + 3)
