"""What is known of `trref.diffusion.self_attention_guidance`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Transform
from trref.catalog.diffusion.interfaces import GUIDED
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
from trref.problems.mixtures import GaussianMixture, MixtureNoise

SIZES = (
    (4, 4, 2),
    (4, 6, 1),
    (6, 4, 2),
    (3, 5, 1),
    (2, 2, 2),
    (6, 3, 3),
)  # rows, columns, side of a patch


def _attention(rng, N, heads, patches):
    logits = float(rng.choice((0.3, 2.0))) * rng.standard_normal(
        (N, heads, patches, patches)
    )
    weights = xp.exp(logits + rng.standard_normal(patches))
    return weights / weights.sum(3, keepdims=True)


def _example(rng, size):
    """Noisy images, noise like theirs, attention and its mask."""
    rows, columns, side = SIZES[int(rng.integers(len(SIZES)))]
    patches = rows * columns // side**2
    x, noise = rng.standard_normal((2, size, rows, columns))
    pixels = rows * columns
    factor = rng.standard_normal((2, pixels, pixels)) / math.sqrt(pixels)
    mixture = GaussianMixture(
        xp.array([0.4, 0.6]),
        rng.standard_normal((2, pixels)),
        factor @ factor.swapaxes(1, 2) + 0.1 * xp.eye(pixels),
    )
    return {
        "model": MixtureNoise(mixture),
        "x": x,
        "noise": noise,
        "mask": (rng.random((size, patches)) < 0.5).astype(float),
        "attention": _attention(rng, size, int(rng.integers(1, 4)), patches),
        "times": xp.full(size, float(rng.uniform(0.1, 0.9))),
    }


def _of(*names):
    def example(rng, size):
        everything = _example(rng, size)
        return {name: everything[name] for name in names}

    return example


# ---- the blur


def _bounced(i, length):
    """The pixel that is seen at place i when the edges are mirrors."""
    while not 0 <= i < length:
        i = -i if i < 0 else 2 * (length - 1) - i
        if length == 1:
            i = 0
    return i


def blur_by_pixels(x, *, sigma=1.0, kernel=9):
    """Pixel by pixel, the window in two dimensions."""
    half = kernel // 2
    window = {
        (k, j): math.exp(-(k * k + j * j) / (2 * sigma * sigma))
        for k in range(-half, half + 1)
        for j in range(-half, half + 1)
    }
    total, result = sum(window.values()), xp.zeros_like(x)
    for a in range(x.shape[1]):
        for b in range(x.shape[2]):
            for (k, j), g in window.items():
                seen = x[:, _bounced(a + k, x.shape[1]), _bounced(b + j, x.shape[2])]
                result[:, a, b] += g / total * seen
    return result


IMAGES = {
    "constant images": lambda: {"x": 0.7 + xp.zeros((2, 3, 4))},
    "one bright pixel in a corner": lambda: {"x": xp.eye(12)[:1].reshape(1, 3, 4)},
    "a window much wider than the image": lambda: {"x": xp.array([[[1.0, -2.0]]])},
    "one pixel": lambda: {"x": xp.array([[[2.0]], [[-1.0]]])},
}


# ---- the mask


def mask_by_patches(attention, *, threshold=1.0):
    """Brute force: the attention that each patch receives, by exactly rounded sums."""
    _, heads, patches, _ = attention.shape
    above = threshold + 1e-5 * threshold
    return xp.array(
        [
            [
                float(
                    math.fsum(float(a) for row in image[:, :, j] for a in row) / heads
                    > above
                )
                for j in range(patches)
            ]
            for image in attention
        ]
    )


def _one_map(rows):
    return {"attention": xp.array([[rows]])}


MAPS = {
    "flat attention": lambda: {"attention": xp.full((2, 3, 7, 7), 1 / 7)},
    "each patch to itself": lambda: {"attention": xp.zeros((1, 2, 4, 4)) + xp.eye(4)},
    "all to one patch": lambda: _one_map([[0.0, 1.0, 0.0]] * 3),
    "above the mean by rounding alone": lambda: _one_map(
        [[0.5 + 2.0**-50, 0.5 - 2.0**-50], [0.5, 0.5]]
    ),
    "above the mean by little": lambda: _one_map(
        [[0.5 + 2.0**-10, 0.5 - 2.0**-10], [0.5, 0.5]]
    ),
    "one patch": lambda: _one_map([[1.0]]),
}


def _with_rounding(attention, *, threshold=1.0):
    return (attention.mean(1).sum(1) > threshold).astype(attention.dtype)


# ---- the degraded image


def degrade_by_pixels(x, noise, mask, *, alpha_bar=0.5, sigma=1.0, kernel=9):
    """Brute force: pixel by pixel, each looked up in the mask."""
    N, rows, columns = x.shape
    side = round(math.sqrt(rows * columns / mask.shape[1]))
    x0 = (x - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5
    blurred, result = blur_by_pixels(x0, sigma=sigma, kernel=kernel), xp.zeros_like(x)
    for n in range(N):
        for a in range(rows):
            for b in range(columns):
                chosen = mask[n, a // side * (columns // side) + b // side]
                pixel = blurred[n, a, b] if chosen else x0[n, a, b]
                result[n, a, b] = (
                    alpha_bar**0.5 * pixel + (1 - alpha_bar) ** 0.5 * noise[n, a, b]
                )
    return result


def _clipped(x, noise, mask, *, alpha_bar=0.5, sigma=1.0, kernel=9):
    x0 = xp.clip(
        denoise(x.reshape(len(x), -1), noise.reshape(len(x), -1), alpha_bar=alpha_bar),
        -1,
        1,
    )
    clean = (
        math.sqrt(alpha_bar) * x0.reshape(x.shape) + math.sqrt(1 - alpha_bar) * noise
    )
    return degrade(clean, noise, mask, alpha_bar=alpha_bar, sigma=sigma, kernel=kernel)


CLIPPED = Deviation(
    "the estimate clipped to ±1",
    _clipped,
    seen_in="KU-CVLAB/Self-Attention-Guidance, guided_diffusion/gaussian_diffusion.py",
    computes="the blur of an estimate that is cut off at ±1 before, on masked pixels and on the others",
)


def _masked(mask):
    x = xp.array([[[1.0, -0.5], [2.0, 0.25]]])
    return {"x": x, "noise": x[:, ::-1] / 2, "mask": xp.array([mask])}


MASKS = {
    "nothing masked": lambda: _masked([0.0] * 4),
    "all masked": lambda: _masked([1.0] * 4),
    "one patch": lambda: _masked([1.0]),
    "one pixel of four": lambda: _masked([0.0, 0.0, 1.0, 0.0]),
}


# ---- guided noise


def _answers(rng, size):
    guided = GUIDED.example(rng, size)
    return {"noise": guided["conditional"], "degraded": guided["unconditional"]}


def _three_answers(rng, size):
    guided = GUIDED.example(rng, size)
    return {
        "conditional": guided["conditional"],
        "unconditional": guided["unconditional"],
        "degraded": guided["buffer"],
    }


def _two_rows():
    noise = xp.array([[1.0, -2.0, 0.5], [0.25, 0.0, 3.0]])
    return {"noise": noise, "degraded": noise[::-1] / 2}


def _three_rows():
    noise = _two_rows()
    return {
        "conditional": -noise["noise"],
        "unconditional": noise["noise"],
        "degraded": noise["degraded"],
    }


def noise_by_rows(noise, degraded, *, scale=0.75):
    return xp.array(
        [
            [a + scale * (a - b) for a, b in zip(*rows, strict=True)]
            for rows in zip(noise.tolist(), degraded.tolist(), strict=True)
        ]
    )


def three_by_rows(conditional, unconditional, degraded, *, scale=0.75, cfg_scale=7.5):
    rows = zip(
        conditional.tolist(), unconditional.tolist(), degraded.tolist(), strict=True
    )
    return xp.array(
        [
            [
                cfg_scale * c + (1 - cfg_scale + scale) * u - scale * d
                for c, u, d in zip(*row, strict=True)
            ]
            for row in rows
        ]
    )


def _as_guidance(inputs):
    """the degraded answer is the unconditional one"""
    return inputs, {"conditional": inputs["noise"], "unconditional": inputs["degraded"]}


def _same_condition(inputs):
    """the condition changes nothing"""
    inputs = {**inputs, "conditional": inputs["unconditional"]}
    return inputs, {"noise": inputs["unconditional"], "degraded": inputs["degraded"]}


def _from_the_degraded(noise, degraded, *, scale=0.75):
    return degraded + scale * (noise - degraded)


# ---- the whole


def _whole(attention):
    x = xp.array([[[1.0, -0.5], [2.0, 0.25]]])
    mixture = GaussianMixture(
        xp.array([0.5, 0.5]),
        xp.array([[1.0, 0, 0, 1], [-1, 1, 0, 0]]),
        0.5 * xp.stack([xp.eye(4)] * 2),
    )
    return {
        "model": MixtureNoise(mixture),
        "x": x,
        "noise": MixtureNoise(mixture)(x.reshape(1, 4), xp.array([0.4])).reshape(
            x.shape
        ),
        "attention": xp.array(attention),
        "times": xp.array([0.4]),
    }


def whole_by_pixels(
    model,
    x,
    noise,
    attention,
    times,
    *,
    alpha_bar=0.5,
    scale=0.75,
    threshold=1.0,
    sigma=1.0,
    kernel=9,
):
    """Brute force: from the brute force of the parts."""
    mask = mask_by_patches(attention, threshold=threshold)
    degraded = degrade_by_pixels(
        x, noise, mask, alpha_bar=alpha_bar, sigma=sigma, kernel=kernel
    )
    answer = model(degraded.reshape(len(x), -1), times).reshape(x.shape)
    return (1 + scale) * noise - scale * answer


def _whole_clipped(
    model,
    x,
    noise,
    attention,
    times,
    *,
    alpha_bar=0.5,
    scale=0.75,
    threshold=1.0,
    sigma=1.0,
    kernel=9,
):
    mask = attention_mask(attention, threshold=threshold)
    degraded = _clipped(x, noise, mask, alpha_bar=alpha_bar, sigma=sigma, kernel=kernel)
    answer = model(degraded.reshape(len(x), -1), times)
    return sag_noise(noise.reshape(answer.shape), answer, scale=scale).reshape(x.shape)


METHOD = Method(
    key="hong2022improving",
    provenance="confirmed",
    functions=(
        Transform(
            f=gaussian_blur,
            example=_of("x"),
            edges=IMAGES,
            wrt="x",
            jvp=lambda x, *, tangent, **how: gaussian_blur(tangent, **how),
            vjp=gaussian_blur_vjp,
            settings={
                "default": {},
                "for images of 128 pixels": {"sigma": 3.0, "kernel": 31},
                "no blur": {"kernel": 1},
                "probe": {"sigma": 0.7, "kernel": 5},
            },
            refused={
                "an even kernel": {"kernel": 8},
            },
        ),
        Estimator(
            f=attention_mask,
            example=_of("attention"),
            edges=MAPS,
            settings={"default": {}, "probe": {"threshold": 1.2}},
            brute_force=mask_by_patches,
            deviations=(
                Deviation(
                    "rounding decides where attention is flat",
                    _with_rounding,
                    seen_in="diffusers, pipelines/stable_diffusion_sag, sag_masking",
                    computes="1 wherever the attention is above the threshold, by rounding alone, too",
                ),
            ),
        ),
        Estimator(
            f=degrade,
            example=_of("x", "noise", "mask"),
            edges=MASKS,
            settings={
                "default": {},
                "probe": {"alpha_bar": 0.3, "sigma": 0.7, "kernel": 5},
            },
            brute_force=degrade_by_pixels,
            deviations=(CLIPPED,),
            refused={
                "an even kernel": {"kernel": 8},
                "a mask that does not tile the images": {
                    "mask": lambda mask: mask.repeat(3, 1)
                },
            },
        ),
        Estimator(
            f=sag_noise,
            example=_answers,
            edges={"two rows": _two_rows},
            settings={
                "default": {},
                "no guidance": {"scale": 0.0},
                "probe": {"scale": 0.3},
            },
            brute_force=noise_by_rows,
            limits=(
                Limit(
                    "adaptive_projected_guidance.cfg",
                    {"scale": 0.3},
                    {"scale": 1.3},
                    where=_as_guidance,
                ),
            ),
            deviations=(
                Deviation(
                    "the scale counted from the degraded answer",
                    _from_the_degraded,
                    seen_in="KU-CVLAB/Self-Attention-Guidance, whose guide_scale is 1 + s",
                    computes="scale times the difference from the degraded answer: one unit less",
                    documented=True,
                ),
            ),
        ),
        Estimator(
            f=sag_cfg_noise,
            example=_three_answers,
            edges={"two rows": _three_rows},
            settings={
                "default": {},
                "no self-attention": {"scale": 0.0},
                "probe": {"scale": 0.3, "cfg_scale": 2.5},
            },
            brute_force=three_by_rows,
            limits=(
                Limit("adaptive_projected_guidance.cfg", {"scale": 0.0}),
                Limit("self_attention_guidance.sag_noise", {}, where=_same_condition),
            ),
        ),
        Estimator(
            f=sag,
            example=_of("model", "x", "noise", "attention", "times"),
            edges={
                "flat attention": lambda: _whole(xp.full((1, 2, 4, 4), 0.25)),
                "all to one patch": lambda: _whole([[[[0.0, 0.0, 1.0, 0.0]] * 4]]),
                "one patch": lambda: _whole([[[[1.0]]]]),
            },
            settings={
                "default": {},
                "no guidance": {"scale": 0.0},
                "blur guidance": {"threshold": 1e-9},
                "probe": {
                    "alpha_bar": 0.3,
                    "scale": 0.4,
                    "threshold": 1.1,
                    "sigma": 0.7,
                    "kernel": 5,
                },
            },
            brute_force=whole_by_pixels,
            deviations=(
                Deviation(
                    "the estimate clipped to ±1",
                    _whole_clipped,
                    seen_in=CLIPPED.seen_in,
                    computes=CLIPPED.computes,
                ),
            ),
            sizes=(4, 8, 64),
            refused={
                "an even kernel": {"kernel": 8},
                "attention that does not tile the images": {
                    "attention": lambda attention: (
                        attention.repeat(3, 2).repeat(3, 3) / 3
                    )
                },
            },
        ),
    ),
)
