"""The band against constrained optimisers, its limits and monotonicity; the loss against GRPO and DAPO."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import brentq, linprog, minimize
from scipy.special import log_softmax

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.tokens.bandpo import band, bandpo
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.f_divergences import divergence_rows
from trref.tokens.reduced_divergences import binary_rows

Q = np.array([0.08, 0.5, 0.3, 0.1, 0.02])


def _band(p, **hyper):
    lower, upper = band(np.log(np.atleast_2d(p)), **{"cap": 1e14, **hyper})
    return lower[0], upper[0]


def test_published_values():
    """Radius 0.05 of the Kullback-Leibler divergence."""
    p = np.array([0.01, 0.08, 0.2, 0.5, 0.9, 0.99])
    lower, upper = _band(p)
    assert lower == pytest.approx([0.0025, 0.262, 0.476, 0.692, 0.867, 0.931], abs=6e-4)
    assert upper == pytest.approx([7.81, 2.41, 1.72, 1.31, 1.076, 1.010], abs=6e-3)


@pytest.mark.parametrize("kind", ["forward_kl", "pearson"])
@pytest.mark.parametrize("token", [0, 1, 4])
def test_against_constrained_optimisation(kind, token):
    """Over all distributions in the ball, not only those that scale the other tokens alike."""
    log_q, delta = np.log(Q), 0.05
    lower, upper = _band(Q[token], ball=kind, radius=delta)

    def inside(z):
        d = log_softmax(z) - log_q
        return delta - float(Q @ (-d if kind == "forward_kl" else np.expm1(d) ** 2))

    for sign, bound in ((-1, upper[0]), (1, lower[0])):
        found = minimize(
            lambda z, s=sign: s * math.exp(log_softmax(z)[token]) / Q[token],
            log_q + 1e-2 * np.random.default_rng(token).standard_normal(5),
            method="SLSQP",
            constraints={"type": "ineq", "fun": inside},
            options={"ftol": 1e-13, "maxiter": 500},
        )
        assert found.success and sign * found.fun == pytest.approx(bound, abs=2e-6)


@pytest.mark.parametrize("token", range(5))
@pytest.mark.parametrize("delta", [0.01, 0.05, 0.4])
def test_total_variation_is_a_linear_programme(token, delta):
    """Variables: the distribution, and bounds of its distances from q, of sum at most 2 delta."""
    lower, upper = _band(Q[token], ball="total_variation", radius=delta)
    n, identity = len(Q), np.eye(len(Q))
    A = np.block([[identity, -identity], [-identity, -identity], [np.zeros((1, n)), np.ones((1, n))]])
    b = np.concatenate([Q, -Q, [2 * delta]])
    for sign, bound in ((-1, upper[0]), (1, lower[0])):
        cost = np.zeros(2 * n)
        cost[token] = sign / Q[token]
        found = linprog(cost, A, b, np.concatenate([np.ones(n), np.zeros(n)])[None], [1.0], bounds=(0, None))
        assert sign * found.fun == pytest.approx(bound, abs=1e-9)


@pytest.mark.parametrize("kind", ("forward_kl", "total_variation", "pearson"))
@pytest.mark.parametrize("delta", [1e-3, 0.05, 0.7])
def test_the_divergence_at_the_bounds_is_the_radius(kind, delta):
    p = np.linspace(0.02, 0.98, 25)
    lower, upper = _band(p, ball=kind, radius=delta)
    assert kind != "forward_kl" or (lower > 0).all(), "the Kullback-Leibler bound never saturates"
    for ratio, end in ((lower, 0), (upper, 1 / p)):
        free = abs(ratio - end) > 1e-9 * (1 + abs(end))
        g = binary_rows(np.log(ratio[free] * p[free]), np.log(p[free]), kind)[0]
        assert g == pytest.approx(np.full(len(g), delta), rel=1e-9)


def test_saturated_exactly_where_the_end_is_inside():
    p, radius = np.linspace(0.01, 0.99, 197), 0.0975  # at no p an end lies on the ball
    for kind, top, bottom in (("total_variation", 1 - p, p), ("pearson", (1 - p) / p, p / (1 - p))):
        lower, upper = _band(p, ball=kind, radius=radius)
        assert np.array_equal(np.isclose(upper, 1 / p, rtol=1e-12), top < radius)
        assert np.array_equal(lower == 0, bottom < radius)


@pytest.mark.parametrize("delta", [1e-12, 1e-6, 0.05, 2.0, 1e3])
def test_roots_of_small_and_large_balls(delta):
    for p in (1e-6, 0.003, 0.4, 0.997):
        lower, upper = _band(p, radius=delta)

        def g(x, p=p):
            return -p * x - (1 - p) * math.log1p(-p * math.expm1(x) / (1 - p)) - delta

        least = (delta - (1 - p) * math.log1p(-p)) / p
        root = brentq(g, -least - 1e-9 * least, -1e-14, xtol=1e-300, rtol=1e-14)
        assert lower[0] == pytest.approx(math.exp(root), rel=1e-8 if delta > 1e-9 else 1e-3, abs=1e-15)
        assert 1 - lower[0] == pytest.approx(-math.expm1(root), rel=1e-4)
        assert 1 <= upper[0] <= 1 / p * (1 + 1e-12)


@pytest.mark.parametrize("kind", ("forward_kl", "total_variation", "pearson"))
@pytest.mark.parametrize("delta", [0.01, 0.3])
def test_a_policy_in_the_ball_is_within_every_band(kind, delta):
    """The theorem: random policies, moved until their divergence is the radius."""
    rng = np.random.default_rng(0)
    lower, upper = _band(Q, ball=kind, radius=delta)
    closest = np.inf
    for _ in range(300):
        direction = rng.dirichlet(np.full(5, 0.3)) - Q

        def policy(h, direction=direction):
            return np.log(np.maximum(Q + h * direction, 1e-300))

        def excess(h, policy=policy):
            return float(divergence_rows(policy(h), np.log(Q), kind)[0]) - delta

        h = 1 - 1e-9 if excess(1 - 1e-9) < 0 else brentq(excess, 1e-9, 1 - 1e-9, xtol=1e-14)
        ratio = np.exp(policy(h)) / Q
        assert (ratio >= lower - 1e-9).all() and (ratio <= upper + 1e-9).all()
        closest = min(closest, (upper - ratio).min())
    assert closest < 0.05, "some come close to the bound"


@pytest.mark.parametrize("kind", ["forward_kl", "pearson"])
@pytest.mark.parametrize("side", [0, 1])
def test_the_bounds_move_with_the_radius(kind, side):
    """By the implicit function theorem d log r / d delta is 1 over the slope of the divergence in log r."""
    p, h = np.linspace(0.2, 0.8, 7), 1e-5
    ahead, here, behind = (np.log(_band(p, radius=0.05 + d, ball=kind)[side]) for d in (h, 0.0, -h))
    slope = binary_rows(here + np.log(p), np.log(p), kind)[1]
    assert (ahead - behind) / (2 * h) == pytest.approx(1 / slope, rel=1e-6)


def test_limits_in_p():
    delta = 0.05
    for kind, limit in (("forward_kl", math.exp(-delta)), ("total_variation", 1 - delta), ("pearson", 1.0)):
        lower, upper = band(np.array([[-1e-12]]), radius=delta, ball=kind)
        assert lower[0, 0] == pytest.approx(limit, abs=1e-5) and upper[0, 0] == pytest.approx(1, abs=1e-9)
        lower, upper = band(np.array([[-18.0]]), radius=delta, ball=kind, cap=1e14)
        assert lower[0, 0] < 1e-6 and upper[0, 0] > 500
    p = 0.004
    assert math.log(_band(p)[0][0]) == pytest.approx(-delta / p - 1, abs=0.01)


def test_small_balls_are_quadratic():
    p = np.array([0.05, 0.3, 0.8])
    for delta in (1e-6, 1e-8):
        lower, upper = _band(p, radius=delta)
        width = np.sqrt(2 * delta * (1 - p) / p)
        assert upper - 1 == pytest.approx(width, rel=0.02) and 1 - lower == pytest.approx(width, rel=0.02)


@pytest.mark.parametrize("kind", ("forward_kl", "total_variation", "pearson"))
def test_monotone_in_p_and_nested_in_the_radius(kind):
    p = np.linspace(0.002, 0.998, 400)
    bounds = [_band(p, radius=d, ball=kind) for d in (0.01, 0.05, 0.2)]
    for lower, upper in bounds:
        assert (np.diff(lower) >= -1e-12).all() and (np.diff(upper) <= 1e-12).all()
        assert (lower >= 0).all() and (lower <= 1).all() and (upper >= 1).all() and (upper <= 1 / p + 1e-12).all()
    for (inner, inner_upper), (outer, outer_upper) in itertools.pairwise(bounds):
        assert (outer <= inner).all() and (outer_upper >= inner_upper).all()


def test_the_band_depends_on_nothing_but_p():
    """Scaling the other tokens alike reaches the bound, whatever their probabilities."""
    lower, upper = _band(0.08)
    for seed in range(5):
        others = 0.92 * np.random.default_rng(seed).dirichlet(np.ones(6))
        q = np.append(0.08, others)
        for ratio in (lower[0], upper[0]):
            new = np.append(0.08 * ratio, others * (1 - 0.08 * ratio) / 0.92)
            assert divergence_rows(np.log(new), np.log(q), "forward_kl")[0] == pytest.approx(0.05, rel=1e-9)


def test_within_every_band_and_outside_the_ball():
    """Necessary, not sufficient."""
    q = np.full(4, 0.25)
    p = np.array([0.36, 0.36, 0.14, 0.14])
    lower, upper = _band(q)
    assert (p / q > lower).all() and (p / q < upper).all()
    assert divergence_rows(np.log(p), np.log(q), "forward_kl")[0] > 1.5 * 0.05


def test_the_cap():
    assert _band(1e-4, cap=10.0)[1][0] == 10 and _band(1e-4, cap=100.0)[1][0] == 100
    assert _band(0.5, cap=10.0)[1][0] < 1.4


def test_deviation_at_the_ends_is_harmless():
    (ends,) = find("bandpo.band").deviations
    log_p = np.log(np.array([[1e-9, 1e-7, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-4]])), np.array([[-1e-8, -3e-7]])
    for x in log_p:
        for ours, theirs in zip(band(x), ends.f(x), strict=True):
            assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert ends.f(np.array([[-5e-5]]))[1] == pytest.approx(math.exp(5e-5), abs=1e-15), "declared saturated"


# ---- the loss


def test_loss_by_hand():
    """p = 0.2 under total variation 0.05: [0.75, 1.25]; p = 0.5: [0.9, 1.1]."""
    old = np.log([[0.2, 0.5], [0.2, 0.5]])
    ratio = np.array([[1.3, 1.05], [0.7, 0.95]])
    hyper = {"ball": "total_variation"}
    loss, gradient = bandpo(old + np.log(ratio), old, np.array([1.0, -1.0]), np.ones((2, 2)), **hyper)
    assert loss == pytest.approx(-(1.25 + 1.05 - 0.75 - 0.95) / 4)
    assert gradient == pytest.approx(np.array([[0, -1.05], [0, 0.95]]) / 4)


def test_clipped_only_outside_the_band():
    log_prob, old, advantage, _ = token_batch(0, spread=0.8)
    mask = np.ones_like(old)
    _, gradient = bandpo(log_prob, old, advantage, mask, radius=0.1)
    lower, upper = band(old, radius=0.1)
    ratio, A = np.exp(log_prob - old), np.broadcast_to(advantage[:, None], old.shape)
    dropped = ((A > 0) & (ratio > upper)) | ((A < 0) & (ratio < lower))
    assert 0 < dropped.sum() < dropped.size and np.array_equal(gradient == 0, dropped)
    assert np.allclose(gradient[~dropped], (-ratio * A / old.size)[~dropped], rtol=1e-9)


def test_relaxed_it_is_never_tighter_than_clip_higher():
    batch = token_batch(1, spread=0.8)
    relax, dapo = {"relax_low": 0.2, "relax_high": 0.28}, dapo_over_batch(*batch)
    dropped = [(bandpo(*batch, radius=1e-3, **h)[1] == 0).sum() for h in ({}, relax)]
    assert dropped[1] < dropped[0] and dropped[1] <= (dapo[1] == 0).sum()


def test_rare_tokens_that_are_bad_are_never_clipped_under_total_variation():
    old = np.log(np.array([[0.04, 0.04]]))
    log_prob = old + np.log(np.array([[0.01, 0.5]]))
    _, gradient = bandpo(log_prob, old, np.array([-1.0]), np.ones((1, 2)), ball="total_variation")
    assert (gradient > 0).all()
