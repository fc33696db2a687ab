"""Theorems and limits of odice."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.policy.odice import cloning_loss, conjugate, extraction_weight, odice_loss, overlap, vdice_loss
from trref.problems.mdp import random_mdp
from trref.problems.policies import ValueNetwork


def _batch(seed, N=12, shift=0.3):
    rng = np.random.default_rng(seed)
    value = ValueNetwork((2, 4, 1))
    theta = 0.7 * rng.standard_normal(value.size)
    states = rng.standard_normal((N, 2))
    return {
        "value": value,
        "theta": theta,
        "target_theta": theta + shift * rng.standard_normal(value.size),
        "states": states,
        "next_states": states + 0.5 * rng.standard_normal((N, 2)),
        "reward": rng.standard_normal(N),
        "terminated": (rng.random(N) < 0.3).astype(float),
    }


def _parts(batch, **hyper):
    """The forward and the backward gradient, and that of the values, from losses with given overlaps."""
    whole, less, semi = (
        odice_loss(**batch, **hyper | more)[1]
        for more in (
            {"overlap": np.zeros(())},
            {"overlap": np.ones(())},
            {"overlap": np.ones(()), "backward_weight": 0.0},
        )
    )
    g_f = whole - less
    return g_f, less - semi, semi


def test_the_conjugate_by_hand_and_by_brute_force():
    """y + y²/4 above -2, -1 below: the largest x y - (x - 1)² of a fine grid of x ≥ 0."""
    x = np.linspace(0, 20, 200_001)
    for y in (-5.0, -2.0, -1.0, 0.0, 3.0):
        value, slope = conjugate(np.array([y]))
        assert value == pytest.approx((x * y - (x - 1) ** 2).max(), abs=1e-8)
        assert value == pytest.approx(y + y * y / 4 if y > -2 else -1.0) and slope == pytest.approx([max(y / 2 + 1, 0)])


def test_the_conjugate_of_the_reverse_divergence():
    """The largest x y - x log x over x, at x = e^(y-1): by brute force, and of a line above 80."""
    x = np.linspace(1e-9, 60, 600_001)
    for y in (-3.0, 0.0, 1.0, 4.0):
        value, slope = conjugate(np.array([y]), divergence="reverse_kl")
        allowed = 1e-8 / 8 / np.exp(y - 1) + 1e-12  # half of the grid, squared, times half of the curvature
        assert value == pytest.approx((x * y - x * np.log(x)).max(), rel=1e-12, abs=allowed)
        assert value == pytest.approx(np.exp(y - 1)) and slope == pytest.approx([np.exp(y - 1)])
    far, slope = conjugate(np.array([90.0]), divergence="reverse_kl")
    assert far == pytest.approx(11 * np.exp(79.0)) and slope == pytest.approx([np.exp(79.0)])
    assert np.isfinite(conjugate(np.array([1e90]), divergence="reverse_kl")[0])


@pytest.mark.parametrize("seed", range(4))
def test_the_projection(seed):
    """What is left of the backward gradient is orthogonal to the forward one."""
    batch = _batch(seed)
    g_f, g_b, held = _parts(batch)
    c = overlap(**batch)
    assert c == pytest.approx((g_f @ g_b) / (g_f @ g_f))
    rest = g_b - float(c) * g_f
    assert abs(rest @ g_f) < 1e-12 * (g_f @ g_f + 1)
    assert np.allclose(odice_loss(**batch)[1], held + g_f + rest, rtol=1e-10, atol=1e-13)
    assert (g_f + rest) @ (g_f + g_b) == pytest.approx(g_f @ g_f + g_f @ g_b + rest @ rest)


@pytest.mark.parametrize("seed", range(3))
def test_with_one_network_and_no_projection_it_is_the_true_gradient(seed):
    batch = _batch(seed, shift=0.0)
    g_f, g_b, held = _parts(batch)
    given = {n: x for n, x in batch.items() if n != "target_theta"}
    assert np.allclose(vdice_loss(**given)[1], held + g_f + g_b, rtol=1e-10, atol=1e-13)
    for k in range(0, len(batch["theta"]), 3):
        step = 1e-6 * np.eye(len(batch["theta"]))[k]
        up, down = (vdice_loss(**given | {"theta": batch["theta"] + s})[0] for s in (step, -step))
        assert (up - down) / 2e-6 == pytest.approx(vdice_loss(**given)[1][k], abs=1e-8)


def test_the_decrease_of_the_forward_loss_does_not_depend_on_the_backward_weight():
    batch = _batch(5)
    g_f, _, held = _parts(batch)
    for weight in (0.0, 0.5, 2.0):
        g = odice_loss(**batch, backward_weight=weight)[1] - held
        assert g @ g_f == pytest.approx(g_f @ g_f)


def test_where_all_residuals_are_far_below_the_backward_gradient_is_left():
    batch = _batch(6) | {"reward": np.full(12, -4.0), "terminated": np.zeros(12)}
    batch["target_theta"] = batch["theta"].copy()
    batch["target_theta"][-1] -= 6.0  # the output's bias: forward residuals fall, backward ones rise
    g_f, g_b, held = _parts(batch)
    assert not g_f.any() and g_b.any() and overlap(**batch) == 0
    assert np.allclose(odice_loss(**batch)[1], held + g_b, rtol=1e-10, atol=1e-12)


def test_the_dual_is_the_primal():
    """A finite process, V a table, data of every pair: the weights of the solution are an occupancy."""
    rng = np.random.default_rng(7)
    mdp = random_mdp(rng, states=4, actions=2, gamma=0.8)
    data = rng.dirichlet(np.ones(8)).reshape(4, 2)

    def dual(V):
        e = mdp.reward + mdp.gamma * mdp.transition @ V - V[:, None]
        w = np.maximum(e / 2 + 1, 0)
        flow = mdp.gamma * np.einsum("sa,sat->t", data * w, mdp.transition) - (data * w).sum(1)
        return 0.2 * mdp.start @ V + (data * (e * w - (w - 1) ** 2)).sum(), 0.2 * mdp.start + flow

    V = minimize(dual, np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-10}).x
    e = mdp.reward + mdp.gamma * mdp.transition @ V - V[:, None]
    d = data * extraction_weight(e.ravel(), form="derived").reshape(4, 2)
    assert d.sum() == pytest.approx(1)
    policy = d / d.sum(1, keepdims=True)
    occupancy = 0.2 * mdp(policy).visits[:, None] * policy
    assert d == pytest.approx(occupancy, abs=1e-7)
    primal = (d * mdp.reward).sum() - (data * (d / data - 1) ** 2).sum()
    assert dual(V)[0] == pytest.approx(primal, abs=1e-8)


def test_weights_and_cloning():
    e = np.array([-3.0, -1.0, 0.5, 200.0])
    assert extraction_weight(e) == pytest.approx([0, 0, 0.5, 100])
    assert extraction_weight(e, form="derived") == pytest.approx([0, 0.5, 1.25, 101])
    loss, gradient = cloning_loss(np.log([0.5, 0.25]), np.array([2.0, 0.0]))
    assert loss == pytest.approx(np.log(2)) and gradient == pytest.approx([-1.0, 0])


def test_refused():
    batch = _batch(8)
    with pytest.raises(ValueError, match="forward_weight"):
        odice_loss(**batch, forward_weight=1.0)
    with pytest.raises(ValueError, match="weight"):
        cloning_loss(np.zeros(2), -np.ones(2))
