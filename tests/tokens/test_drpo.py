"""DPPO, SPO and DRPO: weights, optima, limits, and what connects them with other members of the family."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, rel_entr

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.bandpo import bandpo
from trref.tokens.drpo import dppo, dppo_measured, drpo, drpo_weight, keep_mask, spo
from trref.tokens.reduced_divergences import binary_rows, top_k_mask, top_k_rows
from trref.tokens.terms import logit_gradient


def _one(f, pi, mu, A, **hyper):
    """Loss and coefficient of a single token."""
    loss, gradient = f(np.log([[pi]]), np.log([[mu]]), np.array([float(A)]), np.ones((1, 1)), max_length=1, **hyper)
    return float(-loss), float(-gradient[0, 0])


# ---- DPPO


@pytest.mark.parametrize(
    ("pi", "mu", "A", "kept"),
    [(0.4, 0.2, 1, 0), (0.3, 0.2, 1, 1), (0.01, 0.001, 1, 1), (0.2, 0.4, 1, 1), (0.2, 0.4, -1, 0), (0.4, 0.2, -1, 1)],
)
def test_masked_only_in_the_harmful_direction(pi, mu, A, kept):
    value, coefficient = _one(dppo, pi, mu, A)
    assert value == pytest.approx(kept * A * pi / mu) and coefficient == pytest.approx(kept * A * pi / mu)


def test_binary_divergences():
    pi, mu = np.array([0.2, 0.6, 0.05]), np.array([0.5, 0.55, 0.3])
    assert binary_rows(np.log(pi), np.log(mu), "total_variation")[0] == pytest.approx(abs(pi - mu))
    kl = rel_entr(mu, pi) + rel_entr(1 - mu, 1 - pi)
    assert binary_rows(np.log(pi), np.log(mu), "forward_kl")[0] == pytest.approx(kl)


def test_a_divergence_of_the_radius_is_kept():
    old, D, A = np.full((1, 1), -1.0), np.full((1, 1), 0.3), np.ones(1)
    assert keep_mask(old + 0.1, old, A, D, radius_high=0.3) == 1
    assert keep_mask(old + 0.1, old, A, np.nextafter(D, 1), radius_high=0.3) == 0


def test_radii_of_both_signs():
    for radius_low, radius_high, expected in ((0.1, 0.3, (1, 0)), (0.3, 0.1, (0, 1)), (0.3, 0.3, (1, 1))):
        kept = [
            abs(_one(dppo, pi, mu, A, radius_low=radius_low, radius_high=radius_high)[1]) > 0
            for pi, mu, A in ((0.4, 0.2, 1), (0.2, 0.4, -1))
        ]
        assert tuple(map(int, kept)) == expected


def test_truncated_ratio():
    """Value and coefficient meet at C and part above: C (1 + log 1.5) against C."""
    value, coefficient = _one(dppo, 0.03, 0.01, 1, bound=2.0)
    assert value == pytest.approx(2 * (1 + math.log(1.5))) and coefficient == pytest.approx(2.0)
    assert _one(dppo, 0.02, 0.01, 1, bound=2.0) == pytest.approx((2.0, 2.0))


def test_measured_divergence():
    """The top-K total variation is at least that of the sampled token, so that more tokens are dropped."""
    rng = np.random.default_rng(1)
    old, new = (log_softmax(rng.standard_normal((6, 4, 30)), -1) for _ in range(2))
    actions = rng.integers(0, 30, (6, 4))
    args = [np.take_along_axis(x, actions[..., None], 2)[..., 0] for x in (new, old)] + [
        rng.standard_normal(6),
        np.ones((6, 4)),
    ]
    top = top_k_rows(new, old, top_k_mask(old, actions, 20), "total_variation")[0]
    own = abs(np.exp(args[0]) - np.exp(args[1]))
    assert (top >= own - 1e-15).all()
    dropped = [
        (dppo_measured(*args, d, max_length=4, radius_low=0.3, radius_high=0.3)[1] == 0).sum() for d in (own, top)
    ]
    assert dropped[0] < dropped[1]


def test_the_band_of_bandpo_is_the_same_radius():
    """|pi - mu| <= delta and |rho - 1| <= delta / mu: the same tokens are dropped, and equal gradients left."""
    log_prob, old, advantage, _ = token_batch(2)
    mask = np.ones_like(old)
    ours = dppo(log_prob, old, advantage, mask, max_length=5, radius_low=0.1, radius_high=0.1, bound=1e14)[1]
    band = bandpo(log_prob, old, advantage, mask, radius=0.1, ball="total_variation", cap=1e14)[1]
    assert np.allclose(ours, band, rtol=1e-12) and 0 < (ours == 0).sum() < ours.size


# ---- SPO and DRPO


@pytest.mark.parametrize("mu", [0.001, 0.2, 0.7, 0.95])
@pytest.mark.parametrize("A", [1.5, -0.7])
def test_optimum_of_one_probability(mu, A):
    delta = 0.2
    found = minimize_scalar(
        lambda p: -_one(drpo, p, mu, A, radius=delta)[0],
        bounds=(1e-9, 1 - 1e-9),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found.x == pytest.approx(min(max(mu + math.copysign(delta, A), 0), 1), abs=1e-6)


def test_weights():
    rng = np.random.default_rng(3)
    pi, mu, A = rng.random((1, 500)), rng.random((1, 500)), rng.standard_normal((1, 500))
    for delta in (0.1, 12.5):
        w = drpo_weight(np.log(pi), np.log(mu), A, radius=delta)
        assert w == pytest.approx(1 - np.sign(A) * (pi - mu) / delta) and (abs(w - 1) <= 1 / delta).all()
        mirrored = drpo_weight(np.log(pi), np.log(mu), -A, radius=delta)
        assert w + mirrored == pytest.approx(np.full((1, 500), 2.0))
    released = drpo_weight(np.log(pi), np.log(mu), A)
    assert (abs(released - 1) <= 0.08).all(), "the released radius does next to nothing"
    assert (drpo_weight(np.log(mu), np.log(mu), A, radius=0.1) == 1).all()


def test_spo_has_no_bound():
    weights = [_one(spo, 0.1, mu, 1.0)[1] / (0.1 / mu) for mu in (1e-2, 1e-4, 1e-6)]
    assert weights == pytest.approx([1 - (0.1 / mu - 1) / 0.2 for mu in (1e-2, 1e-4, 1e-6)])
    assert weights[-1] < -1e5


def test_across_the_boundary():
    """DPPO jumps from 1 to 0; DRPO passes 0 with slope -1/delta and turns corrective."""
    mu, delta = 0.3, 0.1
    pi = np.array([0.39999, 0.40001, 0.45])
    dppo_w = [_one(dppo, p, mu, 1, radius_high=delta)[1] / (p / mu) for p in pi]
    drpo_w = [_one(drpo, p, mu, 1, radius=delta)[1] / (p / mu) for p in pi]
    assert dppo_w == pytest.approx([1, 0, 0]) and drpo_w == pytest.approx([1e-4, -1e-4, -0.5], abs=1e-9)
    assert (drpo_w[1] - drpo_w[0]) / (pi[1] - pi[0]) == pytest.approx(-1 / delta)


def test_no_advantage_no_pull():
    """Unlike R2VPO's brake."""
    log_prob, old, _, mask = token_batch(6)
    for f in (spo, drpo):
        assert not f(log_prob, old, np.zeros(8), mask, max_length=5)[1].any()


def test_penalties_in_the_mean():
    rng = np.random.default_rng(7)
    pi, mu = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(9))
    assert mu @ (mu * (pi / mu - 1) ** 2) == pytest.approx(((pi - mu) ** 2).sum())
    delta, A = 0.25, 1.0
    mean = sum(m * (_one(drpo, p, m, A, radius=delta)[0] - A * p / m) for p, m in zip(pi, mu, strict=True))
    assert mean == pytest.approx(-((pi - mu) ** 2).sum() / (2 * delta))


@pytest.mark.parametrize("f", [spo, drpo])
def test_smooth_in_the_logits(f):
    rng = np.random.default_rng(8)
    logits, actions = rng.standard_normal((3, 4, 5)), rng.integers(0, 5, (3, 4))
    _, old, advantage, mask = token_batch(8, B=3, T=4)

    def log_prob(z):
        return np.take_along_axis(log_softmax(z, -1), actions[..., None], 2)[..., 0]

    gradient = logit_gradient(logits, actions, f(log_prob(logits), old, advantage, mask, max_length=4)[1])
    check_gradient(lambda z: f(log_prob(z), old, advantage, mask, max_length=4)[0], logits, gradient, rng=rng)


def test_deviations_where_they_agree():
    batch = token_batch(9)
    ours = dppo(*batch, max_length=5)
    by_name = {d.name: d.f for d in find("drpo.dppo").deviations}
    log_form = next(f for name, f in by_name.items() if "log-probability" in name)(*batch, max_length=5)
    mean = next(f for name, f in by_name.items() if "mean" in name)(*batch)
    assert np.allclose(log_form[1], ours[1], rtol=1e-12) and abs(log_form[0] - ours[0]) > 1e-3
    assert np.allclose(mean[1] * batch[3].sum(), ours[1] * 8 * 5, rtol=1e-12)
    (clamped,) = find("drpo.drpo").deviations
    assert np.allclose(clamped.f(*batch, max_length=5)[1], drpo(*batch, max_length=5)[1], rtol=1e-12)
