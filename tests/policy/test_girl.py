"""Theorems and limits of girl."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from trref.policy.girl import (
    adapt_radius,
    gap_bounds,
    gated_prior_mean,
    gated_prior_pull,
    gated_prior_vjp,
    grounding_loss,
    information_gain,
    update_multiplier,
    value_gap,
    world_model_loss,
)
from trref.policy.trpo_improvement import expected_return
from trref.problems.mdp import TabularMDP, random_mdp


def _pair(seed, gamma=0.9, error=0.2):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=6, actions=3, gamma=gamma)
    other = rng.dirichlet(np.ones(6), (6, 3))
    return (
        rng.standard_normal((6, 3)),
        mdp,
        dataclasses.replace(mdp, transition=(1 - error) * mdp.transition + error * other),
    )


def test_the_gap_by_hand():
    """One state that pays 1 and stays, or in the model leaves for nothing half of the time; γ = 0.5: 2 - 4/3."""
    stay = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    leave = np.array([[[0.5, 0.5]], [[0.0, 1.0]]])
    reward, start = np.array([[1.0], [0.0]]), np.array([1.0, 0.0])
    gap = value_gap(np.zeros((2, 1)), TabularMDP(stay, reward, start, 0.5), TabularMDP(leave, reward, start, 0.5))
    assert gap == pytest.approx(2 - 4 / 3)


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", range(10))
def test_the_gap_is_exact_and_within_its_bounds(seed, gamma):
    """Against the two returns; Pinsker's is looser than the variation's, the classical one than the largest of them."""
    z, mdp, model = _pair(seed, gamma, error=[0.02, 0.2, 0.9][seed % 3])
    gap = value_gap(z, mdp, model)
    assert gap == pytest.approx(float(expected_return(z, model)[0] - expected_return(z, mdp)[0]), abs=1e-10)
    bounds = gap_bounds(z, mdp, model)
    assert abs(gap) <= bounds.variation + 1e-12 and bounds.variation <= bounds.pinsker + 1e-12
    assert bounds.variation <= bounds.classical * (1 + 1e-12)


def test_a_process_is_its_own_model():
    z, mdp, _ = _pair(0)
    assert value_gap(z, mdp, mdp) == 0
    assert [float(b) for b in gap_bounds(z, mdp, mdp)] == [0, 0, 0]


def test_what_stays_informative():
    """From γ = 0.9 to 0.999 the bound by the span keeps its ratio to the gap; the classical one loses 100 times."""
    ratios = {}
    for gamma in (0.9, 0.999):
        each = []
        for seed in range(30):
            z, mdp, model = _pair(seed, gamma)
            bounds = gap_bounds(z, mdp, model)
            each.append((float(abs(value_gap(z, mdp, model))), float(bounds.variation), float(bounds.classical)))
        gap, variation, classical = np.mean(each, 0)
        ratios[gamma] = variation / gap, classical / gap
    assert ratios[0.999][0] < 2 * ratios[0.9][0] and ratios[0.999][1] > 50 * ratios[0.9][1]


def _prior(bias):
    rng = np.random.default_rng(1)
    return {
        "embedding": rng.standard_normal((4, 3)),
        "base_mean": rng.standard_normal((4, 2)),
        "features": rng.standard_normal((4, 5)),
        "projection": rng.standard_normal((3, 2)),
        "gate": 0.1 * rng.standard_normal((2, 8)),
        "gate_bias": np.full(2, bias),
    }


def test_the_gate():
    """Shut it leaves the base, open it adds the whole projection, and in between the logistic share of it."""
    shut, opened, half = (_prior(b) for b in (-60.0, 60.0, 0.0))
    assert np.allclose(gated_prior_mean(**shut), shut["base_mean"], atol=1e-15, rtol=1e-9)
    whole = opened["embedding"] @ opened["projection"]
    assert np.allclose(gated_prior_mean(**opened), opened["base_mean"] + whole, rtol=1e-9, atol=1e-12)
    x = np.concatenate([half["features"], half["embedding"]], 1) @ half["gate"].T
    assert np.allclose(gated_prior_mean(**half), half["base_mean"] + whole / (1 + np.exp(-x)), rtol=1e-9, atol=1e-12)


def test_the_gate_backwards_by_differences():
    inputs, v = _prior(0.3), np.random.default_rng(2).standard_normal((4, 2))
    pulled = gated_prior_vjp(**inputs, cotangent=v)
    for at in np.ndindex(4, 3):
        values = []
        for e in (1e-6, -1e-6):
            moved = inputs["embedding"].copy()
            moved[at] += e
            values.append((v * gated_prior_mean(**inputs | {"embedding": moved})).sum())
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(pulled[at], abs=1e-8)


def test_the_gate_learns_by_differences():
    """In every parameter of the gate, and in what the dynamics say."""
    inputs, v = _prior(0.3), np.random.default_rng(4).standard_normal((4, 2))
    value, gradient = gated_prior_pull(**inputs, cotangent=v)
    assert value == pytest.approx((v * gated_prior_mean(**inputs)).sum(), rel=1e-12)
    for name, slope in gradient._asdict().items():
        for at in np.ndindex(slope.shape):
            values = []
            for e in (1e-6, -1e-6):
                moved = inputs[name].copy()
                moved[at] += e
                values.append((v * gated_prior_mean(**inputs | {name: moved})).sum())
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope[at], abs=1e-8)


def test_what_comes_back_through_a_shut_gate():
    """Only the base's part; and with no embedding there is nothing to open the gate for."""
    shut, v = _prior(-60.0), np.ones((4, 2))
    gradient = gated_prior_pull(**shut, cotangent=v)[1]
    assert (gradient.base_mean == v).all()
    assert max(abs(x).max() for x in gradient[1:]) < 1e-20
    none = _prior(0.3) | {"embedding": np.zeros((4, 3))}
    assert not any(x.any() for x in gated_prior_pull(**none, cotangent=v)[1][1:])


def test_the_best_projector_is_least_squares():
    rng = np.random.default_rng(3)
    z, c = rng.standard_normal((20, 3)), rng.standard_normal((20, 4))
    best = np.linalg.lstsq(z, c, rcond=None)[0]
    loss, gradient = grounding_loss(z, best, c)
    assert np.abs(gradient.projector).max() < 1e-12 and loss == pytest.approx(((c - z @ best) ** 2).sum() / 20)


def test_the_divergence_is_that_of_gaussians():
    """Against a sample mean of log q - log p of 200,000 draws, to five standard errors."""
    rng = np.random.default_rng(4)
    one = np.ones((1, 1))
    q, p = (0.5, math.log(0.6)), (-0.25, math.log(1.5))
    loss, _ = world_model_loss(0 * one, *(v * one for v in (*q, *p)), 0 * one, beta=2.0, radius=0.3)
    x = q[0] + math.exp(q[1]) * rng.standard_normal(200_000)
    ratio = stats.norm.logpdf(x, q[0], math.exp(q[1])) - stats.norm.logpdf(x, p[0], math.exp(p[1]))
    error = 2 * ratio.std() / math.sqrt(len(x))
    assert loss == pytest.approx(2 * (ratio.mean() - 0.3), abs=5 * error)


def test_the_multiplier_finds_the_radius():
    """Posterior means of unit Gaussians around targets of ±3, prior 0: alternating steps end at KL = δ."""
    target, mean, beta = np.array([[3.0], [-3.0]]), np.zeros((2, 1)), np.array(1.0)
    zero = 0 * mean
    for _ in range(20_000):
        _, gradient = world_model_loss(mean, mean, zero, zero, zero, target, beta=float(beta), radius=0.5)
        mean = mean - 0.05 * (gradient.reconstruction + gradient.mean)
        beta = update_multiplier(beta, (mean**2).sum(1) / 2, radius=0.5, lr=0.01)
    assert (mean**2).mean() / 2 == pytest.approx(0.5, abs=1e-4) and beta == pytest.approx(2.0, abs=1e-3)
    for _ in range(3000):
        beta = update_multiplier(beta, np.array([0.1]), radius=0.5, lr=0.01)
    assert beta < 1e-4, "where the radius does not bind, the multiplier goes"


def test_information():
    """0 where all agree, by the entropies of SciPy where they do not, and an upper bound of the mutual information."""
    same = np.zeros((3, 2, 2))
    assert information_gain(same + 1.5, same - 0.3) == pytest.approx(np.zeros(2), abs=1e-15)
    m, s = np.array([0.0, 2.0]), np.array([1.0, 0.5])
    gain = information_gain(m.reshape(2, 1, 1), np.log(s).reshape(2, 1, 1))[0]
    mixed = math.sqrt(m.var() + (s**2).mean())
    assert gain == pytest.approx(stats.norm(0, mixed).entropy() - np.mean([stats.norm(0, x).entropy() for x in s]))
    rng = np.random.default_rng(5)
    k = rng.integers(0, 2, 100_000)
    x = m[k] + s[k] * rng.standard_normal(len(k))
    each = np.stack([stats.norm.logpdf(x, *pair) for pair in zip(m, s, strict=True)])
    mutual = (each[k, np.arange(len(k))] - np.log(np.exp(each).mean(0))).mean()
    assert 0.1 < mutual < gain


def test_the_radius():
    args = [np.array([0.5, 0.7]), np.array([2.0, 2.0]), np.array([1.0, 3.0])]
    assert adapt_radius(np.array(1.0), *args) == pytest.approx(1.06), "nothing was promised too much"
    args[1] = args[1] + 1
    assert adapt_radius(np.array(1.0), *args) == pytest.approx(1.0 + 0.1 * (0.6 - 0.5), abs=1e-6)
    assert adapt_radius(np.array(0.1), 0 * args[0], *args[1:]) == 0.1


def test_refused():
    z, mdp, model = _pair(1)
    with pytest.raises(ValueError, match="model"):
        value_gap(z, mdp, dataclasses.replace(model, gamma=0.5))
    inputs = _prior(0.0)
    with pytest.raises(ValueError, match="gate"):
        gated_prior_mean(**inputs | {"gate": inputs["gate"][:, :5]})
    with pytest.raises(ValueError, match="smallest"):
        adapt_radius(np.array(1.0), np.ones(1), np.ones(1), np.ones(1), smallest=20.0)
