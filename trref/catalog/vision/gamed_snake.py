"""What is known of `trref.vision.gamed_snake`."""

import itertools
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective, Transform
from trref.catalog.record import Interface
from trref.nn import attention, conv
from trref.vision.gamed_snake import (
    PAIRS,
    Sample,
    Walk,
    bilinear,
    circular_conv,
    dice,
    difference_conv,
    difference_kernel,
    energy,
    evolve,
    inside,
    momentum_attention,
    smooth_l1,
)


def _places(rng, size):
    P, D = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    boundary = 40 * rng.standard_normal((P, D))
    near = boundary[rng.integers(0, P, size)]
    return {
        "points": near + rng.choice((0.5, 5.0)) * rng.standard_normal((size, D)),
        "boundary": boundary,
    }


def _windows(rng, size):
    N, C, K, H, L = size, *(int(v) for v in rng.integers((1, 1, 3, 3), (3, 3, 6, 6)))
    first, second = xp.array(PAIRS[rng.choice(list(PAIRS))]).T
    P = len(first)
    return {
        "image": rng.standard_normal((N, C, H, L)),
        "weights": rng.standard_normal((K, C, P)),
        "first": first.copy(),
        "second": second.copy(),
    }


def _weights(rng, size):
    given = _windows(rng, 1)
    C, P = given["weights"].shape[1:]
    return {
        "weights": rng.standard_normal((size, C, P)),
        "first": given["first"],
        "second": given["second"],
    }


def _window(image, weights, pairs):
    first, second = xp.array(pairs).T
    return {
        "image": xp.array(image),
        "weights": xp.array(weights),
        "first": first.copy(),
        "second": second.copy(),
    }


WINDOWS = Interface(
    "windows",
    example=_windows,
    edges={
        "a constant image": lambda: _window(
            xp.full((1, 1, 3, 4), 0.5), [[[1.0, -2.0]]], [(0, 8), (4, 1)]
        ),
        "a pair of one place": lambda: _window(
            xp.arange(9.0).reshape(1, 1, 3, 3), [[[1.0, 3.0]]], [(2, 2), (0, 1)]
        ),
    },
)


def _kernels(weights, first, second):
    K, C, P = weights.shape
    result = xp.zeros((K, C, 3, 3))
    for k, c, p in itertools.product(range(K), range(C), range(P)):
        for place, sign in ((int(first[p]), 1), (int(second[p]), -1)):
            result[k, c, place // 3, place % 3] += sign * float(weights[k, c, p])
    return result


def _conv_vjp(image, weights, first, second, cotangent):
    kernel = difference_kernel(weights, first, second)
    return conv.conv2d_vjp(image, kernel, cotangent)[0]


def _conv_jvp(image, weights, first, second, tangent):
    return difference_conv(tangent, weights, first, second)


def _ring(rng, size):
    C, D, r = (int(v) for v in rng.integers((1, 1, 0), (4, 4, 3)))
    return {
        "features": rng.standard_normal((size, C)),
        "kernel": rng.standard_normal((2 * r + 1, C, D)),
    }


def _ring_vjp(features, kernel, cotangent, *, dilation=1):
    r = len(kernel) // 2
    parts = [
        xp.roll(cotangent @ k.T, (j - r) * dilation, axis=0)
        for j, k in enumerate(kernel)
    ]
    return sum(parts)


def _ring_jvp(features, kernel, tangent, *, dilation=1):
    return circular_conv(tangent, kernel, dilation=dilation)


def _open_ends(features, kernel, *, dilation=1):
    """Zeros beyond the first and the last vertex."""
    r = len(kernel) // 2 * dilation
    wide = xp.pad(features, ((r, r), (0, 0)))
    V = len(features)
    parts = [wide[j * dilation : j * dilation + V] @ k for j, k in enumerate(kernel)]
    return sum(parts)


def _pictures(rng, size):
    C, H, L = (int(v) for v in rng.integers((1, 2, 2), (4, 6, 6)))
    return {
        "image": rng.standard_normal((C, H, L)),
        "rows": rng.uniform(-1, H, size),
        "columns": rng.uniform(-1, L, size),
    }


def _corner_by_corner(image, rows, columns):
    C, H, L = image.shape
    parts = [[], [], []]
    for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
        y, x = min(max(y, 0.0), H - 1), min(max(x, 0.0), L - 1)
        sums = [[0.0] * C for _ in range(3)]
        low_y, low_x = math.floor(y), math.floor(x)
        for i, j in itertools.product((0, 1), repeat=2):
            row, column = min(low_y + i, H - 1), min(low_x + j, L - 1)
            ay, ax = (y - low_y, x - low_x)
            wy, wx = (ay if i else 1 - ay), (ax if j else 1 - ax)
            sy, sx = 2 * i - 1, 2 * j - 1
            for k, weight in enumerate((wy * wx, sy * wx, wy * sx)):
                for c in range(C):
                    sums[k][c] += weight * float(image[c, row, column])
        for k in range(3):
            parts[k].append(sums[k])
    return Sample(*map(xp.array, parts))


def _memory(rng, size):
    D, E, T = (int(v) for v in rng.integers((1, 1, 1), (4, 4, 5)))
    return {
        "features": rng.standard_normal((size, D)),
        "history": rng.standard_normal((T, D)),
        "W_query": rng.standard_normal((D, E)),
        "W_key": rng.standard_normal((D, E)),
        "W_value": rng.standard_normal((D, D)),
    }


def _memory_vjp(features, history, W_query, W_key, W_value, cotangent):
    asked = [v[None] for v in (features @ W_query, history @ W_key, history @ W_value)]
    d_query, _, _ = attention.attention_vjp(*asked, cotangent[None])
    return cotangent + d_query[0] @ W_query.T


def _contours(rng, size):
    """A ring around the middle of a smooth energy."""
    H, L = (int(v) for v in rng.integers((4, 4), (9, 9)))
    y, x = xp.arange(float(H))[:, None] / H, xp.arange(float(L)) / L
    angle = 2 * math.pi * xp.arange(float(size)) / size
    return {
        "image": 20
        * xp.cos(3 * y + rng.uniform(0, 6))
        * xp.sin(4 * x + rng.uniform(0, 6)),
        "rows": H / 2 + H / 3 * xp.sin(angle),
        "columns": L / 2 + L / 3 * xp.cos(angle),
    }


def _vertex_by_vertex(
    image, rows, columns, *, lr=0.02, momentum=0.5, spring=0.1, steps=50
):
    H, L = image.shape
    at = lambda i, j: float(image[min(max(i, 0), H - 1), min(max(j, 0), L - 1)])  # noqa: E731
    slopes = xp.empty((2, H, L))
    for i, j in itertools.product(range(H), range(L)):
        slopes[0, i, j] = (at(i + 1, j) - at(i - 1, j)) / 2
        slopes[1, i, j] = (at(i, j + 1) - at(i, j - 1)) / 2
    V, place = len(rows), xp.stack([rows, columns], 1)
    speed, path = xp.zeros((V, 2)), [place]
    for _ in range(steps):
        moved = xp.empty((V, 2))
        for v in range(V):
            force = _corner_by_corner(slopes, place[v, :1], place[v, 1:]).value[0]
            for d in range(2):
                neighbours = place[v - 1, d] + place[(v + 1) % V, d] - 2 * place[v, d]
                speed[v, d] = (
                    momentum * speed[v, d] + lr * force[d] + spring * neighbours
                )
                moved[v, d] = place[v, d] + speed[v, d]
        place = moved
        path.append(place)
    path = xp.stack(path)
    return Walk(path[:, :, 0].copy(), path[:, :, 1].copy())


def _vertices(rng, size):
    D = int(rng.integers(1, 4))
    target = rng.standard_normal((size, D))
    scale = rng.choice((0.3, 3.0))
    return {
        "predicted": target + scale * rng.standard_normal((size, D)),
        "target": target,
    }


def _regions(rng, size):
    first, second = (rng.random((2, size)) < rng.random()).astype(float)
    return {"first": first, "second": second}


def _overlap(first, second):
    a, b = ({i for i, m in enumerate(v.tolist()) if m} for v in (first, second))
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def _polygons(rng, size):
    angle = xp.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 9))))
    radius = rng.uniform(1, 3, len(angle))
    return {
        "rows": radius * xp.sin(angle),
        "columns": radius * xp.cos(angle),
        "pixel_rows": rng.uniform(-3, 3, size),
        "pixel_columns": rng.uniform(-3, 3, size),
    }


def _crossings(rows, columns, pixel_rows, pixel_columns):
    """Edges that a ray to the right meets, one by one."""
    V, result = len(rows), []
    for y, x in zip(pixel_rows.tolist(), pixel_columns.tolist(), strict=True):
        count = 0
        for v in range(V):
            (y0, x0), (y1, x1) = (
                (float(rows[u % V]), float(columns[u % V])) for u in (v, v + 1)
            )
            if min(y0, y1) <= y < max(y0, y1):
                count += x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        result.append(float(count % 2))
    return xp.array(result)


SQUARE = {
    "rows": [0.0, 0.0, 2.0, 2.0],
    "columns": [0.0, 2.0, 2.0, 0.0],
    "pixel_rows": [1.0, 3.0, 1.0, -0.5],
    "pixel_columns": [1.0, 1.0, -1.0, 1.0],
}


METHOD = Method(
    key="zhang2025gamed",
    provenance={
        "confirmed": ("energy", "circular", "bilinear", "loss", "dice"),
        "reconstructed": (
            "energy-gradient",
            "difference",
            "kernel",
            "attention",
            "step",
        ),
    },
    functions=(
        Objective(
            f=energy,
            wrt="points",
            example=_places,
            edges={
                "on the boundary": lambda: {
                    "points": xp.array([[1.0, 2.0], [3.0, 2.0]]),
                    "boundary": xp.array([[1.0, 2.0], [3.0, 2.5]]),
                },
                "out of reach": lambda: {
                    "points": xp.array([[60.0], [53.0]]),
                    "boundary": xp.array([[0.0]]),
                },
                "halfway": lambda: {
                    "points": xp.array([[0.0]]),
                    "boundary": xp.array([[2.0], [-2.0]]),
                },
            },
        ),
        Estimator(
            f=difference_kernel,
            example=_weights,
            edges={
                "a pair of one place": lambda: {
                    "weights": xp.array([[[1.0, 3.0]]]),
                    "first": xp.array([2, 0]),
                    "second": xp.array([2, 1]),
                }
            },
            brute_force=_kernels,
            refused={
                "a first place outside the window": {"first": 99},
                "a second place outside the window": {"second": 99},
            },
        ),
        Transform(
            f=difference_conv,
            wrt="image",
            interface=WINDOWS,
            jvp=_conv_jvp,
            vjp=_conv_vjp,
            refused={
                "a first place outside the window": {"first": 99},
                "a second place outside the window": {"second": 99},
                "an image smaller than a window": {
                    "image": lambda image: image[:, :, :2]
                },
            },
        ),
        Transform(
            f=circular_conv,
            wrt="features",
            example=_ring,
            edges={
                "one vertex": lambda: {
                    "features": xp.array([[2.0]]),
                    "kernel": xp.array([[[1.0]], [[10.0]], [[100.0]]]),
                },
                "its own neighbour": lambda: {
                    "features": xp.array([[1.0], [3.0]]),
                    "kernel": xp.array([[[1.0]], [[0.0]], [[0.5]]]),
                },
            },
            settings={"default": {}, "probe": {"dilation": 3}},
            jvp=_ring_jvp,
            vjp=_ring_vjp,
            deviations=(
                Deviation(
                    "open ends",
                    _open_ends,
                    seen_in="one-dimensional convolutions of common libraries, as they are by default",
                    computes="zeros beyond the first and the last vertex",
                ),
            ),
            refused={
                "a kernel without a middle": {"kernel": lambda kernel: kernel[:-1]},
            },
        ),
        Estimator(
            f=bilinear,
            example=_pictures,
            edges={
                "on pixels, and outside": lambda: {
                    "image": xp.arange(6.0).reshape(1, 2, 3),
                    "rows": xp.array([0.0, 1.0, -2.0, 5.0]),
                    "columns": xp.array([1.0, 2.0, 0.5, 7.0]),
                },
                "one pixel": lambda: {
                    "image": xp.ones((1, 1, 1)),
                    "rows": xp.array([0.3]),
                    "columns": xp.array([-0.3]),
                },
            },
            brute_force=_corner_by_corner,
        ),
        Transform(
            f=momentum_attention,
            wrt="features",
            example=_memory,
            edges={
                "one entry of history": lambda: {
                    "features": xp.array([[1.0, 2.0]]),
                    "history": xp.array([[0.5, -1.0]]),
                    "W_query": xp.ones((2, 1)),
                    "W_key": xp.ones((2, 1)),
                    "W_value": xp.eye(2),
                },
            },
            vjp=_memory_vjp,
        ),
        Estimator(
            f=evolve,
            example=_contours,
            sizes=(4, 8),
            edges={
                "one vertex": lambda: {
                    "image": xp.arange(12.0).reshape(3, 4),
                    "rows": xp.array([1.2]),
                    "columns": xp.array([0.7]),
                },
                "out of the image": lambda: {
                    "image": xp.arange(4.0).reshape(2, 2) ** 2,
                    "rows": xp.array([-1.0, 3.0, 0.5]),
                    "columns": xp.array([0.5, 0.5, 9.0]),
                },
            },
            settings={
                "default": {"steps": 8},
                "nothing but the spring": {"steps": 4, "momentum": 0.0, "spring": 0.2},
                "probe": {"steps": 6, "lr": 0.05, "momentum": 0.8, "spring": 0.3},
            },
            brute_force=_vertex_by_vertex,
        ),
        Objective(
            f=smooth_l1,
            wrt="predicted",
            example=_vertices,
            edges={
                "at the kink": lambda: {
                    "predicted": xp.array([[1.0, -1.0], [0.0, 4.0]]),
                    "target": xp.zeros((2, 2)),
                },
                "one number": lambda: {
                    "predicted": xp.array([[0.3]]),
                    "target": xp.array([[0.1]]),
                },
            },
        ),
        Estimator(
            f=dice,
            example=_regions,
            edges={
                "both empty": lambda: {"first": xp.zeros(2), "second": xp.zeros(2)},
                "one pixel in all": lambda: {
                    "first": xp.array([1.0]),
                    "second": xp.array([0.0]),
                },
                "the same": lambda: {"first": xp.ones(1), "second": xp.ones(1)},
            },
            brute_force=_overlap,
        ),
        Estimator(
            f=inside,
            example=_polygons,
            edges={
                "a square": lambda: {n: xp.array(v) for n, v in SQUARE.items()},
                "a single vertex": lambda: {
                    "rows": xp.array([0.0]),
                    "columns": xp.array([1.0]),
                    "pixel_rows": xp.array([0.5]),
                    "pixel_columns": xp.array([0.5]),
                },
            },
            brute_force=_crossings,
        ),
    ),
)
