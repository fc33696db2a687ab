"""Theorems and limits of fixpo."""

import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from trref.policy.fixpo import fixup_phase, multiplier_loss, violated
from trref.problems.policies import CategoricalPolicy, GaussianPolicy, LinearSoftmaxPolicy
from trref.validate import ConvergenceWarning


def _outside(seed, N=40, shift=0.8):
    rng = np.random.default_rng(seed)
    policy = CategoricalPolicy((3, 6, 4))
    old = 0.6 * rng.standard_normal(policy.size)
    states = rng.standard_normal((N, 3))
    return policy, old + shift * rng.standard_normal(policy.size), states, policy(old, states)


def _divergences(policy, theta, states, old_outputs):
    """By SciPy, the old policy first."""
    return rel_entr(softmax(old_outputs, 1), softmax(policy(theta, states), 1)).sum(1)


def test_the_weight_by_hand():
    """ε = 0.5, C = 2: a largest divergence of 0.3 gives a slope of -0.1, and a weight of 4 a loss of -0.4."""
    loss, slope = multiplier_loss(np.array(4.0), np.array([0.1, 0.3]))
    assert slope == pytest.approx(-0.1) and loss == pytest.approx(-0.4)
    assert multiplier_loss(np.array(4.0), np.array([0.1, 0.3]), statistic="mean").slope == pytest.approx(0.1)


def test_the_weight_rises_exactly_above_the_radius_over_the_margin():
    for margin in (1.0, 2.0, 3.0):
        for kl, sign in ((0.5 / margin - 1e-9, 1), (0.5 / margin + 1e-9, -1)):
            assert np.sign(multiplier_loss(np.array(1.0), np.array([kl]), margin=margin).slope) == sign


def test_violations():
    kl = np.array([0.1, 0.5, 0.2])
    assert violated(kl) == 0, "on the bound is inside"
    assert violated(kl + 1e-9) == 1 and violated(kl, statistic="mean", radius=0.26) == 1


@pytest.mark.parametrize("batch", [7, 40, 1024])
@pytest.mark.parametrize("radius", [0.05, 0.5])
@pytest.mark.parametrize("seed", range(2))
def test_the_guarantee(seed, radius, batch):
    """On the whole batch, after the last change of the parameters, exactly."""
    policy, theta, states, old = _outside(seed)
    assert _divergences(policy, theta, states, old).max() > radius
    result = fixup_phase(policy, theta, states, old, radius=radius, batch=batch, max_iter=20_000)
    assert result.converged and result.updates > 0
    assert _divergences(policy, result.theta, states, old).max() <= radius * (1 + 1e-12)
    parts = -(-len(states) // batch)
    assert result.iterations >= parts and (np.array(result.largest[-parts:]) <= radius).all()


def test_inside_nothing_is_changed():
    policy, theta, states, _ = _outside(2)
    result = fixup_phase(policy, theta, states, policy(theta, states), batch=9)
    assert np.array_equal(result.theta, theta) and result.updates == 0 and result.iterations == 5
    assert result.kl_weight == 1.0 and max(result.largest) == 0


def test_one_state_brings_the_phase_on():
    """The mean is inside, one state is not: the phase with the largest works, and a later minibatch is seen again."""
    policy, states = LinearSoftmaxPolicy(1, 2), np.array([[0.0], [0.0], [0.0], [2.0]])
    theta, old = np.array([1.0, 0.0]), policy(np.array([0.0, 0.0]), states)
    result = fixup_phase(policy, theta, states, old, radius=0.2, batch=2, lr=0.01)
    assert _divergences(policy, theta, states, old).mean() < 0.2
    assert result.updates > 0 and _divergences(policy, result.theta, states, old).max() <= 0.2
    assert result.largest[-1] <= 0.2 and result.largest[-2] <= 0.2


def test_the_weight_rises_while_states_are_outside():
    policy, theta, states, old = _outside(3)
    result = fixup_phase(policy, theta, states, old, radius=0.05, kl_weight=0.2)
    assert result.kl_weight > 0.2


def test_a_weight_of_0_rises_first():
    """The penalty pulls nothing in the first step, and then it does."""
    policy, theta, states, old = _outside(7)
    with pytest.warns(ConvergenceWarning):
        first = fixup_phase(policy, theta, states, old, kl_weight=0.0, radius=0.05, max_iter=1)
    assert np.array_equal(first.theta, theta) and first.kl_weight == pytest.approx(0.01)
    assert fixup_phase(policy, theta, states, old, kl_weight=0.0, radius=0.05).converged


def test_gaussians():
    rng = np.random.default_rng(4)
    policy = GaussianPolicy((3, 5, 2))
    theta = 0.4 * rng.standard_normal(policy.size)
    states = rng.standard_normal((20, 3))
    old = policy(theta, states)
    result = fixup_phase(policy, theta + 0.3 * rng.standard_normal(policy.size), states, old, radius=0.1, batch=8)
    kl = policy.kl(old, policy(result.theta, states))[0]
    assert result.converged and kl.max() <= 0.1


def test_too_few_minibatches():
    policy, theta, states, old = _outside(5, shift=2.0)
    with pytest.warns(ConvergenceWarning, match="4 minibatches"):
        result = fixup_phase(policy, theta, states, old, radius=0.01, max_iter=4)
    assert not result.converged and result.iterations == 4 and not np.array_equal(result.theta, theta)


def test_refused():
    policy, theta, states, old = _outside(6)
    with pytest.raises(ValueError, match="old_outputs"):
        fixup_phase(policy, theta, states, old[:, :2])
    with pytest.raises(ValueError, match="radius"):
        fixup_phase(policy, theta, states, old, radius=0.0)
    with pytest.raises(ValueError, match="kl"):
        violated(np.array([-0.1]))
