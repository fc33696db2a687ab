"""SCAD and MCP: the split is an identity, derivatives are continuous, proximal maps beat every point of a grid."""

import numpy as np
import pytest
from scipy import integrate

from trref.statistics.nonconvex_penalties import mcp, mcp_concave, prox_mcp, prox_scad, scad, scad_concave, soft

B = np.linspace(-6, 6, 241)
KINDS = [
    (scad, scad_concave, prox_scad, {"penalty_weight": 0.8, "a": 3.1}, 2.0),
    (mcp, mcp_concave, prox_mcp, {"penalty_weight": 0.8, "gamma": 1.7}, 1.6),
]


@pytest.mark.parametrize("kind", KINDS, ids=["scad", "mcp"])
def test_the_penalty_is_the_l1_norm_and_a_concave_part(kind):
    penalty, concave, _, how, _ = kind
    parts = np.array([concave(np.array([b]), **how)[0] for b in B])
    assert penalty(B, **how) == pytest.approx(0.8 * abs(B) + parts, rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("kind", KINDS, ids=["scad", "mcp"])
def test_values_integrate_slopes(kind):
    """q(b) is the integral of q' from 0, by quadrature with the bounds as break points."""
    _, concave, _, how, _ = kind
    bounds = sorted({0.8, 0.8 * how.get("a", 0), 0.8 * how.get("gamma", 0)})
    for b in (0.5, 0.8, 1.36, 2.0, 2.48, 5.0):
        area = integrate.quad(lambda u: concave(np.array([u]), **how)[1][0], 0, b, points=[p for p in bounds if p < b])
        assert concave(np.array([b]), **how)[0] == pytest.approx(area[0], rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=["scad", "mcp"])
def test_slopes_have_no_jump(kind):
    """|q'(b) - q'(c)| <= |b - c| / (a - 1) or / gamma."""
    _, concave, _, how, _ = kind
    slope = concave(B, **how)[1]
    steepest = 1 / (how["a"] - 1) if "a" in how else 1 / how["gamma"]
    assert (abs(np.diff(slope)) <= steepest * np.diff(B) * (1 + 1e-9)).all()
    assert (np.diff(slope) <= 1e-15).all(), "concave"


@pytest.mark.parametrize("kind", KINDS, ids=["scad", "mcp"])
def test_proximal_maps_beat_a_grid(kind):
    penalty, _, prox, how, longest = kind
    grid = np.linspace(-8, 8, 4001)
    for lr in (0.1, 0.7, longest):
        for z in np.linspace(-5, 5, 41):
            objective = lambda u: (u - z) ** 2 / 2 + lr * penalty(u, **how)  # noqa: B023, E731
            best = prox(np.array([z]), lr=lr, **how)
            assert objective(best)[0] <= objective(grid).min() + 1e-14


def test_by_hand():
    """λ = 1: SCAD at 2 with a = 3.7 is (14.8 - 4 - 1)/5.4, and level at 2.35; MCP with γ = 2 is level at 1."""
    assert scad(np.array([0.5, 2.0, 9.0])) == pytest.approx([0.5, 9.8 / 5.4, 2.35], rel=1e-14)
    assert mcp(np.array([-0.5, 9.0])) == pytest.approx([0.4375, 1.0], rel=1e-14)
    assert soft(np.array([-3.0, 0.5, 1.5])).tolist() == [-2, 0, 0.5]
    assert prox_mcp(np.array([1.5, 2.5])) == pytest.approx([1.0, 2.5], rel=1e-14)
    # (2.7·3 - 3.7)/1.7
    assert prox_scad(np.array([3.0])) == pytest.approx([4.4 / 1.7], rel=1e-14)


def test_a_long_step_is_refused():
    with pytest.raises(ValueError, match="lr must be less than gamma = 2, not 2"):
        prox_mcp(np.ones(1), lr=2.0)
    with pytest.raises(ValueError, match="lr must be less than a - 1"):
        prox_scad(np.ones(1), lr=2.7)
