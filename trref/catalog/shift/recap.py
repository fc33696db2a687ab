"""What is known of `trref.shift.recap`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.record import Interface
from trref.shift.recap import (
    Sampled,
    averaged_bound,
    entropy_bound,
    entropy_objective,
    recap_objective,
    region_entropy,
    region_instability,
    region_variances,
    sample_weights,
    sampled_confidence,
)


def _example(rng, size):
    K, D, R = (int(rng.integers(low, 5)) for low in (2, 1, 1))
    near = rng.dirichlet(xp.ones(K), size)
    return {
        "features": rng.standard_normal((size, D)),
        "head": rng.choice((0.3, 1.0)) * rng.standard_normal((K, D)),
        "bias": 0.5 * rng.standard_normal(K),
        "variance": rng.uniform(0.1, 1.0, D),
        "noise": rng.standard_normal((R, size, D)),
        "mean_prob": near,
    }


def _given(features, head, bias, variance):
    z, K = xp.array(features), len(head)
    return {
        "features": z,
        "head": xp.array(head),
        "bias": xp.array(bias),
        "variance": xp.array(variance),
        "noise": xp.cos(1 + 3 * xp.arange(2.0 * z.size)).reshape(2, *z.shape),
        "mean_prob": xp.full((len(z), K), 1 / K),
    }


def _equal_rows():
    """Nothing in the region changes the prediction; no noise, for else rounding would be all there is."""
    same = _given([[0.5], [-2.0]], [[1.0], [1.0], [1.0]], [0.0, 1.0, -1.0], [0.5])
    return {**same, "noise": xp.zeros((1, 2, 1))}


REGION = Interface(
    "regions",
    example=_example,
    edges={
        "no region": lambda: _given(
            [[0.5, -0.3]], [[1.0, 0.0], [0.0, 2.0]], [0.1, 0.0], [0.0, 0.0]
        ),
        "equal rows of the head": _equal_rows,
        "sure": lambda: _given(
            [[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], [0.1, 0.2]
        ),
        "undecided": lambda: _given(
            [[0.1]], [[1.0], [-1.0], [0.5]], [0.0, 0.0, 0.0], [0.3]
        ),
        "a wide region": lambda: _given(
            [[3.0, 1.0]], [[2.0, 0.5], [0.3, -1.0]], [0.0, 0.2], [2.0, 1.0]
        ),
    },
)


def _softmax(z):
    e = [math.exp(v - max(z)) for v in z]
    return [v / math.fsum(e) for v in e]


def _probabilities(z, head, bias):
    inner = lambda a: math.fsum(x * y for x, y in zip(a, z, strict=True))  # noqa: E731
    logits = [inner(a) + b for a, b in zip(head.tolist(), bias.tolist(), strict=True)]
    return logits, _softmax(logits)


def _spread(features):
    """Half the mean squared difference of all pairs."""
    columns = features.T.tolist()
    square = lambda c: math.fsum((a - b) ** 2 for a in c for b in c)  # noqa: E731
    return xp.array([square(c) / (2 * len(c) ** 2) for c in columns])


def _one_draw_after_another(features, head, bias, variance, noise, *, tau=1.2):
    entropies, divergences = [], []
    for i, z in enumerate(features.tolist()):
        p, H, KL = _probabilities(z, head, bias)[1], [], []
        for e in noise[:, i].tolist():
            near = [
                v + math.sqrt(tau * s) * w
                for v, s, w in zip(z, variance.tolist(), e, strict=True)
            ]
            q = _probabilities(near, head, bias)[1]
            H.append(-math.fsum(v * math.log(v) for v in q))
            KL.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        entropies.append(math.fsum(H) / len(H))
        divergences.append(math.fsum(KL) / len(KL))
    return Sampled(xp.array(entropies), xp.array(divergences))


def _heights(p, head, variance, size):
    """log of sum_j e_ij p_j / p_i, term by term."""
    K, v = len(p), variance.tolist()
    off = lambda i, j: math.fsum(  # noqa: E731
        s * (x - y) ** 2
        for s, x, y in zip(v, head[i].tolist(), head[j].tolist(), strict=True)
    )
    moment = lambda i: math.fsum(  # noqa: E731
        math.exp(size / 2 * off(i, j)) * p[j] for j in range(K)
    )
    return [math.log(moment(i) / p[i]) for i in range(K)]


def _means(mean_prob, features, head, bias, variance, *, tau=1.2):
    result = []
    for m, z in zip(mean_prob.tolist(), features.tolist(), strict=True):
        p = _probabilities(z, head, bias)[1]
        h = _heights(p, head, variance, tau)
        result.append(math.fsum(a * b for a, b in zip(m, h, strict=True)))
    return xp.array(result)


def _weights(
    features,
    head,
    bias,
    variance,
    *,
    tau=1.2,
    threshold=0.8,
    cap=3.0,
    mode="general",
):
    ours, limit = [], threshold * math.log(len(head))
    for z in features.tolist():
        logits, p = _probabilities(z, head, bias)
        h = _heights(p, head, variance, tau if mode == "general" else 10 * tau)
        n = [
            math.fsum(
                (tau * s / 2 if mode == "general" else 5e-4) * x * x
                for s, x in zip(variance.tolist(), a, strict=True)
            )
            for a in head.tolist()
        ]
        q = _softmax([a + b for a, b in zip(logits, n, strict=True)])
        entropy = math.fsum(a * b for a, b in zip(q, h, strict=True))
        ours.append(min(math.exp(limit - entropy), cap) if entropy < limit else 0.0)
    return xp.array(ours) / max(sum(w > 0 for w in ours), 1)


def _of_logits(inputs):
    """the features are the logits"""
    K = len(inputs["head"])
    logits = inputs["features"] @ inputs["head"].T + inputs["bias"]
    ours = {
        "features": logits,
        "head": xp.eye(K),
        "bias": xp.zeros(K),
        "variance": xp.ones(K),
    }
    return ours, {"logits": logits}


AT_A_POINT = Limit(
    to="recap.entropy_objective", hyper={"tau": 0.0}, to_hyper={}, where=_of_logits
)


def _as_tent(
    features,
    head,
    bias,
    variance,
    *,
    tau=1.2,
    instability_weight=0.5,
    threshold=0.8,
    cap=3.0,
    mode="general",
):
    return recap_objective(
        features,
        head,
        bias,
        variance,
        tau=tau,
        instability_weight=instability_weight,
        mode=mode,
        weights=xp.full(len(features), 1 / len(features), dtype=features.dtype),
    )


SIZES = {
    "default": {},
    "no region": {"tau": 0.0},
    "released": {"mode": "released", "tau": 0.1},
    "probe": {"tau": 0.4, "mode": "released"},
}

METHOD = Method(
    key="hu2025beyond",
    provenance={
        "confirmed": (
            "instability",
            "entropy",
            "height",
            "weight",
            "objective",
            "point",
        ),
        "partly": ("region", "sampled"),
        "reconstructed": ("entropy-gradient", "centre", "averaged", "bound"),
    },
    functions=(
        Estimator(
            f=region_variances,
            example=lambda rng, size: {
                "features": rng.choice((0.1, 1.0, 10.0))
                * rng.standard_normal((size, int(rng.integers(1, 5))))
            },
            edges={
                "equal features": lambda: {"features": xp.full((3, 2), 0.1)},
                "one input": lambda: {"features": xp.array([[1.0, -2.0]])},
            },
            brute_force=_spread,
        ),
        Estimator(
            f=sampled_confidence,
            interface=REGION,
            settings={"default": {}, "probe": {"tau": 0.4}},
            brute_force=_one_draw_after_another,
        ),
        Objective(
            f=entropy_objective,
            wrt="logits",
            example=lambda rng, size: {
                "logits": rng.choice((0.3, 3.0))
                * rng.standard_normal((size, int(rng.integers(2, 5))))
            },
            edges={
                "undecided": lambda: {"logits": xp.zeros((2, 4))},
                "sure": lambda: {"logits": xp.array([[6.0, 0.0]])},
                "one class": lambda: {"logits": xp.array([[0.5]])},
            },
        ),
        Objective(
            f=region_entropy,
            wrt="features",
            interface=REGION,
            settings={
                **SIZES,
                "centred": {"centre": True},
                "probe": {"tau": 0.4, "mode": "released", "centre": True},
            },
            limits=(AT_A_POINT,),
        ),
        Objective(
            f=region_instability,
            wrt="features",
            interface=REGION,
            settings=SIZES,
        ),
        Estimator(
            f=averaged_bound,
            interface=REGION,
            settings={"default": {}, "probe": {"tau": 0.4}},
            brute_force=_means,
        ),
        Objective(
            f=entropy_bound,
            wrt="features",
            interface=REGION,
            settings={"default": {}, "probe": {"tau": 0.4}},
            limits=(AT_A_POINT,),
        ),
        Estimator(
            f=sample_weights,
            interface=REGION,
            settings={
                "default": {},
                "nobody": {"threshold": -1.0},
                "everybody": {"threshold": 40.0, "cap": 0.5},
                "probe": {
                    "tau": 0.1,
                    "threshold": 1.7,
                    "cap": 1.5,
                    "mode": "released",
                },
            },
            brute_force=_weights,
        ),
        Objective(
            f=recap_objective,
            wrt="features",
            interface=REGION,
            stopped={"weights": sample_weights},
            settings={
                "default": {},
                "entropy alone": {"instability_weight": 0.0, "threshold": 1.5},
                "probe": {
                    "tau": 0.1,
                    "instability_weight": 0.7,
                    "threshold": 1.3,
                    "cap": 1.5,
                    "mode": "released",
                },
            },
            deviations=(
                Deviation(
                    "neither selection nor weights",
                    _as_tent,
                    seen_in="hzcar/ReCAP, the version for Tent",
                    computes="the plain mean over all samples",
                ),
            ),
        ),
    ),
)
