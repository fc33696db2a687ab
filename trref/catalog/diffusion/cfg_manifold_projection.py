"""What is known of `trref.diffusion.cfg_manifold_projection`."""

from trref.backend import linalg, xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.diffusion.cfg_manifold_projection import (
    anderson,
    anderson_weights,
    cfgmp_step,
    picard,
    smoothed_distance,
)
from trref.problems.mixtures import GaussianMixture, MixtureVelocity

# ---- the distance


def _points(rng, size):
    D = int(rng.integers(1, 5))
    M = int(rng.integers(1, 9))
    spread = float(rng.choice((0.3, 1.0, 4.0)))
    return {
        "x": spread * rng.standard_normal((size, D)),
        "data": rng.standard_normal((M, D)),
    }


DISTANCE_EDGES = {
    "one datum": lambda: {"x": xp.array([[1.0, 2.0]]), "data": xp.array([[0.5, 0.0]])},
    "halfway between two": lambda: {
        "x": xp.array([[0.0, 1.0], [0.0, 0.0]]),
        "data": xp.array([[1.0, 0.0], [-1.0, 0.0]]),
    },
    "far from all": lambda: {
        "x": xp.array([[300.0, -200.0]]),
        "data": xp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
    },
    "at a datum that is zero": lambda: {
        "x": xp.zeros((2, 3)),
        "data": xp.zeros((4, 3)),
    },
}


# ---- fixed points


def _models(rng, size):
    """A narrow class in wide data: the gap changes along the way, which Anderson's weights divide by."""
    D = int(rng.choice((1, 2, 3)))
    factor = rng.standard_normal((3, D, D)) / 3
    covariances = factor @ factor.swapaxes(1, 2)
    means = 0.7 * rng.standard_normal((3, D))
    wide = GaussianMixture(
        rng.dirichlet(xp.ones(2)), means[1:], covariances[1:] + 2 * xp.eye(D)
    )
    narrow = GaussianMixture(
        xp.ones(1), means[:1], covariances[:1] / 4 + 0.05 * xp.eye(D)
    )
    return {
        "conditional": MixtureVelocity(narrow),
        "unconditional": MixtureVelocity(wide),
        "x": 1.5 * rng.standard_normal((size, D)),
    }


def _four_modes(x, classes):
    means = xp.array([[1.5, 1.0], [1.5, -1.0], [-1.5, 1.0], [-1.5, -1.0]])
    mixture = GaussianMixture(
        xp.full(4, 0.25), means, 0.0625 * xp.stack([xp.eye(2)] * 4)
    )
    return {
        "conditional": MixtureVelocity(mixture.subset(xp.array(classes))),
        "unconditional": MixtureVelocity(mixture),
        "x": xp.array(x),
    }


MODELS = Interface(
    "two velocities",
    example=_models,
    edges={
        "a class of two modes": lambda: _four_modes(
            [[0.5, -1.0], [-2.0, 0.25], [0.0, 0.0]], [0, 1]
        ),
        "no condition": lambda: _four_modes([[0.5, -1.0], [2.0, 0.25]], [0, 1, 2, 3]),
        "one sample": lambda: _four_modes([[0.1, 0.7]], [2]),
    },
)
"""``f(conditional, unconditional, x (N D), *, u, next_u, …) -> (N D)``."""

PROBE = {"u": 0.7, "next_u": 0.4, "steps": 3}
PROBE_ANDERSON = {**PROBE, "window": 2, "damping": 0.6, "ridge": 0.05}


def _halves(conditional, unconditional, z, u, next_u, kind):
    """One map, in the words of the text."""
    half, t = (u - next_u) / 2, xp.full(len(z), u)
    if kind == "G":
        back = z + half * unconditional(z, t)
        return back - half * conditional(back, t)
    forth = z - half * conditional(z, t)
    return forth + half * unconditional(forth, t)


def picard_by_halves(
    conditional, unconditional, x, *, u=0.8, next_u=0.6, steps=2, kind="G"
):
    """Brute force: half step by half step, each sample by itself."""
    rows = []
    for n in range(len(x)):
        z = x[n : n + 1]
        for _ in range(steps):
            z = _halves(conditional, unconditional, z, u, next_u, kind)
        rows.append(z)
    return xp.concatenate(rows)


def weights_by_rows(residuals, *, ridge=1e-4):
    """Brute force: least squares of each sample, by singular values."""
    K, N, _ = residuals.shape
    result = xp.ones((N, K))
    for n in range(N if K > 1 else 0):
        F = residuals[:, n]
        tall = xp.concatenate([(F[-1] - F[:-1]).T, ridge * xp.eye(K - 1)])
        right = xp.concatenate([F[-1], xp.zeros(K - 1)])
        gamma = linalg.lstsq(tall, right, rcond=None)[0]
        result[n, :-1], result[n, -1] = gamma, 1 - gamma.sum()
    return result


def anderson_by_rows(
    conditional,
    unconditional,
    x,
    *,
    u=0.8,
    next_u=0.6,
    steps=2,
    kind="G",
    window=1,
    damping=1.0,
    ridge=1e-4,
):
    """Brute force: each sample by itself, with weights by singular values."""
    rows = []
    for n in range(len(x)):
        z, history = x[n : n + 1], []
        for _ in range(steps):
            history.append((z, _halves(conditional, unconditional, z, u, next_u, kind)))
            history = (
                history[len(history) - window - 1 :]
                if len(history) > window
                else history
            )
            alpha = weights_by_rows(xp.stack([G - y for y, G in history]), ridge=ridge)[
                0
            ]
            z = sum(
                a * ((1 - damping) * y + damping * G)
                for a, (y, G) in zip(alpha, history, strict=True)
            )
        rows.append(z)
    return xp.concatenate(rows)


def step_by_rows(
    conditional,
    unconditional,
    x,
    *,
    u=0.8,
    next_u=0.6,
    scale=4.0,
    steps=2,
    window=1,
    damping=1.0,
    ridge=1e-4,
    threshold=0.5,
    switch=0.95,
):
    """Brute force: from the brute force of the projection."""
    if u > threshold:
        how = {"steps": steps, "window": window, "damping": damping, "ridge": ridge}
        kind = "GH"[u >= switch]
        x = anderson_by_rows(
            conditional, unconditional, x, u=u, next_u=next_u, kind=kind, **how
        )
    t = xp.full(len(x), u)
    v = scale * conditional(x, t) + (1 - scale) * unconditional(x, t)
    return x + (next_u - u) * v


# ---- the weights


def _residuals(rng, size):
    K, D = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    scale = float(rng.choice((0.03, 1.0, 20.0)))
    return {"residuals": scale * rng.standard_normal((K, size, D))}


RESIDUALS = {
    "equal residuals": lambda: {"residuals": 0.5 + xp.zeros((3, 2, 2))},
    "residuals of zero": lambda: {"residuals": xp.zeros((2, 1, 3))},
    "opposite residuals": lambda: {
        "residuals": xp.array([[[1.0, -2.0]], [[-1.0, 2.0]]])
    },
    "more iterates than entries": lambda: {
        "residuals": xp.array([[[4.0]], [[2.0]], [[1.5]], [[1.0]]])
    },
    "one iterate": lambda: {"residuals": xp.array([[[0.3, 0.1], [2.0, 0.0]]])},
}


def _equal_ridge(residuals, *, ridge=1e-4):
    F = residuals.transpose(1, 0, 2)
    gram = F @ F.swapaxes(1, 2) + ridge * xp.eye(F.shape[1], dtype=F.dtype)
    alpha = linalg.solve(gram, xp.ones((*gram.shape[:2], 1), dtype=F.dtype))[:, :, 0]
    return alpha / alpha.sum(1, keepdims=True)


def _as_for_dit(
    conditional,
    unconditional,
    x,
    *,
    u=0.8,
    next_u=0.6,
    steps=2,
    kind="G",
    window=1,
    damping=1.0,
    ridge=1e-4,
):
    z, history = x, []
    for k in range(steps):
        G = picard(
            conditional, unconditional, z, u=u, next_u=next_u, steps=1, kind=kind
        )
        history = [*history, (z, G)][-window - 1 :]
        alpha = _equal_ridge(xp.stack([G - y for y, G in history]), ridge=ridge).T[
            :, :, None
        ]
        mixed = xp.stack([(1 - damping) * y + damping * G for y, G in history])
        z = (alpha * mixed).sum(0) if k else G
    return z + 0 * x


def _without_h(
    conditional,
    unconditional,
    x,
    *,
    u=0.8,
    next_u=0.6,
    scale=4.0,
    steps=2,
    window=1,
    damping=1.0,
    ridge=1e-4,
    threshold=0.5,
    switch=0.95,
):
    how = {"u": u, "next_u": next_u}
    if u > threshold:
        mixing = {"steps": steps, "window": window, "damping": damping, "ridge": ridge}
        x = _as_for_dit(conditional, unconditional, x, **how, **mixing)
    return cfgmp_step(conditional, unconditional, x, **how, scale=scale, threshold=1.0)


A_STEP_AWAY = {
    "a step away from the data": {"u": 0.2, "next_u": 0.6},
}


METHOD = Method(
    key="cai2026improving",
    provenance={
        "confirmed": ("velocity", "maps", "weights", "anderson", "step"),
        "partly": ("distance", "gradient"),
    },
    functions=(
        Objective(
            f=smoothed_distance,
            example=_points,
            edges=DISTANCE_EDGES,
            wrt="x",
            settings={"default": {}, "noise alone": {"u": 1.0}, "probe": {"u": 0.3}},
        ),
        Estimator(
            f=picard,
            interface=MODELS,
            sizes=(4, 8, 16),
            settings={
                "default": {},
                "forth and back": {"kind": "H"},
                "no iteration": {"steps": 0},
                "from noise to data": {"u": 1.0, "next_u": 0.0},
                "probe": {**PROBE, "kind": "H"},
            },
            brute_force=picard_by_halves,
            refused=A_STEP_AWAY,
        ),
        Estimator(
            f=anderson_weights,
            example=_residuals,
            edges=RESIDUALS,
            settings={"default": {}, "probe": {"ridge": 0.5}},
            brute_force=weights_by_rows,
            deviations=(
                Deviation(
                    "a ridge towards equal weights",
                    _equal_ridge,
                    seen_in="LeonSuZhengYi/CFG-MP, CFG-MP_DiT/utils_dit.py",
                    computes="weights proportional to the row sums of the inverse of the Gram matrix plus the ridge",
                ),
            ),
        ),
        Estimator(
            f=anderson,
            interface=MODELS,
            sizes=(4, 8, 16),
            settings={
                "default": {},
                "damped": {"damping": 0.7},
                "a window that moves": {"steps": 4, "ridge": 0.02},
                "three steps of a window of two": {
                    "steps": 3,
                    "window": 2,
                    "ridge": 0.02,
                },
                "probe": {**PROBE_ANDERSON, "kind": "H"},
            },
            brute_force=anderson_by_rows,
            limits=(
                Limit("cfg_manifold_projection.picard", {"window": 0}),
                Limit("cfg_manifold_projection.picard", {"steps": 1}, {"steps": 1}),
            ),
            deviations=(
                Deviation(
                    "the code for DiT",
                    _as_for_dit,
                    seen_in="LeonSuZhengYi/CFG-MP, CFG-MP_DiT/utils_dit.py",
                    computes="a first iterate without damping, then weights whose ridge pulls them together",
                ),
            ),
            refused=A_STEP_AWAY,
        ),
        Estimator(
            f=cfgmp_step,
            interface=MODELS,
            sizes=(4, 8, 16),
            settings={
                "default": {},
                "CFG-MP": {"window": 0},
                "where noise is all": {"u": 1.0, "next_u": 0.9, "ridge": 0.05},
                "below the threshold": {"u": 0.4, "next_u": 0.3},
                "at the threshold": {"u": 0.5, "next_u": 0.3},
                "at the switch": {"u": 0.95, "next_u": 0.75, "ridge": 0.05},
                "probe": {
                    **PROBE_ANDERSON,
                    "scale": 2.5,
                    "threshold": 0.35,
                    "switch": 0.65,
                },
            },
            brute_force=step_by_rows,
            deviations=(
                Deviation(
                    "the code for DiT",
                    _without_h,
                    seen_in="LeonSuZhengYi/CFG-MP, CFG-MP_DiT",
                    computes="G at all noise times, a first iterate without damping, a ridge towards equal weights",
                ),
            ),
            refused=A_STEP_AWAY,
        ),
    ),
)
