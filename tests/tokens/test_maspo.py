"""The limits of the loss, the sign of every token's push, and both gradients."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.grpo import grpo
from trref.tokens.maspo import gaussian_gate, maspo, maspo_differentiated, mass_width, risk_width
from trref.tokens.terms import logit_gradient

FIXED = {"alpha": 0.0, "beta_pos": 0.0, "beta_neg": 0.0}


def _tokens(ratio, p, advantage):
    """One answer for each ratio."""
    old = np.log(np.broadcast_to(p, np.shape(ratio)))[:, None]
    return old + np.log(ratio)[:, None], old, np.broadcast_to(float(advantage), np.shape(ratio)).copy()


def _width(old, advantage):
    """Under the default numbers."""
    return mass_width(old) * risk_width(advantage)[:, None]


# ---- the losses


def test_by_hand():
    """Ratio 2 at probability 1, advantage 1: width 1.03."""
    batch = np.log([[2.0]]), np.zeros((1, 1)), np.ones(1), np.ones((1, 1))
    gate = math.exp(-1 / (2 * 1.03**2))
    loss, gradient = maspo(*batch)
    assert loss == pytest.approx(-2 * gate) and gradient == pytest.approx(-2 * gate)
    loss, gradient = maspo_differentiated(*batch, np.full((1, 1), 1.03))
    assert loss == pytest.approx(-2 * gate) and gradient == pytest.approx(-2 * gate * (1 - 2 / 1.03**2))


def test_a_narrow_gate_leaves_the_tokens_that_return():
    """The gradient of a clip at 0."""
    batch = token_batch(1, spread=0.8)
    expected = dapo_over_batch(*batch, clip_low=1e-12, clip_high=1e-12)[1]
    gradient = maspo(*batch, sigma=1e-3, sigma_high=1e-3, width_low=1e-3)[1]
    assert np.allclose(gradient, expected, rtol=1e-12) and (expected != 0).any()
    assert (gradient[batch[3] > 0] == 0).any()


def test_the_gate_keeps_the_sign_of_every_token():
    """No token is lost, none is turned round; GRPO loses some."""
    log_prob, old, advantage, mask = token_batch(2, B=40, T=20, spread=0.4)
    gradient = maspo(log_prob, old, advantage, mask)[1]
    kept = mask * np.sign(advantage)[:, None]
    assert np.array_equal(np.sign(-gradient), kept)
    assert (grpo(log_prob, old, advantage, mask)[1][mask > 0] == 0).mean() > 0.2


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 3.0])
def test_the_differentiated_gate_turns_round(sigma):
    """At (1 + sqrt(1 + 4 s²)) / 2 for good tokens; bad ones are pushed harder than with the gate held."""
    turn = (1 + math.sqrt(1 + 4 * sigma**2)) / 2
    ratios = np.array([0.3, 0.8, turn - 1e-6, turn, turn + 1e-6])
    hyper = {"sigma": sigma, "sigma_high": 10 * sigma, **FIXED}
    for advantage in (1.0, -1.0):
        batch = *_tokens(ratios, 0.3, advantage), np.ones((5, 1))
        held = -maspo(*batch, **hyper)[1][:, 0]
        free = -maspo_differentiated(*batch, np.full((5, 1), sigma))[1][:, 0]
        if advantage > 0:
            assert np.array_equal(held[:2], free[:2])
            assert free[2] > 0 > free[4] and free[3] == pytest.approx(0, abs=1e-12) and (held > 0).all()
        else:
            assert (free[:2] < held[:2]).all() and np.array_equal(held[2:], free[2:])


def test_both_have_one_value():
    batch = token_batch(3, spread=0.8)
    differentiated = maspo_differentiated(*batch, _width(batch[1], batch[2]))
    assert maspo(*batch)[0] == differentiated[0]
    slips = {d.name: d.f for d in find("maspo.maspo").deviations}
    loss, gradient = slips["gradient through the gate"](*batch)
    assert loss == pytest.approx(maspo(*batch)[0])
    assert np.allclose(gradient, differentiated[1], rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_to_the_logits(seed):
    """The gate held at the point, or differentiated, as functions of logits; seeds also move clamps about."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((4, 3, 5))
    old_z, actions = z + 0.4 * rng.standard_normal(z.shape), rng.integers(0, 5, (4, 3))
    advantage, mask = rng.standard_normal(4), np.ones((4, 3))

    def taken(logits):
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return np.take_along_axis(log_p, actions[..., None], 2)[..., 0]

    old, gate = taken(old_z), gaussian_gate(taken(z), taken(old_z), advantage)
    width = {"width": _width(old, advantage)}
    for f, given, held in ((maspo, {}, {"gate": gate}), (maspo_differentiated, width, width)):
        gradient = logit_gradient(z, actions, f(taken(z), old, advantage, mask, **given)[1])
        check_gradient(
            lambda x, f=f, held=held: float(f(taken(x), old, advantage, mask, **held)[0]), z, gradient, rng=rng
        )


def test_numbers_out_of_range():
    batch = token_batch(4, spread=0.8)
    for bad in ({"sigma": 0.0}, {"sigma": 2.0, "sigma_high": 1.0}, {"alpha": -0.1}, {"width_low": 11.0}):
        with pytest.raises(ValueError, match="must lie in"):
            maspo(*batch, **bad)
    with pytest.raises(ValueError, match="gate must have shape"):
        maspo(*batch, gate=np.ones((6, 4)))
