"""Theorems and limits of AdamP and SGDP."""

import numpy as np
import pytest

from trref.optimizers import adam
from trref.optimizers.adamp import init, largest_cosine, project_radial, sgdp_update, update
from trref.problems.scale_invariant import RayleighQuotient


def _run(rule, gradients, start, **hyper):
    params, state, path = [start], init([start]), [start]
    for g in gradients:
        params, state = rule(params, [g], state, **hyper)
        path.append(params[0])
    return np.array(path)


def _descend(loss, w, *, steps, **hyper):
    """Weights and momenta of SGDP on a loss of one vector, which it sees as a matrix of one row."""
    params, state, path, momenta = [w[None]], init([w[None]]), [w], []
    for _ in range(steps):
        params, state = sgdp_update(params, [loss(params[0][0])[1][None]], state, **hyper)
        path.append(params[0][0])
        momenta.append(state.m[0][0])
    return np.array(path), np.array(momenta)


QUOTIENT = RayleighQuotient(np.diag(np.linspace(1.0, 2.0, 12)))
START = np.random.default_rng(0).standard_normal(12)


def test_two_steps_of_sgdp_by_hand():
    """From (1, 0): gradient (0, 1) to (1, -1); then m = (0, ½) + (1, 1), of which ¼ (-1, 1) is along the weights."""
    gradients = [np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]])]
    path = _run(sgdp_update, gradients, np.array([[1.0, 0.0]]), lr=1.0, momentum=0.5, eps=1e-300)
    assert np.allclose(path[:, 0], [[1, 0], [1, -1], [-0.25, -2.25]], rtol=0, atol=1e-13)


def test_two_steps_of_adamp_by_hand():
    """Without memory p = sign(g) = (1, -1), of which (3 - 1) / 10 times (3, 1) is along the weights."""
    g, w = np.array([[1.0, -3.0]]), np.array([[3.0, 1.0]])
    path = _run(update, [g], w, lr=0.1, beta1=0.0, beta2=0.0, eps=1e-300)
    assert np.allclose(path[1], w - 0.1 * (np.array([[1.0, -1.0]]) - 0.2 * w), rtol=0, atol=1e-13)


def test_lengths_grow_by_the_squared_step_alone():
    path, momenta = _descend(QUOTIENT, START, steps=40, lr=0.5, momentum=0.9, eps=1e-300)
    moved = np.diff(path, axis=0)
    assert np.allclose((path[1:] ** 2).sum(1), (path[:-1] ** 2).sum(1) + (moved**2).sum(1), rtol=1e-12)
    for w, m, step in zip(path, momenta, moved, strict=False):
        assert np.allclose(step, -0.5 * (m - w * (w @ m) / (w @ w)), rtol=0, atol=1e-13)
        assert QUOTIENT(w)[1] @ step == pytest.approx(-0.5 * QUOTIENT(w)[1] @ m), "the same change to first order"


def test_lengths_without_the_projection():
    """The paper's lemma: |w|² grows by η²|p|² + 2 η² Σ β^(t-k) |p_k|² of the steps before."""
    path, momenta = _descend(QUOTIENT, START, steps=40, lr=0.5, momentum=0.9, threshold=0.0)
    squares = (momenta**2).sum(1)
    for t in range(40):
        before = sum(0.9 ** (t - k) * squares[k] for k in range(t))
        grown = (path[t + 1] ** 2).sum() - (path[t] ** 2).sum()
        assert grown == pytest.approx(0.25 * (squares[t] + 2 * before), rel=1e-9)


def test_momentum_lengthens_and_the_projection_prevents_it():
    lengths = [
        np.linalg.norm(_descend(QUOTIENT, START, steps=60, lr=0.5, **hyper)[0][-1])
        for hyper in ({"threshold": 0.0}, {"threshold": 0.0, "momentum": 0.9}, {"momentum": 0.9})
    ]
    assert lengths[0] < lengths[2] < lengths[1]


def test_vectors_are_never_projected():
    rng = np.random.default_rng(1)
    w, gradients = rng.standard_normal(6), rng.standard_normal((10, 6))
    params, state = [w], adam.init([w])
    for g in gradients:
        params, state = adam.update(params, [g], state, lr=0.05, weight_decay=0.3)
    ours = _run(update, gradients, w, lr=0.05, weight_decay=0.3, threshold=99.0)
    assert np.allclose(ours[-1], params[0], rtol=1e-13)


def test_one_row_along_its_gradient_stops_the_rows_and_the_layer_is_tried():
    """Rows along and against their gradients: as one vector they are orthogonal, and the step loses nothing."""
    w, g = np.eye(2), np.array([[0.5, 0.0], [0.0, -0.5]])
    assert largest_cosine(w, g) == 1.0
    out = _run(sgdp_update, [g], w, lr=1.0)[1]
    assert np.allclose(out, w - g, rtol=1e-9), "the step is across the layer"
    half = _run(sgdp_update, [g], w, lr=0.1, weight_decay=1.0, decay_ratio=0.5)[1]
    assert np.allclose(half, 0.95 * w - 0.1 * g, rtol=1e-9), "and the decay is that of weights without a length"
    by_rows = _run(sgdp_update, [g], w, lr=1.0, threshold=2.0)[1]
    assert np.allclose(by_rows, w, rtol=0, atol=1e-7), "by rows nothing is left of the step"


def test_just_below_and_above_the_threshold():
    """In two dimensions 0.1 / √2: a cosine of 0.07 passes, one of 0.072 does not."""
    w = np.array([[1.0, 0.0]])
    for cosine, passes in ((0.07, True), (0.072, False)):
        g = np.array([[cosine, np.sqrt(1 - cosine**2)]])
        moved = (_run(sgdp_update, [g], w, lr=1.0)[1] - w)[0, 0]
        assert moved == pytest.approx(0.0 if passes else -cosine, abs=1e-7)


def test_decays_by_hand():
    """Zero gradients pass: weights shrink by 1 - ηλρ, vectors by 1 - ηλ; SGDP's decay is divided by 1 - μ."""
    for shape, share in (((2, 3), 0.1), ((6,), 1.0)):
        w, zero = np.ones(shape), np.zeros(shape)
        assert np.allclose(_run(update, [zero], w, lr=0.1, weight_decay=0.5)[1], 1 - 0.05 * share, rtol=1e-9)
        sgdp = _run(sgdp_update, [zero], w, lr=0.1, weight_decay=0.5, momentum=0.8)[1]
        assert np.allclose(sgdp, 1 - 0.25 * share, rtol=1e-9)


def test_the_projection_is_orthogonal_and_idempotent():
    rng = np.random.default_rng(2)
    p, w = rng.standard_normal((2, 5, 7))
    q = project_radial(p, w, eps=1e-300)
    assert np.allclose((q * w).sum(1), 0, rtol=0, atol=1e-13)
    assert np.allclose(project_radial(q, w, eps=1e-300), q, rtol=0, atol=1e-13)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"eps": 0.0}, {"threshold": -0.1}, {"decay_ratio": 1.5}])
@pytest.mark.parametrize("rule", [update, sgdp_update])
def test_out_of_range(rule, bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        _run(rule, [np.ones((1, 1))], np.ones((1, 1)), **bad)
