"""Theorems and limits of counterpol."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.policy.counterpol import counterpol, counterpol_loss, explanation, minimal_change, sampled_loss
from trref.policy.trpo_improvement import expected_return
from trref.problems.mdp import TabularMDP, random_mdp
from trref.validate import ConvergenceWarning


def _softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def _case(seed, gamma=0.8):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=5, actions=3, gamma=gamma)
    z = rng.standard_normal((5, 3))
    return z, mdp, float(-expected_return(z, mdp)[0])


def _divergence(new, old, mdp):
    p, q = _softmax(old), _softmax(new)
    d = (1 - mdp.gamma) * mdp(p).visits
    return float(d @ (p * np.log(p / q)).sum(1))


def test_one_state_by_hand():
    """Rewards 1 and 0 of two actions, γ = 0.5: η = 2 p. At p = 1/2 with R = 2, w = 1: gap -1, ∇η = ±1/2."""
    mdp = TabularMDP(np.ones((1, 2, 1)), np.array([[1.0, 0.0]]), np.ones(1), 0.5)
    z = np.zeros((1, 2))
    loss, gradient = counterpol_loss(z, z, mdp, np.array(2.0), return_weight=1.0, kl_weight=0.3)
    assert loss == pytest.approx(1.0) and gradient == pytest.approx(np.array([[-1.0, 1.0]]))
    found = minimal_change(z, mdp, np.array(1.5))
    assert np.exp(found.log_prob) == pytest.approx(np.array([[0.75, 0.25]]))


@pytest.mark.parametrize("direction", ["ref_new", "new_ref"])
def test_the_gradient_by_differences(direction):
    """The reference's visits have sum 1, those in the return's derivative 1/(1-γ): mixing them up would show."""
    z, mdp, J = _case(0)
    ref = z + 0.5 * np.random.default_rng(1).standard_normal(z.shape)
    hyper = {"return_weight": 0.4, "kl_weight": 1.7, "scale": 1.5, "direction": direction}
    gradient = counterpol_loss(z, ref, mdp, np.array(J + 1), **hyper)[1]
    for at in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[at] = 1e-5
        up, down = (counterpol_loss(z + s, ref, mdp, np.array(J + 1), **hyper)[0] for s in (step, -step))
        assert (up - down) / 2e-5 == pytest.approx(gradient[at], abs=1e-8)
    if direction == "ref_new":
        value = 0.4 / 1.5**2 + 1.7 * _divergence(z, ref, mdp)
        assert counterpol_loss(z, ref, mdp, np.array(J + 1), **hyper)[0] == pytest.approx(value)


def test_the_target_itself_changes_nothing():
    z, mdp, J = _case(2)
    loss, gradient = counterpol_loss(z, z, mdp, np.array(J))
    assert loss == pytest.approx(0, abs=1e-20) and np.abs(gradient).max() < 1e-12
    assert counterpol(z, mdp, np.array(J)).iterations == 0
    assert np.array_equal(counterpol(z, mdp, np.array(J)).logits, z)


def test_a_far_target_is_the_penalised_return():
    """With k' = k Δ² / (2 w (R - η)) the step is that of η - k' D, whatever the numbers."""
    z, mdp, J = _case(3)
    ref, R, k = z + 0.3, J + 1e6, 0.7
    ref[:, 0] += 0.4
    step = -counterpol_loss(z, ref, mdp, np.array(R), return_weight=0.5, kl_weight=k)[1]
    _, dJ = expected_return(z, mdp)
    _, d_kl = counterpol_loss(z, ref, mdp, np.array(J), return_weight=0.0, kl_weight=1.0)
    penalty = k / (2 * 0.5 * (R - J))
    assert np.allclose(step / (2 * 0.5 * (R - J)), -dJ - penalty * d_kl, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gain", [0.5, -0.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_minimal_change_against_slsqp(seed, gain):
    """The problem as it is stated, in the logits, by a general solver."""
    z, mdp, J = _case(seed)
    found = minimal_change(z, mdp, np.array(J + gain))
    best = minimize(
        lambda x: _divergence(x.reshape(z.shape), z, mdp),
        z.ravel() + 0.01,
        method="SLSQP",
        constraints=[{"type": "eq", "fun": lambda x: -expected_return(x.reshape(z.shape), mdp)[0] - J - gain}],
        options={"ftol": 1e-12, "maxiter": 300},
    )
    assert found.converged and -expected_return(found.log_prob, mdp)[0] == pytest.approx(J + gain, abs=1e-9)
    assert found.divergence == pytest.approx(best.fun, abs=1e-6)
    assert found.divergence == pytest.approx(_divergence(found.log_prob, z, mdp))
    assert np.sign(found.multiplier) == -np.sign(gain)


@pytest.mark.parametrize("seed", range(3))
def test_up_and_down_cost_the_same_where_the_change_is_small(seed):
    """(ΔJ)² / (2 gᵀ F⁻¹ g), with the Fisher matrix of the logits weighed by the visits."""
    z, mdp, J = _case(seed)
    p = _softmax(z)
    d = (1 - mdp.gamma) * mdp(p).visits
    g = -expected_return(z, mdp)[1]
    # in each state F is d (diag p - p pᵀ), whose pseudo-inverse acts on g = p times something of mean 0
    inverse = (g * (g / (d[:, None] * p))).sum()
    for gain in (0.02, -0.02):
        cost = float(minimal_change(z, mdp, np.array(J + gain)).divergence)
        assert cost == pytest.approx(gain**2 / (2 * inverse), rel=0.05)


def test_without_a_moved_reference_the_target_is_missed():
    """The more, the larger k; with one it is reached for every k, at a divergence that is no less than the least."""
    z, mdp, J = _case(1)
    target, gaps = np.array(J + 0.5), []
    for k in (0.1, 1.0, 5.0):
        with pytest.warns(ConvergenceWarning):
            fixed = counterpol(
                z, mdp, target, return_weight=1.0, kl_weight=k, lr=0.05, every=10**6, tolerance=1e-4, max_iter=3000
            )
        gaps.append(J + 0.5 - fixed.returns[-1])
        moved = counterpol(
            z, mdp, target, return_weight=1.0, kl_weight=k, lr=0.05, every=50, tolerance=1e-4, max_iter=20_000
        )
        assert moved.converged and abs(moved.returns[-1] - J - 0.5) <= 1e-4
        least = minimal_change(z, mdp, np.array(moved.returns[-1])).divergence
        assert _divergence(moved.logits, z, mdp) >= least - 1e-9
    assert 0 < gaps[0] < gaps[1] < gaps[2]


def test_the_sampled_gradient():
    log_prob, ref = np.log([0.5, 0.25]), np.log([0.4, 0.1])
    loss, gradient = sampled_loss(
        log_prob, ref, np.array([3.0, 1.0]), np.array(2.0), np.array(4.0), scale=2.0, return_weight=0.5, kl_weight=0.9
    )
    by_hand = (2 * 0.5 / 4 * (2.0 - 4.0) * (np.array([3.0, 1.0]) - 4.0) - 0.9 * np.array([0.4, 0.1])) / 2
    assert gradient == pytest.approx(by_hand) and loss == pytest.approx(by_hand @ log_prob)


def test_the_explanation():
    z, mdp, J = _case(4)
    found = minimal_change(z, mdp, np.array(J + 0.4))
    told = explanation(found.log_prob, z, mdp)
    assert told.importance.sum() == pytest.approx(float(found.divergence))
    assert np.allclose(told.change.sum(1), 0, atol=1e-12, rtol=1e-9) and (told.kl >= 0).all()
    none = explanation(z, z, mdp)
    assert not none.change.any() and np.abs(none.kl).max() < 1e-15


def test_out_of_reach():
    z, mdp, _ = _case(5)
    with pytest.warns(ConvergenceWarning, match="minimal_change"):
        assert not minimal_change(z, mdp, np.array(1e4), max_iter=30).converged
    with pytest.warns(ConvergenceWarning, match="counterpol"):
        assert not counterpol(z, mdp, np.array(50.0), max_iter=3, lr=1e-3).converged


def test_refused():
    z, mdp, J = _case(6)
    with pytest.raises(ValueError, match="scale"):
        counterpol_loss(z, z, mdp, np.array(J), scale=0.0)
    with pytest.raises(ValueError, match="direction"):
        counterpol_loss(z, z, mdp, np.array(J), direction="both")
