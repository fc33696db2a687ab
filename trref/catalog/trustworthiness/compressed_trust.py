"""What is known of `trref.trustworthiness.compressed_trust`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method
from trref.trustworthiness.compressed_trust import Report, trust_change, trust_report


def _example(rng, size):
    K = int(rng.integers(2, 5))
    labels = rng.integers(0, K, size)
    sure = rng.choice((0.5, 2.0)) * (labels[:, None] == xp.arange(K))
    return {
        name: sure * share + rng.standard_normal((size, K))
        for name, share in (
            ("logits", 1.0),
            ("attacked_logits", 0.0),
            ("dense_logits", 1.5),
            ("dense_attacked_logits", 0.5),
        )
    } | {"labels": labels, "group": rng.integers(0, 3, size)}


def _edge(logits, attacked, labels, group, dense=None):
    dense = logits if dense is None else dense
    return {
        "logits": xp.array(logits),
        "attacked_logits": xp.array(attacked),
        "dense_logits": xp.array(dense),
        "dense_attacked_logits": xp.array(dense),
        "labels": xp.array(labels),
        "group": xp.array(group),
    }


EDGES = {
    "one sample": lambda: _edge([[2.0, 0.0]], [[0.0, 1.0]], [0], [7]),
    "all wrong before": lambda: _edge(
        [[1.0, 0.0], [0.0, 3.0]],
        [[1.0, 0.0], [2.0, 0.0]],
        [0, 1],
        [0, 1],
        dense=[[0.0, 1.0], [3.0, 0.0]],
    ),
    "right by the attack alone": lambda: _edge(
        [[0.0, 1.0, 0.0], [2.0, 0.0, 0.5]],
        [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]],
        [0, 0],
        [3, 3],
    ),
    "certain": lambda: _edge(
        [[80.0, 0.0], [0.0, 0.25]], [[9.0, 0.0]] * 2, [0, 0], [0, 1]
    ),
}


def _only(*names):
    def example(rng, size):
        made = _example(rng, size)
        return {n: made[n] for n in names}

    return {
        "example": example,
        "edges": {
            edge: lambda make=make: {n: make()[n] for n in names}
            for edge, make in EDGES.items()
        },
    }


def _guess(row):
    return max(range(len(row)), key=lambda k: row[k])


def _scores(logits, attacked_logits, labels, group, *, threshold=0.5, bins=10):
    z, attacked, y, g = (a.tolist() for a in (logits, attacked_logits, labels, group))
    n, guess = len(z), [_guess(row) for row in z]
    right = [a == b for a, b in zip(guess, y, strict=True)]
    robust = [r and _guess(a) == b for r, a, b in zip(right, attacked, y, strict=True)]
    sure = [1 / math.fsum(math.exp(x - max(row)) for x in row) for row in z]
    bin_of = [min(int(bins * c), bins - 1) for c in sure]
    error = math.fsum(
        abs(
            math.fsum(
                r - c for r, c, b in zip(right, sure, bin_of, strict=True) if b == k
            )
        )
        for k in range(bins)
    )
    members = {k: [i for i in range(n) if g[i] == k] for k in set(g)}
    worst = min(sum(right[i] for i in at) / len(at) for at in members.values())
    rates = [
        [sum(guess[i] == k for i in at) / len(at) for at in members.values()]
        for k in range(len(z[0]))
    ]
    return Report(
        *(
            xp.asarray(x, dtype=float)
            for x in (
                sum(right) / n,
                sum(robust) / n,
                error / n,
                worst,
                max(max(r) - min(r) for r in rates),
                sum(c < threshold for c in sure) / n,
            )
        )
    )


def _changes(
    logits,
    attacked_logits,
    dense_logits,
    dense_attacked_logits,
    labels,
    group,
    *,
    threshold=0.5,
    bins=10,
):
    hyper = {"threshold": threshold, "bins": bins}
    now = _scores(logits, attacked_logits, labels, group, **hyper)
    then = _scores(dense_logits, dense_attacked_logits, labels, group, **hyper)
    return Report(*((a - b) / (b or 1.0) for a, b in zip(now, then, strict=True)))


def _attacked_alone(logits, attacked_logits, labels, group, *, threshold=0.5, bins=10):
    report = trust_report(
        logits, attacked_logits, labels, group, threshold=threshold, bins=bins
    )
    robust = (attacked_logits.argmax(1) == labels).astype(logits.dtype).mean()
    return report._replace(robust_accuracy=xp.asarray(robust))


SETTINGS = {"default": {}, "probe": {"threshold": 0.6, "bins": 5}}

NO_SUCH_CLASS = {
    "a label that is no class": {"labels": 99},
}


METHOD = Method(
    key="hong2024decoding",
    provenance="reconstructed",
    functions=(
        Estimator(
            f=trust_report,
            brute_force=_scores,
            settings=SETTINGS,
            deviations=(
                Deviation(
                    "the attacked answer alone",
                    _attacked_alone,
                    seen_in="RobustBench, benchmark, clean_accuracy on attacked inputs",
                    computes="robust accuracy that counts what an attack has put right",
                ),
            ),
            **_only("logits", "attacked_logits", "labels", "group"),
            refused=NO_SUCH_CLASS,
        ),
        Estimator(
            f=trust_change,
            brute_force=_changes,
            settings=SETTINGS,
            **_only(
                "logits",
                "attacked_logits",
                "dense_logits",
                "dense_attacked_logits",
                "labels",
                "group",
            ),
            refused=NO_SUCH_CLASS,
        ),
    ),
)
