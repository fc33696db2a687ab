"""What is known of `trref.optimization.prospect`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method
from trref.catalog.optimization.interfaces import RISK, rising_spectrum
from trref.optimization.prospect import minibatch_descent, prospect
from trref.optimization.spectral_risk import smooth_risk


def _example(rng, size):
    """A model and its samples as in the examples of risks, and which samples are looked at."""
    T, B = int(rng.integers(2, 8)), int(rng.integers(2, 6))
    risk = RISK.example(rng, size)
    return {
        "samples": risk["samples"],
        "theta": risk["theta"],
        "spectrum": risk["spectrum"],
        "order": rng.integers(0, size, T),
        "batches": rng.integers(0, size, (T, B)),
        "weights": rising_spectrum(rng, B),
    }


def _edge(name, order):
    def make():
        risk, order_ = RISK.edges[name](), xp.array(order)
        n = len(risk["spectrum"])
        return {
            "samples": risk["samples"],
            "theta": risk["theta"],
            "spectrum": risk["spectrum"],
            "order": order_,
            "batches": xp.stack([(order_[0] + xp.arange(n)) % n, xp.arange(n)]),
            "weights": risk["spectrum"],
        }

    return make


EDGES = {
    "one sample": _edge("one sample", [0, 0, 0]),
    "the same sample again": _edge("some are equal", [0, 0, 0]),
    "one step": _edge("far apart", [2]),
    "equal losses": _edge("equal losses", [3, 1]),
    "equal weights": _edge("equal weights", [1, 0, 3, 1]),
    "the largest alone": _edge("the largest alone", [1, 0, 2, 1, 1]),
}
WALK = Interface("walk", example=_example, edges=EDGES)


def _of_batches(arguments, inputs):
    """Batches bring a spectrum of their own length."""
    return {**arguments, "spectrum": arguments["weights"]}


BATCHES = Interface("batches", example=_example, edges=EDGES, fit=_of_batches)


def _one(samples, i, theta, inside):
    losses, gradients = samples.each(theta)
    return float(losses[i]), gradients[i] + inside * theta


def _by_memory(
    samples,
    theta,
    spectrum,
    order,
    *,
    lr,
    shift_cost=1.0,
    penalty="chi2",
    l2=0.0,
    regulariser="gradient",
):
    """With the point at which each sample was seen last, and all else computed from these points."""
    how = {"shift_cost": shift_cost, "penalty": penalty}
    inside = l2 if regulariser == "gradient" else 0.0
    n = len(samples)

    def worst(seen):
        losses = [_one(samples, j, seen[j], inside)[0] for j in range(n)]
        return smooth_risk(xp.array(losses), spectrum, **how)[1]

    seen, points = [theta] * n, [theta]
    weight_then = worst(seen).tolist()
    for i in order:
        here, now = points[-1], worst(seen)
        old = [_one(samples, j, seen[j], inside)[1] for j in range(n)]
        v = n * now[i] * _one(samples, i, here, inside)[1]
        v = v - n * weight_then[i] * old[i]
        v = v + sum(w * g for w, g in zip(weight_then, old, strict=True))
        shrink = 1 + lr * l2 if regulariser == "prox" else 1.0
        points.append((here - lr * v) / shrink)
        seen[i], weight_then[i] = here, float(now[i])
    return xp.stack(points)


def _dear_divergence(
    samples,
    theta,
    spectrum,
    order,
    *,
    lr,
    shift_cost=1.0,
    penalty="chi2",
    l2=0.0,
    regulariser="gradient",
):
    cost = shift_cost * len(samples) if penalty == "kl" else shift_cost
    return prospect(
        samples,
        theta,
        spectrum,
        order,
        lr=lr,
        shift_cost=cost,
        penalty=penalty,
        l2=l2,
        regulariser=regulariser,
    )


DEAR_DIVERGENCE = Deviation(
    "n times the price of the Kullback-Leibler penalty",
    _dear_divergence,
    seen_in="ronakdm/prospect src/optim/prospect.py, self.shift_cost = n * shift_cost with penalty 'neg_entropy'",
    computes="the iterates for the price that the chi-square penalty would have before its factor n / 2",
)


def _by_batches(
    samples,
    theta,
    spectrum,
    batches,
    *,
    lr,
    shift_cost=1.0,
    penalty="chi2",
    l2=0.0,
):
    points = [theta]
    for batch in batches.tolist():
        pairs = [_one(samples, i, points[-1], 0.0) for i in batch]
        losses = xp.array([loss for loss, _ in pairs])
        q = smooth_risk(losses, spectrum, shift_cost=shift_cost, penalty=penalty)[1]
        v = sum(w * g for w, (_, g) in zip(q, pairs, strict=True))
        points.append(points[-1] - lr * (v + l2 * points[-1]))
    return xp.stack(points)


def _same_sample(inputs):
    """there is one sample, and each step sees it"""
    samples, T = inputs["samples"].on(slice(0, 1)), len(inputs["order"])
    zeros = xp.zeros((T, 1), int)
    given = {**inputs, "samples": samples, "spectrum": xp.ones(1)}
    return {**given, "order": zeros[:, 0]}, {**given, "batches": zeros}


PRICES = {"shift_cost": 0.3, "penalty": "kl", "l2": 0.2}

METHOD = Method(
    key="mehta2024distributionally",
    provenance="confirmed",
    functions=(
        Estimator(
            f=prospect,
            interface=WALK,
            settings={
                "default": {"lr": 0.01},
                "prox": {"lr": 0.03, "l2": 0.4, "regulariser": "prox"},
                "in the gradient": {"lr": 0.03, "l2": 0.4},
                "kl": {"lr": 0.02, "penalty": "kl"},
                "probe": {"lr": 0.02, "regulariser": "prox", **PRICES},
            },
            sizes=(4, 8, 64),
            limits=(
                Limit(
                    "prospect.minibatch_descent",
                    {"lr": 0.03, "l2": 0.2},
                    {"lr": 0.03, "l2": 0.2},
                    where=_same_sample,
                ),
            ),
            deviations=(DEAR_DIVERGENCE,),
            brute_force=_by_memory,
            refused={
                "a spectrum of another length": {
                    "spectrum": lambda spectrum: spectrum[:-1]
                },
                "a sample that there is not": {"order": 99},
            },
        ),
        Estimator(
            f=minibatch_descent,
            interface=BATCHES,
            settings={
                "default": {"lr": 0.05},
                "probe": {"lr": 0.02, **PRICES},
            },
            brute_force=_by_batches,
            refused={
                "a sample that there is not": {"batches": 99},
            },
        ),
    ),
)
