"""Theorems and limits of the drifting field policy."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import gaussian_kde

from trref.diffusion.drifting_field_policy import (
    dfp_loss,
    drift_field,
    drift_loss,
    drift_target,
    mean_shift,
    top_positives,
)


def _draw(seed, *counts, D=2):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, D)) for n in counts]


def test_numbers_by_hand():
    """From 0 with h = 1, targets at 1 and 2: weights 1 and exp(-3/2)."""
    w = np.exp(-1.5)
    shift = mean_shift(np.zeros((1, 1)), np.array([[1.0], [2.0]]), bandwidth=1.0)
    assert shift[0, 0] == pytest.approx((1 + 2 * w) / (1 + w))


@pytest.mark.parametrize("h", [0.3, 0.7, 2.0])
def test_the_field_is_a_difference_of_scores(h):
    """h² times that of SciPy's kernel densities, by central differences of their logarithms."""
    x, P, Q = _draw(0, 5, 12, 9, D=1)

    def score(sample):
        density = gaussian_kde(sample[:, 0], bw_method=h / sample[:, 0].std(ddof=1))
        ahead, behind = (density.logpdf(x[:, 0] + step) for step in (1e-5, -1e-5))
        return (ahead - behind) / 2e-5

    assert drift_field(x, P, Q, bandwidth=h)[:, 0] == pytest.approx(h**2 * (score(P) - score(Q)), abs=1e-8)


def test_in_the_plane_by_the_density_written_out():
    x, P, Q, h = *_draw(1, 4, 7, 6), 0.8

    def log_ratio(y):
        p, q = (np.log(np.exp(-((y - S) ** 2).sum(1) / (2 * h**2)).mean()) for S in (P, Q))
        return p - q

    V = drift_field(x, P, Q, bandwidth=h)
    for n, d in np.ndindex(4, 2):
        step = np.eye(2)[d] * 1e-5
        slope = (log_ratio(x[n] + step) - log_ratio(x[n] - step)) / 2e-5
        assert V[n, d] == pytest.approx(h**2 * slope, abs=1e-8)


def test_symmetries():
    """Antisymmetric; 0 for equal samples in any order; it moves along with everything; order does not matter."""
    x, P, Q = _draw(2, 6, 8, 5)
    V = drift_field(x, P, Q, bandwidth=0.5)
    assert np.allclose(V, -drift_field(x, Q, P, bandwidth=0.5), rtol=0, atol=1e-14)
    assert np.allclose(drift_field(x, P, P[::-1], bandwidth=0.5), 0, rtol=0, atol=1e-14)
    assert np.allclose(V, drift_field(x + 3, P + 3, Q + 3, bandwidth=0.5), rtol=0, atol=1e-12)
    assert np.allclose(V, drift_field(x, P[::-1], Q[::-1], bandwidth=0.5), rtol=0, atol=1e-14)
    turned = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert np.allclose(V @ turned, drift_field(x @ turned, P @ turned, Q @ turned, bandwidth=0.5), rtol=0, atol=1e-13)


def test_wide_and_narrow_kernels():
    """The difference of means, and the pull of the nearest."""
    x, P, Q = _draw(3, 6, 8, 5)
    assert np.allclose(drift_field(x, P, Q, bandwidth=1e6), P.mean(0) - Q.mean(0), rtol=0, atol=1e-9)
    nearest = P[((x[:, None] - P) ** 2).sum(2).argmin(1)]
    assert np.allclose(mean_shift(x, P, bandwidth=1e-3), nearest - x, rtol=0, atol=1e-12)


def test_actions_do_not_repel_themselves():
    """With itself among the negatives each action is its own nearest, and sees next to no others."""
    x, P = _draw(4, 6, 3)
    without = drift_field(x, P, bandwidth=0.2)
    for n in range(6):
        others = np.delete(x, n, 0)
        assert np.allclose(without[n], drift_field(x[n : n + 1], P, others, bandwidth=0.2)[0], rtol=0, atol=1e-13)
    diluted = drift_field(x, P, x, bandwidth=0.2)
    assert np.linalg.norm(without - diluted) > 0.5 * np.linalg.norm(without)


def test_the_loss_is_not_the_mean_square_of_the_field():
    """Its value is; its slope is -2V/N, and a difference that computes the field anew gives another one."""
    x, P = _draw(5, 6, 4)
    V = drift_field(x, P, bandwidth=0.6)
    loss, gradient = drift_loss(x, P, bandwidth=0.6)
    assert loss == pytest.approx((V**2).sum() / 6) and np.allclose(gradient, -V / 3, rtol=1e-13)
    direction = np.random.default_rng(0).standard_normal(x.shape)
    ahead, behind = (drift_loss(x + h * direction, P, bandwidth=0.6)[0] for h in (1e-5, -1e-5))
    assert abs((ahead - behind) / 2e-5 - (gradient * direction).sum()) > 0.05
    assert drift_loss(x, P, bandwidth=0.6, target=drift_target(x, P, bandwidth=0.6))[0] == loss


def test_the_whole_loss_is_its_terms():
    x, data, best = _draw(6, 8, 1, 4)
    parts = [drift_loss(x, y, bandwidth=0.4) for y in (data, best)]
    loss, gradient = dfp_loss(x, data, best, bandwidth=0.4, best_weight=0.3)
    assert loss == pytest.approx(parts[0][0] + 0.3 * parts[1][0])
    assert np.allclose(gradient, parts[0][1] + 0.3 * parts[1][1], rtol=1e-13)


def test_gradient_flow_lowers_the_divergence():
    """KL(q‖p) of Gaussians whose particles move by the difference of scores falls by the mean square of the field."""
    m, s, a, b = 0.7, 0.5, -0.3, 1.2  # of q and of p

    def kl(m, s):
        return np.log(b / s) + (s**2 + (m - a) ** 2) / (2 * b**2) - 0.5

    slope, constant = 1 / s**2 - 1 / b**2, a / b**2 - m / s**2  # v(x) = slope x + constant
    h = 1e-6
    change = (kl(m + h * (slope * m + constant), s * (1 + h * slope)) - kl(m, s)) / h
    assert change == pytest.approx(-((slope * s) ** 2 + (slope * m + constant) ** 2), rel=1e-5)
    q, p = (np.random.default_rng(0).standard_normal((4000, 1)) * w + c for w, c in ((s, m), (b, a)))
    V = drift_field(np.array([[0.2], [1.0]]), p, q, bandwidth=0.4)[:, 0] / 0.16
    wide = [np.sqrt(w**2 + 0.16) for w in (s, b)]  # the kernel widens both
    expected = [-(x - a) / wide[1] ** 2 + (x - m) / wide[0] ** 2 for x in (0.2, 1.0)]
    assert V == pytest.approx(expected, abs=0.25)


def test_the_target_of_the_policy():
    """On a grid of actions, π_old e^{Q/α} maximises the mean of Q less α KL(π‖π_old)."""
    rng = np.random.default_rng(7)
    old, Q, alpha = rng.dirichlet(np.ones(5)), rng.standard_normal(5), 0.6

    def loss(z):
        pi = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        return -(pi @ Q - alpha * pi @ np.log(pi / old))

    best = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    tilted = old * np.exp(Q / alpha)
    assert np.exp(best) / np.exp(best).sum() == pytest.approx(tilted / tilted.sum(), abs=1e-5)


def test_the_best_candidates():
    candidates, q = np.arange(10.0).reshape(5, 2), np.array([1.0, 3.0, 0.0, 3.0, 2.0])
    assert top_positives(candidates, q, count=3).tolist() == [[2, 3], [6, 7], [8, 9]]
    assert top_positives(candidates, q, count=1).tolist() == [[2, 3]]
    every = top_positives(candidates, q, count=9)
    assert sorted(every.tolist()) == candidates.tolist(), "all of them: the old policy itself"


def test_refused():
    x, P = _draw(8, 3, 2)
    with pytest.raises(ValueError, match="bandwidth"):
        mean_shift(x, P, bandwidth=0.0)
    with pytest.raises(ValueError, match="positives must have shape"):
        drift_field(x, P[:, :1])
    with pytest.raises(ValueError, match="target must have shape"):
        drift_loss(x, P, target=x[:2])
