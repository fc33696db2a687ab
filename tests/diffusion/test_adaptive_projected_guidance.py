"""Theorems of guidance: least squares for the projection, orthogonality, plain guidance, the steady momentum."""

import numpy as np
import pytest
from scipy.linalg import lstsq

from trref.catalog import find
from trref.conformance import verify
from trref.diffusion.adaptive_projected_guidance import (
    apg,
    apg_jvp,
    apg_prediction,
    apg_vjp,
    cfg,
    next_buffer,
    project,
)
from trref.diffusion.score_matching import convert_prediction
from trref.problems.mixtures import MixtureDenoiser, flow_schedule, ring, three_components, vp_schedule

PLAIN = {"parallel": 1.0, "momentum": 0.0, "radius": 1e14}


def _draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_by_hand():
    """Gap (4, 3) of length 5 at (2, 0): bounded to (0.8, 0.6), across (0, 0.6); scale 3, a fifth of the parallel."""
    c, u, zero = np.array([[2.0, 0.0]]), np.array([[-2.0, -3.0]]), np.zeros((1, 2))
    how = {"scale": 3.0, "radius": 1.0, "parallel": 0.2}
    assert apg(c, u, zero, momentum=0.0, **how) == pytest.approx(np.array([[2 + 2 * 0.2 * 0.8, 1.2]]))
    assert cfg(c, u, scale=3.0).tolist() == [[10.0, 6.0]]
    # the momentum (0, -6) takes the gap's second entry to 3 - 0.5 (-6) = 6
    m = next_buffer(c, u, np.array([[0.0, -6.0]]), momentum=-0.5)
    assert m.tolist() == [[4.0, 6.0]]


def test_the_projection_is_the_residual_of_least_squares():
    for seed in range(20):
        v, c = _draws(seed, 2, 7)
        residual = v - c * lstsq(c[:, None], v)[0][0]
        assert np.allclose(project(v[None], c[None])[0], residual, rtol=0, atol=1e-14)


def test_the_update_is_orthogonal_and_pythagoras_holds():
    c, u, b = _draws(0, 3, 50, 4)
    for how in ({"scale": 15.0}, {"scale": 4.0, "radius": 0.7, "momentum": 0.3}):
        guided = apg(c, u, b, **how)
        added = guided - c
        assert abs((added * c).sum(1)).max() < 1e-12
        assert np.allclose((guided**2).sum(1), (c**2).sum(1) + (added**2).sum(1), rtol=1e-13)


def test_when_there_is_nothing_to_guide():
    c, u, b = _draws(1, 3, 20, 3)
    assert np.array_equal(apg(c, u, b, scale=1.0), c)
    assert np.allclose(apg(c, u, b, radius=1e-14), c, rtol=0, atol=1e-12)
    assert np.array_equal(apg(c, c, 0 * b), c)
    # a gap along the prediction is all saturation; the projection leaves rounding of it
    assert np.allclose(apg(c, 0.3 * c, 0 * b), c, rtol=0, atol=1e-13)


def test_it_is_plain_guidance_with_everything_off():
    c, u = _draws(2, 2, 30, 5)
    for scale in (0.0, 1.0, 7.5):
        assert np.allclose(apg(c, u, 0 * c, scale=scale, **PLAIN), u + scale * (c - u), rtol=0, atol=1e-12)


@pytest.mark.parametrize("momentum", [-0.75, -0.5, 0.25])
def test_the_momentum_of_a_constant_gap(momentum):
    """It tends to gap / (1 - momentum), as long as it is kept without the bound."""
    c, u = _draws(3, 2, 4, 3)
    buffer = 0 * c
    for _ in range(200):
        before, buffer = buffer, next_buffer(c, u, buffer, momentum=momentum)
    steady = (c - u) / (1 - momentum)
    assert np.allclose(buffer, steady, rtol=1e-14, atol=1e-14)
    scale = 1 + 3 / (1 - momentum)
    guided = apg(c, u, before, scale=4.0, momentum=momentum, parallel=1.0, radius=1e14)
    assert np.allclose(guided, cfg(c, u, scale=scale), rtol=0, atol=1e-13)


def test_a_momentum_of_minus_one_never_settles():
    c, u = _draws(4, 2, 4, 3)
    buffer, seen = 0 * c, []
    for _ in range(6):
        buffer = next_buffer(c, u, buffer, momentum=-1.0)
        seen.append(buffer)
    assert np.array_equal(seen[0], c - u) and np.array_equal(seen[4], c - u)
    assert not seen[1].any() and not seen[5].any()


def test_the_momentum_cannot_be_bounded_before_it_is_kept():
    """With a small radius the two differ: 10 - 5 = 5 in the right order, 10 - 0.5 = 9.5 in the wrong one."""
    c, u = np.array([[0.0, 10.0]]), np.zeros((1, 2))
    right = next_buffer(c, u, next_buffer(c, u, 0 * c))
    assert right.tolist() == [[0.0, 5.0]]


def test_the_gap_is_the_gradient_of_the_class_probability():
    """gap = sigma²/alpha grad log p(c|x): differences of the log-density of a class less that of all."""
    mixture, x, t, h = ring(), _draws(5, 6, 2), np.full(6, 0.3), 1e-5
    of_class = mixture.subset(np.arange(3))
    alpha, sigma = vp_schedule(t[0])
    gap = MixtureDenoiser(of_class)(x, t) - MixtureDenoiser(mixture)(x, t)

    def log_class(y):
        return of_class.noised(alpha, sigma).log_density(y) - mixture.noised(alpha, sigma).log_density(y)

    slope = np.stack([(log_class(x + h * e) - log_class(x - h * e)) / (2 * h) for e in np.eye(2)], 1)
    assert np.allclose(gap, sigma**2 / alpha * slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("given", ["noise", "score", "velocity"])
def test_other_predictions_go_by_way_of_the_data(given):
    c, u, x, b = _draws(6, 4, 9, 3)
    alpha, sigma = (float(level) for level in flow_schedule(np.array(0.35)))
    there = {"given": "data", "wanted": given, "alpha": alpha, "sigma": sigma}
    ours = apg_prediction(
        convert_prediction(c, x, **there),
        convert_prediction(u, x, **there),
        x,
        b,
        given=given,
        alpha=alpha,
        sigma=sigma,
    )
    assert np.allclose(ours, convert_prediction(apg(c, u, b), x, **there), rtol=0, atol=1e-11)


def test_the_space_of_noise_is_another_method():
    """Order one, at alpha 0.5; without the projection and the bound the space does not matter."""
    c, u, x, b = _draws(7, 4, 40, 4)
    level = {"alpha": 0.5, "sigma": 0.75**0.5, "scale": 3.0, "momentum": 0.0}
    gap = apg_prediction(c, u, x, b, **level) - apg(c, u, b, scale=3.0, momentum=0.0)
    assert abs(gap).max() > 1
    how = {**level, "parallel": 1.0, "radius": 1e14}
    assert np.allclose(apg_prediction(c, u, x, b, **how), cfg(c, u, scale=3.0), rtol=0, atol=1e-12)


def test_the_origin_matters():
    c, u, b = _draws(8, 3, 5, 2)
    moved = apg(c + 3, u + 3, b) - 3
    assert abs(moved - apg(c, u, b)).max() > 0.1


def test_derivatives_in_the_smooth_interior_and_beyond_the_bound():
    """The differential by differences in every direction, and its adjoint as the transposed matrix."""
    c, u, b = _draws(9, 3, 1, 3)
    for how in ({"radius": 0.4}, {"radius": 50.0, "parallel": 0.6}, {"scale": -2.0, "momentum": 0.5}):
        columns, h = [], 1e-6
        for e in np.eye(3)[:, None]:
            columns.append((apg(c + h * e, u, b, **how) - apg(c - h * e, u, b, **how))[0] / (2 * h))
        J = np.array(columns).T
        assert np.allclose(apg_jvp(c, u, b, u, **how)[0], J @ u[0], rtol=1e-7, atol=1e-7)
        assert np.allclose(apg_vjp(c, u, b, u, **how)[0], J.T @ u[0], rtol=1e-7, atol=1e-7)


def test_a_prediction_of_zero_has_nothing_parallel():
    zero, u = np.zeros((2, 3)), _draws(10, 2, 3)
    assert np.allclose(apg(zero, u, 0 * u, scale=3.0, radius=1e9), -2 * u, rtol=1e-15)
    assert np.isfinite(apg_vjp(zero, u, 0 * u, u)).all()


@pytest.mark.parametrize("name", ["added to the unconditional prediction", "one unit of guidance too strong"])
def test_what_public_code_computes_is_named(name):
    record = find("adaptive_projected_guidance.apg")
    other = next(d.f for d in record.deviations if d.name == name)
    verdict = verify(record.name, other, sizes=(4,))
    assert not verdict.conforms and any(name in str(e) for e in verdict.explanations), str(verdict)


def test_comfy_at_its_neutral_setting_is_one_more():
    """Plain guidance at scale + 1."""
    c, u = _draws(11, 2, 6, 3)
    record = find("adaptive_projected_guidance.apg")
    comfy = next(d.f for d in record.deviations if d.name == "one unit of guidance too strong")
    assert np.allclose(comfy(c, u, 0 * c, scale=4.0, **PLAIN), cfg(c, u, scale=5.0), rtol=0, atol=1e-12)


def test_bad_input():
    c = three_components().means
    with pytest.raises(ValueError, match="momentum must lie in"):
        apg(c, c, c, momentum=-1.5)
    with pytest.raises(ValueError, match="radius must lie in"):
        apg(c, c, c, radius=0.0)
    with pytest.raises(ValueError, match="buffer must have shape"):
        apg(c, c, c[:1])
