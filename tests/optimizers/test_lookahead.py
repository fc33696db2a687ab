"""Theorems and limits of Lookahead."""

import numpy as np
import pytest

from trref.optimizers import sgd
from trref.optimizers.lookahead import adam_update, init, update, variance_share


def _run(gradients, start, rule=update, **hyper):
    """Fast and slow weights after each call, from the start on."""
    params, state, rows = [start], init([start]), [(start, start)]
    for g in gradients:
        params, state = rule(params, [g], state, **hyper)
        rows.append((params[0], state.slow[0]))
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_eight_calls_by_hand():
    """Gradients -1 at rate 1, k = 3, α = ½, from 0: 1, 2, 3 → 1.5, 2.5, 3.5, 4.5 → 3, 4, 5."""
    fast, slow = _run([-np.ones(1)] * 8, np.zeros(1), lr=1.0, k=3)
    assert fast[:, 0].tolist() == [0, 1, 2, 1.5, 2.5, 3.5, 3, 4, 5]
    assert slow[:, 0].tolist() == [0, 0, 0, 1.5, 1.5, 1.5, 3, 3, 3]


@pytest.mark.parametrize(("moments", "left"), [("keep", 1.5), ("reset", 0.0), ("pullback", 0.75)])
def test_moments_by_hand(moments, left):
    """Gradients 1, momentum ½, k = 2: the buffers are 1 and 1.5; then ½ of what became of 1.5, and 1."""
    fast, _ = _run([np.ones(1)] * 3, np.zeros(1), lr=1.0, momentum=0.5, k=2, moments=moments)
    assert fast[:3, 0].tolist() == [0, -1, -1.25]
    assert fast[3, 0] == -1.25 - (0.5 * left + 1)


def test_pulled_back_twice():
    """Pulled back buffers are averages of buffers: 0, α b₁, then (1 - α) α b₁ + α b₂, by a loop of its own."""
    gradients = np.random.default_rng(0).standard_normal(12)
    fast, _ = _run(gradients[:, None], np.zeros(1), lr=0.1, momentum=0.8, k=3, alpha=0.3, moments="pullback")
    theta = slow = b = anchor = 0.0
    for t, g in enumerate(gradients, start=1):
        b = 0.8 * b + g
        theta -= 0.1 * b
        if t % 3 == 0:
            slow += 0.3 * (theta - slow)
            anchor += 0.3 * (b - anchor)
            theta, b = slow, anchor
        assert fast[t, 0] == pytest.approx(theta, rel=1e-11, abs=1e-13)


def test_reset_adam_counts_again():
    """After a reset the next step has the length of the rate, whatever the gradients were before."""
    gradients = [np.array([100.0])] * 4 + [np.array([-0.01])]
    fast, _ = _run(gradients, np.zeros(1), adam_update, lr=0.1, eps=1e-300, k=4, moments="reset")
    assert fast[5, 0] - fast[4, 0] == pytest.approx(0.1, rel=1e-12)
    fast, _ = _run(gradients, np.zeros(1), adam_update, lr=0.1, k=4)
    assert fast[5, 0] < fast[4, 0]


@pytest.mark.parametrize(("k", "alpha"), [(5, 0.5), (3, 0.8)])
def test_the_factor_of_a_cycle(k, alpha):
    """1 - α + α (1 - ηh)^k, without noise: here h = 2 and η = 0.1."""
    params, state = [np.ones(1)], init([np.ones(1)])
    for _ in range(4 * k):
        params, state = update(params, [2 * params[0]], state, lr=0.1, k=k, alpha=alpha)
    assert state.slow[0] == pytest.approx((1 - alpha + alpha * 0.8**k) ** 4, rel=1e-12)


def test_the_share_of_the_variance():
    """Rate times curvature ½, k = 5, α = ½: 0.1134 of noise 1, where SGD has 1/3. By 20,000 runs, to four of 0.01."""
    assert variance_share(np.array([0.5]))[0] / 3 == pytest.approx(0.1134, abs=5e-5)
    rng = np.random.default_rng(1)
    params = [np.zeros(20000)]
    state = init(params)
    for _ in range(150):
        noise = rng.standard_normal(20000)
        params, state = update(params, [0.5 * params[0] + 0.5 * noise], state, lr=1.0)
    law = variance_share(np.array([0.5]))[0] * 0.25 / (1 - 0.25)
    assert state.slow[0].var() == pytest.approx(law, rel=0.04)


def test_the_fast_weights_end_a_cycle_with_their_own_variance():
    """a²ᵏ of the slow weights' variance and the noise of k steps, 1 - a²ᵏ: nearly all of SGD's."""
    a, k = 0.5, 5
    share = variance_share(np.array([a]), k=k)[0]
    assert share * a ** (2 * k) + 1 - a ** (2 * k) == pytest.approx(1, abs=1e-3)


def test_the_share_at_its_ends():
    """Tiny steps: α, as of SGD with the rate αη. No memory: that of an average of independent noise, α/(2 - α)."""
    assert variance_share(np.array([1.0, 0.0]), alpha=0.5) == pytest.approx([1 / 2, 1 / 3])


def test_without_a_share_of_the_way_the_slow_weights_stay():
    path = np.random.default_rng(2).standard_normal((9, 2))
    fast, slow = _run(path, np.ones(2), alpha=0.0, k=3)
    assert np.array_equal(slow, np.ones((10, 2))) and np.array_equal(fast[3], np.ones(2))
    fast, _ = _run(path, np.ones(2), k=10)
    params, state = [np.ones(2)], sgd.init([np.ones(2)])
    for t, g in enumerate(path, start=1):
        params, state = sgd.update(params, [g], state)
        assert np.array_equal(fast[t], params[0]), "between synchronisations it is the inner rule"


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"k": 0}, {"alpha": 1.5}, {"momentum": 1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must "):
        _run([np.ones(1)], np.ones(1), **bad)
