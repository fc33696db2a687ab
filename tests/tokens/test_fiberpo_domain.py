"""The hierarchy of gates: against its definition, its couplings, its limits."""

import math

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.checks import check_gradient
from trref.tokens.fiberpo import aggregate_gate, sign_channels
from trref.tokens.fiberpo_domain import drift_hierarchy, fiberpo_domain, hierarchy_pullback
from trref.tokens.grpo import grpo

GROUP, DOMAIN = np.array([3, 3, 3, 1, 1, 2, 2, 2]), np.array([0, 0, 0, 0, 0, 5, 5, 5])


def _log_gates(x, mask, group, domain, budgets, clip):
    """The definition, in loops; budgets of domain, prompt and answer, each a pair."""
    B = len(x)
    rows = [[v for v, m in zip(x[i], mask[i], strict=True) if m] for i in range(B)]
    S = [{1: sum(max(v, 0) for v in r) / max(len(r), 1), -1: sum(max(-v, 0) for v in r) / max(len(r), 1)} for r in rows]

    def g(v, C, T):
        return float(aggregate_gate(np.array([v]), C, np.array([float(max(T, 1))]))[0][0])

    def mean(l, members):
        return sum(S[j][l] for j in members) / len(members)

    result = []
    for i in range(B):
        in_g = [j for j in range(B) if group[j] == group[i]]
        in_D = [j for j in range(B) if domain[j] == domain[i]]
        T_g, T_D = (sum(len(rows[j]) for j in members) for members in (in_g, in_D))
        base = 0.0
        for l, c in ((1, 0), (-1, 1)):
            S_g, S_D = mean(l, in_g), mean(l, in_D)
            base += l * g(S_D, budgets[0][c], T_D)
            base += l * g(S_g - S_D, budgets[1][c], T_g)
            base += l * g(S[i][l] - S_g, budgets[2][c], len(rows[i]))
        labels = [1 if v >= 0 else -1 for v in rows[i]]
        cut = [
            float(np.clip(v - l * S[i][l], -clip, clip) - np.clip(-l * S[i][-l], -clip, clip))
            for v, l in zip(rows[i], labels, strict=True)
        ]
        result.append([base + c for c in cut])
    return result


@pytest.mark.parametrize("seed", range(5))
def test_against_the_definition(seed):
    log_prob, old, A, mask = token_batch(seed, spread=0.5)
    mask[4] = 0
    gates = _log_gates(log_prob - old, mask, GROUP, DOMAIN, [(0.08, 0.06), (0.06, 0.045), (0.2, 0.15)], 0.1)
    total = sum(a * sum(math.exp(v) for v in row) / max(len(row), 1) for a, row in zip(A, gates, strict=True))
    options = {"budget_up": 0.2, "budget_down": 0.15, "residual_clip": 0.1, "group_factor": 0.3, "domain_factor": 0.4}
    assert fiberpo_domain(log_prob, old, A, mask, GROUP, DOMAIN, **options)[0] == pytest.approx(-total / 8, rel=1e-12)


@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.2, 0.5), (0.5, 0.15)])
@pytest.mark.parametrize("seed", range(3))
def test_jacobian(seed, factors):
    log_prob, old, A, mask = token_batch(seed, spread=0.35)
    options = {"budget_up": 0.15, "budget_down": 0.12, "residual_clip": 0.1}
    options |= dict(zip(("group_factor", "domain_factor"), factors, strict=True))
    gradient = fiberpo_domain(log_prob, old, A, mask, GROUP, DOMAIN, **options)[1]
    rng = np.random.default_rng(seed)
    check_gradient(lambda x: fiberpo_domain(x, old, A, mask, GROUP, DOMAIN, **options)[0], log_prob, gradient, rng=rng)


def test_the_adjoint_of_the_hierarchy():
    """The Jacobian of the module, entry by entry, at a point where gates are in different regimes."""
    drift = np.array([0.5, 0.1, 0.15, 0.02, 0.05, 0.3, 0.36, 0.1])
    length = np.array([4.0, 3, 5, 2, 2, 6, 1, 3])
    budgets = {"domain_budget": 0.2, "group_budget": 0.06, "answer_budget": 0.13}
    J = np.array(
        [
            (
                drift_hierarchy(drift + 1e-7 * e, length, GROUP, DOMAIN, **budgets).value
                - drift_hierarchy(drift - 1e-7 * e, length, GROUP, DOMAIN, **budgets).value
            )
            / 2e-7
            for e in np.eye(8)
        ]
    ).T
    gated = drift_hierarchy(drift, length, GROUP, DOMAIN, **budgets)
    pulled = np.array([hierarchy_pullback(e, gated, GROUP, DOMAIN) for e in np.eye(8)])
    assert np.allclose(pulled, J, atol=1e-6, rtol=1e-9) and len(np.unique(np.round(J, 6))) > 8


def test_unsaturated_it_is_the_importance_ratio():
    log_prob, old, A, mask = token_batch(3, spread=0.05)
    ours, ratio = fiberpo_domain(log_prob, old, A, mask, GROUP, DOMAIN), grpo(log_prob, old, A, mask, clip=1e9)
    assert ours[0] == pytest.approx(ratio[0], rel=1e-12) and np.allclose(ours[1], ratio[1], atol=1e-14, rtol=1e-9)


def _coupled(batch, row, **options):
    """Whose gradients change when the log-ratios of one answer do."""
    log_prob, *rest = batch
    moved = log_prob.copy()
    moved[row] += 0.01
    before, after = (fiberpo_domain(x, *rest, GROUP, DOMAIN, **options)[1] for x in (log_prob, moved))
    return {int(i) for i in np.flatnonzero(abs(before - after).max(1) > 1e-12)}


def test_who_is_coupled():
    """Nobody while all gates pass; within the prompt or the domain once its gate rolls back; never across domains."""
    log_prob, old, A, _ = token_batch(5, spread=0.02)
    batch = log_prob + 0.2, old, A, np.ones((8, 5))
    up = float(sign_channels(batch[0] - old, batch[3])[0][:5].mean())
    assert _coupled(batch, 0) == {0}
    assert _coupled(batch, 0, domain_factor=(up - 0.002) / 0.3) == {0, 1, 2, 3, 4}
    drifting = log_prob + np.where(GROUP == 3, 0.25, 0.05)[:, None], old, A, np.ones((8, 5))
    assert _coupled(drifting, 0) == {0}
    drift = sign_channels(drifting[0] - old, drifting[3])[0]
    excess = float(drift[:3].mean() - drift[:5].mean())
    assert {0, 1, 2} <= _coupled(drifting, 0, group_factor=(excess - 0.001) / 0.3) <= {0, 1, 2, 3, 4}


def test_a_domains_budget_is_its_own():
    """One domain drifts and is switched off; the gradients of the other stay."""
    log_prob, old, A, mask = token_batch(6, spread=0.02)
    options = {"domain_factor": 0.4}
    calm = fiberpo_domain(log_prob, old, A, mask, GROUP, DOMAIN, **options)[1]
    log_prob[:5] += 0.25
    wild = fiberpo_domain(log_prob, old, A, mask, GROUP, DOMAIN, **options)[1]
    assert np.array_equal(calm[5:], wild[5:]) and not np.allclose(calm[:5], wild[:5])


def test_the_gate_is_odd():
    """A prompt that drifts less than its domain is gated as one that drifts more."""
    drift = np.array([0.0, 0.0, 0.2, 0.2])
    budgets = {"domain_budget": 9.0, "group_budget": 0.095, "answer_budget": 9.0}
    gated = drift_hierarchy(drift, np.full(4, 3.0), np.array([0, 0, 1, 1]), np.zeros(4, int), **budgets).value
    value = float(aggregate_gate(np.array([0.1]), 0.095, np.array([6.0]))[0][0])
    assert 0 < value < 0.1 and np.allclose(gated, [0.1 - value] * 2 + [0.1 + value] * 2, rtol=1e-9)
