"""Theorems of self-attention guidance: SciPy's blur, the mean of attention, what guidance does to the estimate."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from trref.catalog import find
from trref.conformance import verify
from trref.diffusion.adaptive_projected_guidance import cfg
from trref.diffusion.score_models import denoise
from trref.diffusion.self_attention_guidance import (
    attention_mask,
    degrade,
    gaussian_blur,
    gaussian_blur_vjp,
    sag,
    sag_cfg_noise,
    sag_noise,
)
from trref.problems.mixtures import GaussianMixture, MixtureDenoiser, MixtureNoise, template_images, vp_schedule

TIME = 0.3
ALPHA_BAR = float(vp_schedule(np.array(TIME))[0] ** 2)


def _draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def _attention(seed, N=3, heads=2, patches=16):
    weights = np.exp(_draws(seed, N, heads, patches, patches) + _draws(seed + 1, patches))
    return weights / weights.sum(3, keepdims=True)


def _flat(x):
    return x.reshape(len(x), -1)


def _estimate(x, noise, alpha_bar=ALPHA_BAR):
    return denoise(_flat(x), _flat(noise), alpha_bar=alpha_bar).reshape(x.shape)


@pytest.mark.parametrize(("sigma", "kernel"), [(1.0, 9), (0.7, 5), (3.0, 31)])
@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (16, 20), (20, 1)])
def test_the_blur_is_scipys(sigma, kernel, shape):
    """SciPy's mirror is an edge that is not repeated; its window reaches round(truncate sigma) pixels."""
    x = _draws(0, *shape)
    theirs = gaussian_filter(x, sigma, mode="mirror", radius=kernel // 2)
    assert np.allclose(gaussian_blur(x[None], sigma=sigma, kernel=kernel)[0], theirs, rtol=0, atol=1e-13)


def test_the_adjoint_by_every_pixel():
    shape = (3, 4)
    pixels = np.eye(12).reshape(12, *shape)
    B = _flat(gaussian_blur(pixels, kernel=5))
    assert np.allclose(_flat(gaussian_blur_vjp(pixels, pixels, kernel=5)), B.T, rtol=0, atol=1e-15)
    assert abs(B - B.T).max() > 0.05, "the edges make it no symmetric matrix"


def test_what_the_blur_leaves():
    constant = np.full((2, 5, 6), 0.3)
    assert np.allclose(gaussian_blur(constant), constant, rtol=1e-14)
    x = _draws(1, 2, 5, 6)
    assert np.array_equal(gaussian_blur(x, kernel=1), x)
    assert np.allclose(gaussian_blur(x, sigma=0.05), x, rtol=0, atol=1e-15)


def test_by_hand():
    """Window (1, 2, 1)/4 of three pixels: sigma² = 1/(2 log 2). Mirrored at the left edge, 2·(-2)/4 + 2·1/4."""
    x = np.array([[[1.0, -2.0, 0.0]]])
    blurred = gaussian_blur(x, sigma=(2 * np.log(2)) ** -0.5, kernel=3)
    assert blurred[0, 0] == pytest.approx([-0.5, -0.75, -1.0])
    # attention to the second patch 1.5, to the first 0.5
    attention = np.array([[[[0.5, 0.5], [0.25, 0.75]], [[0.75, 0.25], [0.5, 0.5]]]])
    assert attention_mask(attention).tolist() == [[0.0, 0.0]]  # a mean of 1 each: 0.625 + 0.375 of the second
    attention[0, 1] = [[0.0, 1.0], [0.25, 0.75]]
    assert attention_mask(attention).tolist() == [[0.0, 1.0]]


def test_attention_received_is_one_on_average():
    attention = _attention(2)
    received = attention.mean(1).sum(1)
    assert np.allclose(received.mean(1), 1, rtol=1e-14)
    mask = attention_mask(attention)
    assert np.array_equal(mask == 1, received > 1) and 0 < mask.mean() < 1


@pytest.mark.parametrize("patches", [1, 3, 7, 49, 64])
def test_flat_attention_masks_nothing(patches):
    for dtype in ("float32", "float64"):
        assert not attention_mask(np.full((2, 3, patches, patches), 1 / patches, dtype=dtype)).any()


def test_masks_are_enlarged_patch_by_patch():
    """Four patches of 2 x 3 ... of 4 x 6 pixels: the second patch is rows 0 and 1, columns 2 and 3."""
    x, noise = _draws(3, 2, 1, 4, 6)
    mask = np.zeros((1, 6))
    mask[0, 1] = 1
    changed = abs(degrade(x, noise, mask) - x)[0] > 1e-12
    expected = np.zeros((4, 6), dtype=bool)
    expected[:2, 2:4] = True
    assert np.array_equal(changed, expected)


def test_without_a_mask_nothing_is_degraded_and_with_all_it_is_the_blur():
    x, noise = _draws(4, 2, 3, 4, 4)
    assert np.allclose(degrade(x, noise, np.zeros((3, 4))), x, rtol=0, atol=1e-14)
    assert np.allclose(degrade(x, noise, np.ones((3, 16)), kernel=1), x, rtol=0, atol=1e-14)
    blurred = gaussian_blur(_estimate(x, noise, 0.5))
    assert np.allclose(_estimate(degrade(x, noise, np.ones((3, 4))), noise, 0.5), blurred, rtol=0, atol=1e-13)


def _mixture():
    mixture = template_images(np.random.default_rng(0), templates=8, spread=0.3)
    t = np.full(5, TIME)
    alpha, sigma = vp_schedule(t[0])
    x = alpha * mixture.sample(np.random.default_rng(1), 5) + sigma * _draws(5, 5, 64)
    return mixture, x, t


def test_what_it_does_to_the_estimate():
    """The guided estimate is x0 - s (D(x̄) - x̄0), for any model."""
    mixture, x, t = _mixture()
    for model in (MixtureNoise(mixture), lambda x, t: np.sin(3 * x) + t[:, None]):
        noise = model(x, t).reshape(5, 8, 8)
        images, attention = x.reshape(5, 8, 8), _attention(6, 5, 2, 16)
        guided = sag(model, images, noise, attention, t, alpha_bar=ALPHA_BAR, scale=0.6)
        degraded = degrade(images, noise, attention_mask(attention), alpha_bar=ALPHA_BAR)
        blurred = _estimate(degraded, noise)
        again = _estimate(degraded, model(_flat(degraded), t).reshape(noise.shape))
        expected = _estimate(images, noise) - 0.6 * (again - blurred)
        assert np.allclose(_estimate(images, guided), expected, rtol=0, atol=1e-12)


def test_detail_grows_in_ambiguous_directions_only():
    """To first order D(x̄) - x̄0 = (I - sqrt(alpha_bar) J)(x0 - x̄0), J by the exact posterior covariance."""
    mixture, x, t = _mixture()
    alpha, sigma = vp_schedule(t[0])
    x[3:] = alpha * (mixture.means[[0, 2]] + mixture.means[[1, 3]]) / 2  # halfway between templates
    x0 = MixtureDenoiser(mixture)(x, t)
    h = 1e-5
    moved = h * _draws(7, 5, 64)  # a tiny blur: x̄0 = x0 - moved
    again = MixtureDenoiser(mixture)(x - alpha * moved, t)
    # Cov(x0|x) = sigma²/alpha² (I + sigma² ∇² log p)
    hessian = mixture.noised(alpha, sigma).score_jacobian(x)
    covariance = (sigma / alpha) ** 2 * (np.eye(64) + sigma**2 * hessian)
    J = (alpha / sigma) ** 2 * covariance  # alpha times the denoiser's Jacobian
    first = moved - np.einsum("nij,nj->ni", J, moved)
    assert np.allclose((again - (x0 - moved)) / h, first / h, rtol=0, atol=1e-3 * abs(first / h).max())
    largest = np.linalg.eigvalsh(J).max(1)
    assert (largest[:3] < 1).all() and (largest[3:] > 1).all(), "exaggerated between templates, weakened at one"


def test_one_gaussian_only_loses_detail():
    """All eigenvalues of sqrt(alpha_bar) J are below 1: guidance moves the estimate towards its blur."""
    data = GaussianMixture(np.ones(1), np.zeros((1, 16)), 0.25 * np.eye(16)[None])
    x, t = _draws(8, 4, 16), np.full(4, TIME)
    noise = MixtureNoise(data)(x, t).reshape(4, 4, 4)
    flat = np.zeros((4, 1, 1, 1)) + 1.0
    images = x.reshape(4, 4, 4)
    guided = sag(MixtureNoise(data), images, noise, flat, t, alpha_bar=ALPHA_BAR, scale=0.5, threshold=0.5)
    x0 = _estimate(images, noise)
    detail = x0 - gaussian_blur(x0)
    moved = _estimate(images, guided) - x0
    alpha, sigma = np.sqrt(ALPHA_BAR), np.sqrt(1 - ALPHA_BAR)
    share = alpha**2 * 0.25 / (alpha**2 * 0.25 + sigma**2)
    assert np.allclose(moved, -0.5 * (1 - share) * detail, rtol=0, atol=1e-12)


def test_limits_of_the_two_rules():
    c, u, d = _draws(9, 3, 6, 5)
    assert np.allclose(sag_noise(c, d, scale=0.0), c, rtol=0, atol=1e-14)
    assert np.allclose(sag_noise(c, c), c, rtol=0, atol=1e-14)
    assert np.allclose(sag_cfg_noise(c, u, u), cfg(c, u), rtol=0, atol=1e-14)
    assert np.allclose(sag_cfg_noise(c, c, d, cfg_scale=3.0), sag_noise(c, d), rtol=0, atol=1e-14)


def test_clipping_breaks_what_it_does_to_the_estimate():
    """With the estimate cut off at ±1 even an empty mask changes the image."""
    record = find("self_attention_guidance.degrade")
    clipped = record.deviations[0].f
    x, noise = 2 * _draws(10, 2, 2, 4, 4)
    assert abs(clipped(x, noise, np.zeros((2, 4))) - x).max() > 0.1


def test_what_public_code_computes_is_named():
    record = find("self_attention_guidance.attention_mask")
    verdict = verify(record.name, record.deviations[0].f, sizes=(4,))
    assert not verdict.conforms and any("rounding" in str(e) for e in verdict.explanations), str(verdict)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, m: gaussian_blur(x, kernel=4), "kernel must be odd"),
        (lambda x, m: gaussian_blur(x, sigma=0.0), "sigma must lie in"),
        (lambda x, m: degrade(x, x, m[:, :3]), "mask: 3 patches do not tile images of 4 x 6 pixels"),
        (lambda x, m: degrade(x, x, np.zeros((2, 2))), "mask: 2 patches do not tile"),
        (lambda x, m: degrade(x, x, np.zeros((2, 25))), "mask: 25 patches do not tile"),
        (lambda x, m: attention_mask(np.ones((2, 1, 3, 3))), "attention must be non-negative, with sums of 1"),
        (
            lambda x, m: sag(lambda x, t: x[:, :1], x, x, np.full((2, 1, 6, 6), 1 / 6), np.ones(2)),
            "model must return an array of shape",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(_draws(0, 2, 4, 6), np.zeros((2, 6)))


def test_an_answer_of_another_precision_is_refused():
    x = np.zeros((1, 2, 2))
    with pytest.raises(TypeError, match="model must return float64, as x is, not float32"):
        sag(lambda x, t: x.astype(np.float32), x, x, np.full((1, 1, 4, 4), 0.25), np.ones(1))
